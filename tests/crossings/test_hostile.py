"""
Crafted keystores, most of them with a correct MAC, given to the real command.

What is checked of each run: it ends by itself, soon and in little memory; it fails with one line,
or shows the good entries and says which are not; a terminal can show what it prints; the file and
what lies beside it are untouched. Nothing here looks into the library: its own tests do.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import builders
import hostile
from builders import (
    BAD_COUNTS,
    EMPTY_INTEGER,
    LOCAL_KEY_ID,
    PRIVATE,
    any_bag,
    attribute,
    cert_bag,
    data_info,
    encrypted_info,
    friendly_name,
    pbes2,
    pbkdf2,
)
from hostile import (
    FIRST_BAG,
    FULL,
    LAST_BAG,
    PREFIX,
    Launcher,
    assert_bounded,
    assert_polite,
    assert_refused,
    beside,
    between,
    claiming,
    nested,
    sealed,
    state,
    stock_mac,
    stock_pbmac1,
    stock_secret,
    with_infos,
)
from metricshub_apikey.pkcs12 import der

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures with Linux's wait4")

ALMOST_FULL = FULL - 100_000
SHOWN = "********************"
FIRST_LINE = f"first {SHOWN}1111 (No expiration)"
LAST_LINE = f"last {SHOWN}9999 (No expiration)"

LIMIT, DAMAGED, MAC = "limit", "the password is wrong or the file is damaged", "MAC"

File = Callable[[], bytes]
Mark = Any

GOOD_SAFE = der.sequence(data_info(FIRST_BAG, LAST_BAG))
GOOD = sealed(GOOD_SAFE)

LIST = ["list"]
CREATE = ["create", "new", "-q"]


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """Return what runs the command and measures it."""
    with hostile.launcher(tmp_path_factory.mktemp("streams")) as started:
        yield started


@pytest.fixture
def crafted(keystore: Path) -> Callable[[bytes], Path]:
    """Return a function that puts a crafted keystore in its place."""

    def put(content: bytes) -> Path:
        keystore.parent.mkdir(exist_ok=True)
        keystore.write_bytes(content)
        os.utime(keystore, ns=(10**18, 10**18))
        return keystore

    return put


Crafted = Callable[[bytes], Path]
Environment = dict[str, str]


def cases(named: dict[str, Any]) -> list[Any]:
    """Return the parameters of a test, called by their names."""
    return [pytest.param(value, id=name) for name, value in named.items()]


# Files that are refused

MAC_COUNTS = {
    f"MAC count {name}": (sealed(GOOD_SAFE, stock_mac(GOOD_SAFE, count=count)), LIMIT)
    for name, count in BAD_COUNTS.items()
}
PBMAC1_COUNTS = {
    f"PBMAC1 count {name}": (sealed(GOOD_SAFE, stock_pbmac1(GOOD_SAFE, 32, count)), LIMIT)
    for name, count in BAD_COUNTS.items()
}
PBMAC1_KEYS = {
    f"PBMAC1 key of {size} bytes": (sealed(GOOD_SAFE, stock_pbmac1(GOOD_SAFE, size)), LIMIT)
    for size in (1, 16, 19, 65)
}
PART_COUNTS = {
    f"part count {name}": (
        beside(builders.aes_info(cert_bag("c"), algorithm=pbes2(pbkdf2(count)))),
        LIMIT,
    )
    for name, count in BAD_COUNTS.items()
}
BROKEN_SAFES = {
    "a safe of nothing": (sealed(b""), DAMAGED),
    "a safe of text": (sealed(b"safe"), DAMAGED),
    "a safe 1000 deep": (sealed(nested(1000)), DAMAGED),
    "a part 1000 deep": (with_infos(nested(1000)), DAMAGED),
    "bags 1000 deep": (with_infos(data_info(nested(1000))), DAMAGED),
    "bytes after the safe": (sealed(GOOD_SAFE + b"\0"), DAMAGED),
    "a bag of nothing": (between(der.sequence()), DAMAGED),
    "a bag cut short": (with_infos(data_info(FIRST_BAG[:-1])), DAMAGED),
    "BER": (sealed(b"\x30\x80" + data_info(FIRST_BAG) + b"\0\0"), "BER"),
    **{
        f"an inner length of {size}": (sealed(claiming(size) + GOOD_SAFE), DAMAGED)
        for size in (128, 2**31, 2**63, 2**64 - 1, 2**64, 2**960)
    },
}
SEALS = {
    "no MAC": (sealed(GOOD_SAFE, b""), MAC),
    "a MAC of nothing": (sealed(GOOD_SAFE, der.sequence()), DAMAGED),
    "a MAC 1000 deep": (sealed(GOOD_SAFE, nested(1000)), DAMAGED),
    "two MACs": (sealed(GOOD_SAFE, stock_mac(GOOD_SAFE) * 2), DAMAGED),
    "a MAC without a count's digits": (
        sealed(GOOD_SAFE, stock_mac(GOOD_SAFE, count=EMPTY_INTEGER)),
        DAMAGED,
    ),
    "another password": (builders.keystore(data_info(FIRST_BAG)), DAMAGED),
    "a forged entry": (GOOD.replace(b"\0l\0a\0s\0t", b"\0l\0o\0s\0t"), DAMAGED),
}
NO_KEYSTORES = {
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(1000), "is not a PKCS#12 keystore"),
    "a Java keystore": (b"\xfe\xed\xfe\xed" + bytes(1000), "is not a PKCS#12 keystore"),
    "a text": (b"masterkey\n", "is not a PKCS#12 keystore"),
    "zeros": (bytes(1000), "is not a PKCS#12 keystore"),
    "another DER": (nested(1000), "is not a PKCS#12 keystore"),
    "17 MiB": (bytes(17 << 20), "16,777,216 bytes"),
    "cut in the middle": (GOOD[: len(GOOD) // 2], DAMAGED),
    "a huge outer length": (claiming(2**63) + GOOD, "is not a PKCS#12 keystore"),
}
REFUSED = {
    **MAC_COUNTS,
    **PBMAC1_COUNTS,
    **PBMAC1_KEYS,
    **PART_COUNTS,
    **BROKEN_SAFES,
    **SEALS,
    **NO_KEYSTORES,
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(launcher: Launcher, crafted: Crafted, environment: Environment, name: str) -> None:
    """A file that cannot be trusted is refused in one line that names it; nothing is touched."""
    content, reason = REFUSED[name]
    keystore = crafted(content)
    before = state(keystore)
    outcome = launcher.run(LIST, environment)
    assert_bounded(outcome)
    assert_refused(outcome, keystore, reason)
    assert state(keystore) == before
    assert not keystore.with_name(f".{keystore.name}.lock").exists(), "a reader needs no lock"


WRITTEN = ["MAC count 2^64", "part count zero", "a bag of nothing", "no MAC", "two MACs", "a text"]


@pytest.mark.parametrize("name", WRITTEN)
def test_refused_for_writing(
    launcher: Launcher, crafted: Crafted, environment: Environment, name: str
) -> None:
    """Nothing is written into such a file either: a new key would be all that is left of it."""
    content, reason = REFUSED[name]
    keystore = crafted(content)
    before = state(keystore)
    outcome = launcher.run(CREATE, environment)
    assert_bounded(outcome)
    assert_refused(outcome, keystore, reason)
    assert state(keystore) == before


# Odd entries among good ones


def odd(*, algorithm: bytes = b"", ciphertext: bytes = bytes(32)) -> bytes:
    """Return the bag of a key with this algorithm and this ciphertext."""
    name = friendly_name(f"{PREFIX}odd")
    return builders.shrouded_bag(algorithm or pbes2(), ciphertext, name)


ODD_ENTRIES = {
    **{f"count {name}": odd(algorithm=pbes2(pbkdf2(count))) for name, count in BAD_COUNTS.items()},
    "3DES count of 20 bytes": odd(algorithm=builders.pbe_3des(BAD_COUNTS["20 bytes"])),
    "count without digits": odd(algorithm=pbes2(pbkdf2(EMPTY_INTEGER))),
    "no secret": any_bag(builders.SECRET_BAG, b"", friendly_name(f"{PREFIX}odd")),
    "1000 deep": any_bag(builders.SECRET_BAG, nested(1000), friendly_name(f"{PREFIX}odd")),
    "an algorithm 1000 deep": odd(algorithm=nested(1000)),
    "another password": stock_secret(f"{PREFIX}odd", "x", algorithm=pbes2(pbkdf2(salt=b"other"))),
    "half a block": odd(ciphertext=bytes(17)),
    "an unknown algorithm": odd(algorithm=der.sequence(PRIVATE)),
    "no UTF-8": stock_secret(f"{PREFIX}odd", b"\xff\xfe"),
    "an expiry that is no date": stock_secret(f"{PREFIX}odd", "key__soon\x1b[2J\u202e"),
    "many attributes": stock_secret(
        f"{PREFIX}odd", "k", *[attribute(PRIVATE, der.NULL)] * 33, algorithm=nested(2)
    ),
}


@pytest.mark.parametrize("bag", cases(ODD_ENTRIES))
def test_an_odd_entry_does_not_hide_the_others(
    launcher: Launcher, crafted: Crafted, environment: Environment, bag: bytes
) -> None:
    """It is shown as unreadable, with a reason and one warning, between the good ones."""
    keystore = crafted(between(bag))
    before = state(keystore)
    outcome = launcher.run(LIST, environment)
    assert_bounded(outcome)
    assert_polite(outcome)
    assert outcome.code == 0, outcome.stderr
    first, shown, last = outcome.stdout.splitlines()
    assert (first, last) == (FIRST_LINE, LAST_LINE)
    assert shown.startswith("odd ******** (Unreadable: ")
    assert outcome.stderr.startswith("Warning: 1 of the entries cannot be read (odd)")
    assert outcome.stderr.count("\n") == 1
    assert state(keystore) == before


HARMLESS = {
    "a value 1000 deep": attribute(PRIVATE, nested(1000)),
    "a date 1000 deep": attribute(LOCAL_KEY_ID, nested(1000)),
    "a date that is no octets": attribute(LOCAL_KEY_ID, der.NULL),
    "a date without digits": attribute(LOCAL_KEY_ID, der.octets(b"Time \x1b[2J")),
    "a date in the year 33658": attribute(LOCAL_KEY_ID, der.octets(b"Time 999999999999999")),
    "a date of a million digits": attribute(LOCAL_KEY_ID, der.octets(b"Time " + b"9" * 10**6)),
    "an attribute without values": der.sequence(PRIVATE),
    "33 attributes": attribute(PRIVATE, der.NULL) * 33,
}


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("extra", cases(HARMLESS))
def test_odd_attributes_spoil_nothing(
    launcher: Launcher, crafted: Crafted, environment: Environment, extra: bytes, form: str
) -> None:
    """Attributes are not needed to read an entry: whatever they are, all keys are listed."""
    value = stock_secret(f"{PREFIX}odd", "12345678")
    start, end = der.enter(value, 0, len(value), der.SEQUENCE)
    _, at = der.enter(value, start, end, der.OID)
    _, at = der.enter(value, at, end, der.CONTEXT_0)
    attributes = der.element(der.SET, friendly_name(f"{PREFIX}odd"), extra)
    keystore = crafted(between(der.sequence(value[start:at], attributes)))
    before = state(keystore)
    outcome = launcher.run(["list", "-o", form], environment)
    assert_bounded(outcome)
    assert_polite(outcome)
    assert outcome.code == 0, outcome.stderr
    assert (outcome.stderr, outcome.stdout.count(f"{SHOWN}")) == ("", 3)
    assert state(keystore) == before


def test_opaque_parts_do_not_hide_the_others(
    launcher: Launcher, crafted: Crafted, environment: Environment
) -> None:
    """Parts that are not understood are left alone, whatever is in them."""
    parts = [
        der.sequence(PRIVATE, nested(1000)),
        der.sequence(builders.SIGNED_DATA),
        der.sequence(builders.ENCRYPTED_DATA),
        encrypted_info(pbes2(pbkdf2(EMPTY_INTEGER)), bytes(16)),
        encrypted_info(nested(1000), bytes(16)),
        builders.aes_info(cert_bag("c"), password="another"),
    ]
    crafted(beside(*parts))
    outcome = launcher.run(LIST, environment)
    assert_bounded(outcome)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.splitlines() == [FIRST_LINE, LAST_LINE]


def test_equal_aliases(launcher: Launcher, crafted: Crafted, environment: Environment) -> None:
    """Of names that are equal after folding the last one counts, and each is listed once."""
    names = ("twin", "TWIN", "Twin", "twin")
    bags = [
        stock_secret(f"{prefix}{name}", f"{hostile.KEY}{number:04}")
        for number, (prefix, name) in enumerate(itertools.product((PREFIX, "API_KEY:"), names))
    ]
    crafted(between(*bags, *bags[:1]))
    outcome = launcher.run(LIST, environment)
    assert_bounded(outcome)
    assert outcome.stdout.splitlines() == [
        FIRST_LINE,
        f"twin {SHOWN}0000 (No expiration)",
        LAST_LINE,
    ]
    taken = launcher.run(["create", "tWiN"], environment)
    assert (taken.code, taken.stdout) == (1, "")
    assert taken.stderr.startswith("Error: An API key with alias 'tWiN' already exists.\n")


NASTY = [
    "\x1b[2J\x1b[1;1H", "\x1b]0;title\x07", "a\r\nb", "a\tb", "\0", "\x7f", "\x9b31m", "\u202egnp",
    "\u2066x\u2069", "\u200b", "\ufeff", "\u2028", "\u2029", "\ud800", "\U000e0001", "", " ", "__",
]  # fmt: skip


@pytest.mark.parametrize("arguments", [LIST, ["list", "-q"], ["list", "-o", "json"]])
def test_nasty_names(
    launcher: Launcher, crafted: Crafted, environment: Environment, arguments: list[str]
) -> None:
    """Names, keys and reasons that would move the cursor or reorder the line are escaped."""
    bags = [stock_secret(f"{PREFIX}{name}", f"12345678{name}__{name}") for name in NASTY[:13]]
    bags += [any_bag(builders.SECRET_BAG, b"", friendly_name(PREFIX + name)) for name in NASTY[13:]]
    keystore = crafted(between(*bags))
    before = state(keystore)
    outcome = launcher.run(arguments, environment)
    assert_bounded(outcome)
    assert_polite(outcome)
    assert outcome.code == 0, outcome.stderr
    if "json" not in arguments:
        assert outcome.stdout.count("\n") == len(NASTY) + 2
    assert state(keystore) == before


# Bombs

BOMBS: dict[str, tuple[File, int | None]] = {
    "tiny bags": (lambda: hostile.tiny_bags(ALMOST_FULL), 1),
    "tiny bags in many parts": (lambda: hostile.tiny_bags_in_many_parts(170, ALMOST_FULL), 1),
    "100,000 tiny bags": (lambda: hostile.tiny_bags(700_000), 0),
    "tiny parts": (lambda: hostile.tiny_infos(ALMOST_FULL), 1),
    "tiny attributes": (lambda: hostile.tiny_attributes(ALMOST_FULL), None),
    "many unreadable keys": (lambda: hostile.unreadable_keys(99_999), 0),
    "many attributes before each name": (lambda: hostile.keys_with_attributes(40_000, 31), 0),
    "a huge ASCII name": (lambda: hostile.huge_name("a", ALMOST_FULL), None),
    "a huge name of controls": (lambda: hostile.huge_name("\u202e", ALMOST_FULL), None),
    "a huge value": (lambda: hostile.huge_value(ALMOST_FULL), 0),
    "a huge PBKDF2 salt": (lambda: hostile.huge_entry_salt(ALMOST_FULL, "pbes2"), 0),
    "a huge 3DES salt": (lambda: hostile.huge_entry_salt(ALMOST_FULL, "3des"), 0),
    "a huge MAC salt": (lambda: hostile.huge_mac_salt(ALMOST_FULL, "sha512"), 0),
    "a huge opaque part": (
        lambda: beside(encrypted_info(pbes2(), bytes(ALMOST_FULL))),
        0,
    ),
    "huge trailing bytes": (lambda: GOOD + bytes(ALMOST_FULL), 0),
    "costly keys": (lambda: hostile.costly_keys(99, 1_000_000), None),
    "costly keys beside junk": (lambda: hostile.costly_keys(99, 1_000_000, junk=9_999), None),
    "keys that cost a little too much": (lambda: hostile.costly_keys(2, 1_000_000), None),
    "many keys that cost too much together": (lambda: hostile.costly_keys(999, 100_000), None),
    "many parts that cost too much together": (lambda: hostile.costly_parts(999, 100_000), None),
}
"""Each with the exit code of `list`; None where either is right, as long as it is cheap."""


@pytest.mark.slow
@pytest.mark.parametrize("bomb", cases(BOMBS))
def test_bombs(
    launcher: Launcher,
    crafted: Crafted,
    environment: Environment,
    bomb: tuple[File, int | None],
    record_property: Callable[[str, object], None],
) -> None:
    """A file of any shape up to the size limit takes little time and memory to list."""
    make, code = bomb
    keystore = crafted(make())
    before = state(keystore)
    outcome = launcher.run(LIST, environment)
    record_property("cpu_seconds", round(outcome.cpu, 2))
    record_property("megabytes", outcome.memory // 10**6)
    assert_bounded(outcome)
    if code == 1 or outcome.code == 1:
        assert_refused(outcome, keystore, LIMIT)
    else:
        assert outcome.code == 0, outcome.stderr[:1000]
        assert "Traceback" not in outcome.stderr
    assert state(keystore) == before


WRITTEN_BOMBS: dict[str, File] = {
    name: BOMBS[name][0]
    for name in (
        "tiny bags in many parts",
        "tiny attributes",
        "many unreadable keys",
        "a huge value",
        "a huge PBKDF2 salt",
        "many parts that cost too much together",
    )
}


@pytest.mark.slow
@pytest.mark.parametrize("make", cases(WRITTEN_BOMBS))
def test_bombs_are_written_cheaply(
    launcher: Launcher,
    crafted: Crafted,
    environment: Environment,
    make: File,
    record_property: Callable[[str, object], None],
) -> None:
    """Adding a key to such a file takes little time and memory, too, or is refused."""
    keystore = crafted(make())
    before = state(keystore)
    outcome = launcher.run(CREATE, environment)
    record_property("cpu_seconds", round(outcome.cpu, 2))
    record_property("megabytes", outcome.memory // 10**6)
    assert_bounded(outcome)
    assert_polite(outcome)
    if outcome.code == 1:
        assert_refused(outcome, keystore, LIMIT)
        assert state(keystore) == before
    else:
        assert outcome.code == 0, outcome.stderr
        assert state(keystore).beside == ("apikey-activity.db", keystore.name)


# Mutants without a plan


def mutant(seed: int) -> bytes:
    """Return a good keystore with some elements dropped, doubled, emptied, moved or retyped."""
    dice = random.Random(seed)
    content = GOOD if seed % 3 == 0 else GOOD_SAFE
    roots = builders.tree(content)
    for _ in range(dice.randint(1, 3)):
        node = dice.choice([one for root in roots for one in root.walk()])
        change = dice.randrange(6)
        if change == 0 and node.children:
            node.children.pop(dice.randrange(len(node.children)))
        elif change == 1 and node.children:
            node.children.append(dice.choice(node.children))
        elif change == 2:
            node.content, node.children = b"", []
        elif change == 3:
            node.tag = dice.choice([2, 4, 5, 6, 0x1E, 0x30, 0x31, 0x80, 0xA0])
        elif change == 4:
            node.content, node.children = dice.randbytes(dice.randrange(300)), []
        else:
            node.children.reverse()
    changed = b"".join(root.encode() for root in roots)
    return changed if seed % 3 == 0 else sealed(changed)


@pytest.mark.parametrize("seed", range(15))
def test_mutants(launcher: Launcher, crafted: Crafted, environment: Environment, seed: int) -> None:
    """Whatever is in the file, it is listed, or refused in one line that names it."""
    keystore = crafted(mutant(seed))
    before = state(keystore)
    outcome = launcher.run(LIST, environment)
    assert_bounded(outcome)
    assert_polite(outcome)
    if outcome.code:
        assert_refused(outcome, keystore, "")
    assert state(keystore) == before


@pytest.mark.parametrize("size", [1, 2, 100, 4096])
def test_garbage(launcher: Launcher, crafted: Crafted, environment: Environment, size: int) -> None:
    """Random bytes are no keystore, under a correct MAC neither."""
    garbage = random.Random(size).randbytes(size)
    for content in (b"\xff" + garbage, sealed(garbage), sealed(der.sequence(garbage))):
        keystore = crafted(content)
        before = state(keystore)
        outcome = launcher.run(LIST, environment)
        assert_bounded(outcome)
        assert_refused(outcome, keystore, "")
        assert state(keystore) == before
