"""
The exact rate limit of one key: so many requests in any minute, and so many in any second.

A ring holds the times of the last accepted requests. A request may pass if the one that was
accepted a whole quota ago is longer ago than the window is. Fixed windows would let nearly twice as
many through at their border, and token buckets a burst on top; refused requests do not count.

    >>> window = Window(RateLimit(requests_per_minute=2, burst_per_second=2))
    >>> [window.take(now) for now in (0.0, 1.0, 59.0, 60.5, 61.5)]
    [True, True, False, True, True]
"""

from __future__ import annotations

from array import array
from math import ceil, floor

from .rules import RateLimit

MINUTE = 60.0
SECOND = 1.0
LONG_AGO = float("-inf")
FIRST_SIZE = 128


class Window:
    """
    The times of the last accepted requests of one key, 8 bytes each.

    Most keys make few requests, so the ring starts small and doubles until it holds the quota.

    Attributes:
        limit: How many there may be.
    """

    __slots__ = ("_burst", "_next", "_ring", "_used", "limit")

    def __init__(self, limit: RateLimit) -> None:
        """Start with no request at all."""
        self.limit = limit
        self._burst = min(limit.burst_per_second, limit.requests_per_minute)
        size = min(limit.requests_per_minute, FIRST_SIZE)
        self._ring = array("d", [LONG_AGO]) * size
        self._next = 0
        self._used = 0

    def take(self, now: float) -> bool:
        """
        Accept a request and count it, if both limits allow it.

        Args:
            now: Seconds on a clock that never goes back.
        """
        at = self._next
        ring = self._ring
        burst = self._burst
        if burst <= len(ring) and ring[at - burst] >= now - SECOND:
            return False
        if ring[at] >= now - MINUTE:
            if not self._grow():
                return False
            ring, at = self._ring, self._next
        ring[at] = now
        at += 1
        self._next = 0 if at == len(ring) else at
        self._used += 1
        return True

    def count(self, now: float) -> None:
        """Count a request that another limiter has accepted at *now*, without asking."""
        if self._ring[self._next] >= now - MINUTE:
            self._grow()
        self._ring[self._next] = now
        self._next = (self._next + 1) % len(self._ring)
        self._used += 1

    def _grow(self) -> bool:
        """Make room for more times, oldest first; return False if the ring holds the quota."""
        ring = self._ring
        size = min(2 * len(ring), self.limit.requests_per_minute)
        if size == len(ring):
            return False
        ordered = ring[self._next :] + ring[: self._next]
        self._next = len(ordered)
        self._ring = ordered + array("d", [LONG_AGO]) * (size - len(ordered))
        return True

    def remaining(self, now: float) -> tuple[int, int]:
        """Return how many requests the minute still allows, and in how many seconds one more."""
        ring = self._ring
        size = len(ring)
        used = min(self._used, size)
        start = now - MINUTE
        oldest = (self._next - used) % size
        while used and ring[oldest] < start:
            used -= 1
            oldest = oldest + 1 if oldest + 1 < size else 0
        self._used = used
        return self.limit.requests_per_minute - used, ceil(ring[oldest] - start) if used else 0

    def retry_after(self, now: float) -> int:
        """Return in how many whole seconds, at least 1, a refused request may come again."""
        at = self._next
        second = self._ring[at - self._burst] + SECOND - now
        full = len(self._ring) == self.limit.requests_per_minute
        minute = self._ring[at] + MINUTE - now if full else 0.0
        return max(1, floor(max(minute, second)) + 1)  # the window's border is part of it

    def resized(self, limit: RateLimit, now: float) -> Window:
        """Return a window for another *limit* in which the requests so far count."""
        window = Window(limit)
        ring = self._ring
        for time in ring[self._next :] + ring[: self._next]:
            if time >= now - MINUTE:
                window.count(time)
        return window
