"""MCP between a client and an ASGI application: bodies that are read, answers that are filtered."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urljoin

from metricshub_apikey.http.asgi import Header, Receive, Send
from metricshub_apikey.http.asgi import Message as ASGIMessage

from .events import LARGEST_EVENT, Events, event
from .mcp import LARGEST_BODY, Message, error, filtered

MOST_REPORTED = 100

START = "http.response.start"
BODY = "http.response.body"
STALE = (b"content-length", b"etag")
"""What a service says of an answer, and is not true of a part of it."""

UNREADABLE = "The gateway cannot read the list of tools that the service has sent."


async def read_body(receive: Receive) -> bytes | None:
    """
    Return the body of a request; of one that is too large, more than `LARGEST_BODY` bytes of it.

    Returns:
        None where the client has gone.
    """
    parts = []
    size = 0
    while size <= LARGEST_BODY:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if not message.get("more_body"):
            break
    return b"".join(parts)


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that begins with a body that was read already."""
    waiting: list[ASGIMessage] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> ASGIMessage:
        return waiting.pop() if waiting else await receive()

    return next_message


class Open(NamedTuple):
    """A stream whose client posts its messages elsewhere: who opened it, and how to write to it."""

    alias: str
    send: Send


class Streams:
    """The streams that are open in this process, by the address that each gave to its client."""

    def __init__(self, is_mcp: Callable[[str], bool], report: Callable[[str], None]) -> None:
        """
        Know no stream yet.

        Args:
            is_mcp: Says whether a path belongs to MCP.
            report: Takes what the log should say, a sentence.
        """
        self._is_mcp = is_mcp
        self._report = report
        self._reported: set[str] = set()
        self._open: dict[str, Open] = {}

    def add(self, target: str, stream: Open) -> None:
        """Remember a stream whose client posts to *target*."""
        path = target.partition("?")[0]
        if not self._is_mcp(path) and path not in self._reported:
            if len(self._reported) < MOST_REPORTED:
                self._reported.add(path)
            self._report(
                f"An MCP stream sends its clients to {path}, which is not among [mcp] paths of the "
                "policy: what they post there is not looked into."
            )
        self._open[target] = stream

    def remove(self, target: str | None) -> None:
        """Forget a stream that has ended."""
        if target is not None:
            self._open.pop(target, None)

    async def say(self, target: str, alias: str, message: bytes) -> bool:
        """Write a message on the stream of *target* if a key of that alias opened it."""
        stream = self._open.get(target)
        if stream is None or stream.alias != alias:
            return False
        await stream.send({"type": BODY, "body": event(message), "more_body": True})
        return True


class Exchange(NamedTuple):
    """
    One request of MCP that passes.

    Attributes:
        target: Its path and query.
        alias: Of its key.
        message: What it says.
        may_call: Which tools its key may call; None where it is all of them.
    """

    target: str
    alias: str
    message: Message
    may_call: Callable[[str], bool] | None


class Relay:
    """The `send` of one request of MCP: takes the tools out that the client may not call."""

    def __init__(self, send: Send, exchange: Exchange, streams: Streams) -> None:
        """Pass on to *send* what belongs to *exchange*."""
        self._send = send
        self._exchange = exchange
        self._streams = streams
        self._endpoint: str | None = None
        self._events: Events | None = None
        self._held: ASGIMessage | None = None
        self._parts = bytearray()
        self._dropping = False

    async def __call__(self, message: ASGIMessage) -> None:
        """Take a message of the application."""
        if self._dropping:
            return
        if message["type"] == START:
            await self._start(message)
        elif message["type"] != BODY:
            await self._send(message)
        elif self._events is not None:
            await self._stream(message, self._events)
        elif self._held is not None:
            await self._collect(message, self._held)
        else:
            await self._send(message)

    def close(self) -> None:
        """Forget the stream: its client has gone, or the application has ended it."""
        self._streams.remove(self._endpoint)

    async def _start(self, message: ASGIMessage) -> None:
        headers = [*message.get("headers", ())]
        said = {name.lower(): value.lower() for name, value in headers}
        kind = said.get(b"content-type", b"")
        is_encoded = said.get(b"content-encoding", b"identity") != b"identity"
        is_stream = b"text/event-stream" in kind
        needs_filter = self._exchange.may_call is not None and (
            is_stream or (self._exchange.message.lists_tools and b"json" in kind)
        )
        if is_encoded and needs_filter:
            await self._give_up()
        elif is_stream and not is_encoded:
            self._events = Events(self._exchange.may_call, learn=self._learn)
            await self._send({**message, "headers": _still_true(headers)})
        elif needs_filter:
            self._held = {**message, "headers": headers}
        else:
            await self._send(message)

    def _learn(self, endpoint: str) -> None:
        """Remember where the client of this stream shall post its messages."""
        self.close()
        base = urljoin("http://service/", self._exchange.target)
        self._endpoint = urljoin(base, endpoint).removeprefix("http://service")
        self._streams.add(self._endpoint, Open(self._exchange.alias, self._send))

    async def _stream(self, message: ASGIMessage, events: Events) -> None:
        data = events.feed(message.get("body", b""))
        more = message.get("more_body", False)
        if not more:
            self.close()
        if data or not more:
            await self._send({**message, "body": data})

    async def _collect(self, message: ASGIMessage, held: ASGIMessage) -> None:
        """Hold an answer back until all of it is there."""
        self._parts += message.get("body", b"")
        if len(self._parts) > LARGEST_EVENT:
            await self._give_up()
            return
        if message.get("more_body"):
            return
        may_call = self._exchange.may_call
        body = bytes(self._parts)
        kept = body if may_call is None else filtered(body, may_call)
        if kept is None:
            await self._give_up()
            return
        headers = held["headers"]
        if kept is not body:
            headers = [*_still_true(headers), (b"content-length", b"%d" % len(kept))]
        await self._send({**held, "headers": headers})
        await self._send({"type": BODY, "body": kept})

    async def _give_up(self) -> None:
        """Answer in place of the service, whose answer cannot be read."""
        self._dropping = True
        body = error(self._exchange.message.id, 502, UNREADABLE)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        await self._send({"type": START, "status": 502, "headers": headers})
        await self._send({"type": BODY, "body": body})


def _still_true(headers: list[Header]) -> list[Header]:
    return [pair for pair in headers if pair[0].lower() not in STALE]
