"""
Keys that are made, and not yet held by their user: no server reads their entries.

A new key is written under a name that servers take for a foreign entry, handed out, and renamed in
one more write. Where it cannot be handed out it is removed again, so a key that works is a key that
its user holds.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, TypeVar

from metricshub_apikey.errors import ApiKeyError, OvertakenError
from metricshub_apikey.keys import entries
from metricshub_apikey.keys.api_key import PENDING_PREFIX, ApiKey
from metricshub_apikey.keys.entries import RandomBytes
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.pkcs12.bag import Bag
from metricshub_apikey.pkcs12.store import Store

Done = TypeVar("Done")


class Pending(NamedTuple):
    """
    A key that waits for its delivery.

    Attributes:
        key: With its secret.
        raw: The bytes of its entry, by which a run knows its own.
        live: The bytes of the entry that has the alias now; None where it is free.
    """

    key: ApiKey
    raw: bytes
    live: bytes | None


def put(store: Store, key: ApiKey, random_bytes: RandomBytes) -> Pending:
    """Add *key* to the store as a pending one, in place of what an earlier run has left."""
    store.remove(store.find(PENDING_PREFIX + key.alias))
    bag = entries.new_bag(store, key, random_bytes, pending=True)
    store.adopt(bag)
    return Pending(key, bag.raw, _live(store, key.alias))


def take(store: Store, pending: Pending) -> None:
    """
    Remove the pending entry from the store, so that its key can be put there.

    Raises:
        OvertakenError: Another run has replaced it, or the key that has the alias.
    """
    alias = pending.key.alias
    bag = _own(store, pending)
    if bag is None or _live(store, alias) != pending.live:
        raise OvertakenError(
            f"The new API key of '{alias}' is not in force: it was overtaken by another run.",
            hint="What was handed out does not work. See who was faster: apikey log",
        )
    store.remove([bag])


def hand_over(
    keystore: Keystore,
    pending: Pending,
    deliver: Callable[[], None],
    activate: Callable[[Store], Done],
) -> Done:
    """
    Hand a pending key out, and put it in force; or else remove it.

    The keystore is not locked meanwhile: what takes the key may use `apikey` itself.

    Args:
        keystore: Where the key is pending.
        pending: What `put` has returned.
        deliver: Hands the key out; whatever it raises says that it failed.
        activate: Puts the key in force; may run several times.

    Raises:
        OvertakenError: Another run was faster.
        KeystoreError: The keystore could not be changed.
    """

    def change(store: Store) -> Done:
        take(store, pending)
        return activate(store)

    def drop(store: Store) -> None:
        bag = _own(store, pending)
        store.remove([] if bag is None else [bag])

    try:
        deliver()
        return keystore.update(change)
    except BaseException:
        with suppress(ApiKeyError):
            keystore.update(drop)
        raise


def _own(store: Store, pending: Pending) -> Bag | None:
    found = store.find(PENDING_PREFIX + pending.key.alias)
    return next((bag for bag in found if bag.raw == pending.raw), None)


def _live(store: Store, alias: str) -> bytes | None:
    bags = entries.find_all(store, alias)
    return bags[-1].raw if bags else None
