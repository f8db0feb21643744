"""
Suspending keys, and resuming them: their entries are renamed, and nothing else is.

A stock server reads the entries that begin with `api_key:`; another name makes the entry a foreign
one, which it keeps when it rewrites the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from metricshub_apikey.errors import KeyExistsError, own_command
from metricshub_apikey.keys import entries
from metricshub_apikey.keys.api_key import ENTRY_PREFIX, SUSPENDED_PREFIX, ApiKey
from metricshub_apikey.pkcs12.bag import Bag
from metricshub_apikey.pkcs12.store import Store

from .rotation import is_previous, previous_alias


def rename(
    store: Store, aliases: Iterable[str], *, suspended: bool, keep_previous: bool
) -> tuple[ApiKey, ...]:
    """
    Suspend, or resume, the keys with these *aliases*, all or none.

    Args:
        store: Where they are.
        aliases: As typed; see `entries.known_alias`.
        suspended: Whether to suspend them.
        keep_previous: Leave the old keys that their rotations have left.

    Returns:
        The keys that were renamed, as they are now, the old ones of rotations last.

    Raises:
        KeyNotFoundError: One of them has no key.
        KeyExistsError: One of them has both a key that works and a suspended one.
    """
    names = dict.fromkeys(entries.known_alias(store, alias) for alias in aliases)
    bags = {name: _bags(store, name, suspended=suspended) for name in names}
    if not keep_previous:
        bags.update(_previous(store, list(bags), suspended=suspended))
    revised, renamed = {}, {}
    for bag in (bag for found in bags.values() for bag in found):
        (old,) = entries.read(store, {"": bag}).values()
        new = old._replace(suspended=suspended)
        revised[bag] = entries.revised_bag(store, bag, old, new, os.urandom)
        renamed[new.alias] = new
    store.replace(revised)
    return tuple(renamed.values())


def _bags(store: Store, alias: str, *, suspended: bool) -> list[Bag]:
    """
    Return the entries to rename; none if they have the name already.

    Of several, all are renamed, or a hidden one would come back.
    """
    source, target = (ENTRY_PREFIX, SUSPENDED_PREFIX)[:: 1 if suspended else -1]
    found, taken = store.find(source + alias), store.find(target + alias)
    if found and taken:
        raise KeyExistsError(
            f"There are two API keys with alias '{alias}': one is suspended, and one works.",
            hint="Another program made the second one. To remove both: "
            + own_command("revoke", alias),
        )
    return found


def _previous(
    store: Store, aliases: Iterable[str], *, suspended: bool
) -> Iterator[tuple[str, list[Bag]]]:
    """Yield the old keys that rotations of the *aliases* have left."""
    for alias in aliases:
        previous = previous_alias(alias)
        if entries.find_all(store, previous) and is_previous(entries.find(store, previous)[1]):
            yield previous, _bags(store, previous, suspended=suspended)
