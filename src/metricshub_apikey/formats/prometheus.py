r"""
Metrics in the text format of Prometheus (exposition format 0.0.4): the one writer of it.

    >>> print(*lines([Metric("keys", "API keys.", [({"state": "valid"}, 2)])]), sep="\n")
    # HELP keys API keys.
    # TYPE keys gauge
    keys{state="valid"} 2
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from .visible import escape

NO_LABELS: Mapping[str, str] = {}

Sample = tuple[Mapping[str, str], float]
"""The labels of a value, by name, and the value; it is written as a whole number."""


class Metric(NamedTuple):
    """
    A number that is measured.

    Attributes:
        name: As Prometheus stores it.
        about: What it measures, a sentence.
        samples: Its values, each with its labels.
        kind: A `gauge` goes up and down, a `counter` only up.
    """

    name: str
    about: str
    samples: Sequence[Sample]
    kind: Literal["gauge", "counter"] = "gauge"


def lines(metrics: Iterable[Metric]) -> Iterator[str]:
    """Yield the lines of *metrics*, without line ends; a metric without samples has no lines."""
    for metric in metrics:
        if metric.samples or metric.kind == "counter":
            yield f"# HELP {metric.name} {metric.about}"
            yield f"# TYPE {metric.name} {metric.kind}"
        for labels, value in metric.samples:
            shown = ",".join(f'{label}="{_quoted(held)}"' for label, held in labels.items())
            yield f"{metric.name}{{{shown}}} {value:.0f}" if shown else f"{metric.name} {value:.0f}"


def _quoted(held: str) -> str:
    """Return the value of a label: a line feed is the only control character that it may hold."""
    parts = (escape(line).replace("\\", "\\\\").replace('"', '\\"') for line in held.split("\n"))
    return "\\n".join(parts)
