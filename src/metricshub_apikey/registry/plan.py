"""
Bringing a keystore to what a list of keys says: what is missing, what differs, what is too much.

Only what the list mentions is managed: a field that it leaves out stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from metricshub_apikey.errors import ApiKeyError
from metricshub_apikey.keys import entries
from metricshub_apikey.keys.api_key import ApiKey, differences
from metricshub_apikey.keys.expiry import Moment, after, parse_duration
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.pkcs12.bag import Bag
from metricshub_apikey.pkcs12.store import Store

from . import issuing
from .api_keys import ApiKeyRegistry
from .manifest import Wanted
from .rotation import is_previous, previous_alias


class Step(NamedTuple):
    """
    One change.

    Attributes:
        action: What is done.
        alias: To which key.
        fields: What differs, where a key is edited.
    """

    action: Literal["create", "edit", "remove"]
    alias: str
    fields: tuple[str, ...] = ()


class Plan(NamedTuple):
    """
    All changes, in the order of the list, removals last.

    Attributes:
        steps: What is done.
        created: The new keys, with their secrets.
        edited: The keys that differ, as they are now.
        removed: The keys that the list lacks.
    """

    steps: tuple[Step, ...]
    created: tuple[ApiKey, ...]
    edited: tuple[ApiKey, ...]
    removed: tuple[ApiKey, ...]


def preview(registry: ApiKeyRegistry, wanted: Sequence[Wanted], *, prune: bool) -> Plan:
    """
    Return what `apply` would do; nothing is written, and new keys are forgotten.

    Raises:
        ApiKeyError: As for `apply`.
    """
    store = registry.keystore.read()
    with registry.keystore.named_in_errors():
        return _change(store, registry, wanted, now=registry.now(), prune=prune)


def apply(
    registry: ApiKeyRegistry,
    wanted: Sequence[Wanted],
    *,
    prune: bool,
    deliver: Callable[[Sequence[ApiKey]], None],
) -> Plan:
    """
    Bring the keystore to what *wanted* says, in one write; doing it again changes nothing.

    Args:
        registry: The keys.
        wanted: What they should be.
        prune: Remove the keys that are not wanted; the old keys of those that are stay.
        deliver: Takes the new keys before they are in the keystore; may be called again with
            others, if another program writes meanwhile.

    Raises:
        ApiKeyError: One of the keys breaks a rule, as for `create` and `edit`; its message names
            the key, and nothing was changed.
        KeystoreError: The keystore could not be changed; see `Keystore.update`.
    """
    now = registry.now()

    def change(store: Store) -> Plan:
        plan = _change(store, registry, wanted, now=now, prune=prune)
        deliver(plan.created)
        return plan

    plan = registry.keystore.update(change, create=True)
    done = {"create": plan.created, "edit": plan.edited, "revoke": plan.removed}
    registry.journal.write_all(done, now.instant, "applied from a list")
    return plan


def _change(
    store: Store,
    registry: ApiKeyRegistry,
    wanted: Sequence[Wanted],
    *,
    now: Moment,
    prune: bool,
) -> Plan:
    bags = entries.by_alias(store)
    keys = entries.read(store, bags)
    random_bytes = registry.keystore.random_bytes
    steps, created, edited = [], [], []
    revised: dict[Bag, Bag] = {}
    for one in wanted:
        old = keys.get(one.alias)
        try:
            new = _created(registry, one, now) if old is None else _edited(registry, old, one, now)
        except ApiKeyError as error:
            raise type(error)(f"'{one.alias}': {error.message}", hint=error.hint) from error
        if old is None:
            created.append(new)
            steps.append(Step("create", new.alias))
        elif new != old:
            bag = bags[one.alias]
            revised[bag] = entries.revised_bag(store, bag, old, new, random_bytes)
            edited.append(new)
            steps.append(Step("edit", new.alias, differences(old, new)))
    unwanted = _unwanted(keys, wanted) if prune else ()
    steps += [Step("remove", key.alias) for key in unwanted]
    store.replace(revised)
    found = entries.all_by_alias(store)
    store.remove(bag for key in unwanted for bag in found[key.alias])
    for key in created:
        store.adopt(entries.new_bag(store, key, random_bytes))
    return Plan(tuple(steps), tuple(created), tuple(edited), unwanted)


def _created(registry: ApiKeyRegistry, wanted: Wanted, now: Moment) -> ApiKey:
    expires_on = wanted.expires_on
    if wanted.expires_in is not None:
        registry.policy.check_lifetime(wanted.expires_in)
        expires_on = after(now, parse_duration(wanted.expires_in))
    metadata = Metadata()._replace(**wanted.metadata)
    key = registry.issue(wanted.alias, expires_on, metadata, now)
    return _edited(registry, key, wanted, now) if wanted.no_expiry else key


def _edited(registry: ApiKeyRegistry, old: ApiKey, wanted: Wanted, now: Moment) -> ApiKey:
    """Return what *old* should be; *old* itself where nothing differs."""
    metadata = old.metadata._replace(**wanted.metadata)
    new = old._replace(expires_on=_expiry(old, wanted, now), metadata=metadata)
    if new.expires_on != old.expires_on and wanted.expires_in is not None:
        registry.policy.check_lifetime(wanted.expires_in)
    if new != old:
        issuing.check_edit(old, new, now=now, policy=registry.policy)
    return new


def _expiry(old: ApiKey, wanted: Wanted, now: Moment) -> datetime | None:
    """
    Return when a key should end that is there already.

    A length counts from its creation, so that the same list, applied again, changes nothing.
    """
    if wanted.no_expiry:
        return None
    if wanted.expires_in is None:
        return wanted.expires_on or old.expires_on
    length = parse_duration(wanted.expires_in)
    if old.lifetime(now.zone) == length:
        return old.expires_on
    if old.created_at is None:
        return old.expires_on or after(now, length)
    return after(now._replace(instant=old.created_at), length)


def _unwanted(keys: dict[str, ApiKey], wanted: Sequence[Wanted]) -> tuple[ApiKey, ...]:
    listed = {one.alias for one in wanted}
    kept = listed | {previous_alias(alias) for alias in listed}
    return tuple(
        key
        for alias, key in keys.items()
        if alias not in listed and not (alias in kept and is_previous(key))
    )
