"""
An answer in one piece: head and body are put together and written once.

uvicorn writes them one after the other, and looks at each byte of each header before. Our headers
are built from what has been percent-encoded, and no answer of ours is longer than a few lines.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class Reply:
    """The `send` of one request."""

    __slots__ = ("_cycle", "_send", "_start")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        """Answer the request of *cycle*."""
        self._cycle = cycle
        self._send = cycle.send
        self._start: Any = None

    async def __call__(self, message: Any) -> None:  # noqa: ANN401 - an ASGI message
        """Take the head, and write it with the body; what is not so simple is left to uvicorn."""
        start = self._start
        if start is None and message["type"] == "http.response.start":
            self._start = message
            return
        cycle = self._cycle
        if (
            start is None
            or message.get("more_body")
            or cycle.response_started
            or cycle.disconnected
            or cycle.flow.write_paused
        ):
            self._start = None
            if start is not None:
                await self._send(start)
            await self._send(message)
            return
        parts = [STATUS_LINES[start["status"]]]
        headers = start["headers"]
        if cycle.default_headers:
            headers = cycle.default_headers + headers
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        parts.append(b"\r\n")
        if cycle.scope["method"] != "HEAD":
            parts.append(message["body"])
        cycle.transport.write(b"".join(parts))
        cycle.waiting_for_100_continue = False
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        del cycle.send  # which refers to us
