"""
Password-based encryption: PBES2 with AES (RFC 8018) and the PKCS#12 3DES scheme (RFC 7292).

`parse_algorithm` turns an AlgorithmIdentifier into a value; `decrypt` and `encrypt` use it.
What is written is always what JDK 17 writes: PBKDF2 with HMAC-SHA-256, 10,000 iterations,
AES-256-CBC.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from metricshub_apikey.pkcs12.problems import UnsupportedFormatError

from . import der
from .kdf import IV, KEY, Derivation, KdfParameters, KeyDerivation

PBES2 = der.oid("1.2.840.113549.1.5.13")
PBKDF2 = der.oid("1.2.840.113549.1.5.12")
PBE_3DES = der.oid("1.2.840.113549.1.12.1.3")
AES_256_CBC = der.oid("2.16.840.1.101.3.4.1.42")
AES_KEY_SIZES = {
    der.oid("2.16.840.1.101.3.4.1.2"): 16,
    der.oid("2.16.840.1.101.3.4.1.22"): 24,
    AES_256_CBC: 32,
}
HMAC_SHA256 = der.oid("1.2.840.113549.2.9")

HMAC_HASHES = {
    der.oid("1.2.840.113549.2.7"): "sha1",
    der.oid("1.2.840.113549.2.8"): "sha224",
    HMAC_SHA256: "sha256",
    der.oid("1.2.840.113549.2.10"): "sha384",
    der.oid("1.2.840.113549.2.11"): "sha512",
}

SALT_SIZE = 20
ITERATIONS = 10_000
AES_BLOCK = 16
DES_BLOCK = 8
AES_256_KEY = 32
IV_HEADER = bytes((der.OCTETS, AES_BLOCK))


class Pbes2(NamedTuple):
    """PBES2 with PBKDF2 and AES-CBC; sizes in bytes."""

    kdf: KdfParameters
    key_size: int
    iv: bytes

    @property
    def block_size(self) -> int:
        """Return the cipher's block size in bytes."""
        return AES_BLOCK


class Pbe3Des(NamedTuple):
    """PbeWithSHAAnd3-KeyTripleDES-CBC: key and IV both come from the PKCS#12 KDF."""

    kdf: KdfParameters

    @property
    def block_size(self) -> int:
        """Return the cipher's block size in bytes."""
        return DES_BLOCK

    @property
    def iv(self) -> bytes:
        """Return nothing: the initialisation vector is derived."""
        return b""


Algorithm = Pbes2 | Pbe3Des


class Encrypted(NamedTuple):
    """What was encrypted, and how."""

    algorithm: Algorithm
    ciphertext: bytes


class DecryptionError(Exception):
    """The padding is wrong: another password, or damaged bytes."""


def parse_algorithm(content: bytes) -> Algorithm:
    """
    Read an AlgorithmIdentifier, given what is in it.

    Also reads the nesting `SEQ{ pbes2, SEQ{ real parameters }}` that JDK 8 wrote before 8u312.

    Raises:
        DamagedBytesError: The bytes are no AlgorithmIdentifier.
        UnsupportedFormatError: A scheme that is not read (RC2, RC4, DES, scrypt, …).
        FormatLimitError: A number in it is too large to be honest.
    """
    if content.startswith(PBES2) and content[-len(IV_HEADER) - AES_BLOCK : -AES_BLOCK] == IV_HEADER:
        # Entries of ours differ in nothing but these last bytes: read the others once.
        iv = content[-AES_BLOCK:]
        return _parse_with_iv_of_zeros(content[:-AES_BLOCK])._replace(iv=iv)
    name, parameters = split_algorithm(content, 0, len(content))
    if name == PBES2:
        return _parse_pbes2(content)
    if name != PBE_3DES:
        raise UnsupportedFormatError("is encrypted with an algorithm that is not supported")
    body, stop = der.enter_last(content, parameters, len(content), der.SEQUENCE)
    salt, at = der.enter(content, body, stop, der.OCTETS)
    count = der.read_integer(content, *der.enter_last(content, at, stop, der.INTEGER))
    return Pbe3Des(KdfParameters(content[salt:at], count, "sha1"))


@lru_cache(maxsize=256)
def _parse_with_iv_of_zeros(content: bytes) -> Pbes2:
    return _parse_pbes2(content + bytes(AES_BLOCK))


def split_algorithm(data: bytes, start: int, end: int) -> tuple[bytes, int]:
    """Return the encoded OID at *start* of an AlgorithmIdentifier, and where the rest begins."""
    _, stop = der.enter(data, start, end, der.OID)
    return data[start:stop], stop


def _parse_pbes2(content: bytes) -> Pbes2:
    body, end = der.enter_last(content, len(PBES2), len(content), der.SEQUENCE)
    if content.startswith(PBES2, body):
        body, end = der.enter_last(content, body + len(PBES2), end, der.SEQUENCE)
    kdf_body, kdf_stop = der.enter(content, body, end, der.SEQUENCE)
    kdf, key_size = parse_pbkdf2(content[kdf_body:kdf_stop])
    body, stop = der.enter_last(content, kdf_stop, end, der.SEQUENCE)
    expected = AES_KEY_SIZES.get(content[body : body + len(AES_256_CBC)])
    if expected is None:
        raise UnsupportedFormatError("is encrypted with a cipher that is not supported")
    iv_body, iv_stop = der.enter_last(content, body + len(AES_256_CBC), stop, der.OCTETS)
    if iv_stop - iv_body != AES_BLOCK or key_size not in (None, expected):
        raise der.malformed(body)
    return Pbes2(kdf, expected, content[iv_body:iv_stop])


def parse_pbkdf2(data: bytes) -> tuple[KdfParameters, int | None]:
    """
    Read PBKDF2's AlgorithmIdentifier, given its content.

    Returns:
        The parameters, and the key length in bytes where the file states one.
    """
    name, parameters = split_algorithm(data, 0, len(data))
    if name != PBKDF2:
        raise UnsupportedFormatError("derives a key in a way that is not supported")
    start, end = der.enter_last(data, parameters, len(data), der.SEQUENCE)
    salt_body, salt_stop = der.enter(data, start, end, der.OCTETS)
    count_body, at = der.enter(data, salt_stop, end, der.INTEGER)
    iterations = der.read_integer(data, count_body, at)
    key_size = None
    if at < end and data[at] == der.INTEGER:
        size_body, size_stop = der.enter(data, at, end, der.INTEGER)
        key_size, at = der.read_integer(data, size_body, size_stop), size_stop
    hash_name = _parse_prf(data, at, end) if at < end else "sha1"
    return KdfParameters(data[salt_body:salt_stop], iterations, hash_name), key_size


def _parse_prf(data: bytes, start: int, end: int) -> str:
    body, stop = der.enter_last(data, start, end, der.SEQUENCE)
    return hmac_hash(split_algorithm(data, body, stop)[0])


def hmac_hash(name: bytes) -> str:
    """Return `hashlib`'s name of the hash in an HMAC's encoded OID."""
    try:
        return HMAC_HASHES[name]
    except KeyError:
        raise UnsupportedFormatError("derives a key with a hash that is not supported") from None


def decrypt(encrypted: Encrypted, password: str, keys: KeyDerivation) -> bytes:
    """
    Return the plaintext without its PKCS#7 padding.

    A wrong password passes the padding check once in 256 times: look at the plaintext, too.

    Raises:
        DecryptionError: The padding is wrong.
        FormatLimitError: Too many iterations.
    """
    (plaintext,) = decrypt_all([encrypted], password, keys)
    if plaintext is None:
        raise DecryptionError
    return plaintext


def decrypt_all(
    encrypted: Sequence[Encrypted], password: str, keys: KeyDerivation
) -> list[bytes | None]:
    """Decrypt many at once; None stands where the padding is wrong. Raises as `decrypt` does."""
    groups: dict[tuple[Derivation, ...], list[int]] = {}
    for index, one in enumerate(encrypted):
        if one.ciphertext and len(one.ciphertext) % one.algorithm.block_size == 0:
            groups.setdefault(derivations(one.algorithm), []).append(index)
    plaintexts: list[bytes | None] = [None] * len(encrypted)
    for wanted, indexes in groups.items():
        derived = [keys.derive(password, one) for one in wanted]
        opened = _decrypt_group([encrypted[index] for index in indexes], *derived)
        for index, plaintext in zip(indexes, opened, strict=True):
            plaintexts[index] = plaintext
    return plaintexts


def _decrypt_group(
    group: list[Encrypted], key: bytes, derived_iv: bytes = b""
) -> Iterator[bytes | None]:
    """
    Decrypt what is under one key.

    CBC needs of the past just the block before, and each chain brings its first one along as
    its IV: one pass opens them all, strung together. That is what makes large keystores fast.
    """
    size = group[0].algorithm.block_size
    strung = b"".join((one.algorithm.iv or derived_iv) + one.ciphertext for one in group)
    plain = _cipher(group[0].algorithm, key, bytes(size)).decryptor().update(strung)
    stop = 0
    for one in group:
        start = stop + size
        stop = start + len(one.ciphertext)
        yield _without_padding(plain[start:stop], size)


def _without_padding(padded: bytes, block_size: int) -> bytes | None:
    size = padded[-1]
    if not 1 <= size <= block_size or not padded.endswith(bytes([size]) * size):
        return None
    return padded[:-size]


def encrypt(algorithm: Pbes2, password: str, plaintext: bytes, keys: KeyDerivation) -> bytes:
    """Return the ciphertext of *plaintext* with PKCS#7 padding."""
    size = AES_BLOCK - len(plaintext) % AES_BLOCK
    (wanted,) = derivations(algorithm)
    encryptor = _cipher(algorithm, keys.derive(password, wanted), algorithm.iv).encryptor()
    return encryptor.update(plaintext + bytes([size]) * size) + encryptor.finalize()


def derivations(algorithm: Algorithm) -> tuple[Derivation, ...]:
    """Return what is to be derived: PBES2's key, or 3DES's key and initialisation vector."""
    if isinstance(algorithm, Pbes2):
        return (Derivation(algorithm.kdf, algorithm.key_size),)
    return Derivation(algorithm.kdf, 24, KEY), Derivation(algorithm.kdf, 8, IV)


def _cipher(algorithm: Algorithm, key: bytes, iv: bytes) -> Cipher[CBC]:
    if isinstance(algorithm, Pbes2):
        return Cipher(AES(key), CBC(iv))
    # Only keystores that an old JDK wrote have it: most runs do not pay for the import.
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES

    return Cipher(TripleDES(key), CBC(iv))


def encode_pbes2(algorithm: Pbes2) -> bytes:
    """Return the AlgorithmIdentifier as JDK 17 writes it, keyLength and prf always present."""
    kdf = algorithm.kdf
    prf = der.sequence(HMAC_SHA256, der.NULL)
    parameters = der.sequence(
        der.octets(kdf.salt), der.integer(kdf.iterations), der.integer(algorithm.key_size), prf
    )
    cipher = der.sequence(AES_256_CBC, der.octets(algorithm.iv))
    return der.sequence(PBES2, der.sequence(der.sequence(PBKDF2, parameters), cipher))
