"""Whose files these are: what a replaced file must keep, and where replacing one is not safe."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from metricshub_apikey.errors import (
    UnsafeLocationError,
    WriteFailedError,
    same_command,
    shell_command,
)

if TYPE_CHECKING or sys.platform == "win32":
    from . import windows

MUST_KEEP = ("system.", "user.", "security.selinux")
"""Extended attributes without which others may lose access to the file: ACL, SELinux label."""

REFUSED = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""What a file system answers that has no modes of its own."""

GET_FLAGS = 0x80086601
IMMUTABLE = 0x10
"""`FS_IOC_GETFLAGS` and `FS_IMMUTABLE_FL` of Linux (`man 2 ioctl_iflags`)."""

TOO_MUCH = stat.S_IRWXO | stat.S_IWGRP
"""What only its owner needs of a keystore: its permissions are what protects it."""


def stat_if_there(path: str) -> os.stat_result | None:
    """Return the status of *path* itself, links not followed; None if there is nothing."""
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def check_directory(path: str, *others: str) -> None:
    """
    Refuse a directory in which another user could swap the file *path* while it is replaced.

    Args:
        path: The file that will be replaced.
        others: Further files of ours in the same directory.

    Raises:
        UnsafeLocationError: With the reason.
        OSError: The directory cannot be looked at.
    """
    if sys.platform == "win32":  # There the access lists rule, and the installer sets them.
        return
    name = os.path.dirname(path)
    directory = os.stat(name)
    file = stat_if_there(path)
    if directory.st_mode & stat.S_IWOTH:
        if not directory.st_mode & stat.S_ISVTX:
            raise UnsafeLocationError(
                f"{path} is not changed: everybody may replace files in its directory.",
                hint=f"Take that right away: {shell_command('chmod', 'o-w', name)}",
            )
        found = [file, *(stat_if_there(other) for other in others)]
        if any(status and status.st_uid != os.geteuid() for status in found):
            raise UnsafeLocationError(
                f"{path} is not changed: everybody may write to its directory, and it or its lock "
                "file belongs to another user.",
                hint="Keep the keystore in a directory of its own.",
            )
    trusted = {0, os.geteuid()}
    if file is not None:
        trusted.add(file.st_uid)
    if directory.st_uid not in trusted and (file is not None or not _is_root()):
        raise UnsafeLocationError(
            f"{path} is not changed: its directory belongs to another user.",
            hint="Give the directory to the keystore's owner: "
            + shell_command("chown", str(os.geteuid() if file is None else file.st_uid), name),
        )


def check_link(named: str, path: str) -> None:
    """
    Refuse a link *named* by which a stranger could make us write to a file that is not theirs.

    Args:
        named: The file as the user named it.
        path: Where it leads, links resolved.

    Raises:
        UnsafeLocationError: The link belongs neither to root, nor to the caller, nor to the
            owner of what it leads to.
    """
    link = stat_if_there(named)
    if sys.platform == "win32" or link is None or not stat.S_ISLNK(link.st_mode):
        return
    target = stat_if_there(path)
    if link.st_uid not in {0, os.geteuid(), target.st_uid if target else 0}:
        raise UnsafeLocationError(
            f"{named} is not changed: it is another user's link to a file that is not theirs.",
            hint=f"Find out who made the link, or name the file itself: {path}",
        )


def _is_root() -> bool:
    return sys.platform != "win32" and os.geteuid() == 0


def owner_for(path: str) -> tuple[int, int] | None:
    """
    Return the user and group that root must give what it makes for *path*; None for others.

    They are those of *path*, or of its directory where it does not exist yet: a service must be
    able to use what root made for it.
    """
    if not _is_root():
        return None
    status = stat_if_there(path) or os.stat(os.path.dirname(path))
    return status.st_uid, status.st_gid


@contextlib.contextmanager
def as_owner(directory: str) -> Iterator[None]:
    """Give up root's rights for those of the owner of *directory* for a while, in all threads."""
    # What is made then is the owner's, and a planted link leads to nothing out of his reach.
    status = os.stat(directory)
    if sys.platform == "win32" or os.geteuid() or not status.st_uid:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    try:
        os.setgroups([])
        os.setegid(status.st_gid)
        os.seteuid(status.st_uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def odd_owner(path: str) -> str | None:
    """Return what is odd about the owner of *path*; None where nothing is."""
    directory = os.stat(os.path.dirname(path)).st_uid
    owner = os.stat(path).st_uid
    if sys.platform == "win32" or owner in {0, os.geteuid(), directory}:
        return None
    return f"The file belongs to user {owner}, its directory to user {directory}."


def access_hint(path: str) -> str:
    """Return what to do where the operating system denied access to *path*."""
    if sys.platform == "win32":
        if os.path.exists(path) and not os.access(path, os.W_OK):
            return f'It is read-only; take that away: attrib -r "{path}"'
        return "Run the command from an elevated prompt (Run as administrator)."
    if _is_root():
        return "Not even root may: look for an immutable file (lsattr) or a read-only mount."
    import pwd

    uid = _owner(os.path.realpath(path))
    if uid == os.geteuid() and os.access(path, os.R_OK | os.W_OK):
        return f"You need the right to write to its directory, too: {os.path.dirname(path)}"
    if uid == os.geteuid():
        return f"You own it; give yourself the right: {shell_command('chmod', 'u+rw', path)}"
    try:
        owner = pwd.getpwuid(uid).pw_name
    except KeyError:
        owner = f"#{uid}"
    become = shell_command("sudo", "-u", owner)
    return f"Run the command as the file's owner: {become} {same_command()}"


def _owner(path: str) -> int:
    """Return who owns *path*, or the nearest directory above it that can be looked at."""
    while True:
        try:
            return os.stat(path).st_uid
        except OSError:
            path = os.path.dirname(path)


def access_of_others(path: str, *, directory: bool = False) -> windows.Access | None:
    """Return what the access list of *path* lets others do; None where modes say that."""
    if sys.platform == "win32":
        return windows.access_of_others(path, windows.SYSTEM_CALLS, directory=directory)
    return None


def take_from_everybody(path: str) -> bool:
    """Take the rights of all users out of the access list of *path*; False if they have none."""
    return sys.platform == "win32" and windows.take_from_everybody(path, windows.SYSTEM_CALLS)


def dress(descriptor: int, path: str, old: os.stat_result | None) -> None:
    """
    Give a new file what the one it replaces has besides its content.

    Args:
        descriptor: The new file.
        path: The old file.
        old: Its status; None where there is none, and the new one gets mode 0600.

    Raises:
        WriteFailedError: Owner, group, access list or label could not be kept; replacing the
            file would lock a user out.
        OSError: The same, for its mode.
    """
    if sys.platform == "win32":  # There `replacing` carries the access list over.
        return
    if old is None:
        if owner := owner_for(path):
            give(descriptor, owner)
        set_mode(descriptor, 0o600)
        return
    new = os.fstat(descriptor)
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        try:
            os.fchown(descriptor, old.st_uid, old.st_gid)
        except OSError as error:
            raise WriteFailedError(
                f"{path} is not changed: its owner and group could not be kept.",
                hint="Run the command as the file's owner or as root.",
            ) from error
    _copy_attributes(path, descriptor)
    mode = stat.S_IMODE(old.st_mode)
    if not set_mode(descriptor, mode) and stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:
        raise WriteFailedError(
            f"{path} is not changed: its mode could not be kept.",
            hint="The file system does not let modes be changed.",
        )


def set_mode(file: int | str, mode: int) -> bool:
    """
    Give a file or directory of ours, by descriptor or path, a mode.

    Returns:
        False where the file system refuses that: many shares have no modes but those that they
        are mounted with.

    Raises:
        OSError: It failed for another reason.
    """
    try:
        os.chmod(file, mode)
    except OSError as error:
        if error.errno in REFUSED:
            return False
        raise
    return True


def give(file: int | str, owner: tuple[int, int]) -> None:
    """
    Give a new file or directory, by descriptor or path, to a user and group.

    Where it has them already, as on a share whose files all have one owner, nothing is asked.

    Raises:
        OSError: It could not be done; the user could not use the file.
    """
    status = os.stat(file)
    if sys.platform != "win32" and (status.st_uid, status.st_gid) != owner:
        os.chown(file, *owner)


def is_immutable(descriptor: int) -> bool:
    """Return whether the file has the attribute that keeps even root from changing it."""
    if sys.platform != "linux":
        return False
    import fcntl

    flags = bytearray(8)
    try:
        fcntl.ioctl(descriptor, GET_FLAGS, flags)
    except OSError:  # a file system without such attributes
        return False
    return bool(int.from_bytes(flags[:4], sys.byteorder) & IMMUTABLE)


def _copy_attributes(path: str, descriptor: int) -> None:
    """Give the new file the extended attributes of the old one, and no others."""
    if sys.platform == "darwin":
        copy_on_macos(path, descriptor)
        return
    if sys.platform != "linux":
        return
    try:
        wanted = {name: os.getxattr(path, name) for name in os.listxattr(path)}
        found = {name: os.getxattr(descriptor, name) for name in os.listxattr(descriptor)}
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOSYS):
            return
        raise
    for name in wanted.keys() | found.keys():
        if wanted.get(name) != found.get(name):
            _set_attribute(path, descriptor, name, wanted.get(name))


COPY_ACL, COPY_XATTR = 1, 4


def copy_on_macos(
    path: str, descriptor: int, copy: Callable[[int, int, int], int] | None = None
) -> None:
    """
    Give the new file the access list and the extended attributes of the old one on macOS.

    Args:
        path: The old file.
        descriptor: The new file.
        copy: `fcopyfile` of the system's library: from, to, what; negative if it failed.

    Raises:
        WriteFailedError: They could not be kept.
    """
    if copy is None:
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)

        def copy(source: int, target: int, what: int) -> int:
            return int(library.fcopyfile(source, target, None, ctypes.c_uint32(what)))

    old = os.open(path, os.O_RDONLY)  # Python never hands it on to a program it starts
    try:
        if copy(old, descriptor, COPY_ACL | COPY_XATTR) < 0:
            raise WriteFailedError(f"{path} is not changed: its access list could not be kept.")
    finally:
        os.close(old)


def _set_attribute(path: str, descriptor: int, name: str, value: bytes | None) -> None:
    """Set an extended attribute; with None take away what the directory's default gave."""
    if sys.platform != "linux":
        return
    try:
        if value is None:
            os.removexattr(descriptor, name)
        else:
            os.setxattr(descriptor, name, value)
    except OSError as error:
        if name.startswith(MUST_KEEP):
            raise WriteFailedError(
                f"{path} is not changed: its extended attribute {name} could not be kept."
            ) from error
