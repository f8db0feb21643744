"""
From passwords to keys: PBKDF2 (RFC 8018) and the PKCS#12 KDF (RFC 7292, appendix B.2).

Deriving a key is what a keystore costs, in time and as a weapon: a file may ask for any number
of iterations. So every derivation of a run goes through one `KeyDerivation`, which repeats none
and stops where a keystore asks for more than an honest one needs.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import NamedTuple

from metricshub_apikey.pkcs12.problems import FormatLimitError
from metricshub_apikey.secret import Secret

MAX_ITERATIONS = 1_000_000
HONEST_PBKDF2 = 20_000
HONEST_PKCS12 = 100_000
"""What the most expensive key of any JDK costs: its old MAC, or two blocks for a 3DES key."""
EXCESS_BUDGET = 2_000_000
"""What all keys of one run together may cost beyond that: two keys at their own limit."""

KEY, IV, MAC = 1, 2, 3
"""The purposes of the PKCS#12 KDF (RFC 7292, appendix B.3)."""

WORTH_THREADS = 16
"""From this many keys on, starting threads pays."""


class Passwords:
    """
    The two passwords of a keystore; MetricsHub uses one for the file, one for its entries.

    Attributes:
        store: Seals the file, and opens its encrypted parts.
        entries: Opens the secret entries.
    """

    __slots__ = ("entries", "store")

    def __init__(self, store: str, entries: str) -> None:
        """Hide both at once."""
        self.store = Secret(store)
        self.entries = Secret(entries)

    def __eq__(self, other: object) -> bool:
        """Compare both."""
        if not isinstance(other, Passwords):
            return NotImplemented
        return (self.store, self.entries) == (other.store, other.entries)

    def __hash__(self) -> int:
        """Return a hash, salted in each process."""
        return hash((self.store, self.entries))

    @property
    def ascii(self) -> bool:
        """Whether every Java can open a keystore with them."""
        return (self.store.reveal() + self.entries.reveal()).isascii()


class KdfParameters(NamedTuple):
    """
    The public inputs of a derivation, the same three for both functions.

    Attributes:
        salt: Any number of bytes; Java writes 20.
        iterations: At least 1.
        hash_name: As `hashlib` calls it; PBKDF2 uses it under HMAC.
    """

    salt: bytes
    iterations: int
    hash_name: str


class Derivation(NamedTuple):
    """
    One key to derive.

    Attributes:
        kdf: Salt, iterations and hash.
        size: Bytes wanted.
        purpose: None for PBKDF2; `KEY`, `IV` or `MAC` for the PKCS#12 KDF.
    """

    kdf: KdfParameters
    size: int
    purpose: int | None = None


class KeyDerivation:
    """
    Derives each key once, within the limits of one run.

    Besides `MAX_ITERATIONS` for one derivation there is a budget for what all of them together
    cost beyond what a JDK's cost. So a keystore of many old entries stays readable, while
    a small file cannot ask for hours of work.
    """

    def __init__(self) -> None:
        self._keys: dict[tuple[str, Derivation], bytes] = {}
        self._excess = EXCESS_BUDGET

    def derive(self, password: str, wanted: Derivation) -> bytes:
        """
        Return the key.

        Raises:
            FormatLimitError: Too many iterations, for one derivation or for the run.
        """
        key = self._keys.get((password, wanted))
        if key is None:
            self._spend(wanted)
            key = self._keys[password, wanted] = _derive(password, wanted)
        return key

    def derive_all(
        self,
        password: str,
        wanted: list[Derivation],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """
        Derive many keys ahead, on all processors.

        OpenSSL's PBKDF2 runs without the interpreter's lock, so threads are enough.

        Args:
            password: The same for all.
            wanted: What to derive; what is known already costs nothing.
            progress: Called with how many are derived, and how many there are.

        Raises:
            FormatLimitError: Too many iterations; nothing was derived.
        """
        missing = [one for one in dict.fromkeys(wanted) if (password, one) not in self._keys]
        for one in missing:
            self._spend(one)
        if len(missing) < WORTH_THREADS:
            self._keys.update(((password, one), _derive(password, one)) for one in missing)
            return
        # A large keystore of another program; all other runs do not pay for the import.
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            derived = pool.map(lambda one: _derive(password, one), missing)
            for done, (one, key) in enumerate(zip(missing, derived, strict=True), start=1):
                self._keys[password, one] = key
                if progress is not None:
                    progress(done, len(missing))

    def _spend(self, wanted: Derivation) -> None:
        iterations, hash_name = wanted.kdf.iterations, wanted.kdf.hash_name
        if not 1 <= iterations <= MAX_ITERATIONS:
            raise FormatLimitError(
                f"asks for an iteration count outside the limit of 1 to {MAX_ITERATIONS:,}"
            )
        blocks = -(-wanted.size // hashlib.new(hash_name).digest_size)
        honest = HONEST_PBKDF2 if wanted.purpose is None else HONEST_PKCS12
        excess = max(0, iterations * blocks - honest)
        if excess > self._excess:
            raise FormatLimitError(
                f"asks for more iterations than the limit: {honest:,} for each key and "
                f"{EXCESS_BUDGET:,} beyond that for all"
            )
        self._excess -= excess


def _derive(password: str, wanted: Derivation) -> bytes:
    kdf, size, purpose = wanted
    if purpose is None:
        return hashlib.pbkdf2_hmac(kdf.hash_name, password.encode(), kdf.salt, kdf.iterations, size)
    return pkcs12_kdf(password, purpose, kdf, size)


def pkcs12_kdf(password: str, purpose: int, kdf: KdfParameters, size: int) -> bytes:
    """
    Return *size* bytes, step by step as in RFC 7292, appendix B.2.

    The password counts as BMPString with a final NUL; PBKDF2 takes it as UTF-8.
    """
    digest = getattr(hashlib, kdf.hash_name)
    block = digest().block_size
    secret = password.encode("utf-16-be") + b"\0\0"
    mixed = _fill(kdf.salt, block) + _fill(secret, block)
    result = b""
    while True:
        state: bytes = digest(bytes([purpose]) * block + mixed).digest()
        for _ in range(kdf.iterations - 1):
            state = digest(state).digest()
        result += state
        if len(result) >= size:
            return result[:size]
        mixed = _add(mixed, (state * block)[:block], block)


def _fill(source: bytes, block: int) -> bytes:
    """Repeat *source* up to the next multiple of *block* bytes."""
    if not source:
        return b""
    size = -(-len(source) // block) * block
    return (source * (size // len(source) + 1))[:size]


def _add(mixed: bytes, addend: bytes, block: int) -> bytes:
    """Add *addend* + 1 to every block of *mixed*, modulo the block's size."""
    plus = int.from_bytes(addend, "big") + 1
    blocks = (
        (int.from_bytes(mixed[at : at + block], "big") + plus) % (1 << 8 * block)
        for at in range(0, len(mixed), block)
    )
    return b"".join(number.to_bytes(block, "big") for number in blocks)
