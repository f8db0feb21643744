"""The MAC: every kind that is read, every weak one that is refused, and what is written."""

from __future__ import annotations

import hashlib
import hmac
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

import builders
from builders import (
    BAD_COUNTS,
    EMPTY_INTEGER,
    HASHES,
    HMACS,
    ONE,
    PASSWORDS,
    SALT,
    examples,
    mac_data,
    pbmac1_data,
    seal_around,
)
from metricshub_apikey.pkcs12 import der
from metricshub_apikey.pkcs12.kdf import KdfParameters, KeyDerivation, pkcs12_kdf
from metricshub_apikey.pkcs12.mac import Mac, Pbmac1, parse_mac, seal, verify
from metricshub_apikey.pkcs12.problems import (
    DamagedBytesError,
    FormatError,
    FormatLimitError,
    UnsupportedFormatError,
)

CONTENT = b"what is sealed"


def zeros(size: int) -> bytes:
    """Stand in for random bytes where a test compares what was sealed."""
    return bytes(size)


def parse(element: bytes) -> Mac:
    """Read a whole MacData."""
    return parse_mac(element, *der.enter(element, 0, len(element), der.SEQUENCE))


def check(
    element: bytes, content: bytes = CONTENT, password: str = PASSWORDS.store.reveal()
) -> None:
    """Check a whole MacData."""
    verify(parse(element), content, password, KeyDerivation())


def seal_like(element: bytes | None) -> bytes:
    """Seal as the MacData before it was sealed."""
    like = None if element is None else parse(element)
    return seal(CONTENT, PASSWORDS.store.reveal(), KeyDerivation(), like=like, random_bytes=zeros)


@pytest.mark.parametrize("hash_name", HASHES)
def test_every_hash_is_read(hash_name: str) -> None:
    """SHA-1 and all of SHA-2 are accepted, over this content under this password only."""
    element = mac_data(CONTENT, hash_name=hash_name, iterations=3)
    assert parse(element).scheme == KdfParameters(SALT, 3, hash_name)
    check(element)
    with pytest.raises(DamagedBytesError, match="password is wrong or the file is damaged"):
        check(element, CONTENT + b"!")
    with pytest.raises(DamagedBytesError, match="password is wrong or the file is damaged"):
        check(element, password="Store-password")


def test_absent_iterations_are_one() -> None:
    """RFC 7292 says DEFAULT 1."""
    element = mac_data(CONTENT, count=b"")
    assert parse(element).scheme == KdfParameters(SALT, 1, "sha256")
    check(element)


def test_a_hash_without_parameters_is_read() -> None:
    """The NULL behind the hash is optional."""
    digest = parse(mac_data(CONTENT)).digest
    check(seal_around(der.sequence(HASHES["sha256"]), digest, der.octets(SALT), ONE))


@pytest.mark.parametrize("hash_name", HASHES)
@pytest.mark.parametrize("change", [-1, 1])
def test_a_digest_of_the_wrong_length_is_refused(hash_name: str, change: int) -> None:
    """A digest that was cut, or has bytes too many, is refused whatever its bytes are."""
    digest = parse(mac_data(CONTENT, hash_name=hash_name)).digest
    odd = digest[:-1] if change < 0 else digest + b"\0"
    element = seal_around(
        der.sequence(HASHES[hash_name], der.NULL), odd, der.octets(SALT), der.integer(1)
    )
    with pytest.raises(DamagedBytesError) as caught:
        parse(element)
    assert caught.value.hint == "Its MAC has the wrong length."


def test_an_empty_digest_is_refused() -> None:
    """No bytes at all are no MAC."""
    algorithm = der.sequence(HASHES["sha256"], der.NULL)
    with pytest.raises(DamagedBytesError):
        parse(seal_around(algorithm, b"", der.octets(SALT), ONE))


@pytest.mark.parametrize(
    "hash_oid",
    ["1.2.840.113549.2.5", "2.16.840.1.101.3.4.2.6", "2.16.840.1.101.3.4.2.8", "1.2.3"],
    ids=["MD5", "SHA-512/256", "SHA3-256", "nonsense"],
)
def test_other_hashes_are_unsupported(hash_oid: str) -> None:
    """A hash that is not read is told from damage."""
    algorithm = der.sequence(der.oid(hash_oid), der.NULL)
    with pytest.raises(UnsupportedFormatError, match="MAC with a hash that is not supported"):
        parse(seal_around(algorithm, bytes(32), der.octets(SALT), ONE))


@pytest.mark.parametrize("name", BAD_COUNTS)
def test_counts_outside_the_limit_are_refused(name: str) -> None:
    """Zero, negative and monstrous counts cost no time, and the error names the limit."""
    with pytest.raises(FormatLimitError, match="limit"):
        check(mac_data(CONTENT, count=BAD_COUNTS[name]))


def test_an_empty_count_is_damage() -> None:
    """An INTEGER without content is no number."""
    with pytest.raises(DamagedBytesError):
        check(mac_data(CONTENT, count=EMPTY_INTEGER))


def test_truncated_macs_are_damage() -> None:
    """A MacData without its last bytes is refused, but for the count, which has a default."""
    whole = mac_data(CONTENT, hash_name="sha384")[2:]
    for size in range(len(whole)):
        if size != len(whole) - len(ONE):
            with pytest.raises(DamagedBytesError):
                parse_mac(whole[:size], 0, size)


# PBMAC1


@pytest.mark.parametrize("hash_name", HMACS)
@pytest.mark.parametrize("prf", HMACS)
def test_pbmac1_is_read(hash_name: str, prf: str) -> None:
    """RFC 9579 with every pair of hashes is accepted, over this content only."""
    element = pbmac1_data(CONTENT, hash_name=hash_name, prf=prf, iterations=3)
    assert parse(element).scheme == Pbmac1(KdfParameters(SALT, 3, prf), 32, hash_name)
    check(element)
    with pytest.raises(DamagedBytesError):
        check(element, CONTENT + b"!")


@pytest.mark.parametrize("size", [20, 64])
def test_pbmac1_keys_of_20_to_64_bytes_are_read(size: int) -> None:
    """The limits themselves are allowed."""
    check(pbmac1_data(CONTENT, key_length=der.integer(size)))


@pytest.mark.parametrize("size", [-1, 0, 1, 16, 19, 65, 2**31, 2**63])
def test_other_pbmac1_keys_are_refused(size: int) -> None:
    """A key short enough to guess, or absurdly long, is refused before it is derived."""
    kdf = builders.pbkdf2(key_length=der.integer(size))
    scheme = der.sequence(kdf, der.sequence(HMACS["sha256"], der.NULL))
    element = seal_around(der.sequence(builders.PBMAC1, scheme), bytes(32), der.octets(b""), ONE)
    with pytest.raises(FormatLimitError, match="limit"):
        parse(element)


def test_pbmac1_without_a_key_length_is_refused() -> None:
    """RFC 9579 demands it: without, the reader would have to guess."""
    with pytest.raises(FormatLimitError, match="PBMAC1 key outside the limit of 20 to 64 bytes"):
        parse(pbmac1_data(CONTENT, key_length=b""))


@pytest.mark.parametrize("name", BAD_COUNTS)
def test_pbmac1_counts_outside_the_limit_are_refused(name: str) -> None:
    """The limits are those of every other derivation."""
    scheme = der.sequence(
        builders.pbkdf2(BAD_COUNTS[name]), der.sequence(HMACS["sha256"], der.NULL)
    )
    element = seal_around(der.sequence(builders.PBMAC1, scheme), bytes(32), der.octets(b""), ONE)
    with pytest.raises(FormatLimitError, match="limit"):
        check(element)


def test_pbmac1_with_other_algorithms_is_unsupported() -> None:
    """Another key derivation, and another MAC than HMAC, are told from damage."""
    odd = der.sequence(der.oid("1.2.3"), der.NULL)
    plain = der.sequence(HMACS["sha256"], der.NULL)
    for scheme in (der.sequence(odd, plain), der.sequence(builders.pbkdf2(), odd)):
        algorithm = der.sequence(builders.PBMAC1, scheme)
        with pytest.raises(UnsupportedFormatError):
            parse(seal_around(algorithm, bytes(32), der.octets(b""), ONE))


def test_a_pbmac1_digest_of_the_wrong_length_is_refused() -> None:
    """Its length is that of HMAC's hash, not of PBKDF2's."""
    element = pbmac1_data(CONTENT, hash_name="sha512", prf="sha256")
    scheme = der.sequence(builders.pbkdf2(), der.sequence(HMACS["sha512"], der.NULL))
    algorithm = der.sequence(builders.PBMAC1, scheme)
    digest = parse(element).digest
    assert seal_around(algorithm, digest, der.octets(b"NOT USED"), ONE) == element
    with pytest.raises(DamagedBytesError):
        parse(seal_around(algorithm, digest[:32], der.octets(b"NOT USED"), ONE))


# Writing


@pytest.mark.parametrize("hash_name", ["sha224", "sha256", "sha384", "sha512"])
def test_hash_and_count_are_kept(hash_name: str) -> None:
    """A MAC of SHA-2 is made anew with the same hash and count, and a fresh salt."""
    before = mac_data(CONTENT, hash_name=hash_name, iterations=7)
    after = mac_data(CONTENT, hash_name=hash_name, iterations=7, salt=bytes(20))
    assert seal_like(before) == after


@pytest.mark.parametrize("iterations", [1, 7, 2000])
def test_sha1_becomes_sha256(iterations: int) -> None:
    """The weak hash goes, and with it whatever count it had."""
    before = mac_data(CONTENT, hash_name="sha1", iterations=iterations)
    after = mac_data(CONTENT, hash_name="sha256", iterations=10_000, salt=bytes(20))
    assert seal_like(before) == after


def test_a_new_file_gets_the_modern_mac() -> None:
    """Without a MAC before it, the new one is what JDK 17 writes."""
    assert seal_like(None) == mac_data(CONTENT, iterations=10_000, salt=bytes(20))


def test_pbmac1_is_not_written() -> None:
    """A file that no released Java reads is left as it is."""
    with pytest.raises(UnsupportedFormatError, match="PBMAC1, which is only read"):
        seal_like(pbmac1_data(CONTENT))


@given(st.binary(max_size=100), st.text(max_size=20), st.binary(min_size=20, max_size=20))
@examples(30)
def test_what_is_sealed_verifies(content: bytes, password: str, salt: bytes) -> None:
    """Whatever is sealed under whatever password, the seal fits, and no other byte does."""
    keys = KeyDerivation()
    like = Mac(KdfParameters(b"", 2, "sha512"), b"")
    element = seal(content, password, keys, like=like, random_bytes=lambda _: salt)
    mac = parse(element)
    assert mac.scheme == KdfParameters(salt, 2, "sha512")
    verify(mac, content, password, keys)
    with pytest.raises(DamagedBytesError):
        verify(mac, content + b"\0", password, keys)


def test_the_pkcs12_key_is_used_as_it_is() -> None:
    """The MAC is HMAC under the derived key: nothing else goes in."""
    element = mac_data(CONTENT, hash_name="sha256", iterations=1)
    key = pkcs12_kdf(PASSWORDS.store.reveal(), 3, KdfParameters(SALT, 1, "sha256"), 32)
    assert parse(element).digest == hmac.new(key, CONTENT, hashlib.sha256).digest()


@given(st.binary(max_size=60), st.sampled_from([b"", builders.PBMAC1, HASHES["sha256"]]))
@examples(200)
def test_random_bytes_raise_nothing_else(data: bytes, name: bytes) -> None:
    """Whatever the bytes are: they are read, or one of the project's errors is raised."""
    info = der.sequence(der.sequence(name, data), der.octets(bytes(32)))
    for content in (data, info + data, info + der.octets(SALT) + data):
        with suppress(FormatError):
            assert len(parse_mac(content, 0, len(content)).digest) >= 20
