"""Which keys are meant: filters that a user can combine, and what is known of a key's use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from metricshub_apikey.errors import InvalidArgumentError

from .api_key import ApiKey
from .expiry import Moment


class Usage(NamedTuple):
    """
    When keys were last used, as far as it was recorded.

    Attributes:
        last: The last use, in UTC, by the key's fingerprint.
        since: The first use that was ever recorded, in UTC; None where there is none.
    """

    last: Mapping[str, datetime] = {}
    since: datetime | None = None

    def of(self, key: ApiKey) -> datetime | None:
        """Return when *key* was last used, in UTC; None where it was not recorded."""
        if not key.secret or not self.last:
            return None
        from .fingerprint import fingerprint

        return self.last.get(fingerprint(key.secret.reveal()))

    def unused(self, key: ApiKey, *, since: datetime) -> bool | None:
        """
        Return whether *key* was not used after the instant *since*; None where that is unknown.

        A key without a recorded use was unused if uses were being recorded all the time.
        """
        last = self.of(key)
        if last is not None:
            return last < since
        if key.created_at is not None and key.created_at > since:
            return False
        return True if self.since is not None and self.since <= since else None


class Selection(NamedTuple):
    """
    What a key must be or have; the default is any key.

    Attributes:
        expired: It has expired; together with *expiring_in*, either of the two.
        expiring_in: It expires within this time.
        unused_for: It was not used for that long, and a use would have been recorded.
        roles: It has all of these.
        labels: It has all of these, as `name=value`, or `name` for any value.
        created_by: Who made it: `user@host`, or `user`.
    """

    expired: bool = False
    expiring_in: timedelta | None = None
    unused_for: timedelta | None = None
    roles: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    created_by: str | None = None

    def check(self) -> None:
        """Refuse a filter that no key could match; raises InvalidArgumentError."""
        for label in self.labels:
            if not label.partition("=")[0]:
                raise InvalidArgumentError(f"'{label}' is not a label; use name=value.")

    def select(self, keys: Iterable[ApiKey], *, now: Moment, usage: Usage) -> tuple[ApiKey, ...]:
        """
        Return those of the *keys* that are meant, in their order.

        Args:
            keys: From one keystore.
            now: The current moment.
            usage: What is known of their use.
        """
        ends = None if self.expiring_in is None else _later(now.local, self.expiring_in)
        unused_since = None if self.unused_for is None else _earlier(now.instant, self.unused_for)
        return tuple(
            key
            for key in keys
            if self._fits_expiry(key, now, ends)
            and (unused_since is None or usage.unused(key, since=unused_since))
            and set(self.roles) <= set(key.metadata.roles)
            and all(_has_label(key, label) for label in self.labels)
            and (self.created_by is None or _made_by(key, self.created_by))
        )

    def _fits_expiry(self, key: ApiKey, now: Moment, ends: datetime | None) -> bool:
        if not self.expired and ends is None:
            return True
        if key.expired(now):
            return self.expired
        return ends is not None and key.expires_on is not None and key.expires_on <= ends


def _later(now: datetime, length: timedelta) -> datetime:
    return now + min(length, datetime.max.replace(tzinfo=now.tzinfo) - now)


def _earlier(now: datetime, length: timedelta) -> datetime:
    return now - min(length, now - datetime.min.replace(tzinfo=now.tzinfo))


def _has_label(key: ApiKey, label: str) -> bool:
    name, equals, value = label.partition("=")
    return any(
        name == known and (not equals or value == held) for known, held in key.metadata.labels
    )


def _made_by(key: ApiKey, who: str) -> bool:
    maker = key.metadata.created_by or ""
    return who in (maker, maker.partition("@")[0])
