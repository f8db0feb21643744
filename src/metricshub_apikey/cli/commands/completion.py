"""`completion`: what a shell must read to complete commands and aliases."""

from __future__ import annotations

import click

from metricshub_apikey.cli.completion import SHELLS, VARIABLE, register_powershell
from metricshub_apikey.cli.options import Command, common_options
from metricshub_apikey.cli.result import Document, Result
from metricshub_apikey.cli.session import Session


class Script(Result):
    """What a shell must read."""

    def __init__(self, shell: str, script: str) -> None:
        self.shell = shell
        self.script = script

    def document(self) -> Document:
        """Return the script, and for which shell it is."""
        return {"shell": self.shell, "script": self.script}

    def lines(self) -> list[str]:
        """Return the script."""
        return [self.script]


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
@common_options()
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """
    Print what a shell must read to complete commands and aliases.

    \b
    Example, in ~/.bashrc:
      eval "$(apikey completion bash)"
    """
    script = _script(context.find_root().command, shell)
    context.ensure_object(Session).out.show(Script(shell, script))


def _script(command: click.Command, shell: str) -> str:
    """Return what *shell* must read to complete *command*."""
    from click.shell_completion import get_completion_class

    register_powershell()
    complete = get_completion_class(shell)
    if complete is None:
        raise ValueError(shell)
    return complete(command, {}, "apikey", VARIABLE).source()
