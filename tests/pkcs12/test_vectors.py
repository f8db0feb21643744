"""Keystores that real JDKs wrote, here and in the shared data, read with the right values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest

from builders import content_infos, safe_and_seal, secret_bags, value_of
from metricshub_apikey.errors import EntryUnreadableError
from metricshub_apikey.keystore.keystore import STOCK_PASSWORDS
from metricshub_apikey.pkcs12 import der
from metricshub_apikey.pkcs12.kdf import KdfParameters, KeyDerivation, Passwords
from metricshub_apikey.pkcs12.mac import parse_mac
from metricshub_apikey.pkcs12.pbe import Pbe3Des, Pbes2
from metricshub_apikey.pkcs12.problems import DamagedBytesError, UnsupportedFormatError
from metricshub_apikey.pkcs12.store import Store
from places import PROJECT, VECTORS
from stock import Stock

EXPECTED: dict[str, dict[str, Any]] = json.loads((VECTORS / "expected.json").read_text("utf-8"))
SEALED = [name for name, vector in EXPECTED.items() if vector["mac"]]
SHARED = PROJECT.parent / "shared" / "data"
SHARED_FILES = sorted(SHARED.glob("**/*.p12"))
MASTER_KEY = "masterkey"
STORE_ONLY = Passwords(STOCK_PASSWORDS.store.reveal(), STOCK_PASSWORDS.store.reveal())
PRFS = {"hmacWithSHA1", "hmacWithSHA224", "hmacWithSHA256", "hmacWithSHA384", "hmacWithSHA512"}
KEY_SIZES = {"aes128-CBC": 16, "aes256-CBC": 32}


@dataclass
class Opened:
    """A file, opened with the stock passwords, and again with the store's for its master key."""

    file: bytes
    store: Store
    master: Store


@cache
def opened(path: Path) -> Opened:
    """Open a file; its MAC is computed once in all these tests."""
    file, keys = path.read_bytes(), KeyDerivation()
    store = Store.parse(file, STOCK_PASSWORDS, keys)
    return Opened(file, store, Store.parse(file, STORE_ONLY, keys))


@cache
def values(path: Path) -> dict[str | None, bytes]:
    """Return the value of every secret in a file, by its alias; each is derived once."""
    store, master = opened(path).store, opened(path).master
    found: dict[str | None, bytes] = {}
    for bag in secret_bags(store):
        if bag.alias != MASTER_KEY:
            found[bag.alias] = value_of(store, bag)
    for bag in secret_bags(master):
        if bag.alias == MASTER_KEY:
            found[bag.alias] = value_of(master, bag)
    return found


def test_every_vector_is_tested() -> None:
    """No keystore lies in the folder that `expected.json` does not know, nor the reverse."""
    files = {path.name for path in VECTORS.glob("*.p12")} - {"identity.p12"}
    assert files == set(EXPECTED)
    assert len(SEALED) == len(EXPECTED) - 1


@pytest.mark.parametrize("name", SEALED)
def test_vectors_hold_the_expected_entries(name: str) -> None:
    """Secrets and keys come in order, with the creation times that Java shows."""
    expected = [one for one in EXPECTED[name]["entries"] if one["kind"] != "certificate"]
    bags = [bag for bag in opened(VECTORS / name).store.bags if bag.created_ms is not None]
    unique = {(bag.alias, bag.created_ms): bag for bag in bags}  # a key's certificate has both, too
    assert list(unique) == [(one["alias"], one["created"]) for one in expected]


@pytest.mark.parametrize("name", SEALED)
def test_vectors_hold_the_expected_values(name: str) -> None:
    """Every secret opens, `masterkey` under the store password, the others under their own."""
    expected = {
        one["alias"]: one["value"].encode() if "value" in one else bytes.fromhex(one["hex"])
        for one in EXPECTED[name]["entries"]
        if one["kind"] == "secret"
    }
    assert values(VECTORS / name) == expected
    assert values(VECTORS / name)[MASTER_KEY] == bytes(range(32))


@pytest.mark.parametrize("name", SEALED)
def test_vectors_have_the_expected_algorithms(name: str) -> None:
    """Every secret is under the algorithm and the count that the runtime wrote."""
    by_alias = {one["alias"]: one for one in EXPECTED[name]["entries"]}
    for bag in secret_bags(opened(VECTORS / name).store):
        assert bag.alias is not None
        expected, algorithm = by_alias[bag.alias], bag.encrypted().algorithm
        assert algorithm.kdf.iterations == expected["iterations"]
        assert len(algorithm.kdf.salt) == 20
        if expected["algorithm"] == "PBES2":
            assert isinstance(algorithm, Pbes2)
            assert expected["prf"] in PRFS
            assert algorithm.kdf.hash_name == expected["prf"].removeprefix("hmacWith").lower()
            assert algorithm.key_size == KEY_SIZES[expected["cipher"]]
        else:
            assert isinstance(algorithm, Pbe3Des)


@pytest.mark.parametrize("name", SEALED)
def test_vectors_have_the_expected_mac(name: str) -> None:
    """The MAC has the hash and the count that the runtime wrote, and its salt of 20 bytes."""
    _, seal = safe_and_seal((VECTORS / name).read_bytes())
    scheme = parse_mac(seal, *der.enter(seal, 0, len(seal), der.SEQUENCE)).scheme
    assert isinstance(scheme, KdfParameters)
    expected = EXPECTED[name]["mac"]
    assert (scheme.hash_name, scheme.iterations) == (expected["hash"], expected["iterations"])
    assert len(scheme.salt) == 20


@pytest.mark.parametrize("name", SEALED)
def test_vectors_are_written_as_they_are(name: str) -> None:
    """A new entry goes last into the last data part; Java's bytes before it do not change."""
    opening = opened(VECTORS / name)
    store = Store.parse(opening.file, STOCK_PASSWORDS, opening.store.keys)
    random_bytes = Random(1).randbytes
    store.add("api_key:new", b"value", created_ms=0, random_bytes=random_bytes)
    before, after = content_infos(opening.file), content_infos(store.serialise(random_bytes))
    kinds = [one["type"] for one in EXPECTED[name]["contents"]]
    assert len(before) == len(after) == len(kinds)
    place = max(at for at, kind in enumerate(kinds) if kind == "data")
    assert [one for at, one in enumerate(after) if at != place] == [
        one for at, one in enumerate(before) if at != place
    ]
    (added,) = store.added
    assert after[place].endswith(added)
    store.remove(store.find("api_key:new"))
    assert content_infos(store.serialise(random_bytes)) == before


@pytest.mark.parametrize("name", ["jdk17.0.15-mixed.p12", "jdk25.0.2-mixed.p12"])
def test_certificates_in_the_encrypted_part_are_seen(name: str) -> None:
    """JDK 17 encrypts certificates with AES: they have aliases, and are no secrets."""
    store = opened(VECTORS / name).store
    for alias, count in (("server", 2), ("ca", 1)):
        found = store.find(alias)
        assert len(found) == count
        for value in store.values(found):
            assert isinstance(value, EntryUnreadableError)


def test_a_vector_without_a_mac_is_refused() -> None:
    """What Java opens without asking is not opened here."""
    with pytest.raises(UnsupportedFormatError, match="has no MAC"):
        Store.parse((VECTORS / "jdk17.0.15-mac-none.p12").read_bytes(), STOCK_PASSWORDS)


def test_the_master_key_has_another_password() -> None:
    """The entry password does not open it."""
    store = opened(VECTORS / "jdk17.0.15.p12").store
    (bag,) = store.find(MASTER_KEY)
    with pytest.raises(EntryUnreadableError):
        value_of(store, bag)


def test_a_vector_under_another_password_is_refused() -> None:
    """A file of Java's does not open with a password that is almost right."""
    file = (VECTORS / "jdk17.0.15-mac-sha512.p12").read_bytes()
    with pytest.raises(DamagedBytesError):
        Store.parse(
            file, Passwords(STOCK_PASSWORDS.store.reveal() + ".", STOCK_PASSWORDS.entries.reveal())
        )


@pytest.mark.skipif(not SHARED.is_dir(), reason="there is no folder shared/data beside the project")
@pytest.mark.parametrize("path", SHARED_FILES, ids=lambda path: path.name)
def test_shared_files_hold_what_java_says(stock: Stock, path: Path) -> None:
    """Aliases, creation times and values are those that the stock key tool shows, in order."""
    expected = []
    for alias, created, shown in stock.rows("list", path):
        if shown not in ("private-key", "certificate"):
            value = shown.encode() if alias.startswith("api_key:") else bytes.fromhex(shown)
            expected.append((alias, int(created), value))
    found = values(path)
    secrets = secret_bags(opened(path).store)
    assert [(bag.alias, bag.created_ms, found[bag.alias]) for bag in secrets] == expected
    assert expected[0][0] == MASTER_KEY
    assert len(expected[0][2]) == 32
