"""`scan`: where keys of the keystore stand in files and folders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from metricshub_apikey.cli.options import Command, common_options, pass_session
from metricshub_apikey.cli.result import Document, Result
from metricshub_apikey.cli.session import Session
from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.review.leaks import Leak, find_keys


class Leaks(Result):
    """Where keys were found; never the keys."""

    def __init__(self, leaks: Sequence[Leak], keystore: str) -> None:
        self.leaks = leaks
        self.keystore = keystore

    def document(self) -> Document:
        """Return file, line and alias of each leak."""
        return {"keystore": self.keystore, "leaks": [leak._asdict() for leak in self.leaks]}

    def lines(self) -> list[str]:
        """Return a line for each leak."""
        return [*map(leak_line, self.leaks)] or ["No API keys found in there."]


def leak_line(leak: Leak) -> str:
    """Return `file:line: alias`."""
    return escape(f"{leak.file}:{leak.line}: {leak.alias}")


@click.command("scan", cls=Command)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path())
@common_options()
@pass_session
def command(session: Session, *, paths: tuple[str, ...]) -> int:
    """
    Find keys of this keystore in files and folders.

    A PATH of - is standard input. The exit code is 1 if any was found.

    \b
    Example:
      apikey scan ~/.bash_history /etc/cron.d src
    """
    found = leaks_in(session, session.keys.list(), paths)
    session.out.show(Leaks(found, session.location.path))
    return 1 if found else 0


def leaks_in(session: Session, keys: Iterable[ApiKey], paths: tuple[str, ...]) -> list[Leak]:
    """Return where *keys* stand in *paths*; a warning for each path that was not searched."""
    out, stdin = session.out, session.open_stdin(*paths)

    def skipped(path: str, reason: str) -> None:
        out.warn(f"{path} was not searched: {reason}.")

    with out.progress("Searching") as progress:
        return [*find_keys(keys, paths, stdin=stdin, progress=progress, skipped=skipped)]
