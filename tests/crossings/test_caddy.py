"""The gateway behind a real Caddy, with the Caddyfile that docs/gateway has for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway_checks
import proxies
from proxies import Proxy, Stage, caddy


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Return what stands behind Caddy."""
    with proxies.staged(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest.fixture(scope="module")
def proxy(stage: Stage) -> Iterator[Proxy]:
    """Return Caddy at work."""
    with caddy(stage.folder / "caddy", stage, stage.gateway.port) as proxy:
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


def test_429_passes_with_its_headers(stage: Stage, proxy: Proxy) -> None:
    """Caddy passes on what the gateway says, also to those who are within the limits."""
    gateway_checks.check_limit(stage, proxy)


def test_nothing_leads_out_of_a_role(stage: Stage, proxy: Proxy) -> None:
    """No spelling of a path, no header and no method reaches what the role does not allow."""
    gateway_checks.check_escapes(stage, proxy)
    gateway_checks.check_claims(stage, proxy)
    gateway_checks.check_methods(stage, proxy)


def test_bodies_and_streams_pass(stage: Stage, proxy: Proxy) -> None:
    """Neither a large body nor an endless answer is held back."""
    gateway_checks.check_bodies(stage, proxy)
    gateway_checks.check_streams(stage, proxy)


def test_a_dead_gateway_opens_nothing(stage: Stage, tmp_path: Path) -> None:
    """Caddy refuses while the gateway is not there, or has no keystore."""
    with (
        proxies.without_keystore(tmp_path) as (gateway, keystore),
        caddy(tmp_path / "caddy", stage, gateway.port) as proxy,
    ):
        gateway_checks.check_dead_gateway(stage, proxy, gateway, keystore)
