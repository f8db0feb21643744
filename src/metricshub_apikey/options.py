"""What all commands of the command line have in common: wrong usage, and the same options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from .errors import InvalidArgumentError
from .session import Session

MAX_LOCK_TIMEOUT = 86_400

FILE = click.Path(readable=False)
"""Completed as a file by shells; whether it can be read is for us to find out and to say."""

pass_session = click.make_pass_decorator(Session, ensure=True)

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class UsageFailure(click.UsageError):
    """What Click says of wrong usage, in front of a sentence of ours."""

    def __init__(self, error: InvalidArgumentError, context: click.Context) -> None:
        super().__init__(error.message, context)


class Command(click.Command):
    """A command for which an argument nobody could use is wrong usage."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the body."""
        try:
            return super().invoke(ctx)
        except InvalidArgumentError as error:
            raise UsageFailure(error, ctx) from error


class CommandGroup(click.Group):
    """The group of such commands."""

    command_class = Command


def _remember(context: click.Context, parameter: click.Parameter, value: object) -> None:
    """Keep a common option, given before or after the command's name, in the session."""
    if value is not None and parameter.name is not None:
        setattr(context.ensure_object(Session), parameter.name, value)


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 0 <= seconds <= MAX_LOCK_TIMEOUT:
        raise click.BadParameter(f"{value} is not between 0 and {MAX_LOCK_TIMEOUT} seconds.")
    return seconds


def _common(*names: str, **settings: Any) -> Callable[[Decorated], Decorated]:  # noqa: ANN401
    return click.option(*names, callback=_remember, expose_value=False, **settings)


COMMON_OPTIONS = [
    _common(
        "--keystore",
        metavar="FILE",
        type=FILE,
        help="The keystore to use; see 'apikey path'.",
    ),
    _common(
        "--password-file",
        metavar="FILE",
        type=FILE,
        help="The keystore's own password, in the first line of FILE; - is standard input.",
    ),
    _common("--output", "-o", type=click.Choice(["text", "json"]), help="Default: text."),
    _common(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        help="Default: auto, on a terminal; NO_COLOR is honoured.",
    ),
    _common(
        "--lock-timeout",
        metavar="SECONDS",
        type=_seconds,
        help="How long to wait for another writer; default: 10.",
    ),
]


def common_options(function: Decorated) -> Decorated:
    """Give a command the options that all have."""
    for option in reversed(COMMON_OPTIONS):
        function = option(function)
    return function


def quiet(meaning: str) -> Callable[[Decorated], Decorated]:
    """Give a command the option --quiet, which has its own *meaning* for each."""
    return _common("--quiet", "-q", is_flag=True, help=meaning)
