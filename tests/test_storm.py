"""Many processes at once, some of them killed, some of them Java's: nothing done is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from conftest import COMMAND
from metricshub_apikey import ApiKeyRegistry, Keystore
from metricshub_apikey.errors import KeystoreBusyError
from stock import Stock

WRITERS = 40
KILLED = 8
JAVA_ROUNDS = 150
JAVA_PAUSE = 0.02

KEY = "3f2b1c4d-8e5f-4a2b-bc15-0ba0f60b15f3"


@contextmanager
def readers(environment: dict[str, str], count: int) -> Iterator[list[str]]:
    """Run `apikey list` over and over in *count* threads; collect what goes wrong."""
    failures: list[str] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            done = subprocess.run(
                [*COMMAND, "list"],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
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


def start(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Start the command without waiting for it."""
    return subprocess.Popen(
        [*COMMAND, "--lock-timeout", "120", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_forty_writers_some_killed_with_readers_all_the_time(
    environment: dict[str, str], keystore: Path
) -> None:
    """Every reported key is there, every revoked one is gone, and no reader ever failed."""
    registry = ApiKeyRegistry(Keystore(keystore))
    doomed = [f"doomed-{number}" for number in range(WRITERS // 4)]
    for alias in doomed:
        registry.create(alias)
    created = [f"new-{number}" for number in range(WRITERS - len(doomed))]
    chance = random.Random(20261122)

    with readers(environment, 2) as failures:
        writers = {alias: start(environment, "create", alias, "-q") for alias in created}
        writers |= {alias: start(environment, "revoke", alias) for alias in doomed}
        for alias in chance.sample(sorted(writers), KILLED):
            time.sleep(chance.random() / 2)
            writers[alias].send_signal(signal.SIGKILL)
        printed = {alias: writer.communicate(timeout=120) for alias, writer in writers.items()}

    assert failures == []
    found = {key.alias: key.key for key in registry.list()}
    for alias, writer in writers.items():
        output, errors = printed[alias]
        if writer.returncode == -signal.SIGKILL:
            continue
        assert writer.returncode == 0, errors
        assert found.get(alias) == (output.strip() if alias in created else None)
    assert sum(writer.returncode == 0 for writer in writers.values()) >= WRITERS - KILLED
    registry.create("last")
    allowed = {keystore.name, f".{keystore.name}.lock"}
    assert set(os.listdir(keystore.parent)) == allowed


def test_beside_a_java_writer_that_takes_no_lock(
    stock: Stock, environment: dict[str, str], keystore: Path
) -> None:
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
    with readers(environment, 1) as failures:
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
