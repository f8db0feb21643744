"""
Keystores made to hurt, sealed so that the command believes them; and its run, measured.

The seal is the published password's, as for every stock keystore: whoever can write the file can
make all that is built here.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import builders
from builders import ONE, SALT, any_bag, data_info, friendly_name, secret_bag
from metricshub_apikey.keystore.keystore import STOCK_PASSWORDS
from metricshub_apikey.pkcs12 import der
from metricshub_apikey.pkcs12.kdf import KdfParameters, pkcs12_kdf

FULL = 16 << 20
"""The largest file that is read."""

KEY = "eb47c2be-927f-495f-aa97-0ba0f60b"
FIRST, LAST = f"{KEY}1111", f"{KEY}9999"

TINY_OID = b"\x06\x01\x2a"
PREFIX = "api_key:"
"""What makes an entry an API key."""

MAX_CPU = 30
"""CPU seconds after which a run is killed: a safety net, for machines that are slow or busy."""

MAX_MEMORY = 200_000_000

# Sealed files


def stock_secret(name: str, value: bytes | str, *extra: bytes, algorithm: bytes = b"") -> bytes:
    """Return the bag of an entry under the published password; *extra* are more attributes."""
    data = value.encode() if isinstance(value, str) else value
    return secret_bag(
        name, data, *extra, password=STOCK_PASSWORDS.entries.reveal(), algorithm=algorithm
    )


def stock_mac(
    safe: bytes,
    *,
    hash_name: str = "sha256",
    count: bytes = ONE,
    salt: bytes = SALT,
    iterations: int = 1,
) -> bytes:
    """Return a correct MacData for *iterations*, in which *count* is written."""
    size = hashlib.new(hash_name).digest_size
    key = pkcs12_kdf(
        STOCK_PASSWORDS.store.reveal(), 3, KdfParameters(salt, iterations, hash_name), size
    )
    return builders.seal_around(
        der.sequence(builders.HASHES[hash_name], der.NULL),
        hmac.digest(key, safe, hash_name),
        der.octets(salt),
        count,
    )


def stock_pbmac1(safe: bytes, size: int, count: bytes = ONE) -> bytes:
    """Return a correct PBMAC1 whose key has *size* bytes."""
    key = builders.pbkdf2_key(STOCK_PASSWORDS.store.reveal(), "sha256", size)
    kdf = builders.pbkdf2(count, key_length=der.integer(size))
    scheme = der.sequence(kdf, der.sequence(builders.HMACS["sha256"], der.NULL))
    return builders.seal_around(
        der.sequence(builders.PBMAC1, scheme),
        hmac.digest(key, safe, "sha256"),
        der.octets(b"NOT USED"),
        ONE,
    )


def sealed(safe: bytes, seal: bytes | None = None) -> bytes:
    """Return a file around *safe* with a correct MAC, or another *seal*."""
    return builders.pfx(safe, stock_mac(safe) if seal is None else seal)


def with_infos(*infos: bytes) -> bytes:
    """Return a sealed file with these ContentInfos."""
    return sealed(der.sequence(*infos))


FIRST_BAG = stock_secret(f"{PREFIX}first", FIRST)
LAST_BAG = stock_secret(f"{PREFIX}last", LAST)


def between(*bags: bytes) -> bytes:
    """Return a sealed file with *bags* between two good keys, `first` and `last`."""
    return with_infos(data_info(FIRST_BAG, *bags, LAST_BAG))


def beside(*infos: bytes) -> bytes:
    """Return a sealed file with a good plain part, and *infos* after it."""
    return with_infos(data_info(FIRST_BAG, LAST_BAG), *infos)


def nested(depth: int, tag: int = der.SEQUENCE, core: bytes = der.NULL) -> bytes:
    """Return *core* inside *depth* elements."""
    for _ in range(depth):
        core = der.element(tag, core)
    return core


def claiming(size: int, tag: int = der.SEQUENCE) -> bytes:
    """Return the start of an element that claims *size* bytes."""
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length


def fill(piece: bytes, size: int) -> bytes:
    """Return as many of *piece* as *size* bytes hold."""
    return piece * (size // len(piece))


# Bombs: files of nearly 16 MiB, or small ones that ask for much


def tiny_bags(size: int) -> bytes:
    """Return a file of *size* bytes with the smallest bags there are."""
    return with_infos(data_info(fill(any_bag(TINY_OID, b""), size)))


def tiny_bags_in_many_parts(parts: int, size: int) -> bytes:
    """Return the same, the bags shared out among *parts* that keep the limit each."""
    bags = fill(any_bag(TINY_OID, b""), size // parts)
    return with_infos(data_info(bags) * parts)


def tiny_infos(size: int) -> bytes:
    """Return a file of *size* bytes with the smallest ContentInfos."""
    return with_infos(fill(der.sequence(TINY_OID), size))


def tiny_attributes(size: int) -> bytes:
    """Return a file with one bag of *size* bytes of the smallest attributes."""
    return between(any_bag(builders.SECRET_BAG, b"", fill(der.sequence(TINY_OID), size)))


def keys_with_attributes(count: int, attributes: int) -> bytes:
    """Return a file with *count* unreadable keys whose name is the last of their attributes."""
    before = der.sequence(TINY_OID) * attributes
    bags = (
        any_bag(TINY_OID, b"", before, friendly_name(f"{PREFIX}{number}"))
        for number in range(count)
    )
    return with_infos(data_info(b"".join(bags)))


def unreadable_keys(count: int) -> bytes:
    """Return a file with *count* keys that are no secrets."""
    bags = (any_bag(TINY_OID, b"", friendly_name(f"{PREFIX}{number}")) for number in range(count))
    return with_infos(data_info(b"".join(bags)))


def huge_name(character: str, size: int) -> bytes:
    """Return a file with a key whose name takes *size* bytes."""
    count = size // len(character.encode("utf-16-be"))
    return between(any_bag(TINY_OID, b"", friendly_name(PREFIX + character * count)))


def huge_value(size: int) -> bytes:
    """Return a file with a key of *size* bytes."""
    return between(stock_secret(f"{PREFIX}odd", b"k" * size))


def huge_entry_salt(size: int, scheme: str) -> bytes:
    """Return a file with a key whose salt has *size* bytes."""
    salt = bytes(size)
    if scheme == "pbes2":
        algorithm = builders.pbes2(builders.pbkdf2(salt=salt))
    else:
        algorithm = der.sequence(builders.PBE_3DES, der.sequence(der.octets(salt), ONE))
    return between(stock_secret(f"{PREFIX}odd", b"x", algorithm=algorithm))


def huge_mac_salt(size: int, hash_name: str) -> bytes:
    """Return a file whose MAC has a salt of *size* bytes."""
    safe = der.sequence(data_info(FIRST_BAG, LAST_BAG))
    return sealed(safe, stock_mac(safe, hash_name=hash_name, salt=bytes(size)))


def costly_keys(count: int, iterations: int, *, hash_name: str = "sha512", junk: int = 0) -> bytes:
    """Return a file with *count* keys, each with a salt of its own; *junk* more bags are tiny."""
    bags = [any_bag(TINY_OID, b"") * junk]
    for number in range(count):
        kdf = builders.pbkdf2(
            der.integer(iterations), salt=b"%20d" % number, prf=builders.HMACS[hash_name]
        )
        name = friendly_name(f"{PREFIX}{number}")
        bags.append(builders.shrouded_bag(builders.pbes2(kdf), bytes(32), name))
    return with_infos(data_info(*bags))


def costly_3des_keys(count: int, iterations: int) -> bytes:
    """Return the same under the scheme of old JDKs, whose derivation is pure Python."""
    bags = []
    for number in range(count):
        parameters = der.sequence(der.octets(b"%20d" % number), der.integer(iterations))
        algorithm = der.sequence(builders.PBE_3DES, parameters)
        name = friendly_name(f"{PREFIX}{number}")
        bags.append(builders.shrouded_bag(algorithm, bytes(32), name))
    return with_infos(data_info(*bags))


def costly_parts(count: int, iterations: int) -> bytes:
    """Return a file with *count* encrypted parts, each with a salt of its own."""
    return beside(
        *(
            builders.encrypted_info(
                builders.pbes2(builders.pbkdf2(der.integer(iterations), salt=b"%20d" % number)),
                bytes(32),
            )
            for number in range(count)
        )
    )


def many_good_keys(size: int) -> bytes:
    """Return a file of at least *size* bytes with good keys."""
    one = len(stock_secret(f"{PREFIX}00000000", FIRST))
    bags = (stock_secret(f"{PREFIX}{number:08}", FIRST) for number in range(size // one))
    return with_infos(data_info(b"".join(bags)))


# Running the command, measured

LAUNCHER = """
import json, os, resource, sys
for line in sys.stdin:
    arguments, environment, out, limit = json.loads(line)
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        for number, name in enumerate(("/dev/null", out + ".out", out + ".err")):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(name, flags, 0o600), number)
        os.execve(arguments[0], arguments, environment)
    _, status, used = os.wait4(child, 0)
    print(json.dumps([status, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]), flush=True)
"""
"""
A small process that starts the command. One that pytest starts would inherit the record of its
memory: `ru_maxrss` survives `exec`.
"""


class Outcome(NamedTuple):
    """How a run ended; CPU seconds and the peak of resident bytes include what it started."""

    code: int
    stdout: str
    stderr: str
    cpu: float
    memory: int


class Launcher:
    """Runs the real command and measures it."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder

    def run(self, arguments: Sequence[str | Path], environment: Mapping[str, str]) -> Outcome:
        """Run the command with *arguments*."""
        command = [sys.executable, "-m", "metricshub_apikey", *map(str, arguments)]
        out = self._folder / "stream"
        request = json.dumps([command, dict(environment), str(out), MAX_CPU])
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(request, file=self._process.stdin, flush=True)
        status, cpu, memory = json.loads(self._process.stdout.readline())
        stdout, stderr = (out.with_suffix(end).read_text("utf-8") for end in (".out", ".err"))
        return Outcome(os.waitstatus_to_exitcode(status), stdout, stderr, cpu, memory)


@contextmanager
def launcher(folder: Path) -> Iterator[Launcher]:
    """Start the process that starts the command; its streams go to *folder*."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", LAUNCHER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Launcher(process, folder)
        assert process.stdin is not None
        process.stdin.close()


class State(NamedTuple):
    """All that a failed run must leave as it was."""

    content: bytes
    modified_ns: int
    inode: int
    mode: int
    beside: tuple[str, ...]


def state(keystore: Path) -> State:
    """Return the keystore's bytes, times and mode, and what lies beside it but its lock."""
    status = keystore.stat()
    lock = f".{keystore.name}.lock"
    names = tuple(sorted(name for name in os.listdir(keystore.parent) if name != lock))
    return State(keystore.read_bytes(), status.st_mtime_ns, status.st_ino, status.st_mode, names)


def harmless(text: str) -> bool:
    """Return whether a terminal can be shown *text*: nothing in it moves, hides or reorders."""
    if text.isascii():
        return text.replace("\n", "").isprintable()
    invisible = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return not any(unicodedata.category(one) in invisible for one in set(text) - {"\n"})


def assert_bounded(outcome: Outcome) -> None:
    """Check that a run cost little and ended by itself."""
    assert outcome.code >= 0, f"killed by signal {-outcome.code} after {outcome.cpu:.1f} s of CPU"
    assert outcome.memory < MAX_MEMORY


def assert_polite(outcome: Outcome) -> None:
    """Check that no bug was shown, and nothing that harms a terminal."""
    assert "Traceback" not in outcome.stderr
    assert harmless(outcome.stdout)
    assert harmless(outcome.stderr)


def assert_refused(outcome: Outcome, keystore: Path, reason: str) -> None:
    """Check that the command failed with one error line that names the file and *reason*."""
    assert_polite(outcome)
    assert outcome.code == 1, outcome
    assert outcome.stdout == ""
    error, *hints = outcome.stderr.splitlines()
    assert error.startswith(f"Error: {keystore} ")
    assert reason in error + "".join(hints)
    assert len(hints) <= 1
    assert all(hint.startswith("Hint: ") for hint in hints)
