"""
Asking the kernel whether another program has a file open for writing, and holding such a one off.

A program that is no part of this project takes no lock of ours. But while we hold a lease on a file
(`man 2 fcntl`, F_SETLEASE), the kernel lets no other program open it for writing: one that tries
waits, before anything is truncated, until the lease is given up, and we are told.
"""

from __future__ import annotations

import contextlib
import errno
import sys
from enum import Enum, auto

from . import kernel

F_SETSIG = 10


class Writer(Enum):
    """Whether another program has the file open for writing."""

    NONE = auto()
    AT_WORK = auto()
    UNKNOWN = auto()
    """There are no leases here: no Linux, a network file system, a file that is not ours."""


class Lease:
    """
    A lease on an open file, which is never held without `take`.

    It ends with the descriptor at the latest.
    """

    def __init__(self, descriptor: int) -> None:
        """Name the file by a *descriptor* that is open for reading only."""
        self._descriptor = descriptor
        self.held = False

    def take(self) -> Writer:
        """Take the lease if no program has the file open for writing, and say whether one has."""
        if sys.platform != "linux":
            return Writer.UNKNOWN
        import fcntl
        import signal

        try:
            # The signal that tells of a waiting program must be one that is ignored by default.
            fcntl.fcntl(self._descriptor, F_SETSIG, signal.SIGURG)
            fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            # On a share, EAGAIN only says that the server has not lent us the file.
            if error.errno == errno.EAGAIN and not kernel.is_network(self._descriptor):
                return Writer.AT_WORK
            return Writer.UNKNOWN
        self.held = True
        return Writer.NONE

    def is_wanted(self) -> bool:
        """Return whether a program waits to open the file for writing, as far as is known."""
        if sys.platform != "linux" or not self.held:
            return False
        import fcntl

        try:
            return fcntl.fcntl(self._descriptor, fcntl.F_GETLEASE) != fcntl.F_RDLCK
        except OSError:
            return True

    def drop(self) -> None:
        """Give the lease up; a program that waits goes on."""
        if sys.platform != "linux" or not self.held:
            return
        import fcntl

        self.held = False
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def writer_of(descriptor: int) -> Writer:
    """Return whether another program has the file open for writing; nothing is held."""
    lease = Lease(descriptor)
    found = lease.take()
    lease.drop()
    return found
