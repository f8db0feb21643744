"""What scripts are told about one key: the fields of its JSON document, and never the secret."""

from __future__ import annotations

from .api_key import ApiKey
from .expiry import Moment, instants, text, utc_text
from .selection import Usage

KEY_FIELDS = (
    "alias",
    "masked",
    "expires_on",
    "expires_at",
    "expired",
    "suspended",
    "created_at",
    "created_by",
    "roles",
    "service_account",
    "description",
    "labels",
    "rotated_at",
    "last_used_at",
    "unreadable",
)
"""The names of the fields, which do not change: scripts rely on them."""


def key_document(key: ApiKey, *, now: Moment, usage: Usage) -> dict[str, object]:
    """
    Return what JSON says about *key*.

    A time is given as it is stored, in local time, and as an instant (RFC 3339 in UTC).

    Args:
        key: Its secret is not in the document.
        now: The current moment on the server's clock, which decides whether the key has expired.
        usage: What is known of the use of the keys.
    """
    try:
        return _key_document(key, now=now, usage=usage)
    except Exception as error:  # an odd key hides no other
        reason = key.unreadable or f"apikey cannot show it: {type(error).__name__}"
        known = {"alias": key.alias, "roles": [], "labels": {}, "expired": key.expired(now)}
        return {**dict.fromkeys(KEY_FIELDS), **known, "unreadable": reason}


def _key_document(key: ApiKey, *, now: Moment, usage: Usage) -> dict[str, object]:
    expires_on, metadata, used = key.expires_on, key.metadata, usage.of(key)
    values = (
        key.alias,
        None if key.unreadable else key.masked,
        text(expires_on) if expires_on else None,
        utc_text(instants(expires_on, now.zone)[0]) if expires_on else None,
        key.expired(now),
        key.suspended,
        utc_text(key.created_at) if key.created_at else None,
        metadata.created_by,
        list(metadata.roles),
        metadata.service_account,
        metadata.description,
        dict(metadata.labels),
        utc_text(metadata.rotated_at) if metadata.rotated_at else None,
        utc_text(used) if used else None,
        key.unreadable,
    )
    return dict(zip(KEY_FIELDS, values, strict=True))
