"""
Ctrl-C, and being asked to end (TERM, HUP): at any moment but the one that cannot be taken back.

A signal raises `Interrupted` where the program is, and everything half done is undone on the way
out. Once a change is being put in place it only is remembered: a key that is in the keystore must
also be handed out.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

from metricshub_apikey.files.signals import SIGNALS


def exit_code(number: int) -> int:
    """Return 128 + n for the signal n; Windows's SIGBREAK asks for the same as SIGTERM."""
    return 128 + (signal.SIGTERM if number == getattr(signal, "SIGBREAK", None) else number)


class Interrupted(BaseException):
    """A user or the system asked the command to end, by the signal *number*."""

    def __init__(self, number: int) -> None:
        super().__init__("The command was interrupted.")
        self.exit_code = exit_code(number)


class Interrupts:
    """The signals that end the command."""

    def __init__(self) -> None:
        self._held = False
        self._remembered = 0
        self._heard: list[int] = []
        self.exit_code = 0

    def listen(self) -> None:
        """Handle the signals from now on, except those the caller told us to ignore (nohup)."""
        for number in SIGNALS:
            if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._receive)
                self._heard.append(number)

    def ignore(self) -> None:
        """Leave the signals to the operating system, which ends the process without a word."""
        for number in self._heard:
            signal.signal(number, signal.SIG_DFL)

    def hold(self) -> None:
        """From now on remember the first signal, in `exit_code`, instead of raising it."""
        self._held = True

    def release(self) -> None:
        """Raise signals again: what was put in place can still be taken back."""
        self._held = False
        if self._remembered:
            self.ignore()
            raise Interrupted(self._remembered)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._held and not self.exit_code:
            self.exit_code, self._remembered = exit_code(number), number
        else:
            self.ignore()  # a second signal is meant
            raise Interrupted(number)


def forbid_core_dumps() -> None:
    """
    Keep secrets out of core dumps.

    A limit of 1 byte is stricter than 0: Linux then starts no handler in `core_pattern` either,
    which it does at 0.
    """
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    limit = 1 if hard == resource.RLIM_INFINITY else min(1, hard)
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
