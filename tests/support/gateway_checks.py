"""What must hold behind every proxy, whichever it is."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fields import fields
from metricshub_apikey.keys.metadata import Metadata
from proxies import METRICSHUB, SERVICE, Proxy, Stage
from servers import Gateway, ask, wait_until

ESCAPES = [
    b"/admin",
    b"/Admin",
    b"//admin",
    b"/./admin",
    b"/public/../admin",
    b"/public/./../admin",
    b"/public/../../admin",
    b"/public//../admin",
    b"/public/%2e%2e/admin",
    b"/public/.%2e/admin",
    b"/public/%2E./admin",
    b"/public/..%2fadmin",
    b"/public/..%2Fadmin",
    b"/public/%2e%2e%2fadmin",
    b"/public%2f..%2fadmin",
    b"/public/..%5cadmin",
    b"/public/..%5Cadmin",
    b"/public/..\\admin",
    b"\\admin",
    b"/public\\..\\..\\admin",
    b"/public/%00/../admin",
    b"/public/..%00/admin",
    b"/admin%00/public/",
    b"/public/\x00/../admin",
    b"/public/%252e%252e/admin",
    b"/public/..%252fadmin",
    b"/public/%25%32%65%25%32%65/admin",
    b"/public;/../admin",
    b"/public/..;/admin",
    b"/public/..;a=b/admin",
    b"/public/;/../admin",
    b"/public/%3b/../admin",
    b"/public/%c0%ae%c0%ae/admin",
    b"/public/..%c0%afadmin",
    b"/public/%e0%80%ae%e0%80%ae/admin",
    b"/public/%u002e%u002e/admin",
    b"/public/\xc0\xae\xc0\xae/admin",
    b"/public/%2/../admin",
    b"/public/%zz/../admin",
    b"/public/?/../../admin",
    b"/public/%3f/../../admin",
    b"/public/x#/../../admin",
    b"/public/%23/../../admin",
    b"/public/\t/../../admin",
    b"/public/%20/../../admin",
    b"/public/.. /admin",
    b"/public/..%20/admin",
    b"/public/..%09/admin",
    b"/public/...//../../admin",
    b"http://app.example.com/admin",
    b"http://app.example.com//admin",
    b"http://app.example.com/public/../admin",
    b"http://app.example.com/public/%2e%2e/admin",
    b"http://app.example.com\\@public/admin",
    b"http:///admin",
    b"admin",
    b"?/admin",
    b"*",
]
"""Targets that are /admin for somebody, or nothing; who may only read /public reaches none."""

CLAIMS = [
    "X-Forwarded-Uri: /public/x",
    "X-Forwarded-Uri: /public/x\r\nX-Forwarded-Uri: /public/x",
    "x-forwarded-uri: /public/x",
    "X_Forwarded_Uri: /public/x",
    "X-Forwarded-Method: GET\r\nX-Forwarded-Uri: /public/x",
    "X-Original-URI: /public/x",
    "X-Original-URL: /public/x",
    "X-Rewrite-URL: /public/x",
    "X-Forwarded-Path: /public/x",
    "X-Forwarded-Prefix: /public",
    "X-Envoy-Original-Path: /public/x",
    "X-Apikey-Proxy: nginx",
    "X-Apikey-Proxy: caddy\r\nX-Apikey-Status: 200",
    "Connection: close, X-Forwarded-Uri\r\nX-Forwarded-Uri: /public/x",
    "Connection: close, X-Forwarded-Method, Authorization",
]
"""Headers with which a client says that it asks for something else than it does."""

SPOOFED = [
    "X-Apikey-Alias: root",
    "x-apikey-alias: root",
    "X-APIKEY-PRINCIPAL: root",
    "X-Apikey-Principal: root",
    "X-Apikey-Roles: admin",
    "X-Apikey-Roles: owner",
    "X_Apikey_Alias: root",
    "X_APIKEY_ROLES: admin",
    "X-Apikey_Roles: admin",
    "X_Apikey-Principal: root",
    "X-Apikey-Status: 200",
]
"""Headers with which a client says that it is somebody else."""

IDENTITY = {"x-apikey-alias", "x-apikey-principal", "x-apikey-roles"}
RATE_HEADERS = ["RateLimit", "RateLimit-Policy", "X-RateLimit-Limit", "X-RateLimit-Remaining"]


def meant(target: str) -> str:
    """Return what the most careless server could take a request's target for."""
    path = re.sub(r"^\w+:/+[^/]*", "", target).partition("?")[0].partition("#")[0]
    for _ in range(4):
        path = unquote(path, "latin-1")
    for overlong, character in (("\xc0\xae", "."), ("\xe0\x80\xae", "."), ("\xc0\xaf", "/")):
        path = path.replace(overlong, character)
    path = re.sub(r"[;\0][^/]*", "", path.replace("\\", "/"))
    return posixpath.normpath("/" + path.strip("/ \t"))


def target_of(asked: Mapping[str, Any]) -> str:
    """Return the target of a request that has reached the upstream."""
    line: str = asked["line"]
    return line.split(" ", 1)[1].rpartition(" ")[0]


def ours(asked: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the headers that a careless service could take for those that say whose key it is."""
    names = [(name.lower().replace("_", "-"), value) for name, value in asked["headers"]]
    return sorted((name, value) for name, value in names if name in IDENTITY and value)


def says(asked: Mapping[str, Any], wanted: str) -> list[str]:
    """Return the values of a header that has reached the upstream."""
    return [value for name, value in asked["headers"] if name.lower() == wanted]


def check_sites(stage: Stage, proxy: Proxy) -> None:
    """MetricsHub gets the key, another service does not; both hear whose it is."""
    key = stage.keys["writer"]
    stage.received()
    for host, keys in ((METRICSHUB, [f"Bearer {key}"]), (SERVICE, [])):
        reply = proxy.ask("/api/hosts?all=1", key, host=host, headers=SPOOFED)
        assert reply.status == 200
        assert target_of(reply.asked) == "/api/hosts?all=1"
        assert says(reply.asked, "authorization") == keys
        assert ours(reply.asked) == [
            ("x-apikey-alias", "writer"),
            ("x-apikey-principal", "writer"),
            ("x-apikey-roles", "writer"),
        ]
    assert len(stage.received()) == 2


def check_refusals(stage: Stage, proxy: Proxy) -> None:
    """Without a key 401, without a role 403, each as a problem that says what is wanted."""
    stage.received()
    refused = [proxy.ask(), proxy.ask(key="unknown"), proxy.ask(key=stage.keys["reader"])]
    assert [reply.status for reply in refused] == [401, 401, 403]
    challenges = [reply.headers.get_all("WWW-Authenticate") or [] for reply in refused]
    assert [len(one) for one in challenges] == [1, 1, 1]
    assert challenges[0] == ['Bearer realm="apikey"']
    assert 'error="invalid_token"' in challenges[1][0]
    assert 'error="insufficient_scope"' in challenges[2][0]
    for reply in refused:
        assert reply.headers.get_all("Content-Type") == ["application/problem+json"]
        assert reply.asked["status"] == reply.status
    assert stage.received() == []


def check_two_keys(stage: Stage, proxy: Proxy) -> None:
    """A request with two Authorization headers is refused, whichever of them would do."""
    good = f"Authorization: Bearer {stage.keys['writer']}"
    for other in ("Authorization: Bearer unknown", "authorization: Basic YTpi", good):
        for headers in ([good, other], [other, good]):
            assert proxy.ask(headers=headers).status in (400, 401)
    assert stage.received() == []


def check_revocation(stage: Stage, proxy: Proxy) -> None:
    """A revoked key is refused on its next request."""
    key = stage.keys["doomed"]
    assert proxy.ask(key=key).status == 200
    stage.registry.revoke("doomed")
    reply = proxy.ask(key=key)
    assert reply.status == 401
    assert 'error="invalid_token"' in reply.headers["WWW-Authenticate"]
    stage.registry.create("doomed", **fields(Metadata(roles=("writer",))))
    assert proxy.ask(key=key).status == 401


def check_limit(stage: Stage, proxy: Proxy, *, told: bool = True) -> None:
    """After the thirtieth request of a minute 429, with all that the client should know of it."""
    key = stage.keys["busy"]
    first = proxy.ask(key=key)
    assert first.status == 200
    if told:
        assert first.headers.get_all("RateLimit-Policy") == ['"minute";q=30;w=60,"second";q=30;w=1']
        assert first.headers.get_all("RateLimit") == ['"minute";r=29;t=60']
        assert all(len(first.headers.get_all(name, [])) == 1 for name in RATE_HEADERS)
    statuses = [proxy.ask(key=key).status for _ in range(29)]
    stage.received()
    refused = proxy.ask(key=key, method="POST", body=b"x" * 10_000)
    assert statuses == [200] * 29
    assert refused.status == 429
    assert all(len(refused.headers.get_all(name, [])) == 1 for name in RATE_HEADERS)
    assert refused.headers["RateLimit"].startswith('"minute";r=0;t=')
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.headers.get_all("Content-Type") == ["application/problem+json"]
    assert (refused.asked["status"], refused.asked["title"]) == (429, "Too Many Requests")
    assert stage.received() == []


def check_escapes(stage: Stage, proxy: Proxy) -> None:
    """Whoever may read /public reaches nothing else, however it is written."""
    key = stage.keys["reader"]
    stage.received()
    assert proxy.ask("/public/caf%C3%A9", key).status == 200
    replies = [proxy.ask(target, key).status for target in ESCAPES]
    reached = [target_of(asked) for asked in stage.received()]
    assert reached[0] == "/public/caf%C3%A9"
    assert [target for target in reached if not f"{meant(target)}/".startswith("/public/")] == []
    assert replies.count(200) == len(reached) - 1
    assert not [status for status in replies if status > 500]


def check_claims(stage: Stage, proxy: Proxy) -> None:
    """What a client says in headers does not change what is decided about."""
    key = stage.keys["reader"]
    stage.received()
    refused = [proxy.ask("/admin", key, headers=[claim]).status for claim in CLAIMS]
    assert set(refused) <= {400, 401, 403}
    assert stage.received() == []


def check_methods(stage: Stage, proxy: Proxy) -> None:
    """A role for GET is not one for HEAD, for another spelling, or for an older HTTP elsewhere."""
    key = stage.keys["reader"]
    stage.received()
    for method in ("HEAD", "POST", "get", "Get", "GETX", "OPTIONS", "TRACE"):
        override = ["X-HTTP-Method-Override: GET", "X-Forwarded-Method: GET"]
        reply = proxy.ask("/public/x", key, method=method, headers=override)
        assert reply.status in (400, 403, 405), method
    assert proxy.ask("/admin", key, version="HTTP/1.0").status in (400, 403, 426)
    assert stage.received() == []


def check_bodies(stage: Stage, proxy: Proxy) -> None:
    """A body goes to the service, whatever its length, and does not keep the gateway waiting."""
    key = stage.keys["writer"]
    for size in (1, 3_000_000):
        reply = proxy.ask("/api/hosts", key, method="POST", body=b"x" * size)
        assert (reply.status, reply.asked["body"]) == (200, size)
    chunked = ["Transfer-Encoding: chunked"]
    head = f"POST /api HTTP/1.1\r\nHost: {SERVICE}\r\nConnection: close\r\n{chunked[0]}\r\n"
    bearer = f"Authorization: Bearer {key}\r\n\r\n"
    reply = proxy.send((head + bearer).encode(), b"3\r\nabc\r\n0\r\n\r\n")
    assert (reply.status, reply.asked["body"]) == (200, 3)


def check_own_answers(stage: Stage, proxy: Proxy) -> None:
    """What the service itself refuses reaches the client as the service said it."""
    for status in (401, 403, 429, 503):
        reply = proxy.ask(f"/status/{status}", stage.keys["writer"])
        assert reply.status == status
        assert target_of(reply.asked) == f"/status/{status}"


def check_streams(stage: Stage, proxy: Proxy) -> None:
    """Each event of a stream comes at once, from either site."""
    for host in (METRICSHUB, SERVICE):
        with proxy.open_stream("/api/events", stage.keys["writer"], host) as connection:
            received = b""
            while b"data: tick\n\n" not in received:
                some = connection.recv(65_536)
                assert some, received
                received += some
        assert b" 200 " in received.split(b"\r\n")[0]


def check_dead_gateway(stage: Stage, proxy: Proxy, gateway: Gateway, keystore: Path) -> None:
    """
    Without a gateway nothing passes, nor while it has no keystore; in between, without roles.

    Args:
        stage: With the upstream behind *proxy*.
        proxy: Asks *gateway*.
        gateway: A gateway of its own, which is stopped here.
        keystore: Where it looks for a keystore, and there is none yet.
    """
    key = stage.keys["nobody"]
    stage.received()
    before = proxy.ask(key=key)
    assert before.status == 503
    assert stage.received() == []
    os.link(stage.keystore, keystore)
    wait_until(lambda: ask(gateway.port, "/healthz").status == 200, "the keystore is read")
    reply = proxy.ask(key=key, headers=SPOOFED)
    assert ours(reply.asked) == [("x-apikey-alias", "nobody"), ("x-apikey-principal", "nobody")]
    assert not [name for name in reply.headers if "ratelimit" in name.lower()]
    assert len(stage.received()) == 1
    gateway.server.stop()
    for host in (METRICSHUB, SERVICE):
        assert 500 <= proxy.ask(key=key, host=host).status < 600
    assert stage.received() == []


BENT = [
    "X-Forwarded-For: 6.6.6.6",
    "X-Forwarded-For: 127.0.0.1",
    "X-Forwarded-Proto: bogus",
    "X-Forwarded-Host: bogus.example.com",
    "X-Forwarded-Port: 666",
    "X-Forwarded-Prefix: /bogus",
    "Forwarded: for=6.6.6.6",
    "X-Real-IP: 6.6.6.6",
    "X-Client-IP: 6.6.6.6",
    "True-Client-IP: 6.6.6.6",
    "X-Original-URL: /bogus",
    "X-Original-URI: /bogus",
    "X-Rewrite-URL: /bogus",
    "X-HTTP-Method: BOGUS",
    "X-HTTP-Method-Override: BOGUS",
    "X-Method-Override: BOGUS",
    "X_Forwarded_For: 6.6.6.6",
    "X_HTTP_Method_Override: BOGUS",
]
"""Headers with which a client says where it comes from, or what a service should rather do."""


def check_connection(stage: Stage, proxy: Proxy) -> None:
    """What a client names as belonging to one connection takes nothing away from what is set."""
    expected = ["x-apikey-alias", "x-apikey-principal", "x-apikey-roles"]
    for host in (METRICSHUB, SERVICE):
        for named in ("X-Apikey-Alias, X-Apikey-Principal, X-Apikey-Roles", "x-apikey-roles"):
            headers = [
                f"Connection: close, {named}",
                f"Connection: {named}",
                SPOOFED[0],
            ]
            reply = proxy.ask("/public/x", stage.keys["named"], host=host, headers=headers)
            assert reply.status == 200
            assert [name for name, _ in ours(reply.asked)] == expected
            assert "root" not in reply.body


def check_bent(stage: Stage, proxy: Proxy) -> None:
    """The service hears from where the client really comes, and not what it says of itself."""
    key = stage.keys["bent"]
    for headers in (BENT, *([one] for one in BENT)):
        reply = proxy.ask("/public/x", key, headers=headers)
        assert reply.status in (200, 400), headers
        if reply.status == 200:
            assert not re.search(r"(?i)6\.6\.6\.6|bogus|666", reply.body), headers
            (address,) = says(reply.asked, "x-forwarded-for")
            assert ip_address(address), headers


def check_own_limits(stage: Stage, proxy: Proxy) -> None:
    """What the service says of limits of its own does not stand beside those of the key."""
    reply = proxy.ask("/limited", stage.keys["named"])
    assert reply.status == 200
    for name in RATE_HEADERS:
        (said,) = reply.headers.get_all(name, [])
        assert said != "of the service"


def check_trailers(stage: Stage, proxy: Proxy) -> None:
    """A key after the body is not a key, and an identity there is not one."""
    head = f"POST /public/x HTTP/1.1\r\nHost: {SERVICE}\r\nConnection: close\r\n"
    chunked = "Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n"
    bearer = f"Authorization: Bearer {stage.keys['writer']}\r\n"
    stage.received()
    assert proxy.send(f"{head}{chunked}\r\n0\r\n{bearer}\r\n".encode()).status in (400, 401)
    assert stage.received() == []
    sent = f"{head}{chunked}{bearer}\r\n3\r\nabc\r\n0\r\nX-Apikey-Alias: root\r\n\r\n"
    assert "root" not in proxy.send(sent.encode()).body
