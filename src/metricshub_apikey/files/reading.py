"""Reading one regular file whole, whatever is in it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from typing import NamedTuple, Self

from metricshub_apikey.errors import LimitError, NotAKeystoreError

if sys.platform == "win32":
    from . import windows

IN_USE = {32, 33}
"""The error codes of Windows for a file that another program has open, or has locked in part."""


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


def is_in_use(error: OSError) -> bool:
    """Return whether another program is in the way: not a matter of rights."""
    return getattr(error, "winerror", None) in IN_USE


class OpenFile:
    """
    A regular file that was read whole and stays open, so that its fate can be watched.

    Attributes:
        snapshot: What was read; None where there is no file.
        descriptor: Open for reading; None where there is no file, and on Windows, where a file
            that is open cannot be replaced.
    """

    def __init__(self, path: str, max_size: int) -> None:
        """
        Read the file at *path*.

        Raises:
            NotAKeystoreError: It is a directory, a FIFO, a device or a socket.
            LimitError: It has more than *max_size* bytes.
            OSError: It cannot be opened or read.
        """
        self.snapshot: Snapshot | None = None
        self.descriptor = _open(path)
        try:
            if self.descriptor is not None:
                self.snapshot = read_opened(self.descriptor, path, max_size)
        except BaseException:
            self.close()
            raise
        if sys.platform == "win32":
            self.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file; it was only read, so it does not matter what closing it says."""
        if self.descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self.descriptor)
            self.descriptor = None


def read(path: str, max_size: int) -> Snapshot | None:
    """Read a regular file whole; None if there is none. Raises as `OpenFile` does."""
    with OpenFile(path, max_size) as file:
        return file.snapshot


@contextlib.contextmanager
def opened(path: str) -> Iterator[int | None]:
    """
    Open *path* for reading; None if there is none.

    Raises:
        NotAKeystoreError: It is a socket.
        OSError: It cannot be opened.
    """
    descriptor = _open(path)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _open(path: str) -> int | None:
    # Without O_NONBLOCK, opening a FIFO would wait until another program writes into it.
    flags = os.O_RDONLY | open_flags("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY")
    try:
        if sys.platform == "win32":
            return windows.open_reading(path, windows.SYSTEM_CALLS)
        return os.open(path, flags)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise _odd(path) from error
        raise


def read_opened(descriptor: int, path: str, max_size: int) -> Snapshot:
    """Read the file *path* by its *descriptor*, from its start; raises as `OpenFile` does."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise _odd(path)
    if status.st_size > max_size:
        data = None
    else:
        try:
            data = content(descriptor, status.st_size, max_size)
        except PermissionError as error:
            if sys.platform == "win32":  # it may be read, but a part of it is locked
                raise windows.locked(error) from error
            raise
    if data is None or len(data) > max_size:
        raise LimitError(f"{path} is larger than the limit of {max_size:,} bytes.")
    return Snapshot(data, status)


def content(descriptor: int, size: int, max_size: int) -> bytes:
    """
    Return what is in an open file.

    Args:
        descriptor: Open for reading.
        size: How many bytes are expected.
        max_size: How many are enough; one more may be returned.
    """
    os.lseek(descriptor, 0, os.SEEK_SET)
    data = b""
    # One byte more than there should be tells the end, without a buffer of the limit's size.
    while len(data) <= max_size and (piece := os.read(descriptor, max(size - len(data), 0) + 1)):
        data += piece
    return data


def _odd(path: str) -> NotAKeystoreError:
    return NotAKeystoreError(f"{path} is not a regular file.")


def open_flags(*names: str) -> int:
    """Return, of these flags for `os.open`, those that this operating system has."""
    flags = 0
    for name in names:
        flags |= getattr(os, name, 0)
    return flags
