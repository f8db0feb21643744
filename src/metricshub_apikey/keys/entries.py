"""API keys as entries of a store: which there are, what they hold, how they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from metricshub_apikey.errors import (
    EntryUnreadableError,
    KeyExistsError,
    KeyNotFoundError,
    KeySuspendedError,
    own_command,
)
from metricshub_apikey.formats.nearest import nearest
from metricshub_apikey.pkcs12.attributes import Texts
from metricshub_apikey.pkcs12.bag import Bag, encode_bag
from metricshub_apikey.pkcs12.store import Store
from metricshub_apikey.secret import UNREADABLE, Secret

from .alias import meant, stored
from .api_key import ENTRY_PREFIX, PENDING_PREFIX, SUSPENDED_PREFIX, ApiKey
from .metadata import ATTRIBUTES, NOTHING, Metadata
from .value import decode, encode

RandomBytes = Callable[[int], bytes]


def alias_of(entry: str) -> str:
    """Return the alias in the name of an *entry* that `each` yields."""
    return entry.partition(":")[2]


def each(store: Store) -> Iterator[tuple[str, Bag]]:
    """Yield the name and the bag of every API key's entry, suspended and hidden ones too."""
    for bag in store.bags:
        if bag.alias is not None and bag.alias.startswith((ENTRY_PREFIX, SUSPENDED_PREFIX)):
            yield bag.alias, bag


def by_entry(store: Store) -> dict[str, Bag]:
    """
    Return the bags of all keys, suspended ones too, by the name of their entry, in order.

    Of several with the same name the last one counts, as in Java.
    """
    entries: dict[str, Bag] = {}
    for entry, bag in each(store):
        entries.pop(entry, None)
        entries[entry] = bag
    return entries


def by_alias(store: Store) -> dict[str, Bag]:
    """Return the bag of each alias, in order; a key that works goes before a suspended one."""
    entries: dict[str, Bag] = {}
    for entry, bag in by_entry(store).items():
        if entry.startswith(ENTRY_PREFIX) or alias_of(entry) not in entries:
            entries[alias_of(entry)] = bag
    return entries


def all_by_alias(store: Store) -> dict[str, list[Bag]]:
    """Return all bags of each alias; of several with the same name, the last one counts."""
    found: dict[str, list[Bag]] = {}
    for entry, bag in each(store):
        found.setdefault(alias_of(entry), []).append(bag)
    return found


def all_by_entry(store: Store) -> dict[str, list[Bag]]:
    """Return all bags by the name of their entry; of several, the last one counts."""
    found: dict[str, list[Bag]] = {}
    for entry, bag in each(store):
        found.setdefault(entry, []).append(bag)
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
        entries: Bags by what the caller wants to find their keys by.
        progress: Called with how many keys are derived, and how many there are.
        metadata: Read it, too; it takes as long as the rest.
    """
    values = store.values(entries.values(), progress)
    return {
        name: _open(bag, value, bag.texts(ATTRIBUTES) if metadata else {})
        for (name, bag), value in zip(entries.items(), values, strict=True)
    }


def _open(bag: Bag, value: bytes | EntryUnreadableError, texts: Texts) -> ApiKey:
    entry = bag.alias or ""
    alias, suspended = alias_of(entry), entry.startswith(SUSPENDED_PREFIX)
    metadata = Metadata.from_texts(texts) if texts else NOTHING
    try:
        if isinstance(value, EntryUnreadableError):
            raise value
        key, expires_on = decode(value)
    except EntryUnreadableError as error:
        return ApiKey(alias, UNREADABLE, None, bag.created_ms, error.message, metadata, suspended)
    return ApiKey(alias, Secret(key), expires_on, bag.created_ms, None, metadata, suspended)


def find(store: Store, alias: str) -> tuple[Bag, ApiKey]:
    """
    Return the entry *alias* and what it holds; a key that works goes before a suspended one.

    Raises:
        KeyNotFoundError: There is none.
    """
    bags = find_all(store, known_alias(store, alias))
    return bags[-1], read(store, {alias: bags[-1]})[alias]


def find_all(store: Store, name: str) -> list[Bag]:
    """Return all entries that are stored as *name*, suspended ones first; the last one counts."""
    return store.find(SUSPENDED_PREFIX + name) + store.find(ENTRY_PREFIX + name)


def known_alias(store: Store, alias: str) -> str:
    """
    Return the name under which the key that *alias* means is stored.

    Raises:
        KeyNotFoundError: There is none.
    """
    known = by_alias(store)
    name = meant(alias, known)
    if name is None:
        raise not_found(alias, known)
    return name


def not_found(alias: str, known: Iterable[str]) -> KeyNotFoundError:
    """Return the error for an *alias* that no key has; of the *known* ones a near one is named."""
    hint = nearest(stored(alias), known)
    return KeyNotFoundError(f"No API key found with alias '{alias}'.", hint=hint)


def require_free(store: Store, alias: str) -> None:
    """
    Check that *alias* can be given to a new key.

    Raises:
        KeyExistsError: It is taken; its child KeySuspendedError if the key is suspended.
    """
    found = by_alias(store)
    name = meant(alias, found)
    if name is None:
        return
    entry = found[name].alias or ""
    if entry.startswith(ENTRY_PREFIX):
        raise KeyExistsError(
            f"An API key with alias '{alias}' already exists.",
            hint="Choose another alias, or revoke it first: " + own_command("revoke", name),
        )
    raise KeySuspendedError(
        f"An API key with alias '{alias}' already exists, and is suspended.",
        hint="Choose another alias, or resume that key: " + own_command("resume", name),
    )


def new_bag(store: Store, key: ApiKey, random_bytes: RandomBytes, *, pending: bool = False) -> Bag:
    """Return an entry for *key*, which must have a secret and a creation time; not yet there."""
    if key.created_ms is None:
        raise ValueError(key)
    value = encode(key.secret.reveal(), key.expires_on)
    secret = store.encrypt(ENTRY_PREFIX + key.alias, value, random_bytes)
    attributes = ATTRIBUTES.encode(key.metadata.texts())
    name = PENDING_PREFIX + key.alias if pending else key.entry
    return Bag(encode_bag(name, key.created_ms, *secret, attributes))


def pending(store: Store) -> list[Bag]:
    """Return the entries of keys that were made, and never handed out, or not yet."""
    return [bag for bag in store.bags if bag.alias and bag.alias.startswith(PENDING_PREFIX)]


def revised_bag(store: Store, bag: Bag, old: ApiKey, new: ApiKey, random_bytes: RandomBytes) -> Bag:
    """
    Return the entry *bag*, which holds *old*, changed so that it holds *new*.

    What does not differ stays byte for byte as it is: attributes of others, and the encrypted
    value where neither the secret nor the expiry changes.
    """
    alias = secret = None
    if new.entry != old.entry:
        alias = new.entry
    if new.secret is not UNREADABLE and (new.secret, new.expires_on) != (
        old.secret,
        old.expires_on,
    ):
        value = encode(new.secret.reveal(), new.expires_on)
        secret = store.encrypt(ENTRY_PREFIX + new.alias, value, random_bytes)
    return bag.revise(ATTRIBUTES, new.metadata.texts(), alias=alias, secret=secret)
