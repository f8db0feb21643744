"""`edit`: another expiry, other roles or another purpose for a key that stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from metricshub_apikey.cli.completion import complete_alias
from metricshub_apikey.cli.key_text import expiry_phrase
from metricshub_apikey.cli.options import (
    Command,
    asked_expiry,
    common_options,
    exclude,
    expiry_options,
    pass_session,
    roles_option,
)
from metricshub_apikey.cli.output import green
from metricshub_apikey.cli.result import Document, Result
from metricshub_apikey.cli.session import Session
from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.api_key import ApiKey, differences
from metricshub_apikey.keys.changes import Changes
from metricshub_apikey.keys.document import key_document
from metricshub_apikey.keys.expiry import Moment
from metricshub_apikey.keys.metadata import parse_labels
from metricshub_apikey.keys.selection import Usage


class Edited(Result):
    """A key as it is now, and what is different."""

    def __init__(self, key: ApiKey, changed: Sequence[str], *, keystore: str, now: Moment) -> None:
        self.key = key
        self.changed = changed
        self.keystore = keystore
        self.now = now

    def document(self) -> Document:
        """Return the names of what was changed, and the fields of the key."""
        told = key_document(self.key, now=self.now, usage=Usage())
        return {"keystore": self.keystore, "changed": [*self.changed], **told}

    def notes(self) -> list[str]:
        """Return that nothing was to be changed."""
        same = f"The API key '{self.key.alias}' is like that already."
        return [] if self.changed else [same]

    def lines(self) -> list[str]:
        """Return what is different in one sentence."""
        if not self.changed:
            return []
        name = green(escape(self.key.alias))
        expiry = f" ({expiry_phrase(self.key.expires_on, self.now)})"
        phrase = expiry if "expiry" in self.changed else ""
        return [f"API key '{name}' has been changed: {', '.join(self.changed)}{phrase}."]


@click.command("edit", cls=Command)
@click.argument("alias", shell_complete=complete_alias)
@expiry_options
@click.option("--no-expiry", is_flag=True, help="The key never expires.")
@roles_option("--add-role", "add_roles", "Give it that role")
@roles_option("--remove-role", "remove_roles", "Take that role away")
@click.option(
    "--label", "labels", metavar="NAME=VALUE", multiple=True, help="Set a label; may be repeated."
)
@click.option(
    "--remove-label",
    "remove_labels",
    metavar="NAME",
    multiple=True,
    help="Take a label away; may be repeated.",
)
@click.option("--service-account", metavar="NAME", help="Whom a service sees; '' for the alias.")
@click.option("--description", metavar="TEXT", help="What the key is for; '' for nothing.")
@common_options()
@pass_session
def command(
    session: Session,
    /,
    *,
    alias: str,
    expires_on: str | None,
    expires_in: str | None,
    no_expiry: bool,
    labels: tuple[str, ...],
    **fields: Any,  # noqa: ANN401 - the other fields of `Changes`
) -> None:
    """
    Change a key's expiry, roles or purpose; the key itself stays.

    \b
    Example:
      apikey edit ci-prod --add-role read-only --label env=production
    """
    exclude(
        [("--expires-on", expires_on), ("--expires-in", expires_in), ("--no-expiry", no_expiry)]
    )
    moment = asked_expiry(session, expires_on, expires_in)
    changes = Changes(moment, no_expiry, labels=dict(parse_labels(labels)), **fields)
    if not changes.names_something:
        raise InvalidArgumentError("Name something to change.")
    session.require_keystore()
    old, new = session.keys.edit(alias, policy=session.policy, **changes._asdict())
    edited = Edited(new, differences(old, new), keystore=session.location.path, now=session.now)
    session.out.show(edited, done="The API key has been changed")
