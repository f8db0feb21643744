"""
Putting a new file in the place of an old one, in a step that can be taken back.

Programs that are no part of this project write the old file in place and take no lock. So the two
files *exchange* their names, and as long as nothing was reported the exchange is undone when such a
program turns up. A lease keeps it from truncating the file meanwhile, where there are leases.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from typing import NamedTuple

from metricshub_apikey.errors import WriteFailedError

from . import kernel, ownership, reading, temporary
from .lease import Lease, Writer, writer_of
from .leftovers import Record
from .private import create_private, keep_access, sync, sync_directory, write_all
from .reading import OpenFile, Snapshot

if sys.platform == "win32":
    from . import windows

NAMES_CAN_BE_LOST = sys.platform == "win32"
"""Whether a replacement that is cut short may leave neither file under the name: FAT and shares."""


class Orphan(NamedTuple):
    """
    A file that lost its name, and that another program has written to or is about to.

    Attributes:
        descriptor: Open for reading; the caller closes it.
        data: What it held when it lost its name.
    """

    descriptor: int
    data: bytes


class Outcome(NamedTuple):
    """
    What became of a replacement.

    Attributes:
        committed: Whether the new file is in place; otherwise nothing has changed.
        busy: Whether another program has the old file open for writing.
        orphan: What may hold another program's work.
        unconfirmed: What the disk said instead of confirming the new file.
        synced: Whether the file system can confirm a directory's entries at all.
    """

    committed: bool
    busy: bool = False
    orphan: Orphan | None = None
    unconfirmed: OSError | None = None
    synced: bool = True


CHANGED = Outcome(committed=False)
"""The old file is no longer as it was read."""

BUSY = Outcome(committed=False, busy=True)


class Replacement:
    """One attempt to put a new file in the place of *path*."""

    def __init__(
        self, path: str, data: bytes, *, old: OpenFile, record: Record, max_size: int
    ) -> None:
        """
        Prepare the attempt; nothing is written yet.

        Args:
            path: The file, links resolved.
            data: Its new content.
            old: The file as it was read. Its owner, mode and extended attributes are kept; where
                there was none, the new one gets mode 0600.
            record: Told of the old file while it has no name.
            max_size: Bytes beyond which no file is read.
        """
        self._path = path
        self._data = data
        self._old = old
        self._record = record
        self._max_size = max_size
        self._lease = None if old.descriptor is None else Lease(old.descriptor)
        self._temporary = ""

    def run(
        self,
        random_bytes: Callable[[int], bytes],
        before_commit: Callable[[], None],
        patience: float = 0.0,
    ) -> Outcome:
        """
        Put the new file in place: all of it or nothing.

        Args:
            random_bytes: Returns that many random bytes, for the temporary file's name.
            before_commit: Called before the step that makes the new file visible.
            patience: Seconds to wait on Windows for programs that have the file open.

        Raises:
            WriteFailedError: Nothing was changed.
            OSError: Nothing was changed.
        """
        self._temporary = temporary.new_name(self._path, random_bytes)
        try:
            _write(self._temporary, self._data, like=self._path, previous=self._old.snapshot)
        except FileExistsError:  # a stranger's: leave it alone
            raise
        except BaseException:
            self._discard()
            raise
        try:
            return self._run(before_commit, patience)
        finally:
            if self._lease is not None:
                self._lease.drop()

    def _run(self, before_commit: Callable[[], None], patience: float) -> Outcome:
        old = self._old.snapshot
        try:
            if self._lease is not None and self._lease.take() is Writer.AT_WORK:
                self._discard()
                return BUSY
            now = reading.read(self._path, self._max_size)
            if now is not None if old is None else not old.same_as(now):
                self._discard()
                return CHANGED
            kernel.load()
            if old is None:
                before_commit()
                return self._put_new(patience)
            exchanged = self._exchange(old, before_commit, patience)
        except BaseException:
            # Where the old file is gone, the new one is all there is.
            if old is None or os.path.lexists(self._path):
                self._discard()
            raise
        return self._watch(old) if exchanged else self._finish(old, self._confirm())

    def _discard(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._temporary)

    def _put_new(self, patience: float) -> Outcome:
        """Give the new file its name, unless another program was quicker."""
        try:
            if not kernel.rename_new(self._temporary, self._path):
                _name(self._temporary, self._path, patience)
        except FileExistsError:
            self._discard()
            return CHANGED
        return self._confirm()

    def _exchange(self, old: Snapshot, before_commit: Callable[[], None], patience: float) -> bool:
        """Let the files change their names, or else rename the new one; False for the latter."""
        if self._old.descriptor is not None:
            self._record.add(old.status)
        before_commit()
        try:
            if self._old.descriptor is not None:
                if kernel.exchange(self._temporary, self._path):
                    return True
                self._record.drop()
            _replace(self._temporary, self._path, patience)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise WriteFailedError(
                    f"{self._path} cannot be replaced: it is mounted as a single file.",
                    hint="Mount the directory that holds it instead.",
                ) from error
            raise
        return False

    def _watch(self, old: Snapshot) -> Outcome:
        """Look at once, and when the disk has both names, whether the old file is written to."""
        try:
            outcome = CHANGED if self._is_touched(old) else self._confirm()
            touched = not outcome.committed or self._is_touched(old)
        except BaseException:
            self._take_back(old)
            raise
        return self._take_back(old) if touched else self._finish(old, outcome)

    def _is_touched(self, old: Snapshot) -> bool:
        """Return whether another program writes to the old file, or is about to."""
        if self._lease is not None and self._lease.is_wanted():
            return True
        # A program that replaces the file, as we do, may have done so after our last look.
        return self._differs(old) or not os.path.samestat(os.lstat(self._temporary), old.status)

    def _differs(self, old: Snapshot) -> bool:
        """Return whether the old file has changed since it was read."""
        descriptor = self._old.descriptor
        if descriptor is None:
            return False
        status = os.fstat(descriptor)
        if reading.identity(status) != reading.identity(old.status):
            return True
        # Two changes within one tick of the file system's clock have the same time.
        held = self._lease is not None and self._lease.held
        return not held and self._content(descriptor, old.data) != old.data

    def _content(self, descriptor: int, expected: bytes) -> bytes:
        return reading.content(descriptor, len(expected), self._max_size)

    def _take_back(self, old: Snapshot) -> Outcome:
        """Give the old file its name again, and look whether the new one was written to."""
        with OpenFile(self._path, self._max_size) as new:
            try:
                undone = kernel.exchange(self._temporary, self._path)
            except OSError:
                undone = False
            if not undone:  # The new file stays; what is written into the old one is taken over.
                return self._finish(old, self._confirm())
            if self._lease is not None:
                self._lease.drop()
            orphan = None
            if new.descriptor is not None and self._is_in_use(new.descriptor):
                orphan = Orphan(os.dup(new.descriptor), self._data)
        with contextlib.suppress(OSError):
            sync_directory(os.path.dirname(self._path))
        self._remove_temporary()
        return Outcome(committed=False, orphan=orphan)

    def _is_in_use(self, descriptor: int) -> bool:
        busy = writer_of(descriptor) is Writer.AT_WORK
        return busy or self._content(descriptor, self._data) != self._data

    def _finish(self, old: Snapshot, outcome: Outcome) -> Outcome:
        """Remove the old file; what fails from here on does not undo what is done."""
        self._remove_temporary()
        with contextlib.suppress(OSError):
            wanted = self._lease is not None and self._lease.is_wanted()
            if self._lease is not None:
                self._lease.drop()
            # A program that had found the file by its name may open it only now.
            if self._old.descriptor is not None and (wanted or self._differs(old)):
                return outcome._replace(orphan=Orphan(os.dup(self._old.descriptor), old.data))
        return outcome

    def _remove_temporary(self) -> None:
        """Remove what has the temporary name now, and what the record says of it."""
        with contextlib.suppress(OSError):
            os.unlink(self._temporary)
            self._record.drop()

    def _confirm(self) -> Outcome:
        try:
            synced = sync_directory(os.path.dirname(self._path))
        except OSError as error:
            return Outcome(committed=True, unconfirmed=error)
        return Outcome(committed=True, synced=synced)


def _name(temporary: str, path: str, patience: float) -> None:
    """Like `kernel.rename_new`, where there is no such step."""
    if sys.platform == "win32":
        windows.name_file(temporary, path, windows.SYSTEM_CALLS, patience)
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, where our last look must do
        os.rename(temporary, path)
        return
    with contextlib.suppress(OSError):
        os.unlink(temporary)


def _replace(temporary: str, path: str, patience: float) -> None:
    if sys.platform == "win32":
        windows.replace_file(temporary, path, windows.SYSTEM_CALLS, patience)
    else:
        os.replace(temporary, path)


def _write(name: str, data: bytes, *, like: str, previous: Snapshot | None) -> None:
    """
    Write *data* to the new file *name*, safe on the disk, dressed to replace the file *like*.

    Args:
        name: As `temporary_name` makes it.
        data: Its content.
        like: The file that it will replace.
        previous: That file as it was, whose owner, mode and extended attributes are kept; None
            makes a new file with mode 0600.
    """
    descriptor = create_private(name)
    try:
        write_all(descriptor, data)
        ownership.dress(descriptor, like, previous.status if previous else None)
        if previous is not None:
            keep_access(name, like)
        sync(descriptor)
    finally:
        os.close(descriptor)
