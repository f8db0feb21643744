"""
The one rule for whether a key that a client sends is accepted, before what its roles permit.

The gateway, `verify` and the management API ask here, so a key that one of them refuses is refused
by all of them.

    >>> token_in(b"Bearer 3f2b1c4d")
    b'3f2b1c4d'
    >>> refusal(suspended=False, ends=1_000.0, wall=1_000.0)
    'expired'
"""

from __future__ import annotations

from typing import Literal

from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.expiry import Moment, wall_seconds

SCHEME = b"bearer"
LONGEST_TOKEN = 4_096
NEVER = float("inf")

Refusal = Literal["suspended", "expired"]


def token_in(header: bytes) -> bytes | None:
    """
    Return the token in the value of an Authorization header; empty where it holds none.

    Clients send `Bearer <key>` (RFC 6750), the scheme in any case, and the bare key.

    Args:
        header: The value, with or without white space around it.

    Returns:
        None where the value is something else than one token.
    """
    parts = header.split(None, 2)
    if parts and parts[0].lower() == SCHEME:
        del parts[0]
    if not parts:
        return b""
    return parts[0] if len(parts) == 1 and len(parts[0]) <= LONGEST_TOKEN else None


def refusal(*, suspended: bool, ends: float, wall: float) -> Refusal | None:
    """
    Return why a key is refused; None if it is accepted.

    Args:
        suspended: Whether it is refused until it is resumed.
        ends: What the server's clock shows when it ends, as `wall_seconds`; else `NEVER`.
        wall: What the server's clock shows now, the same.
    """
    if suspended:
        return "suspended"
    return "expired" if ends <= wall else None


def ends(key: ApiKey) -> float:
    """Return what the server's clock shows when *key* ends, as `wall_seconds`; else `NEVER`."""
    return NEVER if key.expires_on is None else wall_seconds(key.expires_on)


def refusal_of(key: ApiKey, now: Moment) -> Refusal | None:
    """Return why *key* is refused at *now*; None if it is accepted."""
    return refusal(suspended=key.suspended, ends=ends(key), wall=wall_seconds(now.local))
