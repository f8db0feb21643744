"""Files and directories that only their owner may read, and forcing them to the disk."""

from __future__ import annotations

import contextlib
import os
import sys

from . import ownership
from .reading import open_flags

if sys.platform == "win32":
    from . import windows


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
        os.chmod(name, 0o700)


def _give(directory: str, owner: tuple[int, int]) -> None:
    if sys.platform == "win32":
        return
    try:
        os.chown(directory, *owner)
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
        os.fchmod(descriptor, 0o600)  # whatever the umask
    except OSError:
        os.close(descriptor)
        os.unlink(path)
        raise
    return descriptor


def let_users_read(descriptor: int, path: str) -> None:
    """Let every user read *path*, a new file that is open as *descriptor*; raises OSError."""
    if sys.platform == "win32":
        windows.let_users_read(path, windows.SYSTEM_CALLS)
    else:
        os.fchmod(descriptor, 0o644)


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


def sync_directory(path: str) -> None:
    """Force the directory's entries to the disk; Windows does that with the rename."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
