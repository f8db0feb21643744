"""`list` with filters, as a table and as CSV, on a keystore that the stock tool began."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from rich.cells import cell_len

from clock import HERE
from conftest import Run
from fields import fields
from metricshub_apikey import ApiKeys
from metricshub_apikey.activity.database import ActivityLog, path_beside
from metricshub_apikey.activity.journal import Journal
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.document import KEY_FIELDS
from metricshub_apikey.keys.entries import new_bag
from metricshub_apikey.keys.expiry import to_local
from metricshub_apikey.keys.fingerprint import fingerprint
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.pkcs12.store import Store
from metricshub_apikey.secret import Secret
from places import VECTORS
from terminal import on_terminal

STOCK = ["mcp-openai", "mcp-claude", "ünï-😀"]
OURS = ["ci", "nightly", "web", "young"]
DAY = timedelta(days=1)
HEADING = ["Alias", "Key", "Roles", "Account", "Created", "By", "Last used"]
HIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e]")

Environment = dict[str, str]


def add(keystore: Path, *keys: ApiKey) -> None:
    """Put keys there that nobody has checked."""

    def change(store: Store) -> None:
        for key in keys:
            store.adopt(new_bag(store, key, os.urandom))

    Keystore(keystore).update(change, create=True)


@pytest.fixture
def mixed(keystore: Path) -> Path:
    """Return a keystore with three keys of a JDK's, one of them expired, and four of ours."""
    keystore.parent.mkdir()
    shutil.copy(VECTORS / "jdk17.0.15-mixed.p12", keystore)
    now = datetime.now(UTC)

    def make(
        alias: str, who: str, age: timedelta, end: timedelta | None, metadata: Metadata
    ) -> None:
        registry = ApiKeys(
            Keystore(keystore), clock=lambda: now - age, journal=Journal(f"{who}@build")
        )
        expires_on = None if end is None else to_local(now + end, HERE)
        registry.create(alias, expires_on=expires_on, **fields(metadata))

    production, staging = (("env", "production"),), (("env", "staging"), ("team", "a b"))
    writer, reader = "metrics-writer", "read-only"
    make("ci", "ann", 100 * DAY, 10 * DAY, Metadata(roles=(writer,), labels=production))
    make("nightly", "ann", 100 * DAY, -DAY, Metadata(roles=(writer, reader), labels=staging))
    make("web", "bob", 100 * DAY, None, Metadata(roles=(reader,), labels=production))
    make("young", "bob", timedelta(), 300 * DAY, Metadata(description='a, "b"'))
    return keystore


@pytest.mark.parametrize(
    ("filters", "aliases"),
    [
        ("--expired", ["ünï-😀", "nightly"]),
        ("--expiring-in 30d", ["ci"]),
        ("--expired --expiring-in 2w", ["ünï-😀", "ci", "nightly"]),
        ("--role metrics-writer", ["ci", "nightly"]),
        ("--role metrics-writer --role read-only", ["nightly"]),
        ("--role none", []),
        ("--label env=production", ["ci", "web"]),
        ("--label env", ["ci", "nightly", "web"]),
        ("--label env=staging --label team='a b'", ["nightly"]),
        ("--created-by ann", ["ci", "nightly"]),
        ("--created-by bob@build", ["web", "young"]),
        ("--created-by build", []),
        ("--unused-for 30d", []),
        ("--expiring-in 30d --role metrics-writer --label env=production --created-by ann", ["ci"]),
        ("--expired --role read-only", ["nightly"]),
        ("--expired --created-by bob", []),
    ],
)
def test_filters(run: Run, mixed: Path, filters: str, aliases: list[str]) -> None:
    """Each filter alone and with others; keys of the stock tool pass those that they can."""
    done = run("list", "-q", *shlex.split(filters))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == aliases
    assert mixed.exists()


def test_filters_in_every_form(run: Run, mixed: Path) -> None:
    """What is shown may be the usual lines, a table, JSON or CSV; nothing has words of its own."""
    chosen = ["list", "--role", "metrics-writer"]
    lines = run(*chosen).stdout.splitlines()
    assert [re.sub(r"\*{20}\w{4} \(Expire[sd] on .*\)", "MASK", line) for line in lines] == [
        "ci MASK",
        "nightly MASK",
    ]
    assert [row["alias"] for row in parsed(run(*chosen, "-o", "csv").stdout)] == ["ci", "nightly"]
    found = json.loads(run(*chosen, "-o", "json").stdout)
    assert [key["alias"] for key in found["keys"]] == ["ci", "nightly"]
    assert len(run(*chosen, "--long").stdout.splitlines()) == 4
    none = ["list", "--role", "none"]
    assert run(*none).stdout == run(*none, "--long").stdout == "No such API keys found.\n"
    assert run(*none, "-o", "csv").stdout == ",".join(KEY_FIELDS) + "\n"
    assert json.loads(run(*none, "-o", "json").stdout)["keys"] == []
    assert mixed.exists()


def test_unused_keys(run: Run, mixed: Path) -> None:
    """Once uses are recorded, a key without one is unused, unless it is younger than that."""
    log = ActivityLog(path_beside(str(mixed)))
    now = datetime.now(UTC)
    secrets = {key.alias: key.secret.reveal() or "" for key in ApiKeys(Keystore(mixed)).list()}
    log.record_uses({fingerprint(secrets["ci"]): ("ci", now - 3 * DAY)})
    assert run("list", "-q", "--unused-for", "2d").stdout.splitlines()[-2:] == ["nightly", "web"]
    log.record_uses({fingerprint(secrets["web"]): ("web", now - 60 * DAY)})
    done = run("list", "-q", "--unused-for", "30d")
    unused = {"nightly", "web"}
    assert (done.returncode, done.stderr) == (0, "")
    assert unused <= set(done.stdout.splitlines()) <= unused | set(STOCK)
    keys = json.loads(run("list", "-o", "json").stdout)["keys"]
    used = {key["alias"]: key["last_used_at"] for key in keys}
    assert [alias for alias, at in used.items() if at] == ["ci", "web"]
    assert datetime.fromisoformat(used["ci"]) == (now - 3 * DAY).replace(microsecond=0)
    assert "never" not in run("show", "young").stdout


def test_a_broken_record_of_uses(run: Run, mixed: Path) -> None:
    """Where the record cannot be read, the keys are shown, and one warning says what is unknown."""
    Path(path_beside(str(mixed))).write_bytes(b"no database at all")
    plain = run("list")
    assert (plain.returncode, plain.stderr) == (0, "")
    done = run("list", "--long")
    assert done.returncode == 0
    assert re.fullmatch(r"Warning: .* When keys were last used is unknown\.\n", done.stderr)
    assert len(done.stdout.splitlines()) == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--expiring-in", "soon"], "'soon' is not a length of time"),
        (["--unused-for", "-1d"], "'-1d' is not a length of time"),
        (["--label", "=production"], "'=production' is not a label; use name=value."),
        (["--long", "-o", "nagios"], "'nagios' is not one of"),
    ],
)
def test_wrong_usage(run: Run, arguments: list[str], message: str) -> None:
    """A filter that nobody could mean is refused, not an empty list."""
    done = run("list", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


@pytest.mark.parametrize(
    "command",
    ["create x", "show x", "edit x", "revoke x", "path", "completion bash", "policy show"],
)
def test_csv_is_for_lists(run: Run, keystore: Path, command: str) -> None:
    """A form that a command lacks is wrong usage before the command's name, too."""
    done = run("-o", "csv", *command.split())
    assert (done.returncode, done.stdout) == (2, "")
    last = command.split()[1 if "policy" in command else 0]
    assert f"Error: '{last}' does not print csv; it prints text, json.\n" in done.stderr
    assert not keystore.exists()


def parsed(text: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    return list(csv.DictReader(StringIO(text, newline=""), strict=True))


def test_csv(run: Run, mixed: Path) -> None:
    """It parses back to what JSON says, whatever is in a field."""
    made = to_local(datetime.now(UTC), HERE)
    odd = Metadata("ann@x", ("a",), 'a,"b"', 'He said: "no, never"', (("a", 'x "y", z'), ("b", "")))
    add(mixed, ApiKey('com,ma "x"', Secret("key-12345678"), made, 0, None, odd))
    done = run("list", "-o", "csv")
    rows = parsed(done.stdout)
    keys = json.loads(run("list", "-o", "json").stdout)["keys"]
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(",".join(KEY_FIELDS) + "\n")
    assert len(rows) == len(keys) == 8
    for row, key in zip(rows, keys, strict=True):
        assert row["expired"] == str(key["expired"]).lower()
        assert row["suspended"] == str(key["suspended"]).lower()
        assert shlex.split(row["roles"]) == key["roles"]
        labels = [label.split("=", 1) for label in shlex.split(row["labels"])]
        assert dict(labels) == key["labels"]
        for field in set(KEY_FIELDS) - {"expired", "suspended", "roles", "labels"}:
            assert row[field] == (key[field] or "")


def test_csv_escapes_what_moves_the_cursor(run: Run, keystore: Path) -> None:
    """A field of somebody else's cannot send an escape sequence, nor begin a line."""
    odd = Metadata("m\x1b[2J", ("r\x1b[2J",), "s\x07", "two\nlines\r\n", (("l\x1b", "v\x07\n"),))
    add(keystore, ApiKey("a\x1b[31m\nb", Secret("key-12345678"), None, 0, None, odd))
    for form in (["-o", "csv"], ["--long"], [], ["-q"], ["-o", "json"]):
        done = run("list", *form)
        assert not HIDDEN.search(done.stdout + done.stderr), form
    (row,) = parsed(run("list", "-o", "csv").stdout)
    assert row["description"] == r"two\nlines\r\n"
    assert not HIDDEN.search(run("show", "a\x1b[31m\nb").stdout)


# The table


def shown(
    environment: Environment, columns: int, *options: str, **variables: str
) -> tuple[list[str], str]:
    """Return the lines of the table on a terminal, without colours, and all that it was sent."""
    arguments: Sequence[str] = ["list", "--long", *options]
    code, text = on_terminal(arguments, {**environment, **variables}, columns=columns)
    assert code == 0, text
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines(), text


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_table_on_a_terminal(environment: Environment, mixed: Path, columns: int) -> None:
    """It fits, every mask and date is whole, and the colours say what needs care."""
    lines, text = shown(environment, columns)
    assert max(map(cell_len, lines)) <= columns
    assert len(re.findall(r"…\w{4}", "\n".join(lines))) == len(STOCK + OURS)
    for alias in STOCK + OURS:
        assert any(line.startswith(alias) for line in lines), alias
    for alias, style in {"ünï-😀": 31, "nightly": 31, "ci": 33, "web": 32}.items():
        assert re.search(rf"^{alias} .*\x1b\[{style}m", text, re.MULTILINE), alias
    assert ("2020-01-01" in text) == (columns == 200)
    assert "in 10 days" in text
    assert "1 day ago" in text
    assert mixed.exists()


def test_colour_of_the_table(run: Run, environment: Environment, mixed: Path) -> None:
    """Nobody gets colours that do not want them; the option wins over the variable."""
    assert "\x1b" not in shown(environment, 80, NO_COLOR="1")[1]
    assert "\x1b" not in shown(environment, 80, "--color", "never")[1]
    assert "\x1b[33m" in shown(environment, 80, "--color", "always", NO_COLOR="1")[1]
    assert "\x1b" not in run("list", "--long", env={"FORCE_COLOR": "1"}).stdout
    assert "\x1b[33m" in run("list", "--long", "--color", "always").stdout
    assert mixed.exists()


def test_the_table_in_a_pipe(run: Run, mixed: Path) -> None:
    """Where nobody looks, each key has one line, as wide as it must be, and no escape code."""
    long = "a-service-account-with-a-name-that-no-terminal-would-have-room-for"
    add(
        mixed, ApiKey("wide", Secret("key-12345678"), None, 0, None, Metadata(service_account=long))
    )
    done = run("list", "--long", env={"TERM": "xterm"})
    assert (done.returncode, done.stderr) == (0, "")
    heading, rule, *rows = done.stdout.splitlines()
    assert re.split("  +", heading) == [*HEADING[:-1], "Expires"]
    assert set(rule) == {"─"}
    assert [row.split()[0] for row in rows] == [*STOCK, *OURS, "wide"]
    assert long in rows[-1]
    assert "\x1b" not in done.stdout
    narrow = run("list", "--long", env={"COLUMNS": "80"}).stdout.splitlines()
    assert max(map(cell_len, narrow)) <= 80


def test_a_terminal_without_line_characters(run: Run, mixed: Path) -> None:
    """Where they cannot be shown, lines are drawn with what ASCII has."""
    done = run("list", "--long", env={"PYTHONIOENCODING": "ascii", "COLUMNS": "100"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u2500" not in done.stdout
    assert "-----" in done.stdout
    assert mixed.exists()


def test_six_hundred_keys(environment: Environment, run: Run, keystore: Path) -> None:
    """A table too long to draw is plain lines, with all columns, in colourless order."""
    keys = [ApiKey(f"k{number}", Secret(f"key-{number:04}"), None, 0) for number in range(600)]
    add(keystore, *keys)
    done = run("list", "--long")
    heading, *rows = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert re.split("  +", heading) == [*HEADING, "Expires"]
    assert [row.split()[:2] for row in rows] == [[key.alias, f"…{key.masked[-4:]}"] for key in keys]
    assert shown(environment, 200)[0] == done.stdout.splitlines()


def test_unreadable_entries_in_the_table(environment: Environment, mixed: Path) -> None:
    """They say so in place of the key, in red, and the warning tells what a server does."""
    Keystore(mixed).update(
        lambda store: store.add("api_key:bad", b"\xff", created_ms=0, random_bytes=os.urandom)
    )
    lines, text = shown(environment, 200)
    assert re.search(r"^bad +unreadable .*\x1b\[31munknown", text, re.MULTILINE)
    (row,) = (line for line in lines if line.startswith("bad"))
    assert "unreadable" in row
    assert lines[0].startswith("Warning: 1 of the entries cannot be read (bad): ")
    assert len(lines) == 1 + 2 + len(STOCK + OURS) + 1
