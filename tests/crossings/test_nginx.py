"""The gateway behind a real nginx, with the configuration that docs/gateway has for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway_checks
import proxies
from proxies import METRICSHUB, SERVICE, Proxy, Stage, nginx


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Return what stands behind nginx."""
    with proxies.staged(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest.fixture(scope="module")
def proxy(stage: Stage) -> Iterator[Proxy]:
    """Return nginx at work."""
    with nginx(stage.folder / "nginx", stage, stage.gateway.port) as proxy:
        yield proxy


def test_who_it_is_and_what_it_may(stage: Stage, proxy: Proxy) -> None:
    """MetricsHub gets the key, another service only whose it is; refusals say why."""
    gateway_checks.check_sites(stage, proxy)
    gateway_checks.check_refusals(stage, proxy)
    gateway_checks.check_two_keys(stage, proxy)
    gateway_checks.check_own_answers(stage, proxy)


def test_a_revoked_key_is_refused_at_once(stage: Stage, proxy: Proxy) -> None:
    """The first request after the revocation is refused."""
    gateway_checks.check_revocation(stage, proxy)


def test_429_is_429(stage: Stage, proxy: Proxy) -> None:
    """The configuration undoes that nginx makes 500 of it, and keeps the headers."""
    gateway_checks.check_limit(stage, proxy)


def test_nothing_leads_out_of_a_role(stage: Stage, proxy: Proxy) -> None:
    """No spelling of a path, no header and no method reaches what the role does not allow."""
    gateway_checks.check_escapes(stage, proxy)
    gateway_checks.check_claims(stage, proxy)
    gateway_checks.check_methods(stage, proxy)


def test_the_question_itself_cannot_be_asked(stage: Stage, proxy: Proxy) -> None:
    """A client cannot reach the gateway's own location."""
    stage.received()
    headers = ["X-Forwarded-Method: GET", "X-Forwarded-Uri: /public/x"]
    for target in ("/_apikey", "/_apikey?x", "/_apikey/", "/%5fapikey", "/@apikey_refused"):
        assert proxy.ask(target, stage.keys["reader"], headers=headers).status in (403, 404)
    assert proxy.ask("/_apikey", stage.keys["writer"]).status == 404
    assert stage.received() == []


def test_bodies_and_streams_pass(stage: Stage, proxy: Proxy) -> None:
    """Neither a large body nor an endless answer is held back."""
    gateway_checks.check_bodies(stage, proxy)
    gateway_checks.check_streams(stage, proxy)


def connections(port: int) -> set[tuple[str, str]]:
    """Return the connections to a port of this machine, also those that ended just now."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    ends = {(fields[1], fields[2]) for fields in map(str.split, lines) if fields[3] != "0A"}
    wanted = f":{port:04X}"
    return {(min(pair), max(pair)) for pair in ends if any(end.endswith(wanted) for end in pair)}


@pytest.mark.parametrize("host", [METRICSHUB, SERVICE])
def test_connections_are_kept(stage: Stage, proxy: Proxy, host: str) -> None:
    """Many requests use one connection to the service, and one to the gateway."""
    key = stage.keys["writer"]
    proxy.ask(key=key, host=host)
    before = connections(stage.gateway.port)
    replies = [proxy.ask(key=key, host=host).asked["connection"] for _ in range(6)]
    assert len(set(replies)) == 1
    assert before
    assert connections(stage.gateway.port) <= before


def test_a_dead_gateway_opens_nothing(stage: Stage, tmp_path: Path) -> None:
    """While the gateway is not there, or has no keystore, everything is refused."""
    with (
        proxies.without_keystore(tmp_path) as (gateway, keystore),
        nginx(tmp_path / "nginx", stage, gateway.port) as proxy,
    ):
        gateway_checks.check_dead_gateway(stage, proxy, gateway, keystore)


def test_the_certificate_of_a_server_elsewhere(stage: Stage, tmp_path: Path) -> None:
    """The lines for a MetricsHub on another machine work, and refuse another's certificate."""
    trusted = {"# proxy_ssl_": "proxy_ssl_", "/etc/nginx/metricshub.pem": ""}
    (tmp_path / "other").mkdir()
    other = proxies.certificate(tmp_path / "other")
    for number, (file, status) in enumerate([(stage.files.certificate, 200), (other[0], 502)]):
        changes = {**trusted, "/etc/nginx/metricshub.pem": str(file)}
        with nginx(tmp_path / f"{number}", stage, stage.gateway.port, changes) as proxy:
            assert proxy.ask(key=stage.keys["writer"], host=METRICSHUB).status == status
