"""The signals that ask a process to end, and letting them wait for a few system calls."""

from __future__ import annotations

import signal
import sys
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
        yield
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
