"""`revoke`: keys that are named, selected or found leaked are refused from now on."""

from __future__ import annotations

from collections.abc import Sequence

import click

from metricshub_apikey.cli.completion import complete_alias, complete_role
from metricshub_apikey.cli.options import Command, common_options, pass_session, quiet, yes_option
from metricshub_apikey.cli.removal import remove_agreed
from metricshub_apikey.cli.result import Document, Result
from metricshub_apikey.cli.session import Session
from metricshub_apikey.errors import IncompleteSearchError, InvalidArgumentError
from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.selection import Selection, Usage


class Revoked(Result):
    """The keys that are gone."""

    def __init__(self, aliases: Sequence[str], keystore: str) -> None:
        self.aliases = aliases
        self.keystore = keystore

    def document(self) -> Document:
        """Return the aliases as they were given."""
        return {"keystore": self.keystore, "revoked": [*self.aliases]}

    def lines(self) -> list[str]:
        """Return a sentence for each key."""
        lines = [f"API key '{escape(alias)}' has been revoked." for alias in self.aliases]
        return lines or ["No such API keys found."]


@click.command("revoke", cls=Command)
@click.argument("aliases", metavar="[ALIAS]...", nargs=-1, shell_complete=complete_alias)
@click.option("--expired", is_flag=True, help="All keys that have expired.")
@click.option(
    "--role",
    metavar="ROLE",
    shell_complete=complete_role,
    help="All keys with that role.",
)
@click.option(
    "--leaked",
    metavar="PATH",
    multiple=True,
    type=click.Path(),
    help="All keys that 'apikey scan PATH' finds; may be repeated.",
)
@yes_option
@quiet("Print nothing.")
@common_options()
@pass_session
def command(
    session: Session,
    /,
    *,
    aliases: tuple[str, ...],
    expired: bool,
    role: str | None,
    leaked: tuple[str, ...],
    yes: bool,
) -> None:
    """
    Revoke API keys: all that are named, or none.

    \b
    Example:
      apikey revoke mcp-openai mcp-claude

    It cannot be undone; 'apikey suspend' can.
    """
    ways = [bool(aliases), expired or role is not None, bool(leaked)]
    if sum(ways) != 1:
        raise InvalidArgumentError("Name aliases, or use --expired, --role or --leaked.")
    session.require_keystore()
    if aliases:
        revoked = session.keys.revoke(*aliases)
    else:
        if not yes:
            session.require_terminal()
        skipped: Sequence[str] = ()
        if leaked:
            unwanted, skipped = _leaked(session, leaked)
        else:
            unwanted = _selected(session, expired=expired, role=role)
        removed = remove_agreed(session, unwanted, "revoke", yes=yes, secrets=bool(leaked))
        revoked = tuple(key.alias for key in removed)
    result = Revoked(revoked, session.location.path)
    session.out.show(result, done="The API keys have been revoked")
    if leaked and skipped:
        raise IncompleteSearchError(
            f"Not everything was searched, so more keys may have leaked: {', '.join(skipped[:3])}"
            f"{' and more' if len(skipped) > 3 else ''}."
        )


def _selected(session: Session, *, expired: bool, role: str | None) -> tuple[ApiKey, ...]:
    selection = Selection(expired=expired, roles=() if role is None else (role,))
    keys = session.keys.list()
    return selection.select(keys, now=session.now, usage=Usage())


def _leaked(session: Session, paths: tuple[str, ...]) -> tuple[tuple[ApiKey, ...], Sequence[str]]:
    """Return the keys that are found in *paths*, and what was not searched; show where they are."""
    from .scan import leak_line, leaks_in

    keys = session.keys.list()
    leaks, skipped = leaks_in(session, keys, paths)
    for leak in leaks:
        session.out.tell(leak_line(leak))
    aliases = {leak.alias for leak in leaks}
    return tuple(key for key in keys if key.alias in aliases), skipped
