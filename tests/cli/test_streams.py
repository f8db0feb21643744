"""Terminals, pipes and full disks under what a command prints."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import COMMAND, Run
from metricshub_apikey import ApiKeys
from shell import (
    STORE_IT,
    UUID4,
    Environment,
    document,
    put_many,
)
from stock import Stock
from terminal import on_terminal

GREEN, RED, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[0m"


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
    """A key that standard output does not take does not exist; the next run makes one."""
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
    assert message.startswith("The new API key of 'it's' was not delivered: Standard output ")
    assert hint == "No key is left behind. Run the command again when that is mended."
    assert registry.aliases() == ()
    assert run("create", "it's", "--if-missing", "-q").stdout
    assert registry.aliases() == ("it's",)


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
