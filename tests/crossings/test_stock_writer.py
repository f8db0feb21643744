"""
The proofs, run against a writer that works like the stock one: each of them can fail, and does.

The table in SECURITY.md says what these tests show. Where our writer loses nothing, a Java program
that truncates the file and rewrites it without a lock leaves an empty file, half a file, or one key
of twenty.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from metricshub_apikey import ApiKeys
from metricshub_apikey.errors import DamagedError
from metricshub_apikey.keystore.keystore import Keystore
from mounts import memory, needs
from stock import Stock, StockError

KEY = "3f2b1c4d-8e5f-4a2b-bc15-0ba0f60b15f3"
SIMULTANEOUS = 20
SPACE = 8192


def stock_command(stock: Stock, *arguments: str | Path) -> list[str]:
    """Return the command line of one stock command in a JVM of its own."""
    return stock.command(*map(str, arguments))


def test_a_killed_stock_writer_leaves_an_empty_keystore(stock: Stock, keystore: Path) -> None:
    """SIGKILL at the write of the stock writer: every key, and the master key, are gone."""
    needs("strace")
    keystore.parent.mkdir()
    stock.ask("new", keystore)

    kill = ["strace", "-f", "-qq", "-o", os.devnull, "-P", str(keystore)]
    inject = ["-e", "trace=write", "-e", "inject=write:signal=KILL:when=1"]
    create = stock_command(stock, "create", keystore, "a", KEY)
    subprocess.run([*kill, *inject, *create], check=False)

    assert keystore.stat().st_size == 0
    with pytest.raises(DamagedError):
        Keystore(keystore).read()


def test_a_stock_writer_on_a_full_disk_leaves_a_broken_keystore(
    stock: Stock, tmp_path: Path
) -> None:
    """Where the new content does not fit, the old one is gone as well."""
    with memory(tmp_path / "full", f"size={SPACE}") as full:
        keystore = full / "k.p12"
        stock.ask("new", keystore)
        with pytest.raises(StockError, match="No space left on device"):
            stock.ask("create", keystore, "large", "x" * SPACE)

        with pytest.raises(DamagedError):
            Keystore(keystore).read()


@pytest.mark.slow
def test_simultaneous_stock_writers_lose_keys(stock: Stock, keystore: Path) -> None:
    """Of twenty keys created at the same time by the stock writer, not all survive."""
    keystore.parent.mkdir()
    stock.ask("new", keystore)

    commands = [
        stock_command(stock, "create", keystore, f"key-{number}", KEY)
        for number in range(SIMULTANEOUS)
    ]
    writers = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in commands
    ]
    for writer in writers:
        writer.wait()

    try:
        survived = len(ApiKeys(Keystore(keystore)).aliases())
    except DamagedError:
        survived = 0
    assert survived < SIMULTANEOUS
