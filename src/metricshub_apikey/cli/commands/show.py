"""`show`: everything about one key, but not the key itself."""

from __future__ import annotations

import click

from metricshub_apikey.cli.completion import complete_alias
from metricshub_apikey.cli.key_text import UNREADABLE_MASK, label_words, when
from metricshub_apikey.cli.options import Command, common_options, pass_session, state_option
from metricshub_apikey.cli.output import green
from metricshub_apikey.cli.result import Document, Result
from metricshub_apikey.cli.session import Session
from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.document import key_document
from metricshub_apikey.keys.expiry import Moment, text, to_local
from metricshub_apikey.keys.selection import Usage


class Shown(Result):
    """Everything about one key but the key itself."""

    def __init__(self, key: ApiKey, usage: Usage, *, keystore: str, now: Moment) -> None:
        self.key = key
        self.usage = usage
        self.keystore = keystore
        self.now = now

    def document(self) -> Document:
        """Return the fields that `list` has of it."""
        told = key_document(self.key, now=self.now, usage=self.usage)
        return {"keystore": self.keystore, **told}

    def lines(self) -> list[str]:
        """Return one field a line."""
        pairs = self._pairs(self.key)
        return [f"{name + ':':17}{value}" for name, value in pairs if value is not None]

    def _pairs(self, key: ApiKey) -> list[tuple[str, str | None]]:
        metadata, used = key.metadata, self.usage.of(key)
        rotated = metadata.rotated_at
        return [
            ("Alias", green(escape(key.alias))),
            ("Key", UNREADABLE_MASK if key.unreadable else escape(key.masked)),
            ("Unreadable", escape(key.unreadable) if key.unreadable else None),
            ("Suspended", "yes: servers refuse it" if key.suspended else None),
            ("Expires", None if key.unreadable else when(key.expires_on, self.now)),
            (
                "Created",
                text(to_local(key.created_at, self.now.zone)) if key.created_at else "unknown",
            ),
            ("Created by", escape(metadata.created_by or "unknown")),
            ("Last used", text(to_local(used, self.now.zone)) if used else "unknown"),
            ("Roles", escape(", ".join(metadata.roles)) or "-"),
            ("Service account", escape(metadata.service_account or "-")),
            ("Description", escape(metadata.description or "-")),
            ("Labels", label_words(dict(metadata.labels)) or "-"),
            (
                "Rotated",
                f"{text(to_local(rotated, self.now.zone))}: this is the old key"
                if rotated
                else None,
            ),
        ]


@click.command("show", cls=Command)
@click.argument("alias", shell_complete=complete_alias)
@state_option
@common_options()
@pass_session
def command(session: Session, *, alias: str) -> None:
    """
    Show everything about one key, but not the key itself.

    \b
    Example:
      apikey show ci-prod
    """
    usage = session.usage
    session.require_keystore()
    key = session.keys.get(alias)
    session.out.show(Shown(key, usage, keystore=session.location.path, now=session.now))
