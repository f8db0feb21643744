"""`apikey serve --upstream` in front of a service with TLS, as MetricsHub is one."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway_checks
import proxies
from proxies import METRICSHUB, Proxy, Stage
from servers import ask, forwarded, free_port, wait_until

POLICY = proxies.POLICY.replace("= 30", "= 10000")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Return a service, and keys under generous limits."""
    with proxies.staged(tmp_path_factory.mktemp("stage"), policy=POLICY) as stage:
        yield stage


@pytest.fixture(scope="module")
def proxy(stage: Stage) -> Iterator[Proxy]:
    """Return the gateway in front of it."""
    with proxies.front(stage) as proxy:
        yield proxy


def test_who_it_is_and_what_it_may(stage: Stage, proxy: Proxy) -> None:
    """The service hears whose key it was, and gets it; refusals say why, and reach no service."""
    reply = proxy.ask("/api/hosts?all=1", stage.keys["writer"], headers=gateway_checks.SPOOFED)
    assert gateway_checks.target_of(reply.asked) == "/api/hosts?all=1"
    assert gateway_checks.says(reply.asked, "authorization") == [f"Bearer {stage.keys['writer']}"]
    assert {value for _, value in gateway_checks.ours(reply.asked)} == {"writer"}
    gateway_checks.check_refusals(stage, proxy)
    gateway_checks.check_two_keys(stage, proxy)
    gateway_checks.check_own_answers(stage, proxy)
    gateway_checks.check_revocation(stage, proxy)


def test_nothing_leads_out_of_a_role(stage: Stage, proxy: Proxy) -> None:
    """What the service sees is what was decided about, however a path is written."""
    gateway_checks.check_escapes(stage, proxy)
    gateway_checks.check_claims(stage, proxy)
    gateway_checks.check_methods(stage, proxy)


def test_side_doors(stage: Stage, proxy: Proxy) -> None:
    """What a client says of its connection, of itself and after its body changes nothing."""
    gateway_checks.check_connection(stage, proxy)
    gateway_checks.check_bent(stage, proxy)
    gateway_checks.check_own_limits(stage, proxy)
    gateway_checks.check_trailers(stage, proxy)


def test_bodies_and_streams_pass(stage: Stage, proxy: Proxy) -> None:
    """Neither a large body nor an endless answer is held back."""
    gateway_checks.check_bodies(stage, proxy)
    gateway_checks.check_streams(stage, proxy)


def test_answers_without_a_body(stage: Stage, proxy: Proxy) -> None:
    """HEAD keeps the length, 204 and 304 have none, and the connection goes on after each."""
    key = stage.keys["writer"]
    head = proxy.ask("/api/hosts", key, method="HEAD")
    assert (head.status, head.body) == (200, "")
    assert int(head.headers["Content-Length"]) > 0
    for status in (204, 304):
        assert proxy.ask(f"/status/{status}", key).status == status
    numbers = {proxy.ask(key=key).asked["connection"] for _ in range(6)}
    assert len(numbers) == 1, "connections to the service are kept"


def test_upgrades(stage: Stage, proxy: Proxy) -> None:
    """A WebSocket is refused with a sentence; any other Upgrade does not reach the service."""
    upgrade = ["Connection: Upgrade", "Upgrade: websocket"]
    refused = proxy.ask("/ws", stage.keys["writer"], headers=upgrade)
    assert (refused.status, refused.asked["status"]) == (501, 501)
    assert "WebSockets" in refused.asked["detail"]
    headers = ["Connection: Upgrade, HTTP2-Settings, close", "Upgrade: h2c", "HTTP2-Settings: AAMA"]
    reply = proxy.ask("/x", stage.keys["writer"], headers=headers)
    assert reply.status == 200
    assert not re.search("(?i)h2c|http2-settings", reply.body)


def test_a_client_that_goes_away(stage: Stage, proxy: Proxy) -> None:
    """The stream to the service ends with the one to the client."""
    key = stage.keys["writer"]
    with proxy.open_stream("/api/events", key, METRICSHUB) as connection:
        assert connection.recv(100)
        assert established(stage.secure) > 0
        busy = established(stage.secure)
    wait_until(lambda: established(stage.secure) < busy, "the stream is closed")


def established(port: int) -> int:
    """Return how many connections to a port of this machine are open."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return sum(one[2].endswith(f":{port:04X}") and one[3] == "01" for one in fields)


def test_a_slow_upload_is_waited_for(stage: Stage, proxy: Proxy) -> None:
    """Parts are passed on as they come; the client is asked for them only after the decision."""
    head = "POST /api/x HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nExpect: 100-continue\r\n"
    for key, first in ((stage.keys["writer"], b" 100 "), ("unknown", b" 401 ")):
        with proxy.connect() as connection:
            connection.sendall(f"{head}Authorization: Bearer {key}\r\n\r\n".encode())
            answer = connection.recv(65_536)
            assert first in answer.split(b"\r\n")[0]
            if b" 100 " in answer:
                connection.sendall(b"abc")
                connection.sendall(b"def")
                assert b'"body": 6' in received(connection)


def received(connection: socket.socket) -> bytes:
    """Return the rest of what comes on a connection."""
    found = b""
    while part := connection.recv(65_536):
        found += part
    return found


def test_questions_are_answered_elsewhere(stage: Stage) -> None:
    """On the proxy's port every path is the service's; /auth and the like have another port."""
    port, key = free_port(), stage.keys["writer"]
    with proxies.front(stage, ask_port=port) as proxy:
        for path in ("/auth", "/healthz", "/metrics", "/envoy/x"):
            assert gateway_checks.target_of(proxy.ask(path, key).asked) == path
        assert ask(port, "/auth", headers=forwarded(key)).status == 200
        assert ask(port, "/healthz").status == 200
        assert 'result="accepted"} 5' in ask(port, "/metrics").body
        assert proxy.server.stop() == 0
        assert "Traceback" not in proxy.server.text


def test_limits_are_one(stage: Stage, tmp_path: Path) -> None:
    """A key over its limit gets 429 with all headers, on either port."""
    own = dataclasses.replace(stage, keystore=tmp_path / "metricshub-keystore.p12")
    own.keystore.write_bytes(stage.keystore.read_bytes())
    own.keystore.with_name("apikey.toml").write_text(proxies.POLICY)
    with proxies.front(own) as proxy:
        gateway_checks.check_limit(own, proxy)


def problem(reply: proxies.Reply) -> tuple[int, int]:
    """Return the status of an answer, and the one that its problem document names."""
    assert reply.headers["Content-Type"] == "application/problem+json"
    return reply.status, json.loads(reply.body)["status"]


def test_a_service_that_cannot_be_reached(stage: Stage) -> None:
    """It is 502, and the log says so, once."""
    with proxies.front(stage, "--upstream", f"https://127.0.0.1:{free_port()}") as proxy:
        for _ in range(2):
            assert problem(proxy.ask(key=stage.keys["writer"])) == (502, 502)
        proxy.server.wait_for_line("cannot be reached")
        assert proxy.server.text.count("cannot be reached") == 1


def test_a_certificate_of_its_own(stage: Stage, tmp_path: Path) -> None:
    """It is trusted only where it is named or not checked; the log names the options, once."""
    key, service = stage.keys["writer"], f"https://127.0.0.1:{stage.secure}"
    (tmp_path / "other").mkdir()
    other = proxies.certificate(tmp_path / "other").certificate
    for trusted in ((), ("--upstream-ca", str(other))):
        with proxies.front(stage, "--upstream", service, *trusted) as proxy:
            for _ in range(2):
                assert problem(proxy.ask(key=key)) == (502, 502)
            proxy.server.wait_for_line("--upstream-ca, or use --upstream-insecure")
            assert proxy.server.text.count("--upstream-insecure") == 1
    with proxies.front(stage, "--upstream", service, "--upstream-insecure") as proxy:
        assert proxy.ask(key=key).status == 200


def test_a_key_that_is_withheld(stage: Stage) -> None:
    """Without --pass-authorization the service gets no key; its 401 is explained in the log."""
    key = stage.keys["writer"]
    with proxies.front(stage, "--upstream", f"http://127.0.0.1:{stage.plain}") as proxy:
        reply = proxy.ask(key=key)
        assert gateway_checks.says(reply.asked, "authorization") == []
        assert proxy.ask("/status/401", key).status == 401
        proxy.server.wait_for_line("use --pass-authorization")
        assert key not in proxy.server.text
