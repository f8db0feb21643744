"""Waiting for the lock, and giving up."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import pytest

from conftest import COMMAND, Run, missing
from metricshub_apikey import ApiKeys
from metricshub_apikey.keystore.keystore import STOCK_PASSWORDS, Keystore
from metricshub_apikey.pkcs12.store import Store
from shell import (
    Environment,
    check,
    names,
)

# Waiting for the lock


@pytest.fixture
def lock(keystore: Path) -> Iterator[IO[bytes]]:
    """Return the lock file of a keystore with one key, locked by this test."""
    ApiKeys(Keystore(keystore)).create("old")
    with keystore.with_name(".metricshub-keystore.p12.lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def test_a_busy_keystore(run: Run, keystore: Path, lock: IO[bytes]) -> None:
    """Who has to wait for too long is told so; readers need not wait."""
    before = keystore.read_bytes()
    for command in (["create", "x"], ["revoke", "old"]):
        check(
            run(*command, "--lock-timeout", "0.2"),
            1,
            stderr=f"Error: {keystore} is being changed by another process.\n"
            "Hint: Try again, or wait longer than 0.2 s with --lock-timeout.\n",
        )
    check(run("list", "-q"), 0, "old\n")
    assert keystore.read_bytes() == before
    fcntl.flock(lock, fcntl.LOCK_UN)
    assert run("create", "x", "--lock-timeout", "0").returncode == 0


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start_waiting(environment: Environment, lock: IO[bytes]) -> Iterator[Start]:
    """Return a function that starts the command and returns when it waits for the lock."""
    if not Path("/proc/self/fd").exists():
        missing("only /proc shows that a process waits")
    processes: list[subprocess.Popen[str]] = []

    def waits(process: subprocess.Popen[str]) -> bool:
        try:
            links = list(Path(f"/proc/{process.pid}/fd").iterdir())
            return any(os.path.realpath(link) == lock.name for link in links)
        except OSError:
            return False

    def start(*arguments: str | Path, prefix: Sequence[str] = ()) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*prefix, *COMMAND, *map(str, arguments), "--lock-timeout", "60"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        while not waits(process):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_interrupted_while_waiting(
    start_waiting: Start, keystore: Path, tmp_path: Path, number: int, code: int
) -> None:
    """A signal ends the command with the shell's exit code, silently, and nothing is left."""
    before = keystore.read_bytes()
    process = start_waiting("create", "x", "--out", tmp_path / "key")
    process.send_signal(number)
    assert process.communicate() == ("", "")
    assert process.returncode == code
    assert keystore.read_bytes() == before
    assert names(tmp_path) == ["security"]
    assert names(keystore.parent) == [".metricshub-keystore.p12.lock", keystore.name]


def test_nohup(start_waiting: Start, lock: IO[bytes], registry: ApiKeys) -> None:
    """Under `nohup` a closed terminal does not end the command."""
    ignoring = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"]
    process = start_waiting("create", "x", "-q", prefix=ignoring)
    process.send_signal(signal.SIGHUP)
    fcntl.flock(lock, fcntl.LOCK_UN)
    stdout, _ = process.communicate()
    assert process.returncode == 0
    assert registry.list()[-1].secret.reveal() == stdout.strip()


@pytest.mark.parametrize("out", [False, True])
def test_if_missing_in_a_race(
    start_waiting: Start, lock: IO[bytes], keystore: Path, tmp_path: Path, *, out: bool
) -> None:
    """If somebody else makes the key at the same time, that is no failure either."""
    file = tmp_path / "key"
    process = start_waiting("create", "x", "--if-missing", *(["--out", file] if out else []))
    store = Store.parse(keystore.read_bytes(), STOCK_PASSWORDS)
    store.add("api_key:x", b"theirs", created_ms=0, random_bytes=os.urandom)
    keystore.write_bytes(store.serialise(os.urandom))
    fcntl.flock(lock, fcntl.LOCK_UN)
    assert process.communicate() == (
        "",
        "Note: An API key with alias 'x' exists already; nothing was created.\n",
    )
    assert process.returncode == 0
    assert not file.exists()


# Start-up


def test_a_list_imports_little(run: Run, java_keystore: Path) -> None:
    """A plain `list` imports nothing of what costs start-up and is not needed."""
    program = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "from metricshub_apikey.cli.main import run\n"
        "code = run(['list'])\n"
        "print(*set(sys.modules) - before, sep='\\n')\n"
        "sys.exit(code)\n"
    )
    done = run(command=[sys.executable, "-c", program])
    assert done.returncode == 0
    modules = set(done.stdout.splitlines())
    assert {"click", "metricshub_apikey.cli.key_text", "metricshub_apikey.pkcs12.store"} <= modules
    costly = {
        "rich", "platformdirs", "json", "concurrent.futures", "secrets", "sqlite3", "tomllib",
        "yaml", "csv", "pwd", "socket", "zlib", "shlex", "pathlib",
    }  # fmt: skip
    assert not modules & costly
    assert not [name for name in modules if "gateway" in name or "x509" in name]
    ours = {name.removeprefix("metricshub_apikey.") for name in modules}
    known = {"cli.commands.list"}
    assert {name for name in ours if name.startswith("cli.commands.")} == known
    late = {
        "activity.database", "cli.delivery", "cli.table", "formats.toml_lines", "http",
        "formats.toml_value", "keys.prefixed", "policy.file", "policy.permission",
        "policy.templates", "registry.manifest", "registry.plan", "registry.verification",
        "review.checks", "review.leaks", "review.repair",
    }  # fmt: skip
    assert not ours & late
    assert java_keystore.exists()
