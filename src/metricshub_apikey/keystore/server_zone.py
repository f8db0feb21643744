"""
The server's time zone as a value, found when it is first asked for an offset.

How it is found is in `local_time`, which is imported then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property
from typing import NamedTuple

from .location import DEFAULT_INSTALLATION


class Note(NamedTuple):
    """
    What a user should know about the zone.

    Attributes:
        code: A stable name for scripts.
        message: One or two sentences for people.
    """

    code: str
    message: str


class LocalTime(NamedTuple):
    """
    The zone of the server.

    Attributes:
        zone: Its rules.
        name: What Java calls it, such as `Europe/Paris` or `GMT+05:00`.
        source: What decided: `option`, `policy`, `environment` (TZ), `etc-timezone`,
            `etc-localtime`, `windows`, or `default` (nothing says it: GMT).
        notes: Where it differs from what the user would expect, or is not certain.
    """

    zone: tzinfo
    name: str
    source: str
    notes: tuple[Note, ...] = ()


class ServerZone(tzinfo):
    """
    The server's zone as a value that finds itself out when it is first asked for an offset.

    A keystore whose keys have no expiry thus never costs a look at Java.
    """

    def __init__(
        self, find: Callable[[], LocalTime], notify: Callable[[Note], None] = lambda _note: None
    ) -> None:
        """
        Make a zone.

        Args:
            find: Finds it; called once.
            notify: Takes what the user should know about it, then.
        """
        self._find = find
        self._notify = notify

    @cached_property
    def found(self) -> LocalTime:
        """Which zone it is, and why."""
        found = self._find()
        for note in found.notes:
            self._notify(note)
        return found

    def __repr__(self) -> str:
        """Return what it is."""
        return f"ServerZone({self.found.name!r})"

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        """Return the offset from UTC at a local time."""
        zone = self.found.zone
        return zone.utcoffset(moment and moment.replace(tzinfo=zone))

    def fromutc(self, moment: datetime) -> datetime:
        """Return the local time at an instant."""
        zone = self.found.zone
        return zone.fromutc(moment.replace(tzinfo=zone)).replace(tzinfo=self)

    def dst(self, _moment: datetime | None) -> None:
        """Return None: whether an offset counts as summer time plays no part here."""
        return

    def tzname(self, _moment: datetime | None) -> str:
        """Return its name in Java."""
        return self.found.name


def server_zone(
    keystore: str,
    *,
    option: str | None = None,
    policy: Callable[[], str | None] = lambda: None,
    environ: Mapping[str, str] = os.environ,
    notify: Callable[[Note], None] = lambda _note: None,
) -> ServerZone:
    """
    Return the zone of the server that reads *keystore*; it finds itself out when it is asked.

    Args:
        keystore: The keystore's path; the Java runtime of its installation counts.
        option: The zone that the user named on the command line.
        policy: Returns the zone that the policy names.
        environ: The environment variables.
        notify: Takes what the user should know about the zone.
    """

    def find() -> LocalTime:
        from .java_runtime import find_java
        from .local_time import find_local_time

        java = find_java(runtime_folders(keystore), environ.get("PATH", ""))
        now = datetime.now(UTC)
        return find_local_time(
            option=option,
            policy=policy() if option is None else None,
            environ=environ,
            java=java,
            now=now,
        )

    return ServerZone(find, notify)


def runtime_folders(keystore: str) -> list[str]:
    """Return where the installation of *keystore* keeps its Java, the most likely place first."""
    above = os.path.dirname(os.path.dirname(os.path.realpath(keystore)))
    return [
        os.path.join(root, *inside)
        for root in (above, DEFAULT_INSTALLATION)
        for inside in (("runtime",), ("lib", "runtime"))
    ]
