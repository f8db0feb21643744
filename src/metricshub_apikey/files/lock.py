"""
The writers' lock: at most one process changes a keystore at a time.

An advisory lock on a file of its own beside the keystore, `.NAME.lock`. The kernel drops it when
its holder dies, so there is nothing to clean up, and the file stays: deleting it would let two
processes hold "the" lock on two different files. Readers take none.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Iterator

from metricshub_apikey.errors import KeystoreBusyError, UnsafeLocationError, WriteFailedError

from . import ownership, private, reading
from .temporary import new_name

RETRY_SECONDS = 0.02

PLANTED = {errno.ELOOP, errno.ENXIO, errno.EISDIR}
BUSY = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock_path(path: str) -> str:
    """Return the path of the lock file of the keystore *path*."""
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}.lock")


@contextlib.contextmanager
def hold(path: str, *, owner: tuple[int, int] | None, timeout: float) -> Iterator[int]:
    """
    Hold the writers' lock of the keystore *path*, and yield the lock file's descriptor.

    The file's content is for `leftovers.Record`.

    Args:
        path: The keystore, symbolic links resolved.
        owner: User and group that a new lock file is given to: the keystore's, so that its owner
            can lock it after root did. None leaves it to the caller.
        timeout: Seconds to wait for another writer.

    Raises:
        KeystoreBusyError: Another writer held it all the time.
        UnsafeLocationError: The lock file is not a regular file: another user planted it.
        WriteFailedError: The file system cannot lock.
        OSError: The lock file cannot be opened.
    """
    descriptor = _open(path, owner)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _planted(path)
        _wait(path, descriptor, timeout)
        yield descriptor
    finally:
        # What was done under the lock is done, whatever becomes of an empty file.
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _open(path: str, owner: tuple[int, int] | None) -> int:
    """Open the lock file of *path*, never through a link; make it where there is none."""
    file = lock_path(path)
    flags = os.O_RDWR | reading.open_flags("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK")
    for _ in range(2):
        try:
            return os.open(file, flags)
        except FileNotFoundError:
            _make(path, owner)
        except OSError as error:
            if error.errno in PLANTED:
                raise _planted(path) from error
            raise
    return os.open(file, flags)


def _make(path: str, owner: tuple[int, int] | None) -> None:
    """
    Make the lock file whole: when others see it, it has its owner and mode.

    So it gets both under another name. A file that is there already is never given away.
    """
    temporary = new_name(path, os.urandom)
    descriptor = private.create_private(temporary)
    try:
        if owner is not None:
            ownership.give(descriptor, owner)
        with contextlib.suppress(FileExistsError):
            _name(temporary, lock_path(path))
    finally:
        os.close(descriptor)
        # The process that holds the lock by now may have taken it for what a killed writer left.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _name(temporary: str, file: str) -> None:
    try:
        os.link(temporary, file)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, and so without owners
        os.close(private.create_private(file))


def _planted(path: str) -> UnsafeLocationError:
    return UnsafeLocationError(
        f"{path} cannot be locked: its lock file is not a regular file.",
        hint=f"Find out who put it there, then remove it: {lock_path(path)}",
    )


def _wait(path: str, descriptor: int, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            return _lock(descriptor)
        except OSError as error:
            if error.errno not in BUSY:
                raise WriteFailedError(
                    f"{path} cannot be locked: {error.strerror}.",
                    hint="Keep the keystore on a file system that supports locks.",
                ) from error
        if time.monotonic() >= deadline:
            raise KeystoreBusyError(
                f"{path} is being changed by another process.",
                hint=f"Try again, or wait longer than {timeout:g} s with --lock-timeout.",
            )
        time.sleep(RETRY_SECONDS)
