"""
A whole PKCS#12 file in memory: read it, add and remove secrets, write it again.

    >>> import os
    >>> store = Store.empty(Passwords("changeit", "secret"))
    >>> store.add("greeting", b"hello", created_ms=0, random_bytes=os.urandom)
    >>> again = Store.parse(store.serialise(os.urandom), store.passwords)
    >>> [bag.alias for bag in again.bags], again.values(again.bags)
    (['greeting'], [b'hello'])

What is not asked to change stays as it is, byte for byte; only the MAC is made anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from metricshub_apikey.errors import EntryUnreadableError
from metricshub_apikey.pkcs12.problems import (
    DamagedBytesError,
    FormatLimitError,
    UnsupportedFormatError,
)

from . import der, mac
from .bag import Bag, encode_bag, encode_secret, fold, secret_value
from .contents import MAX_BAGS, Contents
from .kdf import KdfParameters, KeyDerivation, Passwords
from .pbe import (
    AES_256_KEY,
    AES_BLOCK,
    ITERATIONS,
    SALT_SIZE,
    Encrypted,
    Pbes2,
    decrypt_all,
    derivations,
    encrypt,
)
from .pfx import encode_pfx, open_pfx

MAX_PARTS = 100
SHARED_SALT_SIZES = range(16, 65)


class Store:
    """
    The entries of a keystore, in order.

    Attributes:
        passwords: What opens it.
        keys: What was derived for it so far.
        added: The encodings of the bags that were put there.
        removed: The encodings of the bags that were taken away.
        seal: The MAC that the file had; None for a new one.
        trailing: How many bytes followed the keystore in the file; they are not written again.
    """

    def __init__(
        self,
        contents: list[Contents],
        seal: mac.Mac | None,
        passwords: Passwords,
        keys: KeyDerivation,
        *,
        trailing: int = 0,
    ) -> None:
        """Use `parse` or `empty` instead."""
        self._contents = contents
        self.seal = seal
        self._kdfs: dict[str, KdfParameters] = {}
        self.keys = keys
        self.added: Counter[bytes] = Counter()
        self.removed: Counter[bytes] = Counter()
        self.passwords = passwords
        self.trailing = trailing

    @classmethod
    def empty(cls, passwords: Passwords, keys: KeyDerivation | None = None) -> Store:
        """Return a keystore without entries."""
        return cls([], None, passwords, keys or KeyDerivation())

    @classmethod
    def parse(
        cls,
        data: bytes,
        passwords: Passwords,
        keys: KeyDerivation | None = None,
        *,
        known: Iterable[Bag] = (),
    ) -> Store:
        """
        Read a whole file and check its MAC; no entry is decrypted yet.

        Args:
            data: The file's bytes.
            passwords: Of the store and of its entries.
            keys: Where keys are derived; share one to derive each key once.
            known: Bags that need not be read again where their bytes are met.

        Raises:
            NotPkcs12Error: The bytes are something else.
            TruncatedBytesError: They end too early.
            DamagedBytesError: The password is wrong, or the bytes are damaged.
            UnsupportedFormatError: BER, another version, no MAC, public-key integrity.
            FormatLimitError: It asks for more than a limit allows.
        """
        keys = keys or KeyDerivation()
        safe, at, end = open_pfx(data)
        if at == end:
            raise UnsupportedFormatError("has no MAC: its entries may be forged")
        body, stop = der.enter_last(data, at, end, der.SEQUENCE)
        seal = mac.parse_mac(data, body, stop)
        mac.verify(seal, safe, passwords.store.reveal(), keys)
        contents = _parse_safe(
            safe, passwords.store.reveal(), keys, {bag.raw: bag for bag in known}
        )
        return cls(contents, seal, passwords, keys, trailing=len(data) - end)

    @property
    def bags(self) -> list[Bag]:
        """Every entry, in order; entries of foreign kinds included."""
        return [bag for contents in self._contents for bag in contents.bags]

    @property
    def changed(self) -> bool:
        """Whether anything was added or removed."""
        return self.added.total() > 0 or self.removed.total() > 0

    def pieces(self) -> list[bytes]:
        """Return the encodings of all bags, and of the parts that are not understood."""
        return [piece for contents in self._contents for piece in contents.pieces()]

    def find(self, alias: str) -> list[Bag]:
        """Return the bags with *alias*, whatever its case; of several, the last one counts."""
        folded = fold(alias)
        return [bag for bag in self.bags if bag.alias == folded]

    def values(
        self, bags: Iterable[Bag], progress: Callable[[int, int], None] | None = None
    ) -> list[bytes | EntryUnreadableError]:
        """
        Decrypt many secrets; all processors derive their keys.

        Args:
            bags: Which ones.
            progress: Called with how many keys are derived, and how many there are.

        Returns:
            For each its value, or why it cannot be read.

        Raises:
            FormatLimitError: All of them together ask for more iterations than the limit allows.
        """
        outlines = [_encrypted(bag) for bag in bags]
        secrets = [one for one in outlines if isinstance(one, Encrypted)]
        wanted = dict.fromkeys(key for one in secrets for key in derivations(one.algorithm))
        password = self.passwords.entries.reveal()
        self.keys.derive_all(password, list(wanted), progress)
        opened = iter(decrypt_all(secrets, password, self.keys))
        return [_value(next(opened)) if isinstance(one, Encrypted) else one for one in outlines]

    def add(
        self,
        alias: str,
        value: bytes,
        *,
        created_ms: int,
        random_bytes: Callable[[int], bytes],
        attributes: bytes = b"",
    ) -> None:
        """
        Put a new secret behind the others.

        Args:
            alias: Stored in lower case; any characters but lone surrogates.
            value: The secret's bytes.
            created_ms: Milliseconds since 1970 UTC.
            random_bytes: Returns that many random bytes.
            attributes: More of them than Java's two, encoded.
        """
        secret = self.encrypt(alias, value, random_bytes)
        self.adopt(Bag(encode_bag(fold(alias), created_ms, *secret, attributes)))

    def encrypt(
        self, alias: str, value: bytes, random_bytes: Callable[[int], bytes]
    ) -> tuple[Pbes2, bytes]:
        """
        Return how the secret *value* of the entry *alias* is encrypted, and the ciphertext.

        It shares its PBKDF2 salt with the secrets of ours that are there already, so one
        derivation opens them all; the initialisation vector is its own.
        """
        prefix = fold(alias).partition(":")[0]
        kdf = self._kdfs.get(prefix) or self._shared_kdf(alias)
        self._kdfs[prefix] = kdf or KdfParameters(random_bytes(SALT_SIZE), ITERATIONS, "sha256")
        algorithm = Pbes2(self._kdfs[prefix], AES_256_KEY, random_bytes(AES_BLOCK))
        plaintext = encode_secret(value)
        return algorithm, encrypt(algorithm, self.passwords.entries.reveal(), plaintext, self.keys)

    def adopt(self, bag: Bag) -> None:
        """
        Put *bag* behind the others, byte for byte as it is.

        Raises:
            FormatLimitError: There are as many entries as a keystore may have.
        """
        if sum(len(contents.bags) for contents in self._contents) >= MAX_BAGS:
            raise FormatLimitError(f"holds as many entries as the limit of {MAX_BAGS:,} allows")
        self._last_plain_contents().append(bag)
        self.added[bag.raw] += 1

    def replace(self, revised: Mapping[Bag, Bag]) -> None:
        """Put other bags in the places of those that are keys of *revised*."""
        for contents in self._contents:
            for bag in contents.replace(revised):
                self._forget(bag)
                self.added[revised[bag].raw] += 1

    def _shared_kdf(self, alias: str) -> KdfParameters | None:
        """Return the derivation of the last modern secret with the same prefix (`api_key:`)."""
        prefix, colon, _ = fold(alias).partition(":")
        backwards = (bag for part in reversed(self._contents) for bag in reversed(part.bags))
        for bag in backwards:
            if not (bag.alias or "").startswith(prefix + colon):
                continue
            try:
                algorithm = bag.encrypted().algorithm
            except EntryUnreadableError:
                continue
            kdf = algorithm.kdf
            if isinstance(algorithm, Pbes2) and kdf[1:] == (ITERATIONS, "sha256"):
                return kdf if len(kdf.salt) in SHARED_SALT_SIZES else None
        return None

    def _last_plain_contents(self) -> Contents:
        for contents in reversed(self._contents):
            if contents.plain:
                return contents
        # Java puts the plain part before the encrypted one.
        self._contents.insert(0, Contents(None, []))
        return self._contents[0]

    def remove(self, bags: Iterable[Bag]) -> None:
        """Cut out *bags*; what was a part of only these goes with them, as in Java."""
        unwanted = set(bags)
        for contents in self._contents:
            for bag in contents.remove(unwanted):
                self._forget(bag)
        self._contents = [part for part in self._contents if part.bags or not part.changed]

    def _forget(self, bag: Bag) -> None:
        if self.added[bag.raw]:
            self.added[bag.raw] -= 1
        else:
            self.removed[bag.raw] += 1

    def serialise(self, random_bytes: Callable[[int], bytes]) -> bytes:
        """
        Return the whole file, freshly sealed.

        Raises:
            UnsupportedFormatError: The file's MAC is of a kind that is only read.
        """
        password = self.passwords.store.reveal()
        safe = der.sequence(
            *(part.encode(password, self.keys, random_bytes) for part in self._contents)
        )
        seal = mac.seal(safe, password, self.keys, like=self.seal, random_bytes=random_bytes)
        return encode_pfx(safe, seal)


def _encrypted(bag: Bag) -> Encrypted | EntryUnreadableError:
    try:
        return bag.encrypted()
    except EntryUnreadableError as error:
        # A new one: a hundred thousand tracebacks are a lot of memory.
        return EntryUnreadableError(error.message)


def _value(plaintext: bytes | None) -> bytes | EntryUnreadableError:
    try:
        if plaintext is not None:
            return secret_value(plaintext)
    except (DamagedBytesError, UnsupportedFormatError):
        pass  # The password was wrong, and the padding right by chance.
    return EntryUnreadableError("it has another password or is damaged")


def _parse_safe(
    safe: bytes, password: str, keys: KeyDerivation, known: dict[bytes, Bag]
) -> list[Contents]:
    start, end = der.enter_last(safe, 0, len(safe), der.SEQUENCE)
    parts = der.split(safe, start, end, der.SEQUENCE, most=MAX_PARTS, what="parts")
    contents, count = [], 0
    for raw in parts:
        contents.append(Contents.parse(raw, password, keys, known))
        count += len(contents[-1].bags)
        if count > MAX_BAGS:
            raise FormatLimitError(f"holds more entries than the limit of {MAX_BAGS:,}")
    return contents
