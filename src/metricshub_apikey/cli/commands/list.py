"""`list`: the keys, masked, in the order of the keystore."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

import click

from metricshub_apikey.cli.key_text import label_words, line, warn_of_unreadable
from metricshub_apikey.cli.options import (
    Command,
    common_options,
    exclude,
    pass_session,
    quiet,
    selectors,
    state_option,
)
from metricshub_apikey.cli.output import Form
from metricshub_apikey.cli.result import Document, Result, Rows
from metricshub_apikey.cli.session import Session
from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.document import KEY_FIELDS, key_document
from metricshub_apikey.keys.expiry import Moment
from metricshub_apikey.keys.selection import Selection, Usage

if TYPE_CHECKING:
    from rich.console import RenderableType

    from metricshub_apikey.cli.table import KeyTable


class Aliases(Result):
    """The aliases alone, which takes no decryption."""

    def __init__(self, aliases: Sequence[str]) -> None:
        self.aliases = aliases

    def quiet(self) -> list[str]:
        """Return one alias a line."""
        return [escape(alias) for alias in self.aliases]


class View(Enum):
    """How keys are shown to people."""

    SHORT, LONG, TIMELINE = range(3)


class Listing(Result):
    """
    Keys, all that there are or a selection.

    Attributes:
        keys: In the order of the keystore.
        now: The current moment, on the server's clock.
        usage: What is known of their use.
        keystore: The path of the keystore.
        long: Whether people get a table.
        all_keys: Whether these are all keys that there are.
    """

    def __init__(
        self,
        keys: Sequence[ApiKey],
        *,
        now: Moment,
        usage: Usage,
        keystore: str,
        view: View,
        all_keys: bool,
    ) -> None:
        self.keys = keys
        self.now = now
        self.usage = usage
        self.keystore = keystore
        self.view = view
        self.all_keys = all_keys

    def _documents(self) -> Iterator[Document]:
        return (key_document(key, now=self.now, usage=self.usage) for key in self.keys)

    def document(self) -> Document:
        """Return the same fields for every key."""
        return {"keystore": self.keystore, "keys": [*self._documents()]}

    def rows(self) -> Rows:
        """Return the fields of the JSON document, a row for each key."""
        return Rows(KEY_FIELDS, ([*map(_cell, one.values())] for one in self._documents()))

    def quiet(self) -> list[str]:
        """Return one alias a line."""
        return [escape(key.alias) for key in self.keys]

    def lines(self) -> list[str]:
        """Return a line for each key."""
        if not self.keys:
            return ["No API keys found." if self.all_keys else "No such API keys found."]
        if self.view is View.SHORT:
            return [line(key, self.now) for key in self.keys]
        return self._table().lines() if self.view is View.LONG else []

    def drawing(self, width: Callable[[], int]) -> RenderableType | None:
        """Return the table of `--long`, or the months of `--timeline`."""
        if not self.keys or self.view is View.SHORT:
            return None
        if self.view is View.LONG:
            return self._table().drawing(width())
        from metricshub_apikey.cli.table import timeline

        return timeline(self.keys, now=self.now, width=width())

    def _table(self) -> KeyTable:
        from metricshub_apikey.cli.table import KeyTable

        return KeyTable(self.keys, now=self.now, usage=self.usage)


def _cell(value: object) -> str:
    """Return a field for CSV: members of a list as a shell would take them."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return label_words(value)
    if isinstance(value, list):
        from shlex import join

        return escape(join(value))
    return "" if value is None else escape(str(value))


@click.command("list", cls=Command)
@click.option("--long", is_flag=True, help="Show a table of all that is known of each key.")
@click.option("--timeline", is_flag=True, help="Draw the next twelve months, a line for each key.")
@selectors("Only keys")
@quiet("Print the aliases alone.")
@state_option
@common_options(Form.CSV)
@pass_session
def command(
    session: Session,
    /,
    *,
    long: bool,
    timeline: bool,
    **filters: Any,  # noqa: ANN401 - from Click
) -> None:
    """
    List the API keys, masked, in the order of the keystore.

    \b
    Example:
      apikey list --long --expiring-in 30d
    """
    selection = Selection(**filters)
    selection.check()
    keystore = session.location.path
    if session.quiet and selection == Selection():
        return session.out.show(Aliases(session.keys.aliases()))
    exclude([("--long", long), ("--timeline", timeline)])
    view = View.LONG if long else View.TIMELINE if timeline else View.SHORT
    complete = view is View.LONG or session.out.form.has_all_fields
    with session.out.progress("Deriving keys") as progress:
        metadata = complete or selection != Selection()
        found = session.keys.list(progress, metadata=metadata)
    warn_of_unreadable(session.out, found)
    known = complete or selection.unused_for is not None
    usage = session.usage if known else Usage()
    now = session.now
    all_keys, shown = selection == Selection(), found
    if not all_keys:
        shown = selection.select(found, now=now, usage=usage)
    return session.out.show(
        Listing(shown, now=now, usage=usage, keystore=keystore, view=view, all_keys=all_keys)
    )
