"""
One ContentInfo of the authenticated safe (RFC 7292, section 4.1) and the bags in it.

Java writes at most two: plain `data` with secrets and shrouded keys, and `encryptedData` with
certificates. Others are read too; one that is not understood is kept as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from metricshub_apikey.pkcs12.problems import DamagedBytesError, UnsupportedFormatError

from . import der
from .bag import Bag
from .kdf import KdfParameters, KeyDerivation
from .pbe import (
    AES_256_KEY,
    AES_BLOCK,
    ITERATIONS,
    SALT_SIZE,
    DecryptionError,
    Encrypted,
    Pbes2,
    decrypt,
    encode_pbes2,
    encrypt,
    parse_algorithm,
)

DATA = der.oid("1.2.840.113549.1.7.1")
ENCRYPTED_DATA = der.oid("1.2.840.113549.1.7.6")

MAX_BAGS = 100_000


class Contents:
    """
    A ContentInfo; its bytes are kept until its bags change.

    Attributes:
        bags: The SafeBags inside, in order; empty where they cannot be read.
        plain: Whether it is `data`, which takes new entries; else it is encrypted or unknown.
    """

    __slots__ = ("_raw", "bags", "plain")

    def __init__(self, raw: bytes | None, bags: list[Bag], *, plain: bool = True) -> None:
        self._raw = raw
        self.bags = bags
        self.plain = plain

    @classmethod
    def parse(
        cls, raw: bytes, password: str, keys: KeyDerivation, known: dict[bytes, Bag]
    ) -> Contents:
        """
        Read one ContentInfo; bags in *known* are taken from there instead of read again.

        Raises:
            DamagedBytesError: The bytes are not a ContentInfo, or a plain bag in it is not a
                SafeBag.
            FormatLimitError: More bags, or a more expensive encryption, than a limit allows.
        """
        start, end = der.enter(raw, 0, len(raw), der.SEQUENCE)
        _, at = der.enter(raw, start, end, der.OID)
        if raw.startswith(DATA, start):
            body, stop = der.enter_last(raw, at, end, der.CONTEXT_0)
            body, stop = der.enter_last(raw, body, stop, der.OCTETS)
            return cls(raw, split_bags(raw[body:stop], known))
        if not raw.startswith(ENCRYPTED_DATA, start):
            return cls(raw, [], plain=False)
        try:
            return cls(raw, split_bags(_open(raw, at, end, password, keys), known), plain=False)
        except (DecryptionError, DamagedBytesError, UnsupportedFormatError):
            # Certificates of another tool or under another password: not ours to understand.
            return cls(raw, [], plain=False)

    @property
    def changed(self) -> bool:
        """Whether `encode` will make new bytes."""
        return self._raw is None

    def pieces(self) -> list[bytes]:
        """Return the encodings of the bags, or of the whole where there are none to see."""
        if self.plain or self.bags or self._raw is None:
            return [bag.raw for bag in self.bags]
        return [self._raw]

    def append(self, bag: Bag) -> None:
        """Add *bag* at the end."""
        self.bags.append(bag)
        self._raw = None

    def remove(self, unwanted: set[Bag]) -> list[Bag]:
        """Cut out, and return, the *unwanted* bags in here; the others keep their bytes."""
        removed = [bag for bag in self.bags if bag in unwanted]
        if removed:
            self.bags = [bag for bag in self.bags if bag not in unwanted]
            self._raw = None
        return removed

    def replace(self, revised: Mapping[Bag, Bag]) -> list[Bag]:
        """Put other bags in the places of those that are keys of *revised*; return these."""
        replaced = [bag for bag in self.bags if bag in revised]
        if replaced:
            self.bags = [revised.get(bag, bag) for bag in self.bags]
            self._raw = None
        return replaced

    def encode(
        self, password: str, keys: KeyDerivation, random_bytes: Callable[[int], bytes]
    ) -> bytes:
        """Return the ContentInfo: the bytes it came in, or new ones around the same bags."""
        if self._raw is None:
            safe = der.sequence(*(bag.raw for bag in self.bags))
            if self.plain:
                self._raw = der.sequence(DATA, der.element(der.CONTEXT_0, der.octets(safe)))
            else:
                self._raw = _close(safe, password, keys, random_bytes)
        return self._raw


def split_bags(safe: bytes, known: dict[bytes, Bag]) -> list[Bag]:
    """
    Return the bags of a SafeContents; those in *known* are taken from there.

    Raises:
        DamagedBytesError: The bytes are no SafeContents.
        FormatLimitError: There are too many bags.
    """
    start, end = der.enter_last(safe, 0, len(safe), der.SEQUENCE)
    encoded = der.split(safe, start, end, der.SEQUENCE, most=MAX_BAGS, what="entries")
    return [known.pop(raw) if raw in known else Bag(raw) for raw in encoded]


def _open(raw: bytes, start: int, end: int, password: str, keys: KeyDerivation) -> bytes:
    """Return the SafeContents inside an EncryptedData (RFC 5652, section 8)."""
    body, stop = der.enter_last(raw, start, end, der.CONTEXT_0)
    body, stop = der.enter_last(raw, body, stop, der.SEQUENCE)
    _, at = der.enter(raw, body, stop, der.INTEGER)
    at, stop = der.enter_last(raw, at, stop, der.SEQUENCE)
    _, at = der.enter(raw, at, stop, der.OID)
    body, at = der.enter(raw, at, stop, der.SEQUENCE)
    algorithm = parse_algorithm(raw[body:at])
    body, stop = der.enter_last(raw, at, stop, der.CONTEXT_0_OCTETS)
    return decrypt(Encrypted(algorithm, raw[body:stop]), password, keys)


def _close(
    safe: bytes, password: str, keys: KeyDerivation, random_bytes: Callable[[int], bytes]
) -> bytes:
    """Return an EncryptedData ContentInfo as JDK 17 writes it, under a fresh salt."""
    kdf = KdfParameters(random_bytes(SALT_SIZE), ITERATIONS, "sha256")
    algorithm = Pbes2(kdf, AES_256_KEY, random_bytes(AES_BLOCK))
    ciphertext = encrypt(algorithm, password, safe, keys)
    content = der.sequence(
        DATA, encode_pbes2(algorithm), der.element(der.CONTEXT_0_OCTETS, ciphertext)
    )
    encrypted_data = der.sequence(der.integer(0), content)
    return der.sequence(ENCRYPTED_DATA, der.element(der.CONTEXT_0, encrypted_data))
