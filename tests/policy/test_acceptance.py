"""Which key is accepted: one rule for the gateway, `verify` and the page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.expiry import Moment, has_come, to_local
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.policy.acceptance import refusal_of, token_in
from metricshub_apikey.secret import Secret

BACK = datetime(2030, 10, 27, 1, tzinfo=UTC)
"""When the clocks of Paris are put back: the hour from two o'clock comes twice."""
MINUTES = st.integers(-180, 180).map(lambda minutes: timedelta(minutes=minutes))


def key(ends: datetime | None, *, suspended: bool = False) -> ApiKey:
    """Return a key that ends at a local date time."""
    made = ApiKey("ci", Secret("token"), ends, 0, None, Metadata())
    return made._replace(suspended=suspended)


@pytest.mark.parametrize("suspended", [False, True])
@given(now=MINUTES, ends=MINUTES)
def test_a_key_is_refused_when_its_server_refuses_it(
    *, now: timedelta, ends: timedelta, suspended: bool
) -> None:
    """Also in the hour that comes twice, in which a key that has ended works again."""
    zone = ZoneInfo("Europe/Paris")
    moment = Moment(BACK + now, zone)
    local = to_local(BACK + ends, zone)
    ended = has_come(local, moment.local)
    expected = "suspended" if suspended else "expired" if ended else None
    assert refusal_of(key(local, suspended=suspended), moment) == expected
    assert refusal_of(key(None, suspended=suspended), moment) == (expected if suspended else None)


@given(st.binary(max_size=40), st.sampled_from([b"", b"Bearer ", b"bearer\t", b" BEARER  "]))
def test_a_token_is_one_word(word: bytes, before: bytes) -> None:
    """What is accepted is what was put there, whole, or nothing."""
    assert token_in(before + word) in (word.strip(), None, b"", token_in(word))


def test_what_is_not_a_token() -> None:
    """Two words are not a token; a scheme alone is none at all."""
    assert token_in(b"Basic dTpw") is None
    assert token_in(b"Bearer a b") is None
    assert token_in(b"Bearer") == token_in(b" ") == b""
    assert token_in(b"x" * 5_000) is None
