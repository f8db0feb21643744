"""
Lengths of time: what a user may type, and how they read in words.

    >>> spoken(parse_duration("1d12h"))
    '1 day 12 hours'
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from metricshub_apikey.errors import InvalidArgumentError

SECOND = timedelta(seconds=1)

TYPED = r"(?:[0-9]{1,6}[ywdhm])+"
UNITS = {
    "y": timedelta(days=365),
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
}

WORDS = {"day": 86_400, "hour": 3_600, "minute": 60, "second": 1}
"""How many seconds each unit has that is written out."""


def parse_duration(typed: str) -> timedelta:
    """
    Return a length of time such as `90d`, `12h`, `30m`, `2w`, `1y` (365 days) or `1d12h`.

    Raises:
        InvalidArgumentError: The text is not a length of time, or longer than the calendar.
    """
    if not re.fullmatch(TYPED, typed):
        raise InvalidArgumentError(
            f"'{typed}' is not a length of time; use 90d, 12h, 30m, 2w, 1y or 1d12h."
        )
    parts = re.findall(r"([0-9]+)(.)", typed)
    try:
        return sum((int(count) * UNITS[unit] for count, unit in parts), start=timedelta())
    except OverflowError:
        raise too_late() from None


def too_late() -> InvalidArgumentError:
    """Return the error that an expiry is after the end of the calendar."""
    return InvalidArgumentError("The expiration is after the year 9999.")


def spoken(length: timedelta) -> str:
    """Return a length of time in words, such as `1 day 12 hours`, to the second."""
    rest = length // SECOND
    parts = []
    for unit, seconds in WORDS.items():
        count, rest = divmod(rest, seconds)
        if count:
            parts.append(_counted(count, unit))
    return " ".join(parts) or "0 seconds"


def relative(moment: datetime, now: datetime) -> str:
    """Return how far away *moment* is from *now*, rounded: `in 12 days`, `3 hours ago`."""
    seconds = (moment - now).total_seconds()
    for unit in ("day", "hour", "minute"):
        count = round(abs(seconds) / WORDS[unit])
        if count and abs(seconds) >= WORDS[unit] / 2:
            length = _counted(count, unit)
            return f"in {length}" if seconds > 0 else f"{length} ago"
    return "in a moment" if seconds > 0 else "just now"


def _counted(count: int, unit: str) -> str:
    return f"{count:,} {unit}{'' if count == 1 else 's'}"
