"""One API key: its alias, its secret, when it ends, its metadata."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from metricshub_apikey.secret import Secret

from .expiry import Moment, has_come, lifetime
from .metadata import Metadata

ENTRY_PREFIX = "api_key:"
"""How the entry of a key begins that a server reads."""

SUSPENDED_PREFIX = "suspended_api_key:"
"""The same of a suspended key: to a stock server the entry is a foreign one, which it keeps."""

PENDING_PREFIX = "pending_api_key:"
"""The same of a key that its user does not hold yet: no server of any kind accepts it."""

FIELDS = ("roles", "service_account", "description", "labels")
"""The metadata that may be changed later."""


class ApiKey(NamedTuple):
    """
    One API key.

    Attributes:
        alias: Its name, in lower case.
        secret: What a client sends; `reveal` shows it.
        expires_on: Local date time from which on it is refused; None means never.
        created_ms: Milliseconds since 1970 UTC; None where it was not recorded.
        unreadable: Why the entry cannot be read; None where it can.
        metadata: Who made it, what for, what it may do.
        suspended: Whether every server refuses it until it is resumed.
    """

    alias: str
    secret: Secret
    expires_on: datetime | None
    created_ms: int | None
    unreadable: str | None = None
    metadata: Metadata = Metadata()
    suspended: bool = False

    def __repr__(self) -> str:
        """Show which key it is, and no secret."""
        return f"ApiKey({self.alias!r}, {self.masked}, expires_on={self.expires_on})"

    @property
    def entry(self) -> str:
        """The name of its entry in the keystore."""
        return (SUSPENDED_PREFIX if self.suspended else ENTRY_PREFIX) + self.alias

    @property
    def masked(self) -> str:
        """20 asterisks and the last four characters; of a key that short, asterisks alone."""
        return self.secret.masked

    @property
    def created_at(self) -> datetime | None:
        """When it was made, in UTC; None where it was not recorded."""
        return (
            None if self.created_ms is None else datetime.fromtimestamp(self.created_ms / 1000, UTC)
        )

    def lifetime(self, zone: tzinfo) -> timedelta | None:
        """Return its life in whole seconds, by the server's *zone*; None where it is unknown."""
        if self.expires_on is None or self.created_at is None:
            return None
        return lifetime(self.created_at, self.expires_on, zone)

    @property
    def principal(self) -> str:
        """Whom a service sees: the service account, or else the alias."""
        return self.metadata.service_account or self.alias

    def expired(self, now: Moment) -> bool:
        """Return whether the server refuses the key at *now*."""
        return self.expires_on is not None and has_come(self.expires_on, now.local)

    def expires_within(self, length: timedelta, *, now: Moment | None = None) -> bool:
        """
        Return whether the key has expired or will within *length*; False if it never expires.

        Args:
            length: From now on.
            now: The moment and the server's zone; None asks the clock of this machine.
        """
        if self.expires_on is None:
            return False
        local = now.local if now else datetime.now(UTC).astimezone().replace(tzinfo=None)
        return self.expires_on - local <= length


def differences(old: ApiKey, new: ApiKey) -> tuple[str, ...]:
    """Return in words what differs, of what may be changed: such as `expiry` and `roles`."""
    changed = [
        name for name in FIELDS if getattr(old.metadata, name) != getattr(new.metadata, name)
    ]
    expiry = ["expiry"] if old.expires_on != new.expires_on else []
    suspended = ["suspended"] if old.suspended != new.suspended else []
    return tuple(expiry + [name.replace("_", " ") for name in changed] + suspended)
