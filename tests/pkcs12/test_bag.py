"""One SafeBag: what it says about itself, what is odd about it, and what JDK 17 writes."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

import builders
from builders import (
    CREATED,
    FRIENDLY_NAME,
    LOCAL_KEY_ID,
    PRIVATE,
    any_bag,
    attribute,
    examples,
    friendly_name,
    local_key_id,
    pbe_3des,
    pbes2,
    pbkdf2,
    secret_bag,
    shrouded_bag,
)
from metricshub_apikey.errors import EntryUnreadableError
from metricshub_apikey.keystore.keystore import STOCK_PASSWORDS
from metricshub_apikey.pkcs12 import der
from metricshub_apikey.pkcs12.attributes import MAX_NAME
from metricshub_apikey.pkcs12.bag import Bag, encode_bag, encode_secret, fold, secret_value
from metricshub_apikey.pkcs12.kdf import KdfParameters, KeyDerivation
from metricshub_apikey.pkcs12.pbe import Pbes2, decrypt
from metricshub_apikey.pkcs12.problems import DamagedBytesError, FormatError, FormatLimitError
from metricshub_apikey.pkcs12.store import Store
from places import VECTORS

BODY = der.octets(b"anything")
UNKNOWN = attribute(PRIVATE, der.element(der.UTF8_STRING, b"x"))


def named(*attributes: bytes) -> Bag:
    """Return a foreign bag with these attributes."""
    return Bag(any_bag(PRIVATE, BODY, *attributes))


# The alias


@given(st.text(st.characters()))
@examples(200)
def test_any_alias_comes_back_folded(alias: str) -> None:
    """Every string, lone surrogates included, is read from a bag and folded to lower case."""
    folded = alias.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "surrogatepass").lower()
    assert named(friendly_name(alias)).alias == folded


@pytest.mark.parametrize(
    ("alias", "folded"),
    [
        ("API_KEY:A", "api_key:a"),
        ("ÜNÏ-😀", "ünï-😀"),
        ("İ", "i\u0307"),
        ("ẞ", "ß"),
        ("𐐀", "𐐨"),
        ("ǅ", "ǆ"),
        ("", ""),
        ("\0\n", "\0\n"),
    ],
)
def test_folding_is_javas(alias: str, folded: str) -> None:
    """Characters fold as `toLowerCase(Locale.ENGLISH)` folds them."""
    assert fold(alias) == folded
    assert fold(folded) == folded


def test_a_bag_without_attributes_has_no_alias() -> None:
    """The SET of attributes is optional, and may be empty."""
    bare = Bag(any_bag(PRIVATE, BODY))
    empty = Bag(der.sequence(PRIVATE, der.element(der.CONTEXT_0, BODY), der.element(der.SET)))
    for bag in (bare, empty):
        assert (bag.alias, bag.created_ms) == (None, None)


@pytest.mark.parametrize(
    "value",
    [
        der.element(der.BMP_STRING, b"\0a\0"),
        der.element(der.BMP_STRING, b"a"),
        der.element(der.UTF8_STRING, b"name"),
        der.octets(b"\0n"),
        der.integer(1),
        b"",
    ],
    ids=["3 bytes", "1 byte", "UTF8String", "OCTET STRING", "INTEGER", "none"],
)
def test_an_odd_friendly_name_is_no_alias(value: bytes) -> None:
    """A name of the wrong type, or of half a character, is not read; the bag is."""
    bag = named(attribute(FRIENDLY_NAME, value), local_key_id())
    assert (bag.alias, bag.created_ms) == (None, CREATED)


def test_of_several_values_the_first_is_the_alias() -> None:
    """The SET of values should have one member, and its first one counts."""
    one, two = (der.element(der.BMP_STRING, b"\0" + letter) for letter in (b"B", b"A"))
    assert named(attribute(FRIENDLY_NAME, one, two)).alias == "b"


def test_the_order_of_attributes_does_not_matter() -> None:
    """The attributes are a SET: known ones are found behind unknown ones."""
    bag = named(UNKNOWN, local_key_id(), UNKNOWN, friendly_name("A"), UNKNOWN)
    assert (bag.alias, bag.created_ms) == ("a", CREATED)


@given(st.lists(builders.other_attributes, max_size=5), st.integers(0, 5))
@examples(50)
def test_unknown_attributes_of_any_type_are_skipped(others: list[bytes], at: int) -> None:
    """Whatever values other tools attach, the known attributes are found among them."""
    bag = named(*others[:at], friendly_name("A"), local_key_id(), *others[at:])
    assert (bag.alias, bag.created_ms) == ("a", CREATED)


def test_a_name_has_a_limit() -> None:
    """A name as long as allowed is read; of a longer one, the limit is named."""
    assert named(friendly_name("A" * MAX_NAME)).alias == "a" * MAX_NAME
    with pytest.raises(FormatLimitError, match="limit of 4,096 characters"):
        named(friendly_name("A" * (MAX_NAME + 1)))


def test_a_name_behind_many_attributes_is_found() -> None:
    """However many values other tools attach, the entry stays in sight."""
    assert named(*[UNKNOWN] * 999, friendly_name("A")).alias == "a"
    with pytest.raises(FormatLimitError, match="limit of 1,000"):
        named(*[UNKNOWN] * 1000, friendly_name("A"))


# The creation time


@pytest.mark.parametrize(
    ("content", "created"),
    [
        (b"Time 0", 0),
        (b"Time 1637951273180", 1_637_951_273_180),
        (b"Time 253402300799999", 253_402_300_799_999),
        (b"Time 253402300800000", None),
        (b"Time " + b"9" * 5000, None),
        (b"Time -1", None),
        (b"Time +1", None),
        (b"Time 1.5", None),
        (b"Time 1_0", None),
        (b"Time  1", None),
        (b"Time 1\n", None),
        (b"Time \xd9\xa1", None),
        (b"Time ", None),
        (b"Time", None),
        (b"time 1", None),
        (b"1637951273180", None),
        (b"", None),
        (bytes(20), None),
    ],
)
def test_the_creation_time_is_in_the_local_key_id(content: bytes, created: int | None) -> None:
    """Java's `Time <milliseconds>` is read; anything else there is no time, and no error."""
    assert named(friendly_name("A"), local_key_id(content)).created_ms == created


@pytest.mark.parametrize("value", [der.integer(1), der.element(der.UTF8_STRING, b"Time 1"), b""])
def test_a_local_key_id_of_another_type_is_no_time(value: bytes) -> None:
    """Only an OCTET STRING holds a time."""
    assert named(attribute(LOCAL_KEY_ID, value)).created_ms is None


def test_a_bag_of_broken_attributes_is_refused() -> None:
    """All attributes are read at once, so nothing of a bag can fail later; Java refuses it, too."""
    for odd in (der.integer(1), der.NULL, der.sequence(), der.sequence(der.NULL)):
        with pytest.raises(DamagedBytesError):
            named(friendly_name("A"), odd)


# The outline


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        der.sequence(),
        der.sequence(PRIVATE),
        der.sequence(PRIVATE, BODY),
        der.sequence(BODY, der.element(der.CONTEXT_0, BODY)),
        der.sequence(PRIVATE, der.element(der.CONTEXT_0, BODY), BODY),
        any_bag(PRIVATE, BODY) + b"\0",
        any_bag(PRIVATE, BODY, der.octets(b"no attribute")),
        any_bag(PRIVATE, BODY, der.sequence(FRIENDLY_NAME, BODY)),
        any_bag(PRIVATE, BODY, der.sequence(FRIENDLY_NAME)),
    ],
)
def test_what_is_no_bag_is_damage(raw: bytes) -> None:
    """Bytes without the outline of a SafeBag are refused."""
    with pytest.raises(DamagedBytesError):
        Bag(raw)


def test_truncated_bags_are_damage() -> None:
    """A bag that lacks its last bytes, one or all, is never read."""
    raw = secret_bag("a", b"value")
    for size in range(len(raw)):
        with pytest.raises(DamagedBytesError):
            Bag(raw[:size])


@given(builders.foreign_bags)
@examples(100)
def test_foreign_bags_are_kept_as_they_are(raw: bytes) -> None:
    """A bag of any kind is accepted, keeps its bytes, and is no secret entry."""
    bag = Bag(raw)
    assert bag.raw == raw
    with pytest.raises(EntryUnreadableError):
        bag.encrypted()


@given(st.binary(max_size=60))
@examples(200)
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    """Whatever is inside the outline: it is read, or one of the project's errors is raised."""
    shrouded = builders.SHROUDED_KEY_BAG + der.element(der.CONTEXT_0, der.octets(data))
    bodies = (data, der.sequence(data), der.sequence(shrouded))
    for body in bodies:
        with suppress(EntryUnreadableError):
            assert Bag(any_bag(builders.SECRET_BAG, body)).encrypted()
    for attributes in (data, friendly_name("a") + data, attribute(FRIENDLY_NAME, data)):
        with suppress(FormatError):
            assert Bag(any_bag(PRIVATE, BODY, attributes)).raw
    with suppress(FormatError):
        assert secret_value(data) in data


# The secret


def test_the_encrypted_value_is_read() -> None:
    """Algorithm and ciphertext are those in the bag."""
    encrypted = Bag(secret_bag("a", b"value")).encrypted()
    assert encrypted.algorithm == Pbes2(KdfParameters(builders.SALT, 1, "sha256"), 32, builders.IV)
    plaintext = decrypt(encrypted, builders.PASSWORDS.entries.reveal(), KeyDerivation())
    assert secret_value(plaintext) == b"value"


@pytest.mark.parametrize("kind", [builders.KEY_BAG, builders.SHROUDED_KEY_BAG, builders.CERT_BAG])
def test_other_kinds_of_bags_are_no_secrets(kind: bytes) -> None:
    """A key or a certificate is not taken for a secret, even if it is shaped like one."""
    raw = secret_bag("a", b"value").replace(builders.SECRET_BAG, kind)
    with pytest.raises(EntryUnreadableError, match="it is not a secret entry"):
        Bag(raw).encrypted()


def test_other_kinds_of_secrets_are_unreadable() -> None:
    """A secret that is not in a shrouded key is told from no secret at all."""
    secret = der.sequence(PRIVATE, der.element(der.CONTEXT_0, BODY))
    with pytest.raises(EntryUnreadableError, match="it is not stored as a shrouded key"):
        Bag(any_bag(builders.SECRET_BAG, secret)).encrypted()


def test_an_unsupported_algorithm_makes_an_entry_unreadable() -> None:
    """RC2 is an answer about this entry, not about the keystore."""
    rc2 = pbe_3des(scheme=der.oid("1.2.840.113549.1.12.1.6"))
    with pytest.raises(EntryUnreadableError, match="it is encrypted with an algorithm that is not"):
        Bag(shrouded_bag(rc2, bytes(16))).encrypted()


@pytest.mark.parametrize("name", builders.BAD_COUNTS)
def test_a_count_outside_the_limit_makes_an_entry_unreadable(name: str) -> None:
    """A monstrous count is an answer about this entry, and names the limit."""
    count = builders.BAD_COUNTS[name]
    for algorithm in (pbes2(pbkdf2(count)), pbe_3des(count), pbes2(pbkdf2(count), nested=True)):
        with pytest.raises(EntryUnreadableError, match="limit of"):
            Bag(shrouded_bag(algorithm, bytes(16))).encrypted()


def test_an_empty_count_makes_an_entry_unreadable() -> None:
    """So does a count that is no number."""
    for algorithm in (pbes2(pbkdf2(builders.EMPTY_INTEGER)), pbe_3des(builders.EMPTY_INTEGER)):
        with pytest.raises(EntryUnreadableError):
            Bag(shrouded_bag(algorithm, bytes(16))).encrypted()


# The plaintext


@pytest.mark.parametrize(
    "algorithm",
    [der.sequence(builders.AES_CBC[16], der.NULL), der.sequence(builders.AES_CBC[16])],
    ids=["up to Java 17", "from Java 21 on"],
)
def test_the_plaintext_of_every_runtime_is_read(algorithm: bytes) -> None:
    """There may be a NULL behind the algorithm, or nothing."""
    plaintext = der.sequence(der.integer(0), algorithm, der.octets(b"value"))
    assert secret_value(plaintext) == b"value"


@given(st.binary(max_size=300))
@examples(50)
def test_the_plaintext_comes_back(value: bytes) -> None:
    """Any value is found in what is written around it, which is what the builders write."""
    assert encode_secret(value) == builders.secret_plaintext(value)
    assert secret_value(encode_secret(value)) == value


def test_truncated_plaintexts_are_damage() -> None:
    """What a wrong password leaves is not taken for a value."""
    plaintext = encode_secret(b"value")
    for size in range(len(plaintext)):
        with pytest.raises(DamagedBytesError):
            secret_value(plaintext[:size])


# Writing


@pytest.mark.parametrize("name", ["jdk17.0.9.p12", "jdk17.0.15.p12", "jdk17.0.15-mac-sha512.p12"])
def test_jdk_17_writes_the_same_bytes(name: str) -> None:
    """Given a bag's alias, time, algorithm and ciphertext, the bag is JDK 17's to the byte."""
    store = Store.parse((VECTORS / name).read_bytes(), STOCK_PASSWORDS)
    keys = KeyDerivation()
    assert len(store.bags) == 5
    for bag in store.bags:
        algorithm, ciphertext = bag.encrypted()
        assert isinstance(algorithm, Pbes2)
        assert bag.alias is not None
        assert bag.created_ms is not None
        assert encode_bag(bag.alias, bag.created_ms, algorithm, ciphertext) == bag.raw
        if bag.alias != "masterkey":
            plaintext = decrypt(bag.encrypted(), STOCK_PASSWORDS.entries.reveal(), keys)
            assert encode_secret(secret_value(plaintext)) == plaintext


@given(st.text(), st.integers(0, 253_402_300_799_999), st.binary(max_size=300))
@examples(50)
def test_what_is_written_is_read(alias: str, created_ms: int, ciphertext: bytes) -> None:
    """Alias, time and ciphertext come back from a bag, and the bag is shaped like Java's."""
    algorithm = Pbes2(KdfParameters(builders.SALT, 1, "sha256"), 32, builders.IV)
    raw = encode_bag(alias, created_ms, algorithm, ciphertext)
    created = local_key_id(b"Time %d" % created_ms)
    assert raw == shrouded_bag(pbes2(), ciphertext, friendly_name(alias), created)
    bag = Bag(raw)
    assert (bag.alias, bag.created_ms) == (fold(alias), created_ms)
    assert bag.encrypted() == (algorithm, ciphertext)
