"""`check`, `log` and `scan`: what an administrator looks at from time to time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import click

from metricshub_apikey.cli import completion, reports
from metricshub_apikey.cli.options import (
    Command,
    common_options,
    length,
    pass_session,
    state_option,
)
from metricshub_apikey.cli.output import Form
from metricshub_apikey.cli.session import Session
from metricshub_apikey.errors import ApiKeyError, PasswordError
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.pkcs12.bag import fold
from metricshub_apikey.registry.api_keys import ApiKeyRegistry, utc_now
from metricshub_apikey.review.checks import Finding, Report, Severity, Thresholds, examine
from metricshub_apikey.review.leaks import Leak, find_leaks
from metricshub_apikey.review.repair import repair


@click.command(cls=Command)
@click.option(
    "--warn",
    metavar="LENGTH",
    type=length,
    default="30d",
    help="Warn of keys that expire within that time; default: 30d.",
)
@click.option(
    "--critical",
    metavar="LENGTH",
    type=length,
    default="7d",
    help="Keys that expire within that time are critical; default: 7d.",
)
@click.option("--fix", is_flag=True, help="Mend what is safe to mend, and say what was done.")
@state_option
@common_options(Form.PROMETHEUS, Form.NAGIOS)
@pass_session
def check(session: Session, *, warn: timedelta, critical: timedelta, fix: bool) -> int:
    """
    Tell whether all is well with the keystore and its keys.

    The exit code is 0 if all is well, 1 for a warning, 2 if something is critical, 3 if the
    keystore could not be checked.

    \b
    Example:
      apikey check --warn 30d --critical 7d
    """
    try:
        registry = session.registry
    except PasswordError as error:
        report = Report((Finding("opens", Severity.UNKNOWN, error.message, error.hint),))
    else:
        done = _mended(session, registry) if fix else ()
        report = examine(
            registry,
            policy=session.policy_or_error(),
            usage=session.usage,
            now=session.now,
            thresholds=Thresholds(warn, critical),
        )._replace(done=done)
    reports.show_report(session.view(), report)
    return int(report.severity)


def _mended(session: Session, registry: ApiKeyRegistry) -> tuple[str, ...]:
    """Mend what is safe to mend; a warning where that fails, for the check goes on."""
    try:
        return tuple(repair(registry))
    except ApiKeyError as error:
        session.out.warn(" ".join(filter(None, ("--fix failed:", error.message, error.hint))))
        return ()


@click.command(cls=Command)
@click.argument("alias", required=False, shell_complete=completion.complete_alias)
@click.option("--since", metavar="LENGTH", type=length, help="Only what was done in that time.")
@common_options(Form.CSV)
@pass_session
def log(session: Session, *, alias: str | None, since: timedelta | None) -> None:
    """
    Show who created, edited, rotated or revoked a key, and when.

    \b
    Example:
      apikey log ci-prod --since 7d
    """
    now = utc_now()
    first = None if since is None else now - min(since, timedelta(days=365_000))
    events = session.activity.events(None if alias is None else fold(alias), first)
    reports.show_log(session.view(), events, database=session.activity.path)


@click.command(cls=Command)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path())
@common_options()
@pass_session
def scan(session: Session, *, paths: tuple[str, ...]) -> int:
    """
    Find keys of this keystore in files and folders.

    A PATH of - is standard input. The exit code is 1 if any was found.

    \b
    Example:
      apikey scan ~/.bash_history /etc/cron.d src
    """
    found = list(_leaks(session, session.registry.list(), paths))
    reports.show_leaks(session.view(), found)
    return 1 if found else 0


def _leaks(session: Session, keys: Iterable[ApiKey], paths: tuple[str, ...]) -> Iterable[Leak]:
    stdin = session.open_stdin(*paths)
    sharing: dict[str, list[str]] = {}
    for key in keys:
        if key.key:
            sharing.setdefault(key.key, []).append(key.alias)
    secrets = {secret: aliases[0] for secret, aliases in sharing.items()}
    others = {aliases[0]: aliases for aliases in sharing.values()}
    skipped = lambda path, reason: session.out.warn(f"{path} was not searched: {reason}.")  # noqa: E731
    with session.out.progress("Searching") as progress:
        for leak in find_leaks(secrets, paths, stdin=stdin, progress=progress, skipped=skipped):
            yield from (leak._replace(alias=alias) for alias in others[leak.alias])


def leaked_keys(session: Session, paths: tuple[str, ...]) -> tuple[ApiKey, ...]:
    """Return the keys that are found in *paths*, and show where."""
    keys = session.registry.list()
    leaks = list(_leaks(session, keys, paths))
    if session.out.form is not Form.JSON:
        for leak in leaks:
            session.out.tell(reports.leak_line(leak))
    aliases = {leak.alias for leak in leaks}
    return tuple(key for key in keys if key.alias in aliases)


COMMANDS = (check, log, scan)
