"""
The server's local time: the zone that MetricsHub's Java finds, without starting Java.

A stock server compares an expiry with `LocalDateTime.now()`, in the zone of its JVM. Java finds
that zone in its own way (`TimeZone_md.c`, `java.util.TimeZone`) and has its own zone data, so the
answer need not be that of the C library, which Python and `date` give.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from metricshub_apikey.errors import InvalidArgumentError, PolicyError

from .java_runtime import Java
from .server_zone import LocalTime, Note
from .zone_ids import fixed, is_beyond, java_zone, named_zone

ETC_TIMEZONE = "/etc/timezone"
ETC_LOCALTIME = "/etc/localtime"
ZONEINFO = "/usr/share/zoneinfo"
FIRST_TRIED = ("UTC", "GMT")
SKIPPED = ("ROC", "posixrules", "localtime")
MAX_LINE = 255
MAX_ZONE_FILE = 1 << 20

CLEANING_RELEASE = 21
"""From this release on Java removes `//` and `..` from the link /etc/localtime; 17 does not."""

MONTH = timedelta(days=30)
MONTHS = 13


class Found(NamedTuple):
    """What one source says: a zone's ID, or None, and which source it is."""

    id: str | None
    source: str


def find_local_time(
    *,
    option: str | None,
    policy: str | None,
    environ: Mapping[str, str],
    java: Java | None,
    now: datetime,
    platform: str = sys.platform,
) -> LocalTime:
    """
    Return the zone that a server on this machine has.

    Args:
        option: The zone that the user named on the command line; the first that is named counts.
        policy: The zone that the policy file names.
        environ: The environment variables; Java on Windows does not look at TZ.
        java: The runtime whose order, names and zone data count; None where none was found.
        now: The current instant; zones are compared from then on.
        platform: As `sys.platform`.

    Raises:
        InvalidArgumentError: Java does not know the zone that *option* names.
        PolicyError: Java does not know the zone that *policy* names.
    """
    if option is not None:
        return LocalTime(named_zone(option, java), option, "option")
    if policy is not None:
        try:
            return LocalTime(named_zone(policy, java), policy, "policy")
        except InvalidArgumentError as error:
            raise PolicyError(f"The policy's server.timezone: {error.message}") from None
    if platform == "win32":
        from .windows_zone import system_zone

        name, zone = system_zone()
        return LocalTime(zone, name, "windows")
    files = _from_files(java, platform)
    from_environment = environ.get("TZ")
    found = Found(from_environment, "environment") if from_environment else files
    here = _local_time(found, java, now)
    if found is not files:
        there = _local_time(files, java, now)
        if not here.notes and not _agree(here.zone, there.zone, now):
            here = _noted(here, _environment_note(from_environment or "", here, there))
    elif (other := _other_order(java, platform, files)) is not None:
        there = _local_time(other, java, now)
        if not _agree(here.zone, there.zone, now):
            here = _noted(here, _unknown_order_note(here, there))
    return _compared_with_clock(here, now)


def _noted(found: LocalTime, note: Note) -> LocalTime:
    return found._replace(notes=(*found.notes, note))


def _environment_note(variable: str, here: LocalTime, there: LocalTime) -> Note:
    return Note(
        "timezone-from-environment",
        f"Expiries are read in {here.name}, for TZ is '{variable}' here; the files of this machine "
        f"say {there.name}. If the server runs without this TZ, use --timezone {there.name}.",
    )


def _unknown_order_note(here: LocalTime, there: LocalTime) -> Note:
    return Note(
        "timezone-uncertain",
        f"Expiries are read in {here.name}, from {ETC_TIMEZONE}; {ETC_LOCALTIME} says "
        f"{there.name}, and no Java runtime was found that shows which of them counts. "
        "Name the server's zone with --timezone.",
    )


def _compared_with_clock(found: LocalTime, now: datetime) -> LocalTime:
    """Add a note where this machine's clock shows another time, unless one says enough."""
    clock = now.astimezone().utcoffset()
    ours = now.astimezone(found.zone).utcoffset()
    if clock == ours or found.notes:
        return found
    shown = now.astimezone().strftime("%H:%M")
    theirs = now.astimezone(found.zone).strftime("%H:%M")
    return _noted(
        found,
        Note(
            "timezone-differs-from-clock",
            f"Expiries are read in {found.name}, where it is {theirs}, for so does Java; "
            f"the clock of this machine shows {shown}.",
        ),
    )


def _agree(one: tzinfo, other: tzinfo, now: datetime) -> bool:
    """Return whether two zones show the same time in the coming year."""
    moments = (now + number * MONTH for number in range(MONTHS))
    return all(
        moment.astimezone(one).utcoffset() == moment.astimezone(other).utcoffset()
        for moment in moments
    )


def _local_time(found: Found, java: Java | None, now: datetime) -> LocalTime:
    """Return what Java makes of an ID, as `TimeZone.setDefaultZone` does."""
    if found.id is None:
        return LocalTime(UTC, "GMT", "default")
    java_id = found.id.removeprefix(":").removeprefix("posix/")
    zone = java_zone(java_id, java)
    if zone is None:
        fixed = _clock_offset(now)
        note = Note(
            "timezone-uncertain",
            f"Java does not know the time zone '{java_id}': a server keeps the offset that its "
            f"clock has when it starts. Expiries are read in {fixed[0]}, the offset of now; "
            "name the server's zone with --timezone.",
        )
        return LocalTime(fixed[1], fixed[0], found.source, (note,))
    name, rules = zone
    if is_beyond(zone):
        note = Note(
            "timezone-uncertain",
            f"Java cannot tell the local time in {name}: a server there fails at each expiry.",
        )
        return LocalTime(rules, name, found.source, (note,))
    return LocalTime(rules, name, found.source)


def _clock_offset(now: datetime) -> tuple[str, tzinfo]:
    """Return the offset of the C library's clock as Java's `getGMTOffsetID` does, in minutes."""
    seconds = time.localtime(now.timestamp()).tm_gmtoff
    minutes = abs(seconds) // 60
    if not minutes:
        return "GMT", UTC
    sign = "-" if seconds < 0 else "+"
    return fixed(sign, minutes // 60, minutes % 60)


def _from_files(java: Java | None, platform: str) -> Found:
    """Return what the files of this machine say, in the order in which Java asks them."""
    reads_etc_timezone = java is None or java.reads_etc_timezone
    if platform == "linux" and reads_etc_timezone and (named := _etc_timezone()):
        return Found(named, "etc-timezone")
    named = _etc_localtime(java)
    return Found(named, "default" if named is None else "etc-localtime")


def _other_order(java: Java | None, platform: str, files: Found) -> Found | None:
    """Return what /etc/localtime says, where it is not known whether Java would ask it first."""
    if java is not None or platform != "linux" or files.source != "etc-timezone":
        return None
    return Found(_etc_localtime(java), "etc-localtime")


def _etc_timezone() -> str | None:
    """Return the first line of /etc/timezone."""
    try:
        with open(ETC_TIMEZONE, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            return file.readline(MAX_LINE).split("\n")[0].split("\0")[0] or None
    except OSError:
        return None


def _etc_localtime(java: Java | None) -> str | None:
    """Return the zone that /etc/localtime is: by the link's text, or else by its contents."""
    try:
        link = os.readlink(ETC_LOCALTIME)
    except OSError:
        link = ""
    if link and (java is None or java.release >= CLEANING_RELEASE):
        link = os.path.normpath(link)
    if "zoneinfo/" in link:
        return link.split("zoneinfo/", 1)[1]
    try:
        with open(ETC_LOCALTIME, "rb") as file:
            return _same_file(file.read(MAX_ZONE_FILE), ZONEINFO)
    except OSError:
        return None


def _same_file(data: bytes, folder: str) -> str | None:
    """Return the name of a zone file with these contents; folders are searched as Java does."""
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    tried = FIRST_TRIED if folder == ZONEINFO else ()
    for name in (*tried, *names):
        if name.startswith(".") or name in SKIPPED:
            continue
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            found = _same_file(data, path)
        elif _contents(path, len(data)) == data:
            found = path.split("zoneinfo/", 1)[1]
        else:
            continue
        if found is not None:
            return found
    return None


def _contents(path: str, size: int) -> bytes | None:
    try:
        if os.stat(path).st_size != size:
            return None
        with open(path, "rb") as file:
            return file.read(size + 1)
    except OSError:
        return None
