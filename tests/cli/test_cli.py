"""The command as its users meet it: every line, stream and exit code, in a real process."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import pytest

from builders import put
from conftest import COMMAND, ORDINARY_USER, Run, missing
from metricshub_apikey import ApiKeys, __version__
from metricshub_apikey.cli.main import COMMANDS
from metricshub_apikey.keys.api_key import ENTRY_PREFIX
from metricshub_apikey.keys.document import KEY_FIELDS
from metricshub_apikey.keystore.keystore import STOCK_PASSWORDS, Keystore
from metricshub_apikey.pkcs12.kdf import Passwords
from metricshub_apikey.pkcs12.store import Store
from places import VECTORS
from stock import Stock
from terminal import on_terminal

UUID4 = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
STORE_IT = "Please store this key securely, as it will not be shown again.\n"
FOREVER = "2999-12-31T23:59:59"
GREEN, RED, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[0m"

Done = subprocess.CompletedProcess[str]
Environment = dict[str, str]


def check(done: Done, code: int, stdout: str = "", stderr: str = "") -> None:
    """Compare everything that a command did for its caller."""
    assert (done.returncode, done.stdout, done.stderr) == (code, stdout, stderr)


def check_usage(done: Done, message: str, command: str = "create") -> None:
    """Check that it was refused as wrong usage, in Click's way, with *message* at the end."""
    assert (done.returncode, done.stdout) == (2, "")
    usage, hint, empty, error = done.stderr.removesuffix("\n").split("\n")
    assert usage.startswith(f"Usage: apikey {command} [OPTIONS]")
    assert (hint, empty) == (f"Try 'apikey {command} --help' for help.", "")
    assert error == f"Error: {message}"


def document(text: str) -> dict[str, Any]:
    """Return the one JSON document in *text*."""
    found: dict[str, Any] = json.loads(text)
    return found


def put_many(keystore: Path, count: int) -> None:
    """Put many keys with long aliases there: more than a pipe takes at once."""

    def add(store: Store) -> None:
        for number in range(count):
            alias = f"{ENTRY_PREFIX}{'x' * 90}{number}"
            store.add(alias, b"key", created_ms=0, random_bytes=os.urandom)

    Keystore(keystore).update(add, create=True)


def names(directory: Path) -> list[str]:
    """Return what is in a directory."""
    return sorted(one.name for one in directory.iterdir())


@pytest.fixture
def java_keystore(keystore: Path) -> Path:
    """Return a keystore that a JDK wrote: three keys, the last one expired, and other entries."""
    keystore.parent.mkdir()
    shutil.copy(VECTORS / "jdk17.0.15-mixed.p12", keystore)
    return keystore


# With a stock server


def test_a_server_accepts_what_the_command_made(run: Run, stock: Stock, keystore: Path) -> None:
    """A stock server knows a new key until it is revoked."""
    key = run("create", "MCP-Claude", "--expires-in", "1d", "-q").stdout.strip()
    assert stock.ask("find", keystore, key) == ["accepted mcp-claude"]
    run("revoke", "mcp-claude")
    assert stock.ask("find", keystore, key) == ["unknown"]


def test_a_keystore_of_java_is_listed(run: Run, java_keystore: Path) -> None:
    """Keys of the stock tool are shown in its order, an expired one as such, and nothing else."""
    before = java_keystore.read_bytes()
    openai, claude, expired = run("list").stdout.splitlines()
    assert openai == "mcp-openai ********************8986 (No expiration)"
    assert re.fullmatch(r"mcp-claude \*{20}15f3 \(Expire[sd] on 2027-12-31T23:59:59\)", claude)
    assert expired == "ünï-😀 ********************1d90 (Expired on 2020-01-01T00:00:00)"
    assert java_keystore.read_bytes() == before
    assert names(java_keystore.parent) == [java_keystore.name]


def test_list_makes_nothing(run: Run, tmp_path: Path) -> None:
    """Without a keystore there are no keys, and afterwards there still is none."""
    check(run("list"), 0, "No API keys found.\n")
    check(run("list", "-q"), 0)
    done = run("revoke", "x")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: There is no keystore at ")
    assert names(tmp_path) == []
    run("create", "x")
    run("revoke", "x")
    check(run("list"), 0, "No API keys found.\n")


# Help and usage


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help(run: Run, arguments: list[str], tmp_path: Path) -> None:
    """Alone or asked for help, the command shows its help with all subcommands."""
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: apikey [OPTIONS] ")
    for word in ("create", "list", "revoke", "path", "METRICSHUB_KEYSTORE", "/opt/metricshub"):
        assert word in done.stdout
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "command", [*sorted({*COMMANDS} - {"policy"}), "policy init", "policy show", "policy check"]
)
def test_help_of_a_command(run: Run, command: str) -> None:
    """The help of each command says what it does, then shows an example, in 80 columns."""
    done = run(*command.split(), "-h" if command == "list" else "--help", env={"COLUMNS": "80"})
    assert (done.returncode, done.stderr) == (0, "")
    shown = done.stdout
    usage, purpose, *others = shown.split("\n\n")
    assert usage.startswith(f"Usage: apikey {command} [OPTIONS]")
    assert re.fullmatch(r"  [A-Z].*\.", purpose, re.DOTALL)
    example = others[-2].splitlines()
    assert re.fullmatch(r"  Example(, .*)?:", example[0])
    assert example[1].lstrip().startswith(("apikey " + command, 'eval "$(apikey ' + command))
    assert "\b" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_help_shows_whole_sentences(run: Run) -> None:
    """In 80 columns, no command's line in the overview is cut."""
    shown = run("--help", env={"COLUMNS": "80"}).stdout
    lines = shown.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in lines] == sorted(COMMANDS)
    assert [line for line in lines if not line.endswith(".") or line.endswith("...")] == []


def test_version(run: Run) -> None:
    """`--version` prints the name and the version."""
    check(run("--version"), 0, f"apikey {__version__}\n")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], [], ["list"], ["path"]])
def test_a_full_disk_under_standard_output(run: Run, arguments: list[str]) -> None:
    """What cannot be printed is an error in one line, whatever was to be printed."""
    with Path("/dev/full").open("w") as full:
        done = run(*arguments, stdout=full)
    assert done.returncode == 1
    assert done.stderr == ("Error: Standard output cannot be written: No space left on device.\n")


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("create", [], "Missing argument 'ALIAS'."),
        ("create", ["a", "b"], "Got unexpected extra argument (b)"),
        ("create", [""], "An alias has 1 to 128 characters."),
        ("create", ["a" * 129], "An alias has 1 to 128 characters."),
        ("create", [" a"], "An alias has no white space at its ends."),
        (
            "create",
            ["a\u202eb"],
            "An alias has no control, text direction or line separator characters.",
        ),
        (
            "create",
            ["x", "--expires-on", "2027-13-01"],
            "'2027-13-01' is not a date time; use YYYY-MM-DDThh:mm:ss.",
        ),
        (
            "create",
            ["x", "--expires-on", ""],
            "'' is not a date time; use YYYY-MM-DDThh:mm:ss.",
        ),
        (
            "create",
            ["x", "--expires-in", "1 day"],
            "'1 day' is not a length of time; use 90d, 12h, 30m, 2w, 1y or 1d12h.",
        ),
        (
            "create",
            ["x", "--expires-in", "1d", "--expires-on", FOREVER],
            "--expires-on and --expires-in exclude each other.",
        ),
        ("create", ["x", "--expires-in", "9000y"], "The expiration is after the year 9999."),
        ("create", ["x", "--nonsense"], "No such option '--nonsense'."),
        ("create", ["x", "--keystore", ""], "The path of the keystore is empty."),
        ("list", ["--keystore", ""], "The path of the keystore is empty."),
        ("list", ["-q", "-o", "json"], "--quiet and --output json exclude each other."),
        ("list", ["x"], "Got unexpected extra argument (x)"),
        (
            "revoke",
            [],
            "Name aliases, or use --leaked, or options that select keys, such as --expired.",
        ),
    ],
)
def test_wrong_usage(
    run: Run, tmp_path: Path, command: str, arguments: list[str], message: str
) -> None:
    """What nobody could mean exits with 2 in Click's words, and nothing is made."""
    done = run(command, *arguments)
    if "-o" in arguments:
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
    else:
        check_usage(done, message, command)
    assert names(tmp_path) == []


@pytest.mark.parametrize("length", ["999999y" * 3, "999999w" * 99])
def test_a_life_that_overflows(run: Run, length: str) -> None:
    """A length beyond all calendars is wrong usage, not a traceback."""
    done = run("create", "x", "--expires-in", length)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "soon", "86401", ""])
def test_odd_lock_timeouts(run: Run, seconds: str) -> None:
    """A time to wait is a number of seconds, at most a day."""
    done = run("create", "x", "--lock-timeout", seconds)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: Invalid value for '--lock-timeout'" in done.stderr


# Aliases


def test_folding_is_noted(run: Run) -> None:
    """The alias is echoed as typed; one note says under which name it is stored."""
    done = run("create", "MCP-Claude")
    assert done.stdout.startswith("API key created for alias 'MCP-Claude': ")
    assert done.stderr == "Note: Stored as 'mcp-claude': Java ignores letter case.\n"
    check(run("list", "-q"), 0, "mcp-claude\n")
    check(run("revoke", "MCP-CLAUDE"), 0, "API key 'MCP-CLAUDE' has been revoked.\n")


def test_odd_but_good_aliases(run: Run) -> None:
    """Spaces inside, punctuation and other scripts come out as they went in."""
    aliases = ["two words", "a.b/c:d", "ünï-😀", "日本", "-dash", "'", "__"]
    for alias in aliases:
        assert run("create", "-q", "--", alias).returncode == 0
    check(run("list", "-q"), 0, "".join(f"{alias}\n" for alias in aliases))
    assert run("revoke", "--", *aliases).returncode == 0


@pytest.mark.parametrize(
    "environ", [{"LANG": "C"}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX"}, {"LANG": ""}]
)
def test_aliases_under_any_locale(run: Run, environ: Environment) -> None:
    """Also where the locale knows ASCII alone, an alias is what the user typed."""
    run("create", "ünï-😀", env=environ)
    check(run("list", "-q", env=environ), 0, "ünï-😀\n")
    check(run("list", "-q"), 0, "ünï-😀\n")
    assert run("revoke", "Ünï-😀", env=environ).returncode == 0


def test_a_terminal_that_knows_few_characters(run: Run, keystore: Path) -> None:
    """What cannot be shown is escaped; it is no reason to fail."""
    put(keystore, "日本", b"key-1234")
    done = run("list", env={"PYTHONIOENCODING": "latin-1"})
    check(done, 0, "\\u65e5\\u672c ********************1234 (No expiration)\n")


def test_control_characters_are_escaped(run: Run, keystore: Path) -> None:
    """An alias that somebody else wrote cannot move the cursor, whatever shows it."""
    put(keystore, "a\x1b[2J\nb\u202e", b"k\x1bey\x07")
    for arguments in (["list"], ["list", "-q"], ["list", "-o", "json"], ["create", "x\x1b[2J"]):
        done = run(*arguments)
        assert "\x1b" not in done.stdout + done.stderr
        assert "\u202e" not in done.stdout + done.stderr
    line = run("list").stdout
    assert line == "a\\x1b[2j\\nb\\u202e ********************\\x1bey\\x07 (No expiration)\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["revoke", "a\x1b[31m\x07\nb"],
        ["create", "x", "--expires-on", "\x1b[31m\x07\n"],
        ["create", "x", "--expires-in", "\x1b[31m\x07\n"],
        ["create", "x", "\x1b[31m\x07\u202e"],
        ["create", "x", "--no-\x1b[31m\x07"],
        ["create", "x", "--out", "/none\x1b[31m\x07/file"],
        ["list", "--keystore", "/dev/null/\x1b[31m\x07"],
        ["list", "--password-file", "/none\x1b[31m\x07"],
        ["list", "--color", "\x1b[31m\x07"],
        ["list", "--lock-timeout", "\x1b[31m\x07"],
        ["\x1b[31m\x07"],
        ["path", "\x1b[31m\x07"],
    ],
)
def test_errors_escape_what_they_quote(run: Run, arguments: list[str]) -> None:
    """No argument can send a control character to the terminal by way of an error."""
    done = run(*arguments)
    assert done.returncode in (1, 2)
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", done.stdout + done.stderr)
    assert len(done.stderr.splitlines()) <= 5


def test_arguments_that_are_not_text(run: Run) -> None:
    """Bytes that no encoding explains are refused, quoted harmlessly."""
    done = run("create", "a\udcff")
    check_usage(
        done, "An alias has no capital sigma and only valid Unicode: Java would store another name."
    )
    run("create", "a")
    check(run("revoke", "a\udcff"), 1, stderr="Error: No API key found with alias 'a\\udcff'.\n")


# Expiries


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


# create, for scripts


def test_quiet(run: Run) -> None:
    """`-q` prints the bare result: a key, aliases, nothing."""
    done = run("create", "ci", "-q")
    assert re.fullmatch(UUID4 + "\n", done.stdout)
    assert UUID(done.stdout.strip()).version == 4
    run("create", "other", "--quiet")
    check(run("list", "-q"), 0, "ci\nother\n")
    check(run("revoke", "ci", "-q"), 0)
    check(run("list", "--quiet"), 0, "other\n")


def test_out(run: Run, tmp_path: Path, registry: ApiKeys) -> None:
    """The key goes to a new private file, and the sentence says where it is."""
    file = tmp_path / "key"
    done = run("create", "ci", "--out", file)
    check(done, 0, f"API key created for alias 'ci': written to {file} (No expiration)\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == f"{registry.list()[0].secret.reveal()}\n"
    quiet = run("create", "ci2", "-q", "--out", tmp_path / "key2")
    check(quiet, 0)


def test_out_never_overwrites(run: Run, tmp_path: Path, keystore: Path) -> None:
    """Where the file is there already, neither it nor the keystore is touched."""
    file = tmp_path / "key"
    file.write_text("precious")
    done = run("create", "ci", "--out", file)
    check(done, 1, stderr=f"Error: {file} exists already; it is not overwritten.\n")
    assert file.read_text() == "precious"
    assert not keystore.exists()


def test_out_leaves_no_file_without_a_key(run: Run, registry: ApiKeys, tmp_path: Path) -> None:
    """If the key is not made, the file for it goes away again."""
    registry.create("ci")
    assert run("create", "ci", "--out", tmp_path / "key").returncode == 1
    assert names(tmp_path) == ["security"]


def test_if_missing(run: Run, keystore: Path) -> None:
    """Where the alias exists, nothing is printed, a note is written, and it is no failure."""
    assert run("create", "CI", "--if-missing", "-q").returncode == 0
    before = keystore.read_bytes()
    done = run("create", "CI", "--if-missing")
    check(done, 0, stderr="Note: An API key with alias 'ci' exists already; nothing was created.\n")
    assert keystore.read_bytes() == before


def test_if_missing_with_out(run: Run, tmp_path: Path) -> None:
    """Run twice, the same command line succeeds twice, and the file with the key stays."""
    file = tmp_path / "key"
    command = ["create", "ci", "--if-missing", "--out", str(file)]
    assert run(*command).returncode == 0
    key = file.read_bytes()
    done = run(*command)
    assert (done.returncode, done.stdout) == (0, "")
    assert file.read_bytes() == key
    file.unlink()
    assert run(*command).returncode == 0
    assert names(tmp_path) == ["security"]


def test_if_missing_still_checks(run: Run, tmp_path: Path) -> None:
    """A file that is in the way of a missing key is still an error."""
    file = tmp_path / "key"
    file.touch()
    assert run("create", "ci", "--if-missing", "--out", file).returncode == 1
    check_usage(run("create", " ", "--if-missing"), "An alias has no white space at its ends.")


# JSON


def test_json_of_create(run: Run, keystore: Path, tmp_path: Path) -> None:
    """The document of a new key has the key, both forms of its expiry, and stable names."""
    here = {"TZ": "America/New_York"}
    done = run("create", "CI", "--expires-on", "2999-06-30T12:00", "-o", "json", env=here)
    made = document(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(made) == ["keystore", "created", *KEY_FIELDS, "key", "file", "notes"]
    assert re.fullmatch(UUID4, made["key"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made["created_at"])
    assert made == {
        **made,
        "keystore": str(keystore),
        "created": True,
        "alias": "ci",
        "masked": "*" * 20 + made["key"][-4:],
        "expires_on": "2999-06-30T12:00:00",
        "expires_at": "2999-06-30T16:00:00Z",
        "expired": False,
        "unreadable": None,
        "file": None,
    }
    file = tmp_path / "key"
    made = document(run("create", "b", "--out", file, "-o", "json").stdout)
    assert (made["key"], made["file"]) == (None, str(file))
    assert (made["expires_on"], made["expires_at"]) == (None, None)


def test_json_has_the_notes(run: Run) -> None:
    """What would be a note on standard error is in the document."""
    made = document(run("create", "CI", "-o", "json").stdout)
    assert made["notes"] == ["Stored as 'ci': Java ignores letter case."]


def test_json_of_if_missing(run: Run, keystore: Path) -> None:
    """Of an existing key only the alias is told; the other fields are there, and null."""
    run("create", "ci")
    done = run("create", "ci", "--if-missing", "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert document(done.stdout) == {
        **dict.fromkeys((*KEY_FIELDS, "key", "file")),
        "keystore": str(keystore),
        "created": False,
        "alias": "ci",
        "notes": ["An API key with alias 'ci' exists already; nothing was created."],
    }


def test_json_of_list(run: Run, java_keystore: Path) -> None:
    """The list is one document with the same fields for every key, and no key in clear."""
    done = run("list", "-o", "json", env={"TZ": "Europe/Paris"})
    found = document(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(found) == {"keystore", "keys", "notes"}
    assert [tuple(key) for key in found["keys"]] == [KEY_FIELDS] * 3
    assert found["keys"][2] == {
        "alias": "ünï-😀",
        "masked": "********************1d90",
        "expires_on": "2020-01-01T00:00:00",
        "expires_at": "2019-12-31T23:00:00Z",
        "expired": True,
        "suspended": False,
        "created_at": "2026-11-22T00:23:12Z",
        "created_by": None,
        "roles": [],
        "service_account": None,
        "description": None,
        "labels": {},
        "rotated_at": None,
        "last_used_at": None,
        "unreadable": None,
    }
    assert document(run("list", "-o", "json", "--keystore", "/none").stdout)["keys"] == []
    assert java_keystore.exists()


def test_json_of_revoke_and_path(run: Run, keystore: Path) -> None:
    """The other commands answer with a document, too."""
    run("create", "a")
    run("create", "b")
    assert document(run("revoke", "B", "a", "b", "-o", "json").stdout) == {
        "keystore": str(keystore),
        "revoked": ["B", "a"],
        "also_revoked": [],
        "notes": [],
    }
    assert document(run("path", "-o", "json").stdout) == {
        "keystore": str(keystore),
        "rule": "environment",
        "reason": "the environment variable METRICSHUB_KEYSTORE",
        "exists": True,
        "notes": [],
    }


def test_json_of_unreadable_entries(run: Run, keystore: Path) -> None:
    """An unreadable entry has its reason, no mask, and a note."""
    put(keystore, "bad", b"\xff")
    found = document(run("list", "-o", "json").stdout)
    (key,) = found["keys"]
    assert (key["masked"], key["unreadable"]) == (None, "it is not UTF-8")
    assert len(found["notes"]) == 1


@pytest.mark.parametrize("created_ms", [0, 253_402_300_799_999, 253_402_300_800_000, 10**15 - 1])
def test_json_of_odd_creation_times(run: Run, keystore: Path, created_ms: int) -> None:
    """A creation time beyond the calendar, which anybody may have written, breaks nothing."""
    put(keystore, "x", b"key-1234", created_ms)
    done = run("list", "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert document(done.stdout)["keys"][0]["masked"].endswith("1234")


@pytest.mark.parametrize("value", [b"key__+12345-01-01T00:00", b"key__-0001-01-01T00:00"])
def test_json_of_odd_years(run: Run, keystore: Path, value: bytes) -> None:
    """Years that only Java's calendar has are shown as the nearest that there is."""
    put(keystore, "x", value)
    for zone in ("Pacific/Kiritimati", "America/New_York"):
        done = run("list", "-o", "json", env={"TZ": zone})
        assert (done.returncode, done.stderr) == (0, "")
        assert document(done.stdout)["keys"][0]["expired"] == (b"-0001" in value)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (["create", "taken", "-o", "json"], 1, "key-exists"),
        (["-o", "json", "revoke", "nobody"], 1, "key-not-found"),
        (["create", "x", "--expires-on", "2020-01-01", "--output=json"], 1, "expiry-in-past"),
        (["list", "--keystore", "/etc/passwd", "-ojson"], 1, "not-a-keystore"),
        (["list", "--password-file", "/none", "-o", "json"], 1, "password"),
        (["create", "x", "--out", "/none/x", "-o", "json"], 1, "output-failed"),
        (["create", "x", "--expires-on", "soon", "-o", "json"], 2, "invalid-argument"),
        (["create", "--output", "json"], 2, "invalid-argument"),
        (["-o", "json", "create", "x", "--nonsense"], 2, "invalid-argument"),
        (["nonsense", "-o", "json"], 2, "invalid-argument"),
        (["list", "-q", "-o", "json"], 2, "invalid-argument"),
        (["list", "-qo", "json"], 2, "invalid-argument"),
    ],
)
def test_json_of_errors(
    run: Run, registry: ApiKeys, arguments: list[str], exit_code: int, code: str
) -> None:
    """Every failure, wrong usage included, is one JSON document on standard error."""
    registry.create("taken")
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (exit_code, "")
    error = document(done.stderr)
    assert set(error) == {"error"}
    assert set(error["error"]) == {"code", "message", "hint"}
    assert error["error"]["code"] == code
    assert error["error"]["message"]


def test_json_keeps_the_hint_apart(run: Run, registry: ApiKeys) -> None:
    """Message and hint are the ones that people see."""
    registry.create("x")
    assert document(run("create", "x", "-o", "json").stderr) == {
        "error": {
            "code": "key-exists",
            "message": "An API key with alias 'x' already exists.",
            "hint": "Choose another alias, or revoke it first: apikey revoke -- x",
        }
    }


# The failures and their words


@pytest.mark.parametrize("content", [b"PK\3\4 a zip", b"\0" * 100, b"0", b"#!/bin/sh\n"])
def test_not_a_keystore(run: Run, tmp_path: Path, content: bytes) -> None:
    """A file that is something else is said to be so, and never changed."""
    files = [tmp_path / name for name in ("list", "create", "revoke")]
    for file in files:
        file.write_bytes(content)
    arguments = [[], ["x"], ["x"]]
    commands = [
        [file.name, *more, "--keystore", str(file)]
        for file, more in zip(files, arguments, strict=True)
    ]
    for file, done in zip(files, at_once(run, *commands), strict=True):
        first = done.stderr.splitlines()[0]
        if content == b"0":  # a keystore may begin so
            assert first == damaged(file)
        else:
            assert first == f"Error: {file} is not a PKCS#12 keystore."
        assert (done.returncode, done.stdout) == (1, "")
        assert file.read_bytes() == content


def at_once(run: Run, *commands: list[str]) -> list[Done]:
    """Run commands that wait, hoping for a better file, at the same time."""
    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(lambda command: run(*command), commands))


def damaged(file: Path) -> str:
    """Return the line for a file that cannot be opened."""
    return f"Error: {file} cannot be opened: the password is wrong or the file is damaged."


@pytest.mark.parametrize(
    ("size", "hint"), [(0, "The file is empty."), (200, "The file ends too early.")]
)
def test_an_incomplete_keystore(run: Run, java_keystore: Path, size: int, hint: str) -> None:
    """An empty or truncated file is damaged; it is not replaced by a new one."""
    torn = java_keystore.read_bytes()[:size]
    java_keystore.write_bytes(torn)
    for done in at_once(run, ["list"], ["create", "x"]):
        check(done, 1, stderr=f"{damaged(java_keystore)}\nHint: {hint}\n")
    assert java_keystore.read_bytes() == torn


def test_a_huge_file(run: Run, tmp_path: Path) -> None:
    """A file over the limit is refused by its size, the limit named."""
    file = tmp_path / "huge"
    with file.open("wb") as stream:
        stream.truncate(17 << 20)
    done = run("list", "--keystore", file)
    check(done, 1, stderr=f"Error: {file} is larger than the limit of 16,777,216 bytes.\n")


@pytest.mark.parametrize("command", [["list"], ["create", "x"], ["revoke", "x"]])
@pytest.mark.parametrize("kind", ["directory", "fifo", "device"])
def test_odd_files(run: Run, tmp_path: Path, command: list[str], kind: str) -> None:
    """What is no regular file is refused at once, and nothing is put beside it."""
    path = tmp_path / "odd"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif os.geteuid():
        missing("making a device needs root")
    else:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    done = run(*command, "--keystore", path)
    check(done, 1, stderr=f"Error: {path} is not a regular file.\n")
    assert names(tmp_path) == ["odd"]


def test_below_a_regular_file(run: Run, tmp_path: Path) -> None:
    """A path that leads through a file is an error that says so."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "k.p12"
    done = run("list", "--keystore", path)
    check(done, 1, stderr=f"Error: {path} cannot be read: Not a directory.\n")
    done = run("create", "x", "--keystore", path)
    check(done, 1, stderr=f"Error: {path} is not changed: Not a directory.\n")


def test_a_linked_keystore(run: Run, keystore: Path, tmp_path: Path) -> None:
    """The target of a link is replaced, and made if there is none; the link stays."""
    link = tmp_path / "link.p12"
    link.symlink_to(keystore)
    for alias in ("first", "second"):
        assert run("create", alias, "--keystore", link).returncode == 0
        assert link.is_symlink()
    check(run("list", "-q"), 0, "first\nsecond\n")


def test_a_link_to_itself(run: Run, tmp_path: Path) -> None:
    """A link that never ends is an error in one line."""
    link = tmp_path / "link.p12"
    link.symlink_to(link)
    for command in (["list"], ["create", "x"]):
        done = run(*command, "--keystore", link)
        assert (done.returncode, done.stdout) == (1, "")
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith(f"Error: {link} ")


@pytest.mark.parametrize("command", [["list"], ["create", "x"], ["revoke", "x"], ["list", "-q"]])
def test_no_right_to_the_keystore(
    run: Run, ordinary: list[str], public: Path, command: list[str]
) -> None:
    """An ordinary user is told whose keystore it is, and nothing is changed."""
    if os.geteuid():
        missing("needs a keystore of root's")
    file = public / "k.p12"
    ApiKeys(Keystore(file)).create("x")
    before = file.read_bytes()
    done = run(*command, "--keystore", file, command=ordinary)
    check(
        done,
        1,
        stderr=f"Error: Access denied to {file}.\n"
        "Hint: Run the command as the file's owner: sudo -u root apikey "
        f"{shlex.join([*command, '--keystore', str(file)])}\n",
    )
    public.chmod(0o700)
    assert run(*command, "--keystore", file, command=ordinary).stderr == done.stderr
    assert file.read_bytes() == before


def test_an_ordinary_user_s_own_keystore(run: Run, ordinary: list[str], public: Path) -> None:
    """Nobody needs to be root for a keystore of one's own."""
    if os.geteuid() == 0:
        os.chown(public, ORDINARY_USER, ORDINARY_USER)
    file = public / "security" / "k.p12"
    for alias in ("first", "second"):
        done = run("create", alias, "--keystore", file, "-q", command=ordinary, umask=0o777)
        assert (done.returncode, done.stderr) == (0, "")
    done = run("list", "-q", "--keystore", file, command=ordinary)
    check(done, 0, "first\nsecond\n")


# Unreadable entries


def test_unreadable_entries(run: Run, keystore: Path) -> None:
    """An entry that cannot be read is listed with the reason; the others are, too."""
    put(keystore, "first", b"key-1111")
    put(keystore, "bytes", b"\xff")
    put(keystore, "date", b"key__soon")
    store = Store.parse(keystore.read_bytes(), Passwords(STOCK_PASSWORDS.store.reveal(), "other"))
    store.add("api_key:foreign", b"x", created_ms=0, random_bytes=os.urandom)
    keystore.write_bytes(store.serialise(os.urandom))
    put(keystore, "last", b"key-9999__2020-01-01T00:00")
    put(keystore, "short", b"1234")
    done = run("list")
    assert done.returncode == 0
    assert done.stdout == (
        "first ********************1111 (No expiration)\n"
        "bytes ******** (Unreadable: it is not UTF-8)\n"
        "date ******** (Unreadable: its expiry is not a date time)\n"
        "foreign ******** (Unreadable: it has another password or is damaged)\n"
        "last ********************9999 (Expired on 2020-01-01T00:00:00)\n"
        "short ******************** (No expiration)\n"
    )
    assert done.stderr == (
        "Warning: 3 of the entries cannot be read (bytes, date, foreign): "
        "a stock server stops at the first of them and refuses every key stored after it.\n"
    )


# Options for every command


@pytest.mark.parametrize("before", [True, False])
def test_the_keystore_option(run: Run, tmp_path: Path, keystore: Path, *, before: bool) -> None:
    """`--keystore` works before and after the command, and wins over the environment."""
    option = ["--keystore", str(tmp_path / "other.p12")]

    def with_option(*arguments: str) -> Done:
        return run(*option, *arguments) if before else run(*arguments, *option)

    assert with_option("create", "x").returncode == 0
    check(with_option("list", "-q"), 0, "x\n")
    check(with_option("path", "-q"), 0, f"{tmp_path}/other.p12\n")
    check(with_option("path"), 0, f"{tmp_path}/other.p12 (the option --keystore)\n")
    assert not keystore.exists()


def test_the_last_keystore_option_wins(run: Run, tmp_path: Path) -> None:
    """Given before and after the command, the one after it is meant."""
    done = run("--keystore", tmp_path / "a", "path", "-q", "--keystore", tmp_path / "b")
    check(done, 0, f"{tmp_path}/b\n")


def test_the_path_command(run: Run, keystore: Path, tmp_path: Path) -> None:
    """`path` names the file and the rule that chose it, and makes nothing."""
    reason = "the environment variable METRICSHUB_KEYSTORE"
    check(run("path"), 0, f"{keystore} ({reason}) (not there yet)\n")
    done = run("path", env={"METRICSHUB_KEYSTORE": "", "APIKEY_LAUNCHER": f"{tmp_path}/bin/apikey"})
    assert done.returncode == 0
    (tmp_path / "lib" / "app").mkdir(parents=True)
    done = run("path", env={"METRICSHUB_KEYSTORE": "", "APIKEY_LAUNCHER": f"{tmp_path}/bin/apikey"})
    expected = f"{tmp_path}/lib/security/metricshub-keystore.p12"
    reason = "the installation apikey was started from"
    check(done, 0, f"{expected} ({reason}) (not there yet)\n")
    assert names(tmp_path) == ["lib"]


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    """Return a private password file."""
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    file.chmod(0o600)
    return file


def test_an_own_password(run: Run, password_file: Path, keystore: Path) -> None:
    """A keystore made with a password opens with it only, however it is given."""
    assert run("create", "x", "--password-file", password_file).returncode == 0
    check(run("--password-file", password_file, "list", "-q"), 0, "x\n")
    check(run("list", "-q", "--password-file", "-", stdin="hunter2\nmore"), 0, "x\n")
    by_variable = {"METRICSHUB_KEYSTORE_PASSWORD_FILE": str(password_file)}
    check(run("list", "-q", env=by_variable), 0, "x\n")
    check(run("list"), 1, stderr=f"{damaged(keystore)}\n")
    wrong = run("list", "--password-file", "-", stdin="wrong\n", env=by_variable)
    check(wrong, 1, stderr=f"{damaged(keystore)}\n")
    before = keystore.read_bytes()
    check(run("create", "y"), 1, stderr=f"{damaged(keystore)}\n")
    assert keystore.read_bytes() == before
    assert "hunter2" not in run("list", "--password-file", password_file).stdout


def test_a_readable_password_file_is_warned_of(run: Run, password_file: Path) -> None:
    """The password is used, with a warning on standard error."""
    password_file.chmod(0o644)
    done = run("list", "--password-file", password_file)
    check(
        done,
        0,
        "No API keys found.\n",
        f"Warning: {password_file} holds a password, and everybody may read it: chmod 600 it.\n",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The first line of {} is not a password."),
        (b"\n", "The first line of {} is not a password."),
        (b"\xff\n", "The password in {} is not UTF-8."),
        (None, "{} cannot be read: No such file or directory."),
    ],
)
def test_odd_password_files(
    run: Run, password_file: Path, keystore: Path, content: bytes | None, message: str
) -> None:
    """Without a password nothing is opened and nothing is made."""
    if content is None:
        password_file.unlink()
    else:
        password_file.write_bytes(content)
    done = run("create", "x", "--password-file", password_file)
    check(done, 1, stderr=f"Error: {message.format(password_file)}\n")
    assert not keystore.exists()


def test_no_password_on_standard_input(run: Run, keystore: Path) -> None:
    """An empty or closed standard input is an error, not a traceback."""
    done = run("create", "x", "--password-file", "-")
    check(done, 1, stderr="Error: The first line of standard input is not a password.\n")
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *COMMAND]
    done = run("create", "x", "--password-file", "-", command=closed)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert not keystore.exists()


def test_an_empty_password_option_is_not_the_published_password(run: Run, keystore: Path) -> None:
    """`--password-file "$UNSET"` must not quietly make a keystore that everybody can open."""
    done = run("create", "x", "--password-file", "")
    assert done.returncode in (1, 2)
    assert not keystore.exists()


def test_a_non_ascii_password(run: Run, password_file: Path, keystore: Path) -> None:
    """A new keystore does not get a password that older Java refuses."""
    password_file.write_text("pässwörd\n")
    done = run("create", "x", "--password-file", password_file)
    check(
        done,
        1,
        stderr="Error: The password of a new keystore must be ASCII.\n"
        "Hint: Java before version 25 refuses other characters.\n",
    )
    assert not keystore.parent.exists()


# Colour


def test_colour_on_a_terminal(environment: Environment) -> None:
    """On a terminal the alias and the key are green, and errors are red."""
    code, shown = on_terminal(["create", "x"], environment)
    assert code == 0
    assert re.fullmatch(
        re.escape(f"API key created for alias '{GREEN}x{PLAIN}': {GREEN}KEY{PLAIN} ").replace(
            "KEY", UUID4
        )
        + re.escape(f"(No expiration)\n{STORE_IT}"),
        shown,
    )
    code, shown = on_terminal(["list"], environment)
    assert shown.startswith(f"{GREEN}x{PLAIN} ****")
    code, shown = on_terminal(["create", "x"], environment)
    assert (code, shown.splitlines()[0]) == (
        1,
        f"{RED}Error: An API key with alias 'x' already exists.{PLAIN}",
    )


@pytest.mark.parametrize(
    ("options", "environ", "coloured"),
    [
        ([], {"NO_COLOR": "1"}, False),
        ([], {"NO_COLOR": ""}, True),
        (["--color", "auto"], {"NO_COLOR": "1"}, False),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
        (["--color", "never"], {}, False),
        (["-o", "json"], {}, False),
        (["-q"], {}, False),
    ],
)
def test_who_decides_on_colour(
    environment: Environment, options: list[str], environ: Environment, *, coloured: bool
) -> None:
    """The option wins over NO_COLOR, NO_COLOR over the terminal; data has no colour."""
    code, shown = on_terminal(["create", "x", *options], environment | environ)
    assert code == 0
    assert ("\x1b" in shown) == coloured
    code, shown = on_terminal(["create", "x", *options], environment | environ)
    assert code == 1
    assert ("\x1b" in shown) == (coloured or (options == ["-q"]))


def test_colour_without_a_terminal(run: Run) -> None:
    """Into a pipe there is colour only where it is asked for."""
    assert "\x1b" not in run("create", "x").stdout
    assert GREEN in run("list", "--color", "always").stdout
    assert RED in run("--color", "always", "create", "x").stderr
    assert "\x1b" not in run("create", "x").stderr


def test_progress_is_shown_on_a_terminal(
    environment: Environment, stock: Stock, keystore: Path
) -> None:
    """Long work shows a bar on standard error that goes away; a pipe gets none."""
    keystore.parent.mkdir()
    stock.ask("create-many", keystore, "17", "n")
    program = (
        "import sys\n"
        "from metricshub_apikey.cli import output\n"
        "from metricshub_apikey.cli.main import run\n"
        "output.PROGRESS_AFTER_SECONDS = -1\n"  # any work is long work
        "sys.exit(run(['list', '-o', sys.argv[1]]))\n"
    )
    shown = {}
    for form in ("text", "json"):
        master, slave = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-c", program, form],
            env={**environment, "TERM": "xterm", "COLUMNS": "80"},
            stdout=subprocess.PIPE,
            stderr=slave,
        ) as process:
            os.close(slave)
            found, _ = process.communicate()
        os.set_blocking(master, False)
        try:
            shown[form] = os.read(master, 1 << 20).decode()
        except OSError:
            shown[form] = ""
        os.close(master)
        assert process.returncode == 0
        assert found.count(b"*" * 20) == 17
        assert b"\x1b" not in found
    assert "Deriving keys" in shown["text"]
    assert shown["json"] == ""


# Streams that fail


@pytest.fixture
def closed_pipe() -> Iterator[int]:
    """Return the writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def test_a_reader_that_goes_away(run: Run, keystore: Path) -> None:
    """`list | head -1` is no error, and prints no noise."""
    put_many(keystore, 700)
    shell = ["sh", "-c", '{ "$@"; echo "exit $?" >&2; } | head -1', "sh", *COMMAND]
    done = run("list", command=shell)
    assert (done.stdout.count("\n"), done.stderr) == (1, "exit 0\n")


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["list", "-q"], ["list", "-o", "json"], ["path"], ["--help"], ["--version"], []],
)
def test_a_reader_that_was_never_there(
    run: Run, registry: ApiKeys, closed_pipe: int, arguments: list[str]
) -> None:
    """Whatever is printed into a closed pipe, that is no error."""
    registry.create("x")
    done = run(*arguments, stdout=closed_pipe)
    assert (done.returncode, done.stderr) == (0, "")


UNDELIVERED: dict[str, str] = {
    "closed pipe": "",
    "closed": 'exec "$@" >&-',
    "full": 'exec "$@" >/dev/full',
}


@pytest.mark.parametrize("form", [[], ["-q"], ["-o", "json"]])
@pytest.mark.parametrize("how", UNDELIVERED)
def test_a_key_that_is_not_delivered(
    run: Run, registry: ApiKeys, closed_pipe: int, how: str, form: list[str]
) -> None:
    """A key that standard output does not take is in the keystore, and its owner is told."""
    if how == "closed pipe":
        done = run("create", "it's", *form, stdout=closed_pipe)
    else:
        done = run("create", "it's", *form, command=["sh", "-c", UNDELIVERED[how], "sh", *COMMAND])
    assert done.returncode == 1
    assert not done.stdout
    if "json" in form:
        error = document(done.stderr)["error"]
        assert error["code"] == "key-not-delivered"
        message, hint = error["message"], error["hint"]
    else:
        message, hint = (line.split(": ", 1)[1] for line in done.stderr.splitlines())
    assert "'it's' was created but not delivered" in message
    assert registry.aliases() == ("it's",)
    assert str(registry.list()[0].secret.reveal()) not in done.stderr
    typed = hint.rpartition(": ")[2]
    assert typed.startswith("apikey revoke ")
    shell = ["sh", "-c", typed.replace("apikey", '"$@"', 1), "sh", *COMMAND]
    assert run(command=shell).returncode == 0
    assert registry.aliases() == ()


def test_a_key_in_a_file_survives_a_full_standard_output(run: Run, tmp_path: Path) -> None:
    """What is in the file is delivered, whether or not the sentence about it can be shown."""
    out = tmp_path / "key"
    with open("/dev/full", "wb") as full:
        done = run("create", "x", "--out", out, stdout=full)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: The key is in {out}, but this could not be shown.")
    assert re.fullmatch(r"[0-9a-f-]{36}\n", out.read_text())


def test_a_revocation_that_is_not_shown(run: Run, registry: ApiKeys) -> None:
    """If standard output is full, the error does not look as if the key were still there."""
    registry.create("x")
    with Path("/dev/full").open("w") as full:
        done = run("revoke", "x", stdout=full)
    assert registry.aliases() == ()
    assert done.returncode == 1
    assert "revoked" in done.stderr


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o640, True), (0o600, False)])
def test_a_key_in_a_readable_file(run: Run, tmp_path: Path, mode: int, *, warned: bool) -> None:
    """A key that goes to a file which others may read is delivered with a warning."""
    file = tmp_path / "key"
    file.touch()
    file.chmod(mode)
    with file.open("w") as stream:
        done = run("create", "x", "-q", stdout=stream)
    assert re.fullmatch(UUID4 + "\n", file.read_text())
    warning = "Warning: The key goes to a file that others may read; use --out FILE instead.\n"
    assert (done.returncode, done.stderr) == (0, warning if warned else "")
    with file.open("w") as stream:
        assert run("list", stdout=stream).stderr == ""


def test_without_standard_error(run: Run, registry: ApiKeys) -> None:
    """A note that nobody can read does not keep the key from its owner."""
    for number, redirection in enumerate(("2>&-", "2>/dev/full")):
        shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND]
        done = run("create", f"CI{number}", "-q", command=shell)
        assert done.returncode == 0
        assert done.stdout.strip() == registry.list()[-1].secret.reveal()
        assert run("create", f"CI{number}", command=shell).returncode == 1


# Waiting for the lock


@pytest.fixture
def lock(keystore: Path) -> Iterator[IO[bytes]]:
    """Return the lock file of a keystore with one key, locked by this test."""
    ApiKeys(Keystore(keystore)).create("old")
    with keystore.with_name(".metricshub-keystore.p12.lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def test_a_busy_keystore(run: Run, keystore: Path, lock: IO[bytes]) -> None:
    """Who has to wait for too long is told so; readers need not wait."""
    before = keystore.read_bytes()
    for command in (["create", "x"], ["revoke", "old"]):
        check(
            run(*command, "--lock-timeout", "0.2"),
            1,
            stderr=f"Error: {keystore} is being changed by another process.\n"
            "Hint: Try again, or wait longer than 0.2 s with --lock-timeout.\n",
        )
    check(run("list", "-q"), 0, "old\n")
    assert keystore.read_bytes() == before
    fcntl.flock(lock, fcntl.LOCK_UN)
    assert run("create", "x", "--lock-timeout", "0").returncode == 0


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start_waiting(environment: Environment, lock: IO[bytes]) -> Iterator[Start]:
    """Return a function that starts the command and returns when it waits for the lock."""
    if not Path("/proc/self/fd").exists():
        missing("only /proc shows that a process waits")
    processes: list[subprocess.Popen[str]] = []

    def waits(process: subprocess.Popen[str]) -> bool:
        try:
            links = list(Path(f"/proc/{process.pid}/fd").iterdir())
            return any(os.path.realpath(link) == lock.name for link in links)
        except OSError:
            return False

    def start(*arguments: str | Path, prefix: Sequence[str] = ()) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*prefix, *COMMAND, *map(str, arguments), "--lock-timeout", "60"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        while not waits(process):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_interrupted_while_waiting(
    start_waiting: Start, keystore: Path, tmp_path: Path, number: int, code: int
) -> None:
    """A signal ends the command with the shell's exit code, silently, and nothing is left."""
    before = keystore.read_bytes()
    process = start_waiting("create", "x", "--out", tmp_path / "key")
    process.send_signal(number)
    assert process.communicate() == ("", "")
    assert process.returncode == code
    assert keystore.read_bytes() == before
    assert names(tmp_path) == ["security"]
    assert names(keystore.parent) == [".metricshub-keystore.p12.lock", keystore.name]


def test_nohup(start_waiting: Start, lock: IO[bytes], registry: ApiKeys) -> None:
    """Under `nohup` a closed terminal does not end the command."""
    ignoring = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"]
    process = start_waiting("create", "x", "-q", prefix=ignoring)
    process.send_signal(signal.SIGHUP)
    fcntl.flock(lock, fcntl.LOCK_UN)
    stdout, _ = process.communicate()
    assert process.returncode == 0
    assert registry.list()[-1].secret.reveal() == stdout.strip()


@pytest.mark.parametrize("out", [False, True])
def test_if_missing_in_a_race(
    start_waiting: Start, lock: IO[bytes], keystore: Path, tmp_path: Path, *, out: bool
) -> None:
    """If somebody else makes the key at the same time, that is no failure either."""
    file = tmp_path / "key"
    process = start_waiting("create", "x", "--if-missing", *(["--out", file] if out else []))
    store = Store.parse(keystore.read_bytes(), STOCK_PASSWORDS)
    store.add("api_key:x", b"theirs", created_ms=0, random_bytes=os.urandom)
    keystore.write_bytes(store.serialise(os.urandom))
    fcntl.flock(lock, fcntl.LOCK_UN)
    assert process.communicate() == (
        "",
        "Note: An API key with alias 'x' exists already; nothing was created.\n",
    )
    assert process.returncode == 0
    assert not file.exists()


# Start-up


def test_a_list_imports_little(run: Run, java_keystore: Path) -> None:
    """A plain `list` imports nothing of what costs start-up and is not needed."""
    program = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "from metricshub_apikey.cli.main import run\n"
        "code = run(['list'])\n"
        "print(*set(sys.modules) - before, sep='\\n')\n"
        "sys.exit(code)\n"
    )
    done = run(command=[sys.executable, "-c", program])
    assert done.returncode == 0
    modules = set(done.stdout.splitlines())
    assert {"click", "metricshub_apikey.cli.key_text", "metricshub_apikey.pkcs12.store"} <= modules
    costly = {
        "rich", "platformdirs", "json", "concurrent.futures", "secrets", "sqlite3", "tomllib",
        "yaml", "csv", "pwd", "socket", "zlib", "shlex", "pathlib",
    }  # fmt: skip
    assert not modules & costly
    assert not [name for name in modules if "gateway" in name or "x509" in name]
    ours = {name.removeprefix("metricshub_apikey.") for name in modules}
    known = {"cli.commands.list"}
    assert {name for name in ours if name.startswith("cli.commands.")} == known
    late = {
        "activity.database", "cli.delivery", "cli.table", "formats.toml_lines", "http",
        "formats.toml_value", "keys.prefixed", "policy.file", "policy.permission",
        "policy.templates", "registry.manifest", "registry.plan", "registry.verification",
        "review.checks", "review.leaks", "review.repair",
    }  # fmt: skip
    assert not ours & late
    assert java_keystore.exists()
