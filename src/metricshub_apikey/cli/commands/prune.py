"""`prune`: the keys that expired long ago are removed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import click

from metricshub_apikey.cli.key_text import line
from metricshub_apikey.cli.options import (
    Command,
    common_options,
    length,
    pass_session,
    quiet,
    yes_option,
)
from metricshub_apikey.cli.removal import remove_agreed
from metricshub_apikey.cli.result import Document, Result
from metricshub_apikey.cli.session import Session
from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.expiry import Moment


class Pruned(Result):
    """The expired keys that are gone, or would go."""

    def __init__(
        self, keys: Sequence[ApiKey], *, keystore: str, now: Moment, dry_run: bool
    ) -> None:
        self.keys = keys
        self.keystore = keystore
        self.now = now
        self.dry_run = dry_run

    def document(self) -> Document:
        """Return the aliases."""
        aliases = [key.alias for key in self.keys]
        return {"keystore": self.keystore, "pruned": aliases, "dry_run": self.dry_run}

    def quiet(self) -> list[str]:
        """Return the aliases, one a line."""
        return [escape(key.alias) for key in self.keys]

    def lines(self) -> list[str]:
        """Return each key with what became of it."""
        done = "would be removed" if self.dry_run else "has been removed"
        lines = [f"{line(key, self.now)} {done}." for key in self.keys]
        return lines or ["No keys expired that long ago."]


@click.command("prune", cls=Command)
@click.option(
    "--older-than",
    metavar="LENGTH",
    type=length,
    default="30d",
    help="How long ago they must have expired; default: 30d.",
)
@click.option("--dry-run", is_flag=True, help="Only show which keys would go.")
@yes_option
@quiet("Print the aliases alone.")
@common_options()
@pass_session
def command(session: Session, *, older_than: timedelta, dry_run: bool, yes: bool) -> None:
    """
    Remove the keys that expired long ago.

    \b
    Example:
      apikey prune --older-than 90d --dry-run
    """
    if not (yes or dry_run):
        session.require_terminal()
    limit = session.now.before(older_than)
    session.require_keystore()
    dead = tuple(key for key in session.keys.list() if key.expired(limit))
    removed = dead if dry_run else remove_agreed(session, dead, "prune", yes=yes)
    result = Pruned(removed, keystore=session.location.path, now=session.now, dry_run=dry_run)
    session.out.show(result, done="The API keys have been removed")
