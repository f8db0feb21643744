"""Streams of events: each passes whole, without the tools that the client may not call."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metricshub_apikey.gateway import events
from metricshub_apikey.gateway.events import Events, event

TOOLS = {"tools": [{"name": "ListHosts"}, {"name": "Execute"}]}
LISTED = json.dumps({"jsonrpc": "2.0", "id": 1, "result": TOOLS})
ENDS = st.sampled_from(["\n", "\r\n", "\r"])
LINES = st.sampled_from(
    ["event: message", "id: 7", "data: {}", ": ping", "data:", f"data: {LISTED}", "retry: 3"]
)
STREAMS = st.lists(st.tuples(st.lists(LINES, min_size=1, max_size=3), ENDS), max_size=5)


def may_call(tool: str) -> bool:
    """Return whether the client of these tests may call a tool."""
    return tool == "ListHosts"


def as_client(stream: bytes) -> list[tuple[str, str]]:
    """Return the events, kind and data, as a client that follows the standard reads them."""
    found: list[tuple[str, str]] = []
    kind, data = "message", list[str]()
    for line in stream.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]:
        name, _, value = line.partition(":")
        if not line:
            if data:
                found.append((kind, "\n".join(data)))
            kind, data = "message", []
        elif name == "data":
            data.append(value.removeprefix(" "))
        elif name == "event":
            kind = value.removeprefix(" ")
    return found


@given(STREAMS, st.integers(1, 9))
def test_any_stream(stream: list[tuple[list[str], str]], size: int) -> None:
    """However the bytes come, events arrive in order, without the tools that are not allowed."""
    data = b"".join((end.join(lines) + 2 * end).encode() for lines, end in stream)
    through = Events(may_call, learn=lambda _: None)
    sent = b"".join(through.feed(data[at : at + size]) for at in range(0, len(data), size))
    readable = [one for one in as_client(data) if "tools" not in one[1] or one[1].strip() == LISTED]
    assert b"Execute" not in sent
    assert len(as_client(sent)) == len(readable)
    for before, after in zip(readable, as_client(sent), strict=True):
        assert before[0] == after[0]
        if before[1].strip() != LISTED:
            assert before == after


def test_streams_of_clients_that_may_call_everything() -> None:
    """Nothing is changed where nothing is hidden, and the endpoint is learned all the same."""
    learned: list[str] = []
    through = Events(None, learn=learned.append)
    data = f"event: endpoint\ndata: /mcp/message?id=1\n\ndata: {LISTED}\n\n".encode()
    assert through.feed(data) == data
    assert learned == ["/mcp/message?id=1"]


def test_what_cannot_be_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken list of tools, and an event without an end, do not reach the client."""
    monkeypatch.setattr(events, "LARGEST_EVENT", 100)
    through = Events(may_call, learn=lambda _: None)
    assert through.feed(b'data: {"result": {"tools": [}\n\n') == b""
    assert through.feed(b"data: " + b"x" * 200) == b""
    assert through.feed(b"x\n\ndata: 1\n\n") == b"data: 1\n\n"


def test_our_own_events() -> None:
    """What we write on a stream is one message."""
    assert as_client(event(b'{"id": 1}')) == [("message", '{"id": 1}')]
