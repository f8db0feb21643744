"""The two streams: escaping, forms, colour, and streams that cannot be written."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metricshub_apikey.cli.output import Form, Output, green
from metricshub_apikey.cli.result import Document, Result
from metricshub_apikey.errors import KeyExistsError
from metricshub_apikey.formats.visible import escape

GREEN, YELLOW, RED, PLAIN = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[0m"


class Lines(Result):
    """Lines in every form for people, and a document."""

    def __init__(self, *lines: str, told: Document | None = None) -> None:
        self.shown = [*lines]
        self.told = told or {}

    def document(self) -> Document:
        """Return what was given."""
        return self.told

    def lines(self) -> list[str]:
        """Return what was given."""
        return self.shown

    quiet = lines


Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("ünï-😀 日本", "ünï-😀 日本"),
        ("no\u00a0break", "no\u00a0break"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\tb\nc\rd", r"a\tb\nc\rd"),
        ("\x00\x07\x7f\x9b", r"\x00\x07\x7f\x9b"),
        ("a\u202eb\u2066c", r"a\u202eb\u2066c"),
        ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
        ("a\u200bb\ufeffc", r"a\u200bb\ufeffc"),
        ("a\udcffb", r"a\udcffb"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_escape(raw: str, shown: str) -> None:
    """What moves the cursor, reorders or hides is written as an escape sequence."""
    assert escape(raw) == shown


@given(st.text())
def test_escaped_text_is_harmless(raw: str) -> None:
    """Whatever comes out of a keystore, no control, format or surrogate character is printed."""
    shown = escape(raw)
    assert not {unicodedata.category(one) for one in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert escape(shown) == shown


def test_text_goes_to_its_streams(capsys: Capture) -> None:
    """Results are alone on standard output; notes, warnings and errors are one line each."""
    out = Output(Form.TEXT, color=False)
    out.show(Lines(green("result"), "second"))
    out.note("a\nb")
    out.warn("be\x1bware")
    out.error(KeyExistsError("It\nis there.", hint="Look\x07."))
    assert capsys.readouterr() == (
        "result\nsecond\n",
        "Note: a\\nb\nWarning: be\\x1bware\nError: It\\nis there.\nHint: Look\\x07.\n",
    )


def test_colours(capsys: Capture) -> None:
    """Asked for always, results have green parts, notes a yellow start, and errors are red."""
    out = Output(Form.TEXT, color=True)
    out.show(Lines(f"a {green('b')}"))
    out.note("n")
    out.error(KeyExistsError("e", hint="h"))
    assert capsys.readouterr() == (
        f"a {GREEN}b{PLAIN}\n",
        f"{YELLOW}Note:{PLAIN} n\n{RED}Error: e{PLAIN}\nHint: h\n",
    )


def test_no_colour_without_a_terminal(capsys: Capture) -> None:
    """Left to itself, output into a pipe or a file is plain."""
    out = Output(Form.TEXT, color=None)
    out.show(Lines(green("result")))
    out.warn("w")
    assert capsys.readouterr() == ("result\n", "Warning: w\n")


def test_nothing_is_printed_for_no_lines(capsys: Capture) -> None:
    """No result means no empty line."""
    Output(Form.QUIET, color=False).show(Lines())
    assert capsys.readouterr() == ("", "")


def test_one_document_holds_the_notes(capsys: Capture) -> None:
    """In JSON, notes and warnings are part of the one document, and nothing is beside it."""
    out = Output(Form.JSON, color=True)
    out.note("first")
    out.warn("second\n")
    out.show(Lines(told={"b": 1, "a": "ü\u202e"}))
    stdout, stderr = capsys.readouterr()
    assert json.loads(stdout) == {"b": 1, "a": "ü\u202e", "notes": ["first", "second\n"]}
    assert stdout.isascii()
    assert stderr == ""


def test_one_document_for_an_error(capsys: Capture) -> None:
    """In JSON an error is one document on standard error: code, message and hint or null."""
    out = Output(Form.JSON, color=True)
    out.error(KeyExistsError("message \x1b"))
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert json.loads(stderr) == {
        "error": {"code": "key-exists", "message": "message \x1b", "hint": None}
    }
    assert "\x1b" not in stderr


def test_no_bar_without_a_terminal(capsys: Capture) -> None:
    """Where standard error is no terminal, progress shows nothing and imports nothing."""
    with Output(Form.TEXT, color=None).progress("Working") as advance:
        advance(1, 2)
    assert capsys.readouterr() == ("", "")


def test_standard_error_may_be_gone() -> None:
    """Without a standard error a note is lost, and the result is still printed."""
    program = (
        "from metricshub_apikey.cli.output import Form, Output\n"
        "out = Output(Form.TEXT, color=None)\n"
        "out.note('lost'); out.note('lost'); out.write('found')\n"
    )
    for redirection in ("2>&-", "2>/dev/full"):
        shell = f'exec "$@" {redirection}'
        done = subprocess.run(
            ["sh", "-c", shell, "sh", sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "found\n"), redirection
