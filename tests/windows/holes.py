"""What wine 8 lacks of Windows, filled in its Python: it is installed there as sitecustomize."""

from __future__ import annotations

import _winapi
import errno
import msvcrt
import sys

assert sys.platform == "win32"

if hasattr(_winapi, "CopyFile2"):  # wine has the name, and not the function
    del _winapi.CopyFile2

_locking = msvcrt.locking


def locking(descriptor: int, mode: int, length: int) -> None:
    """Lock as `msvcrt.locking` does; wine gives the conflict another errno than Windows."""
    try:
        _locking(descriptor, mode, length)
    except OSError as error:
        raise PermissionError(errno.EACCES, "Permission denied") from error


msvcrt.locking = locking
