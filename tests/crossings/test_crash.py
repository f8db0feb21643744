"""
A write that dies, or that the system refuses, at each of its system calls (SECURITY.md).

Afterwards the keystore is the old one or the new one, nothing else; what was reported as done is
done; no new key is lost; no temporary file outlives the next write, which works.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import pytest

from faults import (
    NOT_RECORDED,
    RECORD,
    Call,
    folder_window,
    record_window,
    run_traced,
    write_window,
)
from metricshub_apikey import ApiKey, ApiKeys
from metricshub_apikey.cli.commands import apply, create, edit, prune, revoke, rotate
from metricshub_apikey.files import leftovers
from metricshub_apikey.keys.api_key import ENTRY_PREFIX
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.pkcs12.store import Store

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
    "renameat2": ["ENOSPC", "EIO", "EDQUOT", "EROFS", "EACCES", "EBUSY", "EINVAL", "ENOSYS"],
    "fcntl": ["EACCES", "EAGAIN", "EINVAL", "EIO"],
    "fstat": ["EIO"],
    "newfstatat": ["EIO"],
    "pwrite64": ["ENOSPC", "EIO"],
    "ftruncate": ["EIO"],
    "unlink": ["EIO"],
    "mkdir": ["ENOSPC", "EACCES"],
}

RECORD_ERRORS = {
    "openat": ["ENOSPC", "EMFILE"],
    "faccessat2": ["EACCES"],
    "pread64": ["EIO"],
    "pwrite64": ["ENOSPC", "EIO"],
    "fcntl": ["ENOLCK", "EIO"],
    "fdatasync": ["EIO"],
    "ftruncate": ["ENOSPC"],
    "fchmod": ["EPERM"],
    "link": ["ENOSPC", "EPERM"],
    "unlink": ["EIO"],
}
"""What happens to the record of who did what."""

IMPORTED_LATE = (apply, create, edit, prune, revoke, rotate)
"""Their bytecode must be there, so that each run reads the same files."""


class Change(NamedTuple):
    """
    A command that changes a keystore with the keys `old` and `dead`.

    Attributes:
        arguments: They must be the same each time, so that its system calls are.
        after: The aliases that there are when it is done.
        made: The alias that gets a new secret.
    """

    arguments: list[str]
    after: list[str]
    made: str | None = None


BEFORE = ["old", "dead"]
COMMANDS = {
    "create": Change(["create", "new"], ["old", "dead", "new"], "new"),
    "revoke": Change(["revoke", "old"], ["dead"]),
    "rotate": Change(["rotate", "old"], ["old", "dead", "old.prev"], "old"),
    "prune": Change(["prune", "--yes"], ["old"]),
    "apply": Change(["apply", "list.yaml", "--out-dir", "keys"], ["old", "dead", "new"], "new"),
}
LIST = "keys:\n  - alias: new\n  - alias: old\n    description: changed\n"

CHANGED = ("not-confirmed", "output-failed")
"""The codes of errors after which the keystore is the new one."""

EACH = pytest.mark.parametrize(
    "bench",
    [
        pytest.param(name, marks=() if name == "revoke" else pytest.mark.slow, id=name)
        for name in COMMANDS
    ],
    indirect=True,
)


def needs(tool: str) -> None:
    """Skip where *tool* is missing, but fail in CI, which installs it."""
    if shutil.which(tool) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{tool} is missing")
        pytest.skip(f"needs {tool}")


class Bench:
    """
    One command on one keystore, from the same start each time.

    Attributes:
        change: The command.
        window: The calls that change the keystore, and show the result.
        prepared: Which of them is the first that writes the keystore; a key waits there.
        renamed: Which of them puts the new one in place.
        of_keys: Those of them that write the files of new keys.
        record: The calls that write down who did what.
    """

    def __init__(
        self, change: Change, keystore: Path, environment: dict[str, str], folder: Path
    ) -> None:
        self.change = change
        self.keystore = keystore
        self._environment = environment
        self._log = folder / "log"
        self.keys = folder / "keys"
        self.registry = ApiKeys(Keystore(keystore))
        self.registry.create("old")
        Keystore(keystore).update(_add_dead)
        (folder / "list.yaml").write_text(LIST)
        names = {"list.yaml": str(folder / "list.yaml"), "keys": str(self.keys)}
        self._arguments = [names.get(argument, argument) for argument in change.arguments]
        self.original = keystore.read_bytes()
        self.old = self.state()
        done = self.run()
        assert done.returncode == 0, done.stderr
        self.check_key(done)
        self.window = write_window(self._log, keystore.parent, self.keys)
        puts = [index for index, call in enumerate(self.window) if call.name == "renameat2"]
        self.prepared, self.renamed = puts[0], puts[-1]
        self.of_keys = folder_window(self._log, self.keys)
        self.record = record_window(self._log, keystore.parent)

    @property
    def is_first(self) -> bool:
        """Whether all is tried with this command; what is the same is not tried with others."""
        return self.change is COMMANDS["create"]

    @property
    def end(self) -> list[Call]:
        """The calls from the one that puts the new keystore in place."""
        return self.window[self.renamed :]

    def run(self, inject: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the command on the old keystore, with a fault if *inject* names one."""
        self.keystore.write_bytes(self.original)
        for name in RECORD:
            self.keystore.with_name(name).unlink(missing_ok=True)
        shutil.rmtree(self.keys, ignore_errors=True)
        return run_traced(
            [*self._arguments, "-o", "json"],
            log=self._log,
            environment=self._environment,
            inject=inject,
        )

    def kill(self, call: Call) -> None:
        """Run the command, and kill it at that call."""
        self.run(f"{call.name}:signal=KILL:when={call.number}")

    def state(self) -> dict[str, ApiKey]:
        """Return the keys by alias; a damaged keystore raises."""
        return {key.alias: key for key in self.registry.list()}

    def left(self) -> list[str]:
        """Return what lies beside the keystore, its lock and the record."""
        allowed = {self.keystore.name, f".{self.keystore.name}.lock", *RECORD}
        return sorted(name for name in os.listdir(self.keystore.parent) if name not in allowed)

    def files(self) -> list[str]:
        """Return the secrets in the files of new keys."""
        if not self.keys.exists():
            return []
        return [path.read_text().strip() for path in self.keys.iterdir()]

    def expected_files(self) -> list[str | None]:
        """Return the secrets that must be in files once the keystore is changed."""
        return [self.state()["new"].secret.reveal()] if "apply" in self.change.arguments else []

    def check_key(self, done: subprocess.CompletedProcess[str]) -> None:
        """Check that the user has the secret that a command which succeeded has made."""
        made = self.change.made
        if made is not None:
            secret = self.state()[made].secret.reveal()
            assert secret in (*self.files(), json.loads(done.stdout).get("key"))


def _add_dead(store: Store) -> None:
    """Add a key that expired long ago."""
    value = f"key-1234__{datetime(2001, 2, 3).isoformat()}".encode()
    store.add(ENTRY_PREFIX + "dead", value, created_ms=0, random_bytes=os.urandom)


@pytest.fixture
def bench(
    request: pytest.FixtureRequest, keystore: Path, environment: dict[str, str], tmp_path: Path
) -> Bench:
    """Return the bench of a command, whose calls are known."""
    needs("strace")
    return Bench(COMMANDS[request.param], keystore, environment, tmp_path)


def first_of_each(calls: Iterable[Call]) -> list[Call]:
    """Return the first call of each kind."""
    found: dict[str, Call] = {}
    for call in calls:
        found.setdefault(call.name, call)
    return list(found.values())


def lasts_and_rest(bench: Bench) -> list[Call]:
    """Return where commands differ: the last call of each kind, the files of keys, the end."""
    before = bench.window[: bench.renamed]
    chosen = {*first_of_each(reversed(before)), *bench.of_keys, *bench.end}
    return [call for call in bench.window if call in chosen]


def faults(
    calls: Iterable[Call], errors: dict[str, list[str]], *, every: bool
) -> Iterator[tuple[Call, str]]:
    """Yield a fault for each call; if *every*, so many that each errno of its kind occurs, too."""
    kinds: dict[str, list[Call]] = {}
    for call in calls:
        kinds.setdefault(call.name, []).append(call)
    for kind, errnos in errors.items():
        found = kinds.get(kind, [])
        pairs = zip(cycle(found), cycle(errnos), strict=False)
        yield from islice(pairs, max(len(found), len(errnos) if every else 0))


@EACH
def test_killed_at_any_call_leaves_the_old_or_the_new_keystore(bench: Bench) -> None:
    """SIGKILL at each system call of the window: old or new, and the next write cleans up."""
    writes = [call.name for call in bench.window].count("renameat2")
    assert writes == (2 if bench.change.made and not bench.of_keys else 1)
    for call in bench.window if bench.is_first else [*bench.of_keys, *bench.end]:
        bench.kill(call)
        found = bench.state()
        if bench.window.index(call) > bench.renamed:
            assert list(found) == bench.change.after, call
            assert bench.files() == bench.expected_files(), call
        else:
            # A module that another process compiles meanwhile shifts the count by a few calls.
            assert found == bench.old or list(found) == bench.change.after, call
        bench.registry.create("next")
        assert bench.left() == [], call


@EACH
def test_an_error_at_any_call_changes_nothing(bench: Bench) -> None:
    """Calls failing with each errno: one error, nothing changed, nothing left, no key lost."""
    hit = set()
    calls = bench.window if bench.is_first else lasts_and_rest(bench)
    for call, errno in faults(calls, ERRORS, every=bench.is_first):
        done = bench.run(f"{call.name}:error={errno}:when={call.number}")
        where = f"{call} {errno}: {done.stderr}"
        if call.name == "unlink":  # What cannot be removed now is removed by the next writer.
            leftovers.remove(str(bench.keystore))
        assert bench.left() == [], where
        assert "Traceback" not in done.stderr, where
        if done.returncode == 0:
            assert list(bench.state()) == bench.change.after, where
            bench.check_key(done)
            continue
        hit.add(call.name)
        assert done.returncode == 1, where
        # What fails right after the exchange is taken back; the message says what is true.
        code = json.loads(done.stderr)["error"]["code"]
        changed = call not in bench.of_keys and code in CHANGED
        if changed:
            assert bench.window.index(call) > bench.prepared, where
            assert list(bench.state()) == bench.change.after, where
            assert bench.files() == bench.expected_files(), where
        else:
            assert bench.state() == bench.old, where
            assert bench.files() == [], where
    assert hit >= {"openat", "write", "fsync", "renameat2", "flock"}


@pytest.mark.slow
@pytest.mark.parametrize("bench", ["rotate"], indirect=True)
def test_a_record_that_fails(bench: Bench) -> None:
    """Whatever happens to the record, the key is handed out, and at most one warning says so."""
    noted = set()
    for call, errno in faults(first_of_each(bench.record), RECORD_ERRORS, every=True):
        done = bench.run(f"{call.name}:error={errno}:when={call.number}")
        where = f"{call} {errno}: {done.stdout} {done.stderr}"
        told = done.stderr.splitlines()
        assert (done.returncode, len(told) <= 1) == (0, True), where
        assert list(bench.state()) == bench.change.after, where
        bench.check_key(done)
        if told:
            assert told[0].startswith(NOT_RECORDED), where
            noted.add(call.name)
    assert noted >= {"openat", "faccessat2", "pread64", "pwrite64", "fdatasync"}


@pytest.mark.slow
@pytest.mark.parametrize("bench", ["rotate"], indirect=True)
def test_killed_while_recording(bench: Bench) -> None:
    """Killed after the keystore was changed, the command has changed it; the next one works."""
    for call in first_of_each(bench.record):
        bench.kill(call)
        assert list(bench.state()) == bench.change.after, call
        bench.registry.finish("old")
        assert list(bench.state()) == BEFORE, call
