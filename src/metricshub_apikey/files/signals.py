"""The signals that ask a process to end, and letting them wait for a few system calls."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
]
"""SIGBREAK is Ctrl-Break on Windows, and a console that is closed, a logoff, a shutdown."""


@contextmanager
def postponed() -> Iterator[None]:
    """Let signals wait until the block, a few system calls, is done; then they are handled."""
    if sys.platform == "win32":
        with remembered():
            yield
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


@contextmanager
def remembered() -> Iterator[None]:
    """Do as `postponed` by Python's handlers alone, as Windows has no signals to block."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread.
        return
    heard: list[int] = []
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    handlers = {n: one for n, one in handlers.items() if one not in (None, signal.SIG_IGN)}
    for number in handlers:
        signal.signal(number, lambda number, _frame: heard.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in heard:
            signal.raise_signal(number)
