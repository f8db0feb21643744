"""
Tables for people, drawn by Rich; nothing here is imported unless one is shown.

Text of a keystore reaches Rich as `Text`, escaped, so none of it is taken for markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.expiry import Moment, relative, to_local
from metricshub_apikey.keys.selection import Usage
from metricshub_apikey.review.checks import Finding, Severity

from .output import Output, escape
from .views import View

WIDE, NARROW = 160, 80
MOST_DRAWN = 500
"""Rich takes most of a millisecond for a row; a longer table is laid out in plain lines."""

UNBROKEN = ("Key", "Created", "Last used", "Expires")

SOON = timedelta(days=30)
UNKNOWN = "unknown"

COLUMNS = (
    "Alias", "Key", "Roles", "Service account", "Created", "Created by", "Last used", "Expires"
)  # fmt: skip
Groups = Mapping[tuple[int, ...], int | None]

STACKED: Groups = {(0, 1): 24, (2, 3): None, (4, 5): 16, (6,): 12, (7,): 13}
"""Which of the columns share one where the terminal is narrow, and how wide it may be."""

PILED: Groups = {(0, 1, 2, 3): None, (4, 5, 6, 7): 16}
"""The same where it is narrower than that has room for."""


class Row(NamedTuple):
    """What is shown of one key: a text for each column, and the style of the whole row."""

    cells: tuple[str, ...]
    style: str


def show_long(view: View, keys: Sequence[ApiKey]) -> None:
    """
    Show *keys* as a table: all that is known of them but descriptions and labels.

    Args:
        view: Where to.
        keys: In the order to show them.
    """
    out = view.out
    rows = [_row(key, view.now, view.usage) for key in keys]
    if len(rows) > MOST_DRAWN:
        out.lines(_plain_lines(rows))
    elif out.width() >= WIDE:
        out.render(_wide(rows))
    else:
        out.render(_narrow(rows, STACKED if out.width() >= NARROW else PILED))


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
    if key.expires_on is None:
        return "never"
    return f"{key.expires_on.date().isoformat()}, {relative(key.expires_on, now.local)}"


def _style(key: ApiKey, now: Moment) -> str:
    if key.unreadable is not None:
        return "red"
    if key.expired(now):
        return "dim red"
    soon = key.expires_on is not None and key.expires_on - now.local <= SOON
    return "yellow" if soon else ""


def _wide(rows: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for column in COLUMNS:
        table.add_column(column, overflow="fold", no_wrap=column in UNBROKEN)
    for cells, style in rows:
        table.add_row(*map(Text, cells), style=style)
    return table


def _narrow(rows: Sequence[Row], groups: Groups) -> Table:
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


def show_findings(
    out: Output, findings: Sequence[Finding], marks: Mapping[Severity, tuple[str, str]]
) -> None:
    """Show what a check found, the mark and the colour of each severity given in *marks*."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        mark, colour = marks[finding.severity]
        text = Text(escape(finding.sentence))
        if finding.hint:
            text.append(f"\n{escape(finding.hint)}", style="dim")
        table.add_row(Text(mark, style=colour), text)
    out.render(table)


def _plain_lines(rows: Sequence[Row]) -> list[str]:
    table = [COLUMNS, *(row.cells for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell + " " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True)
        ).rstrip()
        for cells in table
    ]
