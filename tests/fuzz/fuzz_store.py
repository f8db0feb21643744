"""
A fuzz target for everything that reads a keystore's bytes; see README.md.

The first byte of the input chooses where the rest goes: as a whole file, or behind a correct MAC
as the authenticated safe, the bags, one bag, an AlgorithmIdentifier, or a decrypted secret. A
fuzzer cannot forge a MAC, so without that it would never get behind it.
"""

from __future__ import annotations

import hmac
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import cache

from metricshub_apikey.errors import EntryUnreadableError
from metricshub_apikey.keys.api_key import ENTRY_PREFIX
from metricshub_apikey.keys.metadata import ATTRIBUTES, DESCRIPTION, LABELS, ROLES, Metadata
from metricshub_apikey.keys.value import decode
from metricshub_apikey.pkcs12 import der
from metricshub_apikey.pkcs12.attributes import Texts
from metricshub_apikey.pkcs12.bag import Bag, encode_bag, secret_value
from metricshub_apikey.pkcs12.contents import DATA
from metricshub_apikey.pkcs12.kdf import (
    MAX_ITERATIONS,
    Derivation,
    KdfParameters,
    KeyDerivation,
    Passwords,
    pkcs12_kdf,
)
from metricshub_apikey.pkcs12.pbe import Pbes2, encrypt
from metricshub_apikey.pkcs12.problems import FormatError, FormatLimitError, UnsupportedFormatError
from metricshub_apikey.pkcs12.store import Store

PASSWORDS = Passwords("store-password", "entry-password")
SALT = bytes(range(20))
SHA256 = der.oid("2.16.840.1.101.3.4.2.1")
SECRET_BAG = der.oid("1.2.840.113549.1.12.10.1.5")
SHROUDED_KEY_BAG = der.oid("1.2.840.113549.1.12.10.1.2")

TEXTS: Texts = {ROLES: ("reader", "writer"), DESCRIPTION: ("new",), LABELS: ()}
"""What every bag is given, or loses."""

AFFORDABLE = 2
"""Iterations that are really done; more teach a fuzzer nothing, and cost it time."""


class CheapDerivation(KeyDerivation):
    """Derives other keys than those asked for, quickly; it only has to do so every time."""

    def derive(self, password: str, wanted: Derivation) -> bytes:
        """Return the key for fewer iterations, unless their number is refused anyway."""
        return super().derive(password, _cheaper(wanted))

    def derive_all(
        self,
        password: str,
        wanted: list[Derivation],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Derive nothing ahead."""


def _cheaper(wanted: Derivation) -> Derivation:
    if not 1 <= wanted.kdf.iterations <= MAX_ITERATIONS:
        return wanted
    iterations = min(wanted.kdf.iterations, AFFORDABLE)
    return wanted._replace(kdf=wanted.kdf._replace(iterations=iterations))


@cache
def mac_key() -> bytes:
    """Return the key of the MAC that all inputs get."""
    return pkcs12_kdf(PASSWORDS.store.reveal(), 3, KdfParameters(SALT, 1, "sha256"), 32)


@cache
def entry_keys() -> KeyDerivation:
    """Return where the key of the entries made here is kept."""
    return CheapDerivation()


def seal(safe: bytes) -> bytes:
    """Return a file around *safe* with a correct MAC."""
    digest = der.octets(hmac.digest(mac_key(), safe, "sha256"))
    info = der.sequence(der.sequence(SHA256, der.NULL), digest)
    mac = der.sequence(info, der.octets(SALT), der.integer(1))
    content = der.sequence(DATA, der.element(der.CONTEXT_0, der.octets(safe)))
    return der.sequence(der.integer(3), content, mac)


def around_bags(bags: bytes) -> bytes:
    """Return a file whose bags are these bytes."""
    part = der.sequence(DATA, der.element(der.CONTEXT_0, der.octets(der.sequence(bags))))
    return seal(der.sequence(part))


def around_algorithm(algorithm: bytes) -> bytes:
    """Return a file with an entry, and a part, encrypted as *algorithm* says."""
    shrouded = der.octets(der.sequence(der.sequence(algorithm), der.octets(bytes(16))))
    value = der.sequence(SHROUDED_KEY_BAG, der.element(der.CONTEXT_0, shrouded))
    bag = der.sequence(SECRET_BAG, der.element(der.CONTEXT_0, value))
    encrypted = der.element(der.CONTEXT_0_OCTETS, bytes(16))
    inner = der.sequence(der.integer(0), der.sequence(DATA, der.sequence(algorithm), encrypted))
    opaque = der.sequence(der.oid("1.2.840.113549.1.7.6"), der.element(der.CONTEXT_0, inner))
    plain = der.sequence(DATA, der.element(der.CONTEXT_0, der.octets(der.sequence(bag))))
    return seal(der.sequence(plain, opaque))


def around_plaintext(plaintext: bytes) -> bytes:
    """Return a file with an entry that decrypts to *plaintext*."""
    algorithm = Pbes2(KdfParameters(SALT, 1, "sha256"), 32, bytes(16))
    ciphertext = encrypt(algorithm, PASSWORDS.entries.reveal(), plaintext, entry_keys())
    return around_bags(encode_bag(f"{ENTRY_PREFIX}x", 0, algorithm, ciphertext))


PLACES: list[Callable[[bytes], bytes]] = [
    bytes,
    seal,
    around_bags,
    lambda bag: around_bags(der.sequence(bag)),
    around_algorithm,
    around_plaintext,
]
"""Where an input goes, by its first byte."""


def read_and_write(file: bytes) -> None:
    """
    Do with a file what the commands do.

    Raises:
        FormatError: It was refused.
        AssertionError: What was written is not what was read.
    """
    keys = CheapDerivation()
    store = Store.parse(file, PASSWORDS, keys)
    for bag in store.bags:
        look_at(bag)
    for value in store.values(store.bags):
        if isinstance(value, bytes):
            with suppress(EntryUnreadableError):
                decode(value)
    before = store.pieces()
    try:
        store.replace({bag: revised for bag in store.bags if (revised := revise(bag))})
        store.add(f"{ENTRY_PREFIX}new", b"value", created_ms=0, random_bytes=bytes)
        written = store.serialise(bytes)
    except UnsupportedFormatError:
        return  # PBMAC1 is only read
    again = Store.parse(written, PASSWORDS, keys)
    assert Counter(again.pieces()) == Counter(before) - store.removed + store.added
    assert again.trailing == 0


def look_at(bag: Bag) -> None:
    """Ask a bag for everything it knows."""
    assert bag.alias is None or bag.alias == bag.alias.lower()
    assert bag.created_ms is None or bag.created_ms >= 0
    metadata = Metadata.from_texts(bag.texts(ATTRIBUTES))
    assert Metadata.from_texts(metadata.texts()) == metadata


def revise(bag: Bag) -> Bag | None:
    """Return a bag with another name and other texts; None if they are too many for it."""
    try:
        revised = bag.revise(ATTRIBUTES, TEXTS, alias=f"{ENTRY_PREFIX}revised")
    except FormatLimitError:
        return None
    assert {**bag.texts(ATTRIBUTES), **TEXTS} == {LABELS: (), **revised.texts(ATTRIBUTES)}
    assert revised.alias in (f"{ENTRY_PREFIX}revised", bag.alias)
    assert revised.created_ms == bag.created_ms
    assert revised.revise(ATTRIBUTES, {}).raw == revised.raw
    return revised


def values_of(file: bytes) -> list[bytes | EntryUnreadableError]:
    """Return the values of a file's entries."""
    store = Store.parse(file, PASSWORDS, CheapDerivation())
    return store.values(store.bags)


def is_read(data: bytes) -> bool:
    """Return whether an input is a keystore with entries, not one that is refused."""
    try:
        return bool(data) and bool(values_of(place(data)))
    except FormatError:
        return False


def place(data: bytes) -> bytes:
    """Return the file that an input stands for."""
    return PLACES[data[0] % len(PLACES)](data[1:])


def run_one_input(data: bytes) -> None:
    """Try one input: whatever it is, nothing but a FormatError may be raised."""
    if not data:
        return
    with suppress(FormatError):
        read_and_write(place(data))
    with suppress(FormatError):
        secret_value(data[1:])


def main() -> None:
    """Fuzz until told to stop; the arguments are libFuzzer's."""
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, run_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
