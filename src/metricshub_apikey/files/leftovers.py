"""
Temporary files of writers that were killed: which may go, and which hold another program's work.

A program that writes the keystore in place may finish in the old file after it has lost its name.
A living writer of ours notices that; when it was killed right then, the record in the lock file
tells the next one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from typing import NamedTuple

from . import lock, temporary
from .reading import open_flags

WIDTH = 79
"""All lines of the record have this length, so that writing them anew is never half done."""

MAX_RECORD = 1 << 16

FULL = {errno.ENOSPC, errno.EDQUOT}


class Leftover(NamedTuple):
    """
    A temporary file.

    Attributes:
        name: In the directory of the file it was made for.
        line: What the record says of it; None where it never had the file's name.
        written_to: Whether it was written to since it lost that name.
    """

    name: str
    line: str | None = None
    written_to: bool = False


def find(path: str, lock_file: int | None = None) -> list[Leftover]:
    """
    Return the temporary files of writers of *path*, judged by the record.

    Args:
        path: The file that they were made for, links resolved.
        lock_file: A descriptor of its lock file, for those who hold the lock.

    Raises:
        OSError: The directory, or the record of the locked file, cannot be read.
    """
    found = temporary.names(path)
    if not found:
        return []
    lines = _read_beside(path) if lock_file is None else _lines(lock_file)
    return [_judge(path, name, lines) for name in found]


def remove(path: str, lock_file: int | None = None) -> list[Leftover]:
    """Remove them, but not those that were written to: these are returned. Raises as `find`."""
    kept = []
    for found in find(path, lock_file):
        if found.written_to:
            kept.append(found)
        else:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(os.path.dirname(path), found.name))
    return kept


class Record:
    """The old files that have lost their names, and are not removed yet, in the lock file."""

    def __init__(self, descriptor: int, kept: list[Leftover]) -> None:
        """
        Write to the lock file behind *descriptor*, which is locked.

        Args:
            descriptor: Open for writing.
            kept: What stays in the record.
        """
        self._descriptor = descriptor
        self._lines = [one.line for one in kept if one.line is not None]
        self._write_if_needed()

    def add(self, status: os.stat_result) -> None:
        """
        Note the file with this *status*, which is about to lose its name.

        A full disk does not keep a key from being revoked: there the record does without it.

        Raises:
            OSError: The lock file cannot be written.
        """
        self._lines.append(_line(status))
        try:
            self._write()
        except OSError as error:
            if error.errno not in FULL:
                raise

    def drop(self) -> None:
        """Forget the file that was added last: it is removed. A line too many does no harm."""
        self._lines.pop()
        with contextlib.suppress(OSError):
            self._write()

    def _write_if_needed(self) -> None:
        if os.fstat(self._descriptor).st_size:
            self._write()

    def _write(self) -> None:
        data = "".join(f"{line:{WIDTH}}\n" for line in self._lines).encode()
        # A lock file with a second name may be a stranger's trap: what it holds is not ours.
        if sys.platform != "win32" and os.fstat(self._descriptor).st_nlink == 1:
            # In this order no line that stays is missing at any moment.
            os.pwrite(self._descriptor, data, 0)
            os.ftruncate(self._descriptor, len(data))


def _line(status: os.stat_result) -> str:
    return f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _lines(descriptor: int) -> list[str]:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, MAX_RECORD).decode("ascii", "replace").splitlines()


def _read_beside(path: str) -> list[str]:
    """Return the lines of the record as far as a process without the lock can read them."""
    flags = os.O_RDONLY | open_flags("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC")
    with contextlib.suppress(OSError):
        descriptor = os.open(lock.lock_path(path), flags)
        try:
            return _lines(descriptor) if stat.S_ISREG(os.fstat(descriptor).st_mode) else []
        finally:
            os.close(descriptor)
    return []


def _judge(path: str, name: str, lines: list[str]) -> Leftover:
    try:
        status = os.lstat(os.path.join(os.path.dirname(path), name))
    except OSError:
        return Leftover(name)
    now = _line(status)
    for line in map(str.strip, lines):
        if line.split()[:2] == now.split()[:2]:
            return Leftover(name, line, written_to=line != now)
    return Leftover(name)
