"""A folder that takes new keys, in a file each."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Self

from metricshub_apikey.errors import (
    InvalidArgumentError,
    NotConfirmedError,
    OutputError,
)
from metricshub_apikey.files import names, private, reading
from metricshub_apikey.files.new_file import NewFile
from metricshub_apikey.files.signals import postponed
from metricshub_apikey.keys.api_key import ApiKey

MANY = 100

ODD_PARTS = r'^\.|[. ]$|[\x00-\x1f%/\\:*?"<>|]'


def file_name(alias: str) -> str:
    """Return *alias* as the name of a file, on every system; what no name may have as `%2F`."""
    odd = ODD_PARTS + (r"|^." if names.is_device(alias) else "")
    return re.sub(odd, lambda found: f"%{ord(found[0]):02X}", alias)


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
            private.make_folders(folder)
            for key in keys:
                self._write(folder, key)
            _sync_all(self.files.values())
            private.sync_directory(folder)
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
            file.fill(key.secret.reveal())
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
        descriptor = os.open(path, os.O_WRONLY | reading.open_flags("O_CLOEXEC", "O_BINARY"))
        try:
            private.sync(descriptor)
        finally:
            os.close(descriptor)
