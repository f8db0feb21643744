"""What a command did for its caller, and keystores that this program would not make."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from metricshub_apikey.keys.api_key import ENTRY_PREFIX
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.pkcs12.store import Store

UUID4 = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
STORE_IT = "Please store this key securely, as it will not be shown again.\n"
FOREVER = "2999-12-31T23:59:59"

Done = subprocess.CompletedProcess[str]
Environment = dict[str, str]


def check(done: Done, code: int, stdout: str = "", stderr: str = "") -> None:
    """Compare everything that a command did for its caller."""
    assert (done.returncode, done.stdout, done.stderr) == (code, stdout, stderr)


def check_usage(done: Done, message: str, command: str = "create") -> None:
    """Check that it was refused as wrong usage, in Click's way, with *message* at the end."""
    assert (done.returncode, done.stdout) == (2, "")
    usage, hint, empty, error = done.stderr.removesuffix("\n").split("\n")
    assert usage.startswith(f"Usage: apikey {command} [OPTIONS]")
    assert (hint, empty) == (f"Try 'apikey {command} --help' for help.", "")
    assert error == f"Error: {message}"


def document(text: str) -> dict[str, Any]:
    """Return the one JSON document in *text*."""
    found: dict[str, Any] = json.loads(text)
    return found


def put_many(keystore: Path, count: int) -> None:
    """Put many keys with long aliases there: more than a pipe takes at once."""

    def add(store: Store) -> None:
        for number in range(count):
            alias = f"{ENTRY_PREFIX}{'x' * 90}{number}"
            store.add(alias, b"key", created_ms=0, random_bytes=os.urandom)

    Keystore(keystore).update(add, create=True)


def names(directory: Path) -> list[str]:
    """Return what is in a directory."""
    return sorted(one.name for one in directory.iterdir())


def damaged(file: Path) -> str:
    """Return the line for a file that cannot be opened."""
    return f"Error: {file} cannot be opened: the password is wrong or the file is damaged."
