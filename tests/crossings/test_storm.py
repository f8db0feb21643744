"""Many processes at once, some of them killed, some of them Java's: nothing done is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from clock import HERE
from conftest import Run
from faults import RECORD
from metricshub_apikey import ApiKey, ApiKeyRegistry, Keystore
from metricshub_apikey.activity.database import ActivityLog, path_beside
from metricshub_apikey.errors import KeystoreBusyError
from metricshub_apikey.keys.expiry import to_local
from stock import Stock
from warm import WarmCommand

CHANGES = {"create": 15, "revoke": 8, "rotate": 7, "edit": 5, "apply": 3, "prune": 2}
WRITERS = 40
KILLED = 8
LONG_AGO = datetime(2020, 1, 2, tzinfo=UTC)
JAVA_ROUNDS = 60
JAVA_PAUSE = 0.02

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

    def __init__(self, registry: ApiKeyRegistry, folder: Path) -> None:
        """Make the keys that will be changed, and those that nobody will touch."""
        self._folder = folder
        past = ApiKeyRegistry(registry.keystore, clock=lambda: LONG_AGO)
        dead = [f"dead-{number}" for number in range(3)]
        for alias in dead:
            past.create(alias, expires_on=to_local(LONG_AGO, HERE) + timedelta(days=1))
        for kind, count in (*CHANGES.items(), ("kept", 3)):
            if kind not in ("create", "apply", "prune"):
                for number in range(count):
                    registry.create(f"{kind}-{number}")
        self.before = {key.alias: key.key for key in registry.list()}
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
            assert (key.key, key.metadata.description) == (self.before[alias], "done")
        elif kind == "apply":
            assert key.key == (self._folder / "keys" / alias).read_text().strip()
        else:
            assert key.key == output.strip()
        if kind == "rotate":
            assert found[f"{alias}.prev"].key == self.before[alias]

    def check_killed(self, alias: str, found: dict[str, ApiKey]) -> None:
        """Check that what a killed command would have changed is not lost."""
        if alias.startswith(("edit", "rotate")):
            kept = found.get(f"{alias}.prev", found[alias])
            assert kept.key == self.before[alias]


def test_forty_writers_some_killed_with_readers_all_the_time(
    run: Run, warm: WarmCommand, environment: dict[str, str], keystore: Path, tmp_path: Path
) -> None:
    """Every reported change is there, whatever else changed, and no reader ever failed."""
    registry = ApiKeyRegistry(Keystore(keystore))
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
    assert {alias: found[alias].key for alias in untouched} == {
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


def test_beside_a_java_writer_that_takes_no_lock(stock: Stock, run: Run, keystore: Path) -> None:
    """
    Our reads never report damage, and our writes never lose an entry that Java has finished.

    Java truncates and rewrites the file all the time; ours may say that it is busy. The other way
    round nothing can be promised: Java may undo what was written after it had read.
    """
    keystore.parent.mkdir()
    stock.ask("new", keystore)
    finished: list[str] = []
    done = threading.Event()

    def write_like_java() -> None:
        for number in range(JAVA_ROUNDS):
            alias = f"java-{number}"
            stock.ask("create", keystore, alias, f"{KEY}-{number}")
            finished.append(alias)
            time.sleep(JAVA_PAUSE)
        done.set()

    java = threading.Thread(target=write_like_java)
    registry = ApiKeyRegistry(Keystore(keystore))
    with readers(run, 1) as failures:
        java.start()
        number = 0
        while not done.is_set():
            with suppress(KeystoreBusyError):
                registry.create(f"ours-{number}")
                number += 1
        java.join()

    assert failures == []
    assert number > 0
    aliases = registry.aliases()
    assert [alias for alias in finished if alias not in aliases] == []


def test_a_java_write_that_begins_in_the_last_instant_is_kept(
    stock: Stock, keystore: Path, tmp_path: Path
) -> None:
    """
    Java truncates the file between our last look and our rename, and writes after it.

    Its bytes go into a file without a name; they are found there.
    """
    keystore.parent.mkdir()
    stock.ask("new", keystore)
    ApiKeyRegistry(Keystore(keystore)).create("revoked-by-java")
    theirs = tmp_path / "theirs.p12"
    theirs.write_bytes(keystore.read_bytes())
    stock.ask("create", theirs, "java", KEY)
    stock.ask("revoke", theirs, "revoked-by-java")
    writers: list[threading.Timer] = []

    def truncate_now_write_later() -> None:
        if not writers:
            file = keystore.open("wb", buffering=0)

            def write() -> None:
                with file:
                    file.write(theirs.read_bytes())

            writers.append(threading.Timer(0.2, write))
            writers[0].start()

    registry = ApiKeyRegistry(Keystore(keystore, before_commit=truncate_now_write_later))
    registry.create("ours")
    writers[0].join()

    assert registry.aliases() == ("ours", "java")
    assert stock.ask("find", keystore, KEY) == ["accepted java"]


def test_a_java_write_that_is_killed_in_the_last_instant_changes_nothing(
    stock: Stock, keystore: Path
) -> None:
    """Java truncates the file between our last look and our rename, and dies: ours stands."""
    keystore.parent.mkdir()
    stock.ask("create", keystore, "before", KEY)

    def truncate() -> None:
        keystore.open("wb").close()

    registry = ApiKeyRegistry(Keystore(keystore, before_commit=truncate))
    registry.create("ours")

    assert registry.aliases() == ("before", "ours")
