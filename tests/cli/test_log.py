"""The command `log`: every action of every command, with who did it, when and what else."""

from __future__ import annotations

import csv
import json
import os
import re
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from metricshub_apikey import ApiKeys
from metricshub_apikey.activity.caller import caller
from metricshub_apikey.activity.database import FILE_NAME, ActivityLog, Event
from metricshub_apikey.keys.api_key import ENTRY_PREFIX
from metricshub_apikey.pkcs12.store import Store

NOTHING = "Nothing has been recorded.\n"
DAY = timedelta(days=1)


@pytest.fixture
def database(keystore: Path) -> Path:
    """Return the path of the activity database; nothing is there yet."""
    return keystore.with_name(FILE_NAME)


@pytest.fixture
def recorded(database: Path) -> Path:
    """Return the path of a database in which three things were recorded, days apart."""
    now = datetime.now(UTC)
    database.parent.mkdir()
    ActivityLog(str(database)).record(
        [
            Event(now - 10 * DAY, "a@here", "create", "ci", None, "roles: r"),
            Event(now - 5 * DAY, "b@here", "create", "web"),
            Event(now - DAY, "b@here", "revoke", "ci"),
        ]
    )
    return database


def logged(run: Run, *arguments: str) -> list[tuple[str, str, str | None]]:
    """Return what the command says was done to which key, and the details."""
    done = run("log", "-o", "json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    events: list[dict[str, Any]] = json.loads(done.stdout)["events"]
    return [(event["action"], event["alias"], event["details"]) for event in events]


def test_every_action(run: Run, registry: ApiKeys, tmp_path: Path) -> None:
    """Whatever changes a key is in the log, and what changes nothing is not."""
    (tmp_path / "keys.yaml").write_text("keys:\n- new\n- alias: web\n  roles: [r]\n")
    for command in (
        "create ci --role a --role b",
        "create web",
        "edit ci --remove-role a --description x --expires-in 90d",
        "edit ci --description x",
        "rotate ci",
        "rotate ci --finish",
        "revoke ci",
        f"apply {tmp_path / 'keys.yaml'} --out-dir {tmp_path / 'out'}",
        "revoke --role r --yes",
    ):
        assert run(*command.split()).returncode == 0, command

    def spoil(store: Store) -> None:
        value = f"{ENTRY_PREFIX}{'new'}"
        store.remove(store.find(value))
        for alias, expiry in (("new", "2999-12-31"), ("dead", "2001-12-31T00:00")):
            entry = f"{ENTRY_PREFIX}{alias}"
            store.add(
                entry, f"key-{alias}__{expiry}".encode(), created_ms=0, random_bytes=os.urandom
            )

    registry._keystore.update(spoil)
    run("check", "--fix")
    run("prune", "--yes")
    run("list")
    found = logged(run)
    rotated = [event for event in found if event[0] in ("rotate", "finish")]
    assert [event for event in found if event not in rotated] == [
        ("create", "ci", "roles: a, b"),
        ("create", "web", None),
        ("edit", "ci", "expiry, roles, description"),
        ("revoke", "ci", None),
        ("create", "new", "applied from a list"),
        ("edit", "web", "applied from a list"),
        ("revoke", "web", None),
        ("fix", "new", "expiry"),
        ("prune", "dead", None),
    ]
    assert [action for action, _, _ in rotated] == ["rotate", "finish"]
    shown = run("log").stdout.splitlines()
    who = re.escape(caller(os.environ))
    assert all(
        re.match(rf"[0-9-]{{10}}T[0-9:]{{8}} {who} [a-z]+ [a-z.]+( \(.*\))?$", line)
        for line in shown
    )
    assert len(shown) == len(found)


def test_the_login_behind_sudo(run: Run) -> None:
    """Where root is somebody who used sudo, the log has the name of that person."""
    if os.geteuid():
        pytest.skip("only root believes in SUDO_USER")
    run("create", "ci", env={"SUDO_USER": "sam"})
    event = json.loads(run("log", "-o", "json").stdout)["events"][0]
    assert event["actor"] == f"sam@{os.uname().nodename}"


def test_filters(run: Run, recorded: Path) -> None:
    """The alias, in any case, and the time, together or alone."""
    assert recorded.exists()
    assert logged(run) == [
        ("create", "ci", "roles: r"),
        ("create", "web", None),
        ("revoke", "ci", None),
    ]
    assert logged(run, "CI") == [("create", "ci", "roles: r"), ("revoke", "ci", None)]
    assert logged(run, "--since", "6d") == [("create", "web", None), ("revoke", "ci", None)]
    assert logged(run, "ci", "--since", "6d") == [("revoke", "ci", None)]
    assert logged(run, "--since", "999999y") == logged(run)
    assert logged(run, "nobody") == []


def test_text_and_csv(run: Run, recorded: Path) -> None:
    """People get local times in lines, spreadsheets instants in columns."""
    at = [event.at for event in ActivityLog(str(recorded)).events()]
    local = [moment.astimezone().strftime("%Y-%m-%dT%H:%M:%S") for moment in at]
    assert run("log").stdout.splitlines() == [
        f"{local[0]} a@here create ci (roles: r)",
        f"{local[1]} b@here create web",
        f"{local[2]} b@here revoke ci",
    ]
    rows = list(csv.reader(StringIO(run("log", "-o", "csv").stdout)))
    assert rows[0] == ["at", "actor", "action", "alias", "details"]
    assert rows[1] == [f"{at[0]:%Y-%m-%dT%H:%M:%SZ}", "a@here", "create", "ci", "roles: r"]


def test_no_database(run: Run, registry: ApiKeys, keystore: Path) -> None:
    """Nothing has been recorded, nothing is made, and it is no failure."""
    done = run("log")
    assert (done.returncode, done.stdout, done.stderr) == (0, NOTHING, "")
    assert not keystore.parent.exists()
    registry.create("ci")
    before = sorted(os.listdir(keystore.parent))
    assert run("log", "ci").stdout == NOTHING
    assert sorted(os.listdir(keystore.parent)) == before


def test_a_damaged_database(run: Run, database: Path) -> None:
    """That is one clear error, with what to do, and the file stays as it is."""
    database.parent.mkdir()
    database.write_bytes(b"x" * 5000)
    done = run("log")
    assert (done.returncode, done.stdout) == (1, "")
    error, hint = done.stderr.splitlines()
    assert re.fullmatch(rf"Error: {database} cannot be read: it is damaged \(.*\)\.", error)
    assert hint == "Hint: Move it away: the next change makes a new one."
    assert database.read_bytes() == b"x" * 5000


def test_a_damaged_database_hinders_no_change(run: Run, database: Path) -> None:
    """The command has succeeded, and says that it is not in the log."""
    database.parent.mkdir()
    database.write_bytes(b"x" * 5000)
    done = run("create", "ci")
    assert done.returncode == 0
    assert done.stdout.startswith("API key created for alias 'ci': ")
    assert done.stderr.startswith("Warning: This is done, but not in the log: ")


@pytest.mark.parametrize("form", ["prometheus", "nagios"])
def test_forms_that_it_lacks(run: Run, form: str) -> None:
    """What is no log is wrong usage."""
    assert run("log", "-o", form).returncode == 2


def test_the_keys_are_not_in_it(run: Run, database: Path) -> None:
    """The database knows keys by their fingerprint only."""
    key = run("create", "ci", "-q").stdout.strip()
    run("rotate", "ci", "-q")
    assert key.encode() not in database.read_bytes()
    assert key not in run("log", "-o", "json").stdout
