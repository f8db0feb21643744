"""Real Redis servers for the tests, on loopback, which keep nothing on disk."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis as package

from metricshub_apikey.policy.state import Address, parse
from servers import Server, free_port, program, wait_until


class Redis:
    """A server that can be stopped, killed and started again on its port."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        """Name it; the *options* are those of `redis-server`."""
        self.port = free_port() if port is None else port
        self.folder = folder
        self._options = options
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """What `--state` takes."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def address(self) -> Address:
        """The same, parsed."""
        return parse(self.url)

    def client(self, **options: object) -> package.Redis:
        """Return a client of it, to look and to change what is there."""
        return package.Redis(port=self.port, **options)  # type: ignore[arg-type]

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._server = Server(
            [
                program("redis-server"),
                *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
                *("--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"),
                *self._options,
            ]
        )
        self._server.wait_for_line("Ready to accept connections")

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self._server is not None
        self._server.send(number)

    def kill(self) -> None:
        """End it at once; whoever is connected is told by the kernel."""
        if self._server is not None:
            self._server.stop(signal.SIGKILL)
            self._server = None


@contextlib.contextmanager
def serving_redis(folder: Path, *options: str) -> Iterator[Redis]:
    """Run a server until the block ends, even if it was stopped or killed meanwhile."""
    redis = Redis(folder, *options)
    redis.start()
    try:
        yield redis
    finally:
        redis.kill()


def wait_for_answer(client: package.Redis) -> None:
    """Wait until a server answers."""

    def answers() -> bool:
        with contextlib.suppress(package.RedisError):
            return bool(client.ping())
        return False

    wait_until(answers, "the server answers")


def execute(client: package.Redis, *command: str | int) -> Any:  # noqa: ANN401 - as Redis answers
    """Run a command for which the client has no method."""
    return client.execute_command(*command)  # type: ignore[no-untyped-call]
