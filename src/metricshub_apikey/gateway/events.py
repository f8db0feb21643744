r"""
Streams of server-sent events that pass through the gateway: each event whole, or not at all.

    >>> stream = Events(lambda tool: tool != "Delete", learn=print)
    >>> stream.feed(b"event: endpoint\ndata: /mcp/message?id=1\n")
    b''
    >>> stream.feed(b"\n: still here\n\n")
    /mcp/message?id=1
    b'event: endpoint\ndata: /mcp/message?id=1\n\n: still here\n\n'
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .mcp import filtered

LARGEST_EVENT = 16 << 20
"""Bytes; a larger event is dropped."""

END = re.compile(rb"(?>\r\n|\n|\r){2}")
LINE_END = re.compile(rb"\r\n|\n|\r")
OVERLAP = 4


class Events:
    """Lets the events of one stream through, without the tools that the client may not call."""

    def __init__(
        self, may_call: Callable[[str], bool] | None, *, learn: Callable[[str], None]
    ) -> None:
        """
        Begin with the first byte of a stream.

        Args:
            may_call: Says of a tool whether the client may call it; None if it may call all.
            learn: Takes where the client shall send its messages, as the stream says it.
        """
        self._may_call = may_call
        self._learn = learn
        self._waiting = bytearray()
        self._searched = 0
        self._dropping = False

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the service; return what may be sent to the client now."""
        waiting = self._waiting
        waiting += data
        passed = []
        while (end := END.search(waiting, self._searched)) is not None:
            event = bytes(waiting[: end.end()])
            del waiting[: end.end()]
            self._searched = 0
            if not self._dropping:
                passed.append(self._passed(event))
            self._dropping = False
        self._searched = max(0, len(waiting) - OVERLAP)
        if len(waiting) > LARGEST_EVENT:
            del waiting[:-OVERLAP]
            self._searched = 0
            self._dropping = True
        return b"".join(passed)

    def _passed(self, event: bytes) -> bytes:
        """Return an event as the client gets it, or nothing."""
        lines = LINE_END.split(event.removeprefix(b"\xef\xbb\xbf"))
        data = [_value(line) for line in lines if line.partition(b":")[0] == b"data"]
        if not data:
            return event
        text = b"\n".join(data)
        kinds = [_value(line) for line in lines if line.partition(b":")[0] == b"event"]
        if kinds and kinds[-1] == b"endpoint":
            self._learn(text.decode(errors="replace"))
        if self._may_call is None:
            return event
        kept = filtered(text, self._may_call)
        if kept is None or kept is text:
            return b"" if kept is None else event
        others = [line for line in lines if line and line.partition(b":")[0] != b"data"]
        return b"\n".join([*others, b"data: " + kept, b"", b""])


def _value(line: bytes) -> bytes:
    return line.partition(b":")[2].removeprefix(b" ")


def event(data: bytes) -> bytes:
    """Return a message of the protocol, JSON in one line, as an event."""
    return b"event: message\ndata: " + data + b"\n\n"
