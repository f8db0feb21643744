"""
The keystore file: `read` it, or `update` it, which is the only way anything is ever written.

    >>> keystore = Keystore("metricshub-keystore.p12")
    >>> [bag.alias for bag in keystore.read().bags]
    []
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from metricshub_apikey.errors import (
    AccessDeniedError,
    DamagedError,
    InvalidArgumentError,
    KeystoreBusyError,
    KeystoreError,
    NotAKeystoreError,
    NotConfirmedError,
    PasswordError,
    ReadFailedError,
    TruncatedError,
    WriteFailedError,
)
from metricshub_apikey.files import lock, ownership, private, reading, replacing
from metricshub_apikey.files.reading import Snapshot
from metricshub_apikey.pkcs12.kdf import Passwords as Passwords
from metricshub_apikey.pkcs12.store import Store

Result = TypeVar("Result")
Loaded = tuple[Snapshot | None, Store]
Reader = Callable[[], Snapshot | None]

STOCK_PASSWORDS = Passwords(
    store="Matrix, Credits: Bertrand, Elvis, Fadhela, Huan, Nassim, Ramassh and Thomas",
    entries="secret",
)
"""Published with MetricsHub: they keep nobody out. File permissions do."""

MAX_FILE_SIZE = 16 << 20
LOCK_TIMEOUT = 10.0
TORN_READ_SECONDS = 1.0
TORN_READ_PAUSE = 0.02
CHANGE_ATTEMPTS = 30


def ignore_note(text: str) -> None:
    """Drop a note; the default of those who do not listen."""


def ignore_commit() -> None:
    """Do nothing before a commit."""


class Keystore:
    """
    One keystore file.

    Attributes:
        path: The file as it was named.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        passwords: Passwords = STOCK_PASSWORDS,
        *,
        lock_timeout: float = LOCK_TIMEOUT,
        max_size: int = MAX_FILE_SIZE,
        random_bytes: Callable[[int], bytes] = os.urandom,
        notify: Callable[[str], None] = ignore_note,
        before_commit: Callable[[], None] = ignore_commit,
    ) -> None:
        """
        Name a keystore; nothing is opened yet.

        Args:
            path: The file; it need not exist.
            passwords: Of the file and of its entries.
            lock_timeout: Seconds to wait for another writer.
            max_size: Bytes beyond which the file is refused.
            random_bytes: Returns that many random bytes, fit for keys and salts.
            notify: Takes notes for the user, each a sentence.
            before_commit: Called before the one step of `update` that cannot be taken back.
        """
        self.path = os.fspath(path)
        self.random_bytes = random_bytes
        self._passwords = passwords
        self._lock_timeout = lock_timeout
        self._max_size = max_size
        self._notify = notify
        self._before_commit = before_commit

    def read(self, *, patience: float = TORN_READ_SECONDS) -> Store:
        """
        Return the entries; none where the file does not exist. Takes no lock, writes nothing.

        Args:
            patience: Seconds to wait for a Java program that is writing the file.

        Raises:
            KeystoreError: One of its children says why the file cannot be read.
        """
        with self._guarded(ReadFailedError("cannot be read")):
            return self._load(self._real_path(), patience)[1]

    def update(self, change: Callable[[Store], Result], *, create: bool = False) -> Result:
        """
        Change the keystore: what it returns is on the disk; if it raises, nothing has changed.

        The file is locked, read, changed, sealed, checked, and then replaced as a whole. A stock
        Java writer takes no lock; where one wrote in the meantime, *change* is called again with
        what it wrote.

        Args:
            change: Adds to and removes from the store it is given; may run several times.
            create: Make the file, and the directories above it, where there is none.

        Returns:
            What *change* returned.

        Raises:
            KeystoreBusyError: Another writer held the lock, or kept writing, all the time.
            NotConfirmedError: The change is in place, but the disk has not confirmed it.
            KeystoreError: Its other children: nothing was changed.
            ApiKeyError: What *change* raised.
        """
        with self._guarded(WriteFailedError("is not changed")):
            path = self._real_path()
            ownership.check_link(self.path, path)
            status = ownership.stat_if_there(path)
            if status is not None and not stat.S_ISREG(status.st_mode):
                raise NotAKeystoreError("is not a regular file")
            if status is None and not self._lost_names(path):
                if not create:
                    return change(Store.empty(self._passwords))
                _refuse_foreign_characters(self._passwords)
                private.make_directories(os.path.dirname(path))
            ownership.check_directory(path, lock.lock_path(path))
            owner = ownership.owner_for(path)
            with lock.hold(path, owner=owner, timeout=self._lock_timeout):
                self._put_back(path)
                replacing.remove_leftovers(path)
                return self._change(path, change)

    def _change(self, path: str, change: Callable[[Store], Result]) -> Result:
        for _ in range(CHANGE_ATTEMPTS):
            with reading.kept_open(path) as descriptor:
                snapshot, store = self._load(path)
                before = Counter(store.pieces())
                result = change(store)
                if not store.changed:
                    return result
                expected = before - store.removed + store.added
                if not self._write(path, snapshot, store, expected):
                    continue
                if descriptor is not None and snapshot is not None:
                    self._keep_overtaken(path, descriptor, snapshot)
                return result
        raise KeystoreBusyError(
            "keeps being changed by a program that does not lock it",
            hint="Nothing was changed. Try again when that program is done.",
        )

    def _keep_overtaken(self, path: str, descriptor: int, snapshot: Snapshot) -> None:
        """
        Keep what a Java program wrote into the old file while we replaced it.

        A program that had truncated the file in the instant before the rename goes on writing
        into a file that has no name any more. What it changes there is done again in the new one.

        Raises:
            NotConfirmedError: That failed; our own change stays.
        """
        try:
            status = os.fstat(descriptor)
            if os.path.samestat(status, snapshot.status) and (
                reading.identity(status) != reading.identity(snapshot.status)
            ):
                self._do_again(path, descriptor, snapshot)
        except (KeystoreError, OSError) as error:
            raise NotConfirmedError(
                "is changed, but what another program wrote in the same instant may be lost",
                hint="Look for entries that are missing. That program should not write meanwhile.",
            ) from error

    def _do_again(self, path: str, descriptor: int, snapshot: Snapshot) -> None:
        try:
            _, store = self._load_whole(lambda: reading.read_opened(descriptor, self._max_size))
        except DamagedError:
            return  # That program was killed half way: it has finished nothing.
        known = {bag.raw for bag in Store.parse(snapshot.data, self._passwords).bags}
        written = [bag for bag in store.bags if bag.raw not in known]
        removed = known - {bag.raw for bag in store.bags}

        def do_again(current: Store) -> None:
            current.remove(bag for bag in current.bags if bag.raw in removed)
            there = {bag.raw for bag in current.bags}
            for bag in written:
                if bag.raw not in there:
                    current.adopt(bag)

        self._change(path, do_again)

    def _write(
        self, path: str, snapshot: Snapshot | None, store: Store, expected: Counter[bytes]
    ) -> bool:
        """Return False, and do nothing, if somebody else has changed the file meanwhile."""
        if snapshot is not None and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        data = store.serialise(self.random_bytes)
        if len(data) > self._max_size:
            raise WriteFailedError(f"would grow over the limit of {self._max_size:,} bytes")
        _check(data, expected, store)
        if store.trailing:
            self._notify(f"{store.trailing} bytes after the end of the keystore are dropped.")

        def unchanged() -> bool:
            now = reading.read(path, self._max_size)
            return now is None if snapshot is None else snapshot.same_as(now)

        return replacing.replace(
            path,
            data,
            previous=snapshot,
            random_bytes=self.random_bytes,
            unchanged=unchanged,
            before_commit=self._before_commit,
            patience=self._lock_timeout,
        )

    def _lost_names(self, path: str) -> list[str]:
        """Return the whole keystores under temporary names beside *path*, if that is missing."""
        directory = os.path.dirname(path)
        if not replacing.NAMES_CAN_BE_LOST or os.path.lexists(path) or not os.path.isdir(directory):
            return []
        found = [os.path.join(directory, name) for name in replacing.leftovers(path)]
        return [name for name in found if self._is_whole(name)]

    def _is_whole(self, name: str) -> bool:
        try:
            snapshot = reading.read(name, self._max_size)
            return snapshot is not None and bool(Store.parse(snapshot.data, self._passwords).seal)
        except (KeystoreError, OSError):
            return False

    def _put_back(self, path: str) -> None:
        """Give a keystore its name where a replacement was cut short between the two names."""
        for name in self._lost_names(path)[:1]:
            os.rename(name, path)
            self._notify("The keystore was left under a temporary name; it is back in its place.")

    def _load(self, path: str, patience: float = TORN_READ_SECONDS) -> Loaded:
        return self._load_whole(lambda: self._read_named(path, patience), patience)

    def _read_named(self, path: str, patience: float) -> Snapshot | None:
        """Read the file; where it has only a temporary name, wait for it, then say so."""
        deadline = time.monotonic() + patience
        while True:
            snapshot = reading.read(path, self._max_size)
            lost = self._lost_names(path) if snapshot is None else []
            if not lost:
                return snapshot
            if time.monotonic() >= deadline:
                raise ReadFailedError(
                    f"is missing; its content is in {lost[0]}",
                    hint="The next change of the keystore puts it back in its place.",
                )
            time.sleep(TORN_READ_PAUSE)

    def _load_whole(self, read: Reader, patience: float = TORN_READ_SECONDS) -> Loaded:
        """Read and open the file; wait for a Java program that has truncated it to finish."""
        deadline = time.monotonic() + patience
        while True:
            snapshot = read()
            if snapshot is None:
                return None, Store.empty(self._passwords)
            try:
                return snapshot, Store.parse(snapshot.data, self._passwords)
            except DamagedError as error:
                torn = isinstance(error, TruncatedError) or not snapshot.same_as(read())
                if not torn or time.monotonic() >= deadline:
                    raise
            time.sleep(TORN_READ_PAUSE)

    def _real_path(self) -> str:
        """Resolve links: a linked keystore keeps its link, and its target is replaced."""
        if not self.path:
            raise InvalidArgumentError("The path of the keystore is empty.")
        return os.path.realpath(self.path)

    @contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Complete the errors of whatever is done with a store with the file they are about."""
        try:
            yield
        except KeystoreError as error:
            raise error.at(self.path) from error

    @contextmanager
    def _guarded(self, failed: KeystoreError) -> Iterator[None]:
        """Turn what the operating system refuses into errors of ours, too."""
        try:
            with self.named_in_errors():
                yield
        except PermissionError as error:
            if reading.is_in_use(error):
                raise KeystoreBusyError(
                    "is in use by another program",
                    hint="Try again, or wait longer for it with --lock-timeout.",
                ).at(self.path) from error
            raise AccessDeniedError(
                f"Access denied to {self.path}.", hint=ownership.access_hint(self.path)
            ) from error
        except OSError as error:
            raise type(failed)(f"{failed}: {error.strerror}").at(self.path) from error


def _check(data: bytes, expected: Counter[bytes], store: Store) -> None:
    """Read what is about to be written: every entry that should be there must be there."""
    written = Store.parse(data, store.passwords, store.keys, known=store.bags)
    if Counter(written.pieces()) != expected:
        raise WriteFailedError(
            "is not changed: the new file would not hold what it should",
            hint="This is a bug in apikey: please report it.",
        )


def _refuse_foreign_characters(passwords: Passwords) -> None:
    if not passwords.ascii:
        raise PasswordError(
            "The password of a new keystore must be ASCII.",
            hint="Java before version 25 refuses other characters.",
        )
