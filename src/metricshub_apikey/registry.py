"""
The API keys of one keystore: create, list, revoke.

    >>> registry = ApiKeyRegistry(Keystore("metricshub-keystore.p12"))
    >>> key = registry.create("mcp-openai")
    >>> [(known.alias, known.key == key.key) for known in registry.list()]
    [('mcp-openai', True)]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from . import keys
from .errors import (
    EntryUnreadableError,
    ExpiryInPastError,
    KeyExistsError,
    KeyNotFoundError,
    NotConfirmedError,
)
from .expiry import to_local
from .keys import ENTRY_PREFIX, ApiKey
from .keystore import Keystore
from .pkcs12.bag import Bag, fold
from .pkcs12.store import Store


def utc_now() -> datetime:
    """Return the current instant."""
    return datetime.now(UTC)


class ApiKeyRegistry:
    """The API keys in a keystore; its other entries are never touched."""

    def __init__(self, keystore: Keystore, *, clock: Callable[[], datetime] = utc_now) -> None:
        """
        Use *keystore*.

        Args:
            keystore: Where the keys are.
            clock: Returns the current instant, with a time zone.
        """
        self.keystore = keystore
        self._clock = clock

    def create(self, alias: str, *, expires_on: datetime | None = None) -> ApiKey:
        """
        Make a new API key and put it into the keystore, which is made if there is none.

        Args:
            alias: 1 to 128 characters; stored in lower case, as Java does.
            expires_on: Local date time of the machine the server runs on; None means never.

        Returns:
            The key. It is on the disk, and this is the only time it is handed out in clear.

        Raises:
            InvalidArgumentError: The alias breaks a rule.
            ExpiryInPastError: The key would not live.
            KeyExistsError: The alias is taken.
            KeystoreError: The keystore could not be changed; see `Keystore.update`.
        """
        keys.check_alias(alias)
        now = self._clock()
        if expires_on is not None and expires_on <= to_local(now):
            raise ExpiryInPastError("Expiration date time must be in the future.")
        random_bytes = self.keystore.random_bytes
        key = keys.new_key(random_bytes)
        created_ms = int(now.timestamp() * 1000)

        def add(store: Store) -> ApiKey:
            _require_free(store, alias)
            value = keys.encode(key, expires_on)
            entry = ENTRY_PREFIX + alias
            store.add(entry, value, created_ms=created_ms, random_bytes=random_bytes)
            return ApiKey(fold(alias), key, expires_on, created_ms)

        try:
            return self.keystore.update(add, create=True)
        except NotConfirmedError as error:
            hint = f"Check the disk. Nobody got the key: revoke '{alias}', then create it again."
            raise NotConfirmedError(error.message, hint=hint) from error

    def require_free(self, alias: str) -> None:
        """
        Check that *alias* can be created.

        Raises:
            KeyExistsError: It is taken.
            KeystoreError: The file cannot be read; see `Keystore.read`.
        """
        _require_free(self.keystore.read(), alias)

    def list(self, progress: Callable[[int, int], None] | None = None) -> tuple[ApiKey, ...]:
        """
        Return all API keys in the order of the keystore; none where there is no file.

        An entry that cannot be read is in the list with the reason. Of entries with the same
        alias the last one counts, as in Java.

        Args:
            progress: Called with how many keys are derived, and how many there are, where a
                keystore of somebody else's needs one derivation for each entry.

        Raises:
            KeystoreError: The file cannot be read; see `Keystore.read`.
        """
        store = self.keystore.read()
        entries = _entries(store)
        with self.keystore.named_in_errors():
            values = store.values(entries.values(), progress)
            return tuple(
                _open(alias, bag, value)
                for (alias, bag), value in zip(entries.items(), values, strict=True)
            )

    def aliases(self) -> tuple[str, ...]:
        """Return the aliases in the order of the keystore, without decrypting any entry."""
        return tuple(_entries(self.keystore.read()))

    def revoke(self, *aliases: str) -> tuple[str, ...]:
        """
        Remove API keys, all or none, leaving every other entry's bytes untouched.

        MetricsHub keeps its master key and its users in the same file.

        Args:
            aliases: Letter case is ignored, as in Java; naming one twice counts once.

        Returns:
            The aliases as given, each once.

        Raises:
            KeyNotFoundError: One of them has no API key; nothing was removed.
            KeystoreError: The keystore could not be changed; see `Keystore.update`.
        """
        wanted: dict[str, str] = {}
        for alias in aliases:
            wanted.setdefault(fold(alias), alias)

        def remove(store: Store) -> None:
            found: dict[str, list[Bag]] = {}
            for alias, bag in _api_keys(store):
                found.setdefault(alias, []).append(bag)
            for folded, alias in wanted.items():
                if folded not in found:
                    raise KeyNotFoundError(f"No API key found with alias '{alias}'.")
            store.remove(bag for folded in wanted for bag in found[folded])

        self.keystore.update(remove)
        return tuple(wanted.values())


def _require_free(store: Store, alias: str) -> None:
    if store.find(ENTRY_PREFIX + alias):
        raise KeyExistsError(
            f"An API key with alias '{alias}' already exists.",
            hint="Revoke it first, or choose another alias.",
        )


def _api_keys(store: Store) -> Iterator[tuple[str, Bag]]:
    """Yield the alias and the bag of every API key."""
    for bag in store.bags:
        if bag.alias is not None and bag.alias.startswith(ENTRY_PREFIX):
            yield bag.alias.removeprefix(ENTRY_PREFIX), bag


def _entries(store: Store) -> dict[str, Bag]:
    """Return the last bag of each alias, in the order of these bags."""
    entries: dict[str, Bag] = {}
    for alias, bag in _api_keys(store):
        entries.pop(alias, None)
        entries[alias] = bag
    return entries


def _open(alias: str, bag: Bag, value: bytes | EntryUnreadableError) -> ApiKey:
    try:
        if isinstance(value, EntryUnreadableError):
            raise value
        key, expires_on = keys.decode(value)
    except EntryUnreadableError as error:
        return ApiKey(alias, None, None, bag.created_ms, unreadable=error.message)
    return ApiKey(alias, key, expires_on, bag.created_ms)
