"""Signals: raised at once, remembered after `hold`; and core dumps."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from metricshub_apikey.cli.interrupts import Interrupted, Interrupts
from metricshub_apikey.files.signals import SIGNALS


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    """Return a listener for the signals; the old handlers come back after the test."""
    old = {number: signal.getsignal(number) for number in SIGNALS}
    listening = Interrupts()
    listening.listen()
    yield listening
    for number, handler in old.items():
        signal.signal(number, handler)


def test_which_signals() -> None:
    """Ctrl-C, a request to end, and a closed terminal are what is handled."""
    assert set(SIGNALS) == {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_interrupts(interrupts: Interrupts, number: int, code: int) -> None:
    """A signal stops the program where it is, with the exit code a shell expects."""
    with pytest.raises(Interrupted) as caught:
        signal.raise_signal(number)
    assert caught.value.exit_code == code
    assert interrupts.exit_code == 0
    assert not isinstance(caught.value, Exception), "no `except Exception` may swallow it"


def test_after_hold_the_first_is_remembered(interrupts: Interrupts) -> None:
    """While a change is put in place a signal waits; a second one shows that somebody insists."""
    interrupts.hold()
    signal.raise_signal(signal.SIGTERM)
    assert interrupts.exit_code == 143
    with pytest.raises(Interrupted) as caught:
        signal.raise_signal(signal.SIGINT)
    assert caught.value.exit_code == 130
    assert interrupts.exit_code == 143


def test_what_the_caller_ignores_stays_ignored(interrupts: Interrupts) -> None:
    """Under `nohup` a closed terminal does not end the command."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupts.listen()
    signal.raise_signal(signal.SIGHUP)
    assert interrupts.exit_code == 0
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def core_limits_after(before: tuple[int, int]) -> tuple[int, int]:
    """Return the limits for core dumps that a process which had *before* gives itself."""
    program = (
        "import json, resource, sys\n"
        "from metricshub_apikey.cli.interrupts import forbid_core_dumps\n"
        f"resource.setrlimit(resource.RLIMIT_CORE, {before})\n"
        "forbid_core_dumps()\n"
        "print(json.dumps(resource.getrlimit(resource.RLIMIT_CORE)))\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    soft, hard = json.loads(shown.stdout)
    return soft, hard


@pytest.mark.parametrize(("hard", "expected"), [(resource.RLIM_INFINITY, 1), (4096, 1), (0, 0)])
def test_no_core_dumps(hard: int, expected: int) -> None:
    """A crash leaves no secrets on the disk, and nobody can take that back in the process."""
    _, allowed = resource.getrlimit(resource.RLIMIT_CORE)
    if allowed != resource.RLIM_INFINITY and (hard == resource.RLIM_INFINITY or hard > allowed):
        hard, expected = allowed, min(1, allowed)
    assert core_limits_after((0, hard)) == (expected, expected)
