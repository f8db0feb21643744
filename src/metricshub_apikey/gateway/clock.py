"""The server's clock, read for every request: what it shows, as seconds."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

MINUTE = 60


class ServerClock:
    """
    Turns instants into what the server's clock shows.

    Offsets change on full minutes, so one that was looked up holds for the rest of its minute.
    """

    __slots__ = ("_minute", "_offset", "_zone")

    def __init__(self, zone: tzinfo) -> None:
        """Show the time of *zone*."""
        self._zone = zone
        self._minute = -1.0
        self._offset = 0.0

    def wall(self, now: float) -> float:
        """Return what the clock shows at *now* (seconds since 1970 UTC), as `wall_seconds`."""
        minute = now // MINUTE
        if minute != self._minute:
            offset = datetime.fromtimestamp(now, UTC).astimezone(self._zone).utcoffset()
            self._offset = offset.total_seconds() if offset else 0.0
            self._minute = minute
        return now + self._offset
