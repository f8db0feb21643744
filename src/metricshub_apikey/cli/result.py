"""What a command has to show, in each of the forms that a user may ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import RenderableType

Document = dict[str, object]


class Rows(NamedTuple):
    """The names of the columns, and the rows below them."""

    header: Sequence[str]
    rows: Iterable[Sequence[str]]


class Result:
    """
    What a command has to show.

    A command overrides a method for each form that it offers; `Output.show` alone decides which of
    them is called. Text from a keystore or from an argument is escaped here, except in JSON, which
    escapes by itself.
    """

    def document(self) -> Document:
        """Return the JSON document, without the notes."""
        raise NotImplementedError

    def notes(self) -> list[str]:
        """Return what people are told on standard error, and JSON in the document's fields."""
        return []

    def lines(self) -> list[str]:
        """Return the lines for people."""
        return []

    def drawing(self, width: Callable[[], int]) -> RenderableType | None:
        """
        Return what Rich draws for people, below the lines; None for nothing.

        Args:
            width: Returns how many columns there are.
        """
        del width
        return None

    def quiet(self) -> list[str]:
        """Return the bare values, one a line."""
        return []

    def rows(self) -> Rows:
        """Return what goes into CSV."""
        raise NotImplementedError

    def prometheus(self) -> list[str]:
        """Return lines in the text format of Prometheus."""
        raise NotImplementedError

    def nagios(self) -> list[str]:
        """Return the line of a Nagios plugin."""
        raise NotImplementedError
