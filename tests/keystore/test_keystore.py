"""The keystore file: reads beside writers, and updates that lose nothing."""

from __future__ import annotations

import os
import shutil
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import metricshub_apikey.errors as wrong
from conftest import COMMAND, Run, missing
from metricshub_apikey import ApiKeys
from metricshub_apikey.files import lease
from metricshub_apikey.files.lease import Writer
from metricshub_apikey.files.reading import identity
from metricshub_apikey.keystore.keystore import (
    CHANGE_ATTEMPTS,
    STOCK_PASSWORDS,
    TORN_READ_SECONDS,
    Keystore,
)
from metricshub_apikey.pkcs12.kdf import Passwords
from metricshub_apikey.pkcs12.store import Store
from places import VECTORS


def aliases(store: Store) -> list[str | None]:
    """Return the aliases of all entries."""
    return [bag.alias for bag in store.bags]


def adding(alias: str) -> Callable[[Store], str]:
    """Return a change that adds one entry."""

    def change(store: Store) -> str:
        store.add(alias, b"value", created_ms=0, random_bytes=os.urandom)
        return alias

    return change


def add_without_lock(file: Path, alias: str) -> None:
    """Add an entry as a stock Java program does: in place, and without a lock."""
    store = Store.parse(file.read_bytes(), STOCK_PASSWORDS)
    adding(alias)(store)
    file.write_bytes(store.serialise(os.urandom))


def names(file: Path) -> list[str]:
    """Return what is in the directory of *file*."""
    return sorted(one.name for one in file.parent.iterdir())


@pytest.fixture
def file(keystore: Path) -> Path:
    """Return a keystore with the entry `old`."""
    Keystore(keystore).update(adding("old"), create=True)
    return keystore


ALONE = [".metricshub-keystore.p12.lock", "metricshub-keystore.p12"]


# Reading


def test_read(file: Path) -> None:
    """The entries are read; reading writes nothing and needs no lock file."""
    file.with_name(ALONE[0]).unlink()
    assert aliases(Keystore(file).read()) == ["old"]
    assert names(file) == ["metricshub-keystore.p12"]


def test_read_nothing(keystore: Path) -> None:
    """Where there is no file there are no entries, and still no file."""
    assert aliases(Keystore(keystore).read()) == []
    assert not keystore.parent.exists()


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_a_torn_read_is_repeated(file: Path, size: int) -> None:
    """A file that a Java program is still writing is read when it is complete."""
    whole = file.read_bytes()
    file.write_bytes(whole[:size])
    writer = threading.Timer(0.2, file.write_bytes, [whole])
    writer.start()
    assert aliases(Keystore(file).read()) == ["old"]
    writer.join()


@pytest.mark.parametrize("size", [0, 1, -1])
def test_a_truncated_file_is_refused_in_the_end(file: Path, size: int) -> None:
    """A file that stays incomplete is given a second, then called damaged, never repaired."""
    torn = file.read_bytes()[:size]
    file.write_bytes(torn)
    started = time.monotonic()
    with pytest.raises(wrong.DamagedError) as caught:
        Keystore(file).read()
    assert time.monotonic() - started >= TORN_READ_SECONDS
    assert caught.value.message == (
        f"{file} cannot be opened: the password is wrong or the file is damaged."
    )
    assert file.read_bytes() == torn


def no_sleep(seconds: float) -> None:
    """Fail: there is nothing to wait for."""
    pytest.fail(f"waits {seconds} s")


@pytest.mark.parametrize("kind", ["password", "damage", "other"])
def test_what_will_not_change_is_not_waited_for(
    file: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A wrong password, damage inside and a foreign file are told at once."""
    passwords = STOCK_PASSWORDS
    data = bytearray(file.read_bytes())
    if kind == "password":
        passwords = Passwords("wrong", "wrong")
    elif kind == "damage":
        data[len(data) // 2] ^= 1
    else:
        data[:] = b"PK\3\4" * 100
    file.write_bytes(data)
    monkeypatch.setattr(time, "sleep", no_sleep)
    with pytest.raises((wrong.DamagedError, wrong.NotAKeystoreError)):
        Keystore(file, passwords).read()


def test_a_program_that_finishes_while_the_kernel_is_asked(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it took: what it has written by now is read."""
    data = file.read_bytes()
    file.write_bytes(b"")

    def finish(_: int) -> Writer:
        if not file.stat().st_size:
            time.sleep(0.02)
            file.write_bytes(data)
        return Writer.NONE

    monkeypatch.setattr(lease, "writer_of", finish)
    assert aliases(Keystore(file).read(patience=1e-9)) == ["old"]


def test_an_update_waits_for_a_torn_file_too(file: Path) -> None:
    """A change meets the same half-written files as a reader."""
    whole = file.read_bytes()
    file.write_bytes(b"")
    writer = threading.Timer(0.2, file.write_bytes, [whole])
    writer.start()
    Keystore(file).update(adding("new"))
    writer.join()
    assert aliases(Keystore(file).read()) == ["old", "new"]


# Updating


def test_update(file: Path) -> None:
    """What a change adds is on the disk when `update` returns, and nothing else is."""
    assert Keystore(file).update(adding("new")) == "new"
    assert aliases(Keystore(file).read()) == ["old", "new"]
    assert names(file) == ALONE


def test_a_change_that_changes_nothing_writes_nothing(file: Path) -> None:
    """The file stays the same file."""
    before = identity(file.stat())
    assert Keystore(file).update(aliases) == ["old"]
    assert identity(file.stat()) == before


def test_an_error_in_a_change_changes_nothing(file: Path) -> None:
    """What the change raises comes out as it is, and the file stays."""
    before = file.read_bytes()

    def change(store: Store) -> None:
        adding("new")(store)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Keystore(file).update(change)
    assert file.read_bytes() == before
    assert names(file) == ALONE


def test_without_a_file(keystore: Path) -> None:
    """Only who may create makes a file; for others there are no entries to change."""
    assert Keystore(keystore).update(aliases) == []
    assert not keystore.parent.exists()
    Keystore(keystore).update(adding("new"), create=True)
    assert aliases(Keystore(keystore).read()) == ["new"]
    assert stat.S_IMODE(keystore.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(keystore.stat().st_mode) == 0o600
    assert names(keystore) == ALONE


def test_leftovers_of_killed_writers_are_removed(file: Path) -> None:
    """The next writer tidies up."""
    leftover = file.with_name(f".{file.name}.0123456789abcdef.tmp")
    leftover.write_bytes(b"half")
    assert aliases(Keystore(file).read()) == ["old"]
    assert leftover.exists()
    Keystore(file).update(aliases)
    assert names(file) == ALONE


def test_a_link_is_kept(file: Path, tmp_path: Path) -> None:
    """A linked keystore keeps its link, and its target is replaced, beside its own lock."""
    link = tmp_path / "link.p12"
    link.symlink_to(file)
    Keystore(link).update(adding("new"))
    assert link.is_symlink()
    assert aliases(Keystore(file).read()) == ["old", "new"]
    assert names(file) == ALONE
    assert sorted(one.name for one in tmp_path.iterdir()) == ["link.p12", "security"]


def test_bytes_after_the_end_are_noted(file: Path) -> None:
    """What follows the keystore in the file is dropped with a note, not silently."""
    with file.open("ab") as stream:
        stream.write(b"12345")
    notes: list[str] = []
    Keystore(file, notify=notes.append).update(adding("new"))
    assert notes == ["5 bytes after the end of the keystore are dropped."]
    Keystore(file, notify=notes.append).update(adding("newer"))
    assert len(notes) == 1


def test_it_does_not_grow_over_the_limit(file: Path) -> None:
    """What could not be read again is not written."""
    size = file.stat().st_size
    before = file.read_bytes()
    with pytest.raises(wrong.WriteFailedError) as caught:
        Keystore(file, max_size=size).update(adding("new"))
    assert caught.value.message == f"{file} would grow over the limit of {size:,} bytes."
    assert file.read_bytes() == before
    assert names(file) == ALONE


def test_a_change_behind_the_back_of_the_store_is_not_written(file: Path) -> None:
    """If the new file would not hold what it should, it never gets to the disk."""
    before = file.read_bytes()

    def change(store: Store) -> None:
        adding("new")(store)
        store.added.clear()
        store.added[b"something else"] += 1

    with pytest.raises(wrong.WriteFailedError, match="would not hold what it should") as caught:
        Keystore(file).update(change)
    assert "report" in (caught.value.hint or "")
    assert file.read_bytes() == before
    assert names(file) == ALONE


def test_the_owner_of_root_s_new_files(public: Path) -> None:
    """Root's first keystore and its lock file belong to the service that owns the directory."""
    if os.geteuid():
        missing("giving files to other users needs root")
    os.chown(public, 1234, 5678)
    Keystore(public / "security" / "k.p12").update(adding("new"), create=True)
    found = [public / "security", *(public / "security").iterdir()]
    assert len(found) == 3
    assert {(one.stat().st_uid, one.stat().st_gid) for one in found} == {(1234, 5678)}


def test_a_non_ascii_password_makes_no_new_keystore(keystore: Path) -> None:
    """Older Java could not open it, so nothing is made."""
    passwords = Passwords("pässword", "secret")
    with pytest.raises(wrong.PasswordError, match="must be ASCII"):
        Keystore(keystore, passwords).update(adding("new"), create=True)
    assert not keystore.parent.exists()


def test_a_hint_for_whoever_may_not_read(public: Path, run: Run, ordinary: list[str]) -> None:
    """A read-only keystore is not replaced behind its owner's back."""
    file = public / "k.p12"
    Keystore(file).update(adding("old"), create=True)
    before = file.read_bytes()
    if os.geteuid() == 0:
        for one in (public, *public.iterdir()):
            os.chown(one, 65534, 65534)
    file.chmod(0o400)
    done = run("create", "x", "--keystore", file, command=ordinary)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: Access denied to {file}.\n")
    assert "sudo -u" not in done.stderr, "the caller is the owner"
    assert file.read_bytes() == before


# Writers without a lock


def test_a_change_in_between_is_noticed(file: Path) -> None:
    """Where a Java program wrote meanwhile, the change is made again on what it wrote."""
    calls: list[list[str | None]] = []

    def change(store: Store) -> None:
        calls.append(aliases(store))
        adding("ours")(store)
        if len(calls) == 1:
            add_without_lock(file, "theirs")

    Keystore(file).update(change)
    assert calls == [["old"], ["old", "theirs"]]
    assert aliases(Keystore(file).read()) == ["old", "theirs", "ours"]
    assert names(file) == ALONE


def test_a_change_at_the_last_moment_is_noticed(file: Path) -> None:
    """Even while the temporary file is being made, a foreign write is not lost."""
    asked: list[int] = []

    def random_bytes(count: int) -> bytes:
        asked.append(count)
        if asked.count(8) == 1 and count == 8:  # the name of the temporary file
            add_without_lock(file, "theirs")
        return os.urandom(count)

    Keystore(file, random_bytes=random_bytes).update(adding("ours"))
    assert asked.count(8) == 2
    assert aliases(Keystore(file).read()) == ["old", "theirs", "ours"]


def test_a_change_that_looks_the_same_is_noticed(file: Path) -> None:
    """Other bytes of the same length with the old time stamp are another file."""
    calls: list[int] = []

    def change(store: Store) -> None:
        calls.append(1)
        adding("ours")(store)
        if len(calls) == 1:
            status = file.stat()
            again = Store.parse(file.read_bytes(), STOCK_PASSWORDS).serialise(os.urandom)
            assert len(again) == status.st_size
            file.write_bytes(again)
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    Keystore(file).update(change)
    assert len(calls) == 2


def test_a_first_file_made_in_between_is_kept(keystore: Path) -> None:
    """Where somebody else makes the first keystore at the same time, both entries survive."""
    calls: list[int] = []

    def change(store: Store) -> None:
        calls.append(1)
        adding("ours")(store)
        if len(calls) == 1:
            other = Store.empty(STOCK_PASSWORDS)
            adding("theirs")(other)
            keystore.write_bytes(other.serialise(os.urandom))

    Keystore(keystore).update(change, create=True)
    assert aliases(Keystore(keystore).read()) == ["theirs", "ours"]


def test_a_file_that_keeps_changing_is_given_up(file: Path) -> None:
    """After some attempts the error says so, and the other program's entries are all there."""
    calls: list[int] = []

    def change(store: Store) -> None:
        calls.append(1)
        adding("ours")(store)
        add_without_lock(file, f"theirs{len(calls)}")

    with pytest.raises(wrong.KeystoreBusyError) as caught:
        Keystore(file).update(change)
    assert caught.value.message == f"{file} keeps being changed by a program that does not lock it."
    assert len(calls) == CHANGE_ATTEMPTS
    theirs = [f"theirs{number}" for number in range(1, CHANGE_ATTEMPTS + 1)]
    assert aliases(Keystore(file).read()) == ["old", *theirs]
    assert names(file) == ALONE


def test_an_error_of_the_caller_stays_what_it_is(file: Path) -> None:
    """What the change itself raises is no error of the keystore."""
    before = file.read_bytes()

    def change(store: Store) -> None:
        adding("new")(store)
        raise PermissionError("of the caller")

    with pytest.raises(PermissionError, match="of the caller"):
        Keystore(file).update(change)
    assert file.read_bytes() == before
    assert names(file) == ALONE


def test_a_second_name_is_refused(file: Path) -> None:
    """A hard link would keep a key that is revoked."""
    file.with_name("second").hardlink_to(file)
    with pytest.raises(wrong.WriteFailedError, match="has a second name") as caught:
        Keystore(file).update(adding("new"))
    assert caught.value.hint == (f"Find that name and remove it: find / -xdev -samefile {file}")
    assert aliases(Keystore(file).read()) == ["old"]


def test_what_a_program_wrote_when_a_command_was_killed_is_named(file: Path) -> None:
    """Every writer names it, and none removes it."""
    left = file.with_name(f".{file.name}.0123456789abcdef.tmp")
    left.write_bytes(file.read_bytes())
    status = left.stat()
    recorded = f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns}\n"
    file.with_name(f".{file.name}.lock").write_text(recorded)
    add_without_lock(left, "theirs")
    notes: list[str] = []
    for alias in ("one", "two"):
        Keystore(file, notify=notes.append).update(adding(alias))
    note = (
        f"{left} was written to by another program when a command was killed: "
        "it holds 'theirs', which the keystore lacks. Add that, then remove it."
    )
    assert notes == [note, note]
    left.unlink()
    Keystore(file, notify=notes.append).update(adding("three"))
    assert len(notes) == 2
    assert names(file) == ALONE


def test_an_unconfirmed_change_may_be_told_later(
    file: Path, no_more_files: Callable[[], None]
) -> None:
    """Who hands out what was made before the error is told gets the result first."""
    told: list[wrong.NotConfirmedError] = []
    keystore = Keystore(file, before_commit=no_more_files, unconfirmed=told.append)
    keystore.update(adding("new"))
    assert [error.code for error in told] == ["not-confirmed"]


# Disks that fail


def test_an_unconfirmed_change(file: Path, no_more_files: Callable[[], None]) -> None:
    """If the directory cannot be synced, the change is there, and the message says just that."""
    with pytest.raises(wrong.NotConfirmedError) as caught:
        Keystore(file, before_commit=no_more_files).update(adding("new"))
    assert caught.value.message == (
        f"{file} is changed, but the disk has not confirmed it: Too many open files."
    )
    assert caught.value.hint == "The change may be lost if the machine stops now; check the disk."


def test_an_unconfirmed_change_is_there(file: Path, no_more_files: Callable[[], None]) -> None:
    """Whatever the disk said, others see the new file, and it alone."""
    status = file.stat()
    with file.parent.joinpath("metricshub-keystore.p12").open("rb") as old:
        with pytest.raises(wrong.NotConfirmedError):
            Keystore(file, before_commit=no_more_files).update(adding("new"))
        assert os.fstat(old.fileno()).st_nlink == 0
    assert file.stat().st_ino != status.st_ino


def test_a_write_that_fails(run: Run, file: Path) -> None:
    """Where the file may not grow, nothing has changed and nothing is left behind."""
    before = file.read_bytes()
    limit = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *COMMAND]
    done = run("create", "x", command=limit)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Error: {file} is not changed: File too large.\n" in done.stderr
    assert file.read_bytes() == before
    assert names(file) == ALONE


def test_a_full_disk(run: Run, file: Path, own_mounts: list[str], tmp_path: Path) -> None:
    """On a full disk nothing has changed, nothing is left behind, and room helps at once."""
    script = """
        set -e
        mount -t tmpfs -o size=8k tmpfs "$1"; cp "$2" "$1/k.p12"; cat /dev/zero >"$1/filler" || :
        cd "$1"; shift 2
        "$@" create x --keystore k.p12 || echo "failed: $?"
        cmp k.p12 "$METRICSHUB_KEYSTORE"; ls -A
        rm filler
        "$@" create x --keystore k.p12 -q >/dev/null; "$@" list --keystore k.p12 -q
    """
    full = tmp_path / "full"
    full.mkdir()
    shell = [*own_mounts, "sh", "-c", script, "sh", str(full), str(file), *COMMAND]
    done = run(command=shell)
    assert "Error: k.p12 is not changed: No space left on device.\n" in done.stderr
    assert done.stdout == "failed: 1\n.k.p12.lock\nfiller\nk.p12\nx\n"
    assert done.returncode == 0


def test_a_keystore_mounted_alone(run: Run, file: Path, own_mounts: list[str]) -> None:
    """A keystore that is a mount of its own cannot be replaced; the hint says what to mount."""
    before = file.read_bytes()
    script = 'mount --bind "$1" "$1"; shift; exec "$@"'
    done = run("create", "x", command=[*own_mounts, "sh", "-c", script, "sh", file, *COMMAND])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"Error: {file} cannot be replaced: it is mounted as a single file.\n"
        "Hint: Mount the directory that holds it instead.\n"
    )
    assert file.read_bytes() == before
    assert names(file) == ALONE


def test_a_read_only_disk(run: Run, file: Path, own_mounts: list[str]) -> None:
    """On a file system that is mounted read-only a change fails and a list works."""
    script = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift; exec "$@"'
    shell = [*own_mounts, "sh", "-c", script, "sh", file.parent, *COMMAND]
    done = run("create", "x", command=shell)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {file} is not changed: Read-only file system.\n")
    assert run("list", command=shell).stdout == "No API keys found.\n"


# Many at once


def test_twenty_writers_at_once(keystore: Path, run: Run) -> None:
    """Every one of twenty simultaneous `create`s, the first of which makes the file, succeeds."""
    made = [f"key-{number}" for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        done = list(pool.map(lambda one: run("create", one, "-q", "--lock-timeout", "60"), made))
    printed = {alias: one.stdout for alias, one in zip(made, done, strict=True)}
    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * 20
    found = {key.alias: f"{key.secret.reveal()}\n" for key in ApiKeys(Keystore(keystore)).list()}
    assert found == printed
    beside = [name for name in names(keystore) if not name.startswith("apikey-activity.db")]
    assert beside == ALONE


def test_readers_beside_writers(file: Path) -> None:
    """While keys come and go, no reader ever meets half a file or misses an old entry."""
    done = threading.Event()
    seen: list[list[str | None]] = []

    def read() -> None:
        while not done.is_set():
            seen.append(aliases(Keystore(file).read()))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(20):
        Keystore(file).update(adding(f"new{number}"))
    done.set()
    reader.join()
    assert seen
    everything = ["old", *(f"new{number}" for number in range(20))]
    assert all(one == everything[: len(one)] for one in seen)


@pytest.mark.parametrize(
    "vector",
    ["jdk11.0.5-mixed", "jdk17.0.15-certs-plain", "jdk17.0.15-attrs", "jdk25.0.2-mixed"],
)
def test_keystores_of_java_survive_an_update(tmp_path: Path, vector: str) -> None:
    """In a keystore of any runtime a new entry joins the others."""
    file = tmp_path / "k.p12"
    shutil.copy(VECTORS / f"{vector}.p12", file)
    before = aliases(Keystore(file).read())
    Keystore(file).update(adding("new"))
    after = aliases(Keystore(file).read())
    assert sorted(map(str, after)) == sorted(map(str, [*before, "new"]))


def test_a_keystore_without_a_mac_is_not_changed(tmp_path: Path) -> None:
    """Entries that anybody could have forged are not sealed as if they were good."""
    file = tmp_path / "k.p12"
    shutil.copy(VECTORS / "jdk17.0.15-mac-none.p12", file)
    with pytest.raises(wrong.UnsupportedError) as caught:
        Keystore(file).update(adding("new"))
    assert caught.value.message.startswith(f"{file} has no MAC")
    assert file.read_bytes() == (VECTORS / "jdk17.0.15-mac-none.p12").read_bytes()
