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
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from metricshub_apikey.keys import entries
from metricshub_apikey.keys.expiry import Moment
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.keystore.keystore import STOCK_PASSWORDS, Keystore
from metricshub_apikey.pkcs12.store import Store
from metricshub_apikey.policy.rules import Policy
from metricshub_apikey.registry.issuing import Issuer

TESTS = Path(__file__).resolve().parent.parent / "tests"
CREATED_MS = 1_750_000_000_000
TREE_SIZE = 10_000
"""Bytes of text for each key: 100 MB for 10,000."""

SENTENCE = "for each request the server loads the file and decrypts its entries one by one;"


def write_keys(path: Path, count: int, start: bytes = b"") -> None:
    """Write *count* keys of ours, behind what the keystore *start* holds."""
    store = Store.parse(start, STOCK_PASSWORDS) if start else Store.empty(STOCK_PASSWORDS)
    for number in range(1, count + 1):
        value = str(uuid4()).encode()
        entry = f"api_key:key-{number}"
        store.add(entry, value, created_ms=CREATED_MS + number, random_bytes=os.urandom)
    path.parent.mkdir()
    path.write_bytes(store.serialise(os.urandom))


def write_managed(directory: Path, count: int) -> None:
    """Write keys with metadata, a list of the same keys for `apply`, and one that edits half."""
    issuer = Issuer(Moment(datetime.now(UTC), UTC), Policy(), "admin@host", os.urandom)
    roles, labels = ("metrics-writer", "read-only"), (("env", "production"), ("team", "ops"))
    directory.mkdir()
    described = Metadata(roles=roles, description="the nightly pipeline", labels=labels)

    def add(store: Store) -> None:
        for number in range(1, count + 1):
            expires_on = datetime(2099, 1, 1) + number * timedelta(days=1)
            key = issuer.new_key(f"key-{number}", expires_on, described)
            store.adopt(entries.new_bag(store, key, os.urandom))

    Keystore(directory / "keys.p12").update(add, create=True)
    item = "- {{alias: key-{0}, roles: [{1}], labels: {{env: production, team: ops}}}}\n"
    for name, changed in (("same", "metrics-writer, read-only"), ("edited", "read-only")):
        lines = (
            item.format(n, changed if n % 2 else "metrics-writer, read-only")
            for n in range(1, count + 1)
        )
        (directory / f"{name}.yaml").write_text("".join(lines))
    new = (f"- {{alias: new-{number}, expires_in: 90d}}\n" for number in range(1, count + 1))
    (directory / "new.yaml").write_text("".join(new))


def write_tree(directory: Path, size: int) -> None:
    """Write some *size* bytes of text, a third of it full of UUIDs that are no keys."""
    words = [
        "for",
        "each",
        "request",
        "the",
        "server",
        "loads",
        "the",
        "file",
        "and",
        "decrypts",
        "its",
        "entries;",
    ]
    code = "\n".join(" ".join(words[n % 7 :] + words) for n in range(130)).encode()
    log = "\n".join(f"2027-01-01T00:00:00Z INFO {uuid4()} done" for _ in range(160)).encode()
    for number in range(size // len(code)):
        folder = directory / f"{number % 100}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.txt").write_bytes(log if number % 3 == 0 else code)


def main(directory: Path, count: int) -> None:
    """Write the keystores, one directory each, and print the stock command as a JSON list."""
    sys.path.append(str(TESTS / "support"))
    from stock import compile_stock, java_command

    stock = java_command(compile_stock(directory / "classes"), "")[:-1]
    write_keys(directory / "two" / "keys.p12", 2)
    write_keys(directory / "many" / "keys.p12", count)
    shutil.copytree(directory / "many", directory / "many-java")
    write_managed(directory / "managed", count)
    shutil.copytree(directory / "managed", directory / "applied")
    write_tree(directory / "tree", TREE_SIZE * count)
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
