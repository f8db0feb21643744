"""Replacing one file as a whole, so that a reader never sees half of it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Callable

from metricshub_apikey.errors import (
    NotConfirmedError,
    WriteFailedError,
)

from . import ownership
from .private import create_private, sync, sync_directory, write_all
from .reading import Snapshot

if sys.platform == "win32":
    from . import windows

NAMES_CAN_BE_LOST = sys.platform == "win32"
"""Whether a replacement that is cut short may leave neither file under the name: FAT and shares."""

TEMPORARY_SUFFIX = ".tmp"
RANDOM_PART = 8


def replace(
    path: str,
    data: bytes,
    *,
    previous: Snapshot | None,
    random_bytes: Callable[[int], bytes],
    unchanged: Callable[[], bool],
    before_commit: Callable[[], None],
    patience: float = 0.0,
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
        patience: Seconds to wait on Windows for programs that have the file open.

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
        _rename(temporary, path, patience)
    except FileExistsError:  # somebody else's: leave it alone
        raise
    except BaseException:
        # Where the old file is gone, the new one is all there is.
        if previous is None or os.path.lexists(path):
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
        if (
            sys.platform == "win32"
            and previous is not None
            and not windows.keep_access(name, like, windows.SYSTEM_CALLS)
        ):
            raise WriteFailedError("is not changed: its access list could not be kept")
        sync(descriptor)
    finally:
        os.close(descriptor)


def temporary_name(path: str, random_bytes: Callable[[int], bytes]) -> str:
    """Return a new name beside *path*, one that `remove_leftovers` knows."""
    directory, name = os.path.split(path)
    random_part = random_bytes(RANDOM_PART).hex()
    return os.path.join(directory, f".{name}.{random_part}{TEMPORARY_SUFFIX}")


def _rename(temporary: str, path: str, patience: float) -> None:
    try:
        if sys.platform == "win32":
            windows.replace_file(temporary, path, windows.SYSTEM_CALLS, patience)
        else:
            os.replace(temporary, path)
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
