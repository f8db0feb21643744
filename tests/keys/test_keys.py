"""API keys: aliases, the value of an entry, the mask, the lifetime, new keys."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clock import HERE, at
from metricshub_apikey.errors import EntryUnreadableError, InvalidArgumentError
from metricshub_apikey.keys.alias import CAPITAL_SIGMA, check_alias
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.durations import parse_duration
from metricshub_apikey.keys.expiry import Moment, after, instants, parse_stored
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.keys.value import decode, encode, new_key
from metricshub_apikey.pkcs12.bag import LAST_MS, fold
from metricshub_apikey.secret import MASK, Secret
from stock import Stock

SINCE_UNICODE_3_2 = [
    character
    for character in map(chr, range(0x110000))
    if unicodedata.ucd_3_2_0.category(character) not in ("Cn", "Cs", "Co", "Lo")
    and character != CAPITAL_SIGMA
]
"""Every Java and every Python knows these characters; letters without case (Lo) left out."""


def api_key(key: str | None, expires_on: datetime | None = None) -> ApiKey:
    """Return an API key of which nothing else matters."""
    return ApiKey("alias", Secret(key), expires_on, None)


@pytest.mark.parametrize(
    ("key", "masked"),
    [
        ("eb47c2be-927f-495f-aa97-0ba0f60b8986", "********************8986"),
        ("x" * 300 + "last", "********************last"),
        ("12345", "********************2345"),
        ("1234", "********************"),
        ("1", "********************"),
        ("", "********************"),
        (None, "********************"),
    ],
)
def test_mask(key: str | None, masked: str) -> None:
    """20 asterisks and four characters, or asterisks alone where four would be the whole key."""
    assert api_key(key).masked == masked


@given(st.text())
def test_mask_and_repr_never_show_more(key: str) -> None:
    """However long or odd a key is, four of its characters are all that is ever shown."""
    one = api_key(key)
    assert len(one.masked) in (20, 24)
    assert one.masked.startswith(MASK)
    assert repr(one) == f"ApiKey('alias', {one.masked}, expires_on=None)"


def test_expired_from_its_last_second_on() -> None:
    """A key is refused from the very second of its expiry on, as a server does."""
    end = datetime(2027, 12, 31, 23, 59, 59)
    assert not api_key("k", end).expired(
        Moment(datetime(2027, 12, 31, 23, 59, 58, tzinfo=UTC), UTC)
    )
    assert api_key("k", end).expired(Moment(end.replace(tzinfo=UTC), UTC))
    assert not api_key("k").expired(Moment(datetime.max.replace(tzinfo=UTC), UTC))


# What a key carries


def test_no_repr_shows_a_secret() -> None:
    """Of a key's secret a traceback may show four characters, wherever the key is in it."""
    metadata = Metadata("me@host", ("reader",), "ci", "nightly", (("env", "production"),))
    one = ApiKey("alias", Secret("metoro_secret_hunter2tail"), None, 0, None, metadata)
    for shown in (
        repr(one),
        str(one),
        f"{one}",
        repr([one]),
        repr(metadata),
        repr({one: metadata}),
    ):
        assert "hunter2" not in shown
        assert "secret" not in shown


def test_whom_a_service_sees() -> None:
    """The service account, or the alias where none was given."""
    assert api_key("k").principal == "alias"
    for account, principal in (("ci", "ci"), ("", "alias"), (None, "alias")):
        one = api_key("k")._replace(metadata=Metadata(service_account=account))
        assert one.principal == principal


def test_creation_times() -> None:
    """Milliseconds since 1970 become an instant in UTC; the last one that is read does, too."""
    made = [
        ApiKey("a", Secret("k"), None, ms).created_at
        for ms in (None, 0, 1_637_951_273_180, LAST_MS)
    ]
    assert made[:3] == [
        None,
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2021, 11, 26, 18, 27, 53, 180_000, tzinfo=UTC),
    ]
    assert made[3] is not None
    assert made[3].replace(microsecond=0) == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def made(created_at: datetime, expires_on: datetime | None) -> ApiKey:
    """Return a key made at an instant."""
    return ApiKey("alias", Secret("k"), expires_on, int(created_at.timestamp() * 1000))


@pytest.mark.parametrize("name", ["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("days", [1, 30, 90, 180, 365])
def test_clock_changes_do_not_change_a_lifetime(
    zone: Callable[[str], None], name: str, days: int
) -> None:
    """A life of 90 days is one, whatever the clock on the wall does in between."""
    zone(name)
    for month in range(1, 13):
        now = datetime(2027, month, 1, 12, tzinfo=UTC)
        one = made(now, after(at(now), timedelta(days=days)))
        assert one.lifetime(HERE) == timedelta(days=days)


@pytest.mark.parametrize(
    ("name", "expires_on", "first"),
    [
        ("Europe/Paris", datetime(2027, 10, 31, 2, 30), datetime(2027, 10, 31, 0, 30)),
        ("Europe/Paris", datetime(2027, 3, 28, 2, 30), datetime(2027, 3, 28, 0, 30)),
        ("America/New_York", datetime(2027, 11, 7, 1, 30), datetime(2027, 11, 7, 5, 30)),
        ("America/New_York", datetime(2027, 3, 14, 2, 30), datetime(2027, 3, 14, 6, 30)),
    ],
)
def test_a_lifetime_ends_at_the_first_instant_of_an_ambiguous_hour(
    zone: Callable[[str], None], name: str, expires_on: datetime, first: datetime
) -> None:
    """Where the clock shows the time twice, or never, the key must not live longer than asked."""
    zone(name)
    now = first.replace(tzinfo=UTC) - timedelta(days=1)
    assert made(now, expires_on).lifetime(HERE) == timedelta(days=1)


@given(st.integers(0, 999), st.sampled_from(["30m", "12h", "90d", "1y"]))
def test_a_lifetime_is_the_one_that_was_asked_for(millisecond: int, typed: str) -> None:
    """An expiry has whole seconds, a creation has not: the length comes back all the same."""
    now = datetime(2027, 5, 1, 12, 0, 0, millisecond * 1000, tzinfo=UTC)
    length = parse_duration(typed)
    assert made(now, after(at(now), length)).lifetime(HERE) == length


@given(st.datetimes(), st.integers(0, LAST_MS))
def test_lifetimes_are_whole_seconds(expires_on: datetime, created_ms: int) -> None:
    """However odd the times are that somebody stored, a lifetime is less than a second off."""
    one = ApiKey("alias", Secret("k"), expires_on, created_ms)
    life = one.lifetime(HERE)
    assert life is not None
    assert one.created_at is not None
    assert life.microseconds == 0
    assert abs(instants(expires_on, HERE)[0] - one.created_at - life) < timedelta(seconds=1)


def test_unknown_lifetimes() -> None:
    """Without an expiry, or without a creation time, nobody knows."""
    assert api_key("k").lifetime(HERE) is None
    assert api_key("k", datetime(2027, 1, 1)).lifetime(HERE) is None
    assert ApiKey("alias", Secret("k"), None, 0).lifetime(HERE) is None


# New keys


@given(st.binary(min_size=16, max_size=16))
def test_new_keys_are_random_uuids(random: bytes) -> None:
    """A key is a UUID version 4 that keeps 122 of the 128 random bits it is given."""
    asked: list[int] = []

    def random_bytes(count: int) -> bytes:
        asked.append(count)
        return random

    key = UUID(new_key(random_bytes))
    version_and_variant = 0xF000 << 64 | 0xC000 << 48
    kept = (1 << 128) - 1 - version_and_variant
    assert (asked, key.version) == ([16], 4)
    assert key.int & kept == int.from_bytes(random) & kept


# Aliases


@pytest.mark.parametrize(
    "alias",
    [
        "a",
        "A" * 128,
        "two words",
        "a.b/c:d\\e",
        "ünï-😀",
        "x-",
        "__",
        "ß",
        "日本",
        "'",
        "api_key:x",
    ],
)
def test_good_aliases(alias: str) -> None:
    """Spaces inside, punctuation and letters of any script are fine."""
    check_alias(alias)


@pytest.mark.parametrize(
    ("alias", "rule"),
    [
        ("", "1 to 128"),
        ("a" * 129, "1 to 128"),
        (" a", "white space"),
        ("a ", "white space"),
        ("a\u00a0", "white space"),
        ("a\u00a0b", "only the ordinary space"),
        ("a\u3000b", "only the ordinary space"),
        ("-x", "hyphen"),
        ("--yes", "hyphen"),
        ("\u1d160" * 128, "1 to 128"),
        ("\u3000a", "white space"),
        ("a\tb", "control"),
        ("a\nb", "control"),
        ("a\x00b", "control"),
        ("a\x1bb", "control"),
        ("a\x7fb", "control"),
        ("a\x85b", "control"),
        ("a\x9bb", "control"),
        ("a\u2028b", "line separator"),
        ("a\u2029b", "line separator"),
        ("a\u202eb", "text direction"),
        ("a\u2066b", "text direction"),
        ("a\u200fb", "text direction"),
        ("ΣΑΣ", "capital sigma"),
        ("a\udcffb", "valid Unicode"),
    ],
)
def test_bad_aliases(alias: str, rule: str) -> None:
    """An alias that could deceive or that Java would store otherwise is refused with the rule."""
    with pytest.raises(InvalidArgumentError, match=rule):
        check_alias(alias)


def test_aliases_fold_as_in_java(stock: Stock) -> None:
    """Every character that all runtimes know has the lower case that Java gives it."""
    for start in range(0, len(SINCE_UNICODE_3_2), 8192):
        block = "".join(SINCE_UNICODE_3_2[start : start + 8192])
        (answer,) = stock.ask("fold", block)
        assert answer == fold(block), hex(ord(block[0]))


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from(SINCE_UNICODE_3_2), min_size=1, max_size=40))
def test_whole_aliases_fold_as_in_java(stock: Stock, alias: str) -> None:
    """Characters do not change each other's lower case either."""
    try:
        check_alias(alias)
    except InvalidArgumentError:
        return
    assert stock.ask("fold", alias) == [fold(alias)]


@given(st.text(st.sampled_from(SINCE_UNICODE_3_2)))
def test_folding_twice_changes_nothing(alias: str) -> None:
    """A stored alias finds itself."""
    assert fold(fold(alias)) == fold(alias)


# The value of an entry


@given(
    st.uuids().map(str),
    st.none() | st.datetimes().map(lambda moment: moment.replace(microsecond=0)),
)
def test_encode_and_decode(key: str, expires_on: datetime | None) -> None:
    """What is written is read again."""
    assert decode(encode(key, expires_on)) == (key, expires_on)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"key", ("key", None)),
        (b"key__", ("key", None)),
        (b"key____", ("key", None)),
        (b"key_", ("key_", None)),
        (b"", ("", None)),
        (b"key__2027-12-31T23:59", ("key", datetime(2027, 12, 31, 23, 59))),
        (b"key__2027-12-31T23:59__more__2", ("key", datetime(2027, 12, 31, 23, 59))),
        ("schlüssel".encode(), ("schlüssel", None)),
    ],
)
def test_values_of_others(value: bytes, expected: tuple[str, datetime | None]) -> None:
    """Values that somebody else wrote are taken apart as a server does it."""
    assert decode(value) == expected


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"\xff", "it is not UTF-8"),
        (b"key__\xe4", "it is not UTF-8"),
        (b"__", "it has no key"),
        (b"____", "it has no key"),
        (b"key__2027-12-31", "its expiry is not a date time"),
        (b"key___2027-12-31T23:59", "its expiry is not a date time"),
        (b"key____x", "its expiry is not a date time"),
    ],
)
def test_unreadable_values(value: bytes, why: str) -> None:
    """What a server would stumble over is refused with the reason."""
    with pytest.raises(EntryUnreadableError) as caught:
        decode(value)
    assert caught.value.message == why


def as_java(stock: Stock, value: str) -> tuple[str, datetime | None] | None:
    """Return what a server makes of a value that has a key; None where it stumbles."""
    parts = [part.removeprefix("=") for part in stock.ask("split", value)]
    if not parts:
        return None
    try:
        return parts[0], parse_stored(parts[1]) if len(parts) > 1 else None
    except EntryUnreadableError:
        return None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["_", "__", "k", "é", "2027-12-31T23:59", "\n", "\\"]), max_size=7))
def test_values_split_as_in_java(stock: Stock, pieces: list[str]) -> None:
    """However many separators there are and wherever, the parts are those of Java's `split`."""
    value = "".join(pieces)
    try:
        found: tuple[str, datetime | None] | None = decode(value.encode())
    except EntryUnreadableError:
        found = None
    assert found == as_java(stock, value)
