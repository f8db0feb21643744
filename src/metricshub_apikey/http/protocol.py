"""HTTP/1.1 as uvicorn speaks it, with bounds on what a client may send, and how slowly."""

from __future__ import annotations

import asyncio

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from metricshub_apikey.errors import ServeError

LARGEST_HEAD = 65_536
"""Of what comes after the first piece that was read, which is no larger than 256 KiB."""

LARGEST_BODY = 1 << 20
"""The gateway does not read bodies; for a larger one it does not even wait."""

OLDEST, NEWEST = "0.34", "0.54"
"""The versions of uvicorn with which the tests have passed."""

MOST_PIPELINED = 1_000
PATIENCE_SECONDS = 15.0
LINGER_SECONDS = 0.5

CLOSE = [(b"connection", b"close")]
TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)

CONNECTION = ("cycle", "expect_100_continue", "flow", "headers", "pipeline", "scheme", "transport")
CYCLE = ("default_headers", "keep_alive", "response_complete")
"""What the bounds need of uvicorn's connection and of its request cycle."""


def check_uvicorn() -> None:
    """
    Refuse a uvicorn on which the bounds would not hold, before anything listens.

    Raises:
        ServeError: Its protocol lacks something that `BoundedProtocol` builds on.
    """
    for kind, needed in ((HttpToolsProtocol, CONNECTION), (RequestResponseCycle, CYCLE)):
        code = getattr(kind.__init__, "__code__", None)
        missing = set(needed).difference(code.co_names if code else ())
        if missing:
            raise ServeError(
                f"uvicorn {uvicorn.__version__} has changed ({', '.join(sorted(missing))}): "
                "the gateway cannot bound what clients send.",
                hint=f"Install a version that fits: pip install 'uvicorn>={OLDEST},<={NEWEST}'",
            )


class BoundedProtocol(HttpToolsProtocol):
    """
    Closes a connection whose requests are too large, or whose client is too slow.

    httptools takes headers of any length, and uvicorn waits without end: for the rest of a request,
    for a client that does not take its answers. Here a client that owes something has to deliver it
    within PATIENCE_SECONDS; `expire` is called every now and then, which costs a request less than
    a timer of its own.
    """

    largest_body: float = LARGEST_BODY

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._owing: float | None = self.loop.time()
        self._size = 0
        self._ending = False

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        self._size += len(data)
        super().data_received(data)
        if self._size > LARGEST_HEAD and self._owing is not None:
            self._refuse_large()
        cycle = self.cycle
        if cycle is None:
            return
        if self._ending or self.expect_100_continue:
            self._answer_last()
        if self._owing is None and cycle.response_complete:
            self._owing = self.loop.time()  # uvicorn no longer waits for the next request

    def _refuse_large(self) -> None:
        """Close the connection if the request that is not yet complete is too large."""
        in_body = self.scope is not None and "method" in self.scope
        if self.transport.is_closing() or (in_body and self._size <= self.largest_body):
            return
        if not in_body and self._is_idle:
            self.transport.write(TOO_LARGE)
        self.flow.pause_reading()
        self.shutdown()

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of a request."""
        if len(self.pipeline) >= MOST_PIPELINED:
            raise ValueError("too many requests at once")  # uvicorn closes the connection
        self._owing = self.loop.time()
        self._size = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Close the connection after the answer to HTTP/1.0, as that has it, and say so."""
        super().on_headers_complete()
        if not self.cycle.keep_alive:
            self._answer_last()

    def on_chunk_header(self) -> None:
        """Let trailers, which follow the last chunk, be no headers."""
        self.headers = []

    def on_message_complete(self) -> None:
        """Wait no longer."""
        self._owing = None
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Begin to wait for the client to take its answers."""
        self._owing = self.loop.time()
        super().pause_writing()

    def expire(self, now: float) -> None:
        """Close the connection if its client has owed something for too long."""
        if self._owing is not None and now - self._owing > PATIENCE_SECONDS:
            self.transport.abort()

    def shutdown(self) -> None:
        """Answer what was asked, and what is on its way just now; then close the connection."""
        self._ending = True
        if self._is_idle:
            self.loop.call_later(LINGER_SECONDS, self._close_if_idle)
        else:
            self._answer_last()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer also a client that sends nothing more; TLS does not know such a state."""
        if self._is_idle or self.scheme == "https":
            return False
        self._answer_last()
        return True

    @property
    def _is_idle(self) -> bool:
        """Whether everything that was asked has been answered."""
        return self.cycle is None or self.cycle.response_complete

    def _answer_last(self) -> None:
        """Close the connection after the answer to the last request, and say so in it."""
        self.cycle.keep_alive = False
        self.cycle.default_headers = CLOSE

    def _close_if_idle(self) -> None:
        if self._is_idle:
            self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: an upgrade that is not wanted is ignored, as HTTP has it."""


class StreamingProtocol(BoundedProtocol):
    """
    The same for bodies that are passed on: without a bound on size, with patience for progress.

    A client owes nothing while it delivers, takes, or has to wait for the service.
    """

    largest_body = float("inf")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._unsent = 0

    def data_received(self, data: bytes) -> None:
        """Take what has come: the client delivers."""
        if self._owing is not None and self.scope is not None and "method" in self.scope:
            self._owing = self.loop.time()
        super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override]
        """End the connection of a client that has gone, and with it what it was waiting for."""
        return False

    def resume_writing(self) -> None:
        """Note that the client has taken what there was."""
        self._owing = None
        super().resume_writing()

    def expire(self, now: float) -> None:
        """Close the connection if its client has neither delivered nor taken for too long."""
        unsent = self.transport.get_write_buffer_size()
        if self.flow.read_paused or unsent < self._unsent:
            self._owing = now if self._owing is not None else None
        self._unsent = unsent
        super().expire(now)
