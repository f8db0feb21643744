"""The names of temporary files, by which the next writer knows what a killed one has left."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

SUFFIX = ".tmp"
RANDOM_PART = 8


def new_name(path: str, random_bytes: Callable[[int], bytes]) -> str:
    """Return a new name beside *path*, for a file that may take its place."""
    directory, name = os.path.split(path)
    random_part = random_bytes(RANDOM_PART).hex()
    return os.path.join(directory, f".{name}.{random_part}{SUFFIX}")


def names(path: str) -> list[str]:
    """Return the names of temporary files of writers of *path*, of which some may be at work."""
    directory, name = os.path.split(path)
    pattern = rf"\.{re.escape(name)}\.[0-9a-f]{{{2 * RANDOM_PART}}}{re.escape(SUFFIX)}"
    return [found for found in os.listdir(directory) if re.fullmatch(pattern, found)]
