"""A new file, made before what goes into it: private until it is published."""

from __future__ import annotations

import contextlib
import os
import stat
import sys

from metricshub_apikey.errors import OutputError, WriteFailedError
from metricshub_apikey.files import names, ownership, private


class NewFile:
    """A new file, mode 0600."""

    def __init__(self, path: str) -> None:
        """
        Make the file; one that is there is never overwritten.

        Raises:
            OutputError: It exists, or it cannot be made.
        """
        self.path = path
        self._kept = False
        self._closed = False
        if sys.platform == "win32" and (reason := names.odd_on_windows(path)):
            raise OutputError(f"{path} cannot be made: {reason}.")
        try:
            self._descriptor = private.create_private(path)
        except FileExistsError as error:
            raise OutputError(f"{path} exists already; it is not overwritten.") from error
        except OSError as error:
            raise OutputError(f"{path} cannot be made: {error.strerror}.") from error

    def write(self, text: str) -> None:
        """Write *text* and a newline, safe on the disk; raises OSError."""
        self.fill(text)
        private.sync(self._descriptor)
        private.sync_directory(os.path.dirname(self.path) or ".")

    def fill(self, text: str) -> None:
        """Write *text* and a newline, which the disk may not have yet; raises OSError."""
        private.write_all(self._descriptor, f"{text}\n".encode())

    def publish(self, owner: tuple[int, int] | None, mode: int = 0o644) -> None:
        """Let others read it, and give it to user and group *owner*; raises OSError."""
        if sys.platform == "win32":
            private.let_users_read(self.path)
            return
        if owner is not None:
            ownership.give(self._descriptor, owner)
        ownership.set_mode(self._descriptor, mode)

    def close(self) -> None:
        """Close the file, if it is open."""
        if not self._closed:
            self._closed = True
            os.close(self._descriptor)

    def keep(self) -> None:
        """Leave the file where it is, whatever comes: its key is in the keystore."""
        self._kept = True

    def discard(self) -> None:
        """Close the file and remove it, unless it is kept: there is no key for it."""
        if not self._kept:
            with contextlib.suppress(OSError):
                self.close()
            with contextlib.suppress(OSError):
                os.unlink(self.path)


def write_public(path: str, text: str, *, replace_empty: bool = False) -> None:
    """
    Write *text* to a new file that all users may read, with the owner of its folder.

    The folder is made if need be, as for a new keystore.

    Args:
        path: Of the file.
        text: What goes into it, without its last newline.
        replace_empty: Whether an empty file that is there may go.

    Raises:
        OutputError: It exists, or it cannot be written.
    """
    folder = os.path.abspath(os.path.dirname(path))
    try:
        private.make_directories(folder)
    except OSError as error:
        raise OutputError(f"{path} cannot be made: {error.strerror}.") from error
    if replace_empty and _is_empty(path):
        _fill_empty(path, text)
        return
    file = NewFile(path)
    try:
        file.write(text)
        file.publish(ownership.owner_for(folder))
    except OSError as error:
        file.discard()
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        file.close()


def _is_empty(path: str) -> bool:
    """Return whether a file of no bytes is there, and no link."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == 0


def _fill_empty(path: str, text: str) -> None:
    """Put *text* into an empty file, which keeps its owner, group and mode, or access list."""
    status = os.stat(path)
    beside = NewFile(f"{path}.{os.getpid()}.new")
    try:
        beside.write(text)
        if sys.platform == "win32":
            private.keep_access(beside.path, path)
        else:
            beside.publish((status.st_uid, status.st_gid), stat.S_IMODE(status.st_mode))
        beside.close()
        os.replace(beside.path, path)
        private.sync_directory(os.path.dirname(path) or ".")
    except WriteFailedError:
        beside.discard()
        raise
    except OSError as error:
        beside.discard()
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        beside.close()
