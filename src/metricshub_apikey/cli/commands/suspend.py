"""`suspend`: keys that every server refuses until they are resumed."""

from __future__ import annotations

import click

from metricshub_apikey.cli.completion import complete_working
from metricshub_apikey.cli.options import Command, common_options, pass_session, quiet
from metricshub_apikey.cli.session import Session
from metricshub_apikey.cli.suspension import Suspension


@click.command("suspend", cls=Command)
@click.argument(
    "aliases", metavar="ALIAS...", nargs=-1, required=True, shell_complete=complete_working
)
@click.option(
    "--keep-previous", is_flag=True, help="Leave the old key of a pending rotation as it is."
)
@quiet("Print nothing.")
@common_options()
@pass_session
def command(session: Session, *, aliases: tuple[str, ...], keep_previous: bool) -> None:
    """
    Have servers refuse API keys until they are resumed.

    \b
    Example:
      apikey suspend ci-prod

    A stock server refuses them from its next request on. All that a key carries is kept.
    """
    session.require_keystore()
    done = session.keys.suspend(*aliases, keep_previous=keep_previous)
    keystore = session.location.path
    result = Suspension(aliases, done, keystore=keystore, suspended=True)
    session.out.show(result, done="The API keys have been suspended")
