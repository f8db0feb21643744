"""Replacing one file, as the keystore does it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from metricshub_apikey.files import leftovers, lock
from metricshub_apikey.files.leftovers import Record
from metricshub_apikey.files.reading import OpenFile
from metricshub_apikey.files.replacing import Outcome, Replacement

LIMIT = 1000


def replaced(
    file: Path,
    content: bytes,
    *,
    old: OpenFile | None = None,
    random_bytes: Callable[[int], bytes] = os.urandom,
    before_commit: Callable[[], None] = lambda: None,
) -> Outcome:
    """
    Try once to replace *file*, under its lock, by a new one with *content*.

    Args:
        file: It need not exist.
        content: Of the new file.
        old: The file as it was read; None reads it now.
        random_bytes: For the temporary file's name.
        before_commit: Called when all is ready and compared.
    """
    path = str(file)
    with ExitStack() as stack:
        lock_file = stack.enter_context(lock.hold(path, owner=None, timeout=0))
        record = Record(lock_file, leftovers.remove(path, lock_file))
        old = old or stack.enter_context(OpenFile(path, LIMIT))
        attempt = Replacement(path, content, old=old, record=record, max_size=LIMIT)
        return attempt.run(random_bytes, before_commit)
