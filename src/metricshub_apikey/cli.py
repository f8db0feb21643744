"""
The command line: parse, call, print.

Each command's body is a few lines; what it does is in `registry`, how it looks in `output`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

import click

from . import __version__, completion, delivery, views
from .errors import ApiKeyError, InvalidArgumentError, KeyExistsError, ReaderGoneError
from .expiry import after, instants, parse_date_time, parse_duration, text, utc_text
from .interrupts import Interrupted, forbid_core_dumps
from .options import FILE, CommandGroup, common_options, pass_session, quiet
from .output import Form, Output, escape, output_failed
from .pkcs12.bag import fold
from .registry import utc_now
from .session import Session

ASKS_FOR_JSON = r"(--output[ =]|-q*o ?)json|--output=json .*|-q*ojson .*"


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
@click.option(
    "--out",
    metavar="FILE",
    type=FILE,
    help="Write the key to a new file that only you can read.",
)
@click.option("--if-missing", is_flag=True, help="Succeed if the alias exists already.")
@quiet("Print the key alone.")
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
            if key.alias != alias:
                session.out.note(f"Stored as '{key.alias}': Java ignores letter case.")
            if file is not None:
                with delivery.promise(alias):
                    file.write(key)
        if out is None:
            session.out.warn_if_readable()
        with delivery.promise(alias) if out is None else delivery.after(f"The key is in {out}"):
            views.show_created(
                session.out, key, alias=alias, file=out, keystore=keystore, now=session.now
            )
    except KeyExistsError:
        if not if_missing:
            raise
        views.show_exists(session.out, fold(alias), keystore)


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
@quiet("Print the aliases alone.")
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
@click.argument(
    "aliases", metavar="ALIAS...", nargs=-1, required=True, shell_complete=completion.complete_alias
)
@quiet("Print nothing.")
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
    with delivery.after("The API keys have been revoked"):
        views.show_revoked(session.out, revoked, keystore=session.location.path)


@apikey.command()
@quiet("Print the path alone.")
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


@apikey.command("completion")
@click.argument("shell", type=click.Choice(completion.SHELLS))
@common_options
@pass_session
def complete(session: Session, shell: str) -> None:
    """
    Print what a shell must read to complete commands, options and aliases.

    \b
    Example, in ~/.bashrc:
      eval "$(apikey completion bash)"
    """
    views.show_script(session.out, shell, completion.script(apikey, shell))


def run(arguments: Sequence[str]) -> int:
    """
    Run the command line and return its exit code.

    0 is done, 1 failed, 2 wrong usage, 128 + n ended by signal n. This is the only place that
    turns an `ApiKeyError` into words; any other exception is a bug and keeps its traceback.
    """
    session = Session()
    forbid_core_dumps()
    try:
        session.interrupts.listen()
        code = _run(session, arguments)
        session.interrupts.ignore()
    except Interrupted as interrupted:
        return interrupted.exit_code
    return code or session.interrupts.exit_code


def _run(session: Session, arguments: Sequence[str]) -> int:
    if sys.stdout is not None:
        # An alias that the terminal cannot show is no reason to fail.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        apikey.main(list(arguments), "apikey", standalone_mode=False, obj=session)
    except (ReaderGoneError, SystemExit):  # SystemExit: Click's help, and nobody reads it
        return 0
    except ApiKeyError as error:
        session.out.error(error)
        return 1
    except click.UsageError as error:
        return _wrong_usage(error, arguments)
    except OSError as error:  # from Click, which prints help without us
        if error.filename is not None:
            raise
        session.out.error(output_failed(error))
        return 1
    return 0


def _wrong_usage(error: click.UsageError, arguments: Sequence[str]) -> int:
    """Show Click's message; as a JSON document, where the arguments ask for one."""
    message = escape(error.format_message())
    if any(re.fullmatch(ASKS_FOR_JSON, " ".join(pair)) for pair in pairwise([*arguments, ""])):
        Output(Form.JSON, color=False).error(InvalidArgumentError(message))
    else:
        click.UsageError(message, error.ctx).show()
    return error.exit_code
