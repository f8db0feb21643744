"""
Tables for people, drawn by Rich; nothing here is imported unless one is shown.

Text of a keystore reaches Rich as `Text`, escaped, so none of it is taken for markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from io import StringIO
from typing import NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.durations import relative
from metricshub_apikey.keys.expiry import Moment, to_local
from metricshub_apikey.keys.selection import Usage
from metricshub_apikey.review.checks import Finding, Severity

WIDE, NARROW = 160, 80
MOST_DRAWN = 500
"""Rich takes most of a millisecond for a row; a longer table is laid out in plain lines."""

UNLIMITED_HEIGHT = 250
"""Without a height, Rich takes a dumb terminal for 80 columns wide."""

COLOURS = {
    Severity.OK: "green",
    Severity.WARNING: "yellow",
    Severity.CRITICAL: "red",
    Severity.UNKNOWN: "red",
}

UNBROKEN = ("Key", "Created", "Last used", "Expires")

SOON = timedelta(days=30)
UNKNOWN = "unknown"

COLUMNS = (
    "Alias", "Key", "Roles", "Service account", "Created", "Created by", "Last used", "Expires"
)  # fmt: skip
Columns = Mapping[tuple[int, ...], int | None]

STACKED: Columns = {(0, 1): 24, (2, 3): None, (4, 5): 16, (6,): 12, (7,): 13}
"""Which of the columns share one where the terminal is narrow, and how wide it may be."""

PILED: Columns = {(0, 1, 2, 3): None, (4, 5, 6, 7): 16}
"""The same where it is narrower than that has room for."""


class Row(NamedTuple):
    """What is shown of one key: a text for each column, and the style of the whole row."""

    cells: tuple[str, ...]
    style: str


class KeyTable:
    """The table of `list --long`: all that is known of keys but descriptions and labels."""

    def __init__(self, keys: Sequence[ApiKey], *, now: Moment, usage: Usage) -> None:
        """
        Look at the keys.

        Args:
            keys: In the order to show them.
            now: The current moment, on the server's clock.
            usage: What is known of their use.
        """
        self._rows = [_row(key, now, usage) for key in keys]

    def lines(self) -> list[str]:
        """Return a long table as plain lines, which is fast; none for a table that Rich draws."""
        return _plain_lines(self._rows) if len(self._rows) > MOST_DRAWN else []

    def drawing(self, width: int) -> Table | None:
        """Return the table for a terminal of *width* columns; None for a long one."""
        if len(self._rows) > MOST_DRAWN:
            return None
        if width >= WIDE:
            return _wide(self._rows)
        return _narrow(self._rows, STACKED if width >= NARROW else PILED)


def _row(key: ApiKey, now: Moment, usage: Usage) -> Row:
    used = usage.of(key)
    created = to_local(key.created_at, now.zone).date().isoformat() if key.created_at else UNKNOWN
    metadata = key.metadata
    cells = (
        key.alias,
        "unreadable" if key.unreadable else key.masked,
        ", ".join(metadata.roles) or "-",
        metadata.service_account or "-",
        created,
        metadata.created_by or UNKNOWN,
        relative(used, now.instant) if used else UNKNOWN,
        _expiry(key, now),
    )
    return Row(tuple(map(escape, cells)), _style(key, now))


def _expiry(key: ApiKey, now: Moment) -> str:
    if key.unreadable is not None:
        return UNKNOWN
    if key.suspended:
        return "suspended"
    if key.expires_on is None:
        return "never"
    return f"{key.expires_on.date().isoformat()}, {relative(key.expires_on, now.local)}"


def _style(key: ApiKey, now: Moment) -> str:
    if key.unreadable is not None:
        return "red"
    if key.expired(now):
        return "dim red"
    if key.suspended:
        return "dim"
    soon = key.expires_on is not None and key.expires_on - now.local <= SOON
    return "yellow" if soon else ""


def _wide(rows: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for column in COLUMNS:
        table.add_column(column, overflow="fold", no_wrap=column in UNBROKEN)
    for cells, style in rows:
        table.add_row(*map(Text, cells), style=style)
    return table


def _narrow(rows: Sequence[Row], groups: Columns) -> Table:
    apart = 1 if groups is PILED else 0
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False, leading=apart)
    shown = [(*cells[:-1], cells[-1].replace(", ", "\n")) for cells, _ in rows]
    for group, most in groups.items():
        heading = "\n".join(COLUMNS[index] for index in group)
        lines = [line for cells in shown for index in group for line in cells[index].split("\n")]
        longest = max(map(cell_len, [*lines, *heading.split("\n")]))
        table.add_column(heading, overflow="fold", width=most and min(longest, most))
    for cells, row in zip(shown, rows, strict=True):
        stacked = ("\n".join(cells[index] for index in group) for group in groups)
        table.add_row(*map(Text, stacked), style=row.style)
    return table


def findings_drawing(findings: Sequence[Finding]) -> Group:
    """
    Return what a check found, each finding with its mark in the colour of its severity.

    Hints are not folded: a command that a user copies from a terminal must be in one line.
    """
    marks = max((len(finding.severity.name) for finding in findings), default=0)
    drawn: list[RenderableType] = []
    for finding in findings:
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, width=marks)
        table.add_column(overflow="fold")
        mark = Text(finding.severity.name.lower(), style=COLOURS[finding.severity])
        table.add_row(mark, Text(escape(finding.sentence)))
        drawn.append(table)
        if finding.hint:
            hint = " " * (marks + 2) + escape(finding.hint)
            drawn.append(Text(hint, style="dim", no_wrap=True, overflow="ignore"))
    return Group(*drawn)


class _Page(StringIO):
    encoding = "utf-8"


def drawn(drawing: RenderableType, width: int, encoding: str, *, color: bool) -> str:
    """
    Return what Rich makes of a drawing, without empty lines around it.

    Args:
        drawing: A table.
        width: In columns.
        encoding: Of the stream that it goes to; it decides which lines can be drawn.
        color: Whether it has colours.
    """
    page = _Page()
    page.encoding = encoding
    console = Console(
        file=page,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        height=UNLIMITED_HEIGHT,
        legacy_windows=False,
        highlight=False,
        emoji=False,
    )
    console.print(drawing, crop=False)
    lines = [line.rstrip() for line in page.getvalue().split("\n")]
    return "\n".join(lines).strip("\n")


def _plain_lines(rows: Sequence[Row]) -> list[str]:
    table = [COLUMNS, *(row.cells for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell + " " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True)
        ).rstrip()
        for cells in table
    ]
