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
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple, TypeVar

from metricshub_apikey.errors import (
    AccessDeniedError,
    DamagedError,
    InvalidArgumentError,
    KeystoreBusyError,
    KeystoreError,
    LimitError,
    NotAKeystoreError,
    NotConfirmedError,
    PasswordError,
    ReadFailedError,
    UnsupportedError,
    WriteFailedError,
    shell_command,
)
from metricshub_apikey.files import (
    lease,
    leftovers,
    lock,
    ownership,
    private,
    reading,
    replacing,
    temporary,
)
from metricshub_apikey.files.lease import Writer
from metricshub_apikey.files.leftovers import Record
from metricshub_apikey.files.reading import OpenFile, Snapshot
from metricshub_apikey.files.replacing import Orphan, Outcome, Replacement
from metricshub_apikey.pkcs12.kdf import Passwords as Passwords
from metricshub_apikey.pkcs12.problems import (
    DamagedBytesError,
    FormatError,
    FormatLimitError,
    NotPkcs12Error,
    TruncatedBytesError,
    UnsupportedFormatError,
)
from metricshub_apikey.pkcs12.store import Store

Result = TypeVar("Result")

STOCK_PASSWORDS = Passwords(
    store="Matrix, Credits: Bertrand, Elvis, Fadhela, Huan, Nassim, Ramassh and Thomas",
    entries="secret",
)
"""Published with MetricsHub: they protect nothing. File permissions do."""

KINDS: dict[type[FormatError], type[KeystoreError]] = {
    NotPkcs12Error: NotAKeystoreError,
    DamagedBytesError: DamagedError,
    UnsupportedFormatError: UnsupportedError,
    FormatLimitError: LimitError,
    FormatError: KeystoreError,
}
"""Which error of the file each problem of its bytes is."""

MAX_FILE_SIZE = 16 << 20
LOCK_TIMEOUT = 10.0
TORN_READ_SECONDS = 1.0
TORN_READ_PAUSE = 0.02
LINK_SECONDS = 1.5
"""How long a share may take to notice that a file has lost its second name."""
CHANGE_ATTEMPTS = 30


class Loaded(NamedTuple):
    """
    A keystore that was read and opened.

    Attributes:
        file: Where it was read; it is open.
        store: Its entries.
        whole: What they were read from: the file, or what it held before a program cut it short
            and died; None where there is no file.
    """

    file: OpenFile
    store: Store
    whole: Snapshot | None


def ignore_note(text: str) -> None:
    """Drop a note; the default of those who do not listen."""


def raise_unconfirmed(error: NotConfirmedError) -> None:
    """Raise the error; the default of those who have nothing to hand out before it is told."""
    raise error


def ignore_commit() -> None:
    """Do nothing before a commit."""


class Keystore:
    """
    One keystore file.

    Attributes:
        path: The file as it was named.
    """

    def __init__(  # noqa: PLR0913 - options, each given by its name
        self,
        path: str | os.PathLike[str],
        passwords: Passwords = STOCK_PASSWORDS,
        *,
        lock_timeout: float = LOCK_TIMEOUT,
        max_size: int = MAX_FILE_SIZE,
        random_bytes: Callable[[int], bytes] = os.urandom,
        notify: Callable[[str], None] = ignore_note,
        before_commit: Callable[[], None] = ignore_commit,
        unconfirmed: Callable[[NotConfirmedError], None] = raise_unconfirmed,
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
            before_commit: Called before the step of `update` that makes a change visible; again
                if that step had to be taken back.
            unconfirmed: Takes the error of a change that is in place, but not confirmed by the
                disk. It may keep the error for later, so that a new key is handed out first.
        """
        self.path = os.fspath(path)
        self.random_bytes = random_bytes
        self._passwords = passwords
        self._lock_timeout = lock_timeout
        self._max_size = max_size
        self._notify = notify
        self._before_commit = before_commit
        self._unconfirmed = unconfirmed

    def read(self, *, patience: float = TORN_READ_SECONDS) -> Store:
        """
        Return the entries; none where the file does not exist. Takes no lock, writes nothing.

        Args:
            patience: Seconds to wait for a Java program that is writing the file.

        Raises:
            KeystoreError: One of its children says why the file cannot be read.
        """
        with self._guarded(ReadFailedError, "cannot be read"):
            loaded = self._load(self._real_path(), patience)
            with loaded.file:
                return loaded.store

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
        with self._guarded(WriteFailedError, "is not changed"):
            path = self._real_path()
            there = self._prepare(path, create=create)
        if not there and not create:
            with self.named_in_errors():
                return change(Store.empty(self._passwords))
        with ExitStack() as stack:
            with self._guarded(WriteFailedError, "is not changed"):
                owner = ownership.owner_for(path)
                held = lock.hold(path, owner=owner, timeout=self._lock_timeout)
                lock_file = stack.enter_context(held)
                self._put_back(path)
                kept = leftovers.remove(path, lock_file)
                self._refuse_second_name(path)
                record = leftovers.Record(lock_file, kept)
                if kept:
                    self._tell_unfinished(path)
            return self._change(path, change, record)

    def _prepare(self, path: str, *, create: bool) -> bool:
        """Check where the file is, and make its directory if need be; say whether it is there."""
        ownership.check_link(self.path, path)
        status = ownership.stat_if_there(path)
        if status is not None and not stat.S_ISREG(status.st_mode):
            raise NotAKeystoreError(f"{self.path} is not a regular file.")
        there = status is not None or bool(self._lost_names(path))
        if not there:
            if not create:
                return False
            _refuse_foreign_characters(self._passwords)
            private.make_directories(os.path.dirname(path))
        ownership.check_directory(path, lock.lock_path(path))
        return there

    def _change(self, path: str, change: Callable[[Store], Result], record: Record) -> Result:
        """Read, change and write under the lock, again and again while others change the file."""
        deadline = time.monotonic() + self._lock_timeout
        known: Snapshot | None = None
        for _ in range(CHANGE_ATTEMPTS):
            with self._guarded(WriteFailedError, "is not changed"):
                loaded = self._load(path, known=known)
            with loaded.file:
                before = Counter(loaded.store.pieces())
                with self.named_in_errors():
                    result = change(loaded.store)
                if not loaded.store.changed:
                    return result
                with self._guarded(WriteFailedError, "is not changed"):
                    outcome = self._write(path, loaded, before, record)
                    self._after(path, loaded.file.snapshot, outcome, record)
                    if outcome.committed:
                        return result
                    if outcome.busy:
                        self._wait_for_writer(loaded.file.descriptor, deadline)
                known = loaded.whole
        raise KeystoreBusyError(
            f"{self.path} keeps being changed by a program that does not lock it.",
            hint="Nothing was changed. Try again when that program is done.",
        )

    def _write(self, path: str, loaded: Loaded, before: Counter[bytes], record: Record) -> Outcome:
        """Write what the store holds now, unless the file has changed since it was read."""
        old, store = loaded.file.snapshot, loaded.store
        if old is not None and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        expected = before - store.removed + store.added
        data = store.serialise(self.random_bytes)
        if len(data) > self._max_size:
            raise WriteFailedError(
                f"{self.path} would grow over the limit of {self._max_size:,} bytes."
            )
        self._check(data, expected, store)
        if store.trailing:
            self._notify(f"{store.trailing} bytes after the end of the keystore are dropped.")
        attempt = Replacement(path, data, old=loaded.file, record=record, max_size=self._max_size)
        return attempt.run(self.random_bytes, self._before_commit, self._lock_timeout)

    def _tell_unfinished(self, path: str) -> None:
        loaded = self._load(path)
        with loaded.file:
            for sentence in self.unfinished(loaded.store):
                self._notify(sentence)

    def unfinished(self, store: Store) -> list[str]:
        """
        Tell of files that another program wrote to after they had lost the keystore's name.

        A process of ours was killed in that instant, or it would have taken over what they hold.

        Args:
            store: The entries of the keystore.

        Returns:
            A sentence for each file, with what it holds that the keystore does not.

        Raises:
            OSError: The directory cannot be read.
        """
        path = self._real_path()
        known = {bag.raw for bag in store.bags}
        told = []
        for one in leftovers.find(path):
            if one.written_to:
                file = os.path.join(os.path.dirname(path), one.name)
                missing = self._missing(file, known)
                told.append(
                    f"{file} was written to by another program when a command was killed: {missing}"
                )
        return told

    def _missing(self, file: str, known: set[bytes]) -> str:
        try:
            found = reading.read(file, self._max_size)
            bags = [] if found is None else Store.parse(found.data, self._passwords).bags
        except (FormatError, KeystoreError, OSError):
            return "it cannot be read. Remove it."
        missing = [f"'{bag.alias}'" for bag in bags if bag.raw not in known]
        if not missing:
            return "it holds nothing that the keystore lacks. Remove it."
        return f"it holds {', '.join(missing)}, which the keystore lacks. Add that, then remove it."

    def _tell_mode(self, path: str) -> None:
        """Tell of a file system that does not keep the mode of a new keystore."""
        status = ownership.stat_if_there(path)
        mode = 0 if status is None else stat.S_IMODE(status.st_mode)
        if sys.platform != "win32" and mode & ownership.TOO_MUCH:
            self._notify(
                f"{self.path} has mode {mode:04o}, for its file system has no modes of its own: "
                "mount it with a mode that leaves others out."
            )

    def _after(self, path: str, old: Snapshot | None, outcome: Outcome, record: Record) -> None:
        """Take over what another program wrote, and tell what the disk has not confirmed."""
        if outcome.orphan is not None:
            try:
                self._take_over(path, outcome.orphan, record)
            except (KeystoreError, OSError) as error:
                raise NotConfirmedError(
                    f"{self.path} is changed, but what another program wrote in the same instant "
                    "may be lost.",
                    hint="Look for missing entries. That program should not write meanwhile.",
                ) from error
            finally:
                os.close(outcome.orphan.descriptor)
        if outcome.committed and old is None:
            self._tell_mode(path)
        if not outcome.synced:
            self._notify(
                "This is done, but the file system has no way to confirm that it is on the disk."
            )
        if outcome.unconfirmed is not None:
            told = NotConfirmedError(
                f"{self.path} is changed, but the disk has not confirmed it: "
                f"{outcome.unconfirmed.strerror}.",
                hint="The change may be lost if the machine stops now; check the disk.",
            )
            told.__cause__ = outcome.unconfirmed
            self._unconfirmed(told)

    def _take_over(self, path: str, orphan: Orphan, record: Record) -> None:
        """
        Keep what a Java program wrote into a file that had lost its name.

        What it changed there is done again in the file that has the name.

        Raises:
            KeystoreError: That failed, or the program did not finish.
            OSError: The same.
        """
        deadline = time.monotonic() + self._lock_timeout
        self._wait_for_writer(orphan.descriptor, deadline)
        written = self._read_orphan(orphan.descriptor)
        if written is None:
            return  # That program was killed half way: it has finished nothing.
        known = {bag.raw for bag in Store.parse(orphan.data, self._passwords).bags}
        added = [bag for bag in written.bags if bag.raw not in known]
        removed = known - {bag.raw for bag in written.bags}

        def do_again(current: Store) -> None:
            current.remove(bag for bag in current.bags if bag.raw in removed)
            there = {bag.raw for bag in current.bags}
            for bag in added:
                if bag.raw not in there:
                    current.adopt(bag)

        self._change(path, do_again, record)

    def _read_orphan(self, descriptor: int) -> Store | None:
        """Return what is in a file without a name; None if its writer died before it was done."""
        give_up = time.monotonic() + TORN_READ_SECONDS
        while True:
            data = reading.read_opened(descriptor, self.path, self._max_size).data
            try:
                return Store.parse(data, self._passwords)
            except DamagedBytesError:
                if lease.writer_of(descriptor) is Writer.NONE or time.monotonic() >= give_up:
                    return None
            time.sleep(TORN_READ_PAUSE)

    def _wait_for_writer(self, descriptor: int | None, deadline: float) -> None:
        """Wait while another program has a file open for writing; raises KeystoreBusyError."""
        while descriptor is not None and lease.writer_of(descriptor) is Writer.AT_WORK:
            if time.monotonic() >= deadline:
                raise self._busy()
            time.sleep(TORN_READ_PAUSE)

    def _load(
        self, path: str, patience: float = TORN_READ_SECONDS, known: Snapshot | None = None
    ) -> Loaded:
        """
        Read and open the file; wait for a Java program that has truncated it to finish.

        Args:
            path: The file, links resolved.
            patience: Seconds to wait where the kernel does not tell whether that program is at
                work; where it tells, the time that a writer waits for the lock; 0 waits never.
            known: What the file held when it was last whole, which is taken for its content where
                the program that truncated it is gone.
        """
        start = time.monotonic()
        while True:
            with ExitStack() as stack:
                file = stack.enter_context(OpenFile(path, self._max_size))
                loaded = self._parse(path, file, known, time.monotonic() - start, patience)
                if loaded is not None:
                    stack.pop_all()  # The caller closes the file.
                    return loaded
            time.sleep(TORN_READ_PAUSE)

    def _lost_names(self, path: str) -> list[str]:
        """Return the whole keystores under temporary names beside *path*, if that is missing."""
        directory = os.path.dirname(path)
        if not replacing.NAMES_CAN_BE_LOST or os.path.lexists(path) or not os.path.isdir(directory):
            return []
        found = [os.path.join(directory, name) for name in temporary.names(path)]
        return [name for name in found if self._is_whole(name)]

    def _is_whole(self, name: str) -> bool:
        try:
            snapshot = reading.read(name, self._max_size)
            return snapshot is not None and bool(Store.parse(snapshot.data, self._passwords).seal)
        except (NotPkcs12Error, TruncatedBytesError, NotAKeystoreError):
            return False
        except (FormatError, LimitError):
            return True  # With another password or limit it may open: it is no leftover.

    def _put_back(self, path: str) -> None:
        """Give a keystore its name where a replacement was cut short between the two names."""
        for name in self._lost_names(path)[:1]:
            os.rename(name, path)
            self._notify("The keystore was left under a temporary name; it is back in its place.")

    def _parse(
        self, path: str, file: OpenFile, known: Snapshot | None, waited: float, patience: float
    ) -> Loaded | None:
        """Open what was read; None to read it again."""
        if file.snapshot is None:
            if lost := self._lost_names(path):
                if waited < patience:
                    return None
                raise ReadFailedError(
                    f"{self.path} is missing; its content is in {lost[0]}.",
                    hint="The next change of the keystore puts it back in its place.",
                )
            return Loaded(file, Store.empty(self._passwords), None)
        try:
            return Loaded(file, Store.parse(file.snapshot.data, self._passwords), file.snapshot)
        except DamagedBytesError as error:
            if self._may_become_whole(path, file, error, waited, patience):
                return None
            if known is None:
                raise
        return Loaded(file, Store.parse(known.data, self._passwords), known)

    def _may_become_whole(
        self, path: str, file: OpenFile, error: DamagedBytesError, waited: float, patience: float
    ) -> bool:
        """Return whether to read again a file that cannot be opened, after *waited* seconds."""
        if not patience:
            return False
        # In this order: a write that ends in between has changed the file.
        if _is_written(file) or self._has_changed(path, file.snapshot):
            if waited >= max(self._lock_timeout, patience):
                raise self._busy() from error
            return True
        return waited < patience and isinstance(error, TruncatedBytesError)

    def _has_changed(self, path: str, snapshot: Snapshot | None) -> bool:
        return snapshot is None or not snapshot.same_as(reading.read(path, self._max_size))

    def _real_path(self) -> str:
        """Resolve links: a linked keystore keeps its link, and its target is replaced."""
        if not self.path:
            raise InvalidArgumentError("The path of the keystore is empty.")
        try:
            return os.path.realpath(self.path)
        except FileNotFoundError as error:
            raise InvalidArgumentError(
                "The current directory does not exist any more.", hint="Change to another one: cd"
            ) from error

    @contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Make whole sentences, about the file, of what is wrong with its bytes."""
        try:
            yield
        except FormatError as error:
            kind = next(kind for problem, kind in KINDS.items() if isinstance(error, problem))
            raise kind(f"{self.path} {error.problem}.", hint=error.hint) from error

    @contextmanager
    def _guarded(self, kind: type[KeystoreError], failed: str) -> Iterator[None]:
        """Turn what the operating system refuses into errors of ours, too."""
        try:
            with self.named_in_errors():
                yield
        except PermissionError as error:
            if reading.is_in_use(error):
                raise KeystoreBusyError(
                    f"{self.path} is in use by another program.",
                    hint="Try again, or wait longer for it with --lock-timeout.",
                ) from error
            raise AccessDeniedError(
                f"Access denied to {self.path}.", hint=ownership.access_hint(self.path)
            ) from error
        except OSError as error:
            raise kind(f"{self.path} {failed}: {error.strerror}.") from error

    def _check(self, data: bytes, expected: Counter[bytes], store: Store) -> None:
        """Read what is about to be written: every entry that should be there must be there."""
        written = Store.parse(data, store.passwords, store.keys, known=store.bags)
        if Counter(written.pieces()) != expected:
            raise WriteFailedError(
                f"{self.path} is not changed: the new file would not hold what it should.",
                hint="This is a bug in apikey: please report it.",
            )

    def _busy(self) -> KeystoreBusyError:
        return KeystoreBusyError(
            f"{self.path} is being changed by another program.",
            hint="Nothing was changed. Try again when that program is done.",
        )

    def _refuse_second_name(self, path: str) -> None:
        """Refuse a file with a hard link: the other name would keep a key that is revoked."""
        deadline = time.monotonic() + LINK_SECONDS
        while (status := ownership.stat_if_there(path)) is not None and status.st_nlink > 1:
            if time.monotonic() < deadline:
                time.sleep(TORN_READ_PAUSE)
                continue
            raise WriteFailedError(
                f"{self.path} is not changed: it has a second name (a hard link), which would keep "
                "the old content.",
                hint="Find that name and remove it: "
                + shell_command("find", "/", "-xdev", "-samefile", path),
            )


def _is_written(file: OpenFile) -> bool:
    """Return whether the kernel knows of a program that has the file open for writing."""
    return file.descriptor is not None and lease.writer_of(file.descriptor) is Writer.AT_WORK


def _refuse_foreign_characters(passwords: Passwords) -> None:
    if not passwords.ascii:
        raise PasswordError(
            "The password of a new keystore must be ASCII.",
            hint="Java before version 25 refuses other characters.",
        )
