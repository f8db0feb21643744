"""Real servers for the tests: started on loopback, asked over HTTP, stopped by their process id."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from conftest import COMMAND, missing

START_SECONDS = 20.0
STOP_SECONDS = 20.0


def program(name: str) -> str:
    """Return the path of a program; on CI none may be missing."""
    places = [os.path.dirname(sys.executable), os.environ.get("PATH", ""), "/usr/sbin"]
    found = shutil.which(name, path=os.pathsep.join(places))
    return found if found is not None else missing(f"{name} is not installed")


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def wait_until(condition: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
    """Wait until *condition* is true; fail, naming *what* was expected, if it takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def listens(port: int) -> bool:
    """Return whether somebody accepts connections on this port of 127.0.0.1."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Server:
    """A process, and the lines that it writes to standard output and standard error."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it."""
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [*command],
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.lines.append(line.rstrip("\n"))

    @property
    def text(self) -> str:
        """Everything it has written so far."""
        return "\n".join(self.lines)

    def send(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait_for_line(self, pattern: str, seconds: float = START_SECONDS) -> re.Match[str]:
        """Wait until it has written a line in which *pattern* is found, and return the match."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            found.extend(filter(None, (re.search(pattern, line) for line in [*self.lines])))
            return bool(found) or self.process.poll() is not None

        wait_until(look, f"{pattern} in:\n{self.text}", seconds)
        if not found:
            self._reader.join(5)
            look()
        assert found, f"it ended without {pattern}:\n{self.text}"
        return found[0]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end, wait for that, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        self._reader.join(5)
        return code


@contextlib.contextmanager
def running(
    command: Sequence[str], *, port: int | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run a server until the block ends; with *port*, wait until it listens there."""
    server = Server(command, environment)
    try:
        if port is not None:
            wait_until(
                lambda: listens(port) or server.process.poll() is not None,
                f"nobody listens on {port}",
            )
            assert server.process.poll() is None, server.text
        yield server
    finally:
        server.stop()


class Gateway(NamedTuple):
    """A gateway at work: `apikey serve`."""

    server: Server
    port: int

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.server.process.pid


@contextlib.contextmanager
def serving(
    keystore: Path,
    *options: str,
    environment: Mapping[str, str],
    command: Sequence[str] = COMMAND,
) -> Iterator[Gateway]:
    """Run `apikey serve` on a free port until the block ends."""
    where = ["--keystore", str(keystore), "--bind", "127.0.0.1:0"]
    with running([*command, "serve", *where, *options], environment=environment) as server:
        port = int(server.wait_for_line(r"answers at https?://[^ ]*:(\d+)/auth")[1])
        wait_until(lambda: listens(port), "the gateway listens")
        yield Gateway(server, port)


class Response(NamedTuple):
    """What a server answered; the names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: str


def ask(
    port: int,
    path: str = "/auth",
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
) -> Response:
    """Make one request, its path sent as it is written."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Response(answer.status, names, answer.read().decode())


def forwarded(key: str | None, target: str = "/api/hosts", method: str = "GET") -> dict[str, str]:
    """Return the headers with which a proxy asks whether a request with *key* may pass."""
    said = {"X-Forwarded-Method": method, "X-Forwarded-Uri": target}
    return said if key is None else {**said, "Authorization": f"Bearer {key}"}


def exchange(port: int, sent: bytes, *, host: str = "127.0.0.1") -> bytes:
    """Send bytes, then nothing more, and return all that is answered until the connection ends."""
    with socket.create_connection((host, port), 10) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        return received(connection)


def received(connection: socket.socket) -> bytes:
    """Return what comes until the other side closes the connection."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65_536):
            answer += piece
    return answer
