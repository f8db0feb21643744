"""
When a key ends: what a user may type, what is stored, and which instant it is.

What is stored is a local date time without a zone, in whole seconds, because a stock server
compares it with the clock on its wall. Which zone that is, `keystore.local_time` finds out; here it
is an argument.

    >>> text(parse_date_time("2027-12-31", UTC))
    '2027-12-31T23:59:59'
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from metricshub_apikey.errors import EntryUnreadableError, InvalidArgumentError

from .durations import SECOND, too_late

TYPED = (
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:T(?P<minute>(?:[01][0-9]|2[0-3]):[0-9]{2})(?:(?P<second>:[0-9]{2})(?:\.[0-9]+)?)?"
    r"(?P<zone>Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)

STORED = (
    r"(?P<year>[0-9]{4}|-[0-9]{4,10}|\+[0-9]{5,10})(?P<day>-[0-9]{2}-[0-9]{2})"
    r"[Tt](?P<minute>(?:[01][0-9]|2[0-3]):[0-9]{2})(?:(?P<second>:[0-9]{2})(?:\.(?P<fraction>[0-9]{0,9}))?)?"
)
"""The grammar of Java's `LocalDateTime.parse` (ISO_LOCAL_DATE_TIME)."""

LAST_JAVA_YEAR = 999_999_999
LEAP_YEAR, COMMON_YEAR = "2000", "2001"


LAST_SECOND = datetime.max.replace(microsecond=0)


class Moment(NamedTuple):
    """
    An instant, and the zone of the server.

    Attributes:
        instant: With a zone of its own, such as UTC.
        zone: The server's; it may find itself out when it is first asked for an offset.
    """

    instant: datetime
    zone: tzinfo

    @property
    def local(self) -> datetime:
        """What the server's clock shows, in whole seconds."""
        return to_local(self.instant, self.zone)

    def before(self, length: timedelta) -> Moment:
        """Return the moment that much earlier, or the first one of the calendar."""
        first = datetime.min.replace(tzinfo=UTC)
        return self._replace(instant=self.instant - min(length, self.instant - first))


def text(expires_on: datetime) -> str:
    """Return a local date time as it is stored and shown: `YYYY-MM-DDThh:mm:ss`."""
    return expires_on.isoformat(timespec="seconds")


def utc_text(moment: datetime) -> str:
    """Return an instant as RFC 3339 in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def parse_date_time(typed: str, zone: tzinfo) -> datetime:
    """
    Return the local date time a user typed, in whole seconds, never later than typed.

    Args:
        typed: `YYYY-MM-DDThh:mm[:ss[.fraction]]`, local or with `Z` or an offset, or
            `YYYY-MM-DD` for the last second of that day.
        zone: The server's, for what is not local.

    Raises:
        InvalidArgumentError: It has none of these forms.
    """
    found = re.fullmatch(TYPED, typed)
    if found is None:
        raise _not_a_date_time(typed)
    minute, second, offset = found["minute"], found["second"], found["zone"]
    time = "23:59:59" if minute is None else minute + (second or ":00")
    try:
        moment = datetime.fromisoformat(f"{found['date']}T{time}{offset or ''}")
        return moment if offset is None else on_the_wall(moment, zone)
    except (ValueError, OverflowError):
        raise _not_a_date_time(typed) from None


def _not_a_date_time(typed: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"'{typed}' is not a date time; use YYYY-MM-DDThh:mm:ss.")


def after(now: Moment, duration: timedelta) -> datetime:
    """
    Return the local date time *duration* after *now*, in whole seconds, not later.

    Raises:
        InvalidArgumentError: That is after the year 9999.
    """
    try:
        return on_the_wall(now.instant.astimezone(UTC) + duration, now.zone)
    except OverflowError:
        raise too_late() from None


def to_local(moment: datetime, zone: tzinfo) -> datetime:
    """
    Return what a clock in *zone* shows at the instant *moment*, in whole seconds.

    At the ends of the calendar that is its first or its last second.
    """
    try:
        return on_the_wall(moment, zone)
    except OverflowError:
        end = datetime.max if moment.year > 1 else datetime.min
        return end.replace(microsecond=0)


def on_the_wall(moment: datetime, zone: tzinfo) -> datetime:
    """Like `to_local`, but at the ends of the calendar this raises OverflowError."""
    return moment.astimezone(zone).replace(tzinfo=None, microsecond=0, fold=0)


def instants(expires_on: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
    """
    Return the first and the last instant, in UTC, that a local date time can mean.

    They differ where the clock change makes it ambiguous or leaves it out. A key must not live
    longer than asked, so the first one counts.
    """
    both = []
    for fold in (0, 1):
        try:
            both.append(expires_on.replace(tzinfo=zone, fold=fold).astimezone(UTC))
        except (ValueError, OverflowError):  # at the ends of the calendar
            both.append(expires_on.replace(tzinfo=UTC))
    return min(both), max(both)


def has_come(expires_on: datetime, now: datetime) -> bool:
    """
    Return whether a server refuses a key that expires then: the one rule for "expired".

    A stock server compares date times without a zone, so in an hour that the clocks repeat a key
    that had expired is accepted once more.

    Args:
        expires_on: Local date time.
        now: What the server's clock shows.
    """
    return expires_on <= now


def wall_seconds(local: datetime) -> float:
    """Return a local date time as seconds, to compare it as `has_come` does but faster."""
    return local.replace(tzinfo=UTC).timestamp()


def end_of_repetition(expires_on: datetime, zone: tzinfo) -> datetime | None:
    """
    Return the end of the time that the clocks show twice; None unless *expires_on* lies in it.

    Args:
        expires_on: Local date time.
        zone: The server's.
    """
    first, last = instants(expires_on, zone)
    if first == last or to_local(first, zone) != expires_on:  # clear, or left out
        return None
    shift, later = last - first, _offset(last, zone)
    while last - first > SECOND:  # between the two the clocks are put back
        middle = first + (last - first) // 2
        first, last = (first, middle) if _offset(middle, zone) == later else (middle, last)
    return to_local(last, zone) + shift


def _offset(instant: datetime, zone: tzinfo) -> timedelta | None:
    return instant.astimezone(zone).utcoffset()


def lifetime(created_at: datetime, expires_on: datetime, zone: tzinfo) -> timedelta:
    """
    Return how long a key was meant to live, in whole seconds.

    It is rounded up: the expiry lacks the fraction of a second that the creation has.

    Args:
        created_at: An instant, with a zone.
        expires_on: Local date time.
        zone: The server's.
    """
    exact = instants(expires_on, zone)[0] - created_at
    return -(-exact // SECOND) * SECOND


def parse_stored(stored: str) -> datetime:
    """
    Return a stored expiry, if a stock server can read it.

    Years that Python's calendar lacks become its first or last moment.

    Raises:
        EntryUnreadableError: Java's `LocalDateTime.parse` would refuse it.
    """
    found = re.fullmatch(STORED, stored)
    year = int(found["year"]) if found else 0
    if found is None or abs(year) > LAST_JAVA_YEAR or (not year and found["year"][0] == "-"):
        raise _odd_expiry()
    inside = 1 <= year <= datetime.max.year
    shown = f"{year:04}" if inside else _stand_in(year)
    fraction = (found["fraction"] or "0")[:6]
    try:
        moment = datetime.fromisoformat(
            f"{shown}{found['day']}T{found['minute']}{found['second'] or ':00'}.{fraction:0<6}"
        )
    except ValueError:
        raise _odd_expiry() from None
    if inside:
        return moment
    return datetime.max if year > 0 else datetime.min


def _stand_in(year: int) -> str:
    """Return a year with as many days as *year*, to check a date in it."""
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return LEAP_YEAR if leap else COMMON_YEAR


def _odd_expiry() -> EntryUnreadableError:
    # Not quoted: in a key with two underscores it is a part of the key.
    return EntryUnreadableError("its expiry is not a date time")
