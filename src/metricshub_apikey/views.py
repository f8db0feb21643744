"""What each command's result looks like: lines for people, bare values, or a JSON document."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime

from .expiry import instants, text, utc_text
from .keys import ApiKey
from .output import Document, Form, Output, escape
from .paths import Location

UNREADABLE_MASK = "*" * 8
KEY_FIELDS = (
    "alias",
    "masked",
    "expires_on",
    "expires_at",
    "expired",
    "created_at",
    "unreadable",
)


def show_created(
    out: Output, key: ApiKey, *, alias: str, file: str | None, keystore: str, now: datetime
) -> None:
    """
    Hand out a new key, or say into which file it was written.

    Args:
        out: Where to.
        key: The key.
        alias: As the user typed it.
        file: Where the key was written; None to print it here.
        keystore: The keystore's path.
        now: The local time.
    """
    if out.form is Form.JSON:
        shown = None if file else key.key
        fields = {"created": True, **key_document(key, now), "key": shown, "file": file}
        return out.document({"keystore": keystore, **fields})
    if out.form is Form.QUIET:
        return out.lines([] if file else [key.key or ""])
    secret = f"written to {escape(file)}" if file else out.green(key.key or "")
    name = out.green(escape(alias))
    phrase = expiry_phrase(key.expires_on, now)
    lines = [f"API key created for alias '{name}': {secret} ({phrase})"]
    if not file:
        lines.append("Please store this key securely, as it will not be shown again.")
    return out.lines(lines)


def show_exists(out: Output, alias: str, keystore: str) -> None:
    """Say that there was nothing to create; the key itself cannot be shown again."""
    out.note(f"An API key with alias '{alias}' exists already; nothing was created.")
    if out.form is Form.JSON:
        unknown = dict.fromkeys((*KEY_FIELDS, "key", "file"))
        out.document({"keystore": keystore, "created": False, **unknown, "alias": alias})


def show_keys(out: Output, keys: Sequence[ApiKey], *, keystore: str, now: datetime) -> None:
    """List *keys*; warn of those that no server can read. *now* is the local time."""
    unreadable = [key.alias for key in keys if key.unreadable is not None]
    if unreadable:
        out.warn(
            f"{len(unreadable)} of the entries cannot be read ({', '.join(unreadable[:3])}): "
            "a stock server stops at the first of them and refuses every key stored after it."
        )
    if out.form is Form.JSON:
        out.document({"keystore": keystore, "keys": [key_document(key, now) for key in keys]})
    else:
        out.lines([key_line(out, key, now) for key in keys] or ["No API keys found."])


def show_revoked(out: Output, aliases: Sequence[str], *, keystore: str) -> None:
    """Say which keys are gone."""
    if out.form is Form.JSON:
        out.document({"keystore": keystore, "revoked": list(aliases)})
    elif out.form is Form.TEXT:
        out.lines([f"API key '{escape(alias)}' has been revoked." for alias in aliases])


def show_location(out: Output, location: Location) -> None:
    """Say which keystore would be used, and why."""
    if out.form is Form.JSON:
        path, rule, reason = location
        exists = os.path.exists(path)
        out.document({"keystore": path, "rule": rule, "reason": reason, "exists": exists})
    elif out.form is Form.QUIET:
        out.lines([escape(location.path)])
    else:
        out.lines([f"{escape(location.path)} ({location.reason})"])


def show_script(out: Output, shell: str, script: str) -> None:
    """Print what *shell* must read."""
    if out.form is Form.JSON:
        out.document({"shell": shell, "script": script})
    else:
        out.lines([script])


def expiry_phrase(expires_on: datetime | None, now: datetime) -> str:
    """Return `No expiration`, `Expires on …` or `Expired on …`; both times are local."""
    if expires_on is None:
        return "No expiration"
    return f"{'Expired' if expires_on <= now else 'Expires'} on {text(expires_on)}"


def key_line(out: Output, key: ApiKey, now: datetime) -> str:
    """Return the line of `list` for one key."""
    alias = out.green(escape(key.alias))
    if key.unreadable is not None:
        return f"{alias} {UNREADABLE_MASK} (Unreadable: {escape(key.unreadable)})"
    return f"{alias} {escape(key.masked)} ({expiry_phrase(key.expires_on, now)})"


def key_document(key: ApiKey, now: datetime) -> Document:
    """Return what JSON says of one key, but for the key itself."""
    expires_on = key.expires_on
    created = None if key.created_ms is None else datetime.fromtimestamp(key.created_ms / 1000, UTC)
    values = (
        key.alias,
        None if key.unreadable else key.masked,
        text(expires_on) if expires_on else None,
        utc_text(instants(expires_on)[0]) if expires_on else None,
        key.expired(now),
        utc_text(created) if created else None,
        key.unreadable,
    )
    return dict(zip(KEY_FIELDS, values, strict=True))
