"""A keystore password of one's own, from a file: never from an argument, where `ps` shows it."""

from __future__ import annotations

import codecs
import os
import stat
import sys
from collections.abc import Callable

from metricshub_apikey.errors import PasswordError
from metricshub_apikey.files.text import decode
from metricshub_apikey.pkcs12.kdf import Passwords

from .keystore import STOCK_PASSWORDS

STANDARD_INPUT = "-"
MAX_SIZE = 4096


def read_passwords(file: str | None, warn: Callable[[str], None]) -> Passwords:
    """
    Return the password in the first line of *file*, for store and entries; else the stock ones.

    Args:
        file: A path; `-` is standard input; None means MetricsHub's published passwords.
        warn: Takes a warning, a sentence.

    Raises:
        PasswordError: The file cannot be read, or its first line is empty or not UTF-8.
    """
    if file is None:
        return STOCK_PASSWORDS
    if file == STANDARD_INPUT and sys.stdin is None:
        raise PasswordError("There is no standard input to read the password from.")
    name = "standard input" if file == STANDARD_INPUT else file
    try:
        line = _first_line(file, warn)
    except OSError as error:
        raise PasswordError(f"{name} cannot be read: {error.strerror}.") from error
    try:
        password = line_text(line)
    except PasswordError:
        raise PasswordError(f"The password in {name} is not UTF-8.") from None
    if not password or len(password.encode()) > MAX_SIZE or "\0" in password:
        raise PasswordError(f"The first line of {name} is not a password.")
    return Passwords(password, password)


def _first_line(file: str, warn: Callable[[str], None]) -> bytes:
    descriptor = sys.stdin.fileno() if file == STANDARD_INPUT else os.open(file, os.O_RDONLY)
    with open(descriptor, "rb", closefd=file != STANDARD_INPUT) as stream:
        mode = os.fstat(descriptor).st_mode
        if file != STANDARD_INPUT and sys.platform != "win32" and mode & stat.S_IROTH:
            warn(f"{file} holds a password, and everybody may read it: chmod 600 it.")
        return stream.readline(MAX_SIZE + 2)


def line_text(line: bytes) -> str:
    """Return the text of a line as `readline` returns it, without its end; raises PasswordError."""
    if line.startswith(codecs.BOM_UTF16_LE) and line.endswith(b"\n"):
        line += b"\0"  # the other half of the newline
    return decode(line, "It", PasswordError).rstrip("\r\n")
