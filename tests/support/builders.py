"""
Odd keystores for the tests of the bytes layer, sealed with a correct MAC.

Keys come from `hashlib` and ciphers from `cryptography`, so that what is built here does not
depend on the code that reads it. Only the PKCS#12 KDF is the project's own; test_kdf.py holds it
against OpenSSL's. One iteration is the default: it keeps the tests quick.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from hypothesis import settings
from hypothesis import strategies as st

from metricshub_apikey.errors import EntryUnreadableError
from metricshub_apikey.keys.api_key import ENTRY_PREFIX
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.pkcs12 import der
from metricshub_apikey.pkcs12.bag import Bag
from metricshub_apikey.pkcs12.kdf import KdfParameters, Passwords, pkcs12_kdf
from metricshub_apikey.pkcs12.store import Store

PASSWORDS = Passwords("store-password", "entry-password")
SALT = bytes(range(20))
IV = bytes(range(16, 32))
CREATED = 1_700_000_000_000
ONE = der.integer(1)

DATA = der.oid("1.2.840.113549.1.7.1")
SIGNED_DATA = der.oid("1.2.840.113549.1.7.2")
ENCRYPTED_DATA = der.oid("1.2.840.113549.1.7.6")
KEY_BAG = der.oid("1.2.840.113549.1.12.10.1.1")
SHROUDED_KEY_BAG = der.oid("1.2.840.113549.1.12.10.1.2")
CERT_BAG = der.oid("1.2.840.113549.1.12.10.1.3")
SECRET_BAG = der.oid("1.2.840.113549.1.12.10.1.5")
FRIENDLY_NAME = der.oid("1.2.840.113549.1.9.20")
LOCAL_KEY_ID = der.oid("1.2.840.113549.1.9.21")
PRIVATE = der.oid("1.3.6.1.4.1.99999.1")

PBES2 = der.oid("1.2.840.113549.1.5.13")
PBKDF2 = der.oid("1.2.840.113549.1.5.12")
PBMAC1 = der.oid("1.2.840.113549.1.5.14")
PBE_3DES = der.oid("1.2.840.113549.1.12.1.3")
AES_CBC = {
    16: der.oid("2.16.840.1.101.3.4.1.2"),
    24: der.oid("2.16.840.1.101.3.4.1.22"),
    32: der.oid("2.16.840.1.101.3.4.1.42"),
}
HMACS = {
    "sha1": der.oid("1.2.840.113549.2.7"),
    "sha224": der.oid("1.2.840.113549.2.8"),
    "sha256": der.oid("1.2.840.113549.2.9"),
    "sha384": der.oid("1.2.840.113549.2.10"),
    "sha512": der.oid("1.2.840.113549.2.11"),
}
HASHES = {
    "sha1": der.oid("1.3.14.3.2.26"),
    "sha224": der.oid("2.16.840.1.101.3.4.2.4"),
    "sha256": der.oid("2.16.840.1.101.3.4.2.1"),
    "sha384": der.oid("2.16.840.1.101.3.4.2.2"),
    "sha512": der.oid("2.16.840.1.101.3.4.2.3"),
}

BAD_COUNTS = {
    "zero": der.integer(0),
    "negative": der.integer(-1),
    "one more than the limit": der.integer(1_000_001),
    "2^31": der.integer(2**31),
    "2^64": der.integer(2**64),
    "20 bytes": der.integer(2**159 - 1),
}
EMPTY_INTEGER = b"\x02\x00"


def examples(count: int) -> settings:
    """Return Hypothesis settings: that many examples, and no deadline for slow machines."""
    return settings(max_examples=count, deadline=None)


# Encryption


@cache
def pbkdf2_key(password: str, hash_name: str, size: int, iterations: int = 1) -> bytes:
    """Return what PBKDF2 makes of *password* and `SALT`."""
    return hashlib.pbkdf2_hmac(hash_name, password.encode(), SALT, iterations, size)


def pad(plaintext: bytes, block: int = 16) -> bytes:
    """Return *plaintext* with PKCS#7 padding."""
    size = block - len(plaintext) % block
    return plaintext + bytes([size]) * size


def aes(key: bytes, padded: bytes, iv: bytes = IV) -> bytes:
    """Encrypt whole blocks with AES-CBC."""
    encryptor = Cipher(AES(key), CBC(iv)).encryptor()
    return encryptor.update(padded) + encryptor.finalize()


def aes_encrypt(plaintext: bytes, password: str, *, iv: bytes = IV) -> bytes:
    """Encrypt as the default `pbes2()` says."""
    return aes(pbkdf2_key(password, "sha256", 32), pad(plaintext), iv)


def des3_encrypt(plaintext: bytes, password: str) -> bytes:
    """Encrypt as the default `pbe_3des()` says."""
    kdf = KdfParameters(SALT, 1, "sha1")
    key, iv = pkcs12_kdf(password, 1, kdf, 24), pkcs12_kdf(password, 2, kdf, 8)
    encryptor = Cipher(TripleDES(key), CBC(iv)).encryptor()
    return encryptor.update(pad(plaintext, 8)) + encryptor.finalize()


def pbkdf2(
    count: bytes = ONE,
    *,
    key_length: bytes = der.integer(32),
    prf: bytes = HMACS["sha256"],
    salt: bytes = SALT,
) -> bytes:
    """Return PBKDF2's AlgorithmIdentifier; an empty *key_length* or *prf* is left out."""
    hash_part = der.sequence(prf, der.NULL) if prf else b""
    return der.sequence(PBKDF2, der.sequence(der.octets(salt), count, key_length, hash_part))


def pbes2(
    kdf: bytes | None = None, *, cipher: bytes = AES_CBC[32], iv: bytes = IV, nested: bool = False
) -> bytes:
    """Return PBES2's AlgorithmIdentifier; *nested* is how JDK 8 before 8u312 wrote it."""
    parameters = der.sequence(kdf or pbkdf2(), der.sequence(cipher, der.octets(iv)))
    if nested:
        parameters = der.sequence(PBES2, parameters)
    return der.sequence(PBES2, parameters)


def pbe_3des(count: bytes = ONE, *, scheme: bytes = PBE_3DES) -> bytes:
    """Return the AlgorithmIdentifier of 3DES, or of another *scheme* with these parameters."""
    return der.sequence(scheme, der.sequence(der.octets(SALT), count))


# Bags


def attribute(name: bytes, *values: bytes) -> bytes:
    """Return one bag attribute."""
    return der.sequence(name, der.element(der.SET, *values))


def friendly_name(alias: str) -> bytes:
    """Return the attribute that names a bag; lone surrogates are written, too."""
    text = alias.encode("utf-16-be", "surrogatepass")
    return attribute(FRIENDLY_NAME, der.element(der.BMP_STRING, text))


def local_key_id(content: bytes = b"Time %d" % CREATED) -> bytes:
    """Return the attribute that dates a bag."""
    return attribute(LOCAL_KEY_ID, der.octets(content))


def any_bag(kind: bytes, value: bytes, *attributes: bytes) -> bytes:
    """Return a SafeBag of any kind; without attributes, it has no SET for them."""
    last = der.element(der.SET, *attributes) if attributes else b""
    return der.sequence(kind, der.element(der.CONTEXT_0, value), last)


def cert_bag(alias: str) -> bytes:
    """Return something like a bag with a certificate."""
    x509 = der.oid("1.2.840.113549.1.9.22.1")
    body = der.sequence(x509, der.element(der.CONTEXT_0, der.octets(b"not a certificate")))
    return any_bag(CERT_BAG, body, friendly_name(alias))


def secret_plaintext(value: bytes) -> bytes:
    """Return a secret as JDK 17 encrypts it."""
    algorithm = der.sequence(der.oid("2.16.840.1.101.3.4.1"), der.NULL)
    return der.sequence(der.integer(0), algorithm, der.octets(value))


def shrouded_bag(algorithm: bytes, ciphertext: bytes, *attributes: bytes) -> bytes:
    """Return a secret's bag with this AlgorithmIdentifier and this ciphertext."""
    shrouded = der.sequence(algorithm, der.octets(ciphertext))
    wrapped = der.element(der.CONTEXT_0, der.octets(shrouded))
    return any_bag(SECRET_BAG, der.sequence(SHROUDED_KEY_BAG, wrapped), *attributes)


def secret_bag(
    alias: str,
    value: bytes,
    *extra: bytes,
    password: str = PASSWORDS.entries.reveal(),
    iv: bytes = IV,
    algorithm: bytes = b"",
) -> bytes:
    """Return a secret's bag, encrypted as `pbes2()` says, whatever *algorithm* is written."""
    ciphertext = aes_encrypt(secret_plaintext(value), password, iv=iv)
    attributes = (friendly_name(alias), local_key_id(), *extra)
    return shrouded_bag(algorithm or pbes2(iv=iv), ciphertext, *attributes)


def des3_bag(alias: str, value: bytes, *, password: str = PASSWORDS.entries.reveal()) -> bytes:
    """Return a secret's bag as an old JDK writes it."""
    ciphertext = des3_encrypt(secret_plaintext(value), password)
    return shrouded_bag(pbe_3des(), ciphertext, friendly_name(alias), local_key_id())


# Files


def data_info(*bags: bytes) -> bytes:
    """Return the plain ContentInfo with *bags*."""
    return der.sequence(DATA, der.element(der.CONTEXT_0, der.octets(der.sequence(*bags))))


def encrypted_info(algorithm: bytes, ciphertext: bytes, *, kind: bytes = ENCRYPTED_DATA) -> bytes:
    """Return the ContentInfo around something encrypted."""
    inner = der.sequence(DATA, algorithm, der.element(der.CONTEXT_0_OCTETS, ciphertext))
    return der.sequence(kind, der.element(der.CONTEXT_0, der.sequence(der.integer(0), inner)))


def aes_info(
    *bags: bytes, password: str = PASSWORDS.store.reveal(), algorithm: bytes = b""
) -> bytes:
    """Return a ContentInfo with *bags* under PBES2, whatever *algorithm* is written."""
    return encrypted_info(algorithm or pbes2(), aes_encrypt(der.sequence(*bags), password))


def des3_info(*bags: bytes, password: str = PASSWORDS.store.reveal()) -> bytes:
    """Return a ContentInfo with *bags* under 3DES."""
    return encrypted_info(pbe_3des(), des3_encrypt(der.sequence(*bags), password))


def mac_data(
    safe: bytes,
    *,
    hash_name: str = "sha256",
    iterations: int = 1,
    count: bytes | None = None,
    salt: bytes = SALT,
) -> bytes:
    """Return the MacData of *safe*; *count* is written instead of *iterations*."""
    size = hashlib.new(hash_name).digest_size
    key = pkcs12_kdf(PASSWORDS.store.reveal(), 3, KdfParameters(salt, iterations, hash_name), size)
    digest = hmac.digest(key, safe, hash_name)
    return seal_around(
        der.sequence(HASHES[hash_name], der.NULL),
        digest,
        der.octets(salt),
        der.integer(iterations) if count is None else count,
    )


def pbmac1_data(
    safe: bytes,
    *,
    hash_name: str = "sha256",
    prf: str = "sha256",
    key_length: bytes = der.integer(32),
    iterations: int = 1,
) -> bytes:
    """Return a MacData with PBMAC1 (RFC 9579); an empty *key_length* is left out."""
    size = int.from_bytes(key_length[2:], "big") or 32
    key = pbkdf2_key(PASSWORDS.store.reveal(), prf, size, iterations)
    kdf = pbkdf2(der.integer(iterations), key_length=key_length, prf=HMACS[prf])
    scheme = der.sequence(kdf, der.sequence(HMACS[hash_name], der.NULL))
    digest = hmac.digest(key, safe, hash_name)
    return seal_around(der.sequence(PBMAC1, scheme), digest, der.octets(b"NOT USED"), ONE)


def seal_around(algorithm: bytes, digest: bytes, *rest: bytes) -> bytes:
    """Return a MacData made of these parts."""
    return der.sequence(der.sequence(algorithm, der.octets(digest)), *rest)


def pfx(safe: bytes, seal: bytes | None = None, *, version: bytes = der.integer(3)) -> bytes:
    """Return a file around the authenticated *safe*, sealed as `mac_data` does by default."""
    content = der.sequence(DATA, der.element(der.CONTEXT_0, der.octets(safe)))
    return der.sequence(version, content, mac_data(safe) if seal is None else seal)


def keystore(*infos: bytes) -> bytes:
    """Return a sealed file with these ContentInfos."""
    return pfx(der.sequence(*infos))


def parse(file: bytes) -> Store:
    """Read a file that was built here."""
    return Store.parse(file, PASSWORDS)


def value_of(store: Store, bag: Bag) -> bytes:
    """Return the value of one secret; raise why it cannot be read."""
    (value,) = store.values([bag])
    if isinstance(value, EntryUnreadableError):
        raise value
    return value


def entries(store: Store) -> list[tuple[str | None, bytes]]:
    """Return the aliases and values of a store in which every entry is readable."""
    return [(bag.alias, value_of(store, bag)) for bag in store.bags]


# The parts of a file


def safe_and_seal(file: bytes) -> tuple[bytes, bytes]:
    """Return the authenticated safe of a file, and its MacData."""
    start, end = der.enter(file, 0, len(file), der.SEQUENCE)
    _, at = der.enter(file, start, end, der.INTEGER)
    body, seal = der.enter(file, at, end, der.SEQUENCE)
    _, body = der.enter(file, body, seal, der.OID)
    body, _ = der.enter(file, body, seal, der.CONTEXT_0)
    body, stop = der.enter(file, body, seal, der.OCTETS)
    return file[body:stop], file[seal:end]


def content_infos(file: bytes) -> list[bytes]:
    """Return the ContentInfos of a file, as they are written in it."""
    safe, _ = safe_and_seal(file)
    start, end = der.enter(safe, 0, len(safe), der.SEQUENCE)
    return der.split(safe, start, end, der.SEQUENCE, most=1000, what="parts")


def secret_bags(store: Store) -> list[Bag]:
    """Return the secrets among a store's bags."""
    return [bag for bag in store.bags if SECRET_BAG in bag.raw[:20]]


# DER as a tree, to change it at any place


@dataclass
class Node:
    """An element: *children* instead of *content* where there are elements inside."""

    tag: int
    content: bytes
    children: list[Node]

    def encode(self) -> bytes:
        """Return the element, with lengths that fit what is in it now."""
        inside = (child.encode() for child in self.children) if self.children else (self.content,)
        return der.element(self.tag, *inside)

    def walk(self) -> list[Node]:
        """Return this element and all below it."""
        return [self, *(node for child in self.children for node in child.walk())]


def tree(data: bytes) -> list[Node]:
    """Return the elements that fill *data*; OCTET STRINGs with elements inside are opened."""
    nodes = []
    at = 0
    while at < len(data):
        body, stop = der.enter(data, at, len(data), data[at])
        children = _children(data[at], data[body:stop])
        nodes.append(Node(data[at], b"" if children else data[body:stop], children))
        at = stop
    return nodes


def _children(tag: int, content: bytes) -> list[Node]:
    if not tag & 0x20 and (tag != der.OCTETS or content[:1] != b"\x30"):
        return []
    return tree(content)


# Strategies

tags = st.sampled_from([0x01, 0x02, 0x04, 0x05, 0x06, 0x0C, 0x13, 0x1E, 0x30, 0x31, 0x80, 0xA0])
elements = st.builds(der.element, tags, st.binary(max_size=40))
oids = st.builds("1.3.6.1.4.1.99999.{}.{}".format, st.integers(0, 9), st.integers(0)).map(der.oid)
other_attributes = st.builds(
    lambda name, values: attribute(name, *values), oids, st.lists(elements, max_size=3)
)
"""Attributes that nobody knows, with values of any type."""

foreign_bags = st.builds(
    lambda kind, value, attributes: any_bag(kind, value, *attributes),
    st.one_of(oids, st.sampled_from([KEY_BAG, SHROUDED_KEY_BAG, CERT_BAG, SECRET_BAG])),
    elements,
    st.lists(
        st.one_of(
            other_attributes,
            st.builds(friendly_name, st.text(max_size=8)),
            st.builds(local_key_id, st.binary(max_size=12)),
        ),
        max_size=3,
    ),
)
"""Bags that this project has no use for, some without a name or a date."""


def put(keystore: Path, alias: str, value: bytes, created_ms: int = 0) -> None:
    """Put an API key into a keystore that `create` would not make, as another program may."""

    def add(store: Store) -> None:
        store.add(ENTRY_PREFIX + alias, value, created_ms=created_ms, random_bytes=os.urandom)

    Keystore(keystore).update(add, create=True)
