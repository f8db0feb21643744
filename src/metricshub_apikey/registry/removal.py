"""Taking keys out of a store: those that are named, or those that the user has agreed to."""

from __future__ import annotations

from collections.abc import Iterable

from metricshub_apikey.keys import entries
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.pkcs12.bag import fold
from metricshub_apikey.pkcs12.store import Store


def remove(store: Store, aliases: Iterable[str]) -> list[ApiKey]:
    """
    Remove the keys with these *aliases*, all or none, and return them.

    Of several entries with the same alias none is left, or a hidden one would come back.

    Raises:
        KeyNotFoundError: One of them has no key.
    """
    found = entries.all_by_alias(store)
    there = {}
    for alias in aliases:
        if fold(alias) not in found:
            raise entries.not_found(alias)
        there[fold(alias)] = found[fold(alias)][-1]
    removed = list(entries.read(store, there).values())
    store.remove(bag for alias in there for bag in found[alias])
    return removed


def remove_secrets(store: Store, keys: Iterable[ApiKey]) -> list[ApiKey]:
    """Remove every key that has the secret of one of the *keys*, and return them."""
    secrets = {key.secret for key in keys if key.secret}
    there = entries.read(store, entries.by_alias(store)).values()
    return remove(store, [key.alias for key in there if key.secret in secrets])


def remove_unchanged(store: Store, keys: Iterable[ApiKey]) -> list[ApiKey]:
    """
    Remove those of the *keys* that are still what they were, and return them.

    Between the time that the user saw them and agreed, one may have been replaced.
    """
    seen = {key.alias: key for key in keys}
    found = entries.by_alias(store)
    there = {alias: found[alias] for alias in seen if alias in found}
    same = [key.alias for key in entries.read(store, there).values() if key == seen[key.alias]]
    return remove(store, same)
