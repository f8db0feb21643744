"""The DER reader and writer: round trips, and everything that a strict reader refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import examples
from metricshub_apikey.pkcs12 import der
from metricshub_apikey.pkcs12.problems import (
    DamagedBytesError,
    FormatError,
    FormatLimitError,
    UnsupportedFormatError,
)

Nested = bytes | list["Nested"]

SIZES = [0, 1, 126, 127, 128, 129, 255, 256, 257, 65535, 65536, 65537]
nested = st.recursive(
    st.binary(max_size=8), lambda inner: st.lists(inner, max_size=4), max_leaves=20
)


def encode(value: Nested) -> bytes:
    """Write bytes as an OCTET STRING and a list as a SEQUENCE."""
    if isinstance(value, bytes):
        return der.octets(value)
    return der.sequence(*map(encode, value))


def decode(data: bytes) -> Nested:
    """Read what `encode` wrote."""
    if data[0] == der.OCTETS:
        start, end = der.enter(data, 0, len(data), der.OCTETS)
        return data[start:end]
    start, end = der.enter(data, 0, len(data), der.SEQUENCE)
    items: list[Nested] = []
    while start < end:
        _, stop = der.enter(data, start, end, data[start])
        items.append(decode(data[start:stop]))
        start = stop
    return items


def read_integer(data: bytes) -> int:
    """Read a whole INTEGER element."""
    return der.read_integer(data, *der.enter(data, 0, len(data), der.INTEGER))


def split(data: bytes, tag: int) -> list[bytes]:
    """Take all of *data* apart."""
    return der.split(data, 0, len(data), tag, most=1000, what="elements")


@given(st.integers(-(2**63), 2**63 - 1))
@examples(200)
def test_integers_come_back(value: int) -> None:
    """Every integer of up to 8 bytes is read as it was written."""
    assert read_integer(der.integer(value)) == value


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "020100"),
        (1, "020101"),
        (127, "02017f"),
        (128, "02020080"),
        (256, "02020100"),
        (10_000, "02022710"),
        (50_000, "020300c350"),
        (-1, "0201ff"),
        (-128, "020180"),
        (-129, "0202ff7f"),
        (2**63 - 1, "02087fffffffffffffff"),
        (-(2**63), "02088000000000000000"),
    ],
)
def test_integers_are_written_as_in_x690(value: int, encoded: str) -> None:
    """Integers are two's complement in as few bytes as they need."""
    assert der.integer(value).hex() == encoded
    assert read_integer(bytes.fromhex(encoded)) == value


@given(st.one_of(st.integers(min_value=2**63), st.integers(max_value=-(2**63) - 1)))
@examples(50)
def test_integers_of_more_than_8_bytes_are_refused(value: int) -> None:
    """Nine bytes are over the limit, and the error says so."""
    with pytest.raises(FormatLimitError, match="limit of 8 bytes"):
        read_integer(der.integer(value))


@pytest.mark.parametrize("encoded", ["0200", "02020000", "0202007f", "0202ffff", "0202ff80"])
def test_an_integer_is_neither_empty_nor_longer_than_needed(encoded: str) -> None:
    """An INTEGER without content, or with a superfluous first byte, is refused."""
    with pytest.raises(DamagedBytesError):
        read_integer(bytes.fromhex(encoded))


@pytest.mark.parametrize("size", SIZES)
def test_octets_of_any_size_come_back(size: int) -> None:
    """Contents come back around every size at which the length grows by a byte."""
    data = der.octets(bytes(size))
    start, end = der.enter(data, 0, len(data), der.OCTETS)
    assert end == len(data)
    assert data[start:end] == bytes(size)


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (127, "047f"),
        (128, "048180"),
        (255, "0481ff"),
        (256, "04820100"),
        (65535, "0482ffff"),
        (65536, "0483010000"),
    ],
)
def test_lengths_are_minimal(size: int, header: str) -> None:
    """A length is written in as few bytes as it needs."""
    assert der.octets(bytes(size)).hex().startswith(header)
    assert len(der.octets(bytes(size))) == size + len(header) // 2


@given(nested)
@examples(100)
def test_nested_sequences_come_back(value: Nested) -> None:
    """Whatever is nested in whatever is read as it was written."""
    assert decode(encode(value)) == value


@given(st.lists(st.binary(max_size=200), max_size=5))
@examples(50)
def test_split_returns_the_elements_in_order(contents: list[bytes]) -> None:
    """A run of elements falls apart into exactly the elements it was made of."""
    parts = [der.octets(content) for content in contents]
    data = b"".join(parts)
    assert split(data, der.OCTETS) == parts


def test_split_wants_one_tag() -> None:
    """An element of another type among the others is refused."""
    data = der.octets(b"") + der.integer(1)
    with pytest.raises(DamagedBytesError):
        split(data, der.OCTETS)


def test_split_has_a_limit() -> None:
    """As many elements as allowed are read; one more is refused, and the limit named."""
    data = der.integer(1) * 1000
    assert len(der.split(data, 0, len(data), der.INTEGER, most=1000, what="numbers")) == 1000
    with pytest.raises(FormatLimitError, match="holds more numbers than the limit of 999"):
        der.split(data, 0, len(data), der.INTEGER, most=999, what="numbers")


@pytest.mark.parametrize("size", [0, 1, 127, 128, 256, 300])
def test_every_truncation_is_refused(size: int) -> None:
    """An element that lacks its last bytes, one or all, is never read."""
    data = der.octets(bytes(size))
    for length in range(len(data)):
        with pytest.raises(DamagedBytesError):
            der.enter(data[:length], 0, length, der.OCTETS)


@given(st.binary(min_size=1, max_size=300), st.data())
@examples(50)
def test_an_element_stays_inside_the_one_around_it(content: bytes, data: st.DataObject) -> None:
    """The bytes behind the given end do not count, even where there are enough of them."""
    encoded = der.octets(content)
    end = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(DamagedBytesError):
        der.enter(encoded + bytes(10), 0, end, der.OCTETS)


@pytest.mark.parametrize(
    "header",
    ["308100", "30817f", "30820005", "3082007f", "308200ff", "308300ffff", "30880000000000000001"],
)
def test_lengths_that_are_not_minimal_are_refused(header: str) -> None:
    """A length in more bytes than it needs is refused though everything is there."""
    data = bytes.fromhex(header) + bytes(70_000)
    with pytest.raises(DamagedBytesError):
        der.enter(data, 0, len(data), der.SEQUENCE)


@pytest.mark.parametrize(
    "header", ["30847fffffff", "3084ffffffff", "3088ffffffffffffffff", "3089010000000000000000"]
)
def test_lengths_beyond_the_end_are_refused(header: str) -> None:
    """A length of billions of bytes is refused, and so is one that has nine bytes itself."""
    data = bytes.fromhex(header) + bytes(100)
    with pytest.raises(DamagedBytesError):
        der.enter(data, 0, len(data), der.SEQUENCE)


@pytest.mark.parametrize("first", range(0x89, 0x100))
def test_lengths_of_too_many_bytes_are_refused(first: int) -> None:
    """No length has more than eight bytes; 0xff is reserved."""
    data = bytes((der.SEQUENCE, first)) + b"\x01" + bytes(300)
    with pytest.raises(DamagedBytesError):
        der.enter(data, 0, len(data), der.SEQUENCE)


def test_indefinite_lengths_are_unsupported() -> None:
    """BER is told from damage."""
    with pytest.raises(UnsupportedFormatError, match="BER"):
        der.enter(bytes.fromhex("30800000"), 0, 4, der.SEQUENCE)


@given(st.integers(0, 255), st.integers(0, 255))
@examples(50)
def test_the_tag_must_be_the_wanted_one(tag: int, wanted: int) -> None:
    """An element is read where its tag is the wanted one, and only there."""
    data = der.element(tag, b"content")
    if tag == wanted:
        assert der.enter(data, 0, len(data), wanted) == (2, len(data))
    else:
        with pytest.raises(DamagedBytesError):
            der.enter(data, 0, len(data), wanted)


def test_an_element_is_entered_where_it_starts() -> None:
    """Offsets are those of the whole, not of the element."""
    data = der.integer(7) + der.octets(b"abc")
    assert der.enter(data, 3, len(data), der.OCTETS) == (5, 8)


@pytest.mark.parametrize(
    ("dotted", "encoded"),
    [
        ("1.2.840.113549", "06062a864886f70d"),
        ("1.2.840.113549.1.7.1", "06092a864886f70d010701"),
        ("1.2.840.113549.1.12.10.1.5", "060b2a864886f70d010c0a0105"),
        ("1.3.14.3.2.26", "06052b0e03021a"),
        ("2.5.4.3", "0603550403"),
        ("2.16.840.1.101.3.4.1.42", "060960864801650304012a"),
        ("2.100.3", "0603813403"),  # the example of X.690, 8.19.5
        ("2.999", "06028837"),
        ("0.0", "060100"),
        ("1.2.127.128.16383.16384", "06092a7f8100ff7f818000"),
        # RFC 4122's example of a UUID, f81d4fae-7dec-11d0-a765-00a0c91e6bf6, as in X.667
        (
            "2.25.329800735698586629295641978511506172918",
            "06146983f09da7ebcfdee0c7a1a7b2c0948cc8f9d776",
        ),
    ],
)
def test_oids_are_written_as_in_x690(dotted: str, encoded: str) -> None:
    """Known object identifiers get their known encodings."""
    assert der.oid(dotted).hex() == encoded


@given(st.binary(max_size=24), st.sampled_from([0x02, 0x04, 0x06, 0x30, 0x31, 0xA0]))
@examples(300)
def test_random_bytes_raise_nothing_else(data: bytes, tag: int) -> None:
    """Whatever the bytes are: they are read, or one of the project's errors is raised."""
    for start in range(len(data) + 1):
        try:
            body, stop = der.enter(data, start, len(data), tag)
            assert start + 2 <= body <= stop <= len(data)
            der.read_integer(data, body, stop)
            assert b"".join(split(data[body:stop], tag)) == data[body:stop]
        except FormatError:
            continue
