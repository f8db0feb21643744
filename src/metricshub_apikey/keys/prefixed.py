"""
Keys that say whose they are: a prefix, 43 characters of chance, and a checksum.

The checksum tells a mistyped key from an unknown one without looking anything up. It
authenticates nothing.

    >>> key = new_prefixed_key("metoro_secret_", lambda count: bytes(count))
    >>> key, is_intact(key)
    ('metoro_secret_00000000000000000000000000000000000000000001YOTla', True)
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

from metricshub_apikey.errors import InvalidArgumentError

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM_BYTES = 32
RANDOM_DIGITS = 43  # 62 ** 43 > 2 ** 256
CHECKSUM_DIGITS = 6  # 62 ** 6 > 2 ** 32

PREFIX = r"(?!.*__)[a-z][a-z0-9_]{0,30}_"
"""Without two underscores in a row: a stock server would take what follows for an expiry."""

PREFIXED = rf"(?P<prefix>{PREFIX})[0-9A-Za-z]{{{RANDOM_DIGITS + CHECKSUM_DIGITS}}}"


def check_prefix(prefix: str) -> None:
    """
    Refuse a prefix that a key, or a stock server, could not have.

    Raises:
        InvalidArgumentError: It breaks the rule.
    """
    if not re.fullmatch(PREFIX, prefix):
        raise InvalidArgumentError(
            f"'{prefix}' is not a prefix: 2 to 32 lower-case letters, digits or single "
            "underscores, a letter first and an underscore last."
        )


def new_prefixed_key(prefix: str, random_bytes: Callable[[int], bytes]) -> str:
    """
    Return a new key: *prefix*, 256 random bits and a checksum, both in base 62.

    Args:
        prefix: As `check_prefix` wants it.
        random_bytes: Returns that many random bytes, fit for keys.
    """
    number = int.from_bytes(random_bytes(RANDOM_BYTES), "big")
    return with_checksum(prefix + _base62(number, RANDOM_DIGITS))


def with_checksum(text: str) -> str:
    """Return *text* followed by the CRC-32 of it in base 62."""
    return text + _base62(zlib.crc32(text.encode()), CHECKSUM_DIGITS)


def is_intact(key: str) -> bool | None:
    """Return whether the checksum of a prefixed key fits; None if *key* is of another kind."""
    if not re.fullmatch(PREFIXED, key):
        return None
    return with_checksum(key[:-CHECKSUM_DIGITS]) == key


def _base62(number: int, digits: int) -> str:
    shown = ""
    for _ in range(digits):
        number, digit = divmod(number, len(DIGITS))
        shown = DIGITS[digit] + shown
    return shown
