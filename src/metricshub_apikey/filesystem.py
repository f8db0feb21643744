"""
Reading and replacing one file so that nobody ever sees half of it, and nothing is lost.

The functions do not know what is in the file. The errors they raise on purpose lack their
subject, the path: see `KeystoreError.at`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from . import ownership
from .errors import (
    LimitError,
    NotAKeystoreError,
    NotConfirmedError,
    WriteFailedError,
)

if sys.platform == "win32":
    from .windows import replace_file
else:
    replace_file = os.replace

TEMPORARY_SUFFIX = ".tmp"
RANDOM_PART = 8


class Snapshot(NamedTuple):
    """A file as it was read: its bytes, and what the operating system said of it."""

    data: bytes
    status: os.stat_result

    def same_as(self, other: Snapshot | None) -> bool:
        """Return whether *other* is the same file with the same content."""
        return (
            other is not None
            and identity(self.status) == identity(other.status)
            and self.data == other.data
        )


def identity(status: os.stat_result) -> tuple[int, ...]:
    """Return what changes when a file is replaced or written to."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def read(path: str, max_size: int) -> Snapshot | None:
    """
    Read a regular file whole; None if there is none.

    Raises:
        NotAKeystoreError: It is a directory, a FIFO, a device or a socket.
        LimitError: It has more than *max_size* bytes.
        OSError: It cannot be opened or read.
    """
    with opened(path) as descriptor:
        return None if descriptor is None else read_opened(descriptor, max_size)


@contextlib.contextmanager
def opened(path: str) -> Iterator[int | None]:
    """
    Open *path* for reading; None if there is none.

    Raises:
        NotAKeystoreError: It is a socket.
        OSError: It cannot be opened.
    """
    # Without O_NONBLOCK, opening a FIFO would wait for somebody to write into it.
    flags = os.O_RDONLY | open_flags("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY")
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise NotAKeystoreError("is not a regular file") from error
        raise
    try:
        yield descriptor
    finally:
        # It was only read: what was done meanwhile is done, whatever closing it says.
        with contextlib.suppress(OSError):
            os.close(descriptor)


@contextlib.contextmanager
def kept_open(path: str) -> Iterator[int | None]:
    """Do as `opened`, while the file is replaced; None on Windows, which would not allow that."""
    if sys.platform == "win32":
        yield None
        return
    with opened(path) as descriptor:
        yield descriptor


def read_opened(descriptor: int, max_size: int) -> Snapshot:
    """Read the file behind *descriptor* from its start; raises as `read` does."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise NotAKeystoreError("is not a regular file")
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, "rb", closefd=False) as file:
        data = file.read(max_size + 1) if status.st_size <= max_size else None
    if data is None or len(data) > max_size:
        raise LimitError(f"is larger than the limit of {max_size:,} bytes")
    return Snapshot(data, status)


def open_flags(*names: str) -> int:
    """Return, of these flags for `os.open`, those that this operating system has."""
    flags = 0
    for name in names:
        flags |= getattr(os, name, 0)
    return flags


def make_directories(path: str) -> None:
    """Make the directory *path* and what is missing above it, mode 0700, safe on the disk."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for name in reversed(missing):
        owner = ownership.owner_for(name)
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700)
            os.chmod(name, 0o700)
            if owner is not None:
                _give(name, owner)
            sync_directory(os.path.dirname(name))


def _give(directory: str, owner: tuple[int, int]) -> None:
    if sys.platform == "win32":
        return
    try:
        os.chown(directory, *owner)
    except OSError:
        os.rmdir(directory)
        raise


def replace(
    path: str,
    data: bytes,
    *,
    previous: Snapshot | None,
    random_bytes: Callable[[int], bytes],
    unchanged: Callable[[], bool],
    before_commit: Callable[[], None],
) -> bool:
    """
    Put a file with *data* in the place of *path*: all of it or nothing.

    Args:
        path: The file, links resolved.
        data: Its new content.
        previous: The file as it was, whose owner, mode and extended attributes are kept; None
            makes a new file with mode 0600.
        random_bytes: Returns that many random bytes, for the temporary file's name.
        unchanged: Asked at the last moment whether the file is still as it was.
        before_commit: Called before the one step that cannot be taken back.

    Returns:
        False if the file had changed; then nothing was done.

    Raises:
        WriteFailedError: Nothing was changed.
        NotConfirmedError: The change is in place, but not confirmed on disk.
        OSError: Nothing was changed.
    """
    temporary = temporary_name(path, random_bytes)
    try:
        _write_temporary(temporary, data, like=path, previous=previous)
        if not unchanged():
            os.unlink(temporary)
            return False
        before_commit()
        _rename(temporary, path)
    except FileExistsError:  # somebody else's: leave it alone
        raise
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _confirm(path)
    return True


def _write_temporary(name: str, data: bytes, *, like: str, previous: Snapshot | None) -> None:
    descriptor = create_private(name)
    try:
        write_all(descriptor, data)
        ownership.dress(descriptor, like, previous.status if previous else None)
        sync(descriptor)
    finally:
        os.close(descriptor)


def create_private(path: str) -> int:
    """Make a new file, mode 0600, and return its descriptor; raises OSError if *path* exists."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | open_flags("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY")
    descriptor = os.open(path, flags, 0o600)
    if sys.platform != "win32":
        try:
            os.fchmod(descriptor, 0o600)  # whatever the umask
        except OSError:
            os.close(descriptor)
            os.unlink(path)
            raise
    return descriptor


def write_all(descriptor: int, data: bytes) -> None:
    """Write *data* whole; the operating system may take it in pieces."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def temporary_name(path: str, random_bytes: Callable[[int], bytes]) -> str:
    """Return a new name beside *path*, one that `remove_leftovers` knows."""
    directory, name = os.path.split(path)
    random_part = random_bytes(RANDOM_PART).hex()
    return os.path.join(directory, f".{name}.{random_part}{TEMPORARY_SUFFIX}")


def sync(descriptor: int) -> None:
    """Force the file's bytes to the disk itself; on macOS plain fsync stops at its cache."""
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sync_directory(path: str) -> None:
    """Force the directory's entries to the disk; Windows does that with the rename."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename(temporary: str, path: str) -> None:
    try:
        replace_file(temporary, path)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise WriteFailedError(
                "cannot be replaced: it is mounted as a single file",
                hint="Mount the directory that holds it instead.",
            ) from error
        raise


def _confirm(path: str) -> None:
    try:
        sync_directory(os.path.dirname(path))
    except OSError as error:
        raise NotConfirmedError(
            f"is changed, but the disk has not confirmed it: {error.strerror}",
            hint="The change may be lost if the machine stops now; check the disk.",
        ) from error


def leftovers(path: str) -> list[str]:
    """Return the names of temporary files of writers of *path*, of which some may be at work."""
    directory, name = os.path.split(path)
    pattern = rf"\.{re.escape(name)}\.[0-9a-f]{{{2 * RANDOM_PART}}}{re.escape(TEMPORARY_SUFFIX)}"
    return [found for found in os.listdir(directory) if re.fullmatch(pattern, found)]


def remove_leftovers(path: str) -> None:
    """Remove temporary files of writers of *path* that were killed; call it under the lock."""
    for found in leftovers(path):
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(os.path.dirname(path), found))
