"""`check`: is all well with the keystore and its keys?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from metricshub_apikey.cli.options import (
    Command,
    common_options,
    length,
    pass_session,
    state_option,
)
from metricshub_apikey.cli.output import Form
from metricshub_apikey.cli.result import Document, Result
from metricshub_apikey.cli.session import Session
from metricshub_apikey.errors import ApiKeyError, PasswordError
from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.expiry import Moment
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.review.checks import Finding, Report, Severity, Thresholds, examine
from metricshub_apikey.review.repair import repair

if TYPE_CHECKING:
    from rich.console import RenderableType


class Checked(Result):
    """What was found, and what was mended."""

    def __init__(self, report: Report, *, keystore: str, now: Moment) -> None:
        self.report = report
        self.keystore = keystore
        self.now = now

    def document(self) -> Document:
        """Return the verdict, every finding, and what was mended."""
        return {
            "keystore": self.keystore,
            "severity": self.report.severity.name.lower(),
            "findings": [*map(_finding_document, self.report.findings)],
            "fixed": [*self.report.done],
        }

    def prometheus(self) -> list[str]:
        """Return metrics for the textfile collector."""
        from metricshub_apikey.formats.prometheus import lines
        from metricshub_apikey.review.monitoring import metrics

        return [*lines(metrics(self.report, self.now))]

    def nagios(self) -> list[str]:
        """Return the one line of a plugin."""
        from metricshub_apikey.review.monitoring import nagios_line

        return [nagios_line(self.report)]

    def lines(self) -> list[str]:
        """Return what was mended."""
        return [f"Fixed: {escape(sentence)}" for sentence in self.report.done]

    def drawing(self, width: Callable[[], int]) -> RenderableType:
        """Return the findings as a table."""
        from metricshub_apikey.cli.table import findings_drawing

        del width
        return findings_drawing(self.report.findings)


def _finding_document(finding: Finding) -> Document:
    severity = finding.severity.name.lower()
    return {**finding._asdict(), "severity": severity, "aliases": [*finding.aliases]}


@click.command("check", cls=Command)
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
def command(session: Session, *, warn: timedelta, critical: timedelta, fix: bool) -> int:
    """
    Tell whether all is well with the keystore and its keys.

    \b
    Example:
      apikey check --warn 30d --critical 7d

    The exit code is 0 if all is well, 1 for a warning, 2 if something is critical, 3 if the
    keystore could not be checked.
    """
    try:
        keystore = session.keystore_file
    except PasswordError as error:
        report = Report((Finding("opens", Severity.UNKNOWN, error.message, error.hint),))
    else:
        done = _mended(session, keystore) if fix else ()
        report = examine(
            keystore,
            policy=session.policy_or_error(),
            usage=session.usage,
            now=session.now,
            thresholds=Thresholds(warn, critical),
        )._replace(done=done)
    session.out.show(Checked(report, keystore=session.location.path, now=session.now))
    return int(report.severity)


def _mended(session: Session, keystore: Keystore) -> tuple[str, ...]:
    """Mend what is safe to mend; a warning where that fails, for the check goes on."""
    try:
        return tuple(repair(keystore, session.journal, session.now))
    except ApiKeyError as error:
        session.out.warn(" ".join(filter(None, ("--fix failed:", error.message, error.hint))))
        return ()
