"""API keys as entries of a store: found by alias, read one by one, written and revised."""

from __future__ import annotations

import os
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import metricshub_apikey.errors as wrong
from builders import PASSWORDS, aes_info, examples, keystore, parse, secret_bag
from metricshub_apikey import ApiKey
from metricshub_apikey.keys import entries
from metricshub_apikey.keys.api_key import ENTRY_PREFIX
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.pkcs12.store import Store
from metricshub_apikey.secret import UNREADABLE, Secret

LATER = datetime(2999, 12, 31, 23, 59, 59)
FULL = Metadata("maker@there", ("reader",), "ci", "what for", (("env", "production"),))


def bag(
    alias: str, value: bytes = b"key-1234", password: str = PASSWORDS.entries.reveal()
) -> bytes:
    """Return an API key's entry as somebody else wrote it."""
    return secret_bag(ENTRY_PREFIX + alias, value, password=password)


def store(*bags: bytes) -> Store:
    """Return a store with these entries."""
    return parse(keystore(aes_info(*bags)))


def key(alias: str = "web", expires_on: datetime | None = None) -> ApiKey:
    """Return a key with all that it can carry."""
    return ApiKey(alias, Secret("key-1234"), expires_on, 1_700_000_000_000, None, FULL)


def written(*keys: ApiKey) -> Store:
    """Return a store with entries of our own, as it is read from a file."""
    made = Store.empty(PASSWORDS)
    for one in keys:
        made.adopt(entries.new_bag(made, one, os.urandom))
    return parse(made.serialise(os.urandom))


def revise(found: Store, alias: str, new: ApiKey) -> Store:
    """Return the store with the key *alias* made to hold *new*, as it is read from a file."""
    old_bag, old = entries.find(found, alias)
    found.replace({old_bag: entries.revised_bag(found, old_bag, old, new, os.urandom)})
    return parse(found.serialise(os.urandom))


# Finding


def test_which_entries_are_keys() -> None:
    """Users, the master key and keys without the prefix are none."""
    found = store(bag("a"), secret_bag("masterkey", b"x"), secret_bag("user:a", b"x"), bag("b"))
    assert [entry for entry, _ in entries.each(found)] == ["api_key:a", "api_key:b"]
    assert list(entries.by_alias(found)) == ["a", "b"]


def test_of_equal_aliases_the_last_one_counts() -> None:
    """The hidden ones are known, in the order of the file, and the place is the last one's."""
    found = store(bag("a", b"first"), bag("b"), bag("A", b"second"), bag("a", b"third"))
    assert list(entries.by_alias(found)) == ["b", "a"]
    assert {alias: len(bags) for alias, bags in entries.all_by_alias(found).items()} == {
        "a": 3,
        "b": 1,
    }
    assert entries.find(found, "a")[1].secret.reveal() == "third"
    assert entries.all_by_alias(found)["a"][-1] == entries.by_alias(found)["a"]


def test_letter_case_is_ignored() -> None:
    """Whatever was typed, the alias that is returned is in lower case."""
    found = store(bag("Wéb"))
    assert entries.find(found, "WÉB")[1].alias == "wéb"
    with pytest.raises(wrong.KeyExistsError, match="'WÉB' already exists"):
        entries.require_free(found, "WÉB")


def test_an_alias_that_nobody_has() -> None:
    """It is free, and looking for it fails with its name as typed."""
    found = store(bag("web"))
    entries.require_free(found, "Site")
    entries.require_free(found, "we")
    for alias in ("Site", "we", "", "masterkey"):
        with pytest.raises(wrong.KeyNotFoundError) as caught:
            entries.find(found, alias)
        assert caught.value.message == f"No API key found with alias '{alias}'."


# Reading


def test_reading_hides_nothing() -> None:
    """What cannot be read is in its place, with the reason; the rest is read."""
    found = store(
        bag("a"),
        bag("bytes", b"\xff"),
        bag("date", b"key__tomorrow"),
        bag("foreign", password="another"),
        bag("z", b"key-9999__2999-12-31T23:59:59"),
    )
    keys = entries.read(found, entries.by_alias(found))
    assert list(keys) == ["a", "bytes", "date", "foreign", "z"]
    assert [one.unreadable is None for one in keys.values()] == [True, False, False, False, True]
    assert keys["date"].unreadable == "its expiry is not a date time"
    assert (keys["z"].secret.reveal(), keys["z"].expires_on) == ("key-9999", LATER)
    assert keys["foreign"].created_ms == keys["a"].created_ms


def test_only_what_is_asked_for_is_decrypted() -> None:
    """One key costs one derivation, however many there are."""
    found = store(bag("a"), bag("b"))
    told: list[tuple[int, int]] = []
    chosen = {"b": entries.by_alias(found)["b"]}
    assert list(entries.read(found, chosen, lambda *step: told.append(step))) == ["b"]
    assert all(total == 1 for _, total in told)


# Writing


def test_a_new_entry_holds_the_key() -> None:
    """What is read from the file is what was written to it."""
    made = [key("a"), key("b", LATER), key("c")._replace(metadata=Metadata())]
    found = written(*made)
    assert list(entries.read(found, entries.by_alias(found)).values()) == made


def test_what_cannot_be_written() -> None:
    """A key without a secret or an age was read from somewhere; it is not a new one."""
    with pytest.raises(ValueError, match=r"ApiKey\('web'"):
        entries.new_bag(Store.empty(PASSWORDS), key()._replace(created_ms=None), os.urandom)
    with pytest.raises(LookupError, match="could not be read"):
        entries.new_bag(Store.empty(PASSWORDS), key()._replace(secret=UNREADABLE), os.urandom)


def test_our_entries_share_one_derivation() -> None:
    """Each new entry has the salt of those before, and an IV of its own."""
    made = Store.empty(PASSWORDS)
    bags = [entries.new_bag(made, key(alias), os.urandom) for alias in ("a", "b")]
    assert bags[0].raw != bags[1].raw
    for one in bags:
        made.adopt(one)
    told: list[tuple[int, int]] = []
    entries.read(made, entries.by_alias(made), lambda *step: told.append(step))
    assert {total for _, total in told} <= {1}


# Revising


def test_only_what_differs_is_written_anew() -> None:
    """Where neither secret nor expiry changes, the encrypted value stays byte for byte."""
    found = store(bag("web"))
    old_bag, old = entries.find(found, "web")
    new = old._replace(metadata=FULL)
    revised = entries.revised_bag(found, old_bag, old, new, os.urandom)
    cipher = old_bag.raw[60:120]
    assert cipher in revised.raw
    assert revised.raw != old_bag.raw
    assert entries.revised_bag(found, old_bag, old, old, os.urandom).raw == old_bag.raw
    later = entries.revised_bag(found, old_bag, old, old._replace(expires_on=LATER), os.urandom)
    assert cipher not in later.raw


changes = st.fixed_dictionaries(
    {},
    optional={
        "alias": st.just("site"),
        "expires_on": st.sampled_from([None, LATER, datetime(2001, 2, 3)]),
        "metadata": st.sampled_from([Metadata(), FULL, FULL._replace(rotated_at=None, roles=())]),
    },
)


@examples(30)
@given(changes, st.booleans())
def test_a_revised_entry_holds_the_new_key(change: dict[str, object], ours: bool) -> None:  # noqa: FBT001
    """Alias, expiry and fields in any combination; the age, and its place, stay."""
    begin = written(key("a"), key(), key("z")) if ours else store(bag("a"), bag("web"), bag("z"))
    old = entries.find(begin, "web")[1]
    new = old._replace(**change)  # type: ignore[arg-type]
    found = revise(begin, "web", new)
    assert list(entries.by_alias(found)) == ["a", new.alias, "z"]
    assert entries.find(found, new.alias)[1] == new


def test_an_unreadable_entry_keeps_its_value() -> None:
    """Its fields can be changed although nobody can read it."""
    found = revise(
        store(bag("odd", b"\xff")),
        "odd",
        ApiKey("odd", UNREADABLE, None, 1_700_000_000_000, "it is not UTF-8", FULL),
    )
    read = entries.find(found, "odd")[1]
    assert (read.metadata, read.unreadable) == (FULL, "it is not UTF-8")
    assert found.values(found.find(ENTRY_PREFIX + "odd")) == [b"\xff"]


def test_a_whole_life() -> None:
    """Written, revised again and again, each time from the file: nothing is lost on the way."""
    found = written(key("a"), key("web"), key("z"))
    expected = key("web")
    for step in range(4):
        roles = tuple(f"role-{number}" for number in range(step))
        expires_on = LATER.replace(year=2990 + step)
        expected = expected._replace(expires_on=expires_on, metadata=FULL._replace(roles=roles))
        found = revise(found, "web", expected)
    assert list(entries.read(found, entries.by_alias(found)).values()) == [
        key("a"),
        expected,
        key("z"),
    ]
