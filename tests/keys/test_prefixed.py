"""Keys with a prefix and a checksum: their shape, and which mistakes are noticed."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from datetime import datetime

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.keys.prefixed import (
    CHECKSUM_DIGITS,
    DIGITS,
    PREFIX,
    RANDOM_DIGITS,
    check_prefix,
    is_intact,
    new_prefixed_key,
    with_checksum,
)
from metricshub_apikey.keys.value import SEPARATOR, decode, encode, new_key
from stock import Stock

TAIL = RANDOM_DIGITS + CHECKSUM_DIGITS
ONE = new_prefixed_key("metoro_secret_", lambda count: bytes(range(count)))

prefixes = st.from_regex(PREFIX, fullmatch=True)
random_parts = st.binary(min_size=32, max_size=32)
keys = st.builds(
    lambda prefix, random: new_prefixed_key(prefix, lambda _: random), prefixes, random_parts
)


def number(digits: str) -> int:
    """Return what base 62 digits mean."""
    value = 0
    for digit in digits:
        value = value * 62 + DIGITS.index(digit)
    return value


# What a key looks like


def test_digits_are_62_letters_and_digits() -> None:
    """None of them is an underscore, which a stock server could take for a separator."""
    assert len(set(DIGITS)) == len(DIGITS) == 62
    assert re.fullmatch("[0-9A-Za-z]+", DIGITS)


def test_lengths() -> None:
    """A key has 49 characters behind its prefix; the usual one makes 63."""
    assert (RANDOM_DIGITS, CHECKSUM_DIGITS) == (43, 6)
    assert 62**42 < 2**256 < 62**43
    assert 62**5 < 2**32 < 62**6
    lowest = new_prefixed_key("metoro_secret_", bytes)
    highest = new_prefixed_key("metoro_secret_", lambda count: b"\xff" * count)
    assert (len(lowest), len(highest)) == (63, 63)


@given(prefixes, random_parts)
def test_a_key_is_prefix_random_number_and_checksum(prefix: str, random: bytes) -> None:
    """All 256 bits are in it, and the checksum is the CRC-32 of everything before."""
    asked: list[int] = []

    def random_bytes(count: int) -> bytes:
        asked.append(count)
        return random

    key = new_prefixed_key(prefix, random_bytes)
    assert asked == [32]
    assert key.startswith(prefix)
    assert re.fullmatch(f"[{DIGITS}]{{{TAIL}}}", key[len(prefix) :])
    assert number(key[-TAIL:-CHECKSUM_DIGITS]).to_bytes(32) == random
    assert number(key[-CHECKSUM_DIGITS:]) == zlib.crc32(key[:-CHECKSUM_DIGITS].encode())
    assert is_intact(key) is True


def test_new_keys_differ() -> None:
    """Real chance makes another key every time."""
    assert len({new_prefixed_key("a_", os.urandom) for _ in range(100)}) == 100


# Mistakes


def substitutions(key: str, places: range) -> Iterator[str]:
    """Yield the key with each other digit in each of these places."""
    for at in places:
        for digit in DIGITS:
            if digit != key[at]:
                yield key[:at] + digit + key[at + 1 :]


def transpositions(key: str, places: range) -> Iterator[str]:
    """Yield the key with each two different neighbours exchanged, the first in these places."""
    for at in places:
        if key[at] != key[at + 1]:
            yield key[:at] + key[at + 1] + key[at] + key[at + 2 :]


def test_every_mistake_of_one_character_in_one_key_is_noticed() -> None:
    """Each other digit in each place, and each exchange of neighbours, breaks the checksum."""
    start = len(ONE) - TAIL
    wrong = [
        *substitutions(ONE, range(start, len(ONE))),
        *transpositions(ONE, range(start, len(ONE) - 1)),
    ]
    assert len(wrong) > TAIL * 61
    assert [key for key in wrong if is_intact(key) is not False] == []


@settings(max_examples=200)
@given(keys, st.integers(0, TAIL - 1), st.sampled_from(DIGITS))
def test_a_substitution_is_noticed(key: str, at: int, digit: str) -> None:
    """In any key, one other digit breaks the checksum."""
    place = len(key) - TAIL + at
    assume(key[place] != digit)
    assert is_intact(key[:place] + digit + key[place + 1 :]) is False


@settings(max_examples=200)
@given(keys, st.integers(0, TAIL - 2).filter(lambda at: at != RANDOM_DIGITS - 1))
def test_a_transposition_is_noticed(key: str, at: int) -> None:
    """In any key, two neighbours that change places break the checksum."""
    place = len(key) - TAIL + at
    for wrong in transpositions(key, range(place, place + 1)):
        assert is_intact(wrong) is False


def test_another_prefix_is_noticed() -> None:
    """The checksum covers the prefix, too."""
    assert is_intact(ONE.replace("metoro_", "meteor_")) is False
    assert is_intact("x" + ONE) is False


@given(keys)
def test_a_cut_or_longer_key_is_not_intact(key: str) -> None:
    """A key that lost a character, or gained one, is of no kind that is known."""
    for wrong in (key[:-1], key + "0", f" {key}", f"{key}\n", f"{key[:-1]}-", f"{key[:-1]}_"):
        assert is_intact(wrong) is None


@given(st.binary(min_size=16, max_size=16))
def test_uuids_have_no_checksum(random: bytes) -> None:
    """Of a key of the stock kind nobody can tell whether it is mistyped."""
    assert is_intact(new_key(lambda _: random)) is None


@given(st.text())
def test_other_texts_have_no_checksum(text: str) -> None:
    """Whatever is typed, the answer is no error."""
    assert not is_intact(text)


def test_a_checksum_alone_does_not_make_a_key() -> None:
    """A prefix that no policy could ask for is not one, even if the checksum fits."""
    digits = ONE[-TAIL:-CHECKSUM_DIGITS]
    assert is_intact(with_checksum("a_" + digits)) is True
    for prefix in ("", "_", "a", "1_", "A_", "a__", "a__b_", "é_", "a-_", "a" * 32 + "_"):
        assert is_intact(with_checksum(prefix + digits)) is None


# Prefixes


@pytest.mark.parametrize("prefix", ["a_", "metoro_secret_", "a1_2_b_", "a" * 31 + "_"])
def test_good_prefixes(prefix: str) -> None:
    """2 to 32 lower-case letters, digits and single underscores, the last one an underscore."""
    check_prefix(prefix)


@pytest.mark.parametrize(
    "prefix",
    [
        *("", "_", "a", "ab", "a_b", "a" * 32 + "_", "a" * 40 + "_"),
        *("A_", "1_", "_a_", "a__", "a__b_", "a-_", "a _", "é_", "a_\n"),
    ],
)
def test_bad_prefixes(prefix: str) -> None:
    """What could not be told from the rest of a key, or breaks a stock server, is refused."""
    with pytest.raises(InvalidArgumentError) as caught:
        check_prefix(prefix)
    assert caught.value.message.startswith(f"'{prefix}' is not a prefix: 2 to 32 lower-case")


@given(st.text(st.sampled_from("ab_1A-"), max_size=6))
def test_prefixes_follow_the_documented_rule(prefix: str) -> None:
    """The rule is `[a-z][a-z0-9_]{1,31}` with one underscore at the end and never two in a row."""
    documented = re.fullmatch("[a-z][a-z0-9_]{1,31}", prefix) and prefix.endswith("_")
    if documented and "__" not in prefix:
        check_prefix(prefix)
    else:
        with pytest.raises(InvalidArgumentError):
            check_prefix(prefix)


# A stock server


@given(keys, st.datetimes().map(lambda moment: moment.replace(microsecond=0)))
def test_a_split_never_cuts_a_key(key: str, expires_on: datetime) -> None:
    """What stands before the first separator is the whole key, with an expiry and without."""
    assert SEPARATOR not in key
    assert decode(encode(key, expires_on)) == (key, expires_on)
    assert decode(encode(key, None)) == (key, None)


@settings(max_examples=20, deadline=None)
@given(keys)
def test_java_splits_like_us(stock: Stock, key: str) -> None:
    """Java's own `split` leaves the key whole."""
    assert stock.ask("split", key) == [f"={key}"]
    assert stock.ask("split", f"{key}__2030-01-01T00:00") == [f"={key}", "=2030-01-01T00:00"]
