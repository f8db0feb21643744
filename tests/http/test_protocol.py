"""What clients may send: whatever it is, it is answered or refused, and the gateway goes on."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metricshub_apikey import ApiKeys
from metricshub_apikey.errors import ServeError
from metricshub_apikey.http import protocol
from metricshub_apikey.keystore.keystore import Keystore
from servers import Gateway, ask, exchange, forwarded, received, serving

FROM_PROXY = b"X-Forwarded-Method: GET\r\nX-Forwarded-Uri: /x\r\n"
START = b"GET /auth HTTP/1.1\r\nHost: gateway\r\n" + FROM_PROXY
KEY = b"Authorization: Bearer <key>\r\n"
GOOD = START + KEY + b"\r\n"
ENVOY = b"GET /envoy/x HTTP/1.1\r\nHost: gateway\r\n" + KEY + b"\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LENGTH = b"Content-Length: 5\r\n"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: "

HASTY = """
from metricshub_apikey.http import protocol
protocol.PATIENCE_SECONDS = 0.5
from metricshub_apikey.__main__ import main
main()
"""
"""The command, with less patience, so that the test is short."""

ODD: dict[str, tuple[bytes, set[int]]] = {
    "scheme in lower case": (START + b"authorization: bearer <key>\r\n\r\n", {200}),
    "bare key": (START + b"AUTHORIZATION: <key>\r\n\r\n", {200}),
    "white space": (START + b"Authorization: \t BEARER \t<key>\t \r\n\r\n", {200}),
    "two keys": (START + KEY + KEY + b"\r\n", {401}),
    "two different keys": (START + KEY + b"Authorization: Basic eDp5\r\n\r\n", {401}),
    "two keys in one": (START + b"Authorization: Bearer <key>, Bearer <key>\r\n\r\n", {401}),
    "key in the query": (START.replace(b"/auth", b"/auth?token=<key>") + b"\r\n", {401}),
    "key in a trailer": (START + CHUNKED + b"\r\n0\r\n" + KEY + b"\r\n", {401}),
    "folded header": (START + b"Authorization: Bearer\r\n <key>\r\n\r\n", {400}),
    "space before the colon": (START + b"Authorization : <key>\r\n\r\n", {400}),
    "no colon": (START + b"Authorization\r\n" + KEY + b"\r\n", {400}),
    "lines that end with LF": (GOOD.replace(b"\r\n", b"\n"), {400}),
    "lines that end with CR": (GOOD.replace(b"\r\n", b"\r"), {400}),
    "NUL after the key": (START + b"Authorization: <key>\0\r\n\r\n", {400}),
    "no ASCII in the key": (START + b"Authorization: Bearer \xff\xc3\xa4\r\n\r\n", {401}),
    "long key": (START + b"Authorization: " + b"a" * 60_000 + b"\r\n\r\n", {401}),
    "key of 1 MB": (START + b"Authorization: " + b"a" * (1 << 20) + b"\r\n\r\n", {431}),
    "long path": (ENVOY.replace(b"/x", b"/" + b"a" * 60_000), {200}),
    "path of 1 MB": (ENVOY.replace(b"/x", b"/" + b"a" * (1 << 20)), {431}),
    "long method": (START.replace(b": GET", b": " + b"A" * 40_000) + b"\r\n", {401}),
    "1,000 headers": (START + b"X: y\r\n" * 1_000 + KEY + b"\r\n", {200}),
    "200,000 headers": (START + b"X: y\r\n" * 200_000 + KEY + b"\r\n", {431}),
    "no host": (GOOD.replace(b"Host: gateway\r\n", b""), {200}),
    "two lengths": (START + KEY + LENGTH + b"Content-Length: 6\r\n\r\nhello", {400}),
    "negative length": (START + KEY + b"Content-Length: -5\r\n\r\nhello", {400}),
    "signed length": (START + KEY + b"Content-Length: +5\r\n\r\nhello", {400}),
    "length without end": (START + KEY + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", {400}),
    "body": (START + KEY + LENGTH + b"\r\nhello", {200}),
    "half a body": (START + KEY + LENGTH + b"\r\nhe", {200}),
    "body in chunks": (START + KEY + CHUNKED + b"\r\n" + HELLO, {200}),
    "length, and chunks": (START + KEY + LENGTH + CHUNKED + b"\r\n" + HELLO, {400}),
    "chunks, and a length": (START + KEY + CHUNKED + LENGTH + b"\r\n" + HELLO, {400}),
    "chunks, then identity": (START + KEY + CHUNKED.replace(b"\r", b", identity\r") + HELLO, {400}),
    "chunks, mistyped": (START + KEY + CHUNKED.replace(b"chu", b"xchu") + b"\r\n" + HELLO, {400}),
    "chunks twice": (START + KEY + CHUNKED + b"Transfer-Encoding: identity\r\n\r\n" + HELLO, {400}),
    "no size of a chunk": (START + KEY + CHUNKED + b"\r\nZZ\r\nhello\r\n0\r\n\r\n", {400}),
    "a chunk too large": (START + KEY + CHUNKED + b"\r\n" + b"F" * 20 + b"\r\n", {400}),
    "expectation": (START + KEY + b"Expect: 100-continue\r\n" + LENGTH + b"\r\n", {200}),
    "WebSocket": (START + KEY + UPGRADE + b"websocket\r\n\r\n", {200}),
    "HTTP/2, by upgrade": (START + KEY + UPGRADE + b"h2c\r\nHTTP2-Settings: AA\r\n\r\n", {200}),
    "HTTP/2, by its preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
    "HTTP/3.0": (GOOD.replace(b"HTTP/1.1", b"HTTP/3.0"), {400}),
    "HTTP/1.0": (GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"), {200}),
    "HTTP/0.9": (b"GET /auth\r\n", set()),
    "TLS": (bytes.fromhex("16030100a1010000 9d0303") + b"x" * 150, {400}),
    "the whole server": (b"OPTIONS * HTTP/1.1\r\nHost: gateway\r\n\r\n", {404}),
    "tunnel": (b"CONNECT host:443 HTTP/1.1\r\nHost: host:443\r\n\r\n", {400}),
    "tunnel to us": (START.replace(b"GET", b"CONNECT", 1) + b"\r\n", {401}),
    "absolute": (GOOD.replace(b"/auth", b"http://gateway/auth", 1), {200}),
    "absolute, without a path": (GOOD.replace(b"/auth", b"http://gateway", 1), {400}),
    "method in lower case": (GOOD.replace(b"GET", b"get", 1), {400}),
    "unknown method": (GOOD.replace(b"GET", b"FOO", 1), {400}),
    "no ASCII in the path": (ENVOY.replace(b"/x", b"/\xff"), {400}),
    "NUL in the path": (ENVOY.replace(b"/x", b"/\0"), {400}),
    "nothing": (b"", set()),
    "empty lines": (b"\r\n" * 1_000, set()),
    "NUL": (b"\0" * 1_000, {400}),
    "half a request": (GOOD[:60], set()),
    "100 requests at once": (GOOD * 100, {200}),
    "2,000 requests at once": (GOOD * 2_000, {200, 400}),
    "rubbish after requests": (GOOD * 3 + b"rubbish\r\n\r\n", {200, 400}),
}
"""What is sent, and the status codes that may come back; `<key>` is a good one."""


class Asked(NamedTuple):
    """A gateway, and a key that it accepts."""

    gateway: Gateway
    key: str

    def exchange(self, sent: bytes) -> bytes:
        """Send bytes, with the key in the place of `<key>`; return the answer."""
        return exchange(self.gateway.port, sent.replace(b"<key>", self.key.encode()))

    def check(self) -> None:
        """Check that it has come to no harm, and told nothing."""
        assert ask(self.gateway.port, headers=forwarded(self.key)).status == 200
        assert "Traceback" not in self.gateway.server.text
        assert self.key not in self.gateway.server.text


def make_key(keystore: Path) -> str:
    """Return a new key in *keystore*."""
    key = ApiKeys(Keystore(keystore)).create("client").secret.reveal()
    assert key is not None
    return key


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """Return the one gateway that all of these tests ask."""
    keystore = tmp_path_factory.mktemp("security") / "keystore.p12"
    key = make_key(keystore)
    with serving(keystore, "--no-limits", environment=dict(os.environ)) as gateway:
        yield Asked(gateway, key)
    assert gateway.server.process.returncode == 0


def statuses(answer: bytes) -> list[int]:
    """Return the status codes in what came back."""
    return [int(code) for code in re.findall(rb"^HTTP/1\.1 (\d+)", answer, re.MULTILINE)]


@pytest.mark.parametrize("name", ODD)
def test_an_odd_request_is_answered_or_refused(asked: Asked, name: str) -> None:
    """None of them is answered by anything else, and the next client does not notice."""
    sent, allowed = ODD[name]

    answer = asked.exchange(sent)

    assert set(statuses(answer)) <= allowed
    assert bool(answer) == bool(allowed)
    asked.check()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.sampled_from([GOOD, START, KEY, CHUNKED, LENGTH, HELLO, b"\r\n", b"\0", b"GET "]),
        ),
        max_size=8,
    )
)
def test_any_bytes_are_answered_or_refused(asked: Asked, pieces: list[bytes]) -> None:
    """Whatever comes in whatever order, nothing breaks."""
    assert set(statuses(asked.exchange(b"".join(pieces)))) <= {200, 400, 401, 404}
    asked.check()


def test_each_of_many_requests_in_a_row_is_answered(asked: Asked) -> None:
    """A client need not wait for an answer before it asks again."""
    assert statuses(asked.exchange(GOOD * 100)) == [200] * 100


def test_a_method_in_the_log_is_short(asked: Asked) -> None:
    """A request cannot fill the log with one line."""
    asked.exchange(START.replace(b": GET", b": " + b"LONG" * 10_000) + b"\r\n")
    line = asked.gateway.server.wait_for_line("LONGLONG")

    assert len(line.string) < 1_000


def test_a_body_is_neither_read_nor_kept(asked: Asked) -> None:
    """The answer does not wait for a body, and a large one ends the connection."""
    with socket.create_connection(("127.0.0.1", asked.gateway.port), 10) as client:
        head = START + KEY + b"Content-Length: 1000000000000\r\n\r\n"
        client.sendall(head.replace(b"<key>", asked.key.encode()))
        assert statuses(client.recv(1_000)) == [200]
        sent = 0
        with pytest.raises(ConnectionError):  # noqa: PT012 - one of many calls raises
            while sent < 100_000_000:
                sent += client.send(b"x" * 65_536)
    assert sent < 20_000_000
    asked.check()


def test_an_unsent_body_ends_the_connection(asked: Asked) -> None:
    """A client that waits to be asked for its body is answered at once, and for the last time."""
    head = START + KEY + b"Expect: 100-continue\r\n" + LENGTH + b"\r\n"

    answer = asked.exchange(head)

    assert b"100 Continue" not in answer
    assert b"connection: close" in answer


def test_the_installed_uvicorn_is_known() -> None:
    """The bounds hold with the version that is installed, be it the oldest or the newest."""
    protocol.check_uvicorn()


@pytest.mark.parametrize("names", ["CONNECTION", "CYCLE"])
def test_a_uvicorn_without_what_the_bounds_need(
    names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway does not start on it, and says which version to install."""
    monkeypatch.setattr(protocol, names, (*getattr(protocol, names), "renamed_later"))
    with pytest.raises(ServeError, match=r"has changed \(renamed_later\)") as raised:
        protocol.check_uvicorn()
    assert "pip install 'uvicorn>=" in (raised.value.hint or "")


def test_slow_clients_are_sent_away_while_others_are_served(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Silence, single bytes, half a body, answers not taken: all of it only for a while."""
    keystore = tmp_path / "keystore.p12"
    key = make_key(keystore)
    good = GOOD.replace(b"<key>", key.encode())
    command = [sys.executable, "-c", HASTY]
    with serving(keystore, "--no-limits", environment=environment, command=command) as gateway:
        began = time.monotonic()
        clients = [socket.create_connection(("127.0.0.1", gateway.port), 10) for _ in range(6)]
        silent, dripping, blank, half, after, greedy = clients
        half.sendall(good[:-2] + LENGTH + b"\r\nhe")
        after.sendall(good + good[:20])
        greedy.settimeout(0)
        for byte in START[:20]:
            with contextlib.suppress(ConnectionError):
                dripping.sendall(bytes([byte]))
                blank.sendall(b"\r\n")
            with contextlib.suppress(BlockingIOError, ConnectionError):
                while greedy.send(good * 900):
                    pass
            assert ask(gateway.port, headers=forwarded(key)).status == 200
            time.sleep(0.1)
        assert [received(client) for client in (silent, dripping, blank)] == [b"", b"", b""]
        assert [statuses(received(client)) for client in (half, after)] == [[200], [200]]
        greedy.settimeout(10)
        received(greedy)
        assert time.monotonic() - began < 8
        for client in clients:
            client.close()
        assert "Traceback" not in gateway.server.text
