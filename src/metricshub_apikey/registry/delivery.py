"""
Handing a new key to a command of the administrator's: to a vault, a cluster, another machine.

The key goes to the command's standard input, never into its arguments, which every user of the
machine can read. What the command prints is shown with the key masked.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO

from metricshub_apikey.errors import FollowUpError, InvalidArgumentError, NotDeliveredError
from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.expiry import Moment, instants, text, utc_text

from .key_folder import file_name

MASK = b"********"
LONGEST_OUTPUT = 64 << 10
"""How much of a command's output is kept, in bytes: its end."""

KILL_SECONDS = 2.0
"""How long a command that is over time may take to end when it is asked to."""

DRAIN_SECONDS = 0.5
"""How long its last words are waited for: a process that it left may keep its output open."""


def variables(key: ApiKey, *, now: Moment, keystore: str) -> dict[str, str]:
    """
    Return what a command is told of the key, by the names of environment variables.

    Raises:
        InvalidArgumentError: An environment cannot hold one of the values.
    """
    ends = key.expires_on
    told = {
        "APIKEY_ALIAS": key.alias,
        "APIKEY_FILE_NAME": file_name(key.alias),
        "APIKEY_ROLES": ",".join(key.metadata.roles),
        "APIKEY_SERVICE_ACCOUNT": key.metadata.service_account or "",
        "APIKEY_DESCRIPTION": key.metadata.description or "",
        "APIKEY_EXPIRES_ON": text(ends) if ends else "",
        "APIKEY_EXPIRES_AT": utc_text(instants(ends, now.zone)[0]) if ends else "",
        "APIKEY_KEYSTORE": keystore,
    }
    for name, value in told.items():
        if "\0" in value or re.search("[\ud800-\udfff]", value):
            raise InvalidArgumentError(
                f"An environment variable cannot hold {name}, '{escape(value)}'."
            )
    return told


def deliver(
    command: str,
    key: ApiKey,
    told: Mapping[str, str],
    *,
    timeout: float,
    echo: Callable[[str], None],
) -> str:
    """
    Run *command* with the key on its standard input.

    Args:
        command: For the shell; on Windows a program and its arguments.
        key: The key to hand over.
        told: More environment variables, see `variables`.
        timeout: Seconds until the command is ended.
        echo: Takes what the command prints, with the key masked.

    Returns:
        The end of what it printed.

    Raises:
        NotDeliveredError: It failed, or took too long.
    """
    secret = key.secret.reveal().encode()
    run = _Run(command, told, secret, echo)
    failure = run.wait(timeout, given=secret + b"\n")
    if failure is not None:
        raise NotDeliveredError(
            f"The new API key of '{key.alias}' was not delivered: the command {failure}.",
            hint=_last_line(run.output) or "It printed nothing. Nothing is left behind.",
        )
    return run.output


def follow_up(
    command: str, told: Mapping[str, str], *, timeout: float, echo: Callable[[str], None]
) -> str:
    """
    Run *command* after a key was put in force, without its secret; see `deliver`.

    Raises:
        FollowUpError: It failed, or took too long.
    """
    run = _Run(command, told, b"", echo)
    failure = run.wait(timeout, given=b"")
    if failure is not None:
        raise FollowUpError(
            f"The key is active and delivered, but the command that follows {failure}.",
            hint=_last_line(run.output),
        )
    return run.output


class _Run:
    """A command that runs in a session of its own, so that it can be ended with its children."""

    def __init__(
        self, command: str, told: Mapping[str, str], secret: bytes, echo: Callable[[str], None]
    ) -> None:
        self._secret = secret
        self._echo = echo
        self._kept = b""
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the administrator's own words
                command,
                shell=sys.platform != "win32",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **told},
                start_new_session=True,
            )
        except OSError as error:
            raise NotDeliveredError(f"The command cannot be run: {error.strerror}.") from error

    @property
    def output(self) -> str:
        """The end of what it has printed, with the key masked."""
        return self._kept.decode(errors="replace")

    def wait(self, timeout: float, *, given: bytes) -> str | None:
        """Give it its input, and wait for its end; return how it failed, None if it did not."""
        process = self._process
        writer = threading.Thread(target=_give, args=(process.stdin, given), daemon=True)
        reader = threading.Thread(target=self._read, daemon=True)
        writer.start()
        reader.start()
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._end()
            return f"was ended after {timeout:g} seconds"
        except BaseException:
            self._end()
            raise
        finally:
            reader.join(DRAIN_SECONDS)
        if code < 0:
            return f"was ended by signal {-code}"
        return f"exited with {code}" if code else None

    def _read(self) -> None:
        """Take what it prints; a key that comes in several pieces is masked, too."""
        stream, held = self._process.stdout, b""
        if stream is None:
            return
        while piece := os.read(stream.fileno(), 1 << 16):
            held += piece
            if self._secret:
                held = held.replace(self._secret, MASK)
            ready = len(held) - _beginning(held, self._secret)
            self._tell(held[:ready])
            held = held[ready:]
        self._tell(held)

    def _tell(self, piece: bytes) -> None:
        self._kept = (self._kept + piece)[-LONGEST_OUTPUT:]
        self._echo(piece.decode(errors="replace"))

    def _end(self) -> None:
        """End it and the processes it has started."""
        if sys.platform == "win32":
            self._process.kill()
            self._process.wait()
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
            give_up = time.monotonic() + KILL_SECONDS
            while self._process.poll() is None and time.monotonic() < give_up:
                time.sleep(0.01)
            if self._process.poll() is not None and number == signal.SIGKILL:
                return


def _give(stream: IO[bytes] | None, given: bytes) -> None:
    """Write a command's input; a command may end, or close it, without reading it."""
    if stream is not None:
        with suppress(OSError):
            stream.write(given)
        with suppress(OSError):
            stream.close()


def _beginning(held: bytes, secret: bytes) -> int:
    """Return how many bytes at the end of *held* could be the beginning of the *secret*."""
    longest = min(len(held), len(secret) - 1)
    return next((size for size in range(longest, 0, -1) if secret.startswith(held[-size:])), 0)


def _last_line(output: str) -> str | None:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return f"It printed: {escape(lines[-1])[:200]}" if lines else None
