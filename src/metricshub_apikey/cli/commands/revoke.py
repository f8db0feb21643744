"""`revoke`: keys that are named, selected or found leaked are refused from now on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from metricshub_apikey.cli.completion import complete_alias
from metricshub_apikey.cli.options import (
    Command,
    common_options,
    pass_session,
    quiet,
    selectors,
    state_option,
    yes_option,
)
from metricshub_apikey.cli.removal import remove_agreed
from metricshub_apikey.cli.result import Document, Result
from metricshub_apikey.cli.session import Session
from metricshub_apikey.errors import IncompleteSearchError, InvalidArgumentError
from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.selection import Selection, Usage
from metricshub_apikey.registry.rotation import old_keys


class Revoked(Result):
    """The keys that are gone: as they were named, and the old keys that went along."""

    def __init__(self, aliases: Sequence[str], also: Sequence[str], keystore: str) -> None:
        self.aliases = aliases
        self.also = also
        self.keystore = keystore

    def document(self) -> Document:
        """Return the aliases as they were given, and those of the old keys."""
        gone = {"revoked": [*self.aliases], "also_revoked": [*self.also]}
        return {"keystore": self.keystore, **gone}

    def notes(self) -> list[str]:
        """Return a sentence for each old key."""
        return [f"The old key '{alias}' has been revoked, too." for alias in self.also]

    def lines(self) -> list[str]:
        """Return a sentence for each key."""
        lines = [f"API key '{escape(alias)}' has been revoked." for alias in self.aliases]
        return lines or ["No such API keys found."]


@click.command("revoke", cls=Command)
@click.argument("aliases", metavar="[ALIAS]...", nargs=-1, shell_complete=complete_alias)
@selectors("All keys")
@click.option(
    "--leaked",
    metavar="PATH",
    multiple=True,
    type=click.Path(),
    help="All keys that 'apikey scan PATH' finds; may be repeated.",
)
@click.option(
    "--keep-previous",
    is_flag=True,
    help="Leave the old keys of pending rotations until their overlap ends.",
)
@yes_option
@quiet("Print nothing.")
@state_option
@common_options()
@pass_session
def command(
    session: Session,
    /,
    *,
    aliases: tuple[str, ...],
    leaked: tuple[str, ...],
    keep_previous: bool,
    yes: bool,
    **filters: Any,  # noqa: ANN401 - from Click
) -> None:
    """
    Revoke API keys: all that are named, or none.

    \b
    Example:
      apikey revoke mcp-openai mcp-claude

    The old key of a pending rotation goes along. It cannot be undone; 'apikey suspend' can.
    """
    selection = Selection(**filters)
    selection.check()
    if sum((bool(aliases), selection != Selection(), bool(leaked))) != 1:
        raise InvalidArgumentError(
            "Name aliases, or use --leaked, or options that select keys, such as --expired."
        )
    session.require_keystore()
    if aliases:
        return _show(session, *session.keys.revoke(*aliases, keep_previous=keep_previous))
    if not yes:
        session.require_terminal()
    keys = session.keys.list()
    session.require_unlike({key.alias for key in keys})
    skipped: Sequence[str] = ()
    if leaked:
        chosen, skipped = _leaked(session, keys, leaked)
    else:
        usage = Usage() if selection.unused_for is None else session.usage
        chosen = selection.select(keys, now=session.now, usage=usage)
    old = () if keep_previous else _old(keys, chosen)
    gone = remove_agreed(session, chosen + old, "revoke", yes=yes, secrets=bool(leaked))
    also = [key.alias for key in gone if key in old]
    _show(session, [key.alias for key in gone if key not in old], also)
    if skipped:
        raise IncompleteSearchError(
            f"Not everything was searched, so more keys may have leaked: {', '.join(skipped[:3])}"
            f"{' and more' if len(skipped) > 3 else ''}."
        )
    return None


def _show(session: Session, aliases: Sequence[str], also: Sequence[str]) -> None:
    result = Revoked(aliases, also, session.location.path)
    session.out.show(result, done="The API keys have been revoked")


def _old(keys: Sequence[ApiKey], chosen: Sequence[ApiKey]) -> tuple[ApiKey, ...]:
    """Return the old keys of pending rotations of the *chosen* keys that are not chosen, too."""
    aliases = {key.alias for key in chosen}
    return tuple(key for key in old_keys(keys, aliases) if key.alias not in aliases)


def _leaked(
    session: Session, keys: Sequence[ApiKey], paths: tuple[str, ...]
) -> tuple[tuple[ApiKey, ...], Sequence[str]]:
    """Return the keys that are found in *paths*, and what was not searched; show where they are."""
    from .scan import leak_line, leaks_in

    leaks, skipped = leaks_in(session, keys, paths)
    for leak in leaks:
        session.out.tell(leak_line(leak))
    aliases = {leak.alias for leak in leaks}
    return tuple(key for key in keys if key.alias in aliases), skipped
