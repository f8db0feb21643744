"""The library as a user writes it; mypy checks the types that a user sees."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import assert_type

import pytest

import metricshub_apikey
from metricshub_apikey import (
    ApiKey,
    ApiKeyMiddleware,
    ApiKeys,
    InvalidArgumentError,
    KeyExistsError,
    KeyNotFoundError,
    Policy,
    PolicyBreachError,
    Rotation,
    Secret,
    Verdict,
)

POLICY = """\
[keys]
require_expiry = true
lifetimes = ["30d", "90d"]
[roles.metrics-writer]
allow = ["POST /api/v1/metrics/**"]
[roles.read-only]
allow = ["GET /**"]
"""


def test_the_life_of_a_key(keystore: Path) -> None:
    """Everything that a program does with a key, from its creation to its end."""
    keys = ApiKeys(keystore)
    key = keys.create("ci-prod", expires_in=timedelta(days=90), roles=["metrics-writer"])
    assert_type(key, ApiKey)
    assert_type(key.secret, Secret)
    token = assert_type(key.secret.reveal(), str)
    assert "ci-prod" in keys
    assert "CI-Prod" in keys
    assert len(keys) == 1
    assert [k.alias for k in keys if k.expires_within(timedelta(days=14))] == []
    assert [k.alias for k in keys if k.expires_within(timedelta(days=91))] == ["ci-prod"]
    edited = keys.edit("ci-prod", description="nightly", add_roles=["read-only"])
    assert edited.new.metadata.roles == ("metrics-writer", "read-only")
    done = assert_type(keys.rotate("ci-prod", overlap=timedelta(days=2)), Rotation)
    assert done.old.alias == "ci-prod.prev"
    assert_type(done.old.expires_on, datetime | None)
    verdict = assert_type(keys.verify(token), Verdict)
    assert (verdict.reason, verdict.key and verdict.key.alias) == ("accepted", "ci-prod.prev")
    assert len(keys) == 2
    assert keys.revoke("ci-prod").also == ("ci-prod.prev",)
    assert keys.verify(token).reason == "revoked", "the record beside the keystore says so"
    with pytest.raises(KeyNotFoundError):
        keys.revoke("ci-prod")


def test_the_policy_beside_the_keystore_holds(keystore: Path) -> None:
    """A program does not slip past the rules unless it says so."""
    keystore.parent.mkdir()
    (keystore.parent / "apikey.toml").write_text(POLICY)
    keys = ApiKeys(keystore)
    with pytest.raises(PolicyBreachError, match=r"keys\.require_expiry"):
        keys.create("ci")
    with pytest.raises(PolicyBreachError, match=r"'45 days' is not one of the choices"):
        keys.create("ci", expires_in=timedelta(days=45))
    keys.create("ci", policy=Policy.none())
    with pytest.raises(KeyExistsError):
        keys.create("ci", expires_in=timedelta(days=30))
    with pytest.raises(InvalidArgumentError, match="either an expiry or a length"):
        keys.create("x", expires_on=datetime(2999, 1, 1), expires_in=timedelta(days=30))


def test_opening_as_the_command_does(keystore: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`open` takes the keystore that `apikey path` shows."""
    monkeypatch.setenv("METRICSHUB_KEYSTORE", str(keystore))
    assert ApiKeys.open().path == str(keystore)


def test_the_public_names() -> None:
    """Each name in `__all__` is there; the middleware is imported when it is named."""
    for name in metricshub_apikey.__all__:
        assert getattr(metricshub_apikey, name) is not None
    assert ApiKeyMiddleware.__name__ in metricshub_apikey.__all__
    with pytest.raises(AttributeError, match="'nothing'"):
        metricshub_apikey.nothing  # noqa: B018
