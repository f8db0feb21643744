"""
Tables for people, drawn by Rich; nothing here is imported unless one is shown.

Text of a keystore reaches Rich as `Text`, escaped, so none of it is taken for markup.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from io import StringIO
from typing import NamedTuple

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.durations import relative
from metricshub_apikey.keys.expiry import Moment, to_local
from metricshub_apikey.keys.selection import Usage
from metricshub_apikey.review.checks import Finding, Severity

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

WORST_FIRST = sorted(Severity, reverse=True)

SOON = timedelta(days=30)
UNKNOWN, NONE = "unknown", "-"

COLUMNS = (
    "Alias", "Key", "Roles", "Account", "Created", "By", "Last used", "Expires"
)  # fmt: skip
ALIAS, KEY, ROLES, ACCOUNT, CREATED, BY, USED, EXPIRES = range(len(COLUMNS))
FOLDED = (ALIAS, ROLES, ACCOUNT, BY)
"""What may go on in a second line, where it is long."""

LEAST = 12
"""How narrow a folded column may become."""

SPARED = (BY, CREATED, ACCOUNT, USED, ROLES)
"""Which columns a narrow terminal does without, the first one first."""

TIMELINE = timedelta(days=365)
LEAST_BAR = 24
"""Columns in which twelve months can be told apart."""

GAP = 2


class Row(NamedTuple):
    """
    What is shown of one key.

    Attributes:
        cells: A text for each column.
        ends: The last one without its date.
        style: Of the state.
    """

    cells: tuple[str, ...]
    ends: str
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
        known = [one for one in range(len(COLUMNS)) if one not in SPARED or self._is_known(one)]
        dated = self._width(known, dated=True, least=width) <= width
        shown, spared = list(known), []
        for column in SPARED:
            if self._width(shown, dated=dated) > width and column in shown:
                shown.remove(column)
                spared.append(COLUMNS[column])
        return self._draw(shown, spared, dated=dated)

    def _is_known(self, column: int) -> bool:
        return any(row.cells[column] not in (UNKNOWN, NONE) for row in self._rows)

    def _width(self, columns: Sequence[int], *, dated: bool, least: int = LEAST) -> int:
        """Return how wide the table is where what may be folded is as narrow as *least*."""
        total = 0
        for one in columns:
            cells = [cell_len(_cell(row, one, dated)) for row in self._rows]
            wide = max(cell_len(COLUMNS[one]), *cells)
            total += GAP + (min(wide, least) if one in FOLDED else wide)
        return total

    def _draw(self, columns: Sequence[int], spared: Sequence[str], *, dated: bool) -> Table:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        for one in columns:
            table.add_column(COLUMNS[one], overflow="fold", no_wrap=one not in FOLDED)
        for row in self._rows:
            cells = [Text(_cell(row, one, dated)) for one in columns]
            cells[-1].stylize(row.style)
            table.add_row(*cells)
        if spared:
            table.caption = Text(f"Left out for want of room: {', '.join(spared)}.", style="dim")
            table.caption_justify = "left"
        return table


def timeline(keys: Sequence[ApiKey], *, now: Moment, width: int) -> Text:
    """
    Return the next twelve months, a line for each key: how long it lives, and when it ends.

    Args:
        keys: In the order to show them.
        now: The current moment, on the server's clock.
        width: Of the terminal, in columns.
    """
    ends = [_ends(key, now) for key in keys]
    longest = max(map(cell_len, ("Expires", *ends)))
    most = max(LEAST, width - longest - LEAST_BAR - 2 * GAP)
    names = [_cut(escape(key.alias), most) for key in keys]
    named = max(map(cell_len, ("Alias", *names))) + GAP
    room = max(1, width - named - longest - GAP)
    heading = Text(f"{_padded('Alias', named)}{_months(now.local, room):<{room + GAP}}Expires")
    heading.stylize("bold")
    lines = [heading]
    for key, name, end in zip(keys, names, ends, strict=True):
        shown = Text(f"{_bar(key, now, room):<{room + GAP}}{end}", style=_style(key, now))
        lines.append(Text(_padded(name, named)) + shown)
    return Text("\n", no_wrap=True, overflow="crop").join(lines)


def _cut(name: str, most: int) -> str:
    """Return *name*, or as much of it as fits into *most* columns."""
    return name if cell_len(name) <= most else f"{set_cell_size(name, most - 1)}…"


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _months(now: datetime, room: int) -> str:
    """Return the names of the next months, where they begin, as far as there is room."""
    line, month = "", now.replace(day=1)
    for _ in range(12):
        month = (month + timedelta(days=32)).replace(day=1)
        at = int((month - now) / TIMELINE * room)
        if at >= len(line) + bool(line) and at + 3 <= room:
            line = line.ljust(at) + f"{month:%b}"
    return line


def _bar(key: ApiKey, now: Moment, room: int) -> str:
    """Return a bar as long as the key lives, within twelve months."""
    if key.unreadable is not None or key.suspended or key.expired(now):
        return ""
    if key.expires_on is None or key.expires_on - now.local > TIMELINE:
        return "━" * (room - 1) + "▶"
    return "━" * int((key.expires_on - now.local) / TIMELINE * (room - 1)) + "●"


def _row(key: ApiKey, now: Moment, usage: Usage) -> Row:
    used = usage.of(key)
    created = to_local(key.created_at, now.zone).date().isoformat() if key.created_at else UNKNOWN
    metadata, ends = key.metadata, _ends(key, now)
    dated = key.expires_on is not None and not key.suspended and key.unreadable is None
    cells = (
        key.alias,
        "unreadable" if key.unreadable else key.masked.replace("*" * 20, "…"),
        ", ".join(metadata.roles) or NONE,
        metadata.service_account or NONE,
        created,
        metadata.created_by or UNKNOWN,
        relative(used, now.instant) if used else UNKNOWN,
        f"{key.expires_on.date().isoformat()}, {ends}" if dated and key.expires_on else ends,
    )
    return Row(tuple(map(escape, cells)), ends, _style(key, now))


def _cell(row: Row, column: int, dated: bool) -> str:  # noqa: FBT001 - called for every cell
    return row.ends if column == EXPIRES and not dated else row.cells[column]


def _ends(key: ApiKey, now: Moment) -> str:
    """Return when a key ends, from now on, or what keeps it from being accepted."""
    if key.unreadable is not None:
        return UNKNOWN
    if key.suspended:
        return "suspended"
    return "never" if key.expires_on is None else relative(key.expires_on, now.local)


def _style(key: ApiKey, now: Moment) -> str:
    if key.unreadable is not None or key.expired(now):
        return "red"
    if key.suspended:
        return "magenta"
    soon = key.expires_on is not None and key.expires_on - now.local <= SOON
    return "yellow" if soon else "green"


def findings_drawing(findings: Sequence[Finding]) -> RenderableType:
    """
    Return what a check found, each with its mark in the colour of its severity, and how many.

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
    if len(findings) > 1:
        drawn += ["", _total(findings)]
    return Group(*drawn)


def _total(findings: Sequence[Finding]) -> Text:
    """Return the verdict in one line: how many findings there are of each kind, the worst first."""
    counts = Counter(finding.severity for finding in findings)
    found = [one for one in WORST_FIRST if counts[one]]
    told = ", ".join(f"{counts[one]} {one.name.lower()}" for one in found)
    return Text(f"In all: {told}.", style=COLOURS[found[0]])


PLAIN_SIGNS = str.maketrans("…━▶●", "*=>o")
"""What stands for our signs where a stream lacks them."""


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
    shown = page.getvalue().translate(PLAIN_SIGNS if "utf" not in encoding.lower() else {})
    lines = [line.rstrip() for line in shown.split("\n")]
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
