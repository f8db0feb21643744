"""Key derivation: known answers, the limits of one run, and no key derived twice."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import examples
from metricshub_apikey.pkcs12.kdf import (
    IV,
    KEY,
    MAC,
    MAX_ITERATIONS,
    WORTH_THREADS,
    Derivation,
    KdfParameters,
    KeyDerivation,
    Passwords,
    pkcs12_kdf,
)
from metricshub_apikey.pkcs12.problems import FormatLimitError

SALT = "000102030405060708090a0b0c0d0e0f10111213"
STOCK = "Matrix, Credits: Bertrand, Elvis, Fadhela, Huan, Nassim, Ramassh and Thomas"

# Password, hash, salt, iterations, purpose, key. The first four are in many test suites (they
# began with SSLeay's); the others are what OpenSSL 3.0.19 answers to `openssl kdf PKCS12KDF`.
PKCS12_ANSWERS = [
    (
        "smeg",
        "sha1",
        "0a58cf64530d823f",
        1,
        KEY,
        "8aaae6297b6cb04642ab5b077851284eb7128f1a2a7fbca3",
    ),
    ("smeg", "sha1", "0a58cf64530d823f", 1, IV, "79993dfe048d3b76"),
    (
        "queeg",
        "sha1",
        "05dec959acff72f7",
        1000,
        KEY,
        "ed2034e36328830ff09df1e1a07dd357185dac0d4f9eb3d4",
    ),
    ("smeg", "sha1", "3d83c0e4546ac140", 1, MAC, "8d967d88f6caa9d714800ab3d48051d63f73a312"),
    (
        "changeit",
        "sha1",
        SALT,
        1000,
        KEY,
        (
            "88ce154a8b35adf5d2c4d60e417a92c7f931bf0ceed210bbeab800de246e3c56f4f6d63d0d77597ee60ce81a13ce"
            "2388e270"
        ),
    ),
    ("changeit", "sha1", "", 2, KEY, "13f7c9965ae9e7daf2e7501947f88f6502b6097a2334d0da"),
    (
        "changeit",
        "sha224",
        SALT,
        1,
        MAC,
        "3c2b86ad76702c4f59fbeaacbd06d500b1e5e1fe328580734d30251e",
    ),
    (
        "changeit",
        "sha256",
        SALT,
        1000,
        MAC,
        "172f661caf711678e25c52a09ab4be3a626584b102413d5046ce8a52f6096fe7",
    ),
    (
        "changeit",
        "sha256",
        "00",
        1,
        KEY,
        (
            "eaa5cd6447d50c9191eedee3a75d103171eff033d6bdd7f32bad508b189985e98698fdb1c8906bee1d12bf2e5ac6"
            "7603cda9af13017921f87299557fa3e128ac671950c46b29"
        ),
    ),
    (
        "",
        "sha256",
        "",
        1,
        KEY,
        "ec01316a95c1f68084e745d069de8771df48031e642b27ba673a50cac4711856",
    ),
    (
        "changeit",
        "sha384",
        SALT,
        1000,
        MAC,
        (
            "133ebde2636033484e4a1543481761eac4458a2fa2f20754ca0d8d3da8a042ae78deea6974720597ca09205e8b3f"
            "485b"
        ),
    ),
    (
        "changeit",
        "sha512",
        SALT,
        1,
        IV,
        (
            "f7c806537ede4f31896f8180c26eb58ac59b6a929d3060f5c3d528d2d125ae27d3cc1b961964c7c7ca50b47a8135"
            "20d471d8bee72b3dcb3b5f69e56255a16ce1892f5747570178d93eaf23f732683bc675906156dc2ba80c08c383f3"
            "16352bd0ecf98c73cda8ce264518bc561ff5e1753c5178d0091df155c0a02081d04e8c1c5dd7684796d40eb79d5b"
            "a18eb1cc51796acc4f143dc5"
        ),
    ),
    (
        STOCK,
        "sha512",
        SALT,
        1000,
        MAC,
        (
            "466faa3088dc409c84151ff851b490a03be729f11454ffe9115693b79c0ea8d0307629688a91f5dddc2031d8657e"
            "936ecf102f265bc3989fb65d39be8de84bd0"
        ),
    ),
    (
        "ünï-😀",
        "sha1",
        "a1b2c3d4e5f60718",
        1000,
        KEY,
        "25cb49379b4ac72a9ddcb9c3766b26d31962d45f23c5733d",
    ),
]


def pbkdf2(iterations: int, *, salt: bytes = b"salt", size: int = 20) -> Derivation:
    """Return one key wanted from PBKDF2 with HMAC-SHA-1."""
    return Derivation(KdfParameters(salt, iterations, "sha1"), size)


@pytest.mark.parametrize(
    ("password", "hash_name", "salt", "iterations", "purpose", "key"), PKCS12_ANSWERS
)
def test_pkcs12_kdf_gives_the_known_answers(
    password: str, hash_name: str, salt: str, iterations: int, purpose: int, key: str
) -> None:
    """The PKCS#12 KDF agrees with OpenSSL for every hash, over one block and many."""
    kdf = KdfParameters(bytes.fromhex(salt), iterations, hash_name)
    wanted = Derivation(kdf, len(key) // 2, purpose)
    assert pkcs12_kdf(password, purpose, kdf, len(key) // 2).hex() == key
    assert KeyDerivation().derive(password, wanted).hex() == key


@given(st.sampled_from(["sha1", "sha256", "sha512"]), st.binary(max_size=70), st.text(max_size=50))
@examples(50)
def test_a_shorter_pkcs12_key_begins_a_longer_one(
    hash_name: str, salt: bytes, password: str
) -> None:
    """Every size gives the beginning of the same stream, whatever salt and password."""
    kdf = KdfParameters(salt, 2, hash_name)
    longest = pkcs12_kdf(password, KEY, kdf, 150)
    assert len(longest) == 150
    for size in (1, 19, 20, 21, 63, 64, 65, 128, 129):
        assert pkcs12_kdf(password, KEY, kdf, size) == longest[:size]


@pytest.mark.parametrize(
    ("wanted", "key"),
    [
        # RFC 6070
        (pbkdf2(1), "0c60c80f961f0e71f3a9b524af6012062fe037a6"),
        (pbkdf2(2), "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957"),
        (pbkdf2(4096), "4b007901b765489abead49d926f721d065a429c1"),
        # RFC 7914, section 11
        (
            Derivation(KdfParameters(b"salt", 1, "sha256"), 64),
            (
                "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
                "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783"
            ),
        ),
    ],
)
def test_pbkdf2_gives_the_known_answers(wanted: Derivation, key: str) -> None:
    """PBKDF2 agrees with the RFCs' test vectors."""
    password = "passwd" if wanted.size == 64 else "password"
    assert KeyDerivation().derive(password, wanted).hex() == key


@pytest.mark.parametrize("iterations", [-(2**63), -1, 0, 1_000_001, 2**31, 2**63 - 1])
@pytest.mark.parametrize("purpose", [None, KEY, MAC])
def test_iterations_outside_the_limit_are_refused(iterations: int, purpose: int | None) -> None:
    """One derivation has between 1 and 1,000,000 iterations, and the error names the limit."""
    wanted = Derivation(KdfParameters(b"salt", iterations, "sha256"), 32, purpose)
    with pytest.raises(FormatLimitError, match="limit of 1 to 1,000,000"):
        KeyDerivation().derive("password", wanted)
    with pytest.raises(FormatLimitError, match="limit of 1 to 1,000,000"):
        KeyDerivation().derive_all("password", [wanted])


def test_each_block_of_a_key_costs_its_iterations() -> None:
    """Three blocks of a million iterations are more than all keys of a run may cost."""
    with pytest.raises(
        FormatLimitError, match="20,000 for each key and 2,000,000 beyond that for all"
    ):
        KeyDerivation().derive("password", pbkdf2(MAX_ITERATIONS, size=41))


def test_all_derivations_of_a_run_share_a_budget() -> None:
    """What honest keys cost is free; what others cost beyond that adds up."""
    keys = KeyDerivation()
    keys.derive("password", pbkdf2(1_000_000, salt=b"one"))
    keys.derive("password", pbkdf2(1_000_000, salt=b"two"))
    with pytest.raises(FormatLimitError, match="beyond that for all"):
        keys.derive("password", pbkdf2(60_001, salt=b"three"))
    assert keys.derive("password", pbkdf2(1_000_000, salt=b"two"))
    assert keys.derive("password", pbkdf2(60_000, salt=b"three"))
    with pytest.raises(FormatLimitError, match="beyond that for all"):
        keys.derive("password", pbkdf2(20_001, salt=b"four"))
    assert keys.derive("password", pbkdf2(20_000, salt=b"four"))


def test_derive_all_refuses_before_it_works() -> None:
    """Many harmless keys are refused together if they go over the budget together."""
    many = [pbkdf2(1_000_000, salt=bytes([number])) for number in range(200)]
    with pytest.raises(FormatLimitError, match="beyond that for all"):
        KeyDerivation().derive_all("password", many)


def test_a_key_is_derived_once() -> None:
    """A million iterations are allowed, but not three times: so the key is not derived again."""
    keys = KeyDerivation()
    wanted = pbkdf2(MAX_ITERATIONS)
    keys.derive("password", pbkdf2(MAX_ITERATIONS, salt=b"another"))
    first = keys.derive("password", wanted)
    keys.derive_all("password", [wanted])
    assert keys.derive("password", pbkdf2(MAX_ITERATIONS)) == first


def test_derive_all_leaves_nothing_to_derive() -> None:
    """What was derived ahead is not derived again."""
    keys = KeyDerivation()
    wanted = [pbkdf2(800_000, salt=b"one"), pbkdf2(1, salt=b"two")]
    keys.derive_all("password", wanted)
    assert keys.derive("password", wanted[0]) != keys.derive("password", wanted[1])


def test_derive_all_counts_a_repeated_wish_once() -> None:
    """The same key, asked for twice at once, costs its iterations once."""
    keys = KeyDerivation()
    keys.derive_all("password", [pbkdf2(1_000_000)] * 2)
    assert len(keys.derive("password", pbkdf2(1_000_000))) == 20


def test_keys_of_two_passwords_are_two() -> None:
    """The same parameters give another key for another password, in one run."""
    keys = KeyDerivation()
    one = keys.derive("password", pbkdf2(1))
    assert keys.derive("Password", pbkdf2(1)) != one
    assert keys.derive("password", pbkdf2(1)) == one


def test_both_functions_and_all_purposes_have_their_own_keys() -> None:
    """PBKDF2's key, and the PKCS#12 KDF's three, differ for the same parameters."""
    keys = KeyDerivation()
    kdf = KdfParameters(b"salt", 1, "sha1")
    derived = {keys.derive("password", Derivation(kdf, 20, one)) for one in (None, KEY, IV, MAC)}
    assert len(derived) == 4


def test_many_keys_are_derived_by_threads_that_report_progress() -> None:
    """From 16 keys on, other threads work, and the caller hears of every finished key."""
    alone = threading.active_count()
    heard: list[tuple[int, int]] = []
    threads: list[int] = []

    def listen(done: int, total: int) -> None:
        heard.append((done, total))
        threads.append(threading.active_count())

    keys = KeyDerivation()
    known = pbkdf2(3, salt=b"known")
    keys.derive("password", known)
    many = [pbkdf2(3, salt=bytes([number])) for number in range(WORTH_THREADS)]
    keys.derive_all("password", [known, *many], listen)
    assert heard == [(done, WORTH_THREADS) for done in range(1, WORTH_THREADS + 1)]
    assert min(threads) > alone
    for one in many:
        assert keys.derive("password", one) == KeyDerivation().derive("password", one)


def test_few_keys_are_derived_without_threads() -> None:
    """Below 16 keys nobody waits for threads, nor hears of progress."""
    heard: list[tuple[int, int]] = []
    keys = KeyDerivation()
    many = [pbkdf2(3, salt=bytes([number])) for number in range(WORTH_THREADS - 1)]
    keys.derive_all("password", many, lambda done, total: heard.append((done, total)))
    assert heard == []
    assert keys.derive("password", many[3]) == KeyDerivation().derive("password", many[3])


def test_threads_work_without_a_listener() -> None:
    """Progress is optional where threads derive the keys, too."""
    keys = KeyDerivation()
    many = [pbkdf2(1, salt=bytes([number])) for number in range(WORTH_THREADS)]
    keys.derive_all("password", many)
    assert keys.derive("password", many[-1]) == KeyDerivation().derive("password", many[-1])


def test_no_repr_shows_a_password_or_a_key() -> None:
    """What a traceback or a log may show of passwords and derived keys is no secret."""
    keys = KeyDerivation()
    key = keys.derive("hunter2-entries", pbkdf2(1))
    shown = f"{Passwords('hunter2-store', 'hunter2-entries')!r} {keys!r} {pbkdf2(1)!r}"
    shown += f" {Passwords('hunter2-store', 'hunter2-entries')}"
    assert "hunter2" not in shown
    assert key.hex() not in shown
    assert repr(key) not in shown
