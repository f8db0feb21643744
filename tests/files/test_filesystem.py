"""One file: reading it, replacing it as a whole, and what is left where that fails."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from metricshub_apikey.errors import LimitError, NotAKeystoreError
from metricshub_apikey.files import leftovers, private, reading
from metricshub_apikey.files.reading import OpenFile, Snapshot
from replacements import replaced

OLD, NEW = b"old content", b"new"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file with old content, alone in its directory."""
    path = tmp_path / "file"
    path.write_bytes(OLD)
    return path


def snapshot(file: Path) -> Snapshot:
    """Return the file as it is."""
    found = reading.read(str(file), 1000)
    assert found is not None
    return found


def replace(
    file: Path,
    *,
    random_bytes: Callable[[int], bytes] = os.urandom,
    before_commit: Callable[[], None] = lambda: None,
) -> bool:
    """Replace the content of *file* by `NEW`."""
    return replaced(file, NEW, random_bytes=random_bytes, before_commit=before_commit).committed


def names(file: Path) -> list[str]:
    """Return what is in the directory of *file*, its lock aside."""
    return sorted(one.name for one in file.parent.iterdir() if one.name != ".file.lock")


# Reading


def test_read(file: Path) -> None:
    """A file is read whole, with its status; a file that is not there is None."""
    assert snapshot(file).data == OLD
    assert reading.identity(snapshot(file).status) == reading.identity(file.stat())
    assert reading.read(str(file) + ".none", 1000) is None


def test_the_size_limit(file: Path) -> None:
    """A file of the allowed size is read, one byte more is refused naming the limit."""
    file.write_bytes(bytes(1234))
    assert len(reading.read(str(file), 1234) or "") == 2
    with pytest.raises(LimitError) as caught:
        reading.read(str(file), 1233)
    assert caught.value.message == f"{file} is larger than the limit of 1,233 bytes."


def test_a_file_without_a_size_is_limited_too() -> None:
    """Where the operating system says 0 bytes and delivers more, the limit holds."""
    endless = Path("/proc/self/status")
    if not endless.exists():
        pytest.skip("no /proc here")
    with pytest.raises(LimitError):
        reading.read(str(endless), 10)


@pytest.mark.parametrize("kind", ["directory", "fifo", "device"])
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    """Anything else is refused at once, without waiting for somebody to write into it."""
    path = tmp_path / "odd"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(NotAKeystoreError, match="is not a regular file"):
        reading.read(str(path), 1000)


def test_a_socket_is_not_read(tmp_path: Path) -> None:
    """A socket is refused like all that is no regular file."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        with pytest.raises(NotAKeystoreError):
            reading.read(str(tmp_path / "s"), 1000)


def test_what_makes_two_snapshots_differ(file: Path) -> None:
    """Another inode, size, time or content is noticed; reading again is no difference."""
    first = snapshot(file)
    status = file.stat()
    assert first.same_as(snapshot(file))
    assert not first.same_as(None)

    file.write_bytes(OLD.swapcase())
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not first.same_as(snapshot(file)), "content"

    file.write_bytes(OLD)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert first.same_as(snapshot(file))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1000))
    assert not first.same_as(snapshot(file)), "time"

    other = file.with_name("other")
    other.write_bytes(OLD)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(file)
    assert not first.same_as(snapshot(file)), "inode"


# Replacing


def test_replace(file: Path) -> None:
    """The new content is there, in a new file, and nothing else."""
    before = file.stat().st_ino
    with file.open("rb") as reader:
        assert replace(file)
        assert reader.read() == OLD, "who had it open sees the old file whole"
    assert file.read_bytes() == NEW
    assert file.stat().st_ino != before
    assert names(file) == ["file"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o660, 0o400])
def test_the_mode_is_kept(file: Path, mode: int) -> None:
    """The new file may be used by whom the old one could, whatever the umask."""
    file.chmod(mode)
    for umask in (0o000, 0o777):
        old = os.umask(umask)
        try:
            replace(file)
        finally:
            os.umask(old)
        assert stat.S_IMODE(file.stat().st_mode) == mode


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_a_new_file_is_private(tmp_path: Path, umask: int) -> None:
    """A file that was not there gets mode 0600 whatever the umask."""
    file = tmp_path / "new"
    old = os.umask(umask)
    try:
        replace(file)
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_temporary_file_is_private(file: Path) -> None:
    """Only its owner may read the new content, whatever the umask."""
    file.chmod(0o600)
    old = os.umask(0)
    made: list[int] = []

    def look() -> None:
        (temporary,) = set(file.parent.iterdir()) - {file, file.with_name(".file.lock")}
        made.append(stat.S_IMODE(temporary.stat().st_mode))
        assert temporary.name == ".file.0001020304050607.tmp"

    try:
        replace(file, random_bytes=lambda count: bytes(range(count)), before_commit=look)
    finally:
        os.umask(old)
    assert made == [0o600]


def test_a_changed_file_is_not_replaced(file: Path) -> None:
    """If the file has changed since it was read, nothing is done."""
    with OpenFile(str(file), 1000) as old:
        file.write_bytes(b"other")
        assert not replaced(file, NEW, old=old).committed
    assert file.read_bytes() == b"other"
    assert names(file) == ["file"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_nothing_behind(file: Path, error: type[BaseException]) -> None:
    """Whatever is raised before the exchange, the old file is there alone."""

    def fail() -> NoReturn:
        raise error

    with pytest.raises(error):
        replace(file, before_commit=fail)
    assert file.read_bytes() == OLD
    assert names(file) == ["file"]


def test_the_commit_is_announced_before_it_happens(file: Path) -> None:
    """When `before_commit` is called everything is ready and nothing is visible yet."""
    seen: list[tuple[bytes, int]] = []
    replace(file, before_commit=lambda: seen.append((file.read_bytes(), len(names(file)))))
    assert seen == [(OLD, 2)]


def test_a_planted_temporary_file_is_not_used(file: Path, tmp_path: Path) -> None:
    """A link with the name of the temporary file is neither followed nor removed."""

    def plant(count: int) -> bytes:
        (tmp_path / ".file.0000000000000000.tmp").symlink_to(tmp_path / "target")
        return bytes(count)

    with pytest.raises(FileExistsError):
        replace(file, random_bytes=plant)
    assert names(file) == [".file.0000000000000000.tmp", "file"]
    assert file.read_bytes() == OLD


def test_short_writes_are_continued() -> None:
    """What the operating system takes in pieces arrives whole."""
    reader, writer = os.pipe()
    os.set_blocking(writer, True)
    data = os.urandom(1 << 20)
    received = bytearray()
    if (child := os.fork()) == 0:
        os.close(reader)
        private.write_all(writer, data)
        os._exit(0)
    os.close(writer)
    with open(reader, "rb", buffering=0) as stream:
        while piece := stream.read(1000):
            received += piece
    assert os.waitpid(child, 0)[1] == 0
    assert received == data


# Around it


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_new_directories_are_private(tmp_path: Path, umask: int) -> None:
    """Each directory that is made has mode 0700 whatever the umask; others keep theirs."""
    tmp_path.chmod(0o755)
    wanted = tmp_path / "a" / "b" / "c"
    old = os.umask(umask)
    try:
        private.make_directories(str(wanted))
        private.make_directories(str(wanted))
    finally:
        os.umask(old)
    made = [wanted, wanted.parent, wanted.parent.parent]
    assert [stat.S_IMODE(one.stat().st_mode) for one in made] == [0o700] * 3
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_file_is_no_directory(file: Path) -> None:
    """Below a regular file nothing can be made, and the file stays."""
    with pytest.raises(NotADirectoryError):
        private.make_directories(str(file / "a" / "b"))
    assert file.read_bytes() == OLD


def test_leftovers_are_removed(file: Path) -> None:
    """The temporary files of killed writers go away, and nothing else does."""
    left = [".file.0123456789abcdef.tmp", ".file.ffffffffffffffff.tmp"]
    others = [
        ".file.0123456789abcde.tmp",
        ".file.0123456789abcdef0.tmp",
        ".file.0123456789abcdeg.tmp",
        ".file.0123456789ABCDEF.tmp",
        ".file.sixteen-letters!.tmp",
        ".file.0123456789abcdef.tmp2",
        ".file.0123456789abcdef",
        ".file.lock",
        ".other.0123456789abcdef.tmp",
        "file.0123456789abcdef.tmp",
    ]
    for name in [*left, *others]:
        file.with_name(name).touch()
    leftovers.remove(str(file))
    assert names(file) == sorted({"file", *others} - {".file.lock"})


def test_a_leftover_that_cannot_be_removed_stops_nobody(file: Path) -> None:
    """A directory with such a name stays, without an error."""
    file.with_name(".file.0123456789abcdef.tmp").mkdir()
    leftovers.remove(str(file))
    assert names(file) == [".file.0123456789abcdef.tmp", "file"]
