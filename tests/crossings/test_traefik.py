"""
The gateway as Traefik's ForwardAuth uses it.

No package of Debian or PyPI has Traefik. So this does what its documentation says that it does,
with docs/gateway/traefik.yaml and against the real gateway.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

import proxies
from proxies import Stage, documented
from servers import Response, ask

HOP_BY_HOP = {"Connection", "Keep-Alive", "Te", "Trailers", "Transfer-Encoding", "Upgrade"}


class Traefik:
    """What the middleware `apikey` and the routers of a dynamic configuration do."""

    def __init__(self, port: int, *, filtered: bool = True) -> None:
        """Read the file; without *filtered*, as if it did not say which headers to send."""
        text = documented("traefik.yaml", {"127.0.0.1:8484": f"127.0.0.1:{port}"})
        self.http: dict[str, Any] = yaml.safe_load(text)["http"]
        self.auth: dict[str, Any] = self.http["middlewares"]["apikey"]["forwardAuth"]
        self._sent = self.auth["authRequestHeaders"] if filtered else None
        self._port = port

    def ask(self, uri: str, headers: Mapping[str, str], method: str = "GET") -> Response:
        """Ask the gateway about a client's request, with GET and no body."""
        assert self.auth["address"] == f"http://127.0.0.1:{self._port}/auth"
        assert self.auth["trustForwardHeader"] is False
        sent = {
            name: value
            for name, value in canonical(headers).items()
            if name not in HOP_BY_HOP and (self._sent is None or name in self._sent)
        }
        own = {
            "X-Forwarded-For": "192.0.2.7",
            "X-Forwarded-Method": method,
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "app.example.com",
            "X-Forwarded-Uri": uri,
        }
        return ask(self._port, headers={**sent, **own})

    def passed(self, router: str, headers: Mapping[str, str], answer: Response) -> dict[str, str]:
        """Return the headers with which a request that was let through reaches the service."""
        kept = canonical(headers)
        for name in self.http["routers"][router]["middlewares"]:
            middleware = self.http["middlewares"][name]
            if name == "apikey":
                ours = re.compile(middleware["forwardAuth"]["authResponseHeadersRegex"])
                kept = {one: value for one, value in kept.items() if not ours.search(one)}
                said = canonical(answer.headers)
                kept |= {one: value for one, value in said.items() if ours.search(one)}
            else:
                changes = middleware["headers"]["customRequestHeaders"]
                kept = {one: value for one, value in kept.items() if changes.get(one) != ""}
        return kept


def canonical(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with their names as Go writes them; `_` separates no words."""
    return {"-".join(map(str.capitalize, name.split("-"))): headers[name] for name in headers}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Return a gateway at work."""
    with proxies.staged(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


def bearer(stage: Stage, alias: str, **more: str) -> dict[str, str]:
    """Return what a client sends."""
    own = {name.replace("__", "-"): value for name, value in more.items()}
    return {"authorization": f"Bearer {stage.keys[alias]}", "accept": "*/*", **own}


def test_every_router_asks() -> None:
    """No service is reached without the gateway, and the key is dropped after it was asked."""
    routers = Traefik(1).http["routers"]
    chains = {name: router["middlewares"] for name, router in routers.items()}
    assert chains == {"metricshub": ["apikey"], "service": ["apikey", "without-key"]}
    services = Traefik(1).http["services"]
    assert {router["service"] for router in routers.values()} == services.keys()


def test_the_decision(stage: Stage) -> None:
    """It lets pass and refuses as with the other proxies, by the method and path of the client."""
    traefik = Traefik(stage.gateway.port)
    reader = bearer(stage, "reader")
    asked = [
        traefik.ask("/public/x?all=1", reader),
        traefik.ask("/public/x", reader, "POST"),
        traefik.ask("/admin", {**reader, "x-forwarded-uri": "/public/x"}),
        traefik.ask("/public/%2e%2e/admin", reader),
        traefik.ask("/public/x", {"accept": "*/*"}),
    ]
    assert [answer.status for answer in asked] == [200, 403, 403, 403, 401]
    assert asked[4].headers["www-authenticate"] == 'Bearer realm="apikey"'
    assert asked[4].headers["content-type"] == "application/problem+json"


def test_who_the_service_hears_of(stage: Stage) -> None:
    """Nothing of the client's that looks like the gateway's gets through."""
    traefik = Traefik(stage.gateway.port)
    spoofed = {"X-Apikey-Alias": "root", "X_Apikey_Roles": "admin", "x-apikey_principal": "root"}
    client = {**bearer(stage, "writer"), **spoofed, "X-Apikey-Proxy": "nginx"}
    answer = traefik.ask("/admin", client)
    identity = {"X-Apikey-Alias": "writer", "X-Apikey-Principal": "writer"}
    expected = {"Accept": "*/*", **identity, "X-Apikey-Roles": "writer"}
    assert traefik.passed("service", client, answer) == expected
    to_metricshub = traefik.passed("metricshub", client, answer)
    assert to_metricshub == {**expected, "Authorization": client["authorization"]}


def test_429_needs_no_help(stage: Stage) -> None:
    """Traefik passes on whatever is not 2xx, with its headers; a client cannot ask otherwise."""
    traefik = Traefik(stage.gateway.port)
    busy = bearer(stage, "busy", X__Apikey__Proxy="nginx")
    answers = [traefik.ask("/x", busy) for _ in range(31)]
    assert [answer.status for answer in answers] == [200] * 30 + [429]
    assert 1 <= int(answers[30].headers["retry-after"]) <= 60
    assert answers[30].headers["ratelimit"].startswith('"minute";r=0;')


def test_all_headers_of_the_client(stage: Stage) -> None:
    """Without authRequestHeaders Traefik sends everything; that opens nothing either."""
    traefik = Traefik(stage.gateway.port, filtered=False)
    claims = {"X-Forwarded-Method": "GET", "X-Original-Uri": "/public/x", "X-Apikey-Roles": "all"}
    length = {"Content-Type": "text/plain", "Connection": "close, Authorization"}
    for alias, status in (("reader", 403), ("writer", 200)):
        client = {**bearer(stage, alias), **claims, **length, "X-Apikey-Proxy": "nginx"}
        assert traefik.ask("/admin", client, "POST").status == status
