"""Handing out a new key by a file of its own: it exists before the key does."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from types import TracebackType
from typing import Self

from . import filesystem, ownership
from .errors import (
    InvalidArgumentError,
    NotConfirmedError,
    NotDeliveredError,
    OutputError,
    ReaderGoneError,
)
from .interrupts import Interrupted, postponed
from .keys import ApiKey
from .output import Output

MANY = 100


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
        try:
            self._descriptor = filesystem.create_private(path)
        except FileExistsError as error:
            raise OutputError(f"{path} exists already; it is not overwritten.") from error
        except OSError as error:
            raise OutputError(f"{path} cannot be made: {error.strerror}.") from error

    def write(self, text: str) -> None:
        """Write *text* and a newline, safe on the disk; raises OSError."""
        self.fill(text)
        filesystem.sync(self._descriptor)
        filesystem.sync_directory(os.path.dirname(self.path) or ".")

    def fill(self, text: str) -> None:
        """Write *text* and a newline, which the disk may not have yet; raises OSError."""
        filesystem.write_all(self._descriptor, f"{text}\n".encode())

    def publish(self, owner: tuple[int, int] | None) -> None:
        """Let everybody read it, and give it to user and group *owner*; raises OSError."""
        if sys.platform == "win32":
            return
        os.fchmod(self._descriptor, 0o644)
        if owner is not None:
            os.fchown(self._descriptor, *owner)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def keep(self) -> None:
        """Leave the file where it is, whatever comes: its key is in the keystore."""
        self._kept = True

    def discard(self) -> None:
        """Remove the file, unless it is kept: there is no key for it."""
        if not self._kept:
            with contextlib.suppress(OSError):
                os.unlink(self.path)


def write_public(path: str, text: str) -> None:
    """
    Write *text* to a new file that everybody may read, with the owner of its folder.

    The folder is made if need be, as for a new keystore.

    Raises:
        OutputError: It exists, or it cannot be written.
    """
    folder = os.path.abspath(os.path.dirname(path))
    try:
        filesystem.make_directories(folder)
    except OSError as error:
        raise OutputError(f"{path} cannot be made: {error.strerror}.") from error
    file = NewFile(path)
    try:
        file.write(text)
        file.publish(ownership.owner_for(folder))
    except OSError as error:
        file.discard()
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        file.close()


@contextlib.contextmanager
def reserve(path: str | None) -> Iterator[NewFile | None]:
    """
    Make the file at *path* for a key that is about to be created; no file where it is None.

    If the block raises, the file goes away again, unless it is kept.

    Raises:
        OutputError: The file exists, or cannot be made.
    """
    if path is None:
        yield None
        return
    file = None
    try:
        with postponed():
            file = NewFile(path)
        yield file
    except BaseException:
        if file is not None:
            file.discard()
        raise
    finally:
        if file is not None:
            file.close()


@contextlib.contextmanager
def promise(alias: str, done: str = "created") -> Iterator[None]:
    """
    Turn whatever keeps the new key *alias* from its user into one clear error.

    Args:
        alias: As the user typed it.
        done: What was done with the key.

    Raises:
        NotDeliveredError: The key is in the keystore, but nobody got it.
    """
    try:
        yield
    except (OSError, OutputError, Interrupted) as error:
        import shlex

        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise NotDeliveredError(
            f"The API key with alias '{alias}' was {done} but not delivered: {reason}",
            hint=f"Revoke it, then create it again: apikey revoke {shlex.quote(alias)}",
        ) from error


def file_name(alias: str) -> str:
    """Return *alias* as the name of a file, what no name may have written as `%2F`."""
    return re.sub(r'^\.|[%/\\:*?"<>|]', lambda found: f"%{ord(found[0]):02X}", alias)


class KeyFolder:
    """
    Files for several new keys, in one folder; without `keep` they go away again.

    Attributes:
        files: The path of each key's file, by its alias.
    """

    def __init__(self, path: str | None) -> None:
        """Take the folder *path*, which is made if need be; None takes no keys."""
        self._path = path
        self._kept = False
        self.files: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the files of keys that are not in the keystore."""
        if not self._kept and not isinstance(error, NotConfirmedError):
            self._discard()

    def keep(self) -> None:
        """Leave the files where they are: their keys are in the keystore."""
        self._kept = True

    def write(self, keys: Sequence[ApiKey]) -> None:
        """
        Write each of the *keys* to a new file, safe on the disk, in place of those before.

        Raises:
            InvalidArgumentError: There is no folder to write them to.
            OutputError: A file exists already, or cannot be written.
        """
        self._discard()
        folder = self.require(keys)
        if folder is None:
            return
        try:
            os.makedirs(folder, 0o700, exist_ok=True)
            for key in keys:
                self._write(folder, key)
            _sync_all(self.files.values())
            filesystem.sync_directory(folder)
        except OSError as error:
            raise OutputError(f"{folder} cannot take the keys: {error.strerror}.") from error

    def require(self, keys: Sequence[ApiKey]) -> str | None:
        """Return the folder, None if there are no *keys* for it; raises InvalidArgumentError."""
        if not keys:
            return None
        if self._path is None:
            raise InvalidArgumentError(
                f"There are new keys ('{keys[0].alias}'): name a folder for them with --out-dir."
            )
        return self._path

    def _write(self, folder: str, key: ApiKey) -> None:
        with postponed():
            file = NewFile(os.path.join(folder, file_name(key.alias)))
            self.files[key.alias] = file.path
        try:
            file.fill(key.key or "")
        finally:
            file.close()

    def _discard(self) -> None:
        for path in self.files.values():
            with contextlib.suppress(OSError):
                os.unlink(path)
        self.files.clear()


def _sync_all(paths: Collection[str]) -> None:
    """Force the bytes of these files to the disk; many at once where the system can do that."""
    if len(paths) > MANY and sys.platform == "linux":  # elsewhere `sync` does not wait
        os.sync()
        return
    for path in paths:
        descriptor = os.open(path, os.O_WRONLY | filesystem.open_flags("O_CLOEXEC", "O_BINARY"))
        try:
            filesystem.sync(descriptor)
        finally:
            os.close(descriptor)


def hand_out(
    key: ApiKey,
    alias: str,
    file: NewFile | None,
    show: Callable[[], None],
    out: Output,
    *,
    done: str = "created",
) -> None:
    """
    Give a new key to its user: into *file*, or on standard output.

    Args:
        key: It is in the keystore.
        alias: As the user typed it.
        file: Where the key goes; None to leave that to *show*.
        show: Shows what was done.
        out: Where *show* prints.
        done: What was done with the key.

    Raises:
        NotDeliveredError: Nobody got the key.
        OutputError: Its file has it, but that could not be shown.
    """
    if file is None:
        out.warn_if_readable()
        with promise(alias, done):
            show()
        return
    with promise(alias, done):
        file.write(key.key or "")
    file.keep()
    with after(f"The key is in {file.path}"):
        show()


@contextlib.contextmanager
def after(done: str) -> Iterator[None]:
    """Let an error of the output not hide what is *done*: a clause such as "All is well"."""
    try:
        yield
    except ReaderGoneError:
        raise
    except OutputError as error:
        raise OutputError(f"{done}, but this could not be shown. {error.message}") from error
