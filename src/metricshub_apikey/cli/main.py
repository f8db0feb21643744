"""
The command `apikey` itself, and the one place where errors become words and exit codes.

Each command is in the module of its name in `cli.commands`, which is imported when it is named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import pairwise

import click

from metricshub_apikey import __version__
from metricshub_apikey.errors import ApiKeyError, InvalidArgumentError, ReaderGoneError, use_program
from metricshub_apikey.formats.visible import escape

from .completion import VARIABLE
from .interrupts import Interrupted, forbid_core_dumps
from .options import CommandGroup, common_options
from .output import Form, Output, output_failed, prepare_streams, show_text
from .session import Session

ASKS_FOR_JSON = r"(--output[ =]|-q*o ?)json|--output=json .*|-q*ojson .*"

SECTIONS = {
    "Keys": (
        "create",
        "list",
        "show",
        "edit",
        "suspend",
        "resume",
        "rotate",
        "revoke",
        "prune",
    ),
    "Many keys": ("apply", "scan", "check", "log"),
    "Rules": ("policy", "verify"),
    "Servers": ("serve", "console"),
    "Setting up": ("path", "completion", "help"),
}
"""Each command is in the module of its name in `cli.commands`."""

COMMANDS = tuple(name for names in SECTIONS.values() for name in names)

ALIASES = {"ls": "list", "rm": "revoke", "delete": "revoke"}
"""What fingers type from habit."""


def _show_version(context: click.Context, parameter: click.Parameter, value: object) -> None:
    del parameter
    if value and not context.resilient_parsing:
        show_text(f"{context.find_root().info_name} {__version__}")
        context.exit()


@click.group(
    cls=CommandGroup,
    sections=SECTIONS,
    aliases=ALIASES,
    invoke_without_command=True,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)
@click.option(
    "--version",
    "-V",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@common_options(Form.CSV, Form.PROMETHEUS, Form.NAGIOS)
@click.pass_context
def apikey(context: click.Context) -> None:
    """
    Create, list, rotate and revoke the API keys of MetricsHub.

    The keystore is the one named by --keystore or METRICSHUB_KEYSTORE; else the one of the
    installation that apikey belongs to, of /opt/metricshub, or of your own data folder.
    """
    if context.invoked_subcommand is None:
        show_text(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """
    Run the command line and return its exit code.

    0 is done, 1 failed, 2 wrong usage, 128 + n ended by signal n; a command whose result is a
    verdict returns a code of its own, and 2 where it could not come to one (`check`: 3). This is
    the only place that turns an `ApiKeyError` into words; any other exception is a bug and keeps
    its traceback.
    """
    session = Session()
    use_program(session.program)
    forbid_core_dumps()
    try:
        session.interrupts.listen()
        try:
            code = _run(session, arguments)
        finally:
            session.record_events()
        session.interrupts.ignore()
    except Interrupted as interrupted:
        return interrupted.exit_code
    return code or session.interrupts.exit_code


def _run(session: Session, arguments: Sequence[str]) -> int:
    prepare_streams()
    try:
        code = apikey.main(list(arguments), "apikey", standalone_mode=False, obj=session)
        session.check_confirmed()
    except (ReaderGoneError, SystemExit):  # SystemExit: Click has completed a word
        return 0
    except ApiKeyError as error:
        session.out.error(error)
        return session.trouble
    except click.UsageError as error:
        return _wrong_usage(error, arguments)
    except OSError as error:
        gone = _no_folder()
        if gone is None and VARIABLE not in os.environ:
            raise
        # Click answers a shell that completes a word, and does nothing else then.
        session.out.error(gone or output_failed(error))
        return 1
    return code or 0


def _no_folder() -> ApiKeyError | None:
    """Return the error of a working directory that was deleted; None if it is there."""
    try:
        os.getcwd()
    except OSError:
        return InvalidArgumentError(
            "The current directory does not exist any more.", hint="Change to another one: cd"
        )
    return None


def _wrong_usage(error: click.UsageError, arguments: Sequence[str]) -> int:
    """Show Click's message; as a JSON document, where the arguments ask for one."""
    message = escape(error.format_message())
    hint = error.__cause__.hint if isinstance(error.__cause__, ApiKeyError) else None
    if any(re.fullmatch(ASKS_FOR_JSON, " ".join(pair)) for pair in pairwise([*arguments, ""])):
        Output(Form.JSON, color=False).error(InvalidArgumentError(message, hint=hint))
    else:
        click.UsageError(message, error.ctx).show()
        if hint:
            click.echo(f"Hint: {escape(hint)}", err=True)
    return error.exit_code
