"""Keystores that cannot be used, or not wholly, and the words for it."""

from __future__ import annotations

import os
import shlex
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builders import put
from conftest import ORDINARY_USER, Run, missing
from metricshub_apikey import ApiKeys
from metricshub_apikey.keystore.keystore import STOCK_PASSWORDS, Keystore
from metricshub_apikey.pkcs12.kdf import Passwords
from metricshub_apikey.pkcs12.store import Store
from shell import (
    Done,
    check,
    damaged,
    names,
)

# The failures and their words


@pytest.mark.parametrize("content", [b"PK\3\4 a zip", b"\0" * 100, b"0", b"#!/bin/sh\n"])
def test_not_a_keystore(run: Run, tmp_path: Path, content: bytes) -> None:
    """A file that is something else is said to be so, and never changed."""
    files = [tmp_path / name for name in ("list", "create", "revoke")]
    for file in files:
        file.write_bytes(content)
    arguments = [[], ["x"], ["x"]]
    commands = [
        [file.name, *more, "--keystore", str(file)]
        for file, more in zip(files, arguments, strict=True)
    ]
    for file, done in zip(files, at_once(run, *commands), strict=True):
        first = done.stderr.splitlines()[0]
        if content == b"0":  # a keystore may begin so
            assert first == damaged(file)
        else:
            assert first == f"Error: {file} is not a PKCS#12 keystore."
        assert (done.returncode, done.stdout) == (1, "")
        assert file.read_bytes() == content


def at_once(run: Run, *commands: list[str]) -> list[Done]:
    """Run commands that wait, hoping for a better file, at the same time."""
    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(lambda command: run(*command), commands))


@pytest.mark.parametrize(
    ("size", "hint"), [(0, "The file is empty."), (200, "The file ends too early.")]
)
def test_an_incomplete_keystore(run: Run, java_keystore: Path, size: int, hint: str) -> None:
    """An empty or truncated file is damaged; it is not replaced by a new one."""
    torn = java_keystore.read_bytes()[:size]
    java_keystore.write_bytes(torn)
    for done in at_once(run, ["list"], ["create", "x"]):
        check(done, 1, stderr=f"{damaged(java_keystore)}\nHint: {hint}\n")
    assert java_keystore.read_bytes() == torn


def test_a_huge_file(run: Run, tmp_path: Path) -> None:
    """A file over the limit is refused by its size, the limit named."""
    file = tmp_path / "huge"
    with file.open("wb") as stream:
        stream.truncate(17 << 20)
    done = run("list", "--keystore", file)
    check(done, 1, stderr=f"Error: {file} is larger than the limit of 16,777,216 bytes.\n")


@pytest.mark.parametrize("command", [["list"], ["create", "x"], ["revoke", "x"]])
@pytest.mark.parametrize("kind", ["directory", "fifo", "device"])
def test_odd_files(run: Run, tmp_path: Path, command: list[str], kind: str) -> None:
    """What is no regular file is refused at once, and nothing is put beside it."""
    path = tmp_path / "odd"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif os.geteuid():
        missing("making a device needs root")
    else:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    done = run(*command, "--keystore", path)
    check(done, 1, stderr=f"Error: {path} is not a regular file.\n")
    assert names(tmp_path) == ["odd"]


def test_below_a_regular_file(run: Run, tmp_path: Path) -> None:
    """A path that leads through a file is an error that says so."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "k.p12"
    done = run("list", "--keystore", path)
    check(done, 1, stderr=f"Error: {path} cannot be read: Not a directory.\n")
    done = run("create", "x", "--keystore", path)
    check(done, 1, stderr=f"Error: {path} is not changed: Not a directory.\n")


def test_a_linked_keystore(run: Run, keystore: Path, tmp_path: Path) -> None:
    """The target of a link is replaced, and made if there is none; the link stays."""
    link = tmp_path / "link.p12"
    link.symlink_to(keystore)
    for alias in ("first", "second"):
        assert run("create", alias, "--keystore", link).returncode == 0
        assert link.is_symlink()
    check(run("list", "-q"), 0, "first\nsecond\n")


def test_a_link_to_itself(run: Run, tmp_path: Path) -> None:
    """A link that never ends is an error in one line."""
    link = tmp_path / "link.p12"
    link.symlink_to(link)
    for command in (["list"], ["create", "x"]):
        done = run(*command, "--keystore", link)
        assert (done.returncode, done.stdout) == (1, "")
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith(f"Error: {link} ")


@pytest.mark.parametrize("command", [["list"], ["create", "x"], ["revoke", "x"], ["list", "-q"]])
def test_no_right_to_the_keystore(
    run: Run, ordinary: list[str], public: Path, command: list[str]
) -> None:
    """An ordinary user is told whose keystore it is, and nothing is changed."""
    if os.geteuid():
        missing("needs a keystore of root's")
    file = public / "k.p12"
    ApiKeys(Keystore(file)).create("x")
    before = file.read_bytes()
    done = run(*command, "--keystore", file, command=ordinary)
    check(
        done,
        1,
        stderr=f"Error: Access denied to {file}.\n"
        "Hint: Run the command as the file's owner: sudo -u root apikey "
        f"{shlex.join([*command, '--keystore', str(file)])}\n",
    )
    public.chmod(0o700)
    assert run(*command, "--keystore", file, command=ordinary).stderr == done.stderr
    assert file.read_bytes() == before


def test_an_ordinary_user_s_own_keystore(run: Run, ordinary: list[str], public: Path) -> None:
    """Nobody needs to be root for a keystore of one's own."""
    if os.geteuid() == 0:
        os.chown(public, ORDINARY_USER, ORDINARY_USER)
    file = public / "security" / "k.p12"
    for alias in ("first", "second"):
        done = run("create", alias, "--keystore", file, "-q", command=ordinary, umask=0o777)
        assert (done.returncode, done.stderr) == (0, "")
    done = run("list", "-q", "--keystore", file, command=ordinary)
    check(done, 0, "first\nsecond\n")


# Unreadable entries


def test_unreadable_entries(run: Run, keystore: Path) -> None:
    """An entry that cannot be read is listed with the reason; the others are, too."""
    put(keystore, "first", b"key-1111")
    put(keystore, "bytes", b"\xff")
    put(keystore, "date", b"key__soon")
    store = Store.parse(keystore.read_bytes(), Passwords(STOCK_PASSWORDS.store.reveal(), "other"))
    store.add("api_key:foreign", b"x", created_ms=0, random_bytes=os.urandom)
    keystore.write_bytes(store.serialise(os.urandom))
    put(keystore, "last", b"key-9999__2020-01-01T00:00")
    put(keystore, "short", b"1234")
    done = run("list")
    assert done.returncode == 0
    assert done.stdout == (
        "first ********************1111 (No expiration)\n"
        "bytes ******** (Unreadable: it is not UTF-8)\n"
        "date ******** (Unreadable: its expiry is not a date time)\n"
        "foreign ******** (Unreadable: it has another password or is damaged)\n"
        "last ********************9999 (Expired on 2020-01-01T00:00:00)\n"
        "short ******************** (No expiration)\n"
    )
    assert done.stderr == (
        "Warning: 3 of the entries cannot be read (bytes, date, foreign): "
        "a stock server stops at the first of them and refuses every key stored after it.\n"
    )
