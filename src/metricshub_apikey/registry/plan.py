"""
Bringing a keystore to what a list of keys says: what is missing, what differs, what is too much.

Only what the list mentions is managed: a field that it leaves out stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Literal, NamedTuple

from metricshub_apikey.errors import ApiKeyError, KeyExistsError, own_command
from metricshub_apikey.keys import entries
from metricshub_apikey.keys.alias import meant, spellings
from metricshub_apikey.keys.api_key import ApiKey, differences
from metricshub_apikey.keys.durations import parse_duration
from metricshub_apikey.keys.expiry import Moment, after
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.pkcs12.bag import Bag
from metricshub_apikey.pkcs12.store import Store

from .issuing import Issuer, new_name
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


def change(
    store: Store,
    wanted: Sequence[Wanted],
    issuer: Issuer,
    *,
    prune: bool,
    agreed: Collection[ApiKey] | None = None,
) -> Plan:
    """
    Bring *store* to what *wanted* says, and return what was done.

    Args:
        store: The entries; changed in memory only.
        wanted: What the keys should be.
        issuer: Makes the new keys, and checks the others.
        prune: Remove the keys that are not wanted; the old keys of those that are stay.
        agreed: The only keys that may be removed; None for any.

    Raises:
        ApiKeyError: One of the keys breaks a rule; the message names the key.
    """
    bags = entries.by_alias(store)
    keys = entries.read(store, bags)
    steps, created, edited = [], [], []
    revised: dict[Bag, Bag] = {}
    for one in wanted:
        name = meant(one.alias, keys)
        old = None if name is None else keys[name]
        if old is None and one.refused is not None:
            raise one.refused
        with named_in_errors(one.alias):
            new = _created(issuer, one) if old is None else _edited(issuer, old, one)
        if old is None:
            created.append(new)
            steps.append(Step("create", new.alias))
        elif new != old:
            bag = bags[old.alias]
            _require_one(store, old, new)
            revised[bag] = entries.revised_bag(store, bag, old, new, issuer.random_bytes)
            edited.append(new)
            steps.append(Step("edit", new.alias, differences(old, new)))
    unwanted = _unwanted(store, wanted) if prune else ()
    if agreed is not None:
        unwanted = tuple(key for key in unwanted if key in agreed)
    steps += [Step("remove", key.alias) for key in unwanted]
    store.replace(revised)
    found = entries.all_by_entry(store)
    store.remove(bag for key in unwanted for bag in found[key.entry])
    for key in created:
        store.adopt(entries.new_bag(store, key, issuer.random_bytes))
    return Plan(tuple(steps), tuple(created), tuple(edited), unwanted)


def _require_one(store: Store, old: ApiKey, new: ApiKey) -> None:
    """Refuse to suspend a key where a suspended one has its alias: it would be hidden."""
    if new.entry != old.entry and store.find(new.entry):
        raise KeyExistsError(
            f"There are two API keys with alias '{old.alias}': one is suspended, and one works.",
            hint="Another program made the second one. To remove both: "
            + own_command("revoke", old.alias),
        )


@contextmanager
def named_in_errors(alias: str) -> Iterator[None]:
    """Begin the messages of errors with the key that they are about."""
    try:
        yield
    except ApiKeyError as error:
        error.message = f"'{alias}': {error.message}"
        error.args = (error.message,)
        raise


def _created(issuer: Issuer, wanted: Wanted) -> ApiKey:
    expires_on = wanted.expires_on
    if wanted.expires_in is not None:
        issuer.policy.check_lifetime(wanted.expires_in)
        expires_on = after(issuer.now, parse_duration(wanted.expires_in))
    key = issuer.new_key(new_name(wanted.alias), expires_on, Metadata()._replace(**wanted.metadata))
    key = key._replace(suspended=wanted.suspended or False)
    return _edited(issuer, key, wanted) if wanted.no_expiry else key


def _edited(issuer: Issuer, old: ApiKey, wanted: Wanted) -> ApiKey:
    """Return what *old* should be; *old* itself where nothing differs."""
    metadata = old.metadata._replace(**wanted.metadata)
    suspended = old.suspended if wanted.suspended is None else wanted.suspended
    new = old._replace(
        expires_on=_expiry(old, wanted, issuer.now), metadata=metadata, suspended=suspended
    )
    if new.expires_on != old.expires_on and wanted.expires_in is not None:
        issuer.policy.check_lifetime(wanted.expires_in)
    if new._replace(suspended=old.suspended) != old:
        issuer.check_edit(old, new)
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


def _unwanted(store: Store, wanted: Sequence[Wanted]) -> tuple[ApiKey, ...]:
    keys = entries.read(store, entries.by_entry(store)).values()
    listed = {name for one in wanted for name in spellings(one.alias)}
    kept = listed | {previous_alias(alias) for alias in listed}
    return tuple(
        key
        for key in keys
        if key.alias not in listed and not (key.alias in kept and is_previous(key))
    )
