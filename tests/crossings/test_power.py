"""
Cutting the power, on ext4 and xfs in an image (SECURITY.md).

What was reported is there after the cut; before that the keystore is the old one or the new one.
The file systems' own shutdown stands for the cut: what has not reached the image is lost.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import mounts
from conftest import Run
from faults import RECORD, Call, run_traced, write_window
from metricshub_apikey import ApiKeys
from metricshub_apikey.keystore.keystore import Keystore

OPTIONS = {
    "ext4": "commit=300",
    "ext4, careless": "commit=300,data=writeback,noauto_da_alloc",
    "xfs": "rw",
}
"""How they are mounted: ext4 must neither be saved by its clock nor by its care for renames."""

MODIFYING = {
    "openat",
    "write",
    "fchown",
    "fsetxattr",
    "fchmod",
    "fsync",
    "close",
    "renameat2",
    "unlink",
}

SERVICE = 12345


@pytest.fixture(params=OPTIONS)
def disk(request: pytest.FixtureRequest, public: Path) -> Iterator[mounts.Disk]:
    """Return a file system whose power can be cut."""
    kind = request.param.partition(",")[0]
    with mounts.Disk(public, kind, options=OPTIONS[request.param]) as disk:
        yield disk


def keys(file: Path) -> dict[str, str | None]:
    """Return the keys by alias; a damaged keystore raises."""
    return {one.alias: one.secret.reveal() for one in ApiKeys(Keystore(file)).list()}


def temporaries(file: Path) -> list[str]:
    """Return what lies beside the keystore, its lock and the record."""
    return sorted(set(os.listdir(file.parent)) - {file.name, f".{file.name}.lock", *RECORD})


def test_what_was_reported_survives(run: Run, disk: mounts.Disk) -> None:
    """After each success the power fails: new keys are there, revoked ones are not."""
    file = disk.root / "lib" / "security" / "k.p12"
    reported: dict[str, str | None] = {}
    for alias in ("first", "second"):
        done = run("create", alias, "-q", "--keystore", file)
        disk.cut_power()
        reported[alias] = done.stdout.strip()
        assert keys(file) == reported, done.stderr
        assert temporaries(file) == []
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

    done = run("revoke", "first", "--keystore", file)
    disk.cut_power()
    assert done.returncode == 0, done.stderr
    assert list(keys(file)) == ["second"]


def test_a_key_in_a_file_survives(run: Run, disk: mounts.Disk, keystore: Path) -> None:
    """The file of `--out`, too, is there when the command says so."""
    out = disk.root / "key"
    done = run("create", "x", "--out", out)
    disk.cut_power()
    assert done.returncode == 0, done.stderr
    assert out.read_text() == f"{keys(keystore)['x']}\n"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_owner_and_attributes_survive(run: Run, disk: mounts.Disk) -> None:
    """The service can read its keystore after the cut, as it could before."""
    file = disk.root / "security" / "k.p12"
    ApiKeys(Keystore(file)).create("old")
    for one in (file.parent, *file.parent.iterdir()):
        os.chown(one, SERVICE, SERVICE)
    file.chmod(0o640)
    os.setxattr(file, "user.note", b"kept")
    before = file.stat()
    done = run("create", "new", "--keystore", file)
    disk.cut_power()
    assert done.returncode == 0, done.stderr
    assert list(keys(file)) == ["old", "new"]
    after = file.stat()
    assert after.st_size > before.st_size
    assert (after.st_uid, after.st_gid) == (SERVICE, SERVICE)
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert os.getxattr(file, "user.note") == b"kept"


@pytest.fixture
def file(disk: mounts.Disk) -> Path:
    """Return a keystore with the key `old`, safe on the disk."""
    path = disk.root / "k.p12"
    ApiKeys(Keystore(path)).create("old")
    return path


def modifying(window: list[Call]) -> list[Call]:
    """Return the calls from the one that makes the temporary file on that change something."""
    first = next(index for index, call in enumerate(window) if "O_EXCL" in call.arguments)
    return [call for call in window[first:] if call.name in MODIFYING]


@pytest.mark.slow
def test_a_cut_at_any_call(
    disk: mounts.Disk, file: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Stopped and cut off at each call: old before the rename, new after the last fsync."""
    mounts.needs("strace")
    create = ["create", "new", "--keystore", str(file)]
    log = tmp_path / "log"
    original = file.read_bytes()
    done = run_traced(create, log=log, environment=environment)
    assert done.returncode == 0, done.stderr
    window = modifying(write_window(log, file.parent))
    where = [call.name for call in window]
    renamed = len(where) - 1 - where[::-1].index("renameat2")
    confirmed = where.index("fsync", renamed)
    for index, call in enumerate(window):
        file.write_bytes(original)
        mounts.sync(file)
        run_traced(
            create,
            log=log,
            environment=environment,
            inject=f"{call.name}:signal=KILL:when={call.number}",
        )
        disk.cut_power()
        found = list(keys(file))
        assert found in (["old"], ["old", "new"]), call
        if index <= renamed:
            assert found == ["old"], call
        if index > confirmed:
            assert found == ["old", "new"], call
        ApiKeys(Keystore(file)).create("next")
        assert temporaries(file) in ([], ["lost+found"]), call
    assert confirmed < len(window) - 1
