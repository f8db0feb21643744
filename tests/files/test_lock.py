"""The writers' lock, held by other processes, planted, and left behind."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from conftest import missing
from metricshub_apikey.errors import KeystoreBusyError, UnsafeLocationError
from metricshub_apikey.files import leftovers, lock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a keystore; the lock never looks at the file itself."""
    return tmp_path / "metricshub-keystore.p12"


@pytest.fixture
def lock_file(path: Path) -> Path:
    """Return the path of its lock file."""
    return path.with_name(".metricshub-keystore.p12.lock")


def hold(
    path: Path, timeout: float = 0, owner: tuple[int, int] | None = None
) -> AbstractContextManager[int]:
    """Take the lock of *path*."""
    return lock.hold(str(path), owner=owner, timeout=timeout)


@contextmanager
def held_by_another(lock_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Hold the lock in another process until the block ends, or it is killed."""
    program = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'a')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print(flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(lock_file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_where_the_lock_file_is() -> None:
    """It is hidden, beside the keystore, and named after it."""
    assert lock.lock_path("/some/where/k.p12") == "/some/where/.k.p12.lock"


def test_the_lock_file_stays(path: Path, lock_file: Path) -> None:
    """The file is private and stays after use: two processes must never lock two files."""
    with hold(path):
        first = lock_file.stat()
    with hold(path):
        second = lock_file.stat()
    assert first.st_ino == second.st_ino == lock_file.stat().st_ino
    assert stat.S_IMODE(first.st_mode) == 0o600


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_the_lock_file_is_private_whatever_the_umask(
    path: Path, lock_file: Path, umask: int
) -> None:
    """The next writer, whoever started it, can open the lock file again."""
    old = os.umask(umask)
    try:
        with hold(path):
            assert stat.S_IMODE(lock_file.stat().st_mode) == 0o600
    finally:
        os.umask(old)


def test_it_excludes_others(path: Path, lock_file: Path) -> None:
    """While it is held nobody else gets it, and the error says how to wait longer."""
    with held_by_another(lock_file):
        with pytest.raises(KeystoreBusyError) as caught, hold(path, 0.1):
            pytest.fail("two writers at the same time")
        assert caught.value.message == f"{path} is being changed by another process."
        assert caught.value.hint == "Try again, or wait longer than 0.1 s with --lock-timeout."


def test_it_excludes_threads(path: Path) -> None:
    """A second use in the same process waits, too."""
    with hold(path), pytest.raises(KeystoreBusyError), hold(path):
        pytest.fail("two writers at the same time")


def test_it_is_free_again(path: Path) -> None:
    """It is given back after success and after failure."""
    with hold(path):
        pass
    with pytest.raises(ZeroDivisionError), hold(path):
        raise ZeroDivisionError
    with hold(path):
        pass


def test_it_waits_for_its_turn(path: Path, lock_file: Path) -> None:
    """A writer that has to wait goes on when the other one is done."""
    with lock_file.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        timer = threading.Timer(0.1, fcntl.flock, (other, fcntl.LOCK_UN))
        timer.start()
        with hold(path, timeout=30):
            timer.join()


def test_a_killed_holder_leaves_nothing_behind(path: Path, lock_file: Path) -> None:
    """The kernel drops the lock of a process that dies."""
    with held_by_another(lock_file) as other:
        other.send_signal(signal.SIGKILL)
        with hold(path, timeout=30):
            pass


def test_readers_of_the_lock_file_do_not_matter(path: Path, lock_file: Path) -> None:
    """Opening the file without locking it stops nobody."""
    with hold(path):
        pass
    with lock_file.open(), hold(path):
        pass


PLANTS: dict[str, Callable[[Path], object]] = {
    "link": lambda file: file.symlink_to(file.with_name("target")),
    "dangling": lambda file: file.symlink_to(file.with_name("nothing")),
    "fifo": os.mkfifo,
}


@pytest.mark.parametrize("kind", PLANTS)
def test_a_planted_lock_file_is_refused(path: Path, lock_file: Path, kind: str) -> None:
    """A link is not followed, a FIFO not waited for; the hint names the file."""
    lock_file.with_name("target").write_text("precious")
    PLANTS[kind](lock_file)
    with pytest.raises(UnsafeLocationError) as caught, hold(path):
        pytest.fail("locked something planted")
    assert caught.value.message == f"{path} cannot be locked: its lock file is not a regular file."
    assert caught.value.hint is not None
    assert caught.value.hint.endswith(f": {lock_file}")
    assert lock_file.with_name("target").read_text() == "precious"
    assert not lock_file.with_name("nothing").exists()


def test_a_directory_as_lock_file_is_an_error(path: Path, lock_file: Path) -> None:
    """A directory in the place of the lock file is refused and left alone."""
    lock_file.mkdir()
    with pytest.raises((UnsafeLocationError, IsADirectoryError)), hold(path):
        pytest.fail("locked a directory")
    assert lock_file.is_dir()


def test_a_new_lock_file_is_given_to_the_owner(path: Path, lock_file: Path) -> None:
    """What root locked first, the keystore's owner can lock afterwards."""
    if os.geteuid():
        missing("giving a file away needs root")
    with hold(path, owner=(1234, 5678)):
        status = lock_file.stat()
    assert (status.st_uid, status.st_gid) == (1234, 5678)


def test_an_old_lock_file_is_not_given_away(path: Path, lock_file: Path) -> None:
    """A file that was there, perhaps a hard link to something else, keeps its owner."""
    lock_file.touch()
    with hold(path, owner=(1234, 5678)):
        assert lock_file.stat().st_uid == os.geteuid()


def test_a_lock_that_is_cleaned_up_while_it_is_made(path: Path, lock_file: Path) -> None:
    """A holder that removes what killed writers left does not stop one that is about to lock."""
    done = threading.Event()

    def clean() -> None:
        while not done.is_set():
            leftovers.remove(str(path))

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    try:
        for _ in range(300):
            with hold(path):
                lock_file.unlink()
    finally:
        done.set()
        cleaner.join()
