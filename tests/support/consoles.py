"""The console for the tests: asked as ASGI without a network, or as a real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

from conftest import COMMAND
from metricshub_apikey.console.application import Console, Settings
from metricshub_apikey.console.guard import Place
from metricshub_apikey.console.known import Files
from metricshub_apikey.keystore.keystore import STOCK_PASSWORDS, Keystore
from servers import Server, listens, running, wait_until

HOST = "127.0.0.1:8765"
ACTOR = "root@srv"
START = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
Header = tuple[str, str]


class Reply(NamedTuple):
    """What the console answered; the names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - any JSON document
        """The document in it."""
        return json.loads(self.body)


class Bench:
    """A console with a clock of its own, and a client for it."""

    def __init__(
        self,
        keystore: Path,
        *,
        how: Literal["link", "users", "none"] = "link",
        page: bool = True,
        place: Place | None = None,
        lock_timeout: float = 0.2,
    ) -> None:
        """Start the clock; nothing is read yet."""
        self.passed = 0.0
        self.keystore = keystore
        files = Files(str(keystore), STOCK_PASSWORDS, None, lock_timeout)
        settings = Settings(files, place or Place(), how, page, ACTOR)
        self.console = Console(settings, clock=self.now, seconds=lambda: self.passed)
        self.token: str | None = None

    def now(self) -> datetime:
        """Return the current instant of the console."""
        return START + timedelta(seconds=self.passed)

    def sign_in(self) -> str:
        """Swap a ticket for a session, and use it from now on."""
        ticket = self.console.sessions.new_ticket()
        reply = self.ask("POST", "/v1/sessions", {"ticket": ticket})
        assert reply.status == 201, reply
        self.token = str(reply.json["token"])
        return self.token

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Sequence[Header] = (),
        token: str | None = None,
        host: str = HOST,
    ) -> Reply:
        """Make one request, its path sent as it is written."""
        return asyncio.run(self.send(method, path, body, headers=headers, token=token, host=host))

    async def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Sequence[Header] = (),
        token: str | None = None,
        host: str = HOST,
    ) -> Reply:
        """Do as `ask`, within an event loop."""
        raw = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        sent = [(b"host", host.encode())] if host else []
        bearer = token or self.token
        if bearer and not any(name == "authorization" for name, _ in headers):
            sent.append((b"authorization", f"Bearer {bearer}".encode()))
        if raw:
            sent.append((b"content-length", b"%d" % len(raw)))
            if not any(name == "content-type" for name, _ in headers):
                sent.append((b"content-type", b"application/json"))
        sent += [(name.encode(), value.encode("latin-1")) for name, value in headers]
        target, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "raw_path": target.encode(),
            "query_string": query.encode(),
            "headers": sent,
            "client": ("127.0.0.1", 5),
        }
        answers: list[Any] = []

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": raw, "more_body": False}

        async def send(message: object) -> None:
            answers.append(message)

        await self.console(scope, receive, send)
        start, end = answers
        said = {name.decode(): value.decode() for name, value in start["headers"]}
        return Reply(start["status"], said, end["body"])

    def create(self, alias: str, **fields: object) -> Any:  # noqa: ANN401 - any JSON document
        """Make a key, and return its document."""
        reply = self.ask("POST", "/v1/keys", {"alias": alias, **fields})
        assert reply.status == 201, reply
        return reply.json

    def policy(self, text: str) -> None:
        """Write the policy beside the keystore."""
        path = self.keystore.parent / "apikey.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def add_user(keystore: Path, name: str, password: str, rights: str = "rw") -> None:
    """Give MetricsHub a user, as its own tool writes it, or another password."""
    import bcrypt

    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4, b"2a")).decode()
    mark = "__§m8b_user_info§__"
    value = f"{name}{mark}{hashed}{mark}{rights}".encode()

    def change(store: Any) -> None:  # noqa: ANN401 - a Store
        store.remove(store.find(f"user:{name}"))
        store.add(f"user:{name}", value, created_ms=1_700_000_000_000, random_bytes=os.urandom)

    Keystore(keystore).update(change, create=True)


class Running(NamedTuple):
    """`apikey console` at work."""

    server: Server
    origin: str
    port: int

    @property
    def link(self) -> str:
        """The link that it printed."""
        return self.server.wait_for_line(r"^(http\S+/#\S+)")[1]


@contextlib.contextmanager
def serving(
    keystore: Path,
    *options: str,
    environment: Mapping[str, str],
    pattern: str = r"(https?://[^ ]*?:(\d+))/",
) -> Iterator[Running]:
    """Run `apikey console` on a free port until the block ends."""
    command = [*COMMAND, "console", "--keystore", str(keystore), *options]
    with running(command, environment=environment) as server:
        found = server.wait_for_line(pattern)
        port = int(found[2])
        wait_until(lambda: listens(port), "the console listens")
        yield Running(server, found[1], port)
