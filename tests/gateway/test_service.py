"""The background of a gateway: its tasks outlive an error that was not expected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from metricshub_apikey import ApiKeys
from metricshub_apikey.activity.database import ActivityLog, path_beside
from metricshub_apikey.gateway import service as service_module
from metricshub_apikey.gateway.decision import Request
from metricshub_apikey.gateway.keyring import Keyring
from metricshub_apikey.gateway.service import Service, Settings
from metricshub_apikey.gateway.usage import Times


async def until(condition: Callable[[], object]) -> None:
    """Wait on an event loop until *condition* is true."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the background tasks run every few milliseconds."""
    monkeypatch.setattr(service_module, "FOLLOW_SECONDS", 0.01)
    monkeypatch.setattr(service_module, "FLUSH_SECONDS", 0.01)


def test_uses_are_written_after_an_unexpected_error(
    registry: ApiKeys, keystore: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that raises what it should not is logged, and its uses are written the next time."""
    key = registry.create("ci").secret.reveal() or ""
    record = ActivityLog(path_beside(str(keystore)))
    failures = [ZeroDivisionError("first"), RuntimeError("second")]
    real = ActivityLog.record_uses

    def fail(self: ActivityLog, uses: Times) -> None:
        if failures:
            raise failures.pop()
        real(self, uses)

    monkeypatch.setattr(ActivityLog, "record_uses", fail)
    said: list[str] = []

    async def use() -> None:
        service = Service(Settings(str(keystore)))
        monkeypatch.setattr(service.log, "say", said.append)
        answer = await service.decide(Request("GET", "/", [key.encode()]))
        assert answer.status == 200
        await until(record.last_uses)
        await service.stop()

    asyncio.run(use())
    text = "\n".join(said)
    assert [text.count(name) for name in ("ZeroDivisionError: first", "RuntimeError: second")] == [
        1,
        1,
    ]
    assert key not in text


def test_files_are_followed_after_an_unexpected_error(
    registry: ApiKeys, keystore: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at the files that raises is logged once, and later changes are noticed."""
    registry.create("ci")
    real, failing = Keyring.follow, [False]

    async def follow(self: Keyring) -> None:
        if failing[0]:
            raise ZeroDivisionError("looking")
        await real(self)

    monkeypatch.setattr(Keyring, "follow", follow)
    said: list[str] = []

    async def look() -> None:
        service = Service(Settings(str(keystore)))
        monkeypatch.setattr(service.log, "say", said.append)
        await service.start()
        failing[0] = True
        await until(lambda: any("looking" in line for line in said))
        await asyncio.sleep(0.1)
        failing[0] = False
        registry.create("new")
        await until(
            lambda: service.keyring.snapshot and len(service.keyring.snapshot.credentials) == 2
        )
        await service.stop()

    asyncio.run(look())
    assert sum("ZeroDivisionError: looking" in line for line in said) == 1


def test_reading_anew_survives_an_unexpected_error(
    registry: ApiKeys, keystore: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGHUP in a moment when reading raises leaves the old keys in force, and says so."""
    registry.create("ci")
    said: list[str] = []

    def fail(_: Keyring, *, anew: bool = False) -> None:
        raise ZeroDivisionError(f"anew={anew}")

    async def reload() -> None:
        service = Service(Settings(str(keystore)))
        monkeypatch.setattr(service.log, "say", said.append)
        await service.start()
        with monkeypatch.context() as failing:
            failing.setattr(Keyring, "read", fail)
            await service.reload()
        await service.reload()
        await service.stop()

    asyncio.run(reload())
    assert any("ZeroDivisionError: anew=True" in line for line in said)
    assert said[-1] == "Everything was read anew."
