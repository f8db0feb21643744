"""What all commands of the command line have in common: wrong usage, and the same options."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any, TypeVar

import click

from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.formats.nearest import did_you_mean
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


class SharedOption(click.Option):
    """An option of every command; help lists these under a heading of their own."""


class _Helpful(click.Command):
    """A command whose help is printed as results are: standard output may fail."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return the option --help."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show_help
        return option

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then those that every command has."""
        options = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        shared = [one for one in options if isinstance(one, SharedOption) or _is_help(one)]
        own = [one for one in options if one not in shared]
        for heading, listed in (("Options", own), ("Options of every command", shared)):
            records = [record for one in listed if (record := one.get_help_record(ctx))]
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def _is_help(option: click.Option) -> bool:
    return option.callback is _show_help


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

    def __init__(
        self,
        *args: Any,  # noqa: ANN401
        sections: Mapping[str, Sequence[str]] | None = None,
        aliases: Mapping[str, str] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """
        Like Click's group, but with commands that are imported when they are named.

        Args:
            args: As Click wants them.
            sections: Headings of the help, each with names of commands, in the order in which help
                lists them; each is the name of its module in `cli.commands`.
            aliases: Other names of commands.
            kwargs: As Click wants them.
        """
        super().__init__(*args, **kwargs)
        self._sections = sections or {}
        self._modules = frozenset(name for names in self._sections.values() for name in names)
        self._aliases = aliases or {}

    def _main_shell_completion(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        if VARIABLE in os.environ:
            register_powershell()
        super()._main_shell_completion(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, those that are not imported yet among them."""
        return sorted({*super().list_commands(ctx), *self._modules})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported now if need be."""
        cmd_name = self._aliases.get(cmd_name, cmd_name)
        if cmd_name in self._modules and cmd_name not in self.commands:
            self.add_command(import_module(f".commands.{cmd_name}", __package__).command)
        return super().get_command(ctx, cmd_name)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, which are what most readers look for, then the options."""
        self.format_commands(ctx, formatter)
        _Helpful.format_options(self, ctx, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name; raises UsageError with the nearest names."""
        known = [*self.list_commands(ctx), *self._aliases]
        if args and not args[0].startswith("-") and args[0] not in known:
            hint = did_you_mean(args[0], self.list_commands(ctx))
            raise click.UsageError(f"No such command '{args[0]}'. {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, under the headings of their sections."""
        if not self._sections:
            return super().format_commands(ctx, formatter)
        longest = max(map(len, self._modules))
        for heading, names in self._sections.items():
            with formatter.section(heading):
                for name in names:
                    text = self._help(ctx, name, formatter.width - longest - 4)
                    formatter.write(f"  {name:<{longest}}  {text}\n")
        also = [f"{alias} is {name}" for alias, name in self._aliases.items()]
        formatter.write(f"\n  For short, {', '.join(also)}.\n" if also else "")
        return None

    def _help(self, ctx: click.Context, name: str, width: int) -> str:
        command = self.get_command(ctx, name)
        return command.get_short_help_str(width) if command else ""


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


def _shared(*names: str, **settings: Any) -> Callable[[Decorated], Decorated]:  # noqa: ANN401
    return _common(*names, cls=SharedOption, **settings)


def _output(*forms: Form) -> Callable[[Decorated], Decorated]:
    choices = [Form.TEXT.value, Form.JSON.value, *(form.value for form in forms)]
    return _shared("--output", "-o", type=click.Choice(choices), help="Default: text.")


COMMON_OPTIONS = [
    _shared(
        "--keystore",
        metavar="FILE",
        type=FILE,
        help="The keystore to use; see 'apikey path'. [METRICSHUB_KEYSTORE]",
    ),
    _shared(
        "--password-file",
        metavar="FILE",
        type=FILE,
        help="The keystore's own password, in the first line of FILE; - is standard input. "
        "[METRICSHUB_KEYSTORE_PASSWORD_FILE]",
    ),
    _shared(
        "--policy",
        "policy_file",
        metavar="FILE",
        type=FILE,
        help="The rules for keys; default: apikey.toml beside the keystore, if it is there. "
        "[METRICSHUB_APIKEY_POLICY]",
    ),
    _shared(
        "--timezone",
        metavar="ZONE",
        help="The server's time zone, such as Europe/Paris; default: the one its Java finds.",
    ),
    _shared(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        help="Default: auto, on a terminal; NO_COLOR is honoured.",
    ),
    _shared(
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
        help="The Redis or Valkey server that gateways share: redis://HOST:PORT. "
        "[METRICSHUB_APIKEY_STATE]",
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


def selectors(whom: str) -> Callable[[Decorated], Decorated]:
    """Give a command the options that select keys; the help of each begins with *whom*."""

    def decorate(function: Decorated) -> Decorated:
        options = [
            click.option("--expired", is_flag=True, help=f"{whom} that have expired."),
            click.option(
                "--expiring-in",
                metavar="LENGTH",
                type=length,
                help=f"{whom} that expire within that time.",
            ),
            click.option(
                "--unused-for",
                metavar="LENGTH",
                type=length,
                help=f"{whom} not used for that long, as far as their use was recorded.",
            ),
            roles_option("--role", "roles", f"{whom} with that role"),
            click.option(
                "--label",
                "labels",
                metavar="NAME=VALUE",
                multiple=True,
                help=f"{whom} with that label; may be repeated.",
            ),
            click.option(
                "--created-by", metavar="USER", help=f"{whom} made by that user, or user@host."
            ),
        ]
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def receivers(function: Decorated) -> Decorated:
    """Give a command the options that say where a new key goes."""
    options = (
        click.option(
            "--out",
            metavar="FILE",
            type=FILE,
            help="Write the key to a new file that only you can read.",
        ),
        click.option(
            "--deliver",
            metavar="COMMAND",
            help="Hand the key to a command, on its standard input, and put it in force then.",
        ),
        click.option(
            "--then", metavar="COMMAND", help="Run a command after that, without the key."
        ),
        click.option(
            "--deliver-timeout",
            metavar="SECONDS",
            type=_seconds,
            default=60.0,
            help="How long either command may take; default: 60.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


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
