"""Several processes that serve the same sockets, where one core is not enough."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

assert sys.platform != "win32"  # noqa: S101 - tells mypy, too: it has no fork

PAUSE_SECONDS = 1.0
HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Workers:
    """
    A parent that starts processes, replaces those that end, and passes signals on.

    TERM and INT end all of them; HUP makes all of them read their files anew. A parent that is
    killed cannot tell its processes: each holds the other end of a pipe, which is then at its end.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[int], None],
        *,
        report: Callable[[str], None],
        end: Callable[[], None],
    ) -> None:
        """
        Plan *count* processes.

        Args:
            count: At least 1.
            work: What each of them does. It is given a pipe that is at its end when the parent has
                ended, and returns then, or when it was asked to end.
            report: Takes what the log should say, a sentence; leaves no thread behind.
            end: Called in the parent when it is asked to end.
        """
        self._count = count
        self._work = work
        self._report = report
        self._when_ending = end
        self._started: dict[int, float] = {}
        self._paused_until = 0.0
        self._ending = False
        self._parent, self._alive = os.pipe()
        self._woken, self._wake = os.pipe()

    def run(self) -> None:
        """Keep the processes running until a signal asks to end."""
        self._listen()
        while self._started or not self._ending:
            self._start_missing()
            self._wait()
            self._bury()

    def _listen(self) -> None:
        """Handle signals, and let each of them end `_wait`, even one that comes just before it."""
        for end in (self._woken, self._wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        signal.signal(signal.SIGHUP, self._pass_on)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler it wakes nothing

    def _start_missing(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)  # who asks us now must reach each child
        while self._missing and time.monotonic() >= self._paused_until:
            child = os.fork()
            if not child:
                self._be_child()
            self._started[child] = time.monotonic()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)

    @property
    def _missing(self) -> bool:
        return len(self._started) < self._count and not self._ending

    def _be_child(self) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for end in (self._alive, self._woken, self._wake):
                os.close(end)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it can do it: nothing is read yet
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
            self._work(self._parent)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _wait(self) -> None:
        """Wait for a signal, or until the next process may start."""
        pause = max(0.0, self._paused_until - time.monotonic()) if self._missing else None
        select.select([self._woken], [], [], pause)
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 4096)

    def _bury(self) -> None:
        """Forget the processes that have ended; the next one does not start at once."""
        while self._started:
            child, status = os.waitpid(-1, os.WNOHANG)
            if not child:
                return
            began = self._started.pop(child, 0.0)
            if not self._ending:
                code = os.waitstatus_to_exitcode(status)
                self._report(f"Worker {child} ended ({code}); another starts.")
                self._paused_until = max(self._paused_until, began + PAUSE_SECONDS)

    def _end(self, number: int, frame: FrameType | None) -> None:
        del number
        self._ending = True
        self._when_ending()
        self._pass_on(signal.SIGTERM, frame)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        del frame
        for child in self._started:
            with contextlib.suppress(ProcessLookupError):  # it has ended just now
                os.kill(child, number)
