"""`path` and `completion`: which file is meant, and what a shell needs to know."""

from __future__ import annotations

import click

from metricshub_apikey.cli import completion, views
from metricshub_apikey.cli.options import Command, common_options, pass_session, quiet
from metricshub_apikey.cli.session import Session


@click.command(cls=Command)
@quiet("Print the path alone.")
@common_options()
@pass_session
def path(session: Session) -> None:
    """
    Show which keystore is used, and why.

    \b
    Example:
      apikey path
    """
    views.show_location(session.out, session.location)


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(completion.SHELLS))
@common_options()
@click.pass_context
def complete(context: click.Context, shell: str) -> None:
    """
    Print what a shell must read to complete commands and aliases.

    \b
    Example, in ~/.bashrc:
      eval "$(apikey completion bash)"
    """
    script = completion.script(context.find_root().command, shell)
    views.show_script(context.ensure_object(Session).out, shell, script)


COMMANDS = (path, complete)
