"""What all tests share: the command in a subprocess, a keystore path, and the stock server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from metricshub_apikey import ApiKeys, Policy, errors
from metricshub_apikey.keystore.keystore import Keystore
from places import VECTORS
from ruled import RuledKeys
from warm import WarmCommand

pytest.register_assert_rewrite("gateway_checks", "proxies", "servers", "shell")
pytest_plugins = ["stock"]

# What is in that folder runs on Windows only: `windows/in_wine.py` runs it there.
collect_ignore = [] if sys.platform == "win32" else ["windows/inside"]

COMMAND = [sys.executable, "-m", "metricshub_apikey"]

Run = Callable[..., "subprocess.CompletedProcess[str]"]

ORDINARY_USER = 65534

AS_ORDINARY_USER = f"""
import os, sys, tempfile
# The interpreter may be in root's home, so all that is imported late is imported now.
import csv, difflib, json, mmap, platformdirs, pwd, resource, shlex, sqlite3, tomllib, unicodedata
import uuid
from metricshub_apikey import ApiKeys
from metricshub_apikey.keystore.keystore import Keystore  # noqa: E402
from metricshub_apikey.cli.commands import (  # noqa: E402
    check, completion, create, edit, list, log, path, prune, revoke, rotate, scan, show
)
from metricshub_apikey.cli.main import run
with tempfile.TemporaryDirectory() as folder:
    registry = ApiKeys(Keystore(os.path.join(folder, "store.p12")))
    registry.create("first")
    registry.list()
os.setgroups([])
os.setgid({ORDINARY_USER})
os.setuid({ORDINARY_USER})
sys.exit(run(sys.argv[1:]))
"""
"""The command, its rights given up as soon as everything is imported."""


def missing(reason: str) -> NoReturn:
    """Skip a test for which something is missing here; on CI nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def _own_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a command that runs in this process name itself in no hint of another test."""
    monkeypatch.setattr(errors, "_program", [*errors._program])


@pytest.fixture
def ordinary() -> list[str]:
    """Return the command as an ordinary user runs it, who is not root."""
    return COMMAND if os.geteuid() else [sys.executable, "-c", AS_ORDINARY_USER]


@pytest.fixture
def public() -> Iterator[Path]:
    """Return a directory that every user may enter; pytest's own are for one user."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def registry(keystore: Path) -> ApiKeys:
    """Return the API keys of the test's keystore."""
    return RuledKeys(Keystore(keystore), Policy.none())


@pytest.fixture
def own_mounts() -> list[str]:
    """Return what to put before a command so that it may mount, seen by nobody else."""
    for prefix in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
        tried = [*prefix, "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
        if (
            shutil.which("unshare")
            and not subprocess.run(tried, check=False, capture_output=True).returncode
        ):
            return prefix
    missing("mounting needs root or user namespaces, and unshare")


@pytest.fixture
def no_more_files() -> Iterator[Callable[[], None]]:
    """Return a function after which this process can open no file until the test ends."""
    import resource  # not on Windows

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    def exhaust() -> None:
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))

    yield exhaust
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return a function that moves this process to another time zone, until the test ends."""

    def move(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def keystore(tmp_path: Path) -> Path:
    """Return the path of a keystore that does not exist yet."""
    return tmp_path / "security" / "metricshub-keystore.p12"


@pytest.fixture
def java_keystore(keystore: Path) -> Path:
    """Return a keystore that a JDK wrote: three keys, the last one expired, and other entries."""
    keystore.parent.mkdir()
    shutil.copy(VECTORS / "jdk17.0.15-mixed.p12", keystore)
    return keystore


@pytest.fixture
def environment(keystore: Path) -> dict[str, str]:
    """Return the environment of the command: this machine's, with the test's keystore."""
    wanted = os.environ if sys.platform == "win32" else ("PATH", "HOME", "TMPDIR")
    kept = {name: value for name, value in os.environ.items() if name in wanted}
    coverage = {name: value for name, value in os.environ.items() if name.startswith("COV")}
    return {**kept, **coverage, "METRICSHUB_KEYSTORE": str(keystore), "LANG": "C.UTF-8"}


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmCommand]:
    """Return what runs the command without starting Python each time."""
    command = WarmCommand()
    yield command
    command.close()


@pytest.fixture
def run(environment: dict[str, str], warm: WarmCommand) -> Run:
    """Return a function that runs the real command and returns what it printed."""

    def run_command(
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        command: Sequence[str] = COMMAND,
        **options: object,
    ) -> subprocess.CompletedProcess[str]:
        texts, variables = [str(one) for one in arguments], {**environment, **(env or {})}
        plain = command is COMMAND and not options and sys.platform != "win32"  # it cannot fork
        if plain and warm.can_run(texts, variables, stdin):
            return warm.run(texts, variables, stdin)
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [*command, *texts],
            env=variables,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            text=True,
            timeout=60,
            check=False,
            **{**streams, **options},  # type: ignore[call-overload]
        )
        return done

    return run_command
