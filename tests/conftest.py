"""What all tests share: the command in a subprocess, a keystore path, and the stock server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

pytest_plugins = ["stock"]

COMMAND = [sys.executable, "-m", "metricshub_apikey"]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def keystore(tmp_path: Path) -> Path:
    """Return the path of a keystore that does not exist yet."""
    return tmp_path / "security" / "metricshub-keystore.p12"


@pytest.fixture
def environment(keystore: Path) -> dict[str, str]:
    """Return the environment of the command: this machine's, with the test's keystore."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR")}
    coverage = {name: value for name, value in os.environ.items() if name.startswith("COV")}
    return {**kept, **coverage, "METRICSHUB_KEYSTORE": str(keystore), "LANG": "C.UTF-8"}


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """Return a function that runs the real command and returns what it printed."""

    def run_command(
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        **options: object,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            env={**environment, **(env or {})},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **options,  # type: ignore[call-overload]
        )

    return run_command
