"""Handing out a new key by a file of its own: it exists before the key does."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from . import filesystem
from .errors import NotDeliveredError, OutputError, ReaderGoneError
from .interrupts import Interrupted, postponed
from .keys import ApiKey


class KeyFile:
    """A new file for one key, mode 0600."""

    def __init__(self, path: str) -> None:
        """
        Make the file; one that is there is never overwritten.

        Raises:
            OutputError: It exists, or it cannot be made.
        """
        self.path = path
        try:
            self._descriptor = filesystem.create_private(path)
        except FileExistsError as error:
            raise OutputError(f"{path} exists already; it is not overwritten.") from error
        except OSError as error:
            raise OutputError(f"{path} cannot be made: {error.strerror}.") from error

    def write(self, key: ApiKey) -> None:
        """Write the key and a newline, safe on the disk; raises OSError."""
        filesystem.write_all(self._descriptor, f"{key.key}\n".encode())
        filesystem.sync(self._descriptor)
        filesystem.sync_directory(os.path.dirname(self.path) or ".")

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def discard(self) -> None:
        """Remove the file: there is no key for it."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)


@contextlib.contextmanager
def reserve(path: str | None) -> Iterator[KeyFile | None]:
    """
    Make the file at *path* for a key that is about to be created; no file where it is None.

    If the block raises, the file goes away again.

    Raises:
        OutputError: The file exists, or cannot be made.
    """
    if path is None:
        yield None
        return
    file = None
    try:
        with postponed():
            file = KeyFile(path)
        yield file
    except BaseException:
        if file is not None:
            file.discard()
        raise
    finally:
        if file is not None:
            file.close()


@contextlib.contextmanager
def promise(alias: str) -> Iterator[None]:
    """
    Turn whatever keeps the new key *alias* from its user into one clear error.

    Raises:
        NotDeliveredError: The key is in the keystore, but nobody got it.
    """
    try:
        yield
    except (OSError, OutputError, Interrupted) as error:
        import shlex

        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise NotDeliveredError(
            f"The API key with alias '{alias}' was created but not delivered: {reason}",
            hint=f"Revoke it, then create it again: apikey revoke {shlex.quote(alias)}",
        ) from error


@contextlib.contextmanager
def after(done: str) -> Iterator[None]:
    """Let an error of the output not hide what is *done*: a clause such as "All is well"."""
    try:
        yield
    except ReaderGoneError:
        raise
    except OutputError as error:
        raise OutputError(f"{done}, but this could not be shown. {error.message}") from error
