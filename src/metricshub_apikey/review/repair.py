"""Mending what can be mended without losing anything: rights, leftovers, expiries typed by hand."""

from __future__ import annotations

import os
import stat
import sys
from datetime import datetime, timedelta, tzinfo

from metricshub_apikey.activity.database import path_beside
from metricshub_apikey.activity.journal import Journal
from metricshub_apikey.errors import (
    AccessDeniedError,
    EntryUnreadableError,
    InvalidArgumentError,
    WriteFailedError,
)
from metricshub_apikey.files import leftovers, ownership, reading, temporary
from metricshub_apikey.keys import entries
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.entries import RandomBytes
from metricshub_apikey.keys.expiry import Moment, parse_date_time, text
from metricshub_apikey.keys.value import SEPARATOR
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.pkcs12.bag import Bag
from metricshub_apikey.pkcs12.store import Store
from metricshub_apikey.secret import Secret

PENDING_LIFE = timedelta(days=1)
"""No delivery takes as long."""


def repair(keystore: Keystore, journal: Journal, now: Moment) -> list[str]:
    """
    Mend the keystore, in one write if an entry must change, and return what was done.

    Where there is no file, nothing is done.

    Raises:
        AccessDeniedError: The rights of the file may not be changed.
        KeystoreError: The keystore could not be changed; see `Keystore.update`.
    """
    path = os.path.realpath(keystore.path)
    if not os.path.exists(path):
        return []
    try:
        return _repair(keystore, path, journal, now)
    except OSError as error:
        raise WriteFailedError(f"{path} cannot be mended: {error.strerror}.") from error


def _repair(keystore: Keystore, path: str, journal: Journal, now: Moment) -> list[str]:
    database = path_beside(path)
    left = temporary.names(path) + temporary.names(database)
    mended = keystore.update(lambda store: _mend_expiries(store, keystore.random_bytes, now.zone))
    dropped = keystore.update(lambda store: _drop_pending(store, now))
    journal.write("fix", mended, now.instant, "expiry")
    done = [
        f"The expiry of '{key.alias}' is now {text(key.expires_on)}."
        for key in mended
        if key.expires_on
    ]
    done += [f"The key of '{alias}' that was not delivered is removed." for alias in dropped]
    leftovers.remove(database)
    gone = set(left) - {*temporary.names(path), *temporary.names(database)}
    return done + [f"{name} is removed." for name in sorted(gone)] + _tighten(path)


def _drop_pending(store: Store, now: Moment) -> list[str]:
    """Remove keys that were made more than a day ago and not delivered; return their aliases."""
    oldest = (now.instant - PENDING_LIFE).timestamp() * 1000
    old = [bag for bag in entries.pending(store) if (bag.created_ms or 0) < oldest]
    store.remove(old)
    return [entries.alias_of(bag.alias or "") for bag in old]


def _tighten(path: str) -> list[str]:
    """Take away the rights that only the owner needs."""
    if sys.platform == "win32":
        taken = ownership.take_from_everybody(path)
        return ["The file's access list names no group of everybody any more."] if taken else []
    # Opened, so that a link that is put there now is not followed.
    flags = reading.open_flags("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC")
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        kept = mode & ~ownership.TOO_MUCH
        if kept == mode:
            return []
        os.fchmod(descriptor, kept)
        now = stat.S_IMODE(os.fstat(descriptor).st_mode)
    except PermissionError as error:
        if os.geteuid() in {0, os.fstat(descriptor).st_uid} and not (
            ownership.is_immutable(descriptor)
        ):
            raise _no_modes(path, mode) from error
        raise AccessDeniedError(
            f"Access denied to {path}.", hint=ownership.access_hint(path)
        ) from error
    finally:
        os.close(descriptor)
    if now != kept:  # Some shares accept a new mode, and ignore it.
        raise _no_modes(path, now)
    return [f"The file's mode is now {kept:04o}."]


def _no_modes(path: str, mode: int) -> WriteFailedError:
    return WriteFailedError(
        f"{path} keeps the mode {mode:04o}: its file system has no modes of its own.",
        hint="Mount that file system with a mode that leaves others out (file_mode=, umask=).",
    )


def _mend_expiries(store: Store, random_bytes: RandomBytes, zone: tzinfo) -> list[ApiKey]:
    """Rewrite the expiries that a person can read and a stock server cannot."""
    found = entries.by_entry(store)
    broken = [key for key in entries.read(store, found).values() if key.unreadable]
    values = store.values(found[key.entry] for key in broken)
    mended = []
    revised: dict[Bag, Bag] = {}
    for old, value in zip(broken, values, strict=True):
        readable = None if isinstance(value, EntryUnreadableError) else _mend(value, zone)
        if readable is not None:
            key, moment = readable
            new = old._replace(secret=Secret(key), expires_on=moment, unreadable=None)
            bag = found[old.entry]
            revised[bag] = entries.revised_bag(store, bag, old, new, random_bytes)
            mended.append(new)
    store.replace(revised)
    return mended


def _mend(value: bytes, zone: tzinfo) -> tuple[str, datetime] | None:
    """Return the key and the expiry in the value of an entry; None if that is no time."""
    try:
        key, *rest = value.decode().split(SEPARATOR)
        moment = parse_date_time(rest[0].strip().replace(" ", "T", 1), zone) if rest else None
    except (UnicodeDecodeError, InvalidArgumentError):
        return None
    return (key, moment) if key and moment is not None else None
