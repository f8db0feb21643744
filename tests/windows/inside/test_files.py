"""Files on Windows: private, replaced as a whole, and shared with programs that are in the way."""

from __future__ import annotations

import _winapi
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from metricshub_apikey import ApiKeys
from metricshub_apikey.activity import database
from metricshub_apikey.cli.interrupts import Interrupted, Interrupts
from metricshub_apikey.errors import (
    AccessDeniedError,
    KeystoreBusyError,
    KeystoreError,
    NotAKeystoreError,
    ReadFailedError,
)
from metricshub_apikey.files import lock, new_file, private, temporary, windows
from metricshub_apikey.files.windows import Access, failure
from metricshub_apikey.http import listener
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.registry.api_keys import utc_now

assert sys.platform == "win32"

CALLS = windows.SYSTEM_CALLS

GENERIC_READ, OPEN_EXISTING = 0x80000000, 3
MAKE_KEYS = """
import sys
from metricshub_apikey import ApiKeys
from metricshub_apikey.keystore.keystore import Keystore
registry = ApiKeys(Keystore(sys.argv[1], lock_timeout=120))
for number in range(int(sys.argv[3])):
    registry.create(f"{sys.argv[2]}-{number}")
"""

SERVE = """
import signal, threading, time
from metricshub_apikey.__main__ import main

def end_when_it_serves():
    while getattr(signal.getsignal(signal.SIGBREAK), "__name__", "") != "handle_exit":
        time.sleep(0.1)
    time.sleep(2)
    signal.raise_signal(signal.SIGBREAK)

threading.Thread(target=end_when_it_serves, daemon=True).start()
main()
"""


@contextmanager
def held(path: Path, sharing: int, seconds: float) -> Iterator[None]:
    """Have *path* open as another program would, for a while."""
    handle = _winapi.CreateFile(str(path), GENERIC_READ, sharing, 0, OPEN_EXISTING, 0, 0)
    timer = threading.Timer(seconds, _winapi.CloseHandle, [handle])
    timer.start()
    try:
        yield
    finally:
        timer.join()


def everybody(path: Path | str) -> Access:
    """Return what others may do with a file."""
    return windows.access_of_others(str(path), CALLS)


def test_files_are_private(keystore: Path, registry: ApiKeys, tmp_path: Path) -> None:
    """Keystore, lock, database, its companions, key files and folders name no others."""
    registry.create("one")
    registry.create("two")
    log = database.ActivityLog(database.path_beside(str(keystore)))
    log.record_uses({"f": ("one", utc_now())})
    made = new_file.NewFile(str(tmp_path / "key"))
    made.close()
    private.make_folders(str(tmp_path / "keys" / "deep"))
    nothing = Access((), (), ())
    files = [*keystore.parent.iterdir(), tmp_path / "key"]
    assert {lock.lock_path(str(keystore)), str(keystore), log.path} <= {str(one) for one in files}
    assert {str(one): everybody(one) for one in files if everybody(one) != nothing} == {}
    for folder in (keystore.parent, tmp_path / "keys", tmp_path / "keys" / "deep"):
        assert windows.access_of_others(str(folder), CALLS, directory=True) == nothing


def test_an_access_list_is_seen_and_kept(keystore: Path, registry: ApiKeys) -> None:
    """What everybody may read is found; a change keeps it, and only a repair takes it away."""
    registry.create("one")
    CALLS.set_access_list(str(keystore), windows.private_access(CALLS) + "(A;;FR;;;WD)")
    assert everybody(keystore).read == ("WD",)
    registry.create("two")
    assert everybody(keystore).read == ("WD",)
    assert windows.take_from_everybody(str(keystore), CALLS)
    assert everybody(keystore) == Access((), (), ())
    assert [key.alias for key in registry.list()] == ["one", "two"]


@pytest.mark.parametrize("sharing", range(8))
def test_a_keystore_that_is_held_open(keystore: Path, registry: ApiKeys, sharing: int) -> None:
    """In each sharing mode a writer waits until the other program is done, and loses nothing."""
    registry.create("one")
    with held(keystore, sharing, 0.5):
        registry.create("two")
    assert [key.alias for key in registry.list()] == ["one", "two"]
    assert temporary.names(str(keystore)) == []


@pytest.mark.parametrize("sharing", [0, 1, 7])
def test_a_keystore_that_stays_open(keystore: Path, registry: ApiKeys, sharing: int) -> None:
    """After the lock timeout it is in use, not denied, and nothing has changed."""
    registry.create("one")
    before = keystore.read_bytes()
    hasty = ApiKeys(Keystore(keystore, lock_timeout=0.2))
    with held(keystore, sharing, 3.0), pytest.raises(KeystoreBusyError) as caught:
        hasty.create("two")
    assert "is in use by another program" in caught.value.message
    assert keystore.read_bytes() == before
    assert temporary.names(str(keystore)) == []


def test_a_read_only_keystore(keystore: Path, registry: ApiKeys) -> None:
    """The attribute is no other program: it is said at once, with the way out."""
    registry.create("one")
    keystore.chmod(0o400)
    with pytest.raises(AccessDeniedError) as caught:
        registry.create("two")
    assert caught.value.hint == f'It is read-only; take that away: attrib -r "{keystore}"'
    keystore.chmod(0o600)


@pytest.mark.parametrize("end", ["1176", "before", "after"])
def test_a_replacement_that_is_cut_short(
    keystore: Path, registry: ApiKeys, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """In whatever state the call may end, the content is there and comes back to its name."""
    registry.create("one")
    move = CALLS.move

    def fail(source: str, target: str) -> None:
        if end == "1176":  # the old file is gone, the new one has its temporary name
            os.unlink(target)
        if end == "after":
            move(source, target)
        if end != "1176":
            raise SystemExit
        raise failure(1176, "Unable to move the replacement file", target)

    monkeypatch.setattr(CALLS, "move", fail)
    with pytest.raises((SystemExit, KeystoreError)):
        registry.create("two")
    monkeypatch.undo()
    if end == "1176":
        with pytest.raises(ReadFailedError, match="its content is in"):
            Keystore(keystore).read(patience=0)
    registry.create("three")
    aliases = [key.alias for key in registry.list()]
    assert aliases == (["one", "three"] if end == "before" else ["one", "two", "three"])
    assert temporary.names(str(keystore)) == []


def test_a_directory_is_looked_at(tmp_path: Path) -> None:
    """A folder in place of the keystore is named for what it is."""
    with pytest.raises(NotAKeystoreError, match="is not a regular file"):
        Keystore(tmp_path).read()


def test_readers_beside_writers(keystore: Path, registry: ApiKeys) -> None:
    """Three writers at once lose nothing; a reader never fails and never sees less than before."""
    registry.create("first")
    command = [sys.executable, "-c", MAKE_KEYS, str(keystore)]
    writers = [subprocess.Popen([*command, name, "6"]) for name in "abc"]
    seen = [1]
    reads = 0
    while any(writer.poll() is None for writer in writers):
        seen.append(len(Keystore(keystore).read().bags))
        reads += 1
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert seen == sorted(seen)
    assert reads
    assert len(registry.list()) == 19


def test_signals_end_the_command() -> None:
    """Ctrl-C ends with 130; Ctrl-Break, and all that Windows reports like it, with 143."""
    for number, code in ((signal.SIGINT, 130), (signal.SIGBREAK, 143)):
        interrupts = Interrupts()
        interrupts.listen()
        with pytest.raises(Interrupted) as caught:
            signal.raise_signal(number)
        assert caught.value.exit_code == code
        interrupts.ignore()
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_the_gateway_drains() -> None:
    """The gateway answers until it is asked to end, and then ends well."""
    arguments = ["--keystore", "none.p12", "serve", "--bind", "127.0.0.1:0"]
    done = subprocess.run(
        [sys.executable, "-c", SERVE, *arguments], capture_output=True, timeout=120, check=False
    )
    assert b"answers at http://127.0.0.1:" in done.stderr
    assert done.returncode == 0, done


def test_the_port_is_ours() -> None:
    """No other program can take the port beside the gateway, SO_REUSEADDR or not."""
    with listener.opened(listener.Listen(port=0)) as ours:
        option = ours.getsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE)
        assert option
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="WinError"):
                other.bind(ours.getsockname())


def test_time_passes() -> None:
    """The clock that waiting goes by is one that only grows."""
    assert CALLS.clock() <= time.monotonic()
