"""Aliases as they are typed and shown, under any locale and on any terminal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from builders import put
from conftest import Run
from shell import (
    Environment,
    check,
    check_usage,
)


def test_folding_is_noted(run: Run) -> None:
    """The alias is echoed as typed; one note says under which name it is stored."""
    done = run("create", "MCP-Claude")
    assert done.stdout.startswith("API key created for alias 'MCP-Claude': ")
    assert done.stderr == "Note: Stored as 'mcp-claude': Java ignores letter case.\n"
    check(run("list", "-q"), 0, "mcp-claude\n")
    check(run("revoke", "MCP-CLAUDE"), 0, "API key 'MCP-CLAUDE' has been revoked.\n")


def test_odd_but_good_aliases(run: Run) -> None:
    """Spaces inside, punctuation and other scripts come out as they went in."""
    aliases = ["two words", "a.b/c:d", "ünï-😀", "日本", "'", "__"]
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
    check(
        run("revoke", "a\udcff"),
        1,
        stderr="Error: No API key found with alias 'a\\udcff'.\nHint: Did you mean 'a'?\n",
    )
