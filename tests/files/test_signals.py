"""Letting signals wait for a few system calls."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from metricshub_apikey.files.signals import SIGNALS, postponed, remembered

BOTH = pytest.mark.parametrize("wait", [postponed, remembered])


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Begin with the handler that Python has, and put back those that were there."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@BOTH
def test_a_signal_waits_for_the_end(wait: Callable[[], AbstractContextManager[None]]) -> None:
    """A signal in the block is handled when the block is done."""
    done: list[str] = []
    signal.signal(signal.SIGTERM, lambda *_: done.append("signal"))
    with wait():
        signal.raise_signal(signal.SIGTERM)
        done.append("block")
    assert done == ["block", "signal"]


@BOTH
def test_an_ignored_signal_stays_ignored(wait: Callable[[], AbstractContextManager[None]]) -> None:
    """What the caller told us to ignore is not handled later, either."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with wait():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


@BOTH
def test_the_handler_may_raise(wait: Callable[[], AbstractContextManager[None]]) -> None:
    """An interrupt comes out of the block with its work done, and is raised once."""
    done: list[str] = []

    def work() -> None:
        with wait():
            signal.raise_signal(signal.SIGINT)
            done.append("block")

    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell says so
    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["block"]
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_another_thread_waits_for_nothing() -> None:
    """Python handles signals in its main thread; a block in another one has no part in that."""
    done: list[bool] = []

    def work() -> None:
        with remembered():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
