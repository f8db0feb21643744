"""When keys were last used, kept by a Redis or Valkey server for all gateways together."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from metricshub_apikey.errors import ActivityError
from metricshub_apikey.gateway.usage import Times
from metricshub_apikey.policy.state import Address

from .client import PREFIX, connect, load_package, reason

if TYPE_CHECKING:
    import redis

LAST_USED = f"{PREFIX}last-used"
RECORDING_SINCE = f"{PREFIX}recording-since"
TIMEOUT_SECONDS = 2.0


class RedisRecord:
    """The last use of each key: a sorted set of fingerprints, by seconds since 1970."""

    def __init__(self, address: Address) -> None:
        """Name the server; nothing is opened yet."""
        self._address = address

    @cached_property
    def _client(self) -> redis.Redis:
        return connect(self._address, timeout=TIMEOUT_SECONDS)

    def record_uses(self, uses: Times) -> None:
        """Remember the latest of *uses* and of what is known; raises ActivityError."""
        if not uses:
            return
        times = {fingerprint: at.timestamp() for fingerprint, (_, at) in uses.items()}
        self._ask("written", "zadd", LAST_USED, times, gt=True)
        self._ask("written", "set", RECORDING_SINCE, min(times.values()), nx=True)

    def last_uses(self) -> dict[str, datetime]:
        """Return the last use of each key by its fingerprint, in UTC; raises ActivityError."""
        found = self._ask("read", "zrange", LAST_USED, 0, -1, withscores=True)
        return {key.decode(errors="replace"): self._moment(at) for key, at in found}

    def recording_since(self) -> datetime | None:
        """Return the first use that was ever recorded, in UTC; raises ActivityError."""
        at = self._ask("read", "get", RECORDING_SINCE)
        return None if at is None else self._moment(at)

    def _ask(self, done: str, command: str, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as Redis answers
        package = load_package()
        failures = (package.RedisError, package.exceptions.RedisClusterException)
        try:
            return getattr(self._client, command)(*arguments, **options)
        except (*failures, OSError, ValueError) as error:
            failed = f"The state at {self._address} cannot be {done}: {reason(error)}."
            raise ActivityError(failed) from error

    def _moment(self, seconds: float | bytes) -> datetime:
        try:
            return datetime.fromtimestamp(float(seconds), UTC)
        except (ValueError, OverflowError, OSError) as error:
            damaged = f"The state at {self._address} is damaged: a time in it cannot be read."
            raise ActivityError(damaged) from error
