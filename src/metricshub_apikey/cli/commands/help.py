"""`apikey help`: the help of a command, for those who ask with a word."""

from __future__ import annotations

import click

from metricshub_apikey.cli.options import Command, common_options
from metricshub_apikey.cli.output import show_text


@click.command("help", cls=Command)
@click.argument("names", metavar="[COMMAND]...", nargs=-1)
@common_options()
@click.pass_context
def command(context: click.Context, *, names: tuple[str, ...]) -> None:
    """
    Show the help of a command, as --help does.

    \b
    Example:
      apikey help policy check
    """
    place = context.find_root()
    rest = list(names)
    while rest:
        group = place.command
        if not isinstance(group, click.Group):
            raise click.UsageError(f"'{place.command_path}' has no command '{rest[0]}'.", context)
        name, found, rest = group.resolve_command(place, rest)
        if found is not None:
            place = click.Context(found, info_name=name, parent=place)
    show_text(place.get_help())
