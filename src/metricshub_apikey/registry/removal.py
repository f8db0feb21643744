"""Taking keys out of a store: those that are named, or those that the user has agreed to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from metricshub_apikey.keys import entries
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.pkcs12.bag import Bag
from metricshub_apikey.pkcs12.store import Store

from .rotation import old_keys, previous_alias


def remove(store: Store, aliases: Iterable[str], *, keep_previous: bool = False) -> list[ApiKey]:
    """
    Remove the keys with these *aliases*, all or none, and return them.

    Of several entries with the same alias none is left, suspended or not, or a hidden one would
    come back.

    Args:
        store: Where they are.
        aliases: As typed; see `entries.known_alias`.
        keep_previous: Leave the old keys that their rotations have left; else they go, too.

    Raises:
        KeyNotFoundError: One of them has no key.
    """
    found = entries.all_by_alias(store)
    wanted = {}
    for alias in aliases:
        name = entries.known_alias(store, alias)
        wanted[name] = found[name]
    there = {bag.alias or "": bag for bags in wanted.values() for bag in bags}
    if not keep_previous:
        for alias in wanted:
            left = {bag.alias or "": bag for bag in found.get(previous_alias(alias), ())}
            old = old_keys(entries.read(store, left).values(), wanted)
            there.update({key.entry: left[key.entry] for key in old})
    return _take(store, there)


def _take(store: Store, there: Mapping[str, Bag]) -> list[ApiKey]:
    """Remove all entries with the names that *there* has, and return the keys in those of it."""
    removed = list(entries.read(store, there).values())
    store.remove(bag for entry, bag in entries.each(store) if entry in there)
    return removed


def remove_secrets(store: Store, keys: Iterable[ApiKey]) -> list[ApiKey]:
    """Remove every key that has the secret of one of the *keys*, and return them."""
    secrets = {key.secret for key in keys if key.secret}
    found = entries.by_entry(store)
    there = entries.read(store, found)
    return _take(store, {name: found[name] for name, key in there.items() if key.secret in secrets})


def remove_unchanged(store: Store, keys: Iterable[ApiKey]) -> list[ApiKey]:
    """
    Remove those of the *keys* that are still what they were, and return them.

    Between the time that the user saw them and agreed, one may have been replaced.
    """
    seen = {key.entry: key for key in keys}
    found = entries.by_entry(store)
    there = {entry: found[entry] for entry in seen if entry in found}
    keys_there = entries.read(store, there)
    return _take(
        store, {entry: there[entry] for entry, key in keys_there.items() if key == seen[entry]}
    )
