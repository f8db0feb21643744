"""The side doors of the gateway, through each real proxy as docs/gateway configures it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import gateway_checks
import proxies
import services
from proxies import Proxy, Stage
from servers import ask, forwarded, wait_until

POLICY = proxies.POLICY.replace("= 30", "= 10000")

Start = Callable[[Path, Stage, int, Mapping[str, str] | None], AbstractContextManager[Proxy]]

STARTS: dict[str, Start] = {
    "nginx": proxies.nginx,
    "caddy": proxies.caddy,
    "envoy": proxies.envoy,
}

SLASHED = {
    "nginx": {"apikey_gateway/auth;": "apikey_gateway/auth/;"},
    "caddy": {"uri /auth": "uri /auth/"},
    "envoy": {"path_prefix: /envoy": "path_prefix: /auth"},
}
"""A slash too many, and what an Envoy file of before said."""

H2C = (
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Return what stands behind the proxies."""
    with proxies.staged(tmp_path_factory.mktemp("stage"), policy=POLICY) as stage:
        yield stage


@pytest.fixture(scope="module", params=STARTS)
def name(request: pytest.FixtureRequest) -> str:
    """Return which proxy it is."""
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def proxy(stage: Stage, name: str) -> Iterator[Proxy]:
    """Return it at work."""
    with STARTS[name](stage.folder / name, stage, stage.gateway.port, None) as proxy:
        yield proxy


def test_what_belongs_to_one_connection(stage: Stage, proxy: Proxy) -> None:
    """A client that names the identity in Connection does not take it from the service."""
    gateway_checks.check_connection(stage, proxy)


def test_what_a_client_says_of_itself(stage: Stage, proxy: Proxy) -> None:
    """Neither its addresses nor its overrides of method and path reach the service."""
    gateway_checks.check_bent(stage, proxy)


def test_limits_of_the_service(stage: Stage, proxy: Proxy) -> None:
    """The client sees one set of limits, those of its key."""
    gateway_checks.check_own_limits(stage, proxy)


def test_trailers(stage: Stage, proxy: Proxy) -> None:
    """What comes after a body is neither key nor identity."""
    gateway_checks.check_trailers(stage, proxy)


def test_a_connection_keeps_its_protocol(stage: Stage, name: str, tmp_path: Path) -> None:
    """Upgrade: h2c, to a service that speaks it, changes nothing: the answer is HTTP/1.1's."""
    with services.hypercorn(tmp_path / "service") as port:
        behind = dataclasses.replace(stage, plain=port)
        with STARTS[name](tmp_path / name, behind, stage.gateway.port, None) as proxy:
            plain = proxy.ask("/public/x", stage.keys["reader"])
            assert (plain.status, plain.body) == (200, "GET /public/x HTTP/1.1")
            reply = proxy.ask("/public/x", stage.keys["reader"], headers=H2C)
    assert reply.status != 101
    assert (reply.status, reply.body) in ((200, plain.body), (403, ""), (400, ""))


def test_a_question_that_could_be_anothers(stage: Stage, name: str, tmp_path: Path) -> None:
    """A slash too many in the configuration lets nothing pass, and the log names the mistake."""
    stage.received()
    with STARTS[name](tmp_path / name, stage, stage.gateway.port, SLASHED[name]) as proxy:
        for method in ("GET", "DELETE"):
            assert proxy.ask("/public/x", stage.keys["reader"], method=method).status in (401, 403)
    assert stage.received() == []
    stage.gateway.server.wait_for_line("write /auth .* path_prefix: /envoy for Envoy")


def test_a_question_that_contradicts_itself(stage: Stage) -> None:
    """Where a path is asked about, headers that name another one make it no question at all."""
    port, key = stage.gateway.port, stage.keys["writer"]
    bearer = {"authorization": f"Bearer {key}"}
    assert ask(port, "/envoy/public/x", headers=bearer).status == 200
    for target in ("/auth/", "/auth/x", "/envoy/", "/envoy/public/x"):
        for one in ("X-Forwarded-Method", "X-Forwarded-Uri"):
            assert ask(port, target, headers={**bearer, one: "GET"}).status == 403, target
    assert ask(port, "/auth", headers=forwarded(key)).status == 200
    stage.gateway.server.wait_for_line("let Envoy not send these headers")


@pytest.fixture(scope="module")
def tomcat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Return the port of Tomcat, which cuts path parameters off."""
    with services.tomcat(tmp_path_factory.mktemp("tomcat")) as port:
        yield port


@pytest.mark.slow
def test_paths_as_tomcat_reads_them(stage: Stage, name: str, tomcat: int, tmp_path: Path) -> None:
    """However a path is written, Tomcat shows nothing that the role does not allow."""
    behind = dataclasses.replace(stage, plain=tomcat)
    with proxies.without_keystore(tmp_path) as (gateway, keystore):
        keystore.with_name("apikey.toml").write_text(POLICY)
        os.link(stage.keystore, keystore)
        wait_until(lambda: ask(gateway.port, "/healthz").status == 200, "the keystore is read")
        with STARTS[name](tmp_path / name, behind, gateway.port, None) as proxy:
            assert proxy.ask("/public/x", stage.keys["reader"]).body == "for all"
            assert proxy.ask("/admin/x", stage.keys["writer"]).body == services.SECRET
            for target in gateway_checks.ESCAPES:
                for end in (b"", b"/x"):
                    reply = proxy.ask(target + end, stage.keys["reader"])
                    assert services.SECRET not in reply.body, target
