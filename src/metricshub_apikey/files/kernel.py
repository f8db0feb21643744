"""System calls of Linux that Python does not have; elsewhere each says that it cannot."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

AT_FDCWD = -100
NO_REPLACE = 1
EXCHANGE = 2
NUMBERS = {"x86_64": 316, "aarch64": 276}
"""The number of `renameat2`, for C libraries without a function of that name (musl)."""

CANNOT = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}
"""What a file system without the call answers, or a filter of system calls."""

NETWORK = {0x6969, 0x517B, 0xFF534D42, 0xFE534D42}
"""`f_type` of NFS, SMB, CIFS and SMB2 (`man 2 statfs`)."""

STATFS_SIZE = 256


def exchange(one: str, other: str) -> bool:
    """
    Let two files change their names in one step: at every moment both names are there.

    Returns:
        False, and nothing is done, where the kernel or the file system has no such step.

    Raises:
        OSError: It could not be done.
    """
    return _rename(one, other, EXCHANGE)


def rename_new(source: str, target: str) -> bool:
    """
    Rename *source* to *target*, which must not be there.

    Returns:
        False, and nothing is done, where the kernel or the file system has no such step.

    Raises:
        FileExistsError: *target* is there.
        OSError: It could not be done.
    """
    return _rename(source, target, NO_REPLACE)


def is_network(descriptor: int) -> bool:
    """Return whether the file is on an NFS or SMB share; True where that cannot be found out."""
    library = load()
    if library is None:
        return True
    import ctypes

    status = ctypes.create_string_buffer(STATFS_SIZE)
    if library.fstatfs(descriptor, status):
        return True
    word = ctypes.sizeof(ctypes.c_long)
    return int.from_bytes(status.raw[:word], sys.byteorder) & 0xFFFFFFFF in NETWORK


def _rename(source: str, target: str, flags: int) -> bool:
    library = load()
    if library is None or sys.platform == "win32":
        return False
    import ctypes

    arguments = (AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags)
    try:
        result = library.renameat2(*arguments)
    except AttributeError:
        number = NUMBERS.get(os.uname().machine) if sys.maxsize > 1 << 32 else None
        if number is None:
            return False
        result = library.syscall(number, *arguments)
    if not result:
        return True
    code = ctypes.get_errno()
    if code in CANNOT:
        return False
    raise OSError(code, os.strerror(code), source, None, target)


def load() -> ctypes.CDLL | None:
    """Return the C library, loaded once; None where Python cannot call it."""
    if sys.platform != "linux":
        return None
    try:
        import ctypes  # takes 4 ms, which only a writer pays

        return ctypes.CDLL(None, use_errno=True)
    except (ImportError, OSError):
        return None
