"""The results as Markdown: a table for each question, with what was wanted and whether it is so."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

HEAD = """\
| | n | min | median | max | goal | met |
| --- | --: | --: | --: | --: | --- | --- |"""


class Goal(NamedTuple):
    """What the median should be: at most, or at least, so much."""

    limit: float
    at_most: bool

    def __str__(self) -> str:
        """Return it as the table shows it."""
        return f"{'≤' if self.at_most else '≥'} {self.limit:g}"

    def met(self, value: float) -> bool:
        """Tell whether *value* is good enough."""
        return value <= self.limit if self.at_most else value >= self.limit


class Row(NamedTuple):
    """One quantity, measured several times."""

    what: str
    values: Sequence[float]
    goal: Goal | None = None

    def __str__(self) -> str:
        """Return the line of the table."""
        middle = median(self.values)
        shown = (min(self.values), middle, max(self.values))
        numbers = [f"{value:#.3g}".rstrip(".") for value in shown]
        goal, met = "", ""
        if self.goal is not None:
            goal, met = str(self.goal), "yes" if self.goal.met(middle) else "**no**"
        return "| " + " | ".join([self.what, str(len(self.values)), *numbers, goal, met]) + " |"


class Section(NamedTuple):
    """One question: a title, what was run, and the rows that answer it."""

    title: str
    text: str
    rows: Sequence[Row]

    def __str__(self) -> str:
        """Return the section as Markdown."""
        head = (
            "| | n | min | median | max | goal | met |\n| --- | --: | --: | --: | --: | --- | --- |"
        )
        table = "\n".join([head, *map(str, self.rows)])
        return f"## {self.title}\n\n{self.text}\n\n{table}\n"


def at_most(limit: float) -> Goal:
    """Return the goal that the median is not above *limit*."""
    return Goal(limit, at_most=True)


def at_least(limit: float) -> Goal:
    """Return the goal that the median is not below *limit*."""
    return Goal(limit, at_most=False)


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return the ratio of each pair of runs that followed each other."""
    return [one / other for one, other in zip(above, below, strict=True)]
