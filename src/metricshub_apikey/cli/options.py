"""What all commands of the command line have in common: wrong usage, and the same options."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any, TypeVar

import click

from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.keys.durations import parse_duration
from metricshub_apikey.keys.expiry import after, instants, parse_date_time, text, utc_text

from .completion import VARIABLE, complete_role, register_powershell
from .output import Form, show_text
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


def _show_help(context: click.Context, parameter: click.Parameter, value: object) -> None:
    del parameter
    if value and not context.resilient_parsing:
        show_text(context.get_help())
        context.exit()


class _Helpful(click.Command):
    """A command whose help is printed as results are: standard output may fail."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return the option --help."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show_help
        return option


class Command(_Helpful):
    """A command for which an argument that cannot be used is wrong usage."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the body."""
        try:
            session = ctx.ensure_object(Session)
            self._check_form(session)
            if session.state_url is not None:
                from metricshub_apikey.policy.state import find_state

                find_state(session.state_url, None, {})
            return super().invoke(ctx)
        except InvalidArgumentError as error:
            raise UsageFailure(error, ctx) from error

    def _check_form(self, session: Session) -> None:
        """Refuse a form that this command lacks, or that does not go with --quiet."""
        form = session.output
        if session.quiet and form != Form.TEXT.value:
            raise InvalidArgumentError(f"--quiet and --output {form} exclude each other.")
        for option in self.params:
            if option.name == "output" and isinstance(option.type, click.Choice):
                known = option.type.choices
                if form not in known:
                    raise InvalidArgumentError(
                        f"'{self.name}' does not print {form}; it prints {', '.join(known)}."
                    )


class VerdictCommand(Command):
    """A command whose exit code 1 is its verdict, so that a failure is 2, as of grep and diff."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the body."""
        ctx.ensure_object(Session).trouble = 2
        return super().invoke(ctx)


class CommandGroup(_Helpful, click.Group):
    """A group of such commands; the module with a command is imported when it is named."""

    command_class = Command

    def __init__(self, *args: Any, modules: Sequence[str] = (), **kwargs: Any) -> None:  # noqa: ANN401
        """
        Like Click's group, but with commands that are imported when they are named.

        Args:
            args: As Click wants them.
            modules: Names of commands, each the name of its module in `cli.commands`.
            kwargs: As Click wants them.
        """
        super().__init__(*args, **kwargs)
        self._modules = frozenset(modules)

    def _main_shell_completion(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        if VARIABLE in os.environ:
            register_powershell()
        super()._main_shell_completion(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, those that are not imported yet among them."""
        return sorted({*super().list_commands(ctx), *self._modules})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported now if need be."""
        if cmd_name in self._modules and cmd_name not in self.commands:
            self.add_command(import_module(f".commands.{cmd_name}", __package__).command)
        return super().get_command(ctx, cmd_name)


def _remember(context: click.Context, parameter: click.Parameter, value: object) -> None:
    """Keep a common option, given before or after the command's name, in the session."""
    if value is not None and parameter.name is not None:
        setattr(context.ensure_object(Session), parameter.name, value)


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        raise click.BadParameter(f"{value} is not a number of seconds.") from None
    if not 0 <= seconds <= MAX_LOCK_TIMEOUT:
        raise click.BadParameter(f"{value} is not between 0 and {MAX_LOCK_TIMEOUT} seconds.")
    return seconds


def _common(*names: str, **settings: Any) -> Callable[[Decorated], Decorated]:  # noqa: ANN401
    return click.option(*names, callback=_remember, expose_value=False, **settings)


def _output(*forms: Form) -> Callable[[Decorated], Decorated]:
    choices = [Form.TEXT.value, Form.JSON.value, *(form.value for form in forms)]
    return _common("--output", "-o", type=click.Choice(choices), help="Default: text.")


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
    _common(
        "--policy",
        "policy_file",
        metavar="FILE",
        type=FILE,
        help="The rules for keys; default: apikey.toml beside the keystore, if it is there.",
    ),
    _common(
        "--timezone",
        metavar="ZONE",
        help="The server's time zone, such as Europe/Paris; default: the one its Java finds.",
    ),
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


def common_options(*forms: Form) -> Callable[[Decorated], Decorated]:
    """Give a command the options that all have; it prints text, JSON and these *forms*."""

    def decorate(function: Decorated) -> Decorated:
        for option in reversed([*COMMON_OPTIONS[:3], _output(*forms), *COMMON_OPTIONS[3:]]):
            function = option(function)
        return function

    return decorate


def quiet(meaning: str) -> Callable[[Decorated], Decorated]:
    """Give a command the option --quiet, which has its own *meaning* for each."""
    return _common("--quiet", "-q", is_flag=True, help=meaning)


def state_option(function: Decorated) -> Decorated:
    """Give a command the option --state, for what gateways share."""
    return _common(
        "--state",
        "state_url",
        metavar="URL",
        help="The Redis or Valkey server that gateways share: redis://HOST:PORT.",
    )(function)


def roles_option(name: str, parameter: str, meaning: str) -> Callable[[Decorated], Decorated]:
    """Give a command an option that takes roles, several if it is repeated."""
    return click.option(
        name,
        parameter,
        metavar="ROLE",
        multiple=True,
        shell_complete=complete_role,
        help=f"{meaning}; may be repeated.",
    )


def out_option(function: Decorated) -> Decorated:
    """Give a command the option --out, for a new key."""
    return click.option(
        "--out",
        metavar="FILE",
        type=FILE,
        help="Write the key to a new file that only you can read.",
    )(function)


def yes_option(function: Decorated) -> Decorated:
    """Give a command the option --yes."""
    return click.option("--yes", is_flag=True, help="Do it without asking.")(function)


def length(value: str) -> timedelta:
    """Return a length of time such as `90d`, or `0`; anything else is wrong usage."""
    try:
        return timedelta() if value == "0" else parse_duration(value)
    except InvalidArgumentError as error:
        raise click.BadParameter(error.message) from error


def expiry_options(function: Decorated) -> Decorated:
    """Give a command --expires-on and --expires-in; see `asked_expiry`."""
    on = click.option(
        "--expires-on",
        metavar="TIME",
        help="Last moment: YYYY-MM-DD[Thh:mm[:ss]], local.",
    )
    duration = click.option(
        "--expires-in", metavar="LENGTH", help="Life of the key: 90d, 12h, 30m, 2w, 1y or 1d12h."
    )
    return on(duration(function))


def asked_expiry(session: Session, on: str | None, duration: str | None) -> datetime | None:
    """
    Return the expiry asked for, as local time; tell which instant an odd one means.

    Raises:
        InvalidArgumentError: Both options are given, or what is given is no time.
        PolicyBreachError: The policy does not offer that lifetime.
    """
    if on is not None and duration is not None:
        raise InvalidArgumentError("--expires-on and --expires-in exclude each other.")
    if on is not None:
        moment = parse_date_time(on, session.zone)
    elif duration is not None:
        moment = after(session.now, parse_duration(duration))
        session.policy.check_lifetime(duration)
    else:
        return None
    first, last = instants(moment, session.zone)
    if first != last:
        ends = first if first > session.now.instant else last
        session.out.note(
            f"The clocks change around {text(moment)}; the key expires at {utc_text(ends)}."
        )
    return moment


def exclude(options: Sequence[tuple[str, object]]) -> None:
    """Refuse more than one of some *options*, given as names and values."""
    given = [name for name, value in options if value not in (None, False, ())]
    if len(given) > 1:
        raise InvalidArgumentError(f"{' and '.join(given)} exclude each other.")
