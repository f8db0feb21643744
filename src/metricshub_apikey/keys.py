"""
API keys as MetricsHub keeps them: the alias, the value of an entry, when it ends, its metadata.

An entry's value is `<key>` or `<key>__<expiry>`, the expiry a local date time without a zone,
which a server compares with its own clock.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from .errors import EntryUnreadableError, InvalidArgumentError
from .expiry import lifetime, parse_stored, text
from .metadata import Metadata

ENTRY_PREFIX = "api_key:"
SEPARATOR = "__"
MAX_ALIAS = 128

FIELDS = ("roles", "service_account", "description", "labels")
"""The metadata that may be changed later."""

MASK = "*" * 20
SHOWN = 4

LINE_SEPARATORS = "\u2028\u2029"
BIDI_CONTROLS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
CAPITAL_SIGMA = "\u03a3"


class ApiKey(NamedTuple):
    """
    One API key.

    Attributes:
        alias: Its name, in lower case.
        key: The secret, exactly as a client sends it; None where it cannot be read.
        expires_on: Local date time from which on it is refused; None means never.
        created_ms: Milliseconds since 1970 UTC; None where nobody recorded it.
        unreadable: Why the entry cannot be read; None where it can.
        metadata: Who made it, what for, what it may do.
    """

    alias: str
    key: str | None
    expires_on: datetime | None
    created_ms: int | None
    unreadable: str | None = None
    metadata: Metadata = Metadata()

    def __repr__(self) -> str:
        """Show no secret."""
        return f"ApiKey({self.alias!r}, {self.masked}, expires_on={self.expires_on})"

    @property
    def masked(self) -> str:
        """20 asterisks and the last four characters; of a key that short, asterisks alone."""
        if self.key is None or len(self.key) <= SHOWN:
            return MASK
        return MASK + self.key[-SHOWN:]

    @property
    def created_at(self) -> datetime | None:
        """When it was made, in UTC; None where nobody recorded it."""
        return (
            None if self.created_ms is None else datetime.fromtimestamp(self.created_ms / 1000, UTC)
        )

    @property
    def lifetime(self) -> timedelta | None:
        """From its creation to its expiry, in whole seconds; None where one is unknown."""
        if self.expires_on is None or self.created_at is None:
            return None
        return lifetime(self.created_at, self.expires_on)

    @property
    def principal(self) -> str:
        """Whom a service sees: the service account, or else the alias."""
        return self.metadata.service_account or self.alias

    def expired(self, now: datetime) -> bool:
        """Return whether a server whose clock shows *now* (local) refuses the key."""
        return self.expires_on is not None and self.expires_on <= now


def differences(old: ApiKey, new: ApiKey) -> tuple[str, ...]:
    """Return in words what differs, of what may be changed: such as `expiry` and `roles`."""
    changed = [
        name for name in FIELDS if getattr(old.metadata, name) != getattr(new.metadata, name)
    ]
    expiry = ["expiry"] if old.expires_on != new.expires_on else []
    return tuple(expiry + [name.replace("_", " ") for name in changed])


def check_alias(alias: str) -> None:
    """
    Refuse what nobody should use as the alias of a new key.

    Java folds capital sigma in another way than Python, so it cannot be looked up reliably.

    Raises:
        InvalidArgumentError: With the rule that *alias* breaks.
    """
    if not 1 <= len(alias) <= MAX_ALIAS:
        raise InvalidArgumentError(f"An alias has 1 to {MAX_ALIAS} characters.")
    if alias != alias.strip():
        raise InvalidArgumentError("An alias has no white space at its ends.")
    if any(_is_control(character) for character in alias):
        raise InvalidArgumentError(
            "An alias has no control, text direction or line separator characters."
        )
    if CAPITAL_SIGMA in alias or any("\ud800" <= character <= "\udfff" for character in alias):
        raise InvalidArgumentError(
            "An alias has no capital sigma and only valid Unicode: Java would store another name."
        )


def _is_control(character: str) -> bool:
    return (
        character < " "
        or "\x7f" <= character <= "\x9f"
        or character in LINE_SEPARATORS
        or character in BIDI_CONTROLS
    )


def new_key(random_bytes: Callable[[int], bytes]) -> str:
    """Return a new key: a random UUID, version 4, with 122 random bits."""
    from uuid import UUID

    return str(UUID(bytes=random_bytes(16), version=4))


def encode(key: str, expires_on: datetime | None) -> bytes:
    """Return the value of an entry."""
    return (key if expires_on is None else f"{key}{SEPARATOR}{text(expires_on)}").encode()


def decode(value: bytes) -> tuple[str, datetime | None]:
    """
    Return the key and the expiry in the value of an entry, read as a stock server reads it.

    Java's `split` drops empty parts at the end; parts after the second are ignored.

    Raises:
        EntryUnreadableError: A stock server would stumble over it.
    """
    try:
        parts = value.decode().split(SEPARATOR)
    except UnicodeDecodeError:
        raise EntryUnreadableError("it is not UTF-8") from None
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    if not parts[0] and len(parts) == 1 and value:
        raise EntryUnreadableError("it has no key")
    return parts[0], parse_stored(parts[1]) if len(parts) > 1 else None
