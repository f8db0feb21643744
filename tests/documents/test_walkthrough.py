"""The walk-through docs/first-year.md: each of its commands, run in the order of the year."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from test_readme import TIME, blocks, examples, normalised, run_example, with_apikey

from metricshub_apikey import ApiKeys
from metricshub_apikey.activity.database import path_beside
from metricshub_apikey.keys import entries
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.pkcs12.store import Store
from places import PROJECT
from stock import Stock

DOCUMENT = PROJECT / "docs" / "first-year.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")

FOLDER = "/opt/metricshub/security"
START = date(2027, 1, 11)

DAY = re.compile(r"^## (\d+ [A-Z][a-z]+)\b", re.MULTILINE)
YAML_FILE = "keys.yaml"


def chapters() -> list[tuple[date, str]]:
    """Return the text of each chapter with its day, in the year of the walk-through."""
    _, *parts = DAY.split(TEXT)
    return [
        (datetime.strptime(f"{day} {START.year}", "%d %B %Y").date(), text)
        for day, text in zip(parts[::2], parts[1::2], strict=True)
    ]


def age(keystore: Path, length: timedelta) -> None:
    """Make a keystore, and what is recorded beside it, older: as if *length* had passed."""

    def change(store: Store) -> None:
        found = entries.by_alias(store)
        older = {}
        for alias, key in entries.read(store, found).items():
            rotated = key.metadata.rotated_at
            aged = key._replace(
                created_ms=(key.created_ms or 0) - length // timedelta(milliseconds=1),
                expires_on=key.expires_on and key.expires_on - length,
                metadata=key.metadata._replace(rotated_at=rotated and rotated - length),
            )
            older[found[alias]] = entries.new_bag(store, aged, os.urandom)
        store.replace(older)

    Keystore(keystore).update(change)
    with contextlib.closing(sqlite3.connect(path_beside(str(keystore)))) as database:
        database.execute("UPDATE event SET at = at - ?", [length // timedelta(milliseconds=1)])
        database.commit()


def morning(now: datetime) -> tuple[str, date]:
    """Return a time zone in which it is nine o'clock, far from midnight, and the day there."""
    behind = now.hour - 9
    return f"GMT{-behind:+}", (now - timedelta(hours=behind)).date()


def moved(printed: str, length: timedelta) -> str:
    """Return *printed* with each date so much later."""

    def later(found: re.Match[str]) -> str:
        return (date.fromisoformat(found[0][:10]) + length).isoformat() + found[0][10:]

    return TIME.sub(later, printed)


def dated(printed: str) -> str:
    """Return *printed* without the times of the day."""
    return re.sub(r"\b(\d{4}-\d\d-\d\d)T\d\d:\d\d:\d\d", r"\1", printed)


def test_every_command_prints_what_the_walk_through_says(
    environment: dict[str, str], tmp_path: Path, keystore: Path, stock: Stock
) -> None:
    """Between the chapters the keystore gets older, so that all lengths of time are real."""
    keystore.parent.mkdir()
    zone, real_day = morning(datetime.now(UTC))
    environment = with_apikey(environment, tmp_path, "--timezone", zone)
    (keys,) = blocks("yaml", TEXT)
    (tmp_path / YAML_FILE).write_text(keys, encoding="utf-8")
    today = START

    for day, chapter in chapters():
        if keystore.exists():
            age(keystore, day - today)
        today = day
        if "somebody used MetricsHub's own tool" in chapter:
            stock.ask("create", keystore, "reporting", str(uuid4()))
        for command, expected in examples(chapter):
            here = command.replace(FOLDER, str(keystore.parent))
            shown = moved(run_example(here, environment, tmp_path, FOLDER), day - real_day)
            assert normalised(dated(shown), TEXT) == normalised(dated(expected), TEXT), command


def test_the_walk_through_is_a_year() -> None:
    """It starts where it says, goes forward, and covers most of a year."""
    days = [day for day, _ in chapters()]

    assert days[0] == START
    assert days == sorted(days)
    assert timedelta(days=300) < days[-1] - days[0] < timedelta(days=366)
    assert sum(len(examples(text)) for _, text in chapters()) == len(examples(TEXT))


def test_a_keystore_that_gets_older_keeps_its_keys(keystore: Path) -> None:
    """What the test above does between the chapters changes times alone."""
    registry = ApiKeys(Keystore(keystore))
    key = registry.create("ci", expires_on=datetime(2090, 1, 31))
    with contextlib.closing(sqlite3.connect(path_beside(str(keystore)))) as database:
        database.execute("CREATE TABLE event (at INTEGER)")
    age(keystore, timedelta(days=30))
    (aged,) = registry.list()

    assert aged.expires_on == datetime(2090, 1, 1)
    assert (key.created_ms or 0) - (aged.created_ms or 0) == 30 * 86_400_000
    assert aged._replace(expires_on=key.expires_on, created_ms=key.created_ms) == key
