"""`log`: who did what to a key, and when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta, tzinfo

import click

from metricshub_apikey.activity.database import Event
from metricshub_apikey.cli.completion import complete_alias
from metricshub_apikey.cli.options import Command, common_options, length, pass_session
from metricshub_apikey.cli.output import Form, green
from metricshub_apikey.cli.result import Document, Result, Rows
from metricshub_apikey.cli.session import Session
from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.expiry import text, to_local, utc_text
from metricshub_apikey.registry.api_keys import utc_now


class Logged(Result):
    """Who did what and when, oldest first."""

    def __init__(self, events: Sequence[Event], database: str, zone: tzinfo) -> None:
        self.events = events
        self.database = database
        self.zone = zone

    def document(self) -> Document:
        """Return every field of each event; times are instants."""
        events = [{**event._asdict(), "at": utc_text(event.at)} for event in self.events]
        return {"database": self.database, "events": events}

    def rows(self) -> Rows:
        """Return a row for each event; times are instants."""
        rows = (
            [utc_text(one.at), *map(escape, (one.actor, one.action, one.alias, one.details or ""))]
            for one in self.events
        )
        return Rows(("at", "actor", "action", "alias", "details"), rows)

    def lines(self) -> list[str]:
        """Return a line for each event; times are local."""
        return [_line(event, self.zone) for event in self.events] or ["Nothing has been recorded."]


def _line(event: Event, zone: tzinfo) -> str:
    details = f" ({escape(event.details)})" if event.details else ""
    who, alias = escape(event.actor), green(escape(event.alias))
    return f"{text(to_local(event.at, zone))} {who} {escape(event.action)} {alias}{details}"


@click.command("log", cls=Command)
@click.argument("alias", required=False, shell_complete=complete_alias)
@click.option("--since", metavar="LENGTH", type=length, help="Only what was done in that time.")
@common_options(Form.CSV)
@pass_session
def command(session: Session, *, alias: str | None, since: timedelta | None) -> None:
    """
    Show who created, edited, rotated or revoked a key, and when.

    \b
    Example:
      apikey log ci-prod --since 7d
    """
    now = utc_now()
    first = None if since is None else now - min(since, timedelta(days=365_000))
    events = session.activity.about(alias, first)
    session.out.show(Logged(events, session.activity.path, session.zone))
