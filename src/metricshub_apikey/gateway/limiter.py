"""Counting the requests of each key in this process, and what clients are told of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import lru_cache

from metricshub_apikey.http.asgi import Header
from metricshub_apikey.policy.rules import RateLimit
from metricshub_apikey.policy.window import Window


class MemoryLimiter:
    """An exact window for each key; all methods are called by one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Know no key yet.

        Args:
            clock: Returns seconds, and never goes back.
        """
        self._clock = clock
        self._windows: dict[str, Window] = {}

    async def take(self, fingerprint: str, limit: RateLimit) -> tuple[bool, list[Header]]:
        """Count a request if the limits allow it; return whether they do, and the headers."""
        now = self._clock()
        window = self._windows.get(fingerprint)
        if window is None or window.limit is not limit:
            window = self._window(fingerprint, limit, now)
        if window.take(now):
            return True, limit_headers(limit, *window.remaining(now))
        wait = window.retry_after(now)
        return False, refusal_headers(limit, window.remaining(now)[0], wait)

    def count(self, fingerprint: str, limit: RateLimit) -> None:
        """Count a request that another limiter has accepted."""
        now = self._clock()
        self._window(fingerprint, limit, now).count(now)

    def is_full(self, fingerprint: str, limit: RateLimit, *, ahead: float = 0.0) -> bool:
        """Return whether the minute allows no more requests, *ahead* seconds from now."""
        now = self._clock() + ahead
        return self._window(fingerprint, limit, now).remaining(now)[0] == 0

    def _window(self, fingerprint: str, limit: RateLimit, now: float) -> Window:
        window = self._windows.get(fingerprint)
        if window is None:
            window = self._windows[fingerprint] = Window(limit)
        elif window.limit is not limit and window.limit != limit:
            window = self._windows[fingerprint] = window.resized(limit, now)
        return window

    def keep(self, fingerprints: Collection[str]) -> None:
        """Forget the requests of all keys but these, and of those that made none for a while."""
        now = self._clock()
        self._windows = {
            key: window
            for key, window in self._windows.items()
            if key in fingerprints and window.remaining(now)[0] < window.limit.requests_per_minute
        }


def limit_headers(limit: RateLimit, remaining: int, reset: int) -> list[Header]:
    """
    Return the headers of draft-ietf-httpapi-ratelimit-headers-11, and the older ones.

    Args:
        limit: The quotas.
        remaining: How many requests the minute still allows.
        reset: In how many seconds it allows one more.
    """
    return [
        *_quota_headers(limit),
        (b"ratelimit", b'"minute";r=%d;t=%d' % (remaining, reset)),
        (b"x-ratelimit-remaining", b"%d" % remaining),
        (b"x-ratelimit-reset", b"%d" % reset),
    ]


@lru_cache(maxsize=16)
def _quota_headers(limit: RateLimit) -> tuple[Header, Header]:
    minute, second = limit
    policy = b'"minute";q=%d;w=60,"second";q=%d;w=1' % (minute, second)
    return (b"ratelimit-policy", policy), (b"x-ratelimit-limit", b"%d" % minute)


def refusal_headers(limit: RateLimit, remaining: int, wait: int) -> list[Header]:
    """Return the headers of a 429: the same, and in how many seconds to come again."""
    return [(b"retry-after", b"%d" % wait), *limit_headers(limit, remaining, wait)]
