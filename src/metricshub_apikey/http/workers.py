"""Several processes that serve the same sockets, where one core is not enough."""

from __future__ import annotations

import contextlib
import os
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
    killed can tell nobody: each process holds the other end of a pipe, which is then at its end.
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
        self._ending = False
        self._parent, self._alive = os.pipe()

    def run(self) -> None:
        """Keep the processes running until somebody asks to end."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        signal.signal(signal.SIGHUP, self._pass_on)
        while self._started or not self._ending:
            self._start_missing()
            if self._started:
                self._wait_for_one()

    def _start_missing(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)  # who asks us now must reach each child
        while len(self._started) < self._count and not self._ending:
            child = os.fork()
            if not child:
                self._be_child()
            self._started[child] = time.monotonic()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)

    def _be_child(self) -> NoReturn:
        code = 1
        try:
            os.close(self._alive)
            for number in (signal.SIGTERM, signal.SIGINT):
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

    def _wait_for_one(self) -> None:
        child, status = os.wait()
        began = self._started.pop(child, 0.0)
        if self._ending:
            return
        self._report(f"Worker {child} ended ({os.waitstatus_to_exitcode(status)}); another starts.")
        time.sleep(max(0.0, began + PAUSE_SECONDS - time.monotonic()))

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
