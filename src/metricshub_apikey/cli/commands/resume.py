"""`resume`: suspended keys that servers accept again."""

from __future__ import annotations

import click

from metricshub_apikey.cli.completion import complete_suspended
from metricshub_apikey.cli.options import Command, common_options, pass_session, quiet
from metricshub_apikey.cli.session import Session
from metricshub_apikey.cli.suspension import Suspension


@click.command("resume", cls=Command)
@click.argument(
    "aliases", metavar="ALIAS...", nargs=-1, required=True, shell_complete=complete_suspended
)
@click.option(
    "--keep-previous", is_flag=True, help="Leave the old key of a pending rotation as it is."
)
@quiet("Print nothing.")
@common_options()
@pass_session
def command(session: Session, *, aliases: tuple[str, ...], keep_previous: bool) -> None:
    """
    Let servers accept suspended API keys again.

    \b
    Example:
      apikey resume ci-prod

    It undoes 'apikey suspend'.
    """
    session.require_keystore()
    done = session.keys.resume(*aliases, keep_previous=keep_previous)
    keystore = session.location.path
    result = Suspension(aliases, done, keystore=keystore, suspended=False)
    session.out.show(result, done="The API keys have been resumed")
