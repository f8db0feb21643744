"""
One SafeBag (RFC 7292, section 4.2), kept as the very bytes it came in.

Whatever is inside, known or not, is written back as it was read. A bag looks into its bytes only
when asked: for its alias, its creation time, or the encrypted value of a secret.
"""

from __future__ import annotations

from metricshub_apikey.errors import EntryUnreadableError
from metricshub_apikey.pkcs12.problems import (
    DamagedBytesError,
    FormatLimitError,
    UnsupportedFormatError,
)

from . import der
from .attributes import CREATION_TIME, TextAttributes, Texts, encode_names, read_names
from .kdf import MAX_ITERATIONS
from .pbe import Encrypted, Pbes2, encode_pbes2, parse_algorithm

SECRET_BAG = der.oid("1.2.840.113549.1.12.10.1.5")
SHROUDED_KEY_BAG = der.oid("1.2.840.113549.1.12.10.1.2")
AES = der.oid("2.16.840.1.101.3.4.1")

LAST_MS = 253_402_300_799_999  # the end of the year 9999
MAX_ALGORITHM = 4_096  # Java's has 102 bytes


class Bag:
    """
    A SafeBag.

    Attributes:
        raw: Its encoding, from the first byte to the last.
        alias: The friendlyName folded to lower case as Java does, or None.
    """

    __slots__ = ("_attributes", "_local_key_id", "_value", "alias", "raw")

    def __init__(self, raw: bytes) -> None:
        """
        Read the outline of *raw*, one whole SafeBag.

        Raises:
            DamagedBytesError: The bytes are not a SafeBag.
        """
        start, end = der.enter_last(raw, 0, len(raw), der.SEQUENCE)
        _, value = der.enter(raw, start, end, der.OID)
        _, self._attributes = der.enter(raw, value, end, der.CONTEXT_0)
        self.raw = raw
        self._value = value
        name, self._local_key_id = read_names(raw, self._attributes)
        self.alias = None if name is None else fold(name.decode("utf-16-be", "surrogatepass"))

    @property
    def created_ms(self) -> int | None:
        """Milliseconds since 1970 UTC, as Java keeps them in the localKeyID; None if it is odd."""
        local_key_id = self._local_key_id or b""
        digits = local_key_id.removeprefix(CREATION_TIME)
        if digits == local_key_id or not digits.isdigit() or len(digits) > len(str(LAST_MS)):
            return None
        return int(digits) if int(digits) <= LAST_MS else None

    def texts(self, attributes: TextAttributes) -> Texts:
        """Return the texts in the *attributes* of one arc, by their number."""
        return attributes.read(self.raw, self._attributes)

    def revise(
        self,
        attributes: TextAttributes,
        texts: Texts,
        *,
        alias: str | None = None,
        secret: tuple[Pbes2, bytes] | None = None,
    ) -> Bag:
        """
        Return this entry with other *texts*; what is not given stays byte for byte as it is.

        Args:
            attributes: The arc that the texts belong to.
            texts: Values by number; () takes the attribute away.
            alias: Another name, in lower case.
            secret: Another value: how it is encrypted, and the ciphertext.
        """
        start, _ = der.enter(self.raw, 0, len(self.raw), der.SEQUENCE)
        kept = self.raw[self._value : self._attributes]
        value = kept if secret is None else _encode_value(*secret)
        others = attributes.replace(self.raw, self._attributes, texts, alias=alias)
        return Bag(der.sequence(self.raw[start : self._value], value, der.element(der.SET, others)))

    def encrypted(self) -> Encrypted:
        """
        Return the encrypted value of a secret.

        Raises:
            EntryUnreadableError: This is no secret entry, or not one that can be decrypted.
        """
        try:
            return self._read_encrypted()
        except DamagedBytesError as error:
            raise EntryUnreadableError("it is not a secret entry") from error
        except (UnsupportedFormatError, FormatLimitError) as error:
            raise EntryUnreadableError(f"it {error}") from error

    def _read_encrypted(self) -> Encrypted:
        raw = self.raw
        if not raw.startswith(SECRET_BAG, self._value - len(SECRET_BAG)):
            raise der.malformed(self._value)
        outer, end = der.enter(raw, self._value, len(raw), der.CONTEXT_0)
        body, end = der.enter(raw, outer, end, der.SEQUENCE)
        if not raw.startswith(SHROUDED_KEY_BAG, body):
            raise UnsupportedFormatError("is not stored as a shrouded key")
        at, end = der.enter(raw, body + len(SHROUDED_KEY_BAG), end, der.CONTEXT_0)
        at, end = der.enter(raw, at, end, der.OCTETS)
        at, end = der.enter(raw, at, end, der.SEQUENCE)
        body, stop = der.enter(raw, at, end, der.SEQUENCE)
        if stop - body > MAX_ALGORITHM:
            raise FormatLimitError(f"has parameters over the limit of {MAX_ALGORITHM:,} bytes")
        algorithm = parse_algorithm(raw[body:stop])
        if not 1 <= algorithm.kdf.iterations <= MAX_ITERATIONS:
            raise FormatLimitError(
                f"has an iteration count outside the limit of 1 to {MAX_ITERATIONS:,}"
            )
        body, stop = der.enter(raw, stop, end, der.OCTETS)
        return Encrypted(algorithm, raw[body:stop])


def fold(alias: str) -> str:
    """Return *alias* as Java stores and compares it: `toLowerCase(Locale.ENGLISH)`."""
    return alias.lower()


def secret_value(plaintext: bytes) -> bytes:
    """
    Return the value inside a decrypted secret, `SEQ{ INT 0, AlgorithmIdentifier, OCTETS value }`.

    Raises:
        DamagedBytesError: The plaintext is no such structure; so the password was wrong.
    """
    start, end = der.enter(plaintext, 0, len(plaintext), der.SEQUENCE)
    _, at = der.enter(plaintext, start, end, der.INTEGER)
    _, at = der.enter(plaintext, at, end, der.SEQUENCE)
    body, stop = der.enter(plaintext, at, end, der.OCTETS)
    return plaintext[body:stop]


def encode_secret(value: bytes) -> bytes:
    """Return the plaintext of a secret; NULL after the OID, as JDK 17 writes it."""
    return der.sequence(der.integer(0), der.sequence(AES, der.NULL), der.octets(value))


def encode_bag(
    alias: str, created_ms: int, algorithm: Pbes2, ciphertext: bytes, attributes: bytes = b""
) -> bytes:
    """
    Return a secret's SafeBag, byte for byte as JDK 17 writes it.

    Args:
        alias: In lower case.
        created_ms: Milliseconds since 1970 UTC.
        algorithm: How the ciphertext is encrypted.
        ciphertext: What `encode_secret` returned, encrypted.
        attributes: More of them, encoded, to stand behind the two of Java's.
    """
    names = encode_names(alias, created_ms)
    value = _encode_value(algorithm, ciphertext)
    return der.sequence(SECRET_BAG, value, der.element(der.SET, names, attributes))


def _encode_value(algorithm: Pbes2, ciphertext: bytes) -> bytes:
    shrouded = der.sequence(encode_pbes2(algorithm), der.octets(ciphertext))
    key_bag = der.sequence(SHROUDED_KEY_BAG, der.element(der.CONTEXT_0, der.octets(shrouded)))
    return der.element(der.CONTEXT_0, key_bag)
