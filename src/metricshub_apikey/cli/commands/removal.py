"""`revoke` and `prune`."""

from __future__ import annotations

from datetime import timedelta

import click

from metricshub_apikey.cli import completion, handing, views
from metricshub_apikey.cli.options import (
    Command,
    common_options,
    length,
    pass_session,
    quiet,
    yes_option,
)
from metricshub_apikey.cli.session import Session
from metricshub_apikey.cli.views import NO_USAGE
from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.selection import Selection


@click.command(cls=Command)
@click.argument("aliases", metavar="[ALIAS]...", nargs=-1, shell_complete=completion.complete_alias)
@click.option("--expired", is_flag=True, help="All keys that have expired.")
@click.option(
    "--role",
    metavar="ROLE",
    shell_complete=completion.complete_role,
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
def revoke(
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
    """
    ways = [bool(aliases), expired or role is not None, bool(leaked)]
    if sum(ways) != 1:
        raise InvalidArgumentError("Name aliases, or use --expired, --role or --leaked.")
    if aliases:
        revoked = session.registry.revoke(*aliases)
        with handing.after("The API keys have been revoked"):
            return views.show_revoked(session.view(), revoked)
    if not yes:
        session.require_terminal()
    if leaked:
        from .review import leaked_keys

        unwanted = leaked_keys(session, leaked)
    else:
        roles = () if role is None else (role,)
        unwanted = _selected(session, Selection(expired=expired, roles=roles))
    removed = _remove_agreed(session, unwanted, "revoke", yes=yes, secrets=bool(leaked))
    with handing.after("The API keys have been revoked"):
        return views.show_revoked(session.view(), [key.alias for key in removed])


def _selected(session: Session, selection: Selection) -> tuple[ApiKey, ...]:
    keys = session.registry.list()
    return selection.select(keys, now=session.now, usage=NO_USAGE)


def _remove_agreed(
    session: Session,
    unwanted: tuple[ApiKey, ...],
    action: str,
    *,
    yes: bool,
    secrets: bool = False,
) -> tuple[ApiKey, ...]:
    """Show which keys would go, ask, and remove them in one write; warn of those that stay."""
    if unwanted and not yes:
        for key in unwanted:
            session.out.tell(views.key_line(session.out, key, session.now))
        session.agree(f"Remove {'this key' if len(unwanted) == 1 else 'these keys'}?")
    if not unwanted:
        return ()
    removed = session.registry.remove(unwanted, action, secrets=secrets)
    gone = {key.key for key in removed} if secrets else {key.alias for key in removed}
    for key in unwanted:
        if (key.key if secrets else key.alias) not in gone:
            session.out.warn(f"'{key.alias}' has changed meanwhile, and was left alone.")
    return removed


@click.command(cls=Command)
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
def prune(session: Session, *, older_than: timedelta, dry_run: bool, yes: bool) -> None:
    """
    Remove the keys that expired long ago.

    \b
    Example:
      apikey prune --older-than 90d --dry-run
    """
    if not (yes or dry_run):
        session.require_terminal()
    limit = session.now.before(older_than)
    dead = tuple(key for key in session.registry.list() if key.expired(limit))
    removed = dead if dry_run else _remove_agreed(session, dead, "prune", yes=yes)
    with handing.after("The API keys have been removed"):
        views.show_pruned(session.view(), removed, dry_run=dry_run)


COMMANDS = (revoke, prune)
