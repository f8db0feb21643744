"""Password-based encryption: what OpenSSL and JDK 17 wrote is read, and written the same."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

import builders
from builders import (
    AES_CBC,
    BAD_COUNTS,
    EMPTY_INTEGER,
    HMACS,
    IV,
    PASSWORDS,
    SALT,
    examples,
    pbe_3des,
    pbes2,
    pbkdf2,
    pbkdf2_key,
)
from metricshub_apikey.keystore.keystore import STOCK_PASSWORDS
from metricshub_apikey.pkcs12 import der
from metricshub_apikey.pkcs12.kdf import KdfParameters, KeyDerivation
from metricshub_apikey.pkcs12.pbe import (
    DecryptionError,
    Encrypted,
    Pbe3Des,
    Pbes2,
    decrypt,
    decrypt_all,
    derivations,
    encode_pbes2,
    encrypt,
    parse_algorithm,
)
from metricshub_apikey.pkcs12.problems import (
    DamagedBytesError,
    FormatError,
    FormatLimitError,
    UnsupportedFormatError,
)
from metricshub_apikey.pkcs12.store import Store
from places import VECTORS

# An X25519 key in PKCS#8, and what OpenSSL 3.0.19 made of it:
#   openssl pkcs8 -topk8 -v2 CIPHER -v2prf PRF -iter 100 -passout pass:entry-password
# OpenSSL writes no keyLength, and no prf where it is HMAC-SHA-1.
OPENSSL_KEY = (
    "302e020100300506032b656e0422"  # up to the key itself
    "042060bff5644c1bbd7e2afbc3fbffcac62b7d0ea962e73e2120f9d3e25d2662a067"
)
OPENSSL_ENCRYPTED = {
    ("sha1", 16): (
        "30818c304806092a864886f70d01050d303b301a06092a864886f70d01050c300d04080ad2a7af1b337f19"
        "020164301d060960864801650304010204100e8435eb0cd6d274a00801c254c2803804408adfc82f7ed73ac6"
        "134cc66e8322298055f8e7bb2551f3678420ed890427e83a783c8dbed6c097be26b057c1a7a757034b1ac3e4"
        "0f5e024fb4522396b725943c"
    ),
    ("sha224", 24): (
        "30819a305606092a864886f70d01050d3049302806092a864886f70d01050c301b0408ff9cae9a45e957bd"
        "020164300c06082a864886f70d02080500301d0609608648016503040116041040c37bdd90d4c781a39e6e58"
        "5fea31f80440d842644150cc0c266114eed1b96dfaf635702e5f8dcb184ca3ca0cde64727ce909a1806318f5"
        "2d215ac77a6371e41b518e9893d33c0512314157162a3dafeb7b"
    ),
    ("sha256", 32): (
        "30819a305606092a864886f70d01050d3049302806092a864886f70d01050c301b0408cdc49a5d80316c72"
        "020164300c06082a864886f70d02090500301d060960864801650304012a04100b5903a5a0dd3b5754d21f66"
        "8dbebe5904400279e7e9ac3751a1c3a87f524de4f5e756d5522cedf9a93f8f53fd4ce4e828187036af484e90"
        "11fa506ee6b0d640d9564eeab497454a6910c8c564c9f3faef35"
    ),
    ("sha384", 16): (
        "30819a305606092a864886f70d01050d3049302806092a864886f70d01050c301b0408614b1465c70c4c61"
        "020164300c06082a864886f70d020a0500301d060960864801650304010204101e29e692b107cd25e958a71d"
        "b1ed1c1404406b2231ea72857ef7b2f1bd98d0e8e04d9e2a668d1c6f9d5e44d9762959da79449c912d5cf6af"
        "47500ec8afc5bf51593649fa71b1cde9340bab3b4042d17aa702"
    ),
    ("sha512", 32): (
        "30819a305606092a864886f70d01050d3049302806092a864886f70d01050c301b04082120baafdf303cfb"
        "020164300c06082a864886f70d020b0500301d060960864801650304012a04102f09a0408c6a595c4f32ce76"
        "4e856f470440031e04359ee6ee5b3181b404f09f9cde0d4803bf7bf4ec6b0422dbdd5c0f64b5cf8a34a7fda9"
        "f504a4891db673ab89234ea982f53c781cb43d6b9b4d5881453e"
    ),
}
OPENSSL_3DES = (
    "3057301b060a2a864886f70d010c0103300d0408656654aa6b008491020164043863b59fabe80f7fb7f6252102"
    "3df37150130a20403911dee8fc919abd758a43adb7b563b265d0790a553ddfc3bad4e8e6de2e28a99cd4a456"
)

UNSUPPORTED_SCHEMES = {
    "RC4-128": "1.2.840.113549.1.12.1.1",
    "RC4-40": "1.2.840.113549.1.12.1.2",
    "3DES with two keys": "1.2.840.113549.1.12.1.4",
    "RC2-128": "1.2.840.113549.1.12.1.5",
    "RC2-40": "1.2.840.113549.1.12.1.6",
    "MD5 and DES": "1.2.840.113549.1.5.3",
    "SHA-1 and DES": "1.2.840.113549.1.5.10",
    "AES-256-CBC alone": "2.16.840.1.101.3.4.1.42",
}
UNSUPPORTED_CIPHERS = {
    "DES": "1.3.14.3.2.7",
    "3DES": "1.2.840.113549.3.7",
    "RC2": "1.2.840.113549.3.2",
    "AES-256-GCM": "2.16.840.1.101.3.4.1.46",
    "Camellia-256": "1.2.392.200011.61.1.1.1.4",
}
UNSUPPORTED_PRFS = {
    "HMAC-MD5": "1.2.840.113549.2.6",
    "HMAC-SHA-512/256": "1.2.840.113549.2.13",
    "HMAC-SHA3-256": "2.16.840.1.101.3.4.2.14",
}


def content(element: bytes) -> bytes:
    """Return what is in a SEQUENCE."""
    start, end = der.enter(element, 0, len(element), der.SEQUENCE)
    return element[start:end]


def parse(algorithm: bytes) -> Pbes2 | Pbe3Des:
    """Read a whole AlgorithmIdentifier."""
    return parse_algorithm(content(algorithm))


def parse_encrypted(shrouded: str) -> Encrypted:
    """Read an EncryptedPrivateKeyInfo, given in hexadecimal."""
    data = bytes.fromhex(shrouded)
    start, end = der.enter(data, 0, len(data), der.SEQUENCE)
    body, stop = der.enter(data, start, end, der.SEQUENCE)
    algorithm = parse_algorithm(data[body:stop])
    body, stop = der.enter(data, stop, end, der.OCTETS)
    return Encrypted(algorithm, data[body:stop])


def open_one(algorithm: bytes, ciphertext: bytes) -> bytes:
    """Decrypt with the entry password."""
    return decrypt(
        Encrypted(parse(algorithm), ciphertext), PASSWORDS.entries.reveal(), KeyDerivation()
    )


# Reading


@pytest.mark.parametrize(("hash_name", "key_size"), OPENSSL_ENCRYPTED)
def test_what_openssl_encrypted_with_pbes2_is_read(hash_name: str, key_size: int) -> None:
    """Every PRF and every AES size opens, though OpenSSL leaves out what has a default."""
    encrypted = parse_encrypted(OPENSSL_ENCRYPTED[hash_name, key_size])
    assert isinstance(encrypted.algorithm, Pbes2)
    assert encrypted.algorithm.kdf[1:] == (100, hash_name)
    assert encrypted.algorithm.key_size == key_size
    assert decrypt(encrypted, PASSWORDS.entries.reveal(), KeyDerivation()).hex() == OPENSSL_KEY


def test_what_openssl_encrypted_with_3des_is_read() -> None:
    """The key and the initialisation vector come from the PKCS#12 KDF."""
    encrypted = parse_encrypted(OPENSSL_3DES)
    assert isinstance(encrypted.algorithm, Pbe3Des)
    assert encrypted.algorithm.kdf[1:] == (100, "sha1")
    assert decrypt(encrypted, PASSWORDS.entries.reveal(), KeyDerivation()).hex() == OPENSSL_KEY


@pytest.mark.parametrize("hash_name", HMACS)
@pytest.mark.parametrize("size", AES_CBC)
@pytest.mark.parametrize("key_length", ["present", "absent"])
def test_every_prf_and_key_size_is_read(hash_name: str, size: int, key_length: str) -> None:
    """All fifteen pairs open, whether the file states the key's length or not."""
    length = der.integer(size) if key_length == "present" else b""
    algorithm = pbes2(pbkdf2(key_length=length, prf=HMACS[hash_name]), cipher=AES_CBC[size])
    key = pbkdf2_key(PASSWORDS.entries.reveal(), hash_name, size)
    assert parse(algorithm) == Pbes2(KdfParameters(SALT, 1, hash_name), size, IV)
    assert open_one(algorithm, builders.aes(key, builders.pad(b"plain"))) == b"plain"


@pytest.mark.parametrize("key_length", [der.integer(32), b""])
def test_without_a_prf_it_is_sha1(key_length: bytes) -> None:
    """The default of RFC 8018 is HMAC-SHA-1, with a keyLength and without."""
    algorithm = pbes2(pbkdf2(prf=b"", key_length=key_length))
    assert parse(algorithm).kdf.hash_name == "sha1"
    key = pbkdf2_key(PASSWORDS.entries.reveal(), "sha1", 32)
    assert open_one(algorithm, builders.aes(key, builders.pad(b"plain"))) == b"plain"


@pytest.mark.parametrize("key_length", [16, 24, 31, 33, 0, -1])
def test_a_key_length_that_does_not_fit_the_cipher_is_refused(key_length: int) -> None:
    """AES-256 takes 32 bytes and nothing else."""
    with pytest.raises(DamagedBytesError):
        parse(pbes2(pbkdf2(key_length=der.integer(key_length))))


@pytest.mark.parametrize("size", [0, 8, 15, 17, 32])
def test_an_iv_of_another_size_is_refused(size: int) -> None:
    """CBC with AES takes 16 bytes and nothing else."""
    with pytest.raises(DamagedBytesError):
        parse(pbes2(iv=bytes(size)))


def test_an_iv_that_looks_like_two_is_refused() -> None:
    """An initialisation vector is not found by its last bytes alone."""
    with pytest.raises(DamagedBytesError):
        parse(pbes2(iv=bytes(8) + der.octets(bytes(16))))


def test_the_nesting_of_jdk_8_is_read() -> None:
    """The parameters may stand in another SEQUENCE behind another PBES2 OID."""
    ciphertext = builders.aes_encrypt(b"plain", PASSWORDS.entries.reveal())
    assert parse(pbes2(nested=True)) == parse(pbes2())
    assert open_one(pbes2(nested=True), ciphertext) == b"plain"


def test_the_nesting_of_jdk_8_is_read_once() -> None:
    """No runtime ever nested the parameters twice."""
    with pytest.raises(DamagedBytesError):
        parse(der.sequence(builders.PBES2, pbes2(nested=True)))


@pytest.mark.parametrize("scheme", UNSUPPORTED_SCHEMES)
def test_other_schemes_are_unsupported(scheme: str) -> None:
    """RC2, RC4, DES and whatever else an entry may be under is told from damage."""
    with pytest.raises(UnsupportedFormatError, match="algorithm that is not supported"):
        parse(pbe_3des(scheme=der.oid(UNSUPPORTED_SCHEMES[scheme])))


@pytest.mark.parametrize("cipher", UNSUPPORTED_CIPHERS)
def test_other_ciphers_are_unsupported(cipher: str) -> None:
    """PBES2 with another cipher than AES-CBC is told from damage."""
    with pytest.raises(UnsupportedFormatError, match="cipher that is not supported"):
        parse(pbes2(cipher=der.oid(UNSUPPORTED_CIPHERS[cipher]), iv=bytes(8)))


@pytest.mark.parametrize("prf", UNSUPPORTED_PRFS)
def test_other_prfs_are_unsupported(prf: str) -> None:
    """PBKDF2 under another hash is told from damage."""
    with pytest.raises(UnsupportedFormatError, match="hash that is not supported"):
        parse(pbes2(pbkdf2(prf=der.oid(UNSUPPORTED_PRFS[prf]))))


def test_scrypt_is_unsupported() -> None:
    """PBES2 with another key derivation is told from damage."""
    cost = (der.integer(16384), der.integer(8), der.integer(1))
    scrypt = der.sequence(
        der.oid("1.3.6.1.4.1.11591.4.11"), der.sequence(der.octets(SALT), *cost, der.integer(32))
    )
    with pytest.raises(UnsupportedFormatError, match="derives a key in a way"):
        parse(pbes2(scrypt))


@pytest.mark.parametrize("name", ["2^64", "20 bytes"])
def test_counts_of_more_than_8_bytes_are_refused(name: str) -> None:
    """Such a count is not even computed."""
    for algorithm in (pbes2(pbkdf2(BAD_COUNTS[name])), pbe_3des(BAD_COUNTS[name])):
        with pytest.raises(FormatLimitError, match="limit of 8 bytes"):
            parse(algorithm)


def test_an_empty_count_is_damage() -> None:
    """An INTEGER without content is no number."""
    for algorithm in (pbes2(pbkdf2(EMPTY_INTEGER)), pbe_3des(EMPTY_INTEGER)):
        with pytest.raises(DamagedBytesError):
            parse(algorithm)


@pytest.mark.parametrize("algorithm", [pbes2(), pbes2(nested=True), pbe_3des()])
def test_a_truncated_algorithm_is_damage(algorithm: bytes) -> None:
    """What lacks its last bytes, one or all, is never read as something else."""
    whole = content(algorithm)
    for size in range(len(whole)):
        with pytest.raises(DamagedBytesError):
            parse_algorithm(whole[:size])


@given(
    st.binary(max_size=16), st.integers(-(2**63), 2**63 - 1), st.binary(min_size=16, max_size=16)
)
@examples(50)
def test_what_is_written_is_read(salt: bytes, iterations: int, iv: bytes) -> None:
    """Salt, count and initialisation vector come back, whatever the bytes look like."""
    algorithm = Pbes2(KdfParameters(salt, iterations, "sha256"), 32, iv)
    assert parse(encode_pbes2(algorithm)) == algorithm


@given(st.binary(max_size=80), st.sampled_from([b"", builders.PBES2, builders.PBE_3DES]))
@examples(200)
def test_random_bytes_raise_nothing_else(data: bytes, prefix: bytes) -> None:
    """Whatever the bytes are: they are read, or one of the project's errors is raised."""
    with suppress(FormatError):
        assert derivations(parse_algorithm(prefix + data))


# Padding


@pytest.mark.parametrize(
    "padded",
    [
        bytes(16),
        b"x" * 15 + b"\x11",
        b"x" * 14 + b"\x01\x02",
        b"x" * 13 + b"\x02\x03\x03",
        b"\x0f" + b"\x10" * 15,
        b"x" * 15 + b"\xff",
    ],
)
def test_wrong_padding_is_refused(padded: bytes) -> None:
    """The last byte says how many there are, 1 to 16, and all of them say the same."""
    key = pbkdf2_key(PASSWORDS.entries.reveal(), "sha256", 32)
    with pytest.raises(DecryptionError):
        open_one(pbes2(), builders.aes(key, padded))


@pytest.mark.parametrize("size", [0, 1, 8, 15, 17, 31])
def test_a_ciphertext_is_whole_blocks(size: int) -> None:
    """No ciphertext, or half a block too much, is refused before any key is derived."""
    with pytest.raises(DecryptionError):
        open_one(pbes2(pbkdf2(BAD_COUNTS["2^31"])), bytes(size))


def test_3des_takes_blocks_of_8_bytes() -> None:
    """Ciphertexts that AES could not have are fine, and half blocks are not."""
    ciphertext = builders.des3_encrypt(b"0123456", PASSWORDS.entries.reveal())
    assert len(ciphertext) == 8
    assert open_one(pbe_3des(), ciphertext) == b"0123456"
    with pytest.raises(DecryptionError):
        open_one(pbe_3des(), ciphertext[:4])


@given(st.binary(max_size=70))
@examples(50)
def test_whatever_is_encrypted_is_decrypted(plaintext: bytes) -> None:
    """Plaintexts of every size come back, and `cryptography` makes the same ciphertext."""
    algorithm = Pbes2(KdfParameters(SALT, 1, "sha256"), 32, IV)
    ciphertext = encrypt(algorithm, PASSWORDS.entries.reveal(), plaintext, KeyDerivation())
    assert ciphertext == builders.aes_encrypt(plaintext, PASSWORDS.entries.reveal())
    assert open_one(encode_pbes2(algorithm), ciphertext) == plaintext


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["aes", "other aes", "3des", "wrong", "odd"]),
            st.binary(max_size=40),
            st.binary(min_size=16, max_size=16),
        ),
        max_size=8,
    )
)
@examples(50)
def test_many_are_decrypted_in_their_order(
    secrets: list[tuple[str, bytes, bytes]],
) -> None:
    """Each of a mixture opens as it would alone; None stands where one cannot be."""
    mixture, expected = [], []
    for kind, plaintext, iv in secrets:
        algorithm, ciphertext = pbes2(iv=iv), b"half a block"
        if kind == "aes":
            ciphertext = builders.aes_encrypt(plaintext, PASSWORDS.entries.reveal(), iv=iv)
        elif kind == "other aes":
            key = pbkdf2_key(PASSWORDS.entries.reveal(), "sha512", 16)
            kdf = pbkdf2(key_length=b"", prf=HMACS["sha512"])
            algorithm = pbes2(kdf, cipher=AES_CBC[16], iv=iv)
            ciphertext = builders.aes(key, builders.pad(plaintext), iv)
        elif kind == "3des":
            algorithm = pbe_3des()
            ciphertext = builders.des3_encrypt(plaintext, PASSWORDS.entries.reveal())
        elif kind == "wrong":
            key = pbkdf2_key(PASSWORDS.entries.reveal(), "sha256", 32)
            ciphertext = builders.aes(key, bytes(16), iv)
        mixture.append(Encrypted(parse(algorithm), ciphertext))
        expected.append(None if kind in ("wrong", "odd") else plaintext)
    assert decrypt_all(mixture, PASSWORDS.entries.reveal(), KeyDerivation()) == expected


def test_too_many_iterations_are_refused() -> None:
    """A count that the format allows and the limit does not is no wrong password."""
    for algorithm in (pbes2(pbkdf2(BAD_COUNTS["2^31"])), pbe_3des(BAD_COUNTS["zero"])):
        with pytest.raises(FormatLimitError, match="limit of 1 to 1,000,000"):
            open_one(algorithm, bytes(16))


# Writing


def test_jdk_17_writes_the_same_bytes() -> None:
    """What JDK 17 wrote, taken apart and written again, is what JDK 17 wrote."""
    store = Store.parse((VECTORS / "jdk17.0.15.p12").read_bytes(), STOCK_PASSWORDS)
    keys = KeyDerivation()
    for bag in store.find("user:admin") + store.find("api_key:mcp-openai"):
        encrypted = bag.encrypted()
        algorithm = encrypted.algorithm
        assert isinstance(algorithm, Pbes2)
        assert algorithm.kdf[1:] == (10_000, "sha256")
        written = encode_pbes2(algorithm)
        assert written + der.octets(encrypted.ciphertext) in bag.raw
        plaintext = decrypt(encrypted, STOCK_PASSWORDS.entries.reveal(), keys)
        again = encrypt(algorithm, STOCK_PASSWORDS.entries.reveal(), plaintext, keys)
        assert again == encrypted.ciphertext


def test_no_repr_shows_a_secret() -> None:
    """What a traceback may show of something encrypted is what the file shows, too."""
    ciphertext = builders.aes_encrypt(b"hunter2", PASSWORDS.entries.reveal())
    encrypted = Encrypted(parse(pbes2()), ciphertext)
    keys = KeyDerivation()
    decrypt(encrypted, PASSWORDS.entries.reveal(), keys)
    shown = f"{encrypted!r} {keys!r} {derivations(encrypted.algorithm)!r}"
    assert "hunter2" not in shown
    assert PASSWORDS.entries.reveal() not in shown
    assert repr(pbkdf2_key(PASSWORDS.entries.reveal(), "sha256", 32)) not in shown
