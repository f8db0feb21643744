"""The server's zone as the rest of the product uses it: found late, and odd hours in it."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metricshub_apikey import ApiKeys
from metricshub_apikey.errors import ExpiryInPastError, InvalidArgumentError, PolicyError
from metricshub_apikey.gateway.clock import ServerClock
from metricshub_apikey.gateway.credential import Credential
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.expiry import LAST_SECOND, Moment, after, end_of_repetition, to_local
from metricshub_apikey.keystore.local_time import find_local_time
from metricshub_apikey.keystore.server_zone import LocalTime, ServerZone, server_zone
from metricshub_apikey.keystore.windows_zone import zone_from_registry
from metricshub_apikey.keystore.zone_ids import named_zone
from metricshub_apikey.policy.rules import STOCK
from metricshub_apikey.secret import Secret

PARIS = ZoneInfo("Europe/Paris")
FIRST_PASS = datetime(2026, 10, 25, 0, 40, tzinfo=UTC)
"""02:40 in Paris for the first time; it is there again an hour later."""

MINUTES = timedelta(minutes=1)


def registry(path: Path, now: datetime) -> ApiKeys:
    """Return the keys of a keystore whose server is in Paris, at an instant."""
    return ApiKeys(path, clock=lambda: now, zone=PARIS)


def test_an_overlap_into_the_repeated_hour_lasts_to_its_end(keystore: Path) -> None:
    """The old key works for the whole overlap, and ends where the server cannot mistake it."""
    keys = registry(keystore, FIRST_PASS)
    keys.create("r")
    done = keys.rotate("r", overlap=30 * MINUTES)
    assert done is not None
    assert done.kept
    assert done.old.expires_on == datetime(2026, 10, 25, 3)
    for minute in range(31):
        assert not done.old.expired(Moment(FIRST_PASS + minute * MINUTES, PARIS))


def test_an_overlap_of_nothing_ends_at_once_in_that_hour(keystore: Path) -> None:
    """A user who wants the old key dead gets that in the repeated hour, too."""
    keys = registry(keystore, FIRST_PASS)
    keys.create("r")
    done = keys.rotate("r", overlap=timedelta())
    assert done is not None
    assert not done.kept


def test_an_expiry_that_the_server_would_take_for_past_is_refused(keystore: Path) -> None:
    """The sentence names the change of clocks, and the hint a time that works."""
    moment = Moment(FIRST_PASS, PARIS)
    with pytest.raises(ExpiryInPastError, match="clocks are put back at 2026-10-25T03:00:00") as it:
        registry(keystore, FIRST_PASS).create("e", expires_on=after(moment, 30 * MINUTES))
    assert "2026-10-25T03:00:00 or later" in (it.value.hint or "")
    registry(keystore, FIRST_PASS).create("e", expires_on=datetime(2026, 10, 25, 3))


@pytest.mark.parametrize(
    ("local", "end"),
    [
        ("2026-10-25T01:59:59", None),
        ("2026-10-25T02:00:00", "2026-10-25T03:00:00"),
        ("2026-10-25T02:59:59", "2026-10-25T03:00:00"),
        ("2026-10-25T03:00:00", None),
        ("2026-03-29T02:30:00", None),
    ],
)
def test_the_end_of_the_repeated_hour(local: str, end: str | None) -> None:
    """It is known for every second of the hour, and for no other; a left-out hour is no such."""
    found = end_of_repetition(datetime.fromisoformat(local), PARIS)
    assert found == (end and datetime.fromisoformat(end))


@given(st.integers(0, 3 * 3_600), st.integers(0, 3 * 3_600))
def test_the_gateway_and_verify_agree_in_the_autumn_night(ends: int, now: int) -> None:
    """Both compare as a stock server does, in every second around the change."""
    expires_on = datetime(2026, 10, 25, 1) + timedelta(seconds=ends)
    instant = datetime(2026, 10, 24, 23, 30, tzinfo=UTC) + timedelta(seconds=now)
    key = ApiKey("k", Secret("secret"), expires_on, 0)
    credential = Credential(key, b"secret", STOCK)
    wall = ServerClock(PARIS).wall(instant.timestamp())
    assert (credential.expires <= wall) == key.expired(Moment(instant, PARIS))
    assert key.expired(Moment(instant, PARIS)) == (expires_on <= to_local(instant, PARIS))


def test_a_life_that_would_pass_the_last_year_ends_there(keystore: Path) -> None:
    """A key that ends on the last day can be rotated at any later time."""
    keys = registry(keystore, FIRST_PASS)
    keys.create("far", expires_on=LAST_SECOND)
    done = registry(keystore, FIRST_PASS + timedelta(days=400)).rotate("far")
    assert done is not None
    assert done.new.expires_on == LAST_SECOND


def test_nothing_is_found_before_it_is_needed(keystore: Path) -> None:
    """Keys without an expiry are made and looked at without a look at Java."""

    def never() -> LocalTime:
        raise AssertionError

    zone = ServerZone(never)
    keys = ApiKeys(keystore, zone=zone)
    keys.create("x")
    assert [key.expired(keys._now()) for key in keys.list()] == [False]


def test_the_order_of_the_sources() -> None:
    """The option counts before the policy, the policy before TZ."""
    now = datetime.now(UTC)

    def found(option: str | None, policy: str | None) -> LocalTime:
        environ = {"TZ": "Asia/Tokyo"}
        return find_local_time(option=option, policy=policy, environ=environ, java=None, now=now)

    assert found("UTC", "Europe/Paris")[1:] == ("UTC", "option", ())
    assert found(None, "Europe/Paris")[1:] == ("Europe/Paris", "policy", ())
    assert found(None, None)[1:3] == ("Asia/Tokyo", "environment")
    assert [note.code for note in found(None, None).notes] == ["timezone-from-environment"]


def test_a_zone_that_java_does_not_know_is_refused() -> None:
    """A name with a typing error is no zone, on the command line or in the policy."""
    with pytest.raises(InvalidArgumentError, match="'Europe/Pari' is not a time zone"):
        named_zone("Europe/Pari")
    zone = server_zone("k.p12", policy=lambda: "Europe/Pari", environ={})
    with pytest.raises(PolicyError, match=r"server\.timezone: 'Europe/Pari'"):
        zone.utcoffset(datetime(2027, 1, 1))


@given(st.datetimes(timezones=st.just(UTC)))
def test_windows_rules_hold_in_all_years(moment: datetime) -> None:
    """What the registry of a Windows in Paris says is the time of Paris, in all years."""
    values = {
        "TimeZoneKeyName": "Romance Standard Time\0junk",
        "Bias": (1 << 32) - 60,
        "StandardBias": 0,
        "DaylightBias": (1 << 32) - 60,
        "StandardStart": struct.pack("<8H", 0, 10, 0, 5, 3, 0, 0, 0),
        "DaylightStart": struct.pack("<8H", 0, 3, 0, 5, 2, 0, 0, 0),
    }
    name, zone = zone_from_registry(values)
    assert name == "Romance Standard Time"
    local = to_local(moment, zone)
    assert timedelta() <= local - moment.replace(tzinfo=None, microsecond=0) <= timedelta(hours=2)
    if 1997 <= moment.year < 9999:
        assert local == to_local(moment, PARIS)
