"""A whole keystore: round trips, foreign parts kept to the byte, and everything that is refused."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import builders
from builders import (
    BAD_COUNTS,
    CREATED,
    DATA,
    EMPTY_INTEGER,
    ENCRYPTED_DATA,
    IV,
    ONE,
    PASSWORDS,
    PRIVATE,
    SALT,
    SIGNED_DATA,
    aes_info,
    any_bag,
    cert_bag,
    content_infos,
    data_info,
    des3_bag,
    des3_info,
    encrypted_info,
    entries,
    examples,
    foreign_bags,
    friendly_name,
    keystore,
    local_key_id,
    mac_data,
    parse,
    pbe_3des,
    pbes2,
    pbkdf2,
    pbmac1_data,
    pfx,
    safe_and_seal,
    secret_bag,
    shrouded_bag,
    value_of,
)
from metricshub_apikey.errors import ApiKeyError, EntryUnreadableError
from metricshub_apikey.keystore.keystore import STOCK_PASSWORDS
from metricshub_apikey.pkcs12 import der
from metricshub_apikey.pkcs12.attributes import TextAttributes
from metricshub_apikey.pkcs12.bag import Bag
from metricshub_apikey.pkcs12.kdf import KdfParameters, KeyDerivation, Passwords
from metricshub_apikey.pkcs12.pbe import DecryptionError, Pbes2, decrypt, derivations
from metricshub_apikey.pkcs12.problems import (
    DamagedBytesError,
    FormatError,
    FormatLimitError,
    NotPkcs12Error,
    TruncatedBytesError,
    UnsupportedFormatError,
)
from metricshub_apikey.pkcs12.store import Store
from places import VECTORS

Change = tuple[Literal["add", "replace", "remove", "repeat"], int, bytes]
Operation = tuple[Literal["add", "remove", "reload"], str, bytes]

ALIASES = ["a", "A", "api_key:x", "API_KEY:X", "api_key:ünï", "API_KEY:ÜNÏ", "😀", "", "\0\n\ud7ff"]
UNKNOWN_INFO = der.sequence(PRIVATE, der.element(der.CONTEXT_0, der.octets(b"whatever")))
random_bytes = Random(20211126).randbytes


NOBODYS = builders.attribute(PRIVATE, der.NULL)


def add(store: Store, alias: str, value: bytes = b"value") -> None:
    """Add an entry, made at `CREATED`."""
    store.add(alias, value, created_ms=CREATED, random_bytes=random_bytes)


def reload(store: Store) -> Store:
    """Write a store, and read it again with what is known of its keys."""
    return Store.parse(store.serialise(random_bytes), store.passwords, store.keys)


def unreadable(store: Store) -> list[str | None]:
    """Return the aliases of the entries that cannot be read."""
    values = store.values(store.bags)
    return [
        bag.alias
        for bag, value in zip(store.bags, values, strict=True)
        if isinstance(value, EntryUnreadableError)
    ]


# Round trips


@given(st.lists(st.tuples(st.text(), st.binary(max_size=300)), max_size=6))
@examples(30)
def test_what_is_added_comes_back(pairs: list[tuple[str, bytes]]) -> None:
    """Aliases of any characters, in lower case, and values of any bytes come back in order."""
    store = Store.empty(PASSWORDS)
    for alias, value in pairs:
        add(store, alias, value)
    again = Store.parse(store.serialise(random_bytes), PASSWORDS)
    assert entries(again) == [(alias.lower(), value) for alias, value in pairs]
    assert [bag.created_ms for bag in again.bags] == [CREATED] * len(pairs)
    for alias, _ in pairs:
        assert again.find(alias)


operations = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "remove", "reload"]),
        st.sampled_from(ALIASES),
        st.binary(max_size=20),
    ),
    max_size=12,
)


@given(operations)
@examples(50)
def test_a_store_is_a_list_of_entries(steps: list[Operation]) -> None:
    """Adding, removing and writing in any order does what it would do to a list."""
    store = parse(keystore(data_info(secret_bag("api_key:old", b"old"))))
    model: list[tuple[str | None, bytes]] = [("api_key:old", b"old")]
    for what, alias, value in steps:
        if what == "add":
            add(store, alias, value)
            model.append((alias.lower(), value))
        elif what == "remove":
            store.remove(store.find(alias))
            model = [entry for entry in model if entry[0] != alias.lower()]
        else:
            store = reload(store)
        assert entries(store) == model
    assert entries(reload(store)) == model


def test_a_new_store_is_what_java_17_writes() -> None:
    """A new file has one data part, our bag in it, and the modern MAC."""
    store = Store.empty(PASSWORDS)
    assert (store.bags, store.changed) == ([], False)
    add(store, "API_KEY:A", b"value")
    assert store.changed
    bag = store.bags[0]
    algorithm = bag.encrypted().algorithm
    assert isinstance(algorithm, Pbes2)
    assert (algorithm.key_size, algorithm.kdf[1:]) == (32, (10_000, "sha256"))
    assert (len(algorithm.kdf.salt), len(algorithm.iv)) == (20, 16)
    file = store.serialise(bytes)
    safe = der.sequence(data_info(bag.raw))
    assert file == pfx(safe, mac_data(safe, iterations=10_000, salt=bytes(20)))


def test_an_empty_store_comes_back() -> None:
    """No entries are a keystore, too, and so are no parts."""
    store = Store.empty(PASSWORDS)
    assert entries(reload(store)) == []
    for file in (keystore(), keystore(data_info()), keystore(data_info(), data_info())):
        again = parse(file)
        add(again, "a")
        assert entries(reload(again)) == [("a", b"value")]


def test_only_the_mac_is_made_anew() -> None:
    """Writing what was not changed keeps every byte but those of the MAC."""
    file = keystore(aes_info(cert_bag("c")), data_info(secret_bag("a", b"1")), UNKNOWN_INFO)
    again = parse(file).serialise(random_bytes)
    assert safe_and_seal(again)[0] == safe_and_seal(file)[0]
    assert safe_and_seal(again)[1] != safe_and_seal(file)[1]


def test_values_of_old_and_new_entries_are_read_together() -> None:
    """3DES beside PBES2 and JDK 8's nesting, and no secret among them, each in its place."""
    nested = secret_bag("nested", b"2", algorithm=pbes2(nested=True))
    store = parse(keystore(data_info(des3_bag("old", b"1"), nested, cert_bag("c"))))
    old, middle, no_secret = store.values(store.bags)
    assert (old, middle) == (b"1", b"2")
    assert isinstance(no_secret, EntryUnreadableError)
    assert store.values([]) == []
    assert store.values(reversed(store.bags))[1:] == [b"2", b"1"]


def test_values_report_progress_where_there_are_many_keys() -> None:
    """Many entries, each with a salt of its own, are derived while somebody listens."""
    bags = []
    for number in range(20):
        algorithm = pbes2(pbkdf2(salt=bytes([number]) * 20))
        key = hashlib.pbkdf2_hmac("sha256", b"entry-password", bytes([number]) * 20, 1, 32)
        plaintext = builders.pad(builders.secret_plaintext(b"%d" % number))
        bags.append(shrouded_bag(algorithm, builders.aes(key, plaintext), friendly_name("x")))
    store = parse(keystore(data_info(*bags)))
    heard: list[tuple[int, int]] = []
    values = store.values(store.bags, lambda done, total: heard.append((done, total)))
    assert values == [b"%d" % number for number in range(20)]
    assert heard == [(done, 20) for done in range(1, 21)]


# Aliases


def test_aliases_are_compared_folded() -> None:
    """An alias is found in whatever case it is written here, and there."""
    store = parse(keystore(data_info(secret_bag("API_KEY:ÜNÏ-😀", b"1"))))
    assert [bag.alias for bag in store.bags] == ["api_key:ünï-😀"]
    for alias in ("api_key:ünï-😀", "API_KEY:ÜNÏ-😀", "Api_Key:üNï-😀"):
        assert store.find(alias) == store.bags
    assert store.find("api_key:uni-😀") == []


def test_equal_aliases_are_all_found_and_removed() -> None:
    """Of entries with one alias the last counts; they stay until all of them go."""
    bags = [secret_bag("a", b"1"), secret_bag("b", b"2"), secret_bag("A", b"3")]
    store = parse(keystore(data_info(*bags), aes_info(secret_bag("a", b"4"))))
    assert [value_of(store, bag) for bag in store.find("a")] == [b"1", b"3", b"4"]
    store.remove(store.find("A"))
    assert entries(reload(store)) == [("b", b"2")]


def test_identical_bags_are_two_entries() -> None:
    """Removing one of two bags with the same bytes leaves the other."""
    raw = secret_bag("a", b"1")
    store = parse(keystore(data_info(raw, raw)))
    store.remove(store.bags[:1])
    assert store.removed == Counter([raw])
    assert content_infos(store.serialise(random_bytes)) == [data_info(raw)]


def test_bags_without_an_alias_are_never_found() -> None:
    """A bag without a name is kept, and no alias is its alias."""
    nameless = any_bag(PRIVATE, der.octets(b""), local_key_id())
    store = parse(keystore(data_info(nameless, secret_bag("", b"1"))))
    assert store.find("") == store.bags[1:]
    assert store.find("None") == []


# Foreign parts


Part = tuple[Literal["data", "other"], list[bytes], bytes]

foreign_parts = st.one_of(
    st.tuples(st.just("data"), st.lists(foreign_bags, max_size=3), st.just(b"")),
    st.tuples(
        st.just("other"),
        st.just([]),
        st.one_of(
            st.builds(der.sequence, builders.oids, builders.elements),
            st.builds(der.sequence, st.just(SIGNED_DATA), builders.elements),
            st.builds(der.sequence, st.just(ENCRYPTED_DATA), builders.elements),
            st.builds(encrypted_info, st.just(pbes2()), st.binary(max_size=50)),
            st.builds(aes_info, foreign_bags, foreign_bags),
            st.builds(des3_info, foreign_bags),
            st.builds(lambda bag: aes_info(bag, password="another"), foreign_bags),
        ),
    ),
)


def encode_parts(parts: list[Part]) -> list[bytes]:
    """Return the ContentInfos of a drawn layout."""
    return [data_info(*bags) if kind == "data" else raw for kind, bags, raw in parts]


@given(st.lists(foreign_parts, max_size=4), st.text(max_size=10))
@examples(60)
def test_adding_keeps_foreign_parts_to_the_byte(parts: list[Part], alias: str) -> None:
    """A new entry goes last into the last data part; no other byte of any part changes."""
    store = parse(keystore(*encode_parts(parts)))
    add(store, alias)
    (added,) = store.added
    places = [at for at, (kind, _, _) in enumerate(parts) if kind == "data"]
    if places:
        parts[places[-1]][1].append(added)
    else:
        parts.insert(0, ("data", [added], b""))
    file = store.serialise(random_bytes)
    assert content_infos(file) == encode_parts(parts)
    again = parse(file)
    (bag,) = [bag for bag in again.find(alias) if bag.raw == added]
    assert value_of(again, bag) == b"value"


@given(st.lists(foreign_parts, max_size=4), st.data())
@examples(100)
def test_removing_keeps_foreign_parts_to_the_byte(parts: list[Part], data: st.DataObject) -> None:
    """Some entries are cut out of the data parts, others stay; a part left empty goes."""
    store = parse(keystore(*encode_parts(parts)))
    mine = {raw for _, bags, _ in parts for raw in bags}
    unwanted = data.draw(st.sets(st.sampled_from(sorted(mine)))) if mine else set()
    untouched = [part for part in parts if unwanted.isdisjoint(part[1])]
    expected: list[Part] = []
    for part in parts:
        kept = [raw for raw in part[1] if raw not in unwanted]
        if kept or part in untouched:
            expected.append((part[0], kept, part[2]))
    plain = [bag for bag in store.bags if bag.raw in unwanted]
    in_data = sum(raw in unwanted for _, bags, _ in parts for raw in bags)
    if len(plain) == in_data:  # else the same bag is in an encrypted part, too
        store.remove(plain)
        assert content_infos(store.serialise(random_bytes)) == encode_parts(expected)


def test_certificates_of_java_stay_as_they_are() -> None:
    """The encrypted part that a real JDK wrote is kept to the byte beside a new entry."""
    for name in ("jdk17.0.15-mixed.p12", "jdk17.0.15-certs-plain.p12", "jdk11.0.5-mixed.p12"):
        file = (VECTORS / name).read_bytes()
        store = Store.parse(file, STOCK_PASSWORDS)
        add(store, "api_key:new")
        before, after = content_infos(file), content_infos(store.serialise(random_bytes))
        changed = 1 if name == "jdk17.0.15-certs-plain.p12" else 0
        assert after[1 - changed] == before[1 - changed]
        (added,) = store.added
        assert after[changed].endswith(added)


def test_a_removed_and_added_entry_leaves_the_others_alone() -> None:
    """After both, every foreign part is what it was."""
    secret = secret_bag("a", b"1", builders.attribute(PRIVATE, der.NULL, ONE))
    infos = [aes_info(cert_bag("c")), data_info(secret), UNKNOWN_INFO]
    store = parse(keystore(*infos))
    add(store, "b")
    store = reload(store)
    store.remove(store.find("b"))
    assert content_infos(store.serialise(random_bytes)) == infos
    assert [part for part in infos if part in store.pieces()] == [UNKNOWN_INFO]


def test_pieces_are_all_there_is_to_lose() -> None:
    """Bags stand for themselves, parts that are not understood stand as a whole."""
    bags = [secret_bag("a", b"1"), cert_bag("b"), cert_bag("c")]
    closed = aes_info(cert_bag("d"), password="another")
    store = parse(keystore(UNKNOWN_INFO, data_info(*bags[:2]), aes_info(bags[2]), closed))
    assert store.pieces() == [UNKNOWN_INFO, *bags, closed]
    add(store, "e")
    store.remove(store.find("c"))
    assert store.pieces() == [UNKNOWN_INFO, *bags[:2], *store.added, closed]
    assert reload(store).pieces() == store.pieces()
    assert store.added == Counter([store.find("e")[0].raw])
    assert store.removed == Counter([bags[2]])


def test_an_emptied_part_is_cut_out() -> None:
    """A part whose last entry goes is gone, an empty one that was there stays."""
    infos = [data_info(), data_info(secret_bag("a", b"1")), aes_info(secret_bag("b", b"2"))]
    store = parse(keystore(*infos))
    store.remove(store.find("a"))
    assert content_infos(store.serialise(random_bytes)) == [infos[0], infos[2]]
    store.remove(store.find("b"))
    assert content_infos(store.serialise(random_bytes)) == [infos[0]]


@pytest.mark.parametrize("encrypt_info", [aes_info, des3_info])
def test_secrets_in_an_encrypted_part_are_entries(
    encrypt_info: Callable[..., bytes],
) -> None:
    """They are read and removed; the others in there survive, encrypted anew."""
    others = [cert_bag("c"), secret_bag("b", b"2", builders.attribute(PRIVATE, der.NULL))]
    info = encrypt_info(others[0], secret_bag("a", b"1"), others[1])
    store = parse(keystore(info, UNKNOWN_INFO))
    assert [bag.alias for bag in store.bags] == ["c", "a", "b"]
    assert [value_of(store, bag) for bag in store.bags[1:]] == [b"1", b"2"]
    store.remove(store.find("a"))
    file = store.serialise(random_bytes)
    new, last = content_infos(file)
    assert last == UNKNOWN_INFO
    assert new.startswith(ENCRYPTED_DATA, 4)
    assert builders.SECRET_BAG not in new
    assert parse(file).pieces() == [*others, UNKNOWN_INFO]


def test_a_new_entry_never_goes_into_an_encrypted_part() -> None:
    """A data part is made for it, before the encrypted one, as Java does."""
    info = aes_info(secret_bag("a", b"1"))
    store = parse(keystore(info))
    add(store, "b")
    assert content_infos(store.serialise(random_bytes)) == [data_info(*store.added), info]


# Replaced entries


@pytest.mark.parametrize("make_info", [data_info, aes_info, des3_info])
def test_a_replaced_entry_keeps_its_place(make_info: Callable[..., bytes]) -> None:
    """In a plain part and in an encrypted one it stands where the old one stood, once."""
    bags = [cert_bag("c"), secret_bag("a", b"1"), secret_bag("b", b"2", NOBODYS)]
    before, behind = aes_info(cert_bag("d"), password="another"), data_info(cert_bag("e"))
    store = parse(keystore(before, make_info(*bags), behind))
    (old,) = store.find("a")
    new = Bag(secret_bag("A2", b"3"))
    store.replace({old: new})
    assert (store.find("a"), store.find("a2")) == ([], [new])
    file = store.serialise(random_bytes)
    assert parse(file).pieces() == [before, bags[0], new.raw, bags[2], cert_bag("e")]
    assert [content_infos(file)[at] for at in (0, 2)] == [before, behind]
    assert (content_infos(file)[1] == data_info(bags[0], new.raw, bags[2])) is (
        make_info is data_info
    )
    assert value_of(store, parse(file).find("a2")[0]) == b"3"


def test_many_entries_are_replaced_at_once() -> None:
    """Each gets its own successor, whichever part it is in."""
    infos = [data_info(secret_bag("a", b"1"), secret_bag("b", b"2")), aes_info(cert_bag("c"))]
    store = parse(keystore(*infos))
    a, b, c = store.bags
    successors = [Bag(secret_bag(alias, b"new")) for alias in ("x", "y")]
    store.replace({c: successors[0], a: successors[1]})
    assert [bag.raw for bag in store.bags] == [successors[1].raw, b.raw, successors[0].raw]
    assert reload(store).pieces() == store.pieces()


def test_one_of_two_identical_bags_is_replaced() -> None:
    """The other one, with the same bytes, stays."""
    raw, new = secret_bag("a", b"1"), secret_bag("b", b"2")
    store = parse(keystore(data_info(raw, raw)))
    store.replace({store.bags[1]: Bag(new)})
    assert content_infos(store.serialise(random_bytes)) == [data_info(raw, new)]
    assert (store.added, store.removed) == (Counter([new]), Counter([raw]))


def test_replacing_what_is_not_there_does_nothing() -> None:
    """Neither a bag of another store, nor one that has gone, changes anything."""
    raw = secret_bag("a", b"1")
    infos = [data_info(raw), aes_info(cert_bag("c"))]
    store, other = parse(keystore(*infos)), Bag(raw)
    store.replace({other: Bag(secret_bag("b", b"2"))})
    store.replace({})
    assert not store.changed
    assert content_infos(store.serialise(random_bytes)) == infos
    (bag,) = store.find("a")
    store.remove([bag])
    store.replace({bag: other})
    assert (store.added, store.removed) == (Counter(), Counter([raw]))


def test_an_entry_of_this_run_is_replaced_and_removed() -> None:
    """What was added, replaced twice and removed leaves nothing to tell, and nothing behind."""
    info = data_info(secret_bag("a", b"1"))
    store = parse(keystore(info))
    add(store, "b")
    for alias in ("c", "d"):
        store.replace({store.bags[1]: Bag(secret_bag(alias, b"2"))})
        assert store.added == Counter([store.bags[1].raw])
    assert (store.removed, store.changed) == (Counter(), True)
    store.remove(store.find("d"))
    assert (store.added, store.removed, store.changed) == (Counter(), Counter(), False)
    assert content_infos(store.serialise(random_bytes)) == [info]


FEW_BAGS = [any_bag(PRIVATE, der.octets(b"%d" % number), friendly_name("a")) for number in range(4)]
"""So few that the same bytes come, go and come back."""

changes = st.lists(
    st.tuples(
        st.sampled_from(["add", "replace", "replace", "remove", "repeat"]),
        st.integers(0, 20),
        st.sampled_from(FEW_BAGS),
    ),
    max_size=12,
)


def change_model(model: list[list[bytes]], what: str, at: int, raw: bytes) -> None:
    """Do to lists of bags, one for each part, what is done to a store; the first one is plain."""
    places = [(part, place) for part in model for place in range(len(part))]
    if what == "add":
        model[0].append(raw)
    elif places:
        part, place = places[at % len(places)]
        if what == "remove":
            del part[place]
        else:
            part[place] = part[place] if what == "repeat" else raw


def change_store(store: Store, what: str, at: int, raw: bytes) -> None:
    """Do the same to a store."""
    if what == "add":
        store.adopt(Bag(raw))
    elif store.bags:
        bag = store.bags[at % len(store.bags)]
        if what == "remove":
            store.remove([bag])
        else:
            store.replace({bag: Bag(bag.raw if what == "repeat" else raw)})


@given(
    st.lists(st.sampled_from(FEW_BAGS), max_size=3),
    st.lists(st.sampled_from(FEW_BAGS), min_size=1, max_size=2),
    changes,
)
@examples(150)
def test_what_came_and_went_is_what_is_there(
    plain: list[bytes], closed: list[bytes], steps: list[Change]
) -> None:
    """
    After any changes, the pieces are those before, less the removed, and the added ones.

    That is what is checked before a file is written. The places are those of a list, and a bag
    that is not among the removed ones has never left.
    """
    store = parse(keystore(data_info(*plain), aes_info(*closed), UNKNOWN_INFO))
    before, model = Counter(store.pieces()), [list(plain), list(closed)]
    for what, at, raw in steps:
        change_store(store, what, at, raw)
        change_model(model, what, at, raw)
        pieces = [*model[0], *model[1], UNKNOWN_INFO]
        assert store.pieces() == pieces
        assert min([*store.added.values(), *store.removed.values()], default=0) >= 0
        assert store.removed <= before
        assert before - store.removed + store.added == Counter(pieces)
    if not store.changed:
        assert Counter(store.pieces()) == before
    assert reload(store).pieces() == store.pieces()


# New entries


def kdfs(store: Store) -> set[KdfParameters]:
    """Return the different derivations of a store's secrets."""
    return {bag.encrypted().algorithm.kdf for bag in builders.secret_bags(store)}


def test_our_entries_share_one_derivation() -> None:
    """One key opens them all, also after writing; their initialisation vectors differ."""
    store = Store.empty(PASSWORDS)
    for number in range(5):
        add(store, f"api_key:{number}")
        store = reload(store)
    assert len(kdfs(store)) == 1
    algorithms = [bag.encrypted().algorithm for bag in store.bags]
    assert len({derivations(algorithm) for algorithm in algorithms}) == 1
    assert len({algorithm.iv for algorithm in algorithms}) == 5


def test_a_revised_entry_shares_the_derivation_too() -> None:
    """A new value for an old entry costs no server another derivation; its own vector is fresh."""
    store = Store.empty(PASSWORDS)
    for alias in ("api_key:a", "api_key:b"):
        add(store, alias)
    old = store.bags[0]
    secret = store.encrypt("API_KEY:A", b"new", random_bytes)
    store.replace({old: old.revise(TextAttributes("2.25.1"), {}, secret=secret)})
    assert entries(reload(store)) == [("api_key:a", b"new"), ("api_key:b", b"value")]
    assert len(kdfs(store)) == 1
    vectors = {bag.encrypted().algorithm.iv for bag in [old, *store.bags]}
    assert len(vectors) == 3


def test_a_new_entry_carries_attributes() -> None:
    """They stand behind Java's two, as they were given."""
    store = Store.empty(PASSWORDS)
    store.add("A", b"1", created_ms=CREATED, random_bytes=random_bytes, attributes=NOBODYS * 2)
    assert store.bags[0].raw.endswith(friendly_name("a") + local_key_id() + NOBODYS * 2)
    assert entries(reload(store)) == [("a", b"1")]


def modern(alias: str, count: int = 10_000, *, salt: bytes = SALT, prf: str = "sha256") -> bytes:
    """Return a bag under other parameters; nobody decrypts it."""
    algorithm = pbes2(pbkdf2(der.integer(count), salt=salt, prf=builders.HMACS[prf]))
    return shrouded_bag(algorithm, bytes(16), friendly_name(alias), local_key_id())


def test_the_salt_of_the_last_modern_entry_is_shared() -> None:
    """It is taken from an API key, wherever it is, not from entries of others nor old ones."""
    last = [
        modern("api_key:b", 9_999, salt=b"B" * 20),
        modern("api_key:c", prf="sha512", salt=b"C" * 20),
        des3_bag("api_key:d", b"4"),
        any_bag(PRIVATE, der.octets(b""), friendly_name("api_key:e")),
        modern("masterkey", salt=b"E" * 20),
    ]
    first = [modern("api_key:z", salt=b"Z" * 20), modern("API_KEY:a", salt=b"A" * 20)]
    for infos in ([data_info(*first, *last)], [data_info(*first), aes_info(*last)]):
        store = parse(keystore(*infos))
        add(store, "api_key:new")
        new = store.find("api_key:new")[0].encrypted()
        assert new.algorithm.kdf == KdfParameters(b"A" * 20, 10_000, "sha256")


def test_a_short_salt_is_not_shared() -> None:
    """A salt of less than 16 bytes is not good enough to be used again."""
    for size, shared in ((15, False), (16, True)):
        store = parse(keystore(data_info(modern("api_key:a", salt=bytes(size)))))
        add(store, "api_key:new")
        salt = store.find("api_key:new")[0].encrypted().algorithm.kdf.salt
        assert (salt == bytes(size)) is shared
        assert len(salt) == (size if shared else 20)


def test_entries_of_others_do_not_lend_their_salt() -> None:
    """Without an API key there is a fresh salt: `masterkey` is under another password."""
    store = parse(keystore(data_info(modern("masterkey"), modern("user:api_key:a"))))
    add(store, "api_key:new")
    assert store.find("api_key:new")[0].encrypted().algorithm.kdf.salt != SALT


def test_trailing_bytes_are_counted_and_dropped() -> None:
    """What follows the keystore in the file is not part of it, and not written again."""
    file = keystore(data_info(secret_bag("a", b"1")))
    assert parse(file).trailing == 0
    store = parse(file + b"\0trailing")
    assert store.trailing == 9
    again = store.serialise(random_bytes)
    assert len(again) == len(file)
    assert parse(again).trailing == 0


# Entries that cannot be read


def test_an_entry_under_another_password_is_unreadable() -> None:
    """It is the only one that is, and the error says nothing of the passwords."""
    bags = (secret_bag("a", b"1"), secret_bag("b", b"2", password="other"), des3_bag("c", b"3"))
    store = parse(keystore(data_info(*bags, des3_bag("d", b"4", password="other"))))
    assert unreadable(store) == ["b", "d"]
    with pytest.raises(EntryUnreadableError, match=r"^it has another password or is damaged$"):
        value_of(store, store.bags[1])
    assert value_of(store, store.bags[2]) == b"3"


def lucky_bags() -> Iterator[bytes]:
    """Yield bags under another password that the entry password opens with correct padding."""
    keys = KeyDerivation()
    for number in range(5000):
        raw = secret_bag("b", b"value", password="other", iv=number.to_bytes(16, "big"))
        with suppress(DecryptionError):
            decrypt(Bag(raw).encrypted(), PASSWORDS.entries.reveal(), keys)
            yield raw


def test_a_wrong_password_with_correct_padding_is_a_wrong_password() -> None:
    """Once in 256 times the padding is right by chance: the plaintext is looked at, too."""
    lucky = list(lucky_bags())
    assert len(lucky) > 1
    store = parse(keystore(data_info(secret_bag("a", b"1"), *lucky)))
    assert unreadable(store) == ["b"] * len(lucky)


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"value",
        der.octets(b"value"),
        der.sequence(),
        der.sequence(der.integer(0), der.octets(b"value")),
        der.sequence(der.integer(0), der.sequence(), der.integer(1)),
        builders.secret_plaintext(b"value")[:-1],
        bytes.fromhex("3080") + builders.secret_plaintext(b"value")[2:] + bytes(2),
    ],
)
def test_a_plaintext_of_another_shape_is_unreadable(plaintext: bytes) -> None:
    """Only the structure that Java writes is a value."""
    odd = shrouded_bag(pbes2(), builders.aes_encrypt(plaintext, PASSWORDS.entries.reveal()))
    store = parse(keystore(data_info(odd, secret_bag("a", b"1"))))
    with pytest.raises(EntryUnreadableError, match="another password or is damaged"):
        value_of(store, store.bags[0])
    assert value_of(store, store.bags[1]) == b"1"


@pytest.mark.parametrize("ciphertext", [b"", bytes(15), bytes(17)])
def test_half_blocks_are_unreadable(ciphertext: bytes) -> None:
    """A ciphertext that was cut makes its entry unreadable, and no other."""
    bags = (shrouded_bag(algorithm, ciphertext) for algorithm in (pbes2(), pbe_3des()))
    store = parse(keystore(data_info(*bags, secret_bag("a", b"1"))))
    assert unreadable(store) == [None, None]


UNREADABLE = {
    "RC2": pbe_3des(scheme=der.oid("1.2.840.113549.1.12.1.6")),
    "RC4": pbe_3des(scheme=der.oid("1.2.840.113549.1.12.1.1")),
    "DES": pbe_3des(scheme=der.oid("1.2.840.113549.1.5.3")),
    "no algorithm": der.sequence(),
    **{f"PBES2, {name}": pbes2(pbkdf2(count)) for name, count in BAD_COUNTS.items()},
    **{f"3DES, {name}": pbe_3des(count) for name, count in BAD_COUNTS.items()},
    "PBES2, no count": pbes2(pbkdf2(EMPTY_INTEGER)),
    "3DES, no count": pbe_3des(EMPTY_INTEGER),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_entry_that_cannot_be_read_does_not_spoil_the_others(name: str) -> None:
    """Algorithms and counts that are refused make one entry unreadable, which is kept."""
    odd = secret_bag("b", b"2", algorithm=UNREADABLE[name])
    store = parse(keystore(data_info(secret_bag("a", b"1"), odd, secret_bag("c", b"3"))))
    assert unreadable(store) == ["b"]
    store.remove(store.find("a"))
    assert odd in reload(store).pieces()
    store.remove(store.find("b"))
    assert entries(reload(store)) == [("c", b"3")]


def test_too_many_iterations_in_all_are_refused() -> None:
    """Entries that are each within the limit can be too many together; it costs no time."""
    bags = [modern(f"api_key:{at}", 1_000_000, salt=bytes([at]) * 20) for at in range(50)]
    store = parse(keystore(data_info(*bags)))
    with pytest.raises(FormatLimitError, match="2,000,000 beyond that for all"):
        store.values(store.bags)


def test_entries_of_honest_cost_are_read_whatever_their_number() -> None:
    """Entries that cost no more than those of an old JDK leave the budget alone."""
    bags = [modern(f"api_key:{at}", 20_000, salt=bytes([at]) * 20) for at in range(101)]
    store = parse(keystore(data_info(*bags)))
    assert len(unreadable(store)) == 101  # no password fits, and no limit is in the way


# Files that are refused


@pytest.mark.parametrize(
    "file",
    [keystore(data_info(secret_bag("a", b"1")), aes_info(cert_bag("b"))), keystore()],
    ids=["two parts", "empty"],
)
def test_a_truncated_file_is_always_noticed(file: bytes) -> None:
    """A file that lacks its last bytes, one or all, is said to end early."""
    for size in range(len(file)):
        with pytest.raises(TruncatedBytesError):
            parse(file[:size])


def test_truncated_insides_are_damage() -> None:
    """The same holds for what is under a correct MAC: it is never half read."""
    bags = der.sequence(secret_bag("a", b"1"), secret_bag("b", b"2"))
    for size in range(len(bags)):
        cut = der.sequence(DATA, der.element(der.CONTEXT_0, der.octets(bags[:size])))
        with pytest.raises(DamagedBytesError):
            parse(keystore(cut))
    safe = der.sequence(data_info(secret_bag("a", b"1")))
    for size in range(len(safe)):
        with pytest.raises(DamagedBytesError):
            parse(pfx(safe[:size]))


def pem(label: str, content: bytes) -> bytes:
    """Return something like a PEM file."""
    return f"-----BEGIN {label}-----\n{base64.b64encode(content).decode()}\n".encode()


CERTIFICATE = bytes.fromhex("308201003081aba003020102020101300d06092a864886f70d01010b0500") + bytes(
    300
)

NOT_KEYSTORES = {
    "JKS": bytes.fromhex("feedfeed00000002") + bytes(100),
    "JCEKS": bytes.fromhex("cececece00000002") + bytes(100),
    "PEM": pem("CERTIFICATE", CERTIFICATE),
    "zeros": bytes(1000),
    "text": b"# configuration\nkey=value\n",
    "text that begins with 0x30": b"0 is a digit, and this goes on for more than 32 bytes.\n",
    "ZIP": b"PK\x03\x04" + bytes(100),
    "one byte": b"\0",
    "certificate": CERTIFICATE,
    "RSA key": der.sequence(der.integer(0), der.integer(2**62), der.integer(65537)),
    "EC key": der.sequence(der.integer(1), der.octets(bytes(32))),
    "empty sequence": der.sequence(),
    "just a version": der.sequence(der.integer(3)),
    "version and text": der.sequence(der.integer(3), der.octets(b"text")),
    "another content": der.sequence(der.integer(3), UNKNOWN_INFO),
}


@pytest.mark.parametrize("name", NOT_KEYSTORES)
def test_other_files_are_no_keystores(name: str) -> None:
    """Files of other kinds are told from damaged keystores."""
    with pytest.raises(NotPkcs12Error, match="is not a PKCS#12 keystore"):
        parse(NOT_KEYSTORES[name])


def test_an_empty_file_is_truncated() -> None:
    """Java truncates a file before it writes it: an empty one may be full in a moment."""
    with pytest.raises(TruncatedBytesError) as caught:
        parse(b"")
    assert caught.value.hint == "The file is empty."


@pytest.mark.parametrize("version", [-1, 0, 2, 4, 2**40])
def test_other_versions_are_unsupported(version: int) -> None:
    """Only version 3 is PKCS#12 as it is known."""
    with pytest.raises(UnsupportedFormatError, match=f"version {version}; only version 3"):
        parse(pfx(der.sequence(), version=der.integer(version)))


def test_a_monstrous_version_is_no_keystore() -> None:
    """A version of more than 8 bytes is refused, and never written into a message."""
    with pytest.raises(NotPkcs12Error):
        parse(pfx(der.sequence(), version=der.integer(10**5000)))


def test_public_keys_are_unsupported() -> None:
    """A file sealed by signature is told from damage."""
    signed = der.sequence(SIGNED_DATA, der.element(der.CONTEXT_0, der.sequence()))
    with pytest.raises(UnsupportedFormatError, match="sealed with a public key"):
        parse(der.sequence(der.integer(3), signed))


def test_a_file_without_a_mac_is_refused() -> None:
    """Who could write the file could have put any entry into it."""
    with pytest.raises(UnsupportedFormatError, match="has no MAC"):
        parse(pfx(der.sequence(data_info(secret_bag("a", b"1"))), b""))


def test_more_than_a_mac_is_damage() -> None:
    """Nothing may follow the MAC inside the keystore."""
    safe = der.sequence()
    with pytest.raises(DamagedBytesError):
        parse(pfx(safe, mac_data(safe) + der.octets(b"more")))


def test_a_wrong_password_is_damage() -> None:
    """Nothing tells a wrong password from a changed file, so the message names both."""
    file = keystore(data_info(secret_bag("a", b"1")))
    with pytest.raises(
        DamagedBytesError, match="the password is wrong or the file is damaged"
    ) as caught:
        Store.parse(file, Passwords("wrong-password", PASSWORDS.entries.reveal()))
    assert not isinstance(caught.value, TruncatedBytesError)
    assert "wrong-password" not in str(caught.value)


def indefinite(tag: int, content: bytes) -> bytes:
    """Return an element in BER, without a length."""
    return bytes((tag, 0x80)) + content + bytes(2)


BER = {
    "the file": indefinite(der.SEQUENCE, keystore()[2:]),
    "the content": der.sequence(
        der.integer(3), indefinite(der.SEQUENCE, data_info()[2:]), mac_data(b"")
    ),
    "the authenticated safe": pfx(indefinite(der.SEQUENCE, data_info())),
    "a part": keystore(indefinite(der.SEQUENCE, data_info()[2:])),
    "the bags": keystore(
        der.sequence(
            DATA,
            der.element(der.CONTEXT_0, der.octets(indefinite(der.SEQUENCE, cert_bag("a")))),
        )
    ),
    "a bag": keystore(data_info(indefinite(der.SEQUENCE, cert_bag("a")[2:]))),
    "the MAC": pfx(der.sequence(), indefinite(der.SEQUENCE, mac_data(der.sequence())[2:])),
}


@pytest.mark.parametrize("name", BER)
def test_ber_is_unsupported(name: str) -> None:
    """Indefinite lengths are told from damage, wherever they are."""
    with pytest.raises(UnsupportedFormatError, match="BER"):
        parse(BER[name])


def long_form(element: bytes) -> bytes:
    """Write the length of an element in one byte more than it needs."""
    body, stop = der.enter(element, 0, len(element), element[0])
    length = (stop - body).to_bytes(4, "big").lstrip(b"\0")
    return bytes((element[0], 0x81 + len(length), 0)) + length + element[body:stop]


NOT_MINIMAL = {
    "the file": long_form(keystore()),
    "the version": pfx(der.sequence(), version=long_form(der.integer(3))),
    "the authenticated safe": pfx(long_form(der.sequence(data_info()))),
    "a part": keystore(long_form(data_info())),
    "a bag": keystore(data_info(long_form(cert_bag("a")))),
    "the MAC": pfx(der.sequence(), long_form(mac_data(der.sequence()))),
}


@pytest.mark.parametrize("name", NOT_MINIMAL)
def test_lengths_that_are_not_minimal_are_refused(name: str) -> None:
    """The outer structure is DER, or it is not read."""
    with pytest.raises((DamagedBytesError, NotPkcs12Error)):
        parse(NOT_MINIMAL[name])


@pytest.mark.parametrize(
    "info",
    [
        der.sequence(),
        der.octets(b"text"),
        der.sequence(DATA),
        der.sequence(DATA, der.octets(b"text")),
        der.sequence(DATA, der.element(der.CONTEXT_0, der.sequence())),
        der.sequence(DATA, der.element(der.CONTEXT_0, der.octets(b"text"))),
        data_info(der.octets(b"text")),
    ],
)
def test_a_broken_part_is_damage(info: bytes) -> None:
    """A part that claims to be data, and is not, cannot be skipped: entries would be lost."""
    with pytest.raises(DamagedBytesError):
        parse(keystore(info))


def test_trailing_bytes_inside_are_damage() -> None:
    """Only the file itself may be followed by something."""
    bags = der.sequence(cert_bag("a")) + b"\0"
    for file in (
        pfx(der.sequence(data_info()) + b"\0"),
        keystore(der.sequence(DATA, der.element(der.CONTEXT_0, der.octets(bags)))),
    ):
        with pytest.raises(DamagedBytesError):
            parse(file)


# Limits


@pytest.mark.parametrize("name", BAD_COUNTS)
def test_a_count_outside_the_limit_refuses_the_file(name: str) -> None:
    """In the MAC, and in an encrypted part, it is an answer about the whole keystore."""
    count = BAD_COUNTS[name]
    safe = der.sequence()
    for file in (
        pfx(safe, mac_data(safe, count=count)),
        keystore(aes_info(cert_bag("a"), algorithm=pbes2(pbkdf2(count)))),
        keystore(encrypted_info(pbe_3des(count), bytes(8))),
    ):
        with pytest.raises(FormatLimitError, match="limit"):
            parse(file)


def test_a_count_that_is_no_number() -> None:
    """An empty INTEGER is damage in the MAC; an encrypted part with one is not understood."""
    safe = der.sequence()
    with pytest.raises(DamagedBytesError):
        parse(pfx(safe, mac_data(safe, count=EMPTY_INTEGER)))
    info = aes_info(cert_bag("a"), algorithm=pbes2(pbkdf2(EMPTY_INTEGER)))
    assert parse(keystore(info)).pieces() == [info]


def test_entries_have_a_limit() -> None:
    """100,000 entries are read and no more are added; 100,001 in one part are refused."""
    bag = any_bag(PRIVATE, der.NULL)
    store = parse(keystore(data_info(*[bag] * 100_000)))
    assert len(store.bags) == 100_000
    with pytest.raises(FormatLimitError, match="limit of 100,000"):
        add(store, "a")
    with pytest.raises(FormatLimitError, match="limit of 100,000"):
        parse(keystore(data_info(*[bag] * 100_001)))


def test_entries_of_all_parts_have_one_limit() -> None:
    """100,001 entries are refused in several parts, and in an encrypted one, too."""
    bags = [any_bag(PRIVATE, der.NULL)] * 50_000
    for infos in ([data_info(*bags), data_info(*bags), data_info(bags[0])], [aes_info(*bags * 3)]):
        with pytest.raises(FormatLimitError, match="limit of 100,000"):
            parse(keystore(*infos))


def test_parts_have_a_limit() -> None:
    """A file of hundreds of parts is refused, and the limit is named."""
    assert len(parse(keystore(*[UNKNOWN_INFO] * 100)).pieces()) == 100
    with pytest.raises(FormatLimitError, match="limit of 100"):
        parse(keystore(*[UNKNOWN_INFO] * 101))


def test_an_expensive_mac_can_be_written_again() -> None:
    """A count that is within the limit for reading leaves enough of the budget for writing."""
    safe = der.sequence()
    store = parse(pfx(safe, mac_data(safe, iterations=800_000)))
    assert store.serialise(random_bytes)


def test_deep_nesting_costs_nothing() -> None:
    """Thousands of elements inside one another are kept as they are."""
    deep = b""
    for _ in range(5000):
        deep = der.sequence(deep)
    bag = any_bag(PRIVATE, deep)
    assert reload(parse(keystore(data_info(bag)))).pieces() == [bag]


# The MAC of a file


@pytest.mark.parametrize("hash_name", builders.HASHES)
def test_the_mac_keeps_its_kind_or_becomes_modern(hash_name: str) -> None:
    """A SHA-1 MAC becomes SHA-256 with 10,000 iterations; the others stay what they are."""
    safe = der.sequence(data_info(secret_bag("a", b"1")))
    store = parse(pfx(safe, mac_data(safe, hash_name=hash_name, iterations=5)))
    expected = mac_data(safe, hash_name=hash_name, iterations=5, salt=bytes(20))
    if hash_name == "sha1":
        expected = mac_data(safe, hash_name="sha256", iterations=10_000, salt=bytes(20))
    assert store.serialise(bytes) == pfx(safe, expected)


def test_pbmac1_is_read_and_not_written() -> None:
    """A file that Java cannot read is not touched."""
    safe = der.sequence(data_info(secret_bag("a", b"1")))
    store = parse(pfx(safe, pbmac1_data(safe)))
    assert entries(store) == [("a", b"1")]
    add(store, "b")
    with pytest.raises(UnsupportedFormatError, match="PBMAC1"):
        store.serialise(random_bytes)


def test_no_repr_shows_a_secret() -> None:
    """What a traceback may show of an open store holds no password, key or value."""
    store = parse(keystore(data_info(secret_bag("a", b"hunter2"))))
    assert entries(store) == [("a", b"hunter2")]
    shown = " ".join(map(repr, (store, store.passwords, store.keys, store.bags)))
    for secret in (
        PASSWORDS.store.reveal(),
        PASSWORDS.entries.reveal(),
        "hunter2",
        repr(builders.pbkdf2_key(PASSWORDS.entries.reveal(), "sha256", 32)),
    ):
        assert secret not in shown


# Mutants

GOOD = keystore(
    data_info(
        secret_bag("api_key:a", b"1"),
        des3_bag("masterkey", b"2", password=PASSWORDS.store.reveal()),
        secret_bag("api_key:b", b"3", builders.attribute(PRIVATE, der.NULL)),
    ),
    aes_info(cert_bag("c"), secret_bag("d", b"4")),
    data_info(secret_bag("e", b"5", algorithm=pbes2(nested=True), iv=IV), cert_bag("f")),
)
GOOD_PBMAC1 = pfx(safe_and_seal(GOOD)[0], pbmac1_data(safe_and_seal(GOOD)[0]))
KEYS = KeyDerivation()
"""What all mutants share: most of them ask for the same keys."""

PIECES_OF_DER = [
    b"\x30",
    b"\x04",
    b"\x02",
    b"\x31",
    b"\xa0",
    b"\x80",
    b"\x84\xff\xff\xff\xff",
    b"\xff",
]

edits = st.lists(
    st.tuples(
        st.integers(0, 2000),
        st.integers(0, 3),
        st.one_of(st.sampled_from(PIECES_OF_DER), st.binary(max_size=3)),
    ),
    min_size=1,
    max_size=3,
)
structural = st.lists(
    st.tuples(
        st.integers(0, 1000),
        st.sampled_from(["drop", "repeat", "swap", "retag", "fill", "empty", "cut", "wrap"]),
        st.one_of(st.sampled_from(PIECES_OF_DER), st.binary(max_size=12)),
    ),
    min_size=1,
    max_size=3,
)


def edit(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Replace a few bytes here and there by a few others."""
    for at, length, new in changes:
        place = at % (len(data) + 1)
        data = data[:place] + new + data[place + length :]
    return data


def restructure(data: bytes, changes: list[tuple[int, str, bytes]]) -> bytes:
    """Change the elements of *data* here and there; the lengths around them stay correct."""
    root = builders.Node(der.SEQUENCE, b"", builders.tree(data))
    for at, what, new in changes:
        parents = [node for node in root.walk() if node.children]
        parent = parents[at % len(parents)]
        place = at % len(parent.children)
        change_child(parent.children, place, what, new)
        if not root.children:
            break
    return b"".join(child.encode() for child in root.children)


def change_child(children: list[builders.Node], at: int, what: str, new: bytes) -> None:
    """Do to one element of a list what a mutation says."""
    node = children[at]
    if what == "drop":
        del children[at]
    elif what == "repeat":
        children.insert(at, node)
    elif what == "swap":
        children.insert(0, children.pop(at))
    elif what == "wrap":
        children[at] = builders.Node(der.SEQUENCE, b"", [node])
    else:
        tag = (new or b"\x30")[0] if what == "retag" else node.tag
        content = {"fill": new, "empty": b"", "cut": node.encode()[2:-1]}.get(what)
        if content is None:
            children[at] = builders.Node(tag, node.content, node.children)
        else:
            children[at] = builders.Node(tag, content, [])


def survive(file: bytes) -> None:
    """Read a mutant as far as it goes; what can be read can be written and read again."""
    try:
        store = Store.parse(file, PASSWORDS, KEYS)
    except FormatError:
        return
    with suppress(FormatLimitError):  # too many iterations in all
        values = store.values(store.bags)
        assert all(isinstance(one, bytes | EntryUnreadableError) for one in values)
    with suppress(
        FormatLimitError, UnsupportedFormatError
    ):  # a MAC too expensive to repeat, or PBMAC1
        assert_same(store, store.serialise(bytes))
        store.add("new", b"value", created_ms=CREATED, random_bytes=bytes)
        assert_same(store, store.serialise(bytes))


def assert_same(store: Store, written: bytes) -> None:
    """Check that all of a store is in what was written of it."""
    try:
        again = Store.parse(written, PASSWORDS, KEYS)
    except ApiKeyError as error:
        pytest.fail(f"what was written cannot be read: {error}")
    assert again.pieces() == store.pieces()
    assert [bag.alias for bag in again.bags] == [bag.alias for bag in store.bags]


@given(st.sampled_from([GOOD, GOOD_PBMAC1]), edits)
@examples(300)
def test_edited_files_raise_nothing_else(
    file: bytes, changes: list[tuple[int, int, bytes]]
) -> None:
    """A file with changed bytes is read, or refused with one of the project's errors."""
    survive(edit(file, changes))


@given(edits)
@examples(300)
def test_edited_insides_raise_nothing_else(changes: list[tuple[int, int, bytes]]) -> None:
    """The same under a correct MAC, where every byte is looked at."""
    survive(pfx(edit(safe_and_seal(GOOD)[0], changes)))


@given(structural)
@examples(300)
def test_restructured_insides_raise_nothing_else(changes: list[tuple[int, str, bytes]]) -> None:
    """The same with elements that are dropped, repeated, moved or of another type."""
    survive(pfx(restructure(safe_and_seal(GOOD)[0], changes)))


@given(structural)
@examples(200)
def test_restructured_files_raise_nothing_else(changes: list[tuple[int, str, bytes]]) -> None:
    """The same with the elements around the authenticated safe, and the MAC itself."""
    survive(restructure(GOOD, changes))


@given(structural)
@examples(200)
def test_restructured_encrypted_parts_raise_nothing_else(
    changes: list[tuple[int, str, bytes]],
) -> None:
    """The same with the bags inside an encrypted part."""
    bags = der.sequence(cert_bag("c"), secret_bag("d", b"4"))
    plaintext = restructure(bags, changes)
    ciphertext = builders.aes_encrypt(plaintext, PASSWORDS.store.reveal())
    survive(keystore(encrypted_info(pbes2(), ciphertext)))


@given(st.binary(max_size=100))
@examples(200)
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    """Nor does anything that is no keystore at all, with or without a MAC around it."""
    for file in (data, der.sequence(data), der.sequence(der.integer(3), data), pfx(data)):
        survive(file)


def test_the_good_file_is_good() -> None:
    """What the mutants are made of is read as a whole."""
    for file in (GOOD, GOOD_PBMAC1):
        assert unreadable(parse(file)) == ["masterkey", "c", "f"]
    assert b"".join(node.encode() for node in builders.tree(GOOD)) == GOOD
