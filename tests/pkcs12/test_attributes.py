"""Attributes of ours beside those of others: texts come back, and nothing else ever changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import builders
from builders import (
    CREATED,
    FRIENDLY_NAME,
    LOCAL_KEY_ID,
    PASSWORDS,
    PRIVATE,
    attribute,
    examples,
    friendly_name,
    local_key_id,
    secret_bag,
    value_of,
)
from metricshub_apikey.pkcs12 import der
from metricshub_apikey.pkcs12.attributes import (
    MAX_ATTRIBUTES,
    MAX_NAME,
    TextAttributes,
    Texts,
    encode_names,
)
from metricshub_apikey.pkcs12.bag import Bag
from metricshub_apikey.pkcs12.problems import FormatError, FormatLimitError
from metricshub_apikey.pkcs12.store import Store

ARC = "2.25.99887766554433221100"
OURS = TextAttributes(ARC)
ARC_OID = der.oid(ARC)
BODY = der.octets(b"anything")
NOBODYS = attribute(PRIVATE, der.element(der.UTF8_STRING, b"x"))

texts_by_number = st.dictionaries(
    st.integers(1, 127), st.lists(st.text(max_size=30), max_size=4).map(tuple), max_size=6
)
kin = st.builds(
    lambda oid, values: attribute(der.oid(oid), *values),
    st.sampled_from(
        [ARC, f"{ARC}1", f"{ARC}.128", f"{ARC}.16384", f"{ARC}.1.1", f"{ARC}.1.200", "2.25.1"]
    ),
    st.lists(builders.elements, max_size=2),
)
"""Attributes of others whose identifiers look almost like ours."""
names = st.one_of(st.builds(friendly_name, st.text(max_size=8)), st.just(local_key_id()))
foreign = st.one_of(builders.other_attributes, kin, names)


def utf8(text: str) -> bytes:
    """Return a UTF8String."""
    return der.element(der.UTF8_STRING, text.encode())


def ours(number: int, *values: bytes) -> bytes:
    """Return an attribute below the arc, with values of any type."""
    return attribute(der.oid(f"{ARC}.{number}"), *values)


def bag_with(*attributes: bytes) -> Bag:
    """Return a bag with these attributes, in a SET even where there are none."""
    return Bag(
        der.sequence(PRIVATE, der.element(der.CONTEXT_0, BODY), der.element(der.SET, *attributes))
    )


def filled(texts: Texts) -> dict[int, tuple[str, ...]]:
    """Return those texts that have a value."""
    return {number: values for number, values in texts.items() if values}


# Texts


@given(texts_by_number)
@examples(100)
def test_texts_come_back(texts: dict[int, tuple[str, ...]]) -> None:
    """Any characters, any number of values, in order; an attribute without a value is not there."""
    bag = bag_with(encode_names("a", CREATED), OURS.encode(texts))
    assert bag.texts(OURS) == filled(texts)
    assert (bag.alias, bag.created_ms) == ("a", CREATED)


@given(texts_by_number)
@examples(50)
def test_texts_are_written_as_sets_of_utf8_strings(texts: dict[int, tuple[str, ...]]) -> None:
    """Each attribute is one that any reader of PKCS#12 takes apart."""
    expected = [ours(number, *map(utf8, values)) for number, values in filled(texts).items()]
    assert OURS.encode(texts) == b"".join(expected)


@given(texts_by_number, st.lists(foreign, max_size=6), st.randoms(use_true_random=False))
@examples(100)
def test_texts_are_found_among_others(
    texts: dict[int, tuple[str, ...]], others: list[bytes], chance: Random
) -> None:
    """The order of the SET does not matter, nor what else is in it."""
    mine = [OURS.encode({number: values}) for number, values in texts.items()]
    mixed = [*mine, *others]
    chance.shuffle(mixed)
    assert bag_with(*mixed).texts(OURS) == filled(texts)


def test_bags_without_our_attributes_have_no_texts() -> None:
    """With no SET, an empty one or only attributes of others, there is nothing to read."""
    bare = Bag(builders.any_bag(PRIVATE, BODY))
    for bag in (bare, bag_with(), bag_with(friendly_name("a"), NOBODYS)):
        assert bag.texts(OURS) == {}


def test_arcs_do_not_see_each_other() -> None:
    """An arc that begins alike, or has the same length, is another one."""
    bag = bag_with(OURS.encode({1: ("mine",)}))
    for arc in (f"{ARC}1", f"{ARC}.1", ARC[:-1] + "1", "2.25"):
        assert bag.texts(TextAttributes(arc)) == {}
    assert bag_with(TextAttributes("2.25").encode({5: ("short",)})).texts(OURS) == {}


def test_of_two_attributes_with_one_number_the_last_counts() -> None:
    """Nobody writes two; if somebody did, they are replaced together."""
    bag = bag_with(ours(2, utf8("first")), NOBODYS, ours(2, utf8("last")))
    assert bag.texts(OURS) == {2: ("last",)}
    assert bag.revise(OURS, {2: ("new",)}).raw == bag_with(NOBODYS, ours(2, utf8("new"))).raw


ODD = {
    "another type": ours(1, der.octets(b"text")),
    "a number": ours(1, der.integer(1)),
    "an empty SET": ours(1),
    "broken UTF-8": ours(1, der.element(der.UTF8_STRING, b"\xff")),
    "half a character": ours(1, der.element(der.UTF8_STRING, "é".encode()[:1])),
    "a surrogate": ours(1, der.element(der.UTF8_STRING, b"\xed\xa0\x80")),
    "no SET": der.sequence(der.oid(f"{ARC}.1"), utf8("text")),
    "no value": der.sequence(der.oid(f"{ARC}.1")),
    "two SETs": der.sequence(der.oid(f"{ARC}.1"), *[der.element(der.SET, utf8("text"))] * 2),
    "BER": der.sequence(der.oid(f"{ARC}.1"), b"\x31\x80", utf8("text"), bytes(2)),
    "BER inside": ours(1, b"\x0c\x80text\0\0"),
    "a SET that is too long": der.sequence(der.oid(f"{ARC}.1"), b"\x31\x7f", utf8("text")),
    "a value that is too long": ours(1, b"\x0c\x7ftext"),
}
"""Attributes of ours, as somebody else might have written them."""

NOT_OURS = {
    "the arc itself": attribute(ARC_OID, utf8("text")),
    "two more numbers": attribute(der.oid(f"{ARC}.1.1"), utf8("text")),
    "the number 128": attribute(der.oid(f"{ARC}.128"), utf8("text")),
    "a huge number": attribute(der.oid(f"{ARC}.{2**64}"), utf8("text")),
    "an identifier that was cut": der.sequence(ARC_OID[:1], bytes((ARC_OID[1] + 1,)), ARC_OID[2:]),
}


@pytest.mark.parametrize("last", [True, False], ids=["last", "not last"])
@pytest.mark.parametrize("name", ODD)
def test_odd_values_of_ours_have_no_text(name: str, *, last: bool) -> None:
    """They are no error; they stay until that very attribute is written."""
    attributes = [friendly_name("a"), ODD[name]] if last else [ODD[name], friendly_name("a")]
    bag = bag_with(*attributes)
    assert filled(bag.texts(OURS)) == {}
    new = OURS.encode({2: ("new",)})
    assert bag.revise(OURS, {2: ("new",)}).raw == bag_with(*attributes, new).raw
    new = OURS.encode({1: ("new",)})
    assert bag.revise(OURS, {1: ("new",)}).raw == bag_with(friendly_name("a"), new).raw


@pytest.mark.parametrize("last", [True, False], ids=["last", "not last"])
@pytest.mark.parametrize("name", NOT_OURS)
def test_other_identifiers_below_the_arc_are_not_ours(name: str, *, last: bool) -> None:
    """They are neither read nor replaced, wherever in the bag they are."""
    kept = [friendly_name("a"), NOT_OURS[name]] if last else [NOT_OURS[name], friendly_name("a")]
    bag = bag_with(*kept)
    assert bag.texts(OURS) == {}
    every: Texts = dict.fromkeys(range(256), ())
    assert bag.revise(OURS, every).raw == bag.raw
    new = OURS.encode({1: ("new",)})
    assert bag.revise(OURS, {1: ("new",)}).raw == bag_with(*kept, new).raw


def test_texts_before_an_odd_value_are_read() -> None:
    """One value that is no text does not hide the good ones before it."""
    assert bag_with(ours(1, utf8("a"), utf8("b"), der.NULL)).texts(OURS) == {1: ("a", "b")}


# Changing a bag


@given(
    st.lists(
        st.one_of(foreign, st.builds(ours, st.integers(1, 127), builders.elements)), max_size=8
    ),
    texts_by_number,
)
@examples(150)
def test_other_attributes_survive_a_revision(
    attributes: list[bytes], texts: dict[int, tuple[str, ...]]
) -> None:
    """
    Attributes of others keep their bytes and their order, whatever stands between them.

    So do those of our own arc that are not revised: a later version may have written them.
    """
    revised = [der.oid(f"{ARC}.{number}") for number in texts]
    kept = [one for one in attributes if not any(oid in one[: len(oid) + 4] for oid in revised)]
    bag = bag_with(*attributes).revise(OURS, texts)
    assert bag.raw == bag_with(*kept, OURS.encode(texts)).raw
    assert {number: bag.texts(OURS).get(number, ()) for number in texts} == texts


def test_unknown_numbers_of_ours_survive() -> None:
    """What a later version of this tool has written is read, and is still there after us."""
    later = [ours(7, utf8("later")), ours(127, der.integer(1))]
    bag = bag_with(friendly_name("a"), ours(1, utf8("old")), *later)
    known: Texts = {1: ("new",), 2: ("role", "other"), 3: ()}
    revised = bag.revise(OURS, known)
    assert revised.raw == bag_with(friendly_name("a"), *later, OURS.encode(known)).raw
    assert filled(revised.texts(OURS)) == {1: ("new",), 2: ("role", "other"), 7: ("later",)}


@given(st.lists(foreign, max_size=5), texts_by_number)
@examples(50)
def test_revising_nothing_changes_nothing(
    attributes: list[bytes], texts: dict[int, tuple[str, ...]]
) -> None:
    """The same texts again, or none to revise, leave the bag as it was."""
    bag = bag_with(*attributes, OURS.encode(texts))
    assert bag.revise(OURS, {}).raw == bag.raw
    assert bag.revise(OURS, texts).raw == bag.raw
    assert bag.revise(OURS, dict.fromkeys(texts, ())).raw == bag_with(*attributes).raw


@given(
    st.text(max_size=8),
    st.text(max_size=8),
    st.lists(st.one_of(builders.other_attributes, kin), max_size=4),
    st.integers(0, 4),
)
@examples(50)
def test_another_alias_changes_only_the_name(
    old: str, new: str, others: list[bytes], at: int
) -> None:
    """The name changes where it stands; value, date and all other attributes stay."""
    before, behind = others[:at], [*others[at:], local_key_id(), ours(1, utf8("kept"))]
    start = bag_with(*before, friendly_name(old), *behind)
    revised = start.revise(OURS, {}, alias=new)
    assert revised.raw == bag_with(*before, friendly_name(new), *behind).raw
    assert (revised.alias, revised.created_ms) == (new.lower(), CREATED)


def test_every_name_of_a_bag_is_changed() -> None:
    """Java takes the last one, so none may keep the old alias; where there is none, none comes."""
    odd = attribute(FRIENDLY_NAME, der.NULL)
    twice = bag_with(friendly_name("a"), NOBODYS, friendly_name("b"), odd)
    name = friendly_name("new")
    assert twice.revise(OURS, {}, alias="new").raw == bag_with(name, NOBODYS, name, name).raw
    nameless = bag_with(local_key_id())
    assert nameless.revise(OURS, {}, alias="new").raw == nameless.raw


def opened(secret: bytes) -> tuple[Store, Bag]:
    """Return a store with one entry, and the entry."""
    store = Store.empty(PASSWORDS)
    store.adopt(Bag(secret))
    return store, store.bags[0]


def test_another_secret_changes_only_the_value() -> None:
    """Every attribute keeps its bytes, the bag its kind, and the new value is in it."""
    kept = [NOBODYS, ours(1, utf8("maker")), ours(9, der.NULL)]
    store, bag = opened(secret_bag("api_key:A", b"old", *kept))
    algorithm, ciphertext = store.encrypt("api_key:a", b"new", os.urandom)
    revised = bag.revise(OURS, {}, secret=(algorithm, ciphertext))
    names = [friendly_name("api_key:A"), local_key_id()]
    kdf = builders.pbkdf2(der.integer(10_000), salt=algorithm.kdf.salt)
    written = builders.pbes2(kdf, iv=algorithm.iv)
    assert revised.raw == builders.shrouded_bag(written, ciphertext, *names, *kept)
    assert (value_of(store, bag), value_of(store, revised)) == (b"old", b"new")


@pytest.mark.parametrize("make", [secret_bag, builders.des3_bag])
def test_without_another_secret_the_value_keeps_its_bytes(
    make: Callable[[str, bytes], bytes],
) -> None:
    """Whatever it is encrypted with, texts and a new alias leave it as it was, still readable."""
    store, bag = opened(make("api_key:a", b"value"))
    revised = bag.revise(OURS, {1: ("x" * 200,)}, alias="api_key:b")
    assert revised.encrypted() == bag.encrypted()
    start = bag.raw.index(builders.SECRET_BAG)
    stop = bag.raw.index(friendly_name("api_key:a")) - 2  # the SET's tag and length
    assert bag.raw[start:stop] in revised.raw
    assert (revised.alias, value_of(store, revised)) == ("api_key:b", b"value")


@given(builders.foreign_bags, texts_by_number)
@examples(50)
def test_bags_of_any_kind_can_be_revised(raw: bytes, texts: dict[int, tuple[str, ...]]) -> None:
    """What is inside a bag is not looked at; outside of its attributes no byte changes."""
    bag = Bag(raw)
    revised = bag.revise(OURS, texts)
    assert filled(revised.texts(OURS)) == filled(texts)
    assert (revised.alias, revised.created_ms) == (bag.alias, bag.created_ms)
    back = revised.revise(OURS, dict.fromkeys(texts, ()))
    assert back.raw == bag.revise(OURS, {}).raw


# Limits


def test_a_revision_keeps_the_limits() -> None:
    """One attribute, or one character, too many is refused; nothing could read it again."""
    full = bag_with(*[NOBODYS] * (MAX_ATTRIBUTES - 1), ours(1, utf8("old")))
    assert full.revise(OURS, {1: ("new",)}).texts(OURS) == {1: ("new",)}
    with pytest.raises(FormatLimitError, match="limit of 1,000"):
        full.revise(OURS, {2: ("one too many",)})
    named = bag_with(friendly_name("a"))
    assert named.revise(OURS, {}, alias="b" * MAX_NAME).alias == "b" * MAX_NAME
    with pytest.raises(FormatLimitError, match="limit of 4,096 characters"):
        named.revise(OURS, {}, alias="b" * (MAX_NAME + 1))


@given(st.binary(max_size=40), st.binary(max_size=40))
@examples(200)
def test_hostile_attributes_raise_nothing_else(inside: bytes, behind: bytes) -> None:
    """Whatever stands where a value of ours should: a bag that is read can be asked and revised."""
    below = der.oid(f"{ARC}.1")
    for hostile in (
        der.sequence(below, inside) + behind,
        der.sequence(below[:-1], inside[:1]) + behind,
        der.sequence(below, der.element(der.SET, inside), behind),
    ):
        try:
            bag = bag_with(friendly_name("a"), hostile)
        except FormatError:
            continue
        assert set(bag.texts(OURS)) <= set(range(256))
        revised = bag.revise(OURS, {1: ("new",)}, alias="b")
        assert (revised.alias, revised.texts(OURS)[1]) == ("b", ("new",))


def test_names_are_written_in_javas_order() -> None:
    """First the friendlyName, then the localKeyID, which is never left out."""
    expected = friendly_name("ünï-😀") + local_key_id(b"Time 0")
    assert encode_names("ünï-😀", 0) == expected
    assert expected.index(FRIENDLY_NAME) < expected.index(LOCAL_KEY_ID)
