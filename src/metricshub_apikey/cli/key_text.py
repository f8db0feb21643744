"""How a key reads for people: its line in a list, and when it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.durations import relative
from metricshub_apikey.keys.expiry import Moment, has_come, text

from .output import Output, green, red

UNREADABLE_MASK = "*" * 8


def line(key: ApiKey, now: Moment) -> str:
    """Return the line of `list` for one key."""
    refused = key.unreadable is not None or key.expired(now)
    alias = (red if refused else green)(escape(key.alias))
    if key.unreadable is not None:
        return f"{alias} {UNREADABLE_MASK} (Unreadable: {escape(key.unreadable)})"
    phrase = "Suspended" if key.suspended else expiry_phrase(key.expires_on, now)
    return f"{alias} {escape(key.masked)} ({phrase})"


def expiry_phrase(expires_on: datetime | None, now: Moment) -> str:
    """Return `No expiration`, `Expires on …` or `Expired on …`, by the server's clock."""
    if expires_on is None:
        return "No expiration"
    return f"{'Expired' if has_come(expires_on, now.local) else 'Expires'} on {text(expires_on)}"


def when(expires_on: datetime | None, now: Moment) -> str:
    """Return when a key ends and how far away that is, or `never`, by the server's clock."""
    return f"{text(expires_on)} ({relative(expires_on, now.local)})" if expires_on else "never"


def label_words(labels: Mapping[str, str]) -> str:
    """Return labels as a shell would take them: a label's value may have spaces."""
    from shlex import join

    return escape(join([f"{name}={value}" for name, value in labels.items()]))


def warn_of_unreadable(out: Output, keys: Sequence[ApiKey]) -> None:
    """Warn of those of the *keys* that a server cannot read."""
    unreadable = [key.alias for key in keys if key.unreadable is not None and not key.suspended]
    if unreadable:
        out.warn(
            f"{len(unreadable)} of the entries cannot be read ({', '.join(unreadable[:3])}): "
            "a stock server stops at the first of them and refuses every key stored after it."
        )
