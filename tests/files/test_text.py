"""Text in whatever encoding a byte-order mark announces, read by one rule."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metricshub_apikey.errors import PolicyError
from metricshub_apikey.files.text import decode
from metricshub_apikey.policy.file import load

MARKED = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


@pytest.mark.parametrize("encoding", MARKED)
@given(text=st.text(st.characters(codec="utf-8")).filter(lambda text: "\0" not in text[:1]))
def test_every_marked_encoding(encoding: str, text: str) -> None:
    """A byte-order mark decides the encoding, and is not a part of the text."""
    assert decode(MARKED[encoding] + text.encode(encoding), "x", PolicyError) == text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a\nb\n\xff", "x, line 3: this is not UTF-8."),
        (codecs.BOM_UTF8 + b"\n\xff", "x, line 2: this is not UTF-8."),
        (
            codecs.BOM_UTF16_LE + "\n\n".encode("utf-16-le") + b"\0",
            "x, line 3: this is not UTF-16.",
        ),
        (codecs.BOM_UTF32_BE + b"\0", "x, line 1: this is not UTF-32."),
    ],
)
def test_the_line_is_named(data: bytes, said: str) -> None:
    """What no encoding explains is an error of the caller's kind that names the line."""
    with pytest.raises(PolicyError) as caught:
        decode(data, "x", PolicyError)
    assert caught.value.message == said


@pytest.mark.parametrize("encoding", MARKED)
def test_a_policy_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    """A policy file that PowerShell or Notepad saved is read."""
    path = tmp_path / "apikey.toml"
    path.write_bytes(MARKED[encoding] + "enforced = true\n".encode(encoding))
    assert load(str(path)).enforced
