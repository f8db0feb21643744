"""`create` at a shell, beside a stock server, and for scripts."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from uuid import UUID

from conftest import Run
from metricshub_apikey import ApiKeys
from shell import (
    UUID4,
    check,
    check_usage,
    names,
)
from stock import Stock

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
