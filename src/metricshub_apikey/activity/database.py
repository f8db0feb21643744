"""
Who did what to which key and when, and when each key was last used: an SQLite database.

It lies beside the keystore and knows keys by their SHA-256 only. It is written after the keystore,
so a caller that has done its work makes a warning of the `ActivityError` that all failures are.
It is in WAL mode with `synchronous = NORMAL`: a killed process loses nothing that was recorded; a
power cut may cost the last lines, never the database. SQLite is imported when it is used.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from metricshub_apikey.errors import ActivityError, UnsafeLocationError
from metricshub_apikey.files import ownership, private, reading
from metricshub_apikey.files.temporary import new_name
from metricshub_apikey.keys.alias import spellings

if TYPE_CHECKING:
    import sqlite3

Result = TypeVar("Result")
Values = tuple[str | int | None, ...]

FILE_NAME = "apikey-activity.db"
ACTIONS = ("create", "edit", "rotate", "finish", "revoke", "prune", "fix", "suspend", "resume")

BUSY_SECONDS = 5.0
READ_ATTEMPTS = 50
READ_PAUSE = 0.02
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)

PLANTED = "Find out who put it there, then remove it."
MOVE_AWAY = "Move it away: the next change makes a new one."
APPLICATION = 0x41504B59
VERSION = 1
SCHEMA = f"""
PRAGMA journal_mode = OFF; BEGIN;
-- Times are milliseconds since 1970 UTC, fingerprints are in hexadecimal.
CREATE TABLE event (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, actor TEXT NOT NULL,
    action TEXT NOT NULL, alias TEXT NOT NULL, fingerprint TEXT, details TEXT);
CREATE TABLE use (fingerprint TEXT PRIMARY KEY, alias TEXT NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};
COMMIT;
"""
KIND = "SELECT * FROM pragma_application_id, pragma_user_version"
ADD_EVENT = """
INSERT INTO event VALUES (NULL, ?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT),
CAST(? AS TEXT), CAST(? AS TEXT))
"""
ADD_USE = """
INSERT INTO use VALUES (CAST(?1 AS TEXT), CAST(?2 AS TEXT), ?3, ?3)
ON CONFLICT (fingerprint) DO UPDATE
SET alias = excluded.alias, first = min(first, excluded.first), last = max(last, excluded.last)
"""
EVENTS = """
SELECT at, actor, action, alias, fingerprint, details FROM event
WHERE (?1 IS NULL OR alias = CAST(?1 AS TEXT)) AND (?2 IS NULL OR at >= ?2)
AND (?3 IS NULL OR fingerprint = CAST(?3 AS TEXT)) ORDER BY at, id
"""
LAST_USES = "SELECT fingerprint, last FROM use"
FIRST_USE = "SELECT first FROM use ORDER BY first LIMIT 1"


class Event(NamedTuple):
    """
    One thing that was done to a key.

    Attributes:
        at: When, in UTC; milliseconds are kept.
        actor: Who: `user@host`.
        action: What: one of `ACTIONS`.
        alias: To which key, in lower case.
        fingerprint: Of that key; None where it is not known.
        details: What else there is to say, in a few words, such as "roles, expiry".
    """

    at: datetime
    actor: str
    action: str
    alias: str
    fingerprint: str | None = None
    details: str | None = None


ROOM = 64 << 10
"""Bytes that must be free: for the memory map, 32 KiB, and a few pages of the log."""


def path_beside(keystore: str) -> str:
    """Return the path of the database of *keystore*, links resolved."""
    return os.path.join(os.path.dirname(os.path.realpath(keystore)), FILE_NAME)


class ActivityLog:
    """
    The database at one path; each call opens it, and raises ActivityError where that fails.

    Attributes:
        path: The file; it need not exist. Writing makes it, reading makes nothing.
    """

    def __init__(self, path: str) -> None:
        """Name the database; nothing is opened yet."""
        self.path = os.path.abspath(path)

    def record(self, events: Sequence[Event]) -> None:
        """Add *events*: all of them or none."""
        self._write(ADD_EVENT, [(_milliseconds(event.at), *event[1:]) for event in events])

    def record_uses(self, uses: Mapping[str, tuple[str, datetime]]) -> None:
        """Remember uses, alias and time by fingerprint: of each key the first and the last."""
        rows = [(key, alias, _milliseconds(at)) for key, (alias, at) in uses.items()]
        self._write(ADD_USE, rows)

    def events(self, alias: str | None = None, since: datetime | None = None) -> list[Event]:
        """Return what was done, oldest first: to *alias*, in lower case, and from *since* on."""
        start = None if since is None else _milliseconds(since)
        return self._read(EVENTS, (alias, start, None), _event)

    def about(self, alias: str | None, since: datetime | None = None) -> list[Event]:
        """Like `events`, for the *alias* that a user typed, in the spelling that is there."""
        names = (None,) if alias is None else spellings(alias)
        return next((found for name in names if (found := self.events(name, since))), [])

    def history(self, fingerprint: str) -> list[Event]:
        """Return what was done to one key, whatever its alias was, oldest first."""
        return self._read(EVENTS, (None, None, fingerprint), _event)

    def last_uses(self) -> dict[str, datetime]:
        """Return the last use of each key by its fingerprint."""
        return dict(self._read(LAST_USES, (), lambda key, last: (key, _moment(last))))

    def recording_since(self) -> datetime | None:
        """Return the first use of any key; None where no use was ever recorded."""
        return next(iter(self._read(FIRST_USE, (), _moment)), None)

    def _write(self, statement: str, rows: Sequence[Values]) -> None:
        if not rows:
            return
        with _guarded(self.path, "written"), ownership.as_owner(os.path.dirname(self.path)):
            ownership.check_directory(self.path, f"{self.path}-wal", f"{self.path}-shm")
            _require_room(os.path.dirname(self.path))
            if ownership.stat_if_there(self.path) is None:
                _make(self.path)
            _check_file(self.path, os.W_OK)
            _make_companions(self.path)
            with _opened(self.path, "rw") as database:
                # With a rollback journal less than FULL could damage it when the power fails.
                wal = database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
                database.execute(f"PRAGMA synchronous = {'NORMAL' if wal else 'FULL'}")
                database.execute("BEGIN IMMEDIATE")
                database.executemany(statement, map(_bound, rows))
                database.execute("COMMIT")

    def _read(self, query: str, values: Values, make: Callable[..., Result]) -> list[Result]:
        """
        Return what *make* makes of each row; nothing where there is no file.

        To read a database in WAL mode SQLite makes files beside it. So while no writer has made
        them, it is read without them and without locks, and again if it changed meanwhile.
        """
        with _guarded(self.path, "read"):
            if ownership.stat_if_there(self.path) is None:
                return []
            with ownership.as_owner(os.path.dirname(self.path)):
                for _ in range(READ_ATTEMPTS):
                    before = _state(self.path)
                    how = "ro" if before[1] else "ro&immutable=1"
                    try:
                        with _opened(self.path, how) as database:
                            rows = [make(*row) for row in database.execute(query, _bound(values))]
                    except Exception:
                        time.sleep(READ_PAUSE)
                        if _state(self.path) == before:
                            raise
                    else:
                        if before[1] or _state(self.path) == before:
                            return rows
        raise ActivityError(f"{self.path} cannot be read: it keeps changing.")


@contextlib.contextmanager
def _guarded(path: str, done: str) -> Iterator[None]:
    failed = f"{path} cannot be {done}"
    try:
        import mmap  # noqa: F401 - while root's rights are there: its Python may be in its home
        import sqlite3

        yield
    except ImportError as error:
        raise ActivityError(f"{failed}: this Python has no SQLite.") from error
    except UnsafeLocationError as error:
        raise ActivityError(error.message, hint=error.hint) from error
    except PermissionError as error:
        if reading.is_in_use(error):
            raise ActivityError(f"{path} is in use by another program.") from error
        denied = f"Access denied to {path}."
        raise ActivityError(denied, hint=ownership.access_hint(path)) from error
    except OSError as error:
        raise ActivityError(f"{failed}: {error.strerror}.") from error
    except sqlite3.OperationalError as error:
        raise ActivityError(f"{failed}: {error}.") from error
    except (sqlite3.Error, TypeError, ValueError, OverflowError) as error:
        raise ActivityError(f"{failed}: it is damaged ({error}).", hint=MOVE_AWAY) from error


def _check_file(path: str, right: int) -> None:
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ActivityError(f"{path} is not a regular file.", hint=PLANTED)
    if sys.platform == "win32":
        return
    trusted = {0, os.geteuid(), os.stat(os.path.dirname(path)).st_uid}
    if right == os.W_OK and status.st_uid not in trusted:
        raise ActivityError(f"{path} belongs to another user.", hint=PLANTED)
    # SQLite would open what it may not write to for reading, and leave files behind.
    if not os.access(path, right, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError


def _require_room(folder: str) -> None:
    """
    Check that the file system has room for what SQLite writes; raises OSError.

    SQLite maps a file into memory that may have no blocks yet. Where the disk is full when such a
    page is touched first, the kernel ends the process (SIGBUS), which no error handling sees.
    """
    if sys.platform == "win32":
        return
    room = os.statvfs(folder)
    free = room.f_bfree if os.geteuid() == 0 else room.f_bavail
    if free * room.f_frsize < ROOM:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _make(path: str) -> None:
    """Make the database whole: when others see it, it has its mode and its tables."""
    # Processes that turn one empty file into a database in WAL mode get in each other's way.
    temporary = new_name(path, os.urandom)
    os.close(private.create_private(temporary))
    try:
        _fill(temporary)
        try:
            os.link(temporary, path)
        except FileExistsError:  # another process was quicker
            return
        except OSError:  # a file system without hard links
            os.rename(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _fill(temporary: str) -> None:
    """Make the tables, with a WAL, or a rollback journal where there is no shared memory."""
    import sqlite3

    with contextlib.closing(sqlite3.connect(temporary)) as database:
        database.executescript(SCHEMA)
        database.execute(f"PRAGMA journal_mode = {'WAL' if _can_share(temporary) else 'DELETE'}")


def _can_share(path: str) -> bool:
    """Return whether processes can share a file as memory; on some network file systems not."""
    import mmap

    with open(path, "r+b") as file:
        try:
            mmap.mmap(file.fileno(), 0).close()
        except OSError as error:
            return error.errno != errno.ENODEV
    return True


def _make_companions(path: str) -> None:
    """Make the files that SQLite needs beside the database on Windows, so that they are private."""
    if sys.platform != "win32":  # elsewhere SQLite gives them the mode of the database
        return
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(OSError):  # they are there, or SQLite will say what is wrong
            os.close(private.create_private(path + suffix))


@contextlib.contextmanager
def _opened(path: str, how: str) -> Iterator[sqlite3.Connection]:
    import sqlite3

    uri = "file:" + "".join(f"%{byte:02x}" for byte in os.fsencode(path)) + f"?mode={how}"
    database = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    with contextlib.closing(database):
        application, version = database.execute(KIND).fetchone()
        if application != APPLICATION:
            raise ActivityError(f"{path} is a database of another program.", hint=MOVE_AWAY)
        if version > VERSION:
            raise ActivityError(f"{path} is of a newer version of apikey.", hint="Update apikey.")
        database.text_factory = lambda stored: stored.decode(errors="surrogatepass")
        yield database


def _state(path: str) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Return what changes at each write: of the database, and of its WAL unless empty."""
    _check_file(path, os.R_OK)
    logs = (ownership.stat_if_there(f"{path}-{log}") for log in ("wal", "journal"))
    pending = next((reading.identity(log) for log in logs if log and log.st_size), None)
    return reading.identity(os.lstat(path)), pending


def _milliseconds(moment: datetime) -> int:
    return (moment - EPOCH) // MILLISECOND


def _moment(milliseconds: int) -> datetime:
    return EPOCH + milliseconds * MILLISECOND


def _bound(values: Values) -> tuple[bytes | int | None, ...]:
    """Return texts as bytes: SQLite would refuse those that are no valid Unicode."""
    return tuple(v.encode(errors="surrogatepass") if isinstance(v, str) else v for v in values)


def _event(at: int, actor: str, action: str, alias: str, *others: str | None) -> Event:
    if not all(isinstance(text, str) for text in (actor, action, alias, *filter(None, others))):
        raise TypeError("a text was expected")
    return Event(_moment(at), actor, action, alias, *others)
