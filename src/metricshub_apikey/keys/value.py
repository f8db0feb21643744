"""
The value of an entry: `<key>` or `<key>__<expiry>`, as a stock server reads it.

The expiry is a local date time without a zone, which a server compares with its own clock.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from metricshub_apikey.errors import EntryUnreadableError

from .expiry import parse_stored, text

SEPARATOR = "__"


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
