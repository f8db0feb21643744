"""
A write that dies, or that the system refuses, at each of its system calls (SECURITY.md).

Afterwards the keystore is the old one or the new one, nothing else; what was reported as done is
done; no temporary file outlives the next write, which works.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from faults import Call, run_traced, write_window
from metricshub_apikey import ApiKeyRegistry, Keystore

ERRORS = {
    "openat": ["ENOSPC", "EIO", "EROFS", "EACCES", "EMFILE", "EINTR"],
    "read": ["EIO", "EINTR"],
    "write": ["ENOSPC", "EIO", "EDQUOT", "EINTR"],
    "close": ["EIO"],
    "flock": ["ENOLCK", "EINTR"],
    "getdents64": ["EIO"],
    "access": ["EROFS", "EACCES"],
    "listxattr": ["EIO", "EACCES"],
    "fchmod": ["EIO", "EROFS", "EPERM"],
    "fsync": ["EIO", "ENOSPC", "EDQUOT"],
    "rename": ["ENOSPC", "EIO", "EDQUOT", "EROFS", "EACCES", "EBUSY"],
}

COMMANDS = {
    "create": ["create", "new", "-o", "json"],
    "revoke": ["revoke", "old", "-o", "json"],
}
"""What is broken; it must be the same each time, so that its system calls are."""


def needs(tool: str) -> None:
    """Skip where *tool* is missing, but fail in CI, which installs it."""
    if shutil.which(tool) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{tool} is missing")
        pytest.skip(f"needs {tool}")


@pytest.fixture
def window(
    request: pytest.FixtureRequest, keystore: Path, environment: dict[str, str], tmp_path: Path
) -> list[Call]:
    """Return the write window of a command, and leave a keystore with the key `old`."""
    needs("strace")
    command: list[str] = request.param
    ApiKeyRegistry(Keystore(keystore)).create("old")
    original = keystore.read_bytes()
    done = run_traced(command, log=tmp_path / "log", environment=environment)
    assert done.returncode == 0, done.stderr
    keystore.write_bytes(original)
    return write_window(tmp_path / "log", keystore.parent)


def state(keystore: Path) -> list[str]:
    """Return the aliases; a damaged keystore raises."""
    return [key.alias for key in ApiKeyRegistry(Keystore(keystore)).list()]


def temporaries(keystore: Path) -> list[str]:
    """Return what lies beside the keystore and its lock."""
    allowed = {keystore.name, f".{keystore.name}.lock"}
    return sorted(name for name in os.listdir(keystore.parent) if name not in allowed)


AFTER = {"create": ["old", "new"], "revoke": []}
BEFORE = ["old"]


@pytest.mark.parametrize(("command", "window"), list(COMMANDS.items()), indirect=["window"])
def test_killed_at_any_call_leaves_the_old_or_the_new_keystore(
    command: str,
    window: list[Call],
    keystore: Path,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    """SIGKILL at each system call of the window: old or new, and the next write cleans up."""
    original = keystore.read_bytes()
    renamed = [index for index, call in enumerate(window) if call.name == "rename"]
    for index, call in enumerate(window):
        keystore.write_bytes(original)
        run_traced(
            COMMANDS[command],
            log=tmp_path / "log",
            environment=environment,
            inject=f"{call.name}:signal=KILL:when={call.number}",
        )
        assert state(keystore) == (AFTER[command] if index > renamed[0] else BEFORE), call
        ApiKeyRegistry(Keystore(keystore)).create("next")
        assert temporaries(keystore) == [], call
    assert len(renamed) == 1


@pytest.mark.parametrize(("command", "window"), list(COMMANDS.items()), indirect=["window"])
def test_an_error_at_any_call_changes_nothing(
    command: str,
    window: list[Call],
    keystore: Path,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    """Each call failing with each errno: one error, nothing changed, nothing left behind."""
    original = keystore.read_bytes()
    hit = set()
    faults = [(call, errno) for call in window for errno in ERRORS.get(call.name, [])]
    for call, errno in faults:
        keystore.write_bytes(original)
        done = run_traced(
            COMMANDS[command],
            log=tmp_path / "log",
            environment=environment,
            inject=f"{call.name}:error={errno}:when={call.number}",
        )
        where = f"{call} {errno}: {done.stderr}"
        assert temporaries(keystore) == [], where
        assert "Traceback" not in done.stderr, where
        if done.returncode == 0:
            assert state(keystore) == AFTER[command], where
            continue
        hit.add((call.name, errno))
        assert done.returncode == 1, where
        code = json.loads(done.stderr)["error"]["code"]
        if code in ("not-confirmed", "key-not-delivered", "output-failed"):
            assert state(keystore) == AFTER[command], where
        else:
            assert keystore.read_bytes() == original, where
    assert {name for name, _ in hit} >= {"openat", "write", "fsync", "rename", "flock"}
