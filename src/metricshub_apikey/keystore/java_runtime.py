"""
The Java that MetricsHub runs on, as far as it decides about time: found and read, never started.

    >>> bool(find_java(("/nowhere",), ""))
    False
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable
from datetime import timedelta, timezone, tzinfo
from functools import cached_property

from .zone_rules import DAY, RuleZone, YearlyChange

RELEASE = re.compile(r'^JAVA_VERSION="(?:1\.)?([0-9]+)', re.MULTILINE)
MAX_SIZE = 1 << 22

WITHOUT_ETC_TIMEZONE = 25
"""The release from which on Java no longer reads /etc/timezone (JDK-8345213)."""

QUARTER = 900
FIRST_QUARTER = -4_575_744_000
"""What `java.time.zone.Ser` counts from: offsets and instants are mostly quarters of an hour."""


class Java:
    """
    One Java runtime.

    Attributes:
        home: Its folder.
        release: Its feature release, such as 17.
    """

    def __init__(self, home: str, release: int) -> None:
        """Take the runtime in *home*; nothing is read yet."""
        self.home = home
        self.release = release

    @cached_property
    def reads_etc_timezone(self) -> bool:
        """Whether it looks into /etc/timezone first; its library names the files it knows."""
        library = _read(os.path.join(self.home, "lib", "libjava.so"))
        if library is None:
            return self.release < WITHOUT_ETC_TIMEZONE
        return b"/etc/timezone" in library

    @cached_property
    def zones(self) -> Zones | None:
        """Its zone data; None where they cannot be read."""
        data = _read(os.path.join(self.home, "lib", "tzdb.dat"))
        try:
            return None if data is None else Zones(data)
        except (struct.error, ValueError, IndexError):
            return None


def find_java(folders: Iterable[str], path: str) -> Java | None:
    """
    Return the runtime that counts; None where there is none.

    Args:
        folders: Where an installation keeps its own, the first one counts.
        path: The variable PATH, for a `java` in it.
    """
    for folder in folders:
        if (java := _java_in(folder)) is not None:
            return java
    for folder in path.split(os.pathsep):
        program = os.path.join(folder, "java.exe" if os.name == "nt" else "java")
        if folder and os.access(program, os.X_OK):
            return _java_in(os.path.dirname(os.path.dirname(os.path.realpath(program))))
    return None


def _java_in(home: str) -> Java | None:
    release = _read(os.path.join(home, "release"))
    found = RELEASE.search(release.decode("utf-8", "replace")) if release else None
    return Java(home, int(found[1])) if found else None


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_SIZE)
    except OSError:
        return None


class Zones:
    """
    Java's own zone data, `lib/tzdb.dat`, in the form that `TzdbZoneRulesProvider` reads.

    They need not be those of the system: laws change, and Java comes with the laws of its day.
    """

    def __init__(self, data: bytes) -> None:
        """Read the names; raises struct.error or ValueError where *data* has another form."""
        reader = Reader(data)
        if reader.byte() != 1 or reader.text() != "TZDB":
            raise ValueError
        for _ in range(reader.short()):
            self.version = reader.text()
        names = [reader.text() for _ in range(reader.short())]
        rules = [reader.take(reader.short()) for _ in range(reader.short())]
        pairs = [(reader.short(), reader.short()) for _ in range(reader.short())]
        self._rules = {names[name]: rules[rule] for name, rule in pairs}

    def __contains__(self, name: str) -> bool:
        """Return whether Java knows the zone *name*."""
        return name in self._rules

    def zone(self, name: str) -> tzinfo:
        """Return the zone *name*; raises KeyError where Java does not know it."""
        return _read_rules(name, Reader(self._rules[name]))


class Reader:
    """Reads numbers as Java's `DataInput` does, and as `java.time.zone.Ser` packs them."""

    def __init__(self, data: bytes) -> None:
        """Start at the beginning of *data*."""
        self._data = data
        self._at = 0

    def take(self, length: int) -> bytes:
        """Return the next bytes."""
        self._at += length
        return self._data[self._at - length : self._at]

    def byte(self) -> int:
        """Return an unsigned byte."""
        return self.take(1)[0]

    def short(self) -> int:
        """Return an unsigned number of two bytes."""
        return int.from_bytes(self.take(2), "big")

    def integer(self, length: int = 4) -> int:
        """Return a signed number."""
        return int.from_bytes(self.take(length), "big", signed=True)

    def text(self) -> str:
        """Return an ASCII text with its length before it."""
        return self.take(self.short()).decode("ascii")

    def offset(self) -> int:
        """Return an offset from UTC, in seconds."""
        quarters = self.integer(1)
        return self.integer() if quarters == 127 else quarters * QUARTER

    def instant(self) -> int:
        """Return seconds since 1970 UTC."""
        high = self.byte()
        if high == 255:
            return self.integer(8)
        return ((high << 16) + self.short()) * QUARTER + FIRST_QUARTER


def _read_rules(name: str, reader: Reader) -> tzinfo:
    """Return what `ZoneRules.readExternal` reads."""
    if reader.byte() != 1:
        raise ValueError
    standard = reader.integer()
    for _ in range(standard):
        reader.instant()
    for _ in range(standard + 1):
        reader.offset()
    count = reader.integer()
    changes = [reader.instant() for _ in range(count)]
    offsets = [reader.offset() for _ in range(count + 1)]
    yearly = [_read_yearly(reader) for _ in range(reader.byte())]
    if not changes and not yearly:
        return timezone(timedelta(seconds=offsets[0]), name)
    return RuleZone(name, changes, offsets, yearly)


def _read_yearly(reader: Reader) -> YearlyChange:
    """Return what `ZoneOffsetTransitionRule.readExternal` reads."""
    bits = reader.integer() & 0xFFFFFFFF
    weekday = bits >> 19 & 7
    hour = bits >> 14 & 31
    clock = bits >> 12 & 3
    standard, before, after = bits >> 4 & 255, bits >> 2 & 3, bits & 3
    second = reader.integer() if hour == 31 else hour * 3_600
    standard = reader.integer() if standard == 255 else (standard - 128) * QUARTER
    before = reader.integer() if before == 3 else standard + before * 1_800
    after = reader.integer() if after == 3 else standard + after * 1_800
    return YearlyChange(
        month=bits >> 28,
        day=(bits >> 22 & 63) - 32,
        weekday=weekday - 1 if weekday else None,
        second=min(second, DAY),
        reference=(0, before, standard)[clock],
        before=before,
        after=after,
    )
