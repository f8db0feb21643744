"""What a key carries goes through Java's own KeyStore, and Java accepts keys that were changed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import builders
from builders import content_infos, friendly_name, local_key_id
from metricshub_apikey.keys.api_key import ENTRY_PREFIX
from metricshub_apikey.keys.metadata import ATTRIBUTES, Metadata
from metricshub_apikey.keys.prefixed import is_intact, new_prefixed_key
from metricshub_apikey.keys.value import encode, new_key
from metricshub_apikey.keystore.keystore import STOCK_PASSWORDS
from metricshub_apikey.pkcs12 import der
from metricshub_apikey.pkcs12.bag import Bag
from metricshub_apikey.pkcs12.kdf import KeyDerivation
from metricshub_apikey.pkcs12.store import Store
from stock import Stock

KEYS = KeyDerivation()
CREATED = 1_790_000_000_123
LATER = datetime(9998, 12, 31, 23, 59, 59)

FULL = Metadata(
    created_by="ünï@host",
    roles=("full-access", "metrics-writer", "read-only"),
    service_account="ci/nightly 😀",
    description="What it is for: 日本, 'quotes', [brackets], = and 100%",
    labels=(("env", "production"), ("team", ""), ("url", "https://example.com/?a=b")),
    rotated_at=datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC),
)
KEPT = {
    "full": FULL,
    "one": Metadata(description="only one attribute"),
    "roles": Metadata(roles=("a", "b", "c")),
    "none": Metadata(),
}


def write(file: Path, carried: dict[str, Metadata]) -> dict[str, str]:
    """Write a keystore with a key for each metadata; return the keys by alias."""
    store = Store.empty(STOCK_PASSWORDS, KEYS)
    made = {alias: new_key(os.urandom) for alias in carried}
    for alias, metadata in carried.items():
        add(store, alias, encode(made[alias], None), metadata)
    file.write_bytes(store.serialise(os.urandom))
    return made


def add(store: Store, alias: str, value: bytes, metadata: Metadata = FULL) -> None:
    """Add one key with what it carries."""
    store.add(
        ENTRY_PREFIX + alias,
        value,
        created_ms=CREATED,
        random_bytes=os.urandom,
        attributes=ATTRIBUTES.encode(metadata.texts()),
    )


def read(file: Path) -> Store:
    """Read a keystore."""
    return Store.parse(file.read_bytes(), STOCK_PASSWORDS, KEYS)


def carried(file: Path) -> dict[str, Metadata]:
    """Return what each key of a keystore carries, by its alias."""
    return {
        str(bag.alias).removeprefix(ENTRY_PREFIX): Metadata.from_texts(bag.texts(ATTRIBUTES))
        for bag in read(file).bags
    }


def sorted_attributes(bag: Bag) -> tuple[bytes, list[bytes]]:
    """Return what stands before the attributes of a bag, and these in a fixed order."""
    (outer,) = builders.tree(bag.raw)
    *head, attributes = outer.children
    encoded = sorted(one.encode() for one in attributes.children)
    return b"".join(one.encode() for one in head), encoded


# Through Java


def test_metadata_survives_what_java_does(stock: Stock, tmp_path: Path) -> None:
    """After a create, a revoke and a rewrite of Java's, every field of every key is what it was."""
    file = tmp_path / "k.p12"
    made = write(file, KEPT)

    stock.ask("create", file, "stock", new_key(os.urandom))
    assert carried(file) == {**KEPT, "stock": Metadata()}
    stock.ask("revoke", file, "roles")
    stock.ask("rewrite", file, file)
    stock.ask("revoke", file, "stock")

    assert carried(file) == {alias: one for alias, one in KEPT.items() if alias != "roles"}
    assert {bag.created_ms for bag in read(file).bags} == {CREATED}
    for alias in ("full", "one", "none"):
        assert stock.ask("find", file, made[alias]) == [f"accepted {alias}"]


texts = st.none() | st.text(max_size=40)
whatever = st.builds(
    Metadata,
    created_by=texts,
    roles=st.sets(st.text(max_size=20), max_size=5).map(lambda roles: tuple(sorted(roles))),
    service_account=texts,
    description=texts,
    labels=st.dictionaries(st.text("ab", max_size=3), st.text(max_size=20), max_size=3).map(
        lambda labels: tuple(sorted(labels.items()))
    ),
    rotated_at=st.none(),
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(whatever, min_size=1, max_size=4))
def test_any_characters_survive_java(
    stock: Stock, tmp_path: Path, metadata: list[Metadata]
) -> None:
    """Java shows attributes as text; it writes back the bytes, whatever they are."""
    file = tmp_path / "k.p12"
    expected = {f"key-{number}": one for number, one in enumerate(metadata)}
    write(file, expected)
    stock.ask("rewrite", file, file)
    assert carried(file) == expected


@pytest.mark.parametrize(
    "metadata",
    [KEPT["one"], KEPT["roles"], Metadata(created_by="x" * 1000), Metadata()],
    ids=["one text", "several texts", "a long text", "none"],
)
def test_one_attribute_stays_byte_for_byte(
    stock: Stock, tmp_path: Path, metadata: Metadata
) -> None:
    """With one attribute of ours Java writes the very authenticated safe that we wrote."""
    file, again = tmp_path / "k.p12", tmp_path / "again.p12"
    write(file, {"a": metadata, "b": metadata})
    stock.ask("rewrite", file, again)
    assert content_infos(again.read_bytes()) == content_infos(file.read_bytes())


def test_several_attributes_may_only_change_their_order(stock: Stock, tmp_path: Path) -> None:
    """Java keeps them in a set of its own: each is byte for byte what it was."""
    file, again = tmp_path / "k.p12", tmp_path / "again.p12"
    write(file, {"a": FULL, "b": FULL._replace(roles=())})
    stock.ask("rewrite", file, again)
    before, after = read(file).bags, read(again).bags
    assert list(map(sorted_attributes, after)) == list(map(sorted_attributes, before))
    assert len(sorted_attributes(after[0])[1]) == 2 + 6
    names = friendly_name(ENTRY_PREFIX + "a") + local_key_id(b"Time %d" % CREATED)
    assert names in after[0].raw


def test_attributes_of_others_survive_us_and_java(stock: Stock, tmp_path: Path) -> None:
    """What a third tool has attached is still there after both have written."""
    file = tmp_path / "k.p12"
    foreign = builders.attribute(builders.PRIVATE, der.octets(b"theirs"), der.integer(7))
    store = Store.empty(STOCK_PASSWORDS, KEYS)
    attributes = foreign + ATTRIBUTES.encode(FULL.texts())
    name = ENTRY_PREFIX + "a"
    store.add(name, b"k", created_ms=CREATED, random_bytes=os.urandom, attributes=attributes)
    revise(store, "a", FULL._replace(description=None))
    file.write_bytes(store.serialise(os.urandom))
    stock.ask("rewrite", file, file)
    (bag,) = read(file).bags
    assert foreign in sorted_attributes(bag)[1]
    assert carried(file) == {"a": FULL._replace(description=None)}


# Keys that Java accepts


@pytest.mark.parametrize("expires_on", [None, LATER], ids=["for ever", "with an expiry"])
def test_java_accepts_prefixed_keys(
    stock: Stock, tmp_path: Path, expires_on: datetime | None
) -> None:
    """A key with a prefix and a checksum is one to a stock server, too."""
    file, store = tmp_path / "k.p12", Store.empty(STOCK_PASSWORDS, KEYS)
    keys = [new_prefixed_key(prefix, os.urandom) for prefix in ("metoro_secret_", "a_b_1_")]
    for number, key in enumerate(keys):
        add(store, f"key-{number}", encode(key, expires_on))
    file.write_bytes(store.serialise(os.urandom))
    assert all(map(is_intact, keys))
    for number, key in enumerate(keys):
        assert stock.ask("find", file, key) == [f"accepted key-{number}"]
        assert stock.ask("find", file, key[:-1]) == ["unknown"]


def revise(
    store: Store,
    old: str,
    metadata: Metadata,
    *,
    alias: str | None = None,
    value: bytes | None = None,
) -> None:
    """Change a key in a store."""
    entry = ENTRY_PREFIX + (old if alias is None else alias)
    secret = None if value is None else store.encrypt(entry, value, os.urandom)
    name = None if alias is None else entry
    (bag,) = store.find(ENTRY_PREFIX + old)
    store.replace({bag: bag.revise(ATTRIBUTES, metadata.texts(), alias=name, secret=secret)})


def accepted(stock: Stock, file: Path, keys: Iterable[str]) -> list[str]:
    """Return what a stock server says to each key."""
    return [answer for key in keys for answer in stock.ask("find", file, key)]


def test_java_accepts_keys_that_were_changed(stock: Stock, tmp_path: Path) -> None:
    """Another expiry, another alias, both, or only texts: the same keys, in their old places."""
    file = tmp_path / "k.p12"
    made = write(file, dict.fromkeys(("a", "b", "c", "d"), FULL))
    store = read(file)
    changed = Metadata(roles=("read-only",))
    revise(store, "a", changed, value=encode(made["a"], LATER))
    revise(store, "b", changed, alias="b.prev")
    revise(store, "c", changed, alias="c-ünï", value=encode(made["c"], LATER))
    revise(store, "d", changed)
    file.write_bytes(store.serialise(os.urandom))

    for _ in range(2):
        aliases = ["a", "b.prev", "c-ünï", "d"]
        assert accepted(stock, file, made.values()) == [f"accepted {alias}" for alias in aliases]
        ends = [row[2] for row in stock.rows("apikeys", file)]
        assert ends == ["9998-12-31T23:59:59", "-", "9998-12-31T23:59:59", "-"]
        assert [row[:2] for row in stock.rows("list", file)] == [
            [ENTRY_PREFIX + alias, str(CREATED)] for alias in aliases
        ]
        assert set(carried(file)) == set(aliases)
        stock.ask("rewrite", file, file)

    revise(store, "d", changed, value=encode(made["d"], datetime(2001, 1, 1)))
    file.write_bytes(store.serialise(os.urandom))
    assert stock.ask("find", file, made["d"]) == ["expired d"]


def test_java_finds_what_was_in_upper_case(stock: Stock, tmp_path: Path) -> None:
    """An alias that another tool wrote in upper case is found before and after it is folded."""
    file = tmp_path / "k.p12"
    store = Store.empty(STOCK_PASSWORDS, KEYS)
    store.adopt(
        Bag(builders.secret_bag("API_KEY:WEB", b"key", password=STOCK_PASSWORDS.entries.reveal()))
    )
    for alias in (None, "web", "site"):
        if alias is not None:
            revise(store, "web", FULL, alias=alias)
        file.write_bytes(store.serialise(os.urandom))
        assert stock.ask("find", file, "key") == [f"accepted {alias or 'web'}"]
        assert read(file).find(f"API_KEY:{alias or 'web'}")


def test_java_finds_keys_of_its_own_that_were_changed(stock: Stock, tmp_path: Path) -> None:
    """A key of the stock tool gets metadata and another expiry; the master key is not touched."""
    file = tmp_path / "k.p12"
    stock.ask("new", file)
    before = stock.rows("list", file)
    stock.ask("create", file, "theirs", "the-key", "2001-01-01T00:00")
    assert stock.ask("find", file, "the-key") == ["expired theirs"]

    store = read(file)
    revise(store, "theirs", FULL, value=encode("the-key", LATER))
    file.write_bytes(store.serialise(os.urandom))

    assert stock.ask("find", file, "the-key") == ["accepted theirs"]
    stock.ask("create", file, "another", "x")
    assert carried(file)["theirs"] == FULL
    assert stock.rows("list", file)[: len(before)] == before
