"""
Replacing a key by a new one under the same alias, while the old one goes on working for a time.

The old key becomes `ALIAS.prev`. Everything happens in one write, so there is never a moment
without a key that works.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from metricshub_apikey.errors import (
    EntryUnreadableError,
    InvalidArgumentError,
    KeySuspendedError,
    NotRotatedError,
    RotationPendingError,
    own_command,
)
from metricshub_apikey.keys import entries
from metricshub_apikey.keys.alias import MAX_ALIAS, spellings
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.entries import RandomBytes
from metricshub_apikey.keys.expiry import (
    LAST_SECOND,
    Moment,
    after,
    end_of_repetition,
    has_come,
    instants,
    text,
)
from metricshub_apikey.pkcs12.bag import fold
from metricshub_apikey.pkcs12.store import Store
from metricshub_apikey.policy.rules import Policy

PREVIOUS = ".prev"


class Rotation(NamedTuple):
    """
    What became of a key.

    Attributes:
        new: The key that has the alias now.
        old: The one that had it; its expiry is the end of the overlap.
        kept: Whether the old one still works, under its other alias.
    """

    new: ApiKey
    old: ApiKey
    kept: bool

    @property
    def consequence(self) -> str:
        """What became of the old key, in a few words."""
        if self.kept and self.old.expires_on is not None:
            return f"old key works until {text(self.old.expires_on)}"
        return "old key ended"


def previous_alias(alias: str) -> str:
    """Return the alias of the old key while a rotation is pending."""
    return fold(alias) + PREVIOUS


def is_previous(key: ApiKey) -> bool:
    """Return whether *key* is an old one that a rotation has left."""
    return key.metadata.rotated_at is not None and key.alias.endswith(PREVIOUS)


def old_keys(keys: Iterable[ApiKey], aliases: Container[str]) -> tuple[ApiKey, ...]:
    """Return those of the *keys* that a rotation of one of the folded *aliases* has left."""
    return tuple(
        key for key in keys if is_previous(key) and key.alias.removesuffix(PREVIOUS) in aliases
    )


def is_due(key: ApiKey, *, now: Moment, within: timedelta) -> bool:
    """Return whether *key* expires within that time; of one that cannot be read that is unknown."""
    ends = key.expires_on
    return key.unreadable is not None or (ends is not None and ends <= after(now, within))


def rotate(
    store: Store,
    alias: str,
    renew: Callable[[ApiKey], ApiKey],
    *,
    now: Moment,
    overlap: timedelta,
    within: timedelta | None,
    random_bytes: RandomBytes,
) -> Rotation | None:
    """
    Put a new key in the place of *alias*; keep the old one under another alias for the *overlap*.

    Args:
        store: Where the key is.
        alias: Letter case is ignored.
        renew: Makes the new key from the old one.
        now: The current moment.
        overlap: How long the old key goes on working, never longer than it would have.
        within: Do nothing, and return None, unless the key expires within this time.
        random_bytes: Returns that many random bytes.

    Raises:
        ApiKeyError: As `require_rotatable` says, and what *renew* raises.
    """
    old = candidate(store, alias, now=now, within=within, overlap=overlap)
    if old is None:
        return None
    bag = entries.find(store, alias)[0]
    new = renew(old)
    store.replace({bag: entries.new_bag(store, new, random_bytes)})
    store.remove(entries.find_all(store, previous_alias(old.alias)))
    done = outcome(old, new, now=now, overlap=overlap)
    if done.kept:
        store.adopt(entries.revised_bag(store, bag, old, done.old, random_bytes))
    return done


def candidate(
    store: Store, alias: str, *, now: Moment, within: timedelta | None, overlap: timedelta
) -> ApiKey | None:
    """
    Return the key that can be rotated; None where it does not expire *within* that time.

    Raises:
        ApiKeyError: As `require_rotatable` says; or the alias is too long for an *overlap*.
    """
    _, old = entries.find(store, alias)
    if within is not None and not is_due(old, now=now, within=within):
        return None
    require_rotatable(store, old, now=now)
    if outcome(old, old, now=now, overlap=overlap).kept:
        _require_room(old)
    return old


def outcome(old: ApiKey, new: ApiKey, *, now: Moment, overlap: timedelta) -> Rotation:
    """Return what a rotation makes of the *old* key, whose place the *new* one takes."""
    end = _end_of_overlap(now, overlap)
    ends = end if old.expires_on is None else min(end, old.expires_on)
    metadata = old.metadata._replace(rotated_at=now.instant.replace(microsecond=0))
    previous = old._replace(alias=previous_alias(old.alias), expires_on=ends, metadata=metadata)
    return Rotation(new, previous, not has_come(ends, now.local))


def _end_of_overlap(now: Moment, overlap: timedelta) -> datetime:
    """
    Return when the old key ends, as local time.

    An end in the second pass of an hour that the clocks repeat cannot be told from one in the first
    pass, so the old key lasts to the end of that hour: no client may lose it early.
    """
    end = after(now, overlap)
    first, last = instants(end, now.zone)
    if overlap and first != last and now.instant + overlap >= last:
        return end_of_repetition(end, now.zone) or end
    return end


def require_rotatable(store: Store, key: ApiKey, *, now: Moment) -> None:
    """
    Check that *key* can be rotated at *now*.

    Raises:
        EntryUnreadableError: Its value cannot be read, so it could not go on working.
        InvalidArgumentError: It is the old key of a rotation itself.
        RotationPendingError: The last rotation's old key still works.
        KeyExistsError: Another key has the alias that the old one would get.
        KeySuspendedError: The key is suspended.
    """
    if key.suspended:
        raise KeySuspendedError(
            f"The API key '{key.alias}' is suspended.",
            hint=f"Resume it first: {own_command('resume', key.alias)}",
        )
    if is_previous(key):
        raise InvalidArgumentError(f"'{key.alias}' is the old key of a rotation.")
    if key.unreadable is not None:
        raise EntryUnreadableError(
            f"The API key '{key.alias}' cannot be read: {key.unreadable}.",
            hint=f"Revoke it, then create it again: {own_command('revoke', key.alias)}",
        )
    if not entries.find_all(store, previous_alias(key.alias)):
        return
    _, previous = entries.find(store, previous_alias(key.alias))
    if not is_previous(previous):
        entries.require_free(store, previous.alias)
    if not previous.expired(now):
        until = f" until {text(previous.expires_on)}" if previous.expires_on else ""
        raise RotationPendingError(
            f"The API key '{key.alias}' has just been rotated: its old key works{until}.",
            hint="When no client uses the old key any more, end it: "
            + own_command("rotate --finish", key.alias),
        )


def _require_room(key: ApiKey) -> None:
    if len(previous_alias(key.alias)) > MAX_ALIAS:
        raise InvalidArgumentError(
            f"An alias of more than {MAX_ALIAS - len(PREVIOUS)} characters leaves no room for "
            f"'{PREVIOUS}', so its key can only be rotated without an overlap."
        )


def next_expiry(
    key: ApiKey, *, now: Moment, asked: datetime | None, policy: Policy
) -> datetime | None:
    """
    Return when the key that follows *key* ends: by default after a life of the same length.

    Args:
        key: The old key.
        now: The current moment.
        asked: What the user wants, as local time; None for the default.
        policy: Whose default counts where the old key had no expiry.

    Raises:
        InvalidArgumentError: It is unknown how long the old key's life was meant to be.
    """
    if asked is not None:
        return asked
    length = key.lifetime(now.zone)
    if key.expires_on is None:
        length = policy.default_lifetime
    elif length is None:
        raise InvalidArgumentError(
            f"It is not recorded when '{key.alias}' was created.",
            hint="Say how long the new key shall live.",
        )
    return None if length is None else _fresh(now, length)


def _fresh(now: Moment, length: timedelta) -> datetime:
    """Return the end of a life of that *length*; one that would pass the year 9999 ends there."""
    left = datetime.max.replace(tzinfo=UTC) - now.instant
    return LAST_SECOND if length > left else min(after(now, length), LAST_SECOND)


def finish(store: Store, alias: str) -> tuple[ApiKey, ApiKey | None]:
    """
    Remove the old key that the rotation of *alias* has left.

    Returns:
        The old key, and the one that has the alias now, if it is still there.

    Raises:
        NotRotatedError: There is no such old key.
    """
    found = entries.by_alias(store)
    names = [name for name in spellings(alias) if previous_alias(name) in found]
    old = entries.find(store, previous_alias(names[0]))[1] if names else None
    if old is None or not is_previous(old):
        raise NotRotatedError(f"There is no old key of '{alias}' to remove.")
    store.remove(entries.find_all(store, old.alias))
    return old, entries.find(store, names[0])[1] if names[0] in found else None
