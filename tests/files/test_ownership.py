"""Owners, modes and attributes that are kept, and directories that are not safe."""

from __future__ import annotations

import os
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import ORDINARY_USER, missing
from metricshub_apikey.errors import UnsafeLocationError, WriteFailedError
from metricshub_apikey.files import ownership, private
from metricshub_apikey.files.ownership import copy_on_macos
from replacements import replaced

SERVICE, SOMEBODY = 12345, 12346

needs_root = pytest.mark.usefixtures("root")


@pytest.fixture
def root() -> None:
    """Go on only as root: the test gives files to other users."""
    if os.geteuid():
        missing("giving files to other users needs root")


@pytest.fixture
def file(public: Path) -> Path:
    """Return a keystore, of which only the name matters, in a directory of its own."""
    directory = public / "security"
    directory.mkdir(mode=0o700)
    path = directory / "store.p12"
    path.write_bytes(b"old")
    path.chmod(0o600)
    return path


@contextmanager
def as_user(uid: int) -> Iterator[None]:
    """Have the rights of another user for a while."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def check(file: Path, lock: str = ".store.p12.lock") -> None:
    """Check the directory of *file*."""
    ownership.check_directory(str(file), str(file.with_name(lock)))


def refused(file: Path) -> UnsafeLocationError:
    """Check the directory of *file*, which must be refused, and return the error."""
    with pytest.raises(UnsafeLocationError) as caught:
        check(file)
    return caught.value


def replace(file: Path, content: bytes = b"new") -> None:
    """Replace *file* by a new one with what the old one has besides its content."""
    assert replaced(file, content).committed
    assert file.read_bytes() == content


# Directories


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755, 0o770, 0o775, 0o2770, 0o1700])
def test_normal_directories(file: Path, mode: int) -> None:
    """A private, a readable and a group-writable directory (`fsGroup`) are in order."""
    file.parent.chmod(mode)
    check(file)
    file.unlink()
    check(file)


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o702])
def test_a_world_writable_directory(file: Path, mode: int) -> None:
    """Where everybody may rename files, nothing is written; the hint takes the right away."""
    file.parent.chmod(mode)
    error = refused(file)
    assert error.message == f"{file} is not changed: everybody may replace files in its directory."
    assert error.hint == f"Take that right away: chmod o-w {file.parent}"
    file.unlink()
    refused(file)


def test_a_sticky_directory_of_ones_own_files(file: Path) -> None:
    """In a directory like /tmp one's own files are safe."""
    file.parent.chmod(0o1777)
    check(file)
    file.with_name(".store.p12.lock").touch()
    check(file)


@needs_root
@pytest.mark.parametrize("name", ["store.p12", ".store.p12.lock"])
def test_a_sticky_directory_with_foreign_files(file: Path, name: str) -> None:
    """In a directory like /tmp, a keystore or a lock file of somebody else's is a trap."""
    file.parent.chmod(0o1777)
    file.with_name(name).touch()
    os.chown(file.with_name(name), SOMEBODY, SOMEBODY)
    error = refused(file)
    assert "it or its lock file belongs to another user" in error.message
    assert error.hint == "Keep the keystore in a directory of its own."


@needs_root
def test_a_planted_link_counts_as_foreign(file: Path) -> None:
    """The owner of a link itself counts, not the owner of where it leads."""
    file.parent.chmod(0o1777)
    link = file.with_name(".store.p12.lock")
    link.symlink_to(file)
    os.lchown(link, SOMEBODY, SOMEBODY)
    refused(file)


@needs_root
def test_the_directory_of_somebody_else(file: Path) -> None:
    """Who owns the directory can swap the file: it must be root, the caller or its owner."""
    os.chown(file.parent, SOMEBODY, SOMEBODY)
    error = refused(file)
    assert error.message == f"{file} is not changed: its directory belongs to another user."
    assert error.hint == f"Give the directory to the keystore's owner: chown 0 {file.parent}"
    os.chown(file, SOMEBODY, SOMEBODY)
    check(file)


@needs_root
def test_an_ordinary_user_in_the_directory_of_somebody_else(file: Path) -> None:
    """An ordinary user trusts root's directories and one's own, no others."""
    file.parent.chmod(0o755)
    os.chown(file, ORDINARY_USER, ORDINARY_USER)
    with as_user(ORDINARY_USER):
        check(file)
    os.chown(file.parent, SOMEBODY, SOMEBODY)
    with as_user(ORDINARY_USER):
        refused(file)
    file.unlink()
    with as_user(ORDINARY_USER):
        refused(file)


@needs_root
def test_root_starts_a_keystore_for_a_service(file: Path) -> None:
    """Root may put the first keystore into the service user's own directory."""
    file.unlink()
    os.chown(file.parent, SERVICE, SERVICE)
    check(file)


# Owners


def test_an_ordinary_user_gives_nothing_away(file: Path) -> None:
    """Who is not root keeps what is made."""
    if os.geteuid():
        assert ownership.owner_for(str(file)) is None
        return
    with as_user(ORDINARY_USER):
        assert ownership.owner_for(str(file)) is None


@needs_root
def test_root_gives_to_the_owner(file: Path) -> None:
    """What root makes belongs to the keystore's owner, or else to the directory's."""
    os.chown(file.parent, SERVICE, SERVICE + 1)
    os.chown(file, SOMEBODY, SOMEBODY + 1)
    assert ownership.owner_for(str(file)) == (SOMEBODY, SOMEBODY + 1)
    file.unlink()
    assert ownership.owner_for(str(file)) == (SERVICE, SERVICE + 1)


@needs_root
def test_root_makes_directories_for_the_owner(file: Path) -> None:
    """New directories belong to the owner of the one above them."""
    os.chown(file.parent, SERVICE, SERVICE)
    private.make_directories(str(file.parent / "a" / "b"))
    for name in ("a", "a/b"):
        status = (file.parent / name).stat()
        assert (status.st_uid, status.st_gid) == (SERVICE, SERVICE)


@needs_root
def test_owner_group_and_mode_are_kept(file: Path) -> None:
    """After root replaced it, the service can still read its keystore."""
    os.chown(file, SERVICE, SOMEBODY)
    file.chmod(0o640)
    replace(file)
    status = file.stat()
    assert (status.st_uid, status.st_gid) == (SERVICE, SOMEBODY)
    assert stat.S_IMODE(status.st_mode) == 0o640


@needs_root
def test_a_new_file_is_given_to_the_owner_of_the_directory(file: Path) -> None:
    """A first keystore that root makes can be read by the service."""
    file.unlink()
    os.chown(file.parent, SERVICE, SOMEBODY)
    replace(file)
    status = file.stat()
    assert (status.st_uid, status.st_gid) == (SERVICE, SOMEBODY)
    assert stat.S_IMODE(status.st_mode) == 0o600


@needs_root
def test_an_owner_that_cannot_be_kept_stops_the_change(file: Path) -> None:
    """Rather than locking the service out, an ordinary user changes nothing."""
    os.chown(file.parent, ORDINARY_USER, ORDINARY_USER)
    os.chown(file, SERVICE, SERVICE)
    file.chmod(0o666)
    with as_user(ORDINARY_USER), pytest.raises(WriteFailedError) as caught:
        replace(file)
    assert caught.value.message == f"{file} is not changed: its owner and group could not be kept."
    left = {one.name for one in file.parent.iterdir()}
    assert left == {"store.p12", ".store.p12.lock"}
    assert file.read_bytes() == b"old"


# Attributes


def set_attribute(path: Path, name: str, value: bytes) -> None:
    """Give *path* an extended attribute, where the file system has such."""
    if sys.platform != "linux":
        pytest.skip("extended attributes of Linux")
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        missing(f"the file system of {path.parent} has no {name}: {error.strerror}")


def test_extended_attributes_are_kept(file: Path) -> None:
    """What somebody noted at the file stays there, even an empty note."""
    set_attribute(file, "user.note", b"\x00value")
    set_attribute(file, "user.empty", b"")
    replace(file)
    assert {name: os.getxattr(file, name) for name in os.listxattr(file)} == {
        "user.note": b"\x00value",
        "user.empty": b"",
    }


READ, NOTHING, NOBODY = 4, 0, 0xFFFFFFFF
OWNER, USER, GROUP, MASK, OTHERS = 1, 2, 4, 0x10, 0x20


def access_list(*entries: tuple[int, int, int]) -> bytes:
    """Return an access list as Linux keeps it in an attribute: tag, rights, user or group."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def one_more_reader(uid: int) -> bytes:
    """Return the access list of a file with mode 0640 that the user *uid* may read, too."""
    return access_list(
        (OWNER, 6, NOBODY),
        (USER, READ, uid),
        (GROUP, READ, NOBODY),
        (MASK, READ, NOBODY),
        (OTHERS, NOTHING, NOBODY),
    )


def test_access_lists_are_kept(file: Path) -> None:
    """Who was allowed to read the keystore by its access list still is."""
    set_attribute(file, "system.posix_acl_access", one_more_reader(SERVICE))
    before = os.getxattr(file, "system.posix_acl_access")
    replace(file)
    assert os.getxattr(file, "system.posix_acl_access") == before
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_no_access_list_is_inherited(file: Path) -> None:
    """A default access list of the directory lets nobody read who could not before."""
    file.chmod(0o640)
    set_attribute(file.parent, "system.posix_acl_default", one_more_reader(SOMEBODY))
    replace(file)
    assert "system.posix_acl_access" not in os.listxattr(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


# What to do without rights


@needs_root
def test_the_hint_names_the_owner(file: Path) -> None:
    """An ordinary user is told as whom to run the command, by name or else by number."""
    with as_user(ORDINARY_USER):
        hint = ownership.access_hint(str(file))
        assert hint == "Run the command as the file's owner: sudo -u root apikey"
    os.chown(file.parent, SERVICE, SERVICE)
    with as_user(ORDINARY_USER):
        assert f"#{SERVICE}" in ownership.access_hint(str(file))
        assert f"#{SERVICE}" in ownership.access_hint(str(file.parent / "a" / "b"))


def test_root_is_told_what_stops_even_root(file: Path) -> None:
    """Root is not sent to become somebody else."""
    if os.geteuid():
        missing("needs root")
    assert "lsattr" in ownership.access_hint(str(file))


def test_macos_is_asked_for_access_list_and_attributes(tmp_path: Path) -> None:
    """One call copies both from the old file to the new one; where it fails, nothing changes."""
    (tmp_path / "old").write_text("old")
    asked: list[tuple[str, int, int]] = []

    def copy(source: int, target: int, what: int) -> int:
        asked.append((os.pread(source, 9, 0).decode(), target, what))
        return -1 if len(asked) > 1 else 0

    copy_on_macos(str(tmp_path / "old"), 77, copy)
    with pytest.raises(WriteFailedError, match="its access list could not be kept"):
        copy_on_macos(str(tmp_path / "old"), 77, copy)
    assert asked == [("old", 77, 5)] * 2
