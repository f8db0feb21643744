"""`scan`: where keys of the keystore stand in files and folders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import click

from metricshub_apikey.cli.options import VerdictCommand, common_options, pass_session
from metricshub_apikey.cli.result import Document, Result
from metricshub_apikey.cli.session import Session
from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.review.leaks import Leak, find_keys


class Found(NamedTuple):
    """Where keys stand, and which paths and keys could not be searched."""

    leaks: Sequence[Leak]
    skipped: Sequence[str]


class Leaks(Result):
    """Where keys were found; never the keys."""

    def __init__(self, found: Found, keystore: str) -> None:
        self.leaks, self.skipped = found
        self.keystore = keystore

    def document(self) -> Document:
        """Return where each leak is, what was not searched, and whether that is nothing."""
        return {
            "keystore": self.keystore,
            "complete": not self.skipped,
            "leaks": [leak._asdict() for leak in self.leaks],
            "not_searched": [*self.skipped],
        }

    def lines(self) -> list[str]:
        """Return a line for each leak."""
        where = "in what was searched" if self.skipped else "in there"
        return [*map(leak_line, self.leaks)] or [f"No API keys found {where}."]


def leak_line(leak: Leak) -> str:
    """Return `file:line: alias`; for a binary file, where the key begins in it."""
    if leak.offset is not None:
        return escape(f"{leak.file}: offset {leak.offset}: {leak.alias}")
    return escape(f"{leak.file}:{leak.line}: {leak.alias}")


@click.command("scan", cls=VerdictCommand)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path())
@common_options()
@pass_session
def command(session: Session, *, paths: tuple[str, ...]) -> int:
    """
    Find keys of this keystore in files and folders.

    \b
    Example:
      apikey scan ~/.bash_history /etc/cron.d src

    A PATH of - is standard input. The exit code is 1 if any was found, 2 if none was, but not
    everything could be searched.
    """
    session.open_stdin(*paths)  # the password must not be what is to be searched
    session.require_keystore()
    found = leaks_in(session, session.keys.list(), paths)
    session.out.show(Leaks(found, session.location.path))
    return 1 if found.leaks else 2 if found.skipped else 0


def leaks_in(session: Session, keys: Iterable[ApiKey], paths: tuple[str, ...]) -> Found:
    """Return where *keys* stand in *paths*; a warning for each path that was not searched."""
    out, stdin = session.out, session.open_stdin(*paths)
    not_searched: list[str] = []

    def skipped(path: str, reason: str) -> None:
        not_searched.append(path)
        out.warn(f"{path} was not searched: {reason}.")

    with out.progress("Searching") as progress:
        leaks = [*find_keys(keys, paths, stdin=stdin, progress=progress, skipped=skipped)]
    return Found(leaks, not_searched)
