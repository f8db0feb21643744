"""What a key carries besides its secret: written, read, and checked."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, timezone
from uuid import RFC_4122, UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builders import PASSWORDS, examples
from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.keys.metadata import (
    ARC,
    ATTRIBUTES,
    CREATED_BY,
    LABEL_NAME,
    LABELS,
    MAX_MEMBERS,
    ROLE,
    ROLES,
    ROTATED_AT,
    Metadata,
    check_label,
    parse_labels,
)
from metricshub_apikey.pkcs12.store import Store

ASCII_NAMES = st.text(st.sampled_from("aZ09._/-"), min_size=1, max_size=8)

whole_seconds = st.datetimes(timezones=st.just(UTC)).map(lambda one: one.replace(microsecond=0))
anything = st.builds(
    Metadata,
    created_by=st.none() | st.text(),
    roles=st.sets(st.text()).map(lambda roles: tuple(sorted(roles))),
    service_account=st.none() | st.text(),
    description=st.none() | st.text(),
    labels=st.dictionaries(st.text().filter(lambda name: "=" not in name), st.text()).map(
        lambda labels: tuple(sorted(labels.items()))
    ),
    rotated_at=st.none() | whole_seconds,
)
"""Metadata with any characters in it; the roles and labels in order, as they always are."""

printable = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=20)
good_labels = st.dictionaries(st.from_regex(LABEL_NAME, fullmatch=True), printable, max_size=4)
good = st.builds(
    Metadata,
    created_by=st.none() | printable,
    roles=st.lists(st.from_regex(ROLE, fullmatch=True), max_size=4).map(tuple),
    service_account=st.none() | printable,
    description=st.none() | printable,
    labels=good_labels.map(lambda labels: tuple(labels.items())),
    rotated_at=st.none() | whole_seconds,
)


# Writing and reading


@given(anything)
@example(Metadata())
@example(Metadata(labels=(("a", "b=c="), ("empty", ""))))
@examples(100)
def test_metadata_comes_back(metadata: Metadata) -> None:
    """Whatever the fields hold, what is read is what was written."""
    assert Metadata.from_texts(metadata.texts()) == metadata


@given(anything)
@examples(20)
def test_metadata_comes_back_from_an_entry(metadata: Metadata) -> None:
    """It survives as attributes of an entry in a file, beside the value."""
    store = Store.empty(PASSWORDS)
    attributes = ATTRIBUTES.encode(metadata.texts())
    store.add("a", b"value", created_ms=0, random_bytes=os.urandom, attributes=attributes)
    again = Store.parse(store.serialise(os.urandom), PASSWORDS, store.keys)
    assert Metadata.from_texts(again.bags[0].texts(ATTRIBUTES)) == metadata
    assert again.values(again.bags) == [b"value"]


def test_every_field_has_its_number() -> None:
    """The numbers are in keystores of others by now: they never change."""
    moment = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
    labels = (("env", "production"), ("team", "a=b"))
    assert Metadata("me@host", ("r", "w"), "ci", "nightly", labels, moment).texts() == {
        1: ("me@host",),
        2: ("r", "w"),
        3: ("ci",),
        4: ("nightly",),
        5: ("env=production", "team=a=b"),
        6: ("2027-01-02T03:04:05Z",),
    }
    assert Metadata().texts() == dict.fromkeys(range(1, 7), ())


def test_the_arc_is_a_random_uuid() -> None:
    """X.667 gives everybody an arc of their own: 2.25 and a UUID, here of version 4."""
    joint, uuid_arc, number = ARC.split(".")
    uuid = UUID(int=int(number))
    assert (joint, uuid_arc, uuid.version, uuid.variant) == ("2", "25", 4, RFC_4122)


def test_a_key_of_the_stock_tool_has_no_metadata() -> None:
    """Without attributes every field is unknown or empty."""
    assert Metadata.from_texts({}) == Metadata(None, (), None, None, (), None)


# What others wrote


@given(st.dictionaries(st.integers(0, 255), st.lists(st.text(), max_size=3).map(tuple)))
@examples(200)
def test_odd_texts_are_no_error(texts: dict[int, tuple[str, ...]]) -> None:
    """Whatever somebody else put there is read as far as it goes, and can be written again."""
    metadata = Metadata.from_texts(texts)
    assert Metadata.from_texts(metadata.texts()) == metadata


def test_of_several_values_the_first_counts() -> None:
    """A field that is no list has one value."""
    texts = {CREATED_BY: ("a", "b"), ROTATED_AT: ("2027-01-01T00:00:00Z", "x")}
    metadata = Metadata.from_texts(texts)
    assert (metadata.created_by, metadata.rotated_at) == ("a", datetime(2027, 1, 1, tzinfo=UTC))


def test_roles_and_labels_are_in_order_and_once() -> None:
    """The SET of an attribute has no order, so there is one for those who read."""
    texts = {ROLES: ("b", "a", "b"), LABELS: ("z=1", "a=2", "z=3", "no label")}
    metadata = Metadata.from_texts(texts)
    assert metadata.roles == ("a", "b")
    assert metadata.labels == (("a", "2"), ("z", "3"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1" * 5000,
        "2027-01-01",
        "2027-01-01T00:00:00",
        "2027-13-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-01:00",
    ],
)
def test_an_odd_instant_is_unknown(text: str) -> None:
    """No date, no zone, or an instant outside of the calendar is no time of rotation."""
    assert Metadata.from_texts({ROTATED_AT: (text,)}).rotated_at is None


@pytest.mark.parametrize("text", ["2027-01-01T01:00:00+01:00", "2027-01-01T00:00:00Z"])
def test_instants_are_read_in_utc(text: str) -> None:
    """Whatever zone somebody wrote, the instant is shown in UTC."""
    moment = Metadata.from_texts({ROTATED_AT: (text,)}).rotated_at
    assert moment == datetime(2027, 1, 1, tzinfo=UTC)
    assert moment.tzinfo is UTC


def test_instants_are_written_in_utc() -> None:
    """An instant with another zone is stored as the same instant."""
    moment = datetime(2027, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    assert Metadata(rotated_at=moment).texts()[ROTATED_AT] == ("2027-01-01T00:00:00Z",)


# The rules


@given(good)
@examples(100)
def test_good_metadata(metadata: Metadata) -> None:
    """What keeps every rule is accepted."""
    metadata.check()


def test_the_longest_fields() -> None:
    """Every limit is a length that is still allowed."""
    labels = [(f"n{number}", "v" * 128) for number in range(MAX_MEMBERS - 1)]
    Metadata(
        roles=(*(f"r{number}" for number in range(MAX_MEMBERS - 1)), "r" * 64),
        service_account="a" * 128,
        description="two words " * 99 + "x" * 10,
        labels=(*labels, ("n" * 63, "")),
    ).check()


@pytest.mark.parametrize(
    ("metadata", "rule"),
    [
        (Metadata(roles=("",)), "'' is not a role: 1 to 64"),
        (Metadata(roles=("good", "r" * 65)), "is not a role"),
        (Metadata(roles=("-r",)), "the first one a letter or digit"),
        (Metadata(roles=("a b",)), "'a b' is not a role"),
        (Metadata(roles=("r\n",)), "is not a role"),
        (Metadata(roles=("é",)), "is not a role"),
        (Metadata(roles=("r",) * 33), "at most 32 roles"),
        (Metadata(service_account="a" * 129), "A service account has at most 128 characters"),
        (Metadata(service_account=" a"), "A service account has no control characters"),
        (Metadata(service_account="a\u202eb"), "A service account has no control characters"),
        (Metadata(description="a" * 1001), "A description has at most 1,000 characters"),
        (Metadata(description="a\nb"), "A description has no control characters"),
        (Metadata(description="a "), "no white space at its ends"),
        (Metadata(description="a\udcff"), "A description has no control characters"),
        (Metadata(labels=(("", "v"),)), "'' is not the name of a label: 1 to 63"),
        (Metadata(labels=(("n" * 64, "v"),)), "is not the name of a label"),
        (Metadata(labels=(("a=b", "v"),)), "is not the name of a label"),
        (Metadata(labels=((".n", "v"),)), "the first one a letter or digit"),
        (Metadata(labels=(("n", "v" * 129),)), "The value of the label 'n' has at most 128"),
        (Metadata(labels=(("n", "\x1b[31m"),)), "The value of the label 'n' has no control"),
        (Metadata(labels=tuple((f"n{at}", "") for at in range(33))), "at most 32 labels"),
    ],
)
def test_broken_rules_are_named(metadata: Metadata, rule: str) -> None:
    """What nobody should give a key is refused with the rule it breaks."""
    with pytest.raises(InvalidArgumentError) as caught:
        metadata.check()
    assert rule in caught.value.message


@given(anything)
@examples(100)
def test_what_is_accepted_fits_on_a_line(metadata: Metadata) -> None:
    """Nothing that passes could move a terminal's cursor or forge another field."""
    try:
        metadata.check()
    except InvalidArgumentError:
        return
    assert all(map(str.isprintable, metadata.roles))
    assert all(f"{name}{value}".isprintable() for name, value in metadata.labels)
    assert ((metadata.service_account or "") + (metadata.description or "")).isprintable()


# Labels as they are typed


@given(good_labels)
@examples(50)
def test_labels_are_parsed(labels: dict[str, str]) -> None:
    """Names and values come back, in alphabetical order of the names."""
    typed = [f"{name}={value}" for name, value in labels.items()]
    assert parse_labels(typed) == tuple(sorted(labels.items()))


def test_the_last_label_of_a_name_counts() -> None:
    """The first `=` ends the name; a value may be empty, and hold more of them."""
    typed = ["env=staging", "url=a=b", "none=", "env=production"]
    assert parse_labels(typed) == (("env", "production"), ("none", ""), ("url", "a=b"))
    assert parse_labels([]) == ()


@pytest.mark.parametrize(
    ("typed", "rule"),
    [
        ("env", "'env' is not a label; use name=value."),
        ("", "'' is not a label; use name=value."),
        ("=v", "'' is not the name of a label"),
        ("a b=v", "'a b' is not the name of a label"),
        ("n=a\tb", "The value of the label 'n' has no control"),
        ("n= v", "The value of the label 'n' has no control"),
    ],
)
def test_other_texts_are_no_labels(typed: str, rule: str) -> None:
    """What is no label is named, even between good ones."""
    with pytest.raises(InvalidArgumentError) as caught:
        parse_labels(["good=1", typed, "better=2"])
    assert rule in caught.value.message


@given(ASCII_NAMES, st.text(max_size=5))
@examples(100)
def test_typed_and_stored_labels_keep_the_same_rule(name: str, value: str) -> None:
    """What can be typed can be stored, and the reverse."""
    try:
        check_label(name, value)
    except InvalidArgumentError:
        with pytest.raises(InvalidArgumentError):
            parse_labels([f"{name}={value}"])
    else:
        assert parse_labels([f"{name}={value}"]) == ((name, value),)
