"""
The command line: parse, call, print.

Each command's body is a few lines; what it does is in `registry`, how it looks in `output`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click

from . import __version__, delivery, views
from .errors import ApiKeyError, InvalidArgumentError, KeyExistsError, ReaderGoneError
from .expiry import after, instants, parse_date_time, parse_duration, text, utc_text
from .interrupts import Interrupted, forbid_core_dumps
from .output import Form, Output, escape
from .pkcs12.bag import fold
from .registry import utc_now
from .session import Session

MAX_LOCK_TIMEOUT = 86_400

pass_session = click.make_pass_decorator(Session, ensure=True)

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class UsageFailure(click.UsageError):
    """What Click says of wrong usage, in front of a sentence of ours."""

    def __init__(self, error: InvalidArgumentError, context: click.Context) -> None:
        hint = f"\nHint: {error.hint}" if error.hint else ""
        super().__init__(escape(error.message) + hint, context)


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
    _common("--keystore", metavar="FILE", help="The keystore to use; see 'apikey path'."),
    _common(
        "--password-file",
        metavar="FILE",
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


def _quiet(meaning: str) -> Callable[[Decorated], Decorated]:
    return _common("--quiet", "-q", is_flag=True, help=meaning)


@click.group(
    cls=CommandGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@common_options
@click.pass_context
def apikey(context: click.Context) -> None:
    """
    Create, list and revoke the API keys of MetricsHub.

    The keystore is the one named by --keystore or METRICSHUB_KEYSTORE; else the one of the
    installation that apikey belongs to, of /opt/metricshub, or of your own data folder.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@apikey.command()
@click.argument("alias")
@click.option(
    "--expires-on", metavar="TIME", help="Last moment of the key: YYYY-MM-DD[Thh:mm[:ss]], local."
)
@click.option(
    "--expires-in", metavar="LENGTH", help="Life of the key: 90d, 12h, 30m, 2w, 1y or 1d12h."
)
@click.option("--out", metavar="FILE", help="Write the key to a new file that only you can read.")
@click.option("--if-missing", is_flag=True, help="Succeed if the alias exists already.")
@_quiet("Print the key alone.")
@common_options
@pass_session
def create(
    session: Session,
    *,
    alias: str,
    expires_on: str | None,
    expires_in: str | None,
    out: str | None,
    if_missing: bool,
) -> None:
    """
    Create an API key and show it, once.

    \b
    Example:
      apikey create mcp-claude --expires-in 90d
    """
    moment = _expiry(session, expires_on, expires_in)
    registry, keystore = session.registry, session.location.path
    try:
        if if_missing:
            registry.require_free(alias)
        with delivery.reserve(out) as file:
            key = registry.create(alias, expires_on=moment)
            with delivery.promise(alias):
                if file is None:
                    session.out.warn_if_readable()
                else:
                    file.write(key)
                views.show_created(
                    session.out, key, alias=alias, file=out, keystore=keystore, now=session.now
                )
    except KeyExistsError:
        if not if_missing:
            raise
        views.show_exists(session.out, fold(alias), keystore)
    else:
        if key.alias != alias:
            session.out.note(f"Stored as '{key.alias}': Java ignores letter case.")


def _expiry(session: Session, on: str | None, duration: str | None) -> datetime | None:
    """Return the expiry asked for, as local time; tell which instant an odd one means."""
    if on is not None and duration is not None:
        raise InvalidArgumentError("--expires-on and --expires-in exclude each other.")
    if on is not None:
        moment = parse_date_time(on)
    elif duration is not None:
        moment = after(utc_now(), parse_duration(duration))
    else:
        return None
    first, last = instants(moment)
    if first != last:
        session.out.note(
            f"The clocks change around {text(moment)}; the key expires at {utc_text(first)}."
        )
    return moment


@apikey.command("list")
@_quiet("Print the aliases alone.")
@common_options
@pass_session
def list_(session: Session) -> None:
    """
    List the API keys, masked, in the order of the keystore.

    \b
    Example:
      apikey list
    """
    if session.quiet:
        return session.out.lines([escape(alias) for alias in session.registry.aliases()])
    with session.out.progress("Deriving keys") as progress:
        found = session.registry.list(progress)
    keystore = session.location.path
    return views.show_keys(session.out, found, keystore=keystore, now=session.now)


@apikey.command()
@click.argument("aliases", metavar="ALIAS...", nargs=-1, required=True)
@_quiet("Print nothing.")
@common_options
@pass_session
def revoke(session: Session, aliases: tuple[str, ...]) -> None:
    """
    Revoke API keys: all that are named, or none.

    \b
    Example:
      apikey revoke mcp-openai mcp-claude
    """
    revoked = session.registry.revoke(*aliases)
    views.show_revoked(session.out, revoked, keystore=session.location.path)


@apikey.command()
@_quiet("Print the path alone.")
@common_options
@pass_session
def path(session: Session) -> None:
    """
    Show which keystore is used, and why.

    \b
    Example:
      apikey path
    """
    views.show_location(session.out, session.location)


def run(arguments: Sequence[str]) -> int:
    """
    Run the command line and return its exit code.

    0 is done, 1 failed, 2 wrong usage, 128 + n ended by signal n. This is the only place that
    turns an `ApiKeyError` into words; any other exception is a bug and keeps its traceback.
    """
    session = Session()
    session.interrupts.listen()
    forbid_core_dumps()
    if sys.stdout is not None:
        # An alias that the terminal cannot show is no reason to fail.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        apikey.main(list(arguments), "apikey", standalone_mode=False, obj=session)
    except ReaderGoneError:
        return 0
    except ApiKeyError as error:
        session.out.error(error)
        return 1
    except click.UsageError as error:
        return _wrong_usage(error, arguments)
    except Interrupted as interrupted:
        return interrupted.exit_code
    return session.interrupts.exit_code


def _wrong_usage(error: click.UsageError, arguments: Sequence[str]) -> int:
    """Show Click's message, or a JSON document where one was asked for before or after it."""
    given = " ".join(arguments)
    if any(spelled in given for spelled in ("-o json", "-ojson", "--output json", "--output=json")):
        message = error.format_message()
        Output(Form.JSON, color=False).error(InvalidArgumentError(message))
    else:
        error.show()
    return error.exit_code
