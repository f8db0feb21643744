"""Handing out a new key, in a file of its own or on standard output."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from metricshub_apikey.errors import NotDeliveredError, OutputError, own_command
from metricshub_apikey.files.new_file import NewFile
from metricshub_apikey.files.signals import postponed
from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.document import key_document
from metricshub_apikey.keys.expiry import Moment
from metricshub_apikey.keys.selection import Usage

from .interrupts import Interrupted
from .key_text import expiry_phrase
from .output import Output, green
from .result import Document, Result

STORE_IT = "Please store this key securely, as it will not be shown again."


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
        NotDeliveredError: The key is in the keystore, but it was not delivered.
    """
    try:
        yield
    except (OSError, OutputError, Interrupted) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise NotDeliveredError(
            f"The API key with alias '{alias}' was {done} but not delivered: {reason}",
            hint=f"Revoke it, then create it again: {own_command('revoke', alias)}",
        ) from error


class NewKey(Result):
    """
    A new key for its user: in a file of its own, or on standard output.

    Attributes:
        verb: What was done with the key.
    """

    verb = "created"

    def __init__(
        self, key: ApiKey, *, alias: str, file: str | None, keystore: str, now: Moment
    ) -> None:
        """
        Take what is shown.

        Args:
            key: It is in the keystore.
            alias: As the user typed it.
            file: The file that the key goes to; None to show it here.
            keystore: The path of the keystore.
            now: The current moment, on the server's clock.
        """
        self.key = key
        self.alias = alias
        self.file = file
        self.keystore = keystore
        self.now = now
        self.secret = key.secret

    def fields(self) -> Document:
        """Return the fields of the JSON document that tell of the key."""
        told = key_document(self.key, now=self.now, usage=Usage())
        return {**told, "key": None if self.file else self.secret.reveal(), "file": self.file}

    def quiet(self) -> list[str]:
        """Return the key alone."""
        return [] if self.file else [self.secret.reveal()]

    def lines(self) -> list[str]:
        """Return the sentence that scripts cut up, and a request where the key is in it."""
        shown = f"written to {escape(self.file)}" if self.file else green(self.secret.reveal())
        phrase = expiry_phrase(self.key.expires_on, self.now)
        alias = green(escape(self.alias))
        sentence = f"API key {self.verb} for alias '{alias}': {shown} ({phrase})"
        return [sentence] if self.file else [sentence, STORE_IT]


def hand_out(out: Output, new: NewKey, file: NewFile | None) -> None:
    """
    Give a new key to its user: into *file*, or on standard output.

    Args:
        out: Where it is shown.
        new: The key and what was done.
        file: Where the key goes; None for standard output.

    Raises:
        NotDeliveredError: The user did not get the key.
        OutputError: Its file has it, but that could not be shown.
    """
    if file is None:
        out.warn_if_readable()
        with promise(new.alias, new.verb):
            out.show(new)
        return
    with promise(new.alias, new.verb):
        file.write(new.secret.reveal())
    file.keep()
    out.show(new, done=f"The key is in {file.path}")
