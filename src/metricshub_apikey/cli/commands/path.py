"""`path`: which keystore is used, and why."""

from __future__ import annotations

import click

from metricshub_apikey.cli.options import Command, common_options, pass_session, quiet
from metricshub_apikey.cli.result import Document, Result
from metricshub_apikey.cli.session import Session
from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keystore.location import Location, exists


class Place(Result):
    """Which keystore would be used, and why."""

    def __init__(self, location: Location) -> None:
        self.location = location

    def document(self) -> Document:
        """Return the path, the rule, and whether there is a file; null where one may not look."""
        path, rule, reason = self.location
        return {"keystore": path, "rule": rule, "reason": reason, "exists": exists(path)}

    def quiet(self) -> list[str]:
        """Return the path alone."""
        return [escape(self.location.path)]

    def lines(self) -> list[str]:
        """Return the path, and the reason in parentheses."""
        missing = " (not there yet)" if exists(self.location.path) is False else ""
        return [f"{escape(self.location.path)} ({self.location.reason}){missing}"]


@click.command("path", cls=Command)
@quiet("Print the path alone.")
@common_options()
@pass_session
def command(session: Session) -> None:
    """
    Show which keystore is used, and why.

    \b
    Example:
      apikey path
    """
    session.out.show(Place(session.location))
