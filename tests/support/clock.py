"""The server's local time as this process has it, also where a test moves to another zone."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache

from metricshub_apikey.keys.expiry import Moment
from metricshub_apikey.keystore.server_zone import ServerZone, server_zone


@lru_cache
def _zone(_variable: str | None) -> ServerZone:
    return server_zone("")


class Here(tzinfo):
    """The zone that TZ names now."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        """Return the offset at a local time."""
        zone = _zone(os.environ.get("TZ"))
        return zone.utcoffset(moment and moment.replace(tzinfo=zone))

    def fromutc(self, moment: datetime) -> datetime:
        """Return the local time at an instant."""
        zone = _zone(os.environ.get("TZ"))
        return zone.fromutc(moment.replace(tzinfo=zone)).replace(tzinfo=self)

    def dst(self, _moment: datetime | None) -> None:
        """Return None, as the zones of the product do."""

    def tzname(self, _moment: datetime | None) -> str:
        """Return a name."""
        return "here"


HERE = Here()


def at(instant: datetime) -> Moment:
    """Return the moment at an instant, here."""
    return Moment(instant, HERE)
