"""Handing out a new key, in a file of its own or on standard output."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from metricshub_apikey.errors import (
    NotDeliveredError,
    OutputError,
    ReaderGoneError,
)
from metricshub_apikey.files.new_file import NewFile
from metricshub_apikey.files.signals import postponed
from metricshub_apikey.keys.api_key import ApiKey

from .interrupts import Interrupted
from .output import Output


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
        file.write(key.secret.reveal())
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
