"""
Reading one regular file whole.

The functions do not know what is in the file. The errors they raise on purpose lack their
subject, the path: see `KeystoreError.at`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from typing import NamedTuple

from metricshub_apikey.errors import (
    LimitError,
    NotAKeystoreError,
)

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
    flags = os.O_RDONLY | open_flags("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY")
    try:
        if sys.platform == "win32":
            descriptor = windows.open_reading(path, windows.SYSTEM_CALLS)
        else:
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
    try:
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(max_size + 1) if status.st_size <= max_size else None
    except PermissionError as error:
        if sys.platform == "win32":  # it may be read, but a part of it is locked
            raise windows.locked(error) from error
        raise
    if data is None or len(data) > max_size:
        raise LimitError(f"is larger than the limit of {max_size:,} bytes")
    return Snapshot(data, status)


def open_flags(*names: str) -> int:
    """Return, of these flags for `os.open`, those that this operating system has."""
    flags = 0
    for name in names:
        flags |= getattr(os, name, 0)
    return flags
