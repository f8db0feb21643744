"""
What Windows does its own way: opening, making and replacing files, and who may do what with them.

What decides takes the calls of Windows as an argument (`Calls`), so it is the same code that runs
on Windows and that is tried elsewhere against calls that fail as Microsoft documents it. Only
`System` makes the calls.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, TypeVar

Result = TypeVar("Result")

FILE_NOT_FOUND, PATH_NOT_FOUND, ACCESS_DENIED = 2, 3, 5
SHARING_VIOLATION, LOCK_VIOLATION = 32, 33
ABSENT = {FILE_NOT_FOUND, PATH_NOT_FOUND}
IN_USE = {SHARING_VIOLATION, LOCK_VIOLATION}

GENERIC_READ, GENERIC_WRITE, DELETE = 0x80000000, 0x40000000, 0x00010000
SHARE_ALL = 7  # to read, to write, and to delete
CREATE_NEW, OPEN_EXISTING = 1, 3
NORMAL, BACKUP_SEMANTICS = 0x80, 0x02000000  # the latter opens directories, too
READ_ONLY = 1
REPLACE_EXISTING, WRITE_THROUGH = 1, 8

READ_PATIENCE = 1.0
RETRY_SECONDS = 0.02
SECOND_LOOKS = 2

SYSTEM, ADMINISTRATORS, OWNER_RIGHTS = "SY", "BA", "OW"
TRUSTED_INSTALLER = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
TRUSTED = {SYSTEM, ADMINISTRATORS, OWNER_RIGHTS, TRUSTED_INSTALLER, "LA", "CO", "S-1-5-18"}
EVERYBODY = {
    "WD": ("Everyone", "S-1-1-0"),
    "AN": ("Anonymous", "S-1-5-7"),
    "AU": ("Authenticated Users", "S-1-5-11"),
    "BU": ("Users", "S-1-5-32-545"),
    "BG": ("Guests", "S-1-5-32-546"),
    "IU": ("Interactive", "S-1-5-4"),
    "NU": ("Network", "S-1-5-2"),
    "PU": ("Power Users", "S-1-5-32-547"),
}
"""Groups that a user is in without having been put there, by their letters in SDDL."""


class Calls(Protocol):
    """
    The calls of Windows that are made here; each raises the OSError of `failure`.

    Access lists are texts in Microsoft's security descriptor definition language (SDDL).
    """

    def open(self, path: str, access: int, how: int, access_list: str | None) -> int:
        """`CreateFileW`, shared with everything; return a file descriptor."""

    def make_directory(self, path: str, access_list: str) -> None:
        """`CreateDirectoryW`."""

    def attributes(self, path: str) -> int:
        """`GetFileAttributesW`."""

    def move(self, source: str, target: str) -> None:
        """`MoveFileExW`, replacing *target*, and through to the disk."""

    def name(self, source: str, target: str) -> None:
        """`MoveFileExW`, through to the disk, where there is no *target*."""

    def access_list(self, path: str) -> str:
        """`GetFileSecurityW`: owner and access list."""

    def set_access_list(self, path: str, access_list: str) -> None:
        """`SetFileSecurityW`: the access list as it stands, nothing inherited anew."""

    def user(self) -> str:
        """Return the security identifier (SID) of the user of this process."""

    def clock(self) -> float:
        """Return seconds that only grow."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


def failure(code: int, text: str, path: str) -> OSError:
    """Return the OSError for a Windows error *code*, the same on every system."""
    kinds = dict.fromkeys((ACCESS_DENIED, *IN_USE), errno.EACCES)
    kinds |= dict.fromkeys(ABSENT, errno.ENOENT) | dict.fromkeys((80, 183), errno.EEXIST)
    error = OSError(kinds.get(code, errno.EIO), text, path, code)
    if sys.platform != "win32":
        setattr(error, "winerror", code)  # noqa: B010 - only Windows declares it
    return error


def code_of(error: OSError) -> int:
    """Return the Windows error code of *error*; 0 where it has none."""
    return getattr(error, "winerror", None) or 0


def is_in_use(error: OSError) -> bool:
    """Return whether *error* says that another program has the file open, or a part locked."""
    return code_of(error) in IN_USE


def locked(error: OSError) -> OSError:
    """Return *error* as what it is where a file is open for reading, and yet access is denied."""
    return failure(LOCK_VIOLATION, "A part of the file is locked", str(error.filename or ""))


def open_reading(path: str, calls: Calls, patience: float = READ_PATIENCE) -> int:
    """
    Open *path* for reading so that others may read, write, replace and remove it meanwhile.

    A file that is being replaced is gone, or denied, for an instant. So its absence is believed
    after several looks, and a program that shares it with no other is waited for.

    Args:
        path: The file.
        calls: The calls of Windows.
        patience: Seconds to wait for other programs.

    Returns:
        A file descriptor; it may be that of a directory or a device.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It cannot be opened; see `is_in_use`.
    """
    looks = 0

    def is_lasting(error: OSError) -> bool:
        nonlocal looks
        looks += 1
        if code_of(error) in ABSENT:
            return code_of(error) == PATH_NOT_FOUND or looks > SECOND_LOOKS
        # Windows denies access to a file that is about to vanish, and then to its attributes, too.
        return code_of(error) == ACCESS_DENIED and _has_attributes(path, calls)

    def attempt() -> int:
        return calls.open(path, GENERIC_READ, OPEN_EXISTING, None)

    return _retried(attempt, is_lasting, calls, patience)


def _retried(
    attempt: Callable[[], Result],
    is_lasting: Callable[[OSError], bool],
    calls: Calls,
    patience: float,
) -> Result:
    """Return what *attempt* returns, tried again while another program is in the way."""
    deadline = calls.clock() + patience
    while True:
        try:
            return attempt()
        except OSError as error:
            passing = code_of(error) in {ACCESS_DENIED, *IN_USE, *ABSENT}
            if not passing or is_lasting(error) or calls.clock() >= deadline:
                raise
        calls.sleep(RETRY_SECONDS)


def _has_attributes(path: str, calls: Calls) -> bool:
    try:
        calls.attributes(path)
    except OSError:
        return False
    return True


def replace_file(source: str, target: str, calls: Calls, patience: float) -> None:
    """
    Rename *source*, closed and on the disk, to *target*, in one step.

    `ReplaceFileW` is not used: it may end with neither file under the name *target* (errors 1176
    and 1177), and while it works readers find no file. `MoveFileExW` fails, with nothing changed,
    while any program has *target* open.

    Args:
        source: The new file; it has the access list that it shall have.
        target: The old file, if there is one.
        calls: The calls of Windows.
        patience: Seconds to wait for programs that have *target* open.

    Raises:
        OSError: Nothing was changed. Where another program is in the way, `is_in_use` says so.
    """

    def is_lasting(error: OSError) -> bool:
        if code_of(error) in ABSENT:
            return True
        return code_of(error) == ACCESS_DENIED and _is_forbidden(target, calls)

    try:
        _retried(lambda: calls.move(source, target), is_lasting, calls, patience)
    except OSError as error:
        if code_of(error) == ACCESS_DENIED and not _is_forbidden(target, calls):
            text = "The file is in use by another program"
            raise failure(SHARING_VIOLATION, text, target) from error
        raise


def name_file(source: str, target: str, calls: Calls, patience: float) -> None:
    """
    Rename *source*, closed and on the disk, to *target*, which is not there.

    Args:
        source: The new file.
        target: Its name to be.
        calls: The calls of Windows.
        patience: Seconds to wait for a program that looks at the new file, as scanners do.

    Raises:
        FileExistsError: *target* is there.
        OSError: It cannot be done.
    """
    _retried(
        lambda: calls.name(source, target),
        lambda error: code_of(error) not in IN_USE,
        calls,
        patience,
    )


def _is_forbidden(target: str, calls: Calls) -> bool:
    """Return whether the read-only attribute or the access list explains that access is denied."""
    try:
        if calls.attributes(target) & READ_ONLY:
            return True
    except OSError as error:  # nothing there: then it is the directory that denies
        return code_of(error) in ABSENT
    try:
        os.close(calls.open(target, DELETE, OPEN_EXISTING, None))
    except OSError as error:
        return code_of(error) == ACCESS_DENIED and _has_attributes(target, calls)
    return False


def private_access(calls: Calls, *, directory: bool = False) -> str:
    """Return the access list of what only SYSTEM, Administrators and this user may use."""
    inherited = "OICI" if directory else ""
    return "D:P" + "".join(
        f"(A;{inherited};FA;;;{who})" for who in (SYSTEM, ADMINISTRATORS, calls.user())
    )


def create_private(path: str, calls: Calls) -> int:
    """Make a new private file and return its descriptor; raises FileExistsError, OSError."""
    return calls.open(path, GENERIC_READ | GENERIC_WRITE, CREATE_NEW, private_access(calls))


def make_private_directory(path: str, calls: Calls) -> None:
    """Make a directory that is private, as all will be that is made in it; raises OSError."""
    calls.make_directory(path, private_access(calls, directory=True))


def let_users_read(path: str, calls: Calls) -> None:
    """Let all users of this machine read *path*, a private file of ours; raises OSError."""
    calls.set_access_list(path, private_access(calls) + "(A;;FR;;;BU)")


def keep_access(new: str, old: str, calls: Calls) -> bool:
    """
    Give the file *new* the access list of *old*; return whether it has it now.

    The owner stays who made the file: rights come from the list.
    """
    wanted = calls.access_list(old)
    if _entries(calls.access_list(new)) != _entries(wanted):
        calls.set_access_list(new, wanted[wanted.index("D:") :])
    return _entries(calls.access_list(new)) == _entries(wanted)


def _entries(access_list: str) -> tuple[bool, list[str]]:
    """Return whether an access list is protected from its directory's, and its entries."""
    found = re.search(r"D:([A-Z_]*)((?:\([^)]*\))*)", access_list)
    flags, entries = found.groups() if found else ("", "")
    return "P" in re.sub("AI|AR|NO_ACCESS_CONTROL", "", flags), re.findall(r"\([^)]*\)", entries)


class Access(NamedTuple):
    """
    What others than SYSTEM, Administrators and the owner may do with a file or a directory.

    Accounts are as in SDDL: two letters, or a security identifier (SID).

    Attributes:
        read: Who may read it.
        change: Who may write to it, remove it, or change its access list; of a directory: who may
            remove or replace what is in it.
        add: Who may make files in it, if it is a directory.
    """

    read: tuple[str, ...]
    change: tuple[str, ...]
    add: tuple[str, ...]


READS = 0x1
CHANGES_FILE = 0x2 | 0x4 | 0x10000 | 0x40000 | 0x80000
CHANGES_DIRECTORY = 0x40 | 0x10000 | 0x40000 | 0x80000
ADDS = 0x2
ALL_RIGHTS = 0x1F01FF
RIGHTS = {
    "FA": ALL_RIGHTS,
    "GA": ALL_RIGHTS,
    "FR": 0x120089,
    "GR": 0x120089,
    "FW": 0x120116,
    "GW": 0x120116,
    "FX": 0x1200A0,
    "GX": 0x1200A0,
    "KA": 0xF003F,
    "KR": 0x20019,
    "KW": 0x20006,
    "RC": 0x20000,
    "SD": 0x10000,
    "WD": 0x40000,
    "WO": 0x80000,
    "CC": 0x1,
    "DC": 0x2,
    "LC": 0x4,
    "SW": 0x8,
    "RP": 0x10,
    "WP": 0x20,
    "DT": 0x40,
    "LO": 0x80,
    "CR": 0x100,
}


def access_of_others(path: str, calls: Calls, *, directory: bool = False) -> Access:
    """
    Return what others may do with *path*, by its access list; raises OSError.

    An entry that denies is not counted: it may name a user who comes in by another entry.
    """
    text = calls.access_list(path)
    owner = re.match(r"O:(S-[0-9-]+|[A-Z]{2})", text)
    trusted = {*TRUSTED, calls.user(), owner[1] if owner else ""}
    changes = CHANGES_DIRECTORY if directory else CHANGES_FILE
    found: dict[str, int] = {}
    if "D:" not in text or "NO_ACCESS_CONTROL" in text:
        found["WD"] = ALL_RIGHTS
    for entry in _entries(text)[1]:
        kind, flags, rights, _, _, who = (entry[1:-1].split(";") + [""] * 6)[:6]
        only_inherited = "IO" in re.findall("..", flags)
        if kind in ("A", "XA") and not only_inherited and who not in trusted:
            found[who] = found.get(who, 0) | _mask(rights)

    def those(mask: int) -> tuple[str, ...]:
        return tuple(who for who, rights in found.items() if rights & mask)

    return Access(those(READS), those(changes), those(ADDS) if directory else ())


def take_from_everybody(path: str, calls: Calls) -> bool:
    """
    Take what `EVERYBODY` may do with the file *path* out of its access list.

    What it inherited from its directory for others stays, as entries of its own.

    Returns:
        False if there was nothing to take.

    Raises:
        OSError: The access list cannot be changed.
    """
    entries = _entries(calls.access_list(path))[1]
    kept = [one for one in entries if one[1:-1].split(";")[5] not in EVERYBODY]
    if kept == entries:
        return False
    own = (re.sub(r"^(\([A-Z]+;(?:[A-Z]{2})*?)ID;", r"\1;", one) for one in kept)
    calls.set_access_list(path, "D:P" + "".join(own))
    return True


def _mask(rights: str) -> int:
    if rights.startswith("0x"):
        return int(rights, 16)
    mask = 0
    for name in re.findall("..", rights):
        mask |= RIGHTS.get(name, ALL_RIGHTS)
    return mask


if sys.platform == "win32":
    import ctypes
    import msvcrt
    from ctypes import wintypes

    DWORD, BOOL, TEXT, POINTER = wintypes.DWORD, wintypes.BOOL, wintypes.LPCWSTR, ctypes.c_void_p
    INVALID_HANDLE = ctypes.c_void_p(-1).value
    OWNER_AND_LIST, LIST = 1 | 4, 4
    TOKEN_QUERY, TOKEN_USER = 8, 1
    SAM_COMPATIBLE = 2
    REVISION = 1

    class _Security(ctypes.Structure):
        """`SECURITY_ATTRIBUTES`."""

        _fields_ = (("length", DWORD), ("descriptor", POINTER), ("inherited", BOOL))

    class System:
        """The calls themselves."""

        def __init__(self) -> None:
            """Load the libraries, and say what the functions take."""
            self._kernel = ctypes.WinDLL("kernel32", use_last_error=True)
            self._security = ctypes.WinDLL("advapi32", use_last_error=True)
            self._kernel.CreateFileW.restype = POINTER
            security = ctypes.POINTER(_Security)
            self._kernel.CreateFileW.argtypes = (
                *(TEXT, DWORD, DWORD, security, DWORD, DWORD, POINTER),
            )
            self._kernel.CreateDirectoryW.argtypes = TEXT, security
            self._kernel.GetFileAttributesW.restype = DWORD
            self._kernel.GetFileAttributesW.argtypes = (TEXT,)
            self._kernel.MoveFileExW.argtypes = TEXT, TEXT, DWORD
            self._kernel.LocalFree.argtypes = (POINTER,)
            self._kernel.GetCurrentProcess.restype = POINTER
            self._kernel.CloseHandle.argtypes = (POINTER,)
            self._security.GetFileSecurityW.argtypes = TEXT, DWORD, POINTER, DWORD, POINTER
            self._security.SetFileSecurityW.argtypes = TEXT, DWORD, POINTER
            self._security.OpenProcessToken.argtypes = POINTER, DWORD, POINTER
            self._security.GetTokenInformation.argtypes = POINTER, DWORD, POINTER, DWORD, POINTER
            self._security.ConvertSidToStringSidW.argtypes = POINTER, POINTER
            to_text = self._security.ConvertSecurityDescriptorToStringSecurityDescriptorW
            to_text.argtypes = POINTER, DWORD, DWORD, POINTER, POINTER
            from_text = self._security.ConvertStringSecurityDescriptorToSecurityDescriptorW
            from_text.argtypes = TEXT, DWORD, POINTER, POINTER
            self._to_text, self._from_text = to_text, from_text
            self._user: str | None = None
            self.clock = time.monotonic
            self.sleep = time.sleep

        def open(self, path: str, access: int, how: int, access_list: str | None) -> int:
            """See `Calls`."""
            # Reading directories, so that what is opened can be looked at instead of guessed.
            flags = NORMAL if how == CREATE_NEW else NORMAL | BACKUP_SEMANTICS
            with self._described(access_list) as security:
                handle = self._kernel.CreateFileW(
                    path, access, SHARE_ALL, security, how, flags, None
                )
            if handle in (None, INVALID_HANDLE):
                raise self.error(path)
            mode = os.O_RDWR if access & GENERIC_WRITE else os.O_RDONLY
            return msvcrt.open_osfhandle(handle, mode | os.O_BINARY | os.O_NOINHERIT)

        def make_directory(self, path: str, access_list: str) -> None:
            """See `Calls`."""
            with self._described(access_list) as security:
                self._check(self._kernel.CreateDirectoryW(path, security), path)

        def attributes(self, path: str) -> int:
            """See `Calls`."""
            found = int(self._kernel.GetFileAttributesW(path))
            if found == 0xFFFFFFFF:
                raise self.error(path)
            return found

        def move(self, source: str, target: str) -> None:
            """See `Calls`."""
            flags = REPLACE_EXISTING | WRITE_THROUGH
            self._check(self._kernel.MoveFileExW(source, target, flags), target)

        def name(self, source: str, target: str) -> None:
            """See `Calls`."""
            self._check(self._kernel.MoveFileExW(source, target, WRITE_THROUGH), target)

        def access_list(self, path: str) -> str:
            """See `Calls`."""
            size, shown = DWORD(), wintypes.LPWSTR()
            read = self._security.GetFileSecurityW
            read(path, OWNER_AND_LIST, None, 0, ctypes.byref(size))
            descriptor = ctypes.create_string_buffer(max(size.value, 1))
            self._check(
                read(path, OWNER_AND_LIST, descriptor, len(descriptor), ctypes.byref(size)), path
            )
            done = self._to_text(descriptor, REVISION, OWNER_AND_LIST, ctypes.byref(shown), None)
            self._check(done, path)
            return self._taken(shown)

        def set_access_list(self, path: str, access_list: str) -> None:
            """See `Calls`."""
            with self._described(access_list) as security:
                descriptor = security and security.descriptor
                self._check(self._security.SetFileSecurityW(path, LIST, descriptor), path)

        def user(self) -> str:
            """See `Calls`."""
            if self._user is None:
                token, size, shown = POINTER(), DWORD(), wintypes.LPWSTR()
                process = self._kernel.GetCurrentProcess()
                opened = self._security.OpenProcessToken(process, TOKEN_QUERY, ctypes.byref(token))
                self._check(opened, "")
                held = ctypes.create_string_buffer(256)
                done = self._security.GetTokenInformation(
                    token, TOKEN_USER, held, len(held), ctypes.byref(size)
                )
                self._kernel.CloseHandle(token)
                self._check(done, "")
                identifier = POINTER.from_buffer(held)
                done = self._security.ConvertSidToStringSidW(identifier, ctypes.byref(shown))
                self._check(done, "")
                self._user = self._taken(shown)
            return self._user

        def _taken(self, text: wintypes.LPWSTR) -> str:
            """Return a text that Windows made for us, and give its memory back."""
            value = text.value or ""
            self._kernel.LocalFree(ctypes.cast(text, POINTER))
            return value

        @contextlib.contextmanager
        def _described(self, access_list: str | None) -> Iterator[_Security | None]:
            """Hold what a call wants to know of an access list."""
            if access_list is None:
                yield None
                return
            made = POINTER()
            done = self._from_text(access_list, REVISION, ctypes.byref(made), None)
            self._check(done, access_list)
            try:
                yield _Security(ctypes.sizeof(_Security), made, False)  # noqa: FBT003
            finally:
                self._kernel.LocalFree(made)

        def _check(self, done: int, path: str) -> None:
            if not done:
                raise self.error(path)

        def error(self, path: str) -> OSError:
            """Return the OSError for what Windows said last."""
            code = ctypes.get_last_error()
            return failure(code, ctypes.FormatError(code).strip().rstrip("."), path)

    SYSTEM_CALLS = System()

    def user_name() -> str | None:
        r"""Return who runs this process, `DOMAIN\user`, as Windows says; None if it does not."""
        size, name = DWORD(256), ctypes.create_unicode_buffer(256)
        library = ctypes.WinDLL("secur32")
        if library.GetUserNameExW(SAM_COMPATIBLE, name, ctypes.byref(size)):
            return name.value
        return None

    def computer_name() -> str | None:
        """Return the name of this machine as Windows says; None if it does not."""
        size, name = DWORD(256), ctypes.create_unicode_buffer(256)
        if ctypes.windll.kernel32.GetComputerNameW(name, ctypes.byref(size)):
            return name.value
        return None
