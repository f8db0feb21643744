"""`policy init`, `policy show` and `policy check`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from metricshub_apikey.cli.options import CommandGroup, VerdictCommand, common_options, pass_session
from metricshub_apikey.cli.output import green, show_text
from metricshub_apikey.cli.result import Document, Result
from metricshub_apikey.cli.session import Session
from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.files.new_file import write_public
from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.prefixed import check_prefix
from metricshub_apikey.policy.rules import Policy, describe, document
from metricshub_apikey.policy.templates import NAMES, PREFIX
from metricshub_apikey.policy.templates import template as template_text
from metricshub_apikey.review.checks import all_breaches


class Written(Result):
    """Where the new policy file is."""

    def __init__(self, path: str, template: str) -> None:
        self.path = path
        self.template = template

    def document(self) -> Document:
        """Return the path, and the name of the template."""
        return {"path": self.path, "template": self.template}

    def lines(self) -> list[str]:
        """Return one sentence."""
        return [f"The {self.template} policy has been written to {escape(self.path)}."]


class Rules(Result):
    """The rules in force."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def document(self) -> Document:
        """Return the rules; lengths of time as written, and in seconds."""
        return document(self.policy)

    def lines(self) -> list[str]:
        """Return one rule a line."""
        pairs = describe(self.policy)
        width = max(len(name) for name, _ in pairs) + 1
        shown = [f"{escape(f'{name}:'):{width}} {escape(said)}" for name, said in pairs]
        return shown + [escape(remark) for remark in self.policy.remarks()]


class Breaches(Result):
    """Which keys break which rules, given as sentences by alias."""

    def __init__(self, found: Mapping[str, Sequence[str]], keystore: str) -> None:
        self.found = found
        self.keystore = keystore

    def document(self) -> Document:
        """Return the sentences of each key that breaks a rule."""
        keys = [{"alias": alias, "breaches": [*said]} for alias, said in self.found.items()]
        return {"keystore": self.keystore, "keys": keys}

    def lines(self) -> list[str]:
        """Return a line for each rule that a key breaks."""
        lines = [
            f"{green(escape(alias))}: {escape(sentence)}"
            for alias, sentences in self.found.items()
            for sentence in sentences
        ]
        return lines or ["Every key keeps the policy."]


def _prefix(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        check_prefix(value)
    except InvalidArgumentError as error:
        raise click.BadParameter(error.message, context, parameter) from None
    return value


@click.group("policy", cls=CommandGroup, invoke_without_command=True)
@common_options()
@click.pass_context
def command(context: click.Context) -> None:
    """
    The rules for keys: lifetimes, roles, the form of new keys.

    \b
    Example:
      apikey policy init --template strict
    """
    if context.invoked_subcommand is None:
        show_text(context.get_help())


@command.command()
@click.option(
    "--template",
    type=click.Choice(NAMES),
    default="stock",
    help="stock asks for nothing; strict for an expiry and a role. Default: stock.",
)
@click.option(
    "--prefix",
    metavar="PREFIX",
    default=PREFIX,
    callback=_prefix,
    help=f"How new keys begin where the policy asks for prefixed ones. Default: {PREFIX}",
)
@common_options()
@pass_session
def init(session: Session, *, template: str, prefix: str) -> None:
    """
    Write a commented policy file beside the keystore; an empty one that is there is replaced.

    \b
    Example:
      apikey policy init --template strict --prefix acme_
    """
    path = session.policy_path
    write_public(path, template_text(template, prefix).rstrip("\n"), replace_empty=True)
    session.out.show(Written(path, template), done="The policy file has been written")


@command.command()
@common_options()
@pass_session
def show(session: Session) -> None:
    """
    Show the rules in force.

    \b
    Example:
      apikey policy show
    """
    session.out.show(Rules(session.policy))


@command.command(cls=VerdictCommand)
@common_options()
@pass_session
def check(session: Session) -> int:
    """
    Show which existing keys break the rules.

    \b
    Example:
      apikey policy check

    The exit code is 1 if any does, 2 if that cannot be told.
    """
    session.require_keystore()
    found = all_breaches(session.keys.list(), session.policy, session.zone)
    for remark in session.policy.remarks():
        session.out.note(remark)
    session.out.show(Breaches(found, session.location.path))
    return 1 if found else 0
