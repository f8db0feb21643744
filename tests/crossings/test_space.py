"""
Writing where there is no room, on tmpfs and on ext4 (SECURITY.md).

With any number of free blocks or inodes a write succeeds wholly, or it says so in one line and
leaves everything as it was; as soon as there is room, the next one succeeds.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import mounts
from conftest import Run
from faults import NOT_RECORDED, RECORD
from metricshub_apikey import ApiKeys
from metricshub_apikey.keystore.keystore import Keystore

NO_SPACE = "No space left on device"

KEYS = 12
"""As many as make a keystore of several blocks."""

BOTH = pytest.mark.parametrize("small", ["tmpfs", "ext4"], indirect=True)
COMMANDS = pytest.mark.parametrize("command", [["create", "new"], ["revoke", "key-0"]])


@pytest.fixture
def small(request: pytest.FixtureRequest, public: Path) -> Iterator[Path]:
    """Return a small file system."""
    if request.param == "tmpfs":
        with mounts.memory(public / "tmpfs", "size=256k,nr_inodes=40") as root:
            yield root
    else:
        # Without a journal, what is removed is free at once.
        make = ("-b", "1024", "-m", "0", "-N", "64", "-O", "^has_journal")
        with mounts.Disk(public, "ext4", make=make) as disk:
            (disk.root / "lost+found").rmdir()
            yield disk.root


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a keystore of several blocks."""
    path = tmp_path_factory.mktemp("content") / "k.p12"
    registry = ApiKeys(Keystore(path))
    for number in range(KEYS):
        registry.create(f"key-{number}")
    return path.read_bytes()


@pytest.fixture
def file(small: Path, content: bytes) -> Path:
    """Return that keystore, in a directory of its own on the small file system."""
    path = small / "security" / "k.p12"
    path.parent.mkdir(mode=0o700)
    path.write_bytes(content)
    path.with_name(f".{path.name}.lock").touch()
    return path


def aliases(file: Path) -> tuple[str, ...]:
    """Return the aliases; a damaged keystore raises."""
    return tuple(key.alias for key in ApiKeys(Keystore(file)).list())


def names(file: Path) -> set[str]:
    """Return what is beside the keystore, its lock file and the record aside."""
    return set(os.listdir(file.parent)) - {f".{file.name}.lock", *RECORD}


def done_at_least(done: subprocess.CompletedProcess[str]) -> None:
    """Check that the command succeeded; there may have been no room for the record of it."""
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"({NOT_RECORDED}.*\n)?", done.stderr)


def blocks(file: Path) -> int:
    """Return how many blocks the content of *file* needs."""
    return -(-file.stat().st_size // os.statvfs(file).f_bsize)


def sizes(needed: int) -> list[int]:
    """Return the interesting numbers of free blocks, from none to more than enough."""
    return sorted({0, 1, needed - 1, needed, needed + 4})


def put_back(file: Path, content: bytes) -> None:
    """Make the keystore what it was."""
    file.write_bytes(content)
    mounts.sync(file)


@BOTH
@COMMANDS
def test_few_free_blocks(run: Run, file: Path, command: list[str]) -> None:
    """With any number of blocks: done, or one line and nothing changed; room helps at once."""
    original, before = file.read_bytes(), aliases(file)
    after = (*before, "new") if command[0] == "create" else before[1:]
    outcomes: dict[int, int] = {}
    for free in sizes(blocks(file)):
        put_back(file, original)
        inode = file.stat().st_ino
        with mounts.full(file.parent.parent, blocks=free) as left:
            done = run(*command, "--keystore", file)
            outcomes[left] = done.returncode
            assert names(file) == {file.name}
            if done.returncode == 0:
                done_at_least(done)
                assert aliases(file) == after
                continue
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr == f"Error: {file} is not changed: {NO_SPACE}.\n"
            assert (file.read_bytes(), file.stat().st_ino) == (original, inode)
        if free == 0:
            assert run(*command, "--keystore", file).returncode == 0
            assert aliases(file) == after
    assert (outcomes[min(outcomes)], outcomes[max(outcomes)]) == (1, 0)


@BOTH
@COMMANDS
def test_few_free_inodes(run: Run, file: Path, command: list[str]) -> None:
    """The same with the files that may be made: one for the lock, one for the new keystore."""
    original = file.read_bytes()
    lock = file.with_name(f".{file.name}.lock")
    for free in range(3):
        lock.unlink(missing_ok=True)
        with mounts.full(file.parent.parent, inodes=free) as left:
            assert left == free
            done = run(*command, "--keystore", file)
            assert names(file) == {file.name}
            if free == 2:
                done_at_least(done)
                break
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr == f"Error: {file} is not changed: {NO_SPACE}.\n"
            assert file.read_bytes() == original
        if free == 1:
            assert run(*command, "--keystore", file).returncode == 0
            put_back(file, original)


@BOTH
@pytest.mark.parametrize("limit", ["blocks", "inodes"])
def test_no_room_for_a_first_keystore(run: Run, small: Path, limit: str) -> None:
    """Where not even the first keystore fits there is none afterwards, and later there is one."""
    file = small / "security" / "k.p12"
    free = {limit: 0}
    with mounts.full(small, **free):
        done = run("create", "new", "--keystore", file)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"Error: {file} is not changed: {NO_SPACE}.\n"
        assert not file.exists()
        if file.parent.exists():
            assert names(file) == set()
        assert run("list", "--keystore", file).stdout == "No API keys found.\n"
    assert run("create", "new", "--keystore", file).returncode == 0
    assert aliases(file) == ("new",)


@BOTH
def test_no_room_for_the_key(run: Run, small: Path, keystore: Path) -> None:
    """A file that cannot take the key is removed; the key is there, and its user is told."""
    out = small / "key"
    with mounts.full(small, blocks=0):
        done = run("create", "it's", "--out", out)
        assert not out.exists()
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        rf"Error: The API key with alias 'it's' was created but not delivered: {NO_SPACE}\.?\n"
        r"""Hint: .*: apikey revoke -- 'it'"'"'s'\n""",
        done.stderr,
    )
    assert aliases(keystore) == ("it's",)
    assert run("revoke", "it's").returncode == 0
    assert run("create", "it's", "--out", out).returncode == 0
    assert len(out.read_text()) == 37


@BOTH
def test_no_room_for_the_name_of_the_key_s_file(run: Run, small: Path, keystore: Path) -> None:
    """Where the file cannot even be made, no key is."""
    out = small / "key"
    with mounts.full(small, inodes=0):
        done = run("create", "x", "--out", out)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: {out} cannot be made: {NO_SPACE}.\n"
    assert not out.exists()
    assert not keystore.exists()


@BOTH
def test_keystore_and_key_on_the_same_full_disk(run: Run, file: Path) -> None:
    """Delivered, or told to be undelivered, or not made at all: nothing between."""
    original, before = file.read_bytes(), aliases(file)
    out = file.with_name("key")
    seen = set()
    for free in sizes(blocks(file)):
        put_back(file, original)
        with mounts.full(file.parent.parent, blocks=free):
            done = run("create", "new", "--keystore", file, "--out", out)
            if done.returncode == 0:
                done_at_least(done)
                seen.add("delivered")
                assert names(file) == {file.name, "key"}
                key = ApiKeys(Keystore(file)).list()[-1].secret.reveal()
                assert out.read_text() == f"{key}\n"
                out.unlink()
                continue
            assert (done.returncode, done.stdout) == (1, "")
            assert names(file) == {file.name}
            if "not delivered" in done.stderr:
                assert aliases(file) == (*before, "new")
            else:
                seen.add("not made")
                assert done.stderr == f"Error: {file} is not changed: {NO_SPACE}.\n"
                assert file.read_bytes() == original
    assert seen == {"delivered", "not made"}
