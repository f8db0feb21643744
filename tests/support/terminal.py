"""The command on a terminal of its own: what it shows there, and answers typed to it."""

from __future__ import annotations

import os
import re
import select
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from conftest import COMMAND

if sys.platform != "win32":
    import fcntl
    import pty
    import termios

TIMEOUT = 30
PAUSE = 0.1
"""From a question to its reading: Python notices a Ctrl-C in between with the next key only."""

CTRL_C, CTRL_D = "\x03", "\x04"
WITH_TERMINAL = 'tty=$1; shift; exec "$@" <"$tty"'
"""The first terminal that a session opens is the one whose Ctrl-C it gets."""


def on_terminal(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    columns: int = 80,
    stdout: int | None = None,
) -> tuple[int, str]:
    """Run the command on a terminal and return its exit code and what the terminal showed."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    with subprocess.Popen(
        [*COMMAND, *arguments],
        env={"TERM": "xterm", **environment},
        stdin=slave,
        stdout=slave if stdout is None else stdout,
        stderr=slave,
    ) as process:
        os.close(slave)
        shown = b""
        while piece := _read(master):
            shown += piece
    os.close(master)
    return process.returncode, shown.decode().replace("\r\n", "\n")


def _read(master: int) -> bytes:
    try:
        return os.read(master, 4096)
    except OSError:  # Linux's way to say that the last writer has gone
        return b""


class Terminal:
    """
    The command with its questions on a terminal, and its results in a pipe.

    Attributes:
        shown: What the terminal has shown so far, without colours.
    """

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], *, errors: bool = True
    ) -> None:
        """
        Start it.

        Args:
            arguments: What is typed behind `apikey`.
            environment: Of the command.
            errors: Whether standard error is the terminal, too.
        """
        self.shown = ""
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            ["sh", "-c", WITH_TERMINAL, "sh", os.ttyname(slave), *COMMAND, *arguments],
            env={"TERM": "xterm", **environment},
            stdin=slave,
            stdout=subprocess.PIPE,
            stderr=slave if errors else subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        os.close(slave)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the command, if it has not ended."""
        self._process.kill()
        self._process.communicate()
        os.close(self._master)

    def wait_for(self, text: str) -> None:
        """Wait until the terminal shows *text* at its end."""
        end = time.monotonic() + TIMEOUT
        while not self.shown.endswith(text):
            ready = select.select([self._master], [], [], max(0, end - time.monotonic()))[0]
            assert ready, f"{text!r} is not asked: {self.shown!r}"
            assert self._take(), f"{text!r} was not asked: {self.shown!r}"
        time.sleep(PAUSE)

    def type(self, keys: str) -> None:
        """Type *keys*."""
        os.write(self._master, keys.encode())

    def echoes(self) -> bool:
        """Return whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    def end(self) -> tuple[int, str]:
        """Wait for the end of the command and return its exit code and standard output."""
        output, _ = self._process.communicate(timeout=TIMEOUT)
        while self._take():
            pass
        return self._process.returncode, output

    def _take(self) -> bool:
        piece = _read(self._master)
        plain = re.sub(r"\x1b\[[0-9;]*m", "", piece.decode())
        self.shown += plain.replace("\r\n", "\n")
        return bool(piece)
