"""What each command's result looks like: lines for people, bare values, or a JSON document."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.expiry import (
    SECOND,
    Moment,
    end_of_repetition,
    has_come,
    instants,
    relative,
    text,
    to_local,
    utc_text,
)
from metricshub_apikey.keys.selection import Usage
from metricshub_apikey.keystore.location import Location

from .output import Document, Form, Output, escape

if TYPE_CHECKING:
    from metricshub_apikey.registry.rotation import Rotation

UNREADABLE_MASK = "*" * 8
STORE_IT = "Please store this key securely, as it will not be shown again."
NO_USAGE = Usage()

KEY_FIELDS = (
    "alias",
    "masked",
    "expires_on",
    "expires_at",
    "expired",
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


class View(NamedTuple):
    """
    What every result needs to know.

    Attributes:
        out: Where it goes.
        keystore: The keystore's path.
        now: The current moment, on the server's clock.
        usage: What is known of the keys' use.
    """

    out: Output
    keystore: str
    now: Moment
    usage: Usage = NO_USAGE

    def document(self, **fields: object) -> None:
        """Print the command's JSON document."""
        self.out.document({"keystore": self.keystore, **fields})


def show_created(view: View, key: ApiKey, *, alias: str, file: str | None) -> None:
    """
    Hand out a new key, or say into which file it was written.

    Args:
        view: Where to.
        key: The key.
        alias: As the user typed it.
        file: Where the key was written; None to print it here.
    """
    if view.out.form is Form.JSON:
        return view.document(created=True, **_handed_out(view, key, file))
    return _hand_out(view, key, "API key created for alias", alias, file)


def _handed_out(view: View, key: ApiKey, file: str | None) -> Document:
    return {**key_document(view, key), "key": None if file else key.key, "file": file}


def _hand_out(view: View, key: ApiKey, done: str, alias: str, file: str | None) -> None:
    out = view.out
    if out.form is Form.QUIET:
        return out.lines([] if file else [key.key or ""])
    secret = f"written to {escape(file)}" if file else out.green(key.key or "")
    phrase = expiry_phrase(key.expires_on, view.now)
    lines = [f"{done} '{out.green(escape(alias))}': {secret} ({phrase})"]
    return out.lines(lines if file else [*lines, STORE_IT])


def show_exists(view: View, alias: str) -> None:
    """Say that there was nothing to create; the key itself cannot be shown again."""
    view.out.note(f"An API key with alias '{alias}' exists already; nothing was created.")
    if view.out.form is Form.JSON:
        unknown = dict.fromkeys((*KEY_FIELDS, "key", "file"))
        view.document(created=False, **{**unknown, "alias": alias})


def show_rotated(view: View, done: Rotation, *, alias: str, file: str | None) -> None:
    """Hand out the new key of *alias*, and say how long the old one works."""
    kept = done.kept and done.old.expires_on is not None
    if view.out.form is Form.JSON:
        old = key_document(view, done.old) if kept else None
        return view.document(rotated=True, **_handed_out(view, done.new, file), old=old)
    if done.old.expires_on is not None and kept:
        until = text(done.old.expires_on)
        last = done.old.expires_on - SECOND
        again = end_of_repetition(last, view.now.zone) == done.old.expires_on
        why = ", when the clocks have repeated their hour" if again else ""
        view.out.note(f"The old key works until {until}{why}, as '{done.old.alias}'.")
    return _hand_out(view, done.new, "API key rotated for alias", alias, file)


def show_not_due(view: View, alias: str) -> None:
    """Say that there was nothing to rotate."""
    if view.out.form is not Form.QUIET:  # cron would mail it every night
        view.out.note(
            f"The API key '{alias}' does not expire within that time; nothing was changed."
        )
    if view.out.form is Form.JSON:
        unknown = dict.fromkeys((*KEY_FIELDS, "key", "file", "old"))
        view.document(rotated=False, **{**unknown, "alias": alias})


def show_finished(view: View, old: ApiKey) -> None:
    """Say that the old key of a rotation is gone."""
    if view.out.form is Form.JSON:
        view.document(finished=old.alias)
    elif view.out.form is Form.TEXT:
        view.out.lines([f"The old key '{escape(old.alias)}' has been removed."])


def warn_of_unreadable(out: Output, keys: Sequence[ApiKey]) -> None:
    """Warn of those of the *keys* that no server can read."""
    unreadable = [key.alias for key in keys if key.unreadable is not None]
    if unreadable:
        out.warn(
            f"{len(unreadable)} of the entries cannot be read ({', '.join(unreadable[:3])}): "
            "a stock server stops at the first of them and refuses every key stored after it."
        )


def show_keys(view: View, keys: Sequence[ApiKey], *, all_keys: bool = True) -> None:
    """List *keys*; *all_keys* tells whether they are all there are, or a selection."""
    out = view.out
    if out.form is Form.JSON:
        view.document(keys=[key_document(view, key) for key in keys])
    elif out.form is Form.CSV:
        out.table(KEY_FIELDS, (_csv_row(key_document(view, key)) for key in keys))
    elif out.form is Form.QUIET:
        out.lines([escape(key.alias) for key in keys])
    else:
        nothing = "No API keys found." if all_keys else "No such API keys found."
        out.lines([key_line(out, key, view.now) for key in keys] or [nothing])


def _csv_row(document: Document) -> list[str]:
    return [_csv_cell(value) for value in document.values()]


def _csv_cell(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        value = [f"{name}={held}" for name, held in value.items()]
    if isinstance(value, list):
        from shlex import join

        return escape(join(value))  # a label's value may have spaces
    return "" if value is None else escape(str(value))


def show_key(view: View, key: ApiKey) -> None:
    """Show everything about one key but the key itself."""
    document = key_document(view, key)
    if view.out.form is Form.JSON:
        return view.document(**document)
    used = view.usage.of(key)
    rotated = key.metadata.rotated_at
    shown = [
        ("Alias", view.out.green(escape(key.alias))),
        ("Key", UNREADABLE_MASK if key.unreadable else escape(key.masked)),
        ("Unreadable", escape(key.unreadable) if key.unreadable else None),
        ("Expires", None if key.unreadable else _when(key.expires_on, view.now)),
        ("Created", text(to_local(key.created_at, view.now.zone)) if key.created_at else "unknown"),
        ("Created by", escape(key.metadata.created_by or "unknown")),
        ("Last used", text(to_local(used, view.now.zone)) if used else "unknown"),
        ("Roles", escape(", ".join(key.metadata.roles)) or "-"),
        ("Service account", escape(key.metadata.service_account or "-")),
        ("Description", escape(key.metadata.description or "-")),
        ("Labels", _csv_cell(document["labels"]) or "-"),
        (
            "Rotated",
            f"{text(to_local(rotated, view.now.zone))}: this is the old key" if rotated else None,
        ),
    ]
    return view.out.lines([f"{name + ':':17}{value}" for name, value in shown if value is not None])


def show_edited(view: View, key: ApiKey, changed: Sequence[str]) -> None:
    """Say what is different now."""
    if view.out.form is Form.JSON:
        return view.document(changed=list(changed), **key_document(view, key))
    if not changed:
        return view.out.note(f"The API key '{key.alias}' is like that already.")
    name = view.out.green(escape(key.alias))
    phrase = f" ({expiry_phrase(key.expires_on, view.now)})" if "expiry" in changed else ""
    return view.out.lines([f"API key '{name}' has been changed: {', '.join(changed)}{phrase}."])


def show_revoked(view: View, aliases: Sequence[str]) -> None:
    """Say which keys are gone."""
    if view.out.form is Form.JSON:
        view.document(revoked=list(aliases))
    elif view.out.form is Form.TEXT:
        lines = [f"API key '{escape(alias)}' has been revoked." for alias in aliases]
        view.out.lines(lines or ["No such API keys found."])


def show_pruned(view: View, keys: Sequence[ApiKey], *, dry_run: bool) -> None:
    """Say which expired keys are gone, or would go."""
    aliases = [key.alias for key in keys]
    if view.out.form is Form.JSON:
        view.document(pruned=aliases, dry_run=dry_run)
    elif view.out.form is Form.QUIET:
        view.out.lines([escape(alias) for alias in aliases])
    else:
        done = "would be removed" if dry_run else "has been removed"
        view.out.lines(
            [f"{key_line(view.out, key, view.now)} {done}." for key in keys]
            or ["No keys expired that long ago."]
        )


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


def expiry_phrase(expires_on: datetime | None, now: Moment) -> str:
    """Return `No expiration`, `Expires on …` or `Expired on …`; both times are local."""
    if expires_on is None:
        return "No expiration"
    return f"{'Expired' if has_come(expires_on, now.local) else 'Expires'} on {text(expires_on)}"


def _when(expires_on: datetime | None, now: Moment) -> str:
    return f"{text(expires_on)} ({relative(expires_on, now.local)})" if expires_on else "never"


def key_line(out: Output, key: ApiKey, now: Moment) -> str:
    """Return the line of `list` for one key."""
    alias = out.green(escape(key.alias))
    if key.unreadable is not None:
        return f"{alias} {UNREADABLE_MASK} (Unreadable: {escape(key.unreadable)})"
    return f"{alias} {escape(key.masked)} ({expiry_phrase(key.expires_on, now)})"


def key_document(view: View, key: ApiKey) -> Document:
    """Return what JSON says of one key, but for the key itself."""
    expires_on, metadata, used = key.expires_on, key.metadata, view.usage.of(key)
    values = (
        key.alias,
        None if key.unreadable else key.masked,
        text(expires_on) if expires_on else None,
        utc_text(instants(expires_on, view.now.zone)[0]) if expires_on else None,
        key.expired(view.now),
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
