"""Many processes at once, some of them killed, some of them Java's: nothing done is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clock import HERE
from conftest import Run
from faults import RECORD
from java_storm import JavaStorm, no_exchange, no_lease
from metricshub_apikey import ApiKey, ApiKeys
from metricshub_apikey.activity.database import ActivityLog, path_beside
from metricshub_apikey.files import kernel
from metricshub_apikey.files.lease import Lease
from metricshub_apikey.keys.expiry import to_local
from metricshub_apikey.keystore.keystore import Keystore
from stock import Stock
from warm import WarmCommand

CHANGES = {"create": 15, "revoke": 8, "rotate": 7, "edit": 5, "apply": 3, "prune": 2}
WRITERS = 40
KILLED = 8
LONG_AGO = datetime(2020, 1, 2, tzinfo=UTC)
JAVA_ROUNDS = 30

KEY = "3f2b1c4d-8e5f-4a2b-bc15-0ba0f60b15f3"


@contextmanager
def readers(run: Run, count: int) -> Iterator[list[str]]:
    """Run `apikey list` over and over in *count* threads; collect what goes wrong."""
    failures: list[str] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            done = run("list")
            if done.returncode != 0 or done.stderr:
                failures.append(done.stderr)

    threads = [threading.Thread(target=read) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield failures
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def kill(number: int) -> None:
    """Kill a process, unless it has ended."""
    with suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)


class Storm:
    """
    Forty changes to one keystore, each by a process of its own.

    Attributes:
        before: The secrets by alias, before it breaks loose.
        commands: What is run, by the alias that each changes.
    """

    def __init__(self, registry: ApiKeys, folder: Path) -> None:
        """Make the keys that will be changed, and those that nobody will touch."""
        self._folder = folder
        past = ApiKeys(registry._keystore, clock=lambda: LONG_AGO)
        dead = [f"dead-{number}" for number in range(3)]
        for alias in dead:
            past.create(alias, expires_on=to_local(LONG_AGO, HERE) + timedelta(days=1))
        for kind, count in (*CHANGES.items(), ("kept", 3)):
            if kind not in ("create", "apply", "prune"):
                for number in range(count):
                    registry.create(f"{kind}-{number}")
        self.before = {key.alias: key.secret.reveal() for key in registry.list()}
        self.commands = {
            f"{kind}-{number}": self._command(kind, f"{kind}-{number}")
            for kind, count in CHANGES.items()
            for number in range(count)
        }

    def _command(self, kind: str, alias: str) -> list[str]:
        if kind == "apply":
            manifest = self._folder / f"{alias}.yaml"
            manifest.write_text(f"- {alias}\n- alias: kept-0\n  labels: {{{alias}: done}}\n")
            return ["apply", str(manifest), "--out-dir", str(self._folder / "keys")]
        more = {"create": ["-q"], "rotate": ["-q"], "edit": ["--description", "done"]}
        return ["prune", "--yes"] if kind == "prune" else [kind, alias, *more.get(kind, [])]

    def check(self, alias: str, output: str, found: dict[str, ApiKey]) -> None:
        """Check that what a command reported as done is done, and is still so."""
        kind = alias.partition("-")[0]
        key = found.get(alias)
        if kind in ("revoke", "prune"):
            assert key is None
            assert kind == "revoke" or not any(name.startswith("dead") for name in found)
            return
        assert key is not None
        if kind == "edit":
            assert (key.secret.reveal(), key.metadata.description) == (self.before[alias], "done")
        elif kind == "apply":
            assert key.secret.reveal() == (self._folder / "keys" / alias).read_text().strip()
        else:
            assert key.secret.reveal() == output.strip()
        if kind == "rotate":
            assert found[f"{alias}.prev"].secret.reveal() == self.before[alias]

    def check_killed(self, alias: str, found: dict[str, ApiKey]) -> None:
        """Check that what a killed command would have changed is not lost."""
        if alias.startswith(("edit", "rotate")):
            kept = found.get(f"{alias}.prev", found[alias])
            assert kept.secret.reveal() == self.before[alias]


def test_forty_writers_some_killed_with_readers_all_the_time(
    run: Run, warm: WarmCommand, environment: dict[str, str], keystore: Path, tmp_path: Path
) -> None:
    """Every reported change is there, whatever else changed, and no reader ever failed."""
    registry = ApiKeys(Keystore(keystore))
    assert run("create", "first").returncode == 0
    storm = Storm(registry, tmp_path)
    assert len(storm.commands) == WRITERS
    chance = random.Random(20261122)

    with readers(run, 2) as failures:
        order = chance.sample(sorted(storm.commands), WRITERS)
        mortal = [alias for alias in order if not alias.startswith("prune")]
        ends = {alias: 3 * chance.random() for alias in chance.sample(mortal, KILLED)}

        def write(alias: str) -> subprocess.CompletedProcess[str]:
            """Run its command, and kill it when its end has come."""

            def await_end(number: int) -> None:
                if alias in ends:
                    threading.Timer(ends[alias], kill, [number]).start()

            arguments = ["--lock-timeout", "60", *storm.commands[alias]]
            return warm.run(arguments, environment, watch=await_end)

        with ThreadPoolExecutor(WRITERS) as pool:
            writers = dict(zip(order, pool.map(write, order), strict=True))

    assert failures == []
    found = {key.alias: key for key in registry.list()}
    recorded = {event.alias for event in ActivityLog(path_beside(str(keystore))).events()}
    for alias, writer in writers.items():
        output, errors = writer.stdout, writer.stderr
        if writer.returncode == -signal.SIGKILL:
            storm.check_killed(alias, found)
            continue
        assert writer.returncode == 0, errors
        storm.check(alias, output, found)
        assert alias in recorded or alias.startswith("prune") or "not in the log" in errors
    assert set(found) <= {*storm.before, *writers, *(f"{alias}.prev" for alias in writers)}
    untouched = {alias for alias in storm.before if alias.startswith(("first", "kept"))}
    assert {alias: found[alias].secret.reveal() for alias in untouched} == {
        alias: storm.before[alias] for alias in untouched
    }
    applied = {alias for alias in writers if alias.startswith("apply") and alias in found}
    labels = {name for name, _ in found["kept-0"].metadata.labels}
    assert labels <= applied
    assert len(labels) == min(1, len(applied)), "each list has its own label; the last one stays"
    assert sum(writer.returncode == 0 for writer in writers.values()) >= WRITERS - KILLED
    registry.create("last")
    allowed = {keystore.name, f".{keystore.name}.lock", *RECORD}
    assert set(os.listdir(keystore.parent)) <= allowed


@pytest.mark.parametrize("kind", ["lease", "no lease"])
def test_beside_a_java_writer_that_takes_no_lock(
    stock: Stock, run: Run, keystore: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Java truncates and rewrites the file all the time: what it finished stays, we read on."""
    if kind == "no lease":
        monkeypatch.setattr(Lease, "take", no_lease)
    keystore.parent.mkdir()
    storm = JavaStorm(stock, keystore, rounds=JAVA_ROUNDS, widened=0.002)
    with readers(run, 1) as failures:
        storm.run()
    storm.check()
    assert failures == []


@pytest.fixture
def theirs(stock: Stock, keystore: Path, tmp_path: Path) -> bytes:
    """Make a keystore with the key `old`; return what Java makes of it: `java` in its place."""
    keystore.parent.mkdir()
    stock.ask("new", keystore)
    ApiKeys(Keystore(keystore)).create("old")
    copy = tmp_path / "theirs.p12"
    copy.write_bytes(keystore.read_bytes())
    stock.ask("create", copy, "java", KEY)
    stock.ask("revoke", copy, "old")
    return copy.read_bytes()


class LateJava:
    """
    Java begins to write between our comparison and our exchange, and is slow.

    Attributes:
        hook: What to call in that instant.
    """

    def __init__(self, keystore: Path, data: bytes, seconds: float) -> None:
        """Write *data* to *keystore*, *seconds* after it was truncated."""
        self._threads: list[threading.Thread] = []

        def write() -> None:
            with keystore.open("wb", buffering=0) as file:
                time.sleep(seconds)
                file.write(data)

        def hook() -> None:
            if not self._threads:
                self._threads.append(threading.Thread(target=write))
                self._threads[0].start()
                time.sleep(0.05)

        self.hook = hook

    def wait(self) -> None:
        """Wait until Java is done."""
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize("kind", ["lease", "no lease", "no exchange", "neither"])
def test_a_java_write_that_begins_in_the_last_instant_is_kept(
    keystore: Path, theirs: bytes, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Where the kernel lacks a lease, or the file system the exchange, nothing is lost either."""
    if kind in ("no lease", "neither"):
        monkeypatch.setattr(Lease, "take", no_lease)
    if kind in ("no exchange", "neither"):
        monkeypatch.setattr(kernel, "exchange", no_exchange)
    java = LateJava(keystore, theirs, 0.3)
    registry = ApiKeys(Keystore(keystore, before_commit=java.hook))
    registry.create("ours")
    java.wait()
    assert set(registry.aliases()) == {"ours", "java"}


def test_java_pauses_for_seconds_between_truncating_and_writing(
    run: Run, keystore: Path, theirs: bytes
) -> None:
    """Neither is it taken for dead, nor does a reader fail meanwhile."""
    java = LateJava(keystore, theirs, 2.5)
    registry = ApiKeys(Keystore(keystore, before_commit=java.hook))
    with readers(run, 1) as failures:
        registry.create("ours")
    java.wait()
    assert set(registry.aliases()) == {"ours", "java"}
    assert failures == []


def test_a_java_program_that_never_finishes(run: Run, keystore: Path, theirs: bytes) -> None:
    """Reader and writer wait as long as --lock-timeout says, then say so; nothing is changed."""
    del theirs
    with keystore.open("wb"):
        for command in (["list"], ["create", "x"]):
            done = run("--lock-timeout", "1.2", *command)
            assert done.returncode == 1
            assert f"{keystore} is being changed by another program." in done.stderr


def test_a_java_write_that_is_killed_in_the_last_instant_changes_nothing(
    keystore: Path, theirs: bytes
) -> None:
    """Java truncates the file beside our write, and dies: what it held is still in our memory."""
    del theirs
    killed: list[subprocess.Popen[bytes]] = []
    program = "import sys, os; os.open(sys.argv[1], os.O_WRONLY | os.O_TRUNC)"

    def truncate_and_die() -> None:
        if not killed:
            killed.append(subprocess.Popen([sys.executable, "-c", program, str(keystore)]))
            time.sleep(0.5)

    registry = ApiKeys(Keystore(keystore, before_commit=truncate_and_die))
    registry.create("ours")
    assert killed[0].wait() == 0
    assert set(registry.aliases()) == {"old", "ours"}
