"""The numbers of the gateway, as Prometheus reads them."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from clock import at
from metricshub_apikey import ApiKeys
from metricshub_apikey.gateway.keyring import Keyring
from metricshub_apikey.gateway.metrics import Metrics
from metricshub_apikey.keys.api_key import ENTRY_PREFIX
from metricshub_apikey.keys.expiry import after
from metricshub_apikey.keystore.keystore import Keystore

Sample = tuple[str, tuple[tuple[str, str], ...]]

DAY = timedelta(days=1)


def keyring_of(keystore: Path) -> Keyring:
    """Return the keys of *keystore*; nothing is read yet."""
    return Keyring(Keystore(keystore), None, report=print)


def parsed(text: str) -> dict[Sample, float]:
    """Return the samples in *text*, by name and labels; each family has a kind and a help."""
    found: dict[Sample, float] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in ("counter", "gauge")
        for sample in family.samples:
            name = sample.name, tuple(sorted(sample.labels.items()))
            assert name not in found
            found[name] = sample.value
    return found


def keys(state: str) -> Sample:
    """Return the name of the number of keys in a *state*."""
    return "apikey_keys", (("state", state),)


def decisions(result: str) -> Sample:
    """Return the name of the number of such decisions."""
    return "apikey_decisions_total", (("result", result),)


def test_before_the_first_keystore(keystore: Path) -> None:
    """As long as nothing could be read there are no keys to count, and that is a failure."""
    keyring = keyring_of(keystore)
    assert parsed(Metrics(keyring).text()) == {("apikey_reload_failed", ()): 0}
    keyring.read()
    assert parsed(Metrics(keyring).text()) == {("apikey_reload_failed", ()): 1}


def test_keys_by_their_state(registry: ApiKeys, keystore: Path) -> None:
    """Keys are valid, expired or unreadable at the moment of the question."""
    now = datetime.now(UTC)
    registry.create("one")
    registry.create("two", expires_on=after(at(now), DAY))
    registry._keystore.update(
        lambda store: store.add(
            f"{ENTRY_PREFIX}odd", b"key__someday", created_ms=0, random_bytes=lambda n: b"\1" * n
        )
    )
    keyring = keyring_of(keystore)
    keyring.read()
    metrics = Metrics(keyring)
    today = parsed(metrics.text(now.timestamp()))
    assert [today[keys(state)] for state in ("valid", "expired", "unreadable")] == [2, 0, 1]
    later = parsed(metrics.text((now + 2 * DAY).timestamp()))
    assert [later[keys(state)] for state in ("valid", "expired", "unreadable")] == [1, 1, 1]


def test_the_age_and_the_failure_of_the_keys(registry: ApiKeys, keystore: Path) -> None:
    """A keystore that cannot be read any more is seen, and so is how old the keys are."""
    registry.create("one")
    keyring = keyring_of(keystore)
    began = time.time()
    keyring.read()
    metrics = Metrics(keyring)
    age = parsed(metrics.text(time.time() + 90))[("apikey_reload_age_seconds", ())]
    assert 89 <= age <= 95 + time.time() - began
    assert parsed(metrics.text())[("apikey_reload_failed", ())] == 0
    keystore.write_bytes(b"")
    keyring.read()
    found = parsed(metrics.text())
    assert (found[("apikey_reload_failed", ())], found[keys("valid")]) == (1, 1)


def test_decisions_are_counted(keystore: Path) -> None:
    """Each decision is counted under its result, in an order that does not change."""
    metrics = Metrics(keyring_of(keystore))
    metrics.decisions["unknown"] += 2
    metrics.decisions["accepted"] += 3_000_000
    metrics.decisions["expired"] += 1
    found = parsed(metrics.text())
    counted = [found[decisions(name)] for name in ("unknown", "accepted", "expired")]
    assert counted == [2, 3_000_000, 1]
    lines = [line for line in metrics.text().splitlines() if line.startswith("apikey_decisions")]
    assert lines == sorted(lines)
