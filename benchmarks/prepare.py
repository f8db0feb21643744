"""
Make what the benchmarks work on, and print the command line that starts the stock side.

    python prepare.py DIRECTORY COUNT

A process of its own: what it imports must not weigh on the processes that are measured (see
`measure`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

from metricshub_apikey.keystore import STOCK_PASSWORDS
from metricshub_apikey.pkcs12.store import Store

TESTS = Path(__file__).resolve().parent.parent / "tests"
CREATED_MS = 1_750_000_000_000


def write_keys(path: Path, count: int, start: bytes = b"") -> None:
    """Write *count* keys of ours, behind what the keystore *start* holds."""
    store = Store.parse(start, STOCK_PASSWORDS) if start else Store.empty(STOCK_PASSWORDS)
    for number in range(1, count + 1):
        value = str(uuid4()).encode()
        entry = f"api_key:key-{number}"
        store.add(entry, value, created_ms=CREATED_MS + number, random_bytes=os.urandom)
    path.parent.mkdir()
    path.write_bytes(store.serialise(os.urandom))


def main(directory: Path, count: int) -> None:
    """Write the keystores, one directory each, and print the stock command as a JSON list."""
    sys.path.append(str(TESTS))
    from stock import compile_stock, java_command

    stock = java_command(compile_stock(directory / "classes"), "")[:-1]
    write_keys(directory / "two" / "keys.p12", 2)
    write_keys(directory / "many" / "keys.p12", count)
    shutil.copytree(directory / "many", directory / "many-java")
    old = (TESTS / "vectors" / "legacy-2021.p12").read_bytes()
    write_keys(directory / "old" / "keys.p12", 1, start=old)
    foreign = directory / "foreign"
    foreign.mkdir()
    # Long work: Java is quicker with its best compiler, which `java_command` turns off.
    java = [stock[0], "-XX:+UseSerialGC", *stock[stock.index("-cp") :]]
    many = [*java, "create-many", str(foreign / "keys.p12"), str(count), "key-"]
    subprocess.run(many, check=True, stdout=subprocess.DEVNULL)
    print(json.dumps(stock))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
