"""
The seal of the file: MacData with the PKCS#12 KDF (RFC 7292), and PBMAC1 (RFC 9579).

The MAC is the keystore's only protection against forged entries, so there is no reading without
one. PBMAC1 is read, never written: Java before 26 does not know it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import NamedTuple

from metricshub_apikey.pkcs12.problems import (
    DamagedBytesError,
    FormatLimitError,
    UnsupportedFormatError,
)

from . import der
from .kdf import MAC, Derivation, KdfParameters, KeyDerivation
from .pbe import ITERATIONS, SALT_SIZE, hmac_hash, parse_pbkdf2, split_algorithm

PBMAC1 = der.oid("1.2.840.113549.1.5.14")
HASHES = {
    der.oid("1.3.14.3.2.26"): "sha1",
    der.oid("2.16.840.1.101.3.4.2.4"): "sha224",
    der.oid("2.16.840.1.101.3.4.2.1"): "sha256",
    der.oid("2.16.840.1.101.3.4.2.2"): "sha384",
    der.oid("2.16.840.1.101.3.4.2.3"): "sha512",
}
HASH_OIDS = {name: encoded for encoded, name in HASHES.items()}

MIN_PBMAC1_KEY = 20


class Pbmac1(NamedTuple):
    """What PBMAC1 says: how the key is derived, its size in bytes, and the hash under HMAC."""

    kdf: KdfParameters
    key_size: int
    hash_name: str


class Mac(NamedTuple):
    """
    A parsed MacData.

    Attributes:
        scheme: The PKCS#12 KDF's inputs, or PBMAC1's.
        digest: The MAC itself, already of the right length.
    """

    scheme: KdfParameters | Pbmac1
    digest: bytes


def parse_mac(data: bytes, start: int, end: int) -> Mac:
    """
    Read the MacData whose content is *start* to *end*.

    Raises:
        DamagedBytesError: The bytes are no MacData, or the digest's length does not fit its hash.
        FormatLimitError: A number has more than 8 bytes, or a PBMAC1 key is too short to be safe.
        UnsupportedFormatError: A hash or a scheme that is not read.
    """
    info, info_stop = der.enter(data, start, end, der.SEQUENCE)
    body, stop = der.enter(data, info, info_stop, der.SEQUENCE)
    name, parameters = split_algorithm(data, body, stop)
    digest_body, digest_stop = der.enter_last(data, stop, info_stop, der.OCTETS)
    salt_body, salt_stop = der.enter(data, info_stop, end, der.OCTETS)
    if name == PBMAC1:
        scheme: KdfParameters | Pbmac1 = _parse_pbmac1(data, parameters, stop)
    elif name in HASHES:
        count = 1  # RFC 7292: DEFAULT 1
        if salt_stop < end:
            count = der.read_integer(data, *der.enter_last(data, salt_stop, end, der.INTEGER))
        scheme = KdfParameters(data[salt_body:salt_stop], count, HASHES[name])
    else:
        raise UnsupportedFormatError("has a MAC with a hash that is not supported")
    if digest_stop - digest_body != hashlib.new(scheme.hash_name).digest_size:
        raise DamagedBytesError(hint="Its MAC has the wrong length.")
    return Mac(scheme, data[digest_body:digest_stop])


def _parse_pbmac1(data: bytes, start: int, end: int) -> Pbmac1:
    body, stop = der.enter(data, start, end, der.SEQUENCE)
    kdf_body, kdf_stop = der.enter(data, body, stop, der.SEQUENCE)
    kdf, key_size = parse_pbkdf2(data[kdf_body:kdf_stop])
    mac_body, mac_stop = der.enter(data, kdf_stop, stop, der.SEQUENCE)
    if key_size is None or not MIN_PBMAC1_KEY <= key_size <= hashlib.sha512().digest_size:
        raise FormatLimitError(
            f"has a PBMAC1 key outside the limit of {MIN_PBMAC1_KEY} to 64 bytes"
        )
    return Pbmac1(kdf, key_size, hmac_hash(split_algorithm(data, mac_body, mac_stop)[0]))


def verify(mac: Mac, content: bytes, password: str, keys: KeyDerivation) -> None:
    """
    Check that *content* was written with *password*.

    Raises:
        DamagedBytesError: Wrong password, or changed bytes.
        FormatLimitError: Too many iterations.
    """
    expected = _compute(mac.scheme, content, password, keys)
    if not hmac.compare_digest(expected, mac.digest):
        raise DamagedBytesError


def _compute(
    scheme: KdfParameters | Pbmac1, content: bytes, password: str, keys: KeyDerivation
) -> bytes:
    if isinstance(scheme, Pbmac1):
        wanted = Derivation(scheme.kdf, scheme.key_size)
    else:
        wanted = Derivation(scheme, hashlib.new(scheme.hash_name).digest_size, MAC)
    key = keys.derive(password, wanted)
    return hmac.digest(key, content, scheme.hash_name)


def seal(
    content: bytes,
    password: str,
    keys: KeyDerivation,
    *,
    like: Mac | None,
    random_bytes: Callable[[int], bytes],
) -> bytes:
    """
    Return the MacData for *content*, with a fresh salt.

    Args:
        content: The authenticated bytes.
        password: The store password.
        keys: Where the MAC's key is derived.
        like: The file's previous MAC, whose hash and count are kept; SHA-1 becomes SHA-256 with
            10,000 iterations, which every Java that runs a MetricsHub with API keys reads. None
            for a new file.
        random_bytes: Returns that many random bytes.

    Raises:
        UnsupportedFormatError: The previous MAC is PBMAC1.
    """
    hash_name, iterations = "sha256", ITERATIONS
    if like is not None and isinstance(like.scheme, Pbmac1):
        raise UnsupportedFormatError("is sealed with PBMAC1, which is only read, never written")
    if like is not None and like.scheme.hash_name != "sha1":
        _, iterations, hash_name = like.scheme
    scheme = KdfParameters(random_bytes(SALT_SIZE), iterations, hash_name)
    digest = _compute(scheme, content, password, keys)
    digest_info = der.sequence(der.sequence(HASH_OIDS[hash_name], der.NULL), der.octets(digest))
    return der.sequence(digest_info, der.octets(scheme.salt), der.integer(iterations))
