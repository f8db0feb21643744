"""Expiries as they are typed, and what is said of the clock."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from conftest import Run
from shell import (
    Done,
    check,
    names,
)
from stock import Stock


def made_until(done: Done) -> str:
    """Return the expiry that `create` echoed."""
    found = re.search(r"\(Expires on (.*)\)\n", done.stdout)
    assert found, done
    return found[1]


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("2999-12-31T23:59:59", "2999-12-31T23:59:59"),
        ("2999-12-31T23:59", "2999-12-31T23:59:00"),
        ("2999-12-31T23:59:59.75", "2999-12-31T23:59:59"),
        ("2999-12-31", "2999-12-31T23:59:59"),
        ("2999-06-30T12:00Z", "2999-06-30T08:00:00"),
        ("2999-12-31T23:59:59+01:00", "2999-12-31T17:59:59"),
    ],
)
def test_expires_on(run: Run, stock: Stock, keystore: Path, typed: str, stored: str) -> None:
    """Each form is echoed, stored and listed as local time with seconds."""
    here = ("--timezone", "America/New_York")
    done = run("create", "x", "--expires-on", typed, *here)
    assert (made_until(done), done.stderr) == (stored, "")
    assert run("list", *here).stdout.endswith(f" (Expires on {stored})\n")
    (row,) = stock.rows("list", keystore)
    assert row[2].endswith(f"__{stored}")


@pytest.mark.parametrize("typed", ["2020-01-01", "1999-12-31T23:59:59Z", "0001-01-01T00:00"])
def test_an_expiry_in_the_past(run: Run, tmp_path: Path, typed: str) -> None:
    """A key that would be dead on arrival is not made."""
    done = run("create", "x", "--expires-on", typed)
    check(done, 1, stderr="Error: Expiration date time must be in the future.\n")
    check(run("create", "x", "--expires-in", "0d"), 1, stderr=done.stderr)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("typed", "length"), [("90d", timedelta(days=90)), ("1d12h30m", timedelta(hours=36.5))]
)
def test_expires_in(run: Run, typed: str, length: timedelta) -> None:
    """A length of time counts from now."""
    before = datetime.now(UTC)
    until = datetime.fromisoformat(
        made_until(run("create", "x", "--expires-in", typed, env={"TZ": "UTC"})) + "+00:00"
    )
    assert before + length - timedelta(seconds=1) <= until <= datetime.now(UTC) + length


def last_sunday(year: int, month: int) -> date:
    """Return the day on which Europe's clocks change."""
    last = date(year, month, 31)
    return last - timedelta(days=(last.weekday() + 1) % 7)


@pytest.mark.parametrize("month", [3, 10])
def test_clock_changes_are_noted(run: Run, month: int) -> None:
    """An hour that comes twice or never is accepted with a note that names the earlier instant."""
    day = last_sunday(datetime.now().year + 1, month)
    here = ("--timezone", "Europe/Paris")
    done = run("create", "x", "--expires-on", f"{day}T02:30", *here)
    assert made_until(done) == f"{day}T02:30:00"
    assert done.stderr == (
        f"Note: The clocks change around {day}T02:30:00; the key expires at {day}T00:30:00Z.\n"
    )
    done = run("create", "y", "--expires-on", f"{day}T03:30", *here)
    assert (done.returncode, done.stderr) == (0, "")
