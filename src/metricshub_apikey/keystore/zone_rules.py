"""
A time zone as lists of rules: what Java's zone data and the registry of Windows both say.

It is pure arithmetic, so it holds for the years 1 to 9999 on every system; a C library need not
know more than 1970 to 2037.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import MAXYEAR, MINYEAR, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - an origin for local and for UTC seconds
FIRST_DAY = EPOCH.toordinal()
SECOND = timedelta(seconds=1)
DAY = 86_400
WEEK = 7
DECEMBER = 12


class YearlyChange(NamedTuple):
    """
    A change of the clocks that happens every year.

    Attributes:
        month: 1 to 12.
        day: Of the month, counted from 1; from -1 down it is counted from the month's end.
        weekday: 0 is Monday: the first one on or after *day* (on or before a negative one); None
            means *day* itself.
        second: Of that day, on the clock that `reference` names; 86,400 is its end.
        reference: The offset of that clock from UTC, in seconds.
        before: The offset from UTC until then, in seconds.
        after: The offset from then on.
    """

    month: int
    day: int
    weekday: int | None
    second: int
    reference: int
    before: int
    after: int

    def instant(self, year: int) -> int:
        """Return when it happens in *year*, in seconds since 1970 UTC."""
        if self.day > 0:
            day = date(year, self.month, self.day).toordinal()
        elif self.month == DECEMBER:
            day = date(year, DECEMBER, 31).toordinal() + 1 + self.day
        else:
            day = date(year, self.month + 1, 1).toordinal() + self.day
        if self.weekday is not None:
            today = (day - 1) % WEEK
            if self.day > 0:
                day += (self.weekday - today) % WEEK
            else:
                day -= (today - self.weekday) % WEEK
        return (day - FIRST_DAY) * DAY + self.second - self.reference


class RuleZone(tzinfo):
    """A time zone made of changes that happened once, and of those that happen every year."""

    def __init__(
        self,
        name: str,
        changes: Sequence[int],
        offsets: Sequence[int],
        yearly: Sequence[YearlyChange] = (),
    ) -> None:
        """
        Make a zone.

        Args:
            name: For `tzname`.
            changes: The instants of the changes, in seconds since 1970 UTC, ascending.
            offsets: From UTC, in seconds: one before all changes, then one after each.
            yearly: What happens each year after the last change, in the order of the year.
        """
        self._name = name
        self._changes = changes
        self._offsets = offsets
        self._yearly = yearly
        self._in_year = lru_cache(maxsize=8)(self._changes_in)

    def __repr__(self) -> str:
        """Return its name."""
        return f"RuleZone({self._name!r})"

    def utcoffset(self, moment: datetime | None) -> timedelta:
        """Return the offset from UTC at a local time; its `fold` chooses where it is ambiguous."""
        if moment is None:
            return timedelta(seconds=self._offsets[-1])
        local = (moment.replace(tzinfo=None) - EPOCH) // SECOND
        before, after = self._around(local)
        fits_before, fits_after = self._fits(local, before), self._fits(local, after)
        if fits_before == fits_after:
            return timedelta(seconds=after if moment.fold else before)
        return timedelta(seconds=before if fits_before else after)

    def fromutc(self, moment: datetime) -> datetime:
        """Return the local time at an instant; `fold` is 1 where that time is there again."""
        instant = (moment.replace(tzinfo=None) - EPOCH) // SECOND
        offset = self._at(instant)
        before, _ = self._around(instant + offset)
        again = before > offset and self._fits(instant + offset, before)
        return (moment + timedelta(seconds=offset)).replace(fold=int(again))

    def dst(self, _moment: datetime | None) -> None:
        """Return None: whether an offset counts as summer time plays no part here."""
        return

    def tzname(self, _moment: datetime | None) -> str:
        """Return the zone's name, at any time."""
        return self._name

    def _around(self, local: int) -> tuple[int, int]:
        """Return the offsets a day before and after: no zone changes twice within two days."""
        return self._at(local - DAY), self._at(local + DAY)

    def _fits(self, local: int, offset: int) -> bool:
        return self._at(local - offset) == offset

    def _at(self, instant: int) -> int:
        """Return the offset at an instant, in seconds since 1970 UTC."""
        changes = self._changes
        if not self._yearly or (changes and instant <= changes[-1]):
            return self._offsets[bisect_right(changes, instant)]
        offset = self._offsets[-1]
        days = FIRST_DAY + (instant + offset) // DAY
        year = date.fromordinal(min(max(days, date.min.toordinal()), date.max.toordinal())).year
        for at, change in zip(self._in_year(year), self._yearly, strict=True):
            if instant < at:
                return change.before
            offset = change.after
        return offset

    def _changes_in(self, year: int) -> list[int]:
        return [change.instant(min(max(year, MINYEAR), MAXYEAR)) for change in self._yearly]
