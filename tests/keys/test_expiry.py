"""Expiries: what users type, what is stored, and what a Java server makes of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clock import HERE, at
from metricshub_apikey.errors import EntryUnreadableError, InvalidArgumentError
from metricshub_apikey.keys.durations import parse_duration
from metricshub_apikey.keys.expiry import (
    after,
    instants,
    parse_date_time,
    parse_stored,
    text,
    to_local,
    utc_text,
)
from stock import Stock

Zone = Callable[[str], None]

ZONES = ["UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata", "Pacific/Kiritimati"]
WHOLE_SECONDS = st.datetimes().map(lambda moment: moment.replace(microsecond=0))


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("2027-12-31T23:59:59", "2027-12-31T23:59:59"),
        ("2027-12-31T23:59", "2027-12-31T23:59:00"),
        ("2027-12-31T00:00", "2027-12-31T00:00:00"),
        ("2027-12-31T23:59:59.1", "2027-12-31T23:59:59"),
        ("2027-12-31T23:59:59.999999999999", "2027-12-31T23:59:59"),
        ("2027-12-31", "2027-12-31T23:59:59"),
        ("2028-02-29", "2028-02-29T23:59:59"),
        ("9999-12-31", "9999-12-31T23:59:59"),
    ],
)
def test_local_forms(typed: str, stored: str) -> None:
    """Every documented local form is stored with its seconds and nothing finer."""
    assert text(parse_date_time(typed, HERE)) == stored


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("2027-06-30T12:00Z", "2027-06-30T08:00:00"),
        ("2027-12-31T23:59:59Z", "2027-12-31T18:59:59"),
        ("2027-12-31T23:59:59.9Z", "2027-12-31T18:59:59"),
        ("2027-12-31T23:59:59+01:00", "2027-12-31T17:59:59"),
        ("2027-12-31T23:59:59+0100", "2027-12-31T17:59:59"),
        ("2027-12-31T23:59-08:00", "2028-01-01T02:59:00"),
    ],
)
def test_instants_become_local(zone: Zone, typed: str, stored: str) -> None:
    """A time with `Z` or an offset is converted to the clock of this machine."""
    zone("America/New_York")
    assert text(parse_date_time(typed, HERE)) == stored


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "tomorrow",
        "2027",
        "2027-12",
        "2027-13-01",
        "2027-02-29",
        "2027-12-32",
        "0000-01-01",
        "27-12-31",
        "12027-12-31",
        "+2027-12-31",
        "20271231",
        "2027-W01-1",
        "2027-12-31 23:59",
        "2027-12-31t23:59",
        "2027-12-31T23",
        "2027-12-31T",
        "2027-12-31T24:00",
        "2027-12-31T23:60",
        "2027-12-31T23:59:60",
        "2027-12-31T23:59:59,5",
        "2027-12-31T23:59:59.",
        "2027-12-31Z",
        "2027-12-31T23:59z",
        "2027-12-31T23:59+25:00",
        "2027-12-31T23:59+1",
        "2027-12-31T23:59\n",
        " 2027-12-31T23:59",
        "2027-12-31T23:59[Europe/Paris]",
        "\u0662\u0660\u0662\u0667-12-31",
        "0001-01-01T00:00+14:00",
        "9999-12-31T23:59-14:00",
    ],
)
def test_other_forms_are_refused(typed: str) -> None:
    """What is no date time is named, with the form to use."""
    with pytest.raises(InvalidArgumentError) as caught:
        parse_date_time(typed, HERE)
    assert caught.value.message == f"'{typed}' is not a date time; use YYYY-MM-DDThh:mm:ss."


@given(WHOLE_SECONDS)
def test_what_is_stored_can_be_typed_and_read(moment: datetime) -> None:
    """The text of an expiry means the same typed by a user and read from a keystore."""
    assert parse_date_time(text(moment), HERE) == moment
    assert parse_stored(text(moment)) == moment


@given(WHOLE_SECONDS, st.from_regex(r"\.[0-9]{1,12}", fullmatch=True))
def test_fractions_are_cut_off(moment: datetime, fraction: str) -> None:
    """A fraction of a second never makes a key live longer."""
    assert parse_date_time(text(moment) + fraction, HERE) == moment


@pytest.mark.parametrize("name", ZONES)
def test_offsets_name_the_same_instant(zone: Zone, name: str) -> None:
    """Whatever its offset, a typed instant is the one that this machine's clock will show."""
    zone(name)
    for month in range(1, 13):
        instant = datetime(2031, month, 15, 22, 30, 15, tzinfo=UTC)
        expected = instant.astimezone().replace(tzinfo=None)
        for offset, hours in (("Z", 0), ("+00:00", 0), ("+14:00", 14), ("-12:00", -12)):
            shown = (instant + timedelta(hours=hours)).replace(tzinfo=None).isoformat()
            assert parse_date_time(shown + offset, HERE) == expected


@pytest.mark.parametrize(
    ("typed", "length"),
    [
        ("90d", timedelta(days=90)),
        ("12h", timedelta(hours=12)),
        ("30m", timedelta(minutes=30)),
        ("2w", timedelta(days=14)),
        ("1y", timedelta(days=365)),
        ("1d12h", timedelta(hours=36)),
        ("1y2w3d4h5m", timedelta(days=382, hours=4, minutes=5)),
        ("0d", timedelta()),
    ],
)
def test_durations(typed: str, length: timedelta) -> None:
    """Every documented unit works, alone and combined."""
    assert parse_duration(typed) == length


@pytest.mark.parametrize(
    "typed", ["", "90", "d", "-1d", "+1d", "1.5d", "1D", "1 d", "1d ", "1s", "1d\n", "\u0661d"]
)
def test_other_durations_are_refused(typed: str) -> None:
    """What is no length of time is named, with examples of what is."""
    with pytest.raises(InvalidArgumentError, match="is not a length of time; use 90d, 12h") as got:
        parse_duration(typed)
    assert got.value.message.startswith(f"'{typed}' ")


@given(st.lists(st.tuples(st.integers(0, 5000), st.sampled_from("ywdhm")), min_size=1, max_size=5))
def test_durations_add_up(parts: list[tuple[int, str]]) -> None:
    """A combined length is the sum of its parts, in any order."""
    typed = [f"{count}{unit}" for count, unit in parts]
    total = sum((parse_duration(part) for part in typed), start=timedelta())
    assert parse_duration("".join(typed)) == parse_duration("".join(reversed(typed))) == total


@pytest.mark.parametrize("typed", ["999999y", "9000y", "999999y" * 3, "999999y" * 50])
def test_too_long_a_life_is_refused(typed: str) -> None:
    """A length that no calendar holds is an error like any other."""
    with pytest.raises(InvalidArgumentError):
        after(at(datetime(2027, 1, 1, tzinfo=UTC)), parse_duration(typed))


@pytest.mark.parametrize("name", ["Pacific/Kiritimati", "Etc/GMT+12"])
def test_the_end_of_the_calendar(zone: Zone, name: str) -> None:
    """Within hours of the year 10000 there is a local time or an error, nothing else."""
    zone(name)
    last = datetime(9999, 12, 31, 23, 30, tzinfo=UTC)
    try:
        found = after(at(last), timedelta())
    except InvalidArgumentError as error:
        assert error.message == "The expiration is after the year 9999."  # noqa: PT017
    else:
        assert found.tzinfo is None
    first, final = instants(datetime(9999, 12, 31, 23, 59, 59), HERE)
    assert first <= final
    assert utc_text(first).endswith("Z")
    assert instants(datetime(1, 1, 1), HERE)[0].tzinfo is UTC


def test_after_never_rounds_up(zone: Zone) -> None:
    """A length of time ends in the whole second before its last moment."""
    zone("Europe/Paris")
    now = datetime(2027, 3, 27, 12, 0, 0, 999_999, tzinfo=UTC)
    assert after(at(now), timedelta(hours=1)) == datetime(2027, 3, 27, 14)
    assert after(at(now), timedelta(days=1)) == datetime(2027, 3, 28, 14), "24 hours, not a day"


@pytest.mark.parametrize(
    ("local", "first", "last"),
    [
        ("2027-10-31T02:30:00", "2027-10-31T00:30:00Z", "2027-10-31T01:30:00Z"),
        ("2027-03-28T02:30:00", "2027-03-28T00:30:00Z", "2027-03-28T01:30:00Z"),
        ("2027-10-31T03:00:00", "2027-10-31T02:00:00Z", "2027-10-31T02:00:00Z"),
        ("2027-03-28T01:59:59", "2027-03-28T00:59:59Z", "2027-03-28T00:59:59Z"),
        ("2027-07-01T12:00:00", "2027-07-01T10:00:00Z", "2027-07-01T10:00:00Z"),
    ],
)
def test_instants_around_clock_changes(zone: Zone, local: str, first: str, last: str) -> None:
    """A local time that a clock change doubles or leaves out has two readings, others one."""
    zone("Europe/Paris")
    assert [utc_text(one) for one in instants(parse_date_time(local, HERE), HERE)] == [first, last]


def test_local_time_has_no_trace_of_its_zone(zone: Zone) -> None:
    """What the wall clock shows is the same value in both of the doubled hours."""
    zone("Europe/Paris")
    both = [to_local(datetime(2027, 10, 31, hour, 30, tzinfo=UTC), HERE) for hour in (0, 1)]
    assert [repr(one) for one in both] == ["datetime.datetime(2027, 10, 31, 2, 30)"] * 2


# What Java reads


def java_moment(shown: str) -> datetime:
    """Return what `LocalDateTime.toString` wrote, as Python's calendar has it."""
    found = re.fullmatch(r"([+-]?\d+)(-..-..T..:..)(:..)?(?:\.(\d+))?", shown)
    assert found is not None
    year, rest, second, fraction = found.groups()
    if not 1 <= int(year) <= 9999:
        return datetime.max if int(year) > 0 else datetime.min
    micro = (fraction or "0")[:6].ljust(6, "0")
    return datetime.fromisoformat(f"{year}{rest}{second or ':00'}.{micro}")


def check_like_java(stock: Stock, stored: str) -> None:
    """Compare `parse_stored` with the verdict and the value of Java."""
    (answer,) = stock.ask("parse", stored)
    try:
        found: datetime | None = parse_stored(stored)
    except EntryUnreadableError:
        found = None
    verdict, _, shown = answer.partition(" ")
    assert found == (java_moment(shown) if verdict == "valid" else None), f"{stored!r}: {answer}"


@pytest.mark.parametrize(
    "stored",
    [
        "2027-12-31T23:59:59",
        "2027-12-31T23:59",
        "2027-12-31t23:59",
        "2027-12-31T23:59:59.",
        "2027-12-31T23:59:59.123456789",
        "2027-12-31T23:59:59.1234567890",
        "2027-12-31T23:59:59,5",
        "2027-12-31T23:59.5",
        "2027-12-31T24:00",
        "2027-12-31T24:00:00",
        "2027-12-31T23:60",
        "2027-12-31T23:59:60",
        "2027-12-31",
        "2027-12-31T",
        "2027-12-31T23",
        "2027-12-31 23:59",
        "2027-12-31T23:59Z",
        "2027-12-31T23:59+01:00",
        "2027-2-29T00:00",
        "2027-02-29T00:00",
        "2028-02-29T00:00",
        "2027-00-01T00:00",
        "2027-01-00T00:00",
        "20271231T235959",
        "2027-W01-1T00:00",
        "2027-001T00:00",
        "0000-02-29T00:00",
        "0000-12-31T23:59",
        "0001-01-01T00:00",
        "9999-12-31T23:59:59.999999999",
        "-0001-02-28T00:00",
        "-0004-02-29T00:00",
        "-0000-01-01T00:00",
        "-00000-01-01T00:00",
        "-0000000000-01-01T00:00",
        "-00001-01-01T00:00",
        "-2027-01-01T00:00",
        "-999999999-01-01T00:00",
        "-1000000000-01-01T00:00",
        "+0001-01-01T00:00",
        "+2027-01-01T00:00",
        "+02027-01-01T00:00",
        "+002027-01-01T00:00",
        "+0000002027-01-01T00:00",
        "+00000002027-01-01T00:00",
        "+00000-01-01T00:00",
        "+10000-02-29T00:00",
        "+10001-02-29T00:00",
        "+12000-02-29T00:00",
        "+999999999-12-31T23:59:59.999999999",
        "+1000000000-01-01T00:00",
        "+9999999999-01-01T00:00",
        "10000-01-01T00:00",
        "227-01-01T00:00",
        "",
        " ",
        "T",
        " 2027-12-31T23:59",
        "2027-12-31T23:59 ",
        "2027-12-31T23:59\n",
        "\u0662\u0660\u0662\u0667-12-31T23:59",
        "2027\u201312\u201331T23:59",
        "2027-12-31\u017f23:59",
        "null",
    ],
)
def test_stored_texts_read_as_in_java(stock: Stock, stored: str) -> None:
    """An expiry is readable exactly where `LocalDateTime.parse` of a server reads it."""
    check_like_java(stock, stored)


YEARS = st.one_of(
    st.integers(0, 9999).map("{:04}".format),
    st.builds(
        "{}{:0{}}".format,
        st.sampled_from(["", "+", "-"]),
        st.one_of(st.integers(0, 12000), st.integers(0, 10**10)),
        st.integers(1, 11),
    ),
)
TWO_DIGITS = st.one_of(st.integers(0, 62).map("{:02}".format), st.just("1"))
STORED = st.builds(
    "{}-{}-{}{}{}:{}{}{}".format,
    YEARS,
    TWO_DIGITS.filter(lambda shown: shown < "15"),
    TWO_DIGITS.filter(lambda shown: shown < "33"),
    st.sampled_from(["T", "T", "T", "t", " "]),
    TWO_DIGITS.filter(lambda shown: shown < "26"),
    TWO_DIGITS,
    st.one_of(st.just(""), TWO_DIGITS.map(":{}".format)),
    st.one_of(st.just(""), st.from_regex(r"[.,][0-9]{0,10}", fullmatch=True)),
)


@settings(max_examples=400, deadline=None)
@given(stored=STORED)
@example(stored="+02027-01-01T00:00")
def test_any_date_time_reads_as_in_java(stock: Stock, stored: str) -> None:
    """Years of any sign and width, odd days, times and fractions get Java's verdict and value."""
    check_like_java(stock, stored)


@settings(max_examples=150, deadline=None)
@given(stored=st.text(st.sampled_from("0123456789-+:.TtZ "), max_size=24))
def test_any_text_reads_as_in_java(stock: Stock, stored: str) -> None:
    """Texts that only look like date times get Java's verdict."""
    check_like_java(stock, stored)


@given(st.text())
def test_a_refusal_shows_nothing_of_the_text(stored: str) -> None:
    """An unreadable expiry may be a part of a key: it is not quoted."""
    try:
        parse_stored(stored)
    except EntryUnreadableError as error:
        assert error.message == "its expiry is not a date time"  # noqa: PT017
