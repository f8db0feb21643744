"""The oracle itself: is what Stock.java says about a keystore true?"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from places import VECTORS
from stock import Stock, StockError, escape, unescape

EXPECTED: dict[str, dict[str, Any]] = json.loads((VECTORS / "expected.json").read_text("utf-8"))
OPENAI = "eb47c2be-927f-495f-aa97-0ba0f60b8986"
PAST = "7d0f6a52-1c3b-4e8d-9a67-5b2e4c8f1d90"
ODD_TEXTS = [
    "",
    ".",
    "..",
    "! no failure",
    "tab\there",
    "line\nline\r\n",
    "back\\slash \\u0041",
    "ünï-😀",
    "\udc00\x00\x7f\u2028",
]


def run(stock: Stock, *args: str) -> subprocess.CompletedProcess[str]:
    """Run one command in a JVM of its own."""
    return subprocess.run(stock.command(*args), capture_output=True, check=False, encoding="ascii")


@pytest.mark.parametrize("name", EXPECTED)
def test_list_shows_what_each_runtime_wrote(stock: Stock, name: str) -> None:
    rows = stock.rows("list", VECTORS / name)
    entries = EXPECTED[name]["entries"]
    assert [row[0] for row in rows] == [entry["alias"] for entry in entries]
    for (_, created, value), entry in zip(rows, entries, strict=True):
        assert value == entry.get("value", entry.get("hex", entry["kind"]))
        assert entry["created"] in (int(created), None)


def test_find_answers_like_the_server(stock: Stock) -> None:
    vector = VECTORS / "jdk17.0.15.p12"
    assert stock.ask("find", vector, OPENAI) == ["accepted mcp-openai"]
    assert stock.ask("find", vector, PAST) == ["expired ünï-😀"]
    assert stock.ask("find", vector, "stock-user") == ["unknown"]
    assert stock.ask("find", vector, "") == ["unknown"]


def test_a_bad_expiry_hides_the_keys_after_it(stock: Stock, tmp_path: Path) -> None:
    file = tmp_path / "store.p12"
    stock.ask("create", file, "first", "key-1", "9999-12-31T23:59:59")
    stock.ask("create", file, "bad", "key-2", "2027-12-31")
    stock.ask("create", file, "last", "key-3")
    assert stock.ask("find", file, "key-1") == ["accepted first"]
    with pytest.raises(StockError, match="DateTimeParseException: Text '2027-12-31'"):
        stock.ask("find", file, "key-3")


def test_an_undecryptable_entry_is_listed_as_unreadable(stock: Stock, tmp_path: Path) -> None:
    file = tmp_path / "store.p12"
    master = "masterkey".encode("utf-16-be")
    renamed = "api_key:m".encode("utf-16-be")
    bare = VECTORS / "jdk17.0.15-mac-none.p12"  # without MAC, Java reads a changed file
    file.write_bytes(bare.read_bytes().replace(master, renamed))
    assert stock.rows("list", file)[0][::2] == ["api_key:m", "unreadable"]
    with pytest.raises(StockError, match="UnrecoverableKeyException"):
        stock.ask("find", file, OPENAI)


def test_create_and_revoke_keep_the_order(stock: Stock, tmp_path: Path) -> None:
    file = tmp_path / "store.p12"
    stock.ask("new", file)
    stock.ask("create", file, "B", "key-b", "9999-12-31T23:59:59")
    made = dict(stock.rows("create-many", file, "2", "n"))
    stock.ask("create", file, "b", "key-b2")
    assert [row[0] for row in stock.rows("list", file)][:3] == [
        "masterkey",
        "user:admin",
        "api_key:b",
    ]
    masks = ["*" * 20 + key[-4:] for key in ["y-b2", *made.values()]]
    assert stock.rows("apikeys", file) == [
        [alias, mask, "-"] for alias, mask in zip(["b", *made], masks, strict=True)
    ]
    stock.ask("revoke", file, "N1")
    assert [row[0] for row in stock.rows("apikeys", file)] == ["b", "n2"]
    with pytest.raises(StockError, match="NoSuchElementException"):
        stock.ask("revoke", file, "n1")


def test_apikeys_shows_the_stored_expiry(stock: Stock) -> None:
    rows = stock.rows("apikeys", VECTORS / "legacy-2021.p12")
    assert rows == []
    rows = stock.rows("apikeys", VECTORS / "jdk17.0.15-mac-none.p12")
    assert rows == [
        ["mcp-openai", "*" * 20 + "8986", "-"],
        ["mcp-claude", "*" * 20 + "15f3", "2027-12-31T23:59:59"],
        ["ünï-😀", "*" * 20 + "1d90", "2020-01-01T00:00"],
    ]


def test_mixed_and_rewrite_keep_every_entry(stock: Stock, tmp_path: Path) -> None:
    file, copy = tmp_path / "mixed-é.p12", tmp_path / "copy.p12"
    stock.ask("mixed", file, VECTORS / "identity.p12")
    stock.ask("rewrite", file, copy)
    rows = stock.rows("list", copy)
    assert rows[:-1] == stock.rows("list", file)[:-1]
    assert [row[0] for row in rows] == ["masterkey", "user:admin", "server", "ca"]
    assert [row[2] for row in rows[2:]] == ["private-key", "certificate"]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_any_text_gets_through(stock: Stock, text: str) -> None:
    assert unescape(escape(text)) == text
    assert escape(text).isascii()
    assert stock.ask("fold", text) == [text]
    assert stock.ask("split", f"{text}__x") == [f"={text}", "=x"]


def test_what_java_makes_of_a_text(stock: Stock) -> None:
    assert stock.ask("fold", "MCP-Ünï\u0130") == ["mcp-ünïi\u0307"]
    assert stock.ask("split", "key__2027__") == ["=key", "=2027"]
    assert stock.ask("split", "__") == []
    assert stock.ask("parse", "2027-12-31T23:59:00") == ["valid 2027-12-31T23:59"]
    for text in ("2027-12-31", "2027-12-31T23:59:59Z", "2027-13-01T00:00", "2027-12-31T24:00"):
        assert stock.ask("parse", text) == ["invalid"]
    assert stock.ask("version")[0].split(".")[0].isdigit()


def test_a_failure_is_raised_and_the_jvm_goes_on(stock: Stock, tmp_path: Path) -> None:
    with pytest.raises(StockError, match=r"FileNotFoundException: .*none\.p12"):
        stock.ask("list", tmp_path / "none.p12")
    with pytest.raises(StockError, match="no such command"):
        stock.ask("nonsense")
    assert stock.ask("fold", "A") == ["a"]


def test_one_command_in_a_jvm_of_its_own(stock: Stock, tmp_path: Path) -> None:
    done = run(stock, "fold", "Ü\t.")
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\u00fc\\t.\n", "")
    failed = run(stock, "list", str(tmp_path / "none.p12"))
    assert failed.returncode == 1
    assert failed.stdout.startswith("! FileNotFoundException: ")
