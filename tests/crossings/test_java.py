"""Both directions with Java's own KeyStore: what we write it reads, what it writes we keep."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import Run
from metricshub_apikey import ApiKeys
from metricshub_apikey.keystore.keystore import STOCK_PASSWORDS, Keystore
from metricshub_apikey.pkcs12 import der
from places import VECTORS
from stock import Stock, StockError

IDENTITY = VECTORS / "identity.p12"
KEY = "3f2b1c4d-8e5f-4a2b-bc15-0ba0f60b15f3"

ROUNDS = 200


def created(printed: str) -> str:
    """Return the key in the sentence of `create`."""
    found = re.match(r"API key created for alias '.*': (\S+) \(", printed)
    assert found
    return found[1]


def authenticated_safe(path: Path) -> bytes:
    """Return the bytes under the MAC."""
    data = path.read_bytes()
    start, end = der.enter(data, 0, len(data), der.SEQUENCE)
    _, at = der.enter(data, start, end, der.INTEGER)
    start, end = der.enter(data, at, end, der.SEQUENCE)
    _, at = der.enter(data, start, end, der.OID)
    start, end = der.enter(data, at, end, der.CONTEXT_0)
    start, end = der.enter(data, start, end, der.OCTETS)
    return data[start:end]


def parts(path: Path) -> list[bytes]:
    """Return the ContentInfos of a keystore."""
    safe = authenticated_safe(path)
    start, end = der.enter(safe, 0, len(safe), der.SEQUENCE)
    return der.split(safe, start, end, der.SEQUENCE, most=9, what="parts")


def test_java_accepts_what_we_create(stock: Stock, run: Run, keystore: Path) -> None:
    """A stock server finds a new key, with and without expiry, in a keystore that we made."""
    forever = run("create", "mcp-openai", "-q").stdout.strip()
    limited = run("create", "Mcp-Claude", "--expires-on", "9999-12-31", "-q").stdout.strip()

    assert stock.ask("find", keystore, forever) == ["accepted mcp-openai"]
    assert stock.ask("find", keystore, limited) == ["accepted mcp-claude"]
    assert stock.ask("find", keystore, KEY) == ["unknown"]


def test_java_refuses_what_we_revoke(stock: Stock, run: Run, keystore: Path) -> None:
    """A stock server no longer knows a revoked key, and still knows the others."""
    gone = run("create", "gone", "-q").stdout.strip()
    kept = run("create", "kept", "-q").stdout.strip()

    run("revoke", "gone")

    assert stock.ask("find", keystore, gone) == ["unknown"]
    assert stock.ask("find", keystore, kept) == ["accepted kept"]


def test_java_lists_what_we_list(stock: Stock, run: Run, keystore: Path) -> None:
    """Both tools show the same aliases and masks in the same order."""
    for alias in ("zebra", "ünï-😀", "a b/c:d.e"):
        assert run("create", alias).returncode == 0

    ours = [line.split(" (")[0].rsplit(" ", 1) for line in run("list").stdout.splitlines()]

    assert ours == [row[:2] for row in stock.rows("apikeys", keystore)]


def test_we_list_and_revoke_what_java_creates(stock: Stock, run: Run, keystore: Path) -> None:
    """Keys of the stock tool are ours to list and to revoke; its other entries stay."""
    keystore.parent.mkdir()
    stock.ask("new", keystore)
    before = stock.rows("list", keystore)
    stock.ask("create", keystore, "Stock", KEY, "9999-12-31T23:59")

    listed = run("list").stdout
    revoked = run("revoke", "STOCK")

    assert listed == "stock ********************15f3 (Expires on 9999-12-31T23:59:00)\n"
    assert revoked.stdout == "API key 'STOCK' has been revoked.\n"
    assert stock.rows("list", keystore) == before


def test_everything_else_in_a_mixed_keystore_survives(
    stock: Stock, run: Run, keystore: Path
) -> None:
    """Master key, users, a private key and certificates stay byte for byte."""
    keystore.parent.mkdir()
    stock.ask("mixed", keystore, IDENTITY)
    entries, encrypted = stock.rows("list", keystore), parts(keystore)[1:]

    run("create", "one")
    run("create", "two")
    run("revoke", "one")

    # Java dates an entry without localKeyID, such as a certificate, by the time of loading.
    ours = {alias: value for alias, _, value in stock.rows("list", keystore)}
    assert {alias: ours[alias] for alias, _, _ in entries} == {a: value for a, _, value in entries}
    assert set(ours) - {alias for alias, _, _ in entries} == {"api_key:two"}
    assert encrypted
    assert parts(keystore)[1:] == encrypted


@pytest.mark.parametrize("command", ["new", "mixed"])
def test_java_rewrites_our_file_as_it_is(
    stock: Stock, run: Run, keystore: Path, tmp_path: Path, command: str
) -> None:
    """
    A Java load and store leaves the authenticated safe of our file byte-identical.

    Certificates are the exception: Java encrypts their part anew each time.
    """
    keystore.parent.mkdir()
    stock.ask(command, keystore, *([IDENTITY] if command == "mixed" else []))
    for alias in ("a", "b", "ünï-😀"):
        run("create", alias, "--expires-in", "1y")
    run("revoke", "b")

    stock.ask("rewrite", keystore, tmp_path / "again.p12")

    if command == "new":
        assert authenticated_safe(tmp_path / "again.p12") == authenticated_safe(keystore)
    assert parts(tmp_path / "again.p12")[0] == parts(keystore)[0]


def test_java_rewrites_our_own_and_our_emptied_keystore(
    stock: Stock, run: Run, keystore: Path, tmp_path: Path
) -> None:
    """A keystore that only ever held our keys, and then none, is what Java would have written."""
    run("create", "only")
    for _ in range(2):
        stock.ask("rewrite", keystore, tmp_path / "again.p12")
        assert authenticated_safe(tmp_path / "again.p12") == authenticated_safe(keystore)
        run("revoke", "only")
    assert stock.ask("list", keystore) == []


def test_keytool_lists_what_we_wrote(run: Run, keystore: Path, stock: Stock) -> None:
    """The JDK's own tool opens the keystore and shows our entries as secret keys."""
    del stock  # its fixture has checked that there is a JDK
    run("create", "mcp-openai")
    run("create", "mcp-claude", "--expires-in", "90d")
    keytool = shutil.which("keytool")
    assert keytool

    command = [keytool, "-list", "-storetype", "PKCS12", "-keystore", str(keystore)]
    shown = subprocess.run(
        [*command, "-storepass", STOCK_PASSWORDS.store.reveal()],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LC_ALL": "C"},
    ).stdout

    assert re.search(r"^api_key:mcp-openai, .*, SecretKeyEntry", shown, re.MULTILINE)
    assert re.search(r"^api_key:mcp-claude, .*, SecretKeyEntry", shown, re.MULTILINE)


def test_an_odd_entry_stops_a_stock_server_but_not_us(
    stock: Stock, run: Run, keystore: Path
) -> None:
    """What the warning of `list` says is true, and revoking the odd entry mends it."""
    keystore.parent.mkdir()
    stock.ask("create", keystore, "first", KEY)
    stock.ask("create", keystore, "odd", "x", "tomorrow")
    last = run("create", "last", "-q").stdout.strip()

    listed = run("list")
    assert listed.returncode == 0
    assert "odd ******** (Unreadable: its expiry is not a date time)" in listed.stdout
    assert "last ********************" in listed.stdout
    assert "a stock server stops at the first of them" in listed.stderr
    with pytest.raises(StockError):
        stock.ask("find", keystore, last)

    run("revoke", "odd")

    assert stock.ask("find", keystore, last) == ["accepted last"]


@pytest.mark.slow
def test_alternating_writers_for_hundreds_of_rounds(stock: Stock, run: Run, keystore: Path) -> None:
    """
    Whoever writes next, Java or we, finds what the other left, over hundreds of rounds.

    One creates or revokes a key, then the other. Ours is the library in this process, and every
    tenth round the command, which is the same but slower to start.
    """
    keystore.parent.mkdir()
    stock.ask("mixed", keystore, IDENTITY)
    untouched = {row[0]: row[2] for row in stock.rows("list", keystore)}
    registry = ApiKeys(Keystore(keystore))
    chance = random.Random(20261121)
    keys: dict[str, str] = {}

    for number in range(ROUNDS):
        alias = f"key-{number}"
        if len(keys) > 4 and chance.random() < 0.5:
            victim = chance.choice(sorted(keys))
            if number % 2:
                stock.ask("revoke", keystore, victim)
            elif number % 10:
                registry.revoke(victim)
            else:
                assert run("revoke", victim).returncode == 0
            del keys[victim]
            continue
        if number % 2:
            stock.ask("create", keystore, alias, f"{KEY}-{number}")
            keys[alias] = f"{KEY}-{number}"
        elif number % 10:
            keys[alias] = str(registry.create(alias).secret.reveal())
        else:
            keys[alias] = created(run("create", alias).stdout)
        if number % 25 == 0:
            assert stock.ask("find", keystore, keys[alias]) == [f"accepted {alias}"]

    found = {key.alias: key.secret.reveal() for key in registry.list()}
    assert found == keys
    rows = {row[0]: row[2] for row in stock.rows("list", keystore)}
    assert {alias: rows[alias] for alias in untouched} == untouched
    assert {alias.removeprefix("api_key:") for alias in set(rows) - set(untouched)} == set(keys)
