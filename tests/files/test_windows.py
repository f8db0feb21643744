"""What is decided on Windows, tried with calls that fail as Microsoft documents it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from metricshub_apikey.files import windows
from metricshub_apikey.files.windows import (
    ACCESS_DENIED,
    DELETE,
    FILE_NOT_FOUND,
    LOCK_VIOLATION,
    PATH_NOT_FOUND,
    SHARING_VIOLATION,
    Access,
    failure,
)

DISK_FULL, ALREADY_EXISTS = 112, 183
SHARE_READ, SHARE_WRITE, SHARE_DELETE = 1, 2, 4
PRIVATE = "D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;S-1-5-21-1)"
FROM_FOLDER = "O:BAD:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;0x1200a9;;;BU)"


class Fake:
    """
    Windows as it is documented, over files of this machine.

    Attributes:
        errors: For each call, the codes it fails with first.
        sharing: The mode in which another program has each file open.
        lists: The access list of each file.
        denied: Files that the access list lets nobody remove.
        read_only: Files with that attribute.
        now: The time.
        then: What happens when somebody has waited that long.
    """

    def __init__(self) -> None:
        """Start with nothing in the way."""
        self.errors: dict[str, list[int]] = {}
        self.sharing: dict[str, int] = {}
        self.lists: dict[str, str] = {}
        self.denied: set[str] = set()
        self.read_only: set[str] = set()
        self.now = 0.0
        self.then: tuple[float, Callable[[], None]] | None = None

    def _fail(self, call: str, path: str) -> None:
        if self.errors.get(call):
            raise failure(self.errors[call].pop(0), "as asked for", path)

    def open(self, path: str, access: int, how: int, access_list: str | None) -> int:
        """Fail where the sharing mode of another program does not go with *access*."""
        self._fail("open", path)
        needed = SHARE_DELETE if access == DELETE else SHARE_READ
        if path in self.sharing and not self.sharing[path] & needed:
            raise failure(SHARING_VIOLATION, "in use", path)
        if access == DELETE and path in self.denied:
            raise failure(ACCESS_DENIED, "denied", path)
        if how == windows.OPEN_EXISTING:
            if not os.path.exists(path):
                raise failure(FILE_NOT_FOUND, "not there", path)
            return os.open(path, os.O_RDONLY)
        self.lists[path] = access_list or FROM_FOLDER
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def make_directory(self, path: str, access_list: str) -> None:
        """Remember the access list."""
        os.mkdir(path)
        self.lists[path] = access_list

    def attributes(self, path: str) -> int:
        """Return whether the file is read-only."""
        self._fail("attributes", path)
        if not os.path.exists(path):
            raise failure(FILE_NOT_FOUND, "not there", path)
        return windows.READ_ONLY if path in self.read_only else windows.NORMAL

    def move(self, source: str, target: str) -> None:
        """Fail, with nothing changed, while anybody has the target open, in whatever mode."""
        self._fail("move", target)
        if target in self.sharing or target in self.denied or target in self.read_only:
            raise failure(ACCESS_DENIED, "denied", target)
        os.replace(source, target)

    def name(self, source: str, target: str) -> None:
        """Fail where the target is there."""
        self._fail("name", target)
        if os.path.exists(target):
            raise failure(ALREADY_EXISTS, "already there", target)
        os.rename(source, target)

    def access_list(self, path: str) -> str:
        """Return what was set."""
        return self.lists.get(path, FROM_FOLDER)

    def set_access_list(self, path: str, access_list: str) -> None:
        """Remember it."""
        self.lists[path] = "O:BA" + access_list

    def user(self) -> str:
        """Return an ordinary user."""
        return "S-1-5-21-1"

    def clock(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass at once."""
        self.now += seconds
        if self.then and self.now >= self.then[0]:
            self.then[1]()
            self.then = None


@pytest.fixture
def fake() -> Fake:
    """Return a Windows with nothing in the way."""
    return Fake()


@pytest.fixture
def names(tmp_path: Path) -> tuple[str, str]:
    """Return a new file, and the old one that it shall replace."""
    new, old = tmp_path / "new", tmp_path / "old"
    new.write_text("new")
    old.write_text("old")
    return str(new), str(old)


def content(name: str) -> str:
    """Return what is in a file."""
    return Path(name).read_text(encoding="utf-8")


@pytest.mark.parametrize("sharing", range(8))
def test_a_target_that_is_held_open_is_waited_for(
    fake: Fake, names: tuple[str, str], sharing: int
) -> None:
    """In each sharing mode the file is replaced as soon as the other program has closed it."""
    fake.sharing[names[1]] = sharing
    fake.then = (8.0, fake.sharing.clear)
    windows.replace_file(*names, fake, 10.0)
    assert content(names[1]) == "new"
    assert 8 <= fake.now < 9


@pytest.mark.parametrize("sharing", range(8))
def test_a_target_that_stays_open_is_in_use(
    fake: Fake, names: tuple[str, str], sharing: int
) -> None:
    """After the patience both files are as they were, and it is not called a matter of rights."""
    fake.sharing[names[1]] = sharing
    with pytest.raises(PermissionError) as caught:
        windows.replace_file(*names, fake, 10.0)
    assert windows.is_in_use(caught.value)
    assert (content(names[0]), content(names[1])) == ("new", "old")
    assert 10 <= fake.now < 11


@pytest.mark.parametrize("code", [ACCESS_DENIED, SHARING_VIOLATION, LOCK_VIOLATION])
def test_a_passing_failure_is_retried(fake: Fake, names: tuple[str, str], code: int) -> None:
    """A virus scanner that looks at the file for a moment does no harm."""
    fake.errors["move"] = [code] * 50
    windows.replace_file(*names, fake, 10.0)
    assert content(names[1]) == "new"
    assert not os.path.exists(names[0])


@pytest.mark.parametrize("why", ["read_only", "denied"])
def test_what_rights_explain_is_not_waited_for(
    fake: Fake, names: tuple[str, str], why: str
) -> None:
    """A read-only file, and one that may not be removed, are refused at once, as denied."""
    getattr(fake, why).add(names[1])
    with pytest.raises(PermissionError) as caught:
        windows.replace_file(*names, fake, 10.0)
    assert not windows.is_in_use(caught.value)
    assert fake.now == 0
    assert content(names[1]) == "old"


def test_other_failures_are_not_waited_for(fake: Fake, names: tuple[str, str]) -> None:
    """A full disk will not be empty in a moment."""
    fake.errors["move"] = [DISK_FULL]
    with pytest.raises(OSError, match="as asked for"):
        windows.replace_file(*names, fake, 10.0)
    assert fake.now == 0


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_around_the_call(
    fake: Fake, names: tuple[str, str], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """A process that dies before or after the one call leaves the old file or the new one."""
    move = fake.move

    def die(source: str, target: str) -> None:
        if when == "after":
            move(source, target)
        raise SystemExit

    monkeypatch.setattr(fake, "move", die)
    with pytest.raises(SystemExit):
        windows.replace_file(*names, fake, 10.0)
    assert content(names[1]) == {"before": "old", "after": "new"}[when]


def test_there_may_be_no_old_file(fake: Fake, names: tuple[str, str]) -> None:
    """A new keystore is moved to its name as well."""
    os.unlink(names[1])
    windows.replace_file(*names, fake, 10.0)
    assert content(names[1]) == "new"


def test_a_new_file_gets_its_name(fake: Fake, names: tuple[str, str]) -> None:
    """A scanner that looks at it is waited for; a file that is there already is left alone."""
    with pytest.raises(FileExistsError):
        windows.name_file(*names, fake, 10.0)
    assert content(names[1]) == "old"
    os.unlink(names[1])
    fake.errors["name"] = [SHARING_VIOLATION] * 9
    windows.name_file(*names, fake, 10.0)
    assert content(names[1]) == "new"


def test_a_folder_that_denies(fake: Fake, names: tuple[str, str]) -> None:
    """Where there is no file that could be open, denied means denied."""
    os.unlink(names[1])
    fake.errors["move"] = [ACCESS_DENIED] * 2
    with pytest.raises(PermissionError) as caught:
        windows.replace_file(*names, fake, 10.0)
    assert not windows.is_in_use(caught.value)
    assert fake.now == 0


@pytest.mark.parametrize("codes", [[FILE_NOT_FOUND], [FILE_NOT_FOUND] * 2, [SHARING_VIOLATION] * 9])
def test_a_reader_looks_again(fake: Fake, names: tuple[str, str], codes: list[int]) -> None:
    """A file that is gone for an instant, or not shared for a moment, is read all the same."""
    fake.errors["open"] = codes
    os.close(windows.open_reading(names[1], fake))


def test_absence_is_believed_in_the_end(fake: Fake, tmp_path: Path) -> None:
    """A file that is not there is not there, and the answer comes soon."""
    with pytest.raises(FileNotFoundError):
        windows.open_reading(str(tmp_path / "none"), fake)
    assert fake.now < 0.1


def test_a_missing_folder_is_believed_at_once(fake: Fake, tmp_path: Path) -> None:
    """Folders are not replaced."""
    fake.errors["open"] = [PATH_NOT_FOUND]
    with pytest.raises(FileNotFoundError):
        windows.open_reading(str(tmp_path / "none"), fake)
    assert fake.now == 0


def test_a_file_about_to_vanish_is_waited_for(fake: Fake, names: tuple[str, str]) -> None:
    """Windows denies access to a file that is being removed, and then to its attributes, too."""
    fake.errors = {"open": [ACCESS_DENIED] * 5, "attributes": [ACCESS_DENIED] * 5}
    os.close(windows.open_reading(names[1], fake))


def test_a_reader_without_rights(fake: Fake, names: tuple[str, str]) -> None:
    """What the access list denies is denied at once."""
    fake.errors["open"] = [ACCESS_DENIED]
    with pytest.raises(PermissionError) as caught:
        windows.open_reading(names[1], fake)
    assert not windows.is_in_use(caught.value)
    assert fake.now == 0


def test_a_reader_that_waits_in_vain(fake: Fake, names: tuple[str, str]) -> None:
    """A program that shares the file with no other is named for what it is."""
    fake.sharing[names[1]] = 0
    with pytest.raises(PermissionError) as caught:
        windows.open_reading(names[1], fake)
    assert windows.is_in_use(caught.value)
    assert windows.READ_PATIENCE <= fake.now < windows.READ_PATIENCE + 0.1


def test_private_from_the_start(fake: Fake, tmp_path: Path) -> None:
    """A file or a folder has its protected access list from the call that makes it."""
    file, folder = str(tmp_path / "file"), str(tmp_path / "folder")
    os.close(windows.create_private(file, fake))
    windows.make_private_directory(folder, fake)
    assert fake.lists[file] == PRIVATE
    assert fake.lists[folder] == PRIVATE.replace(";;FA", ";OICI;FA")
    assert windows.access_of_others(file, fake) == Access((), (), ())
    windows.let_users_read(file, fake)
    assert windows.access_of_others(file, fake) == Access(("BU",), (), ())


@pytest.mark.parametrize("old", [FROM_FOLDER, "O:SYD:PAI(A;;FA;;;SY)(A;;0x1301bf;;;S-1-5-21-7)"])
def test_the_access_list_is_kept(fake: Fake, names: tuple[str, str], old: str) -> None:
    """The new file has the old one's entries, inherited ones too, and its protection."""
    fake.lists = {names[0]: PRIVATE, names[1]: old}
    assert windows.keep_access(*names, fake)
    assert fake.lists[names[0]].partition("D:")[2] == old.partition("D:")[2]


def test_an_access_list_that_does_not_take(
    fake: Fake, names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that accepts the call and does nothing is noticed."""
    fake.lists[names[0]] = PRIVATE
    monkeypatch.setattr(fake, "set_access_list", lambda *_: None)
    assert not windows.keep_access(*names, fake)


@pytest.mark.parametrize(
    ("text", "directory", "found"),
    [
        (f"O:BA{PRIVATE}", False, Access((), (), ())),
        (FROM_FOLDER, False, Access(("BU",), (), ())),
        ("O:BAD:(A;;FA;;;WD)", False, Access(("WD",), ("WD",), ())),
        ("O:BAD:(A;;FA;;;WD)", True, Access(("WD",), ("WD",), ("WD",))),
        ("O:BAD:(A;OICIIO;GA;;;CO)(A;OICI;0x1200a9;;;BU)", True, Access(("BU",), (), ())),
        ("O:BAD:(A;CI;DCLCRPCR;;;BU)", True, Access((), (), ("BU",))),
        ("O:S-1-5-21-7D:(A;;FA;;;S-1-5-21-7)(A;;FR;;;AU)", False, Access(("AU",), (), ())),
        ("O:BAD:(D;;FA;;;WD)(A;;FW;;;S-1-5-21-8)", False, Access((), ("S-1-5-21-8",), ())),
        ("O:BAD:NO_ACCESS_CONTROL", False, Access(("WD",), ("WD",), ())),
        ("O:BA", False, Access(("WD",), ("WD",), ())),
        ("O:BAD:", False, Access((), (), ())),
    ],
)
def test_what_others_may_do(fake: Fake, text: str, directory: bool, found: Access) -> None:  # noqa: FBT001
    """Reading, changing and adding are told from the entries that allow them."""
    fake.lists["x"] = text
    assert windows.access_of_others("x", fake, directory=directory) == found


def test_rights_are_taken_and_never_added(fake: Fake) -> None:
    """Only the groups of everybody lose something; what others inherited becomes their own."""
    fake.lists["x"] = "O:BAD:AI(A;ID;FA;;;SY)(A;;FR;;;S-1-5-21-8)(A;ID;FR;;;BU)(A;OICIID;FR;;;WD)"
    assert windows.take_from_everybody("x", fake)
    assert fake.lists["x"] == "O:BAD:P(A;;FA;;;SY)(A;;FR;;;S-1-5-21-8)"
    assert not windows.take_from_everybody("x", fake)


@pytest.mark.parametrize(
    ("code", "kind"),
    [(2, errno.ENOENT), (3, errno.ENOENT), (5, errno.EACCES), (32, errno.EACCES), (80, 17)],
)
def test_error_codes(code: int, kind: int) -> None:
    """Windows's codes become the OSErrors that the rest of the program knows."""
    error = failure(code, "text", "path")
    assert (error.errno, error.filename, windows.code_of(error)) == (kind, "path", code)


def test_a_part_that_is_locked() -> None:
    """Reading an open file is denied only where a program has locked a part of it."""
    assert windows.is_in_use(windows.locked(PermissionError(errno.EACCES, "denied")))
