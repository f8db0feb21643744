"""Who did what, and last uses: what is kept, who may read it, and what can go wrong."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mounts
from conftest import ORDINARY_USER
from faults import Call, read_log
from metricshub_apikey.activity import database as records
from metricshub_apikey.activity.database import FILE_NAME, ActivityLog, Event
from metricshub_apikey.errors import ActivityError
from metricshub_apikey.files.ownership import as_owner
from metricshub_apikey.keys.fingerprint import fingerprint

SERVICE, SOMEBODY = 12345, 12346

KEY = "0f31e0a9-6f5b-4d0b-8a35-c1dcbc1f30ab"
NOON = datetime(2027, 6, 30, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LATER = datetime(2029, 1, 1, tzinfo=UTC)

ODD_NAMES = ["a b", "q?mode=memory", "#x", "100%41", "a&b=c;d", "é\u202e", "l\nine", "raw\udcff"]

RECORD = """
import sys
from datetime import UTC, datetime, timedelta
from metricshub_apikey.activity.database import ActivityLog, Event
from metricshub_apikey.keys.fingerprint import fingerprint
log, first, count = ActivityLog(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for number in range(first, first + count):
    at = datetime(2027, 6, 30, 12, tzinfo=UTC) + timedelta(seconds=number)
    log.record([Event(at, "me@here", "create", f"key-{number}")])
    log.record_uses({fingerprint(str(number)): ("alias", at)})
"""

RECORD_ONE = """
import sys
from datetime import UTC, datetime
from metricshub_apikey.activity.database import ActivityLog, Event
from metricshub_apikey.errors import ActivityError
try:
    at = datetime(2028, 1, 1, tzinfo=UTC)
    ActivityLog(sys.argv[1]).record([Event(at, "me@here", "create", "new")])
except ActivityError as error:
    print(error)
"""

CHANGES = "pwrite64,write,link,linkat,unlink,ftruncate,fdatasync,fsync,fchmod"
"""The system calls that change files."""

HOLD = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("INSERT INTO event VALUES (NULL, 1, 'me', 'edit', 'committed', NULL, NULL)")
database.execute("BEGIN IMMEDIATE")
for number in range(1000):
    database.execute("INSERT INTO event VALUES (NULL, 2, 'me', 'edit', 'open', NULL, NULL)")
print(flush=True)
sys.stdin.read()
"""
"""A writer with one event committed, and many not, which are in the WAL nevertheless."""

TEXT = st.text(st.characters(), max_size=20)
"""Surrogates and control characters too."""
INSTANT = st.integers(-(10**12), 10**13).map(lambda ms: records.EPOCH + ms * records.MILLISECOND)
EVENT = st.builds(
    Event,
    INSTANT,
    TEXT,
    st.sampled_from(records.ACTIONS),
    TEXT,
    st.none() | TEXT,
    st.none() | TEXT,
)

needs_root = pytest.mark.usefixtures("root")


@pytest.fixture
def root() -> None:
    """Go on only as root: the test gives files to other users, or has their rights."""
    mounts.needs_root()


@pytest.fixture
def log(public: Path) -> ActivityLog:
    """Return a database that does not exist yet, in a directory of its own."""
    directory = public / "security"
    directory.mkdir(mode=0o755)
    return ActivityLog(str(directory / FILE_NAME))


@pytest.fixture
def used(log: ActivityLog) -> ActivityLog:
    """Return a database with one event and one use, that everybody may read."""
    log.record([event("first")])
    log.record_uses({fingerprint(KEY): ("first", NOON)})
    os.chmod(log.path, 0o644)
    return log


def event(alias: str, *, at: datetime = NOON, action: str = "create") -> Event:
    """Return what somebody did to the key *alias*."""
    return Event(at, "me@here", action, alias, fingerprint(KEY), "roles, expiry")


def aliases(log: ActivityLog) -> list[str]:
    """Return the aliases of the events, the oldest first."""
    return [event.alias for event in log.events()]


def directory(log: ActivityLog) -> Path:
    """Return where the database is."""
    return Path(log.path).parent


def names(log: ActivityLog) -> set[str]:
    """Return what is in its directory."""
    return set(os.listdir(directory(log)))


def shape(log: ActivityLog) -> dict[str, tuple[object, ...]]:
    """Return what is in its directory, with owners, modes and contents."""
    found: dict[str, tuple[object, ...]] = {}
    for path in directory(log).iterdir():
        status = path.lstat()
        content = None if path.name.endswith("-shm") else path.read_bytes()
        found[path.name] = (status.st_mode, status.st_uid, status.st_gid, content)
    return found


def owner(path: str | Path) -> tuple[int, int]:
    """Return the user and the group to which *path* belongs."""
    status = os.lstat(path)
    return status.st_uid, status.st_gid


def refused(call: Callable[[], object]) -> ActivityError:
    """Return the error of *call*, one sentence."""
    with pytest.raises(ActivityError) as caught:
        call()
    assert caught.value.message.endswith(".")
    return caught.value


def both_refused(log: ActivityLog) -> ActivityError:
    """Check that neither writing nor reading is possible; return the error of writing."""
    refused(log.events)
    refused(log.last_uses)
    return refused(lambda: log.record([event("new")]))


def give(user: int, *paths: str | Path) -> None:
    """Give files to a user."""
    for path in paths:
        os.chown(path, user, user, follow_symlinks=False)


@contextlib.contextmanager
def as_user(user: int) -> Iterator[None]:
    """Have the rights of another user for a while."""
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    """Have another umask for a while."""
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)


@contextlib.contextmanager
def opened(log: ActivityLog) -> Iterator[sqlite3.Connection]:
    """Keep the database open, so that its WAL stays."""
    with contextlib.closing(sqlite3.connect(log.path, isolation_level=None)) as database:
        database.execute("SELECT * FROM event").fetchall()
        yield database


@contextlib.contextmanager
def writer(log: ActivityLog) -> Iterator[subprocess.Popen[bytes]]:
    """Have another process in the middle of a transaction, until the block ends."""
    command = [sys.executable, "-c", HOLD, log.path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process
        process.kill()


def run_python(program: str, *arguments: object, prefix: tuple[str, ...] = ()) -> str:
    """Run a program that must succeed, or be killed; return what it printed."""
    done = subprocess.run(
        [*prefix, sys.executable, "-c", program, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (0, -signal.SIGKILL, 128 + signal.SIGKILL), done.stderr
    return done.stdout


# What is kept


def test_a_fingerprint_is_a_hash() -> None:
    """A key is known by its SHA-256, whatever its characters are."""
    assert fingerprint(KEY) == hashlib.sha256(KEY.encode()).hexdigest()
    assert len(fingerprint("\udc80é")) == 64


def test_the_database_is_beside_the_keystore(tmp_path: Path) -> None:
    """It is where the keystore really is, as its lock file is."""
    real = tmp_path / "real"
    real.mkdir()
    link = tmp_path / "k.p12"
    link.symlink_to(real / "k.p12")
    assert records.path_beside(str(link)) == str(real.resolve() / "apikey-activity.db")


@pytest.mark.parametrize("missing_directory", [True, False])
def test_nothing_is_there(log: ActivityLog, *, missing_directory: bool) -> None:
    """Without a file there is nothing to read, and neither reading nor nothing makes one."""
    if missing_directory:
        directory(log).rmdir()
    assert (log.events(), log.history(fingerprint(KEY))) == ([], [])
    assert (log.last_uses(), log.recording_since()) == ({}, None)
    log.record([])
    log.record_uses({})
    assert not os.path.lexists(log.path)


def test_events(log: ActivityLog) -> None:
    """They come back whole, the oldest first, of one alias or from a time on."""
    late, early = event("late", at=NOON + SECOND), event("early")
    third = Event(NOON + 2 * SECOND, "you@there", "revoke", "late")
    log.record([late])
    log.record([early, third])
    assert log.events() == [early, late, third]
    assert log.events("late") == [late, third]
    assert log.events("LATE") == []
    assert log.events(since=NOON + SECOND) == [late, third]
    assert log.events("late", NOON + 2 * SECOND) == [third]
    assert log.history(fingerprint(KEY)) == [early, late]
    assert log.history(fingerprint("other")) == []
    assert all(found.at.tzinfo is UTC for found in log.events())


def test_finer_times_are_cut(log: ActivityLog) -> None:
    """Of a time the milliseconds are kept, in UTC."""
    somewhere = NOON.astimezone(datetime.now().astimezone().tzinfo)
    log.record([event("x", at=somewhere + timedelta(microseconds=1999))])
    assert log.events()[0].at.isoformat() == "2027-06-30T12:00:00.001000+00:00"


@pytest.mark.parametrize(
    "alias",
    [
        "ü" * 128,
        "\U0001f511" * 128,
        "o'hara\"; DROP TABLE event; --",
        "\x00\x1b[31m\n",
        "\ud800",
        "%",
    ],
)
def test_odd_aliases(log: ActivityLog, alias: str) -> None:
    """No alias is too odd, not even of a foreign keystore; each is found again, and alone."""
    log.record([event(alias), event("other")])
    log.record_uses({alias: (alias, NOON)})
    assert log.events(alias) == [event(alias)]
    assert log.last_uses() == {alias: NOON}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(EVENT, max_size=4), max_size=3))
def test_what_is_written_is_read(batches: list[list[Event]]) -> None:
    """The events read are the events written, in order of time, then of writing."""
    with tempfile.TemporaryDirectory() as folder:
        log = ActivityLog(os.path.join(folder, FILE_NAME))
        for batch in batches:
            log.record(batch)
        written = sorted((one for batch in batches for one in batch), key=lambda one: one.at)
        assert log.events() == written
        for alias, since in [(one.alias, one.at) for one in written[:2]]:
            found = [one for one in written if one.alias == alias and one.at >= since]
            assert log.events(alias, since) == found


@settings(max_examples=25, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), INSTANT), max_size=5))
def test_first_and_last_uses(batches: list[dict[str, datetime]]) -> None:
    """In whatever order uses are recorded, the last one of each key counts, and the first."""
    with tempfile.TemporaryDirectory() as folder:
        log = ActivityLog(os.path.join(folder, FILE_NAME))
        for batch in batches:
            log.record_uses({key: (f"alias of {key}", at) for key, at in batch.items()})
        uses = [use for batch in batches for use in batch.items()]
        keys = {key for key, _ in uses}
        assert log.last_uses() == {key: max(at for k, at in uses if k == key) for key in keys}
        assert log.recording_since() == min((at for _, at in uses), default=None)


def test_many_events_at_once(log: ActivityLog) -> None:
    """Ten thousand events are one transaction."""
    many = [event(f"key-{number}") for number in range(10_000)]
    log.record(many)
    assert log.events() == many


def test_no_key_is_in_the_files(log: ActivityLog) -> None:
    """Neither the database nor what SQLite keeps beside it holds a key."""
    log.record([event("old")])
    with opened(log):
        log.record([event("new")])
        log.record_uses({fingerprint(KEY): ("new", NOON)})
        files = {path.name: path.read_bytes() for path in directory(log).iterdir()}
    assert set(files) == {FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"}
    assert fingerprint(KEY).encode() in files[FILE_NAME]
    assert fingerprint(KEY).encode() in files[f"{FILE_NAME}-wal"]
    assert not [name for name, content in files.items() if KEY.encode() in content]


# The files


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
def test_the_files_are_private_whatever_the_umask(log: ActivityLog, mask: int) -> None:
    """The database, and what SQLite makes beside it while it is open, have mode 0600."""
    with umask(mask):
        log.record([event("x")])
        with opened(log):
            log.record([event("y")])
            found = {
                path.name: stat.S_IMODE(path.stat().st_mode) for path in directory(log).iterdir()
            }
    assert found == dict.fromkeys((FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"), 0o600)


def test_nothing_else_stays(used: ActivityLog) -> None:
    """When nobody has the database open, it is one file, in WAL mode, and keeps its mode."""
    assert names(used) == {FILE_NAME}
    with opened(used) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    used.record([event("second")])
    assert names(used) == {FILE_NAME}
    assert stat.S_IMODE(os.stat(used.path).st_mode) == 0o644


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_paths(public: Path, name: str) -> None:
    """Whatever the directory's name is, it is not taken for a part of a URI."""
    folder = public / name
    folder.mkdir()
    log = ActivityLog(str(folder / FILE_NAME))
    log.record([event("x")])
    assert aliases(log) == ["x"]
    assert (os.listdir(public), os.listdir(folder)) == ([name], [FILE_NAME])


def test_reading_changes_nothing(used: ActivityLog) -> None:
    """Reading makes no file and does not touch the database, whether anybody writes or not."""
    before, touched = shape(used), os.stat(used.path).st_mtime_ns
    assert aliases(used) == ["first"]
    assert used.last_uses() == {fingerprint(KEY): NOON}
    assert (shape(used), os.stat(used.path).st_mtime_ns) == (before, touched)
    with writer(used):
        before = shape(used)
        assert aliases(used) == ["committed", "first"]
        assert shape(used) == before


@needs_root
@pytest.mark.parametrize("name", ODD_NAMES)
def test_who_may_only_read(public: Path, name: str) -> None:
    """Reading works without a right to write anything: idle, in use, and after a writer died."""
    folder = public / name
    folder.mkdir()
    log = ActivityLog(str(folder / FILE_NAME))
    log.record([event("first")])
    os.chmod(log.path, 0o644)
    before = shape(log)
    with as_user(ORDINARY_USER):
        assert aliases(log) == ["first"]
    assert shape(log) == before
    with writer(log):
        before = shape(log)
        with as_user(ORDINARY_USER):
            assert aliases(log) == ["committed", "first"]
        assert shape(log) == before
    with as_user(ORDINARY_USER):
        assert aliases(log) == ["committed", "first"]
    assert shape(log) == before


@needs_root
def test_who_may_not_write(used: ActivityLog) -> None:
    """Without the right to write there is an error, and nothing is made or changed."""
    before = shape(used)
    with as_user(ORDINARY_USER):
        error = refused(lambda: used.record([event("new")]))
    assert error.message == f"Access denied to {used.path}."
    assert error.hint == "Run the command as the file's owner: sudo -u root apikey"
    directory(used).chmod(0o777)
    with as_user(ORDINARY_USER):
        refused(lambda: used.record([event("new")]))
    assert shape(used) == before


@needs_root
def test_who_may_not_even_read(used: ActivityLog) -> None:
    """A private database is an error for others, not an empty one; nor is a private directory."""
    os.chmod(used.path, 0o600)
    with as_user(ORDINARY_USER):
        assert refused(used.events).message == f"Access denied to {used.path}."
    directory(used).chmod(0o700)
    with as_user(ORDINARY_USER):
        error = refused(used.last_uses)
    assert error.message == f"Access denied to {used.path}."


@needs_root
def test_a_directory_where_nothing_can_be_made(log: ActivityLog) -> None:
    """Where no database can be made, writing is an error and reading finds nothing."""
    with as_user(ORDINARY_USER):
        error = refused(lambda: log.record([event("new")]))
        assert log.events() == []
    assert error.message == f"Access denied to {log.path}."
    assert names(log) == set()


def test_no_directory(log: ActivityLog) -> None:
    """A missing directory is not made."""
    directory(log).rmdir()
    error = refused(lambda: log.record([event("x")]))
    assert error.message == f"{log.path} cannot be written: {os.strerror(errno.ENOENT)}."


def test_immutable_files_and_read_only_disks(public: Path) -> None:
    """Not even root can write there; reading works, and nothing is left behind."""
    with mounts.Disk(public, "ext4") as disk:
        folder = disk.root / "security"
        folder.mkdir()
        log = ActivityLog(str(folder / FILE_NAME))
        log.record([event("first")])
        before = shape(log)
        for protected in (
            disk.read_only(),
            disk.immutable(Path(log.path)),
            disk.immutable(folder),
        ):
            with protected:
                refused(lambda: log.record([event("new")]))
                assert aliases(log) == ["first"]
            assert shape(log) == before
        log.record([event("second")])
        assert aliases(log) == ["first", "second"]


# Who owns what, and what was planted


PLANTS: dict[str, Callable[[Path], object]] = {
    "link": lambda file: file.symlink_to(file.with_name("target")),
    "dangling": lambda file: file.symlink_to(file.with_name("nothing")),
    "fifo": os.mkfifo,
    "directory": os.mkdir,
}


@pytest.mark.parametrize("kind", PLANTS)
def test_what_is_no_regular_file_is_refused(log: ActivityLog, kind: str) -> None:
    """A link is not followed, a FIFO not waited for."""
    target = directory(log) / "target"
    other = ActivityLog(str(target))
    other.record([event("precious")])
    PLANTS[kind](Path(log.path))
    before = names(log)
    error = both_refused(log)
    assert error.message == f"{log.path} is not a regular file."
    assert error.hint is not None
    assert (names(log), aliases(other)) == (before, ["precious"])


@needs_root
def test_a_strangers_file_is_refused(used: ActivityLog) -> None:
    """Nothing is written to a file of somebody who is not to be trusted there."""
    give(SOMEBODY, used.path)
    before = shape(used)
    error = refused(lambda: used.record([event("new")]))
    assert error.message == f"{used.path} belongs to another user."
    assert shape(used) == before
    give(SERVICE, directory(used))
    refused(lambda: used.record([event("new")]))
    give(SERVICE, used.path)
    used.record([event("new")])


@pytest.mark.skipif(sys.platform == "win32", reason="there the access lists rule")
def test_an_unsafe_directory_is_refused(log: ActivityLog) -> None:
    """Where everybody may replace files, nothing is written."""
    directory(log).chmod(0o777)
    error = refused(lambda: log.record([event("x")]))
    assert error.message.startswith(f"{log.path} is not changed: everybody may replace files")
    assert error.hint is not None
    assert names(log) == set()


@needs_root
def test_root_in_a_directory_of_a_service(log: ActivityLog) -> None:
    """All that root makes there is the service's; both can write, and root stays root."""
    give(SERVICE, directory(log))
    before = (os.getegid(), os.getgroups())
    log.record([event("root's")])
    assert owner(log.path) == (SERVICE, SERVICE)
    with as_user(SERVICE):
        log.record([event("its own")])
        assert aliases(log) == ["root's", "its own"]
    with opened(log):
        log.record([event("again")])
        assert {owner(path) for path in directory(log).iterdir()} == {(SERVICE, SERVICE)}
        assert len(aliases(log)) == 3
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, *before)
    Path(log.path).write_text("not a database")
    both_refused(log)
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, *before)


@needs_root
def test_the_rights_of_the_owner(public: Path, tmp_path: Path) -> None:
    """Meanwhile root can do no more than the directory's owner, and afterwards everything."""
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    with as_owner(str(public)):
        assert os.geteuid() == 0
    give(SERVICE, public)
    with as_owner(str(public)):
        assert (os.geteuid(), os.getegid(), os.getgroups()) == (SERVICE, SERVICE, [])
        with pytest.raises(PermissionError):
            secret.read_bytes()
    with pytest.raises(ZeroDivisionError), as_owner(str(public)):
        raise ZeroDivisionError
    assert secret.read_bytes() == b""


@needs_root
def test_others_stay_who_they_are(public: Path) -> None:
    """Only root takes the rights of somebody else."""
    with as_user(SOMEBODY), as_owner(str(public)):
        assert os.geteuid() == SOMEBODY


# Foreign and damaged files


def other_database(path: Path, *, application: int = 0, version: int = 0) -> None:
    """Make a database of another kind."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (x)")
        database.execute(f"PRAGMA application_id = {application}")
        database.execute(f"PRAGMA user_version = {version}")


FOREIGN: dict[str, Callable[[Path], object]] = {
    "empty": Path.touch,
    "text": lambda file: file.write_text("a text\n" * 1000),
    "zeros": lambda file: file.write_bytes(bytes(8192)),
    "another program's": other_database,
    "newer": lambda file: other_database(
        file, application=records.APPLICATION, version=records.VERSION + 1
    ),
    "without tables": lambda file: other_database(
        file, application=records.APPLICATION, version=records.VERSION
    ),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files_are_left_alone(log: ActivityLog, kind: str) -> None:
    """What is not ours, or newer, is refused and stays as it is."""
    FOREIGN[kind](Path(log.path))
    before = shape(log)
    error = both_refused(log)
    assert error.message.startswith(log.path)
    if kind == "newer":
        assert error.message == f"{log.path} is of a newer version of apikey."
    if kind == "another program's":
        assert error.message == f"{log.path} is a database of another program."
    if kind == "text":
        assert error.hint == records.MOVE_AWAY
    assert shape(log) == before


def test_a_cut_file(log: ActivityLog) -> None:
    """A database that ends early is refused with a hint, and stays as it is."""
    log.record([event(f"key-{number}") for number in range(1000)])
    os.truncate(log.path, 10_000)
    before = shape(log)
    error = refused(log.events)
    assert error.hint == records.MOVE_AWAY
    refused(lambda: log.record([event("x")]))
    assert shape(log) == before


@pytest.mark.parametrize("value", ["text", b"\0", float("inf"), 2**63 - 1])
def test_values_of_a_wrong_kind(used: ActivityLog, value: object) -> None:
    """What somebody else wrote into the tables is an error, not a crash."""
    with opened(used) as database:
        database.execute("UPDATE event SET at = ?", (value,))
        database.execute("UPDATE use SET first = ?1, last = ?1", (value,))
    for read in (used.events, used.last_uses, used.recording_since):
        assert refused(read).hint == records.MOVE_AWAY


@pytest.mark.parametrize("alias", [b"\x80", "CAST"])
def test_texts_of_a_wrong_kind(used: ActivityLog, alias: bytes | str) -> None:
    """The same for an alias that is no text, or not in UTF-8."""
    with opened(used) as database:
        if isinstance(alias, bytes):
            database.execute("UPDATE event SET alias = ?", (alias,))
        else:
            database.execute("UPDATE event SET alias = CAST(x'80' AS TEXT)")
    assert refused(used.events).hint == records.MOVE_AWAY


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a database."""
    log = ActivityLog(str(tmp_path_factory.mktemp("content") / FILE_NAME))
    log.record([event(f"key-{number}") for number in range(30)])
    log.record_uses({fingerprint(KEY): ("x", NOON)})
    return Path(log.path).read_bytes()


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_damage_never_crashes(content: bytes, data: st.DataObject) -> None:
    """Whatever bytes are changed: it works, or it is an `ActivityError`."""
    damaged = bytearray(content)
    places = st.integers(0, 150) | st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=8)):
        damaged[place] = data.draw(st.sampled_from((0, 1, 2, 127, 128, 255)))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "READ_PAUSE", 0)
        log = ActivityLog(os.path.join(folder, FILE_NAME))
        Path(log.path).write_bytes(damaged)
        calls: list[Callable[[], object]] = [
            log.events,
            log.last_uses,
            log.recording_since,
            lambda: log.record([event("x")]),
            log.events,
        ]
        for call in calls:
            with contextlib.suppress(ActivityError):
                call()


# Many at a time


def test_many_processes_lose_nothing(log: ActivityLog) -> None:
    """Processes that record at the same time, from the first file on, lose no event and no use."""
    command = [sys.executable, "-c", RECORD, log.path]
    processes = [
        subprocess.Popen([*command, str(first), "5"], stderr=subprocess.PIPE)
        for first in range(0, 40, 5)
    ]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert errors == [b""] * 8
    assert aliases(log) == [f"key-{number}" for number in range(40)]
    assert len(log.last_uses()) == 40
    assert names(log) == {FILE_NAME}


def test_many_threads_lose_nothing(log: ActivityLog) -> None:
    """Threads of one process do not drop each other's locks."""

    def record(first: int) -> None:
        for number in range(first, first + 5):
            log.record([event(f"key-{number}")])
            assert f"key-{number}" in aliases(log)

    threads = [threading.Thread(target=record, args=(first,)) for first in range(0, 20, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(aliases(log)) == sorted(f"key-{number}" for number in range(20))


def test_readers_beside_a_writer(used: ActivityLog) -> None:
    """While others write, reading never fails and never forgets."""
    command = [sys.executable, "-c", RECORD, used.path, "0", "60"]
    seen = [0]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            seen.append(len(used.events()))
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert seen == sorted(seen)
    assert len(set(seen)) > 3
    assert len(used.events()) == 61


def test_reading_again(used: ActivityLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read while the database changed is read again, but not for ever."""
    monkeypatch.setattr(records, "READ_PAUSE", 0)
    original = Path(used.path).read_bytes()
    calls = []

    def replace(times: int) -> Callable[..., int]:
        def make(first: int) -> int:
            calls.append(first)
            if len(calls) <= times:
                Path(used.path).write_bytes(original)
                os.utime(used.path, ns=(0, len(calls)))
            if len(calls) == 2:
                raise TypeError
            return first

        return make

    query = "SELECT 1 FROM event"
    assert used._read(query, (), replace(3)) == [1]
    assert len(calls) == 4
    error = refused(lambda: used._read(query, (), replace(10**6)))
    assert error.message == f"{used.path} cannot be read: it keeps changing."
    assert aliases(used) == ["first"]


def test_somebody_holds_it_too_long(used: ActivityLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that does not end is an error after a while; reading goes on."""
    monkeypatch.setattr(records, "BUSY_SECONDS", 0.1)
    with opened(used) as database:
        database.execute("BEGIN IMMEDIATE")
        error = refused(lambda: used.record([event("new")]))
        assert aliases(used) == ["first"]
    assert error.message == f"{used.path} cannot be written: database is locked."
    used.record([event("second")])


# Accidents


def test_a_writer_killed_in_a_transaction(used: ActivityLog) -> None:
    """What it had committed is there, the rest is not, and the next one goes on and tidies up."""
    with writer(used) as process:
        process.kill()
        process.wait()
        assert len(names(used)) == 3
        assert aliases(used) == ["committed", "first"]
        used.record([event("next")])
        assert aliases(used) == ["committed", "first", "next"]
        assert names(used) == {FILE_NAME}


def traced(log: ActivityLog, calls: Path, *inject: str) -> str:
    """Record one event under strace, perhaps with a fault; return the error, if there is one."""
    strace = ("strace", "-f", "-qq", "-o", str(calls), "-e", f"trace={CHANGES}", *inject)
    return run_python(RECORD_ONE, log.path, prefix=strace)


@pytest.fixture(params=["new", "old"])
def start(request: pytest.FixtureRequest, log: ActivityLog) -> Callable[[], list[str]]:
    """Return a function that makes the directory what it was and returns the aliases then."""
    mounts.needs("strace")
    content = None
    if request.param == "old":
        log.record([event("old")])
        content = Path(log.path).read_bytes()

    def begin() -> list[str]:
        for path in directory(log).iterdir():
            path.unlink()
        if content is None:
            return []
        Path(log.path).write_bytes(content)
        return ["old"]

    return begin


def changes(calls: Path) -> list[Call]:
    """Return the calls that change files, of a first record only those that make the database."""
    # SQLite makes the file of its index large by writing single bytes.
    found = [call for call in read_log(calls) if '"\\0", 1, ' not in call.arguments]
    linked = [index for index, call in enumerate(found) if call.name.startswith("link")]
    return found[: linked[0] + 2] if linked else found


def goes_on(log: ActivityLog) -> None:
    """Check that the next event is recorded, and that only names of dead files may be left."""
    before = aliases(log)
    log.record([event("next", at=LATER)])
    assert aliases(log) == [*before, "next"]
    assert {name for name in names(log) if not name.endswith(".tmp")} == {FILE_NAME}


def test_killed_at_any_change(
    log: ActivityLog, tmp_path: Path, start: Callable[[], list[str]]
) -> None:
    """SIGKILL at each call that changes a file: the event is there or not, and the next one is."""
    start()
    traced(log, tmp_path / "calls")
    seen = set()
    for call in changes(tmp_path / "calls"):
        before = start()
        traced(log, tmp_path / "log", "-e", f"inject={call.name}:signal=KILL:when={call.number}")
        found = aliases(log)
        assert found in (before, [*before, "new"]), call
        seen.add(len(found) - len(before))
        goes_on(log)
    assert 0 in seen
    assert (1 in seen) == (before == ["old"])


def test_an_error_at_any_change(
    log: ActivityLog, tmp_path: Path, start: Callable[[], list[str]]
) -> None:
    """A full disk at each call that changes a file: done, or one error, and the next one works."""
    start()
    traced(log, tmp_path / "calls")
    errors = set()
    for call in changes(tmp_path / "calls"):
        before = start()
        inject = f"inject={call.name}:error=ENOSPC:when={call.number}"
        error = traced(log, tmp_path / "log", "-e", inject)
        assert error or aliases(log) == [*before, "new"], call
        errors.add(error.partition(": ")[2].strip())
        goes_on(log)
    assert errors & {"database or disk is full.", f"{os.strerror(errno.ENOSPC)}."}


def test_a_file_system_without_hard_links(log: ActivityLog, tmp_path: Path) -> None:
    """The database gets its name in another way there."""
    mounts.needs("strace")
    inject = ("-e", "inject=link,linkat:error=EPERM")
    assert traced(log, tmp_path / "log", *inject) == ""
    assert "INJECTED" in (tmp_path / "log").read_text()
    assert (aliases(log), names(log)) == (["new"], {FILE_NAME})
    assert stat.S_IMODE(os.stat(log.path).st_mode) == 0o600


@needs_root
@pytest.mark.parametrize("old", [True, False])
def test_a_full_disk(public: Path, *, old: bool) -> None:
    """With any number of free blocks: done, or an error and all as it was; room helps at once."""
    outcomes = set()
    with mounts.memory(public / "tmpfs", "size=512k,nr_inodes=40") as root:
        log = ActivityLog(str(root / FILE_NAME))
        if old:
            log.record([event("old")])
        for free in range(0, 28, 3):
            before = aliases(log)
            with mounts.full(root, blocks=free):
                try:
                    log.record([event("new")])
                    before.append("new")
                except ActivityError as error:
                    outcomes.add(error.message.partition(": ")[2])
                assert aliases(log) == before
            log.record([event("next")])
            assert aliases(log) == [*before, "next"]
            assert set(os.listdir(root)) == {FILE_NAME}
            if not old:
                os.unlink(log.path)
    assert outcomes >= {"No space left on device."}


# SQLite itself


def test_sqlite_is_imported_late() -> None:
    """Importing the module and naming a database does not import SQLite."""
    program = (
        "import sys\n"
        "from metricshub_apikey.activity.database import ActivityLog\n"
        "from metricshub_apikey.keys.fingerprint import fingerprint\n"
        "ActivityLog('x'), fingerprint('x')\n"
        "print('_sqlite3' in sys.modules)\n"
    )
    assert run_python(program) == "False\n"


def test_a_python_without_sqlite(log: ActivityLog) -> None:
    """Some systems pack SQLite separately; that is an error like all others."""
    program = f"import sys; sys.modules['_sqlite3'] = None\n{RECORD_ONE}"
    message = f"{log.path} cannot be written: this Python has no SQLite.\n"
    assert run_python(program, log.path) == message
