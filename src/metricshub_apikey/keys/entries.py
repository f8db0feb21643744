"""API keys as entries of a store: which there are, what they hold, how they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from metricshub_apikey.errors import EntryUnreadableError, KeyExistsError, KeyNotFoundError
from metricshub_apikey.pkcs12.attributes import Texts
from metricshub_apikey.pkcs12.bag import Bag, encode_bag, fold
from metricshub_apikey.pkcs12.store import Store
from metricshub_apikey.secret import UNREADABLE, Secret

from .api_key import ENTRY_PREFIX, ApiKey
from .metadata import ATTRIBUTES, NOTHING, Metadata
from .value import decode, encode

RandomBytes = Callable[[int], bytes]


def each(store: Store) -> Iterator[tuple[str, Bag]]:
    """Yield the alias and the bag of every API key, hidden ones with the same alias too."""
    for bag in store.bags:
        if bag.alias is not None and bag.alias.startswith(ENTRY_PREFIX):
            yield bag.alias.removeprefix(ENTRY_PREFIX), bag


def by_alias(store: Store) -> dict[str, Bag]:
    """Return the last bag of each alias, the one that counts in Java, in the order of these."""
    entries: dict[str, Bag] = {}
    for alias, bag in each(store):
        entries.pop(alias, None)
        entries[alias] = bag
    return entries


def all_by_alias(store: Store) -> dict[str, list[Bag]]:
    """Return all bags of each alias; of several, the last one counts."""
    found: dict[str, list[Bag]] = {}
    for alias, bag in each(store):
        found.setdefault(alias, []).append(bag)
    return found


def read(
    store: Store,
    entries: Mapping[str, Bag],
    progress: Callable[[int, int], None] | None = None,
    *,
    metadata: bool = True,
) -> dict[str, ApiKey]:
    """
    Decrypt *entries*; one that cannot be read is among the keys, with the reason.

    Args:
        store: Where they are.
        entries: Bags by alias.
        progress: Called with how many keys are derived, and how many there are.
        metadata: Read it, too; it takes as long as the rest.
    """
    values = store.values(entries.values(), progress)
    return {
        alias: _open(alias, bag, value, bag.texts(ATTRIBUTES) if metadata else {})
        for (alias, bag), value in zip(entries.items(), values, strict=True)
    }


def _open(alias: str, bag: Bag, value: bytes | EntryUnreadableError, texts: Texts) -> ApiKey:
    metadata = Metadata.from_texts(texts) if texts else NOTHING
    try:
        if isinstance(value, EntryUnreadableError):
            raise value
        key, expires_on = decode(value)
    except EntryUnreadableError as error:
        return ApiKey(alias, UNREADABLE, None, bag.created_ms, error.message, metadata)
    return ApiKey(alias, Secret(key), expires_on, bag.created_ms, None, metadata)


def find(store: Store, alias: str) -> tuple[Bag, ApiKey]:
    """
    Return the entry *alias* and what it holds.

    Raises:
        KeyNotFoundError: There is none.
    """
    bags = store.find(ENTRY_PREFIX + alias)
    if not bags:
        raise not_found(alias)
    folded = fold(alias)
    return bags[-1], read(store, {folded: bags[-1]})[folded]


def not_found(alias: str) -> KeyNotFoundError:
    """Return the error for an *alias* that no key has."""
    return KeyNotFoundError(f"No API key found with alias '{alias}'.")


def require_free(store: Store, alias: str) -> None:
    """
    Check that *alias* can be given to a new key.

    Raises:
        KeyExistsError: It is taken.
    """
    if store.find(ENTRY_PREFIX + alias):
        raise KeyExistsError(
            f"An API key with alias '{alias}' already exists.",
            hint="Revoke it first, or choose another alias.",
        )


def new_bag(store: Store, key: ApiKey, random_bytes: RandomBytes) -> Bag:
    """Return an entry for *key*, which must have a secret and a creation time; not yet there."""
    if key.created_ms is None:
        raise ValueError(key)
    entry = ENTRY_PREFIX + key.alias
    secret = store.encrypt(entry, encode(key.secret.reveal(), key.expires_on), random_bytes)
    attributes = ATTRIBUTES.encode(key.metadata.texts())
    return Bag(encode_bag(entry, key.created_ms, *secret, attributes))


def revised_bag(store: Store, bag: Bag, old: ApiKey, new: ApiKey, random_bytes: RandomBytes) -> Bag:
    """
    Return the entry *bag*, which holds *old*, changed so that it holds *new*.

    What does not differ stays byte for byte as it is: attributes of others, and the encrypted
    value where neither the secret nor the expiry changes.
    """
    alias = secret = None
    if new.alias != old.alias:
        alias = ENTRY_PREFIX + new.alias
    if new.secret is not UNREADABLE and (new.secret, new.expires_on) != (
        old.secret,
        old.expires_on,
    ):
        value = encode(new.secret.reveal(), new.expires_on)
        secret = store.encrypt(ENTRY_PREFIX + new.alias, value, random_bytes)
    return bag.revise(ATTRIBUTES, new.metadata.texts(), alias=alias, secret=secret)
