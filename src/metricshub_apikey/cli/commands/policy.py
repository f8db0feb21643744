"""`policy init`, `policy show` and `policy check`."""

from __future__ import annotations

import click

from metricshub_apikey.cli import reports
from metricshub_apikey.cli.handing import after
from metricshub_apikey.cli.options import CommandGroup, common_options, pass_session
from metricshub_apikey.cli.session import Session
from metricshub_apikey.files.new_file import write_public
from metricshub_apikey.policy.templates import NAMES
from metricshub_apikey.policy.templates import template as template_text
from metricshub_apikey.review.checks import breaches


@click.group(cls=CommandGroup, invoke_without_command=True)
@common_options()
@click.pass_context
def policy(context: click.Context) -> None:
    """
    The rules for keys: lifetimes, roles, the form of new keys.

    \b
    Example:
      apikey policy init --template strict
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@policy.command()
@click.option(
    "--template",
    type=click.Choice(NAMES),
    default="stock",
    help="stock asks for nothing; strict for an expiry and a role. Default: stock.",
)
@common_options()
@pass_session
def init(session: Session, *, template: str) -> None:
    """
    Write a commented policy file beside the keystore.

    \b
    Example:
      apikey policy init --template strict
    """
    path = session.policy_path
    write_public(path, template_text(template).rstrip("\n"))
    with after("The policy file has been written"):
        reports.show_policy_written(session.out, path, template)


@policy.command()
@common_options()
@pass_session
def show(session: Session) -> None:
    """
    Show the rules in force.

    \b
    Example:
      apikey policy show
    """
    reports.show_policy(session.out, session.policy)


@policy.command()
@common_options()
@pass_session
def check(session: Session) -> int:
    """
    Show which existing keys break the rules.

    The exit code is 1 if any does.

    \b
    Example:
      apikey policy check
    """
    found = {
        key.alias: breaches(key, session.policy, session.zone) for key in session.registry.list()
    }
    guilty = {alias: sentences for alias, sentences in found.items() if sentences}
    reports.show_breaches(session.view(), guilty)
    return 1 if guilty else 0


COMMANDS = (policy,)
