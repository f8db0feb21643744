"""Files and directories that only their owner may read, and forcing them to the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import sys

from metricshub_apikey.errors import WriteFailedError

from . import ownership
from .reading import open_flags

if sys.platform == "win32":
    from . import windows

NOT_FOR_DIRECTORIES = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""What a file system answers that cannot sync a directory at all."""


def make_directories(path: str) -> None:
    """Make the directory *path* and what is missing above it, mode 0700, safe on the disk."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for name in reversed(missing):
        owner = ownership.owner_for(name)
        with contextlib.suppress(FileExistsError):
            _make_directory(name)
            if owner is not None:
                _give(name, owner)
            sync_directory(os.path.dirname(name))


def make_folders(path: str) -> None:
    """Make the directory *path* and what is missing above it, private, as the caller's own."""
    if sys.platform == "win32":
        make_directories(os.path.abspath(path))
    else:
        os.makedirs(path, 0o700, exist_ok=True)


def _make_directory(name: str) -> None:
    if sys.platform == "win32":
        windows.make_private_directory(name, windows.SYSTEM_CALLS)
    else:
        os.mkdir(name, 0o700)
        ownership.set_mode(name, 0o700)


def _give(directory: str, owner: tuple[int, int]) -> None:
    if sys.platform == "win32":
        return
    try:
        ownership.give(directory, owner)
    except OSError:
        os.rmdir(directory)
        raise


def create_private(path: str) -> int:
    """Make a new private file and return its descriptor; raises FileExistsError, OSError."""
    if sys.platform == "win32":
        return windows.create_private(path, windows.SYSTEM_CALLS)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | open_flags("O_NOFOLLOW", "O_CLOEXEC")
    descriptor = os.open(path, flags, 0o600)
    try:
        ownership.set_mode(descriptor, 0o600)  # whatever the umask
    except OSError:
        os.close(descriptor)
        os.unlink(path)
        raise
    return descriptor


def let_users_read(path: str) -> None:
    """Let all users read *path*, a new file of ours on Windows; raises OSError."""
    if sys.platform == "win32":
        windows.let_users_read(path, windows.SYSTEM_CALLS)


def keep_access(new: str, old: str) -> None:
    """Give the file *new* the access list of *old* on Windows; raises WriteFailedError, OSError."""
    if sys.platform == "win32" and not windows.keep_access(new, old, windows.SYSTEM_CALLS):
        raise WriteFailedError(f"{old} is not changed: its access list could not be kept.")


def write_all(descriptor: int, data: bytes) -> None:
    """Write *data* whole; the operating system may take it in pieces."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync(descriptor: int) -> None:
    """Force the file's bytes to the disk itself; on macOS plain fsync stops at its cache."""
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sync_directory(path: str) -> bool:
    """
    Force the directory's entries to the disk; Windows does that with the rename.

    Returns:
        False where the file system cannot do that for a directory, as some network and virtual
        ones cannot.

    Raises:
        OSError: It can, and it failed.
    """
    if sys.platform == "win32":
        return True
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in NOT_FOR_DIRECTORIES:
            return False
        raise
    finally:
        os.close(descriptor)
    return True
