"""
What Java makes of the ID of a time zone: a name, a legacy short name, or an offset such as GMT+5.

    >>> java_zone("GMT+5", None)[0]
    'GMT+05:00'
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import timedelta, timezone, tzinfo

from metricshub_apikey.errors import InvalidArgumentError

from .java_runtime import Java

SHORT_IDS: Mapping[str, str] = {
    "ACT": "Australia/Darwin",
    "AET": "Australia/Sydney",
    "AGT": "America/Argentina/Buenos_Aires",
    "ART": "Africa/Cairo",
    "AST": "America/Anchorage",
    "BET": "America/Sao_Paulo",
    "BST": "Asia/Dhaka",
    "CAT": "Africa/Harare",
    "CNT": "America/St_Johns",
    "CST": "America/Chicago",
    "CTT": "Asia/Shanghai",
    "EAT": "Africa/Addis_Ababa",
    "ECT": "Europe/Paris",
    "EST": "America/Panama",
    "HST": "Pacific/Honolulu",
    "IET": "America/Indiana/Indianapolis",
    "IST": "Asia/Kolkata",
    "JST": "Asia/Tokyo",
    "MIT": "Pacific/Apia",
    "MST": "America/Phoenix",
    "NET": "Asia/Yerevan",
    "NST": "Pacific/Auckland",
    "PLT": "Asia/Karachi",
    "PNT": "America/Phoenix",
    "PRT": "America/Puerto_Rico",
    "PST": "America/Los_Angeles",
    "SST": "Pacific/Guadalcanal",
    "VST": "Asia/Ho_Chi_Minh",
}
"""`java.time.ZoneId.SHORT_IDS`."""

FIXED_IDS: Mapping[str, int] = {"EST": -5, "HST": -10, "MST": -7}
"""Those that were hours from UTC and nothing else before release 24."""

NAMED_RELEASE = 24

WITHOUT_COLON = re.compile(r"GMT([+-])([0-9]+)")
WITH_COLON = re.compile(r"GMT([+-])([0-9]{0,2})((?::[0-9]{2}){1,2})")
NAME = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")
NOT_IN_JAVA = ("Factory", "GMT+0", "GMT-0", "ROC", "localtime", "posixrules")
"""Zones of the IANA database, or files beside them, that Java's own data leave out."""

STRICT_RELEASE = 21
"""
From this release on Java reads seconds in GMT+05:30:15, and refuses GMT+00530 and GMT+:30; of its
predecessors 17 does the opposite, and those between are no longer maintained.
"""

LARGEST_OFFSET = timedelta(hours=18)
"""The largest offset of `java.time`: beyond it, asking for the local time fails in Java."""


def named_zone(name: str, java: Java | None = None) -> tzinfo:
    """
    Return the zone that Java takes for `-Duser.timezone=NAME`.

    Args:
        name: Such as `Europe/Paris`, `GMT+5` (east of Greenwich) or `JST`.
        java: Whose names and zone data count; without one, those of `tzdata`.

    Raises:
        InvalidArgumentError: Java does not know such a zone.
    """
    zone = java_zone(name, java)
    if zone is None or is_beyond(zone):
        raise InvalidArgumentError(
            f"'{name}' is not a time zone that Java knows; use a name such as Europe/Paris or UTC."
        )
    return zone[1]


def java_zone(java_id: str, java: Java | None) -> tuple[str, tzinfo] | None:
    """Return the zone with an ID, and its name in Java; None where Java does not know it."""
    if java is not None and java.release < NAMED_RELEASE and java_id in FIXED_IDS:
        return java_id, timezone(timedelta(hours=FIXED_IDS[java_id]), java_id)
    meant = SHORT_IDS.get(java_id, java_id)
    rules = _rules(meant, java)
    return _custom(java_id, java) if rules is None else (java_id, rules)


def _rules(name: str, java: Java | None) -> tzinfo | None:
    zones = None if java is None else java.zones
    if zones is not None:
        return zones.zone(name) if name in zones else None
    return _tzdata(name)


def _tzdata(name: str) -> tzinfo | None:
    """
    Return a zone from the package `tzdata`, or else from the system.

    The system's files come second: where /etc/localtime is a link, binding a file over it in a
    container changes the zone file that it leads to.
    """
    from importlib import import_module
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if name in NOT_IN_JAVA or not NAME.fullmatch(name):
        return None
    try:
        package = os.path.dirname(import_module("tzdata").__file__ or "")
        with open(os.path.join(package, "zoneinfo", *name.split("/")), "rb") as file:
            return ZoneInfo.from_file(file, key=name)
    except (ImportError, OSError, ValueError):
        pass
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _custom(java_id: str, java: Java | None) -> tuple[str, tzinfo] | None:
    """Return the zone `GMT+5`, `GMT-05:30` and the like, as `parseCustomTimeZone` reads them."""
    strict = java is None or java.release >= STRICT_RELEASE
    if found := WITHOUT_COLON.fullmatch(java_id):
        sign, digits = found.groups()
        if strict and len(digits) > 4:
            return None
        parts = [int(digits), 0] if len(digits) <= 2 else list(divmod(int(digits), 100))
    elif found := WITH_COLON.fullmatch(java_id):
        sign, hours, more = found.groups()
        parts = [int(part or "0") for part in [hours, *more.split(":")[1:]]]
        if (not hours) if strict else len(parts) > 2:
            return None
    else:
        return None
    hour, minute, second = [*parts, 0][:3]
    if hour > 23 or minute > 59 or second > 59:
        return None
    return fixed(sign, hour, minute, second)


def fixed(sign: str, hours: int, minutes: int, seconds: int = 0) -> tuple[str, tzinfo]:
    """Return the zone with such an offset, and Java's name for it, such as `GMT+05:30`."""
    name = f"GMT{sign}{hours:02}:{minutes:02}" + (f":{seconds:02}" if seconds else "")
    offset = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return name, timezone(-offset if sign == "-" else offset, name)


def is_beyond(zone: tuple[str, tzinfo]) -> bool:
    """Return whether Java has no local time there."""
    rules = zone[1]
    offset = rules.utcoffset(None) if isinstance(rules, timezone) else None
    return offset is not None and abs(offset) > LARGEST_OFFSET
