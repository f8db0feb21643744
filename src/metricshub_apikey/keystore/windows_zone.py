"""The time zone of a Windows system, from its registry, by the rule that is in force there."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import timedelta, timezone, tzinfo

from .zone_rules import RuleZone, YearlyChange

KEY = r"SYSTEM\CurrentControlSet\Control\TimeZoneInformation"
NAMES = (
    "TimeZoneKeyName",
    "Bias",
    "StandardBias",
    "DaylightBias",
    "StandardStart",
    "DaylightStart",
    "DynamicDaylightTimeDisabled",
)
LAST_WEEK = 5


def system_zone() -> tuple[str, tzinfo]:
    """Return the zone that Windows is set to, and what Windows calls it."""
    import winreg

    values: dict[str, object] = {}
    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, KEY) as key:  # type: ignore[attr-defined,unused-ignore]
        for name in NAMES:
            try:
                values[name] = winreg.QueryValueEx(key, name)[0]  # type: ignore[attr-defined,unused-ignore]
            except FileNotFoundError:
                continue
    return zone_from_registry(values)


def zone_from_registry(values: Mapping[str, object]) -> tuple[str, tzinfo]:
    """
    Return what the values of the registry's key `TimeZoneInformation` say.

    Args:
        values: Names and values, as `winreg` reads them: numbers of minutes west of Greenwich,
            unsigned, and the changes as SYSTEMTIME structures, whose year is 0 in a yearly rule.
    """
    bias = _minutes(values, "Bias")
    standard = -60 * (bias + _minutes(values, "StandardBias"))
    daylight = -60 * (bias + _minutes(values, "DaylightBias"))
    name = str(values.get("TimeZoneKeyName") or "").split("\0")[0] or "Windows"
    ends = _change(values.get("StandardStart"), daylight, standard)
    begins = _change(values.get("DaylightStart"), standard, daylight)
    if ends is None or begins is None or values.get("DynamicDaylightTimeDisabled"):
        return name, timezone(timedelta(seconds=standard), name)
    yearly = sorted([begins, ends])
    return name, RuleZone(name, (), (yearly[0].before,), yearly)


def _minutes(values: Mapping[str, object], name: str) -> int:
    """Return a number that the registry holds as unsigned."""
    value = values.get(name)
    number = value if isinstance(value, int) else 0
    return number - (1 << 32) if number >= 1 << 31 else number


def _change(value: object, before: int, after: int) -> YearlyChange | None:
    """Return the yearly change that a SYSTEMTIME structure describes; None where there is none."""
    if not isinstance(value, bytes) or len(value) < 14:
        return None
    _, month, weekday, week, hour, minute, second = struct.unpack_from("<7H", value)
    if not month:
        return None
    return YearlyChange(
        month=month,
        day=-1 if week >= LAST_WEEK else 7 * (week - 1) + 1,
        weekday=(weekday - 1) % 7,
        second=hour * 3_600 + minute * 60 + second,
        reference=before,
        before=before,
        after=after,
    )
