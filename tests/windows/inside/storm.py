r"""
Three writers, a reader, and a program that holds the keystore open in each sharing mode in turn.

    python tests/windows/wine.py python tests/windows/inside/storm.py SECONDS

It runs as long as it is told to, and by hand: minutes prove more than the seconds of the tests. It
fails where a key is lost, a writer fails, or a reader fails, sees nothing, or sees fewer keys.
"""

from __future__ import annotations

import _winapi
import itertools
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from metricshub_apikey import ApiKeys
from metricshub_apikey.keystore.keystore import Keystore

assert sys.platform == "win32"

GENERIC_READ, OPEN_EXISTING = 0x80000000, 3
WRITE = """
import sys, time
from metricshub_apikey import ApiKeys
from metricshub_apikey.keystore.keystore import Keystore
registry, made = ApiKeys(Keystore(sys.argv[1], lock_timeout=120)), 0
until = time.monotonic() + float(sys.argv[3])
while time.monotonic() < until:
    alias = f"{sys.argv[2]}-{made}"
    registry.create(alias)
    made += 1
    if made % 40 == 0:
        for number in range(made - 40, made - 1):
            registry.revoke(f"{sys.argv[2]}-{number}")
print(made, made - 39 * (made // 40))
"""


class Holder(threading.Thread):
    """Another program that has the file open for a moment, in one sharing mode after the other."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.done = path, threading.Event()
        self.held = [0] * 8

    def run(self) -> None:
        """Hold it for 0.3 s of each half second."""
        for sharing in itertools.cycle(range(8)):
            if self.done.wait(0.2):
                return
            try:
                handle = _winapi.CreateFile(
                    str(self.path), GENERIC_READ, sharing, 0, OPEN_EXISTING, 0, 0
                )
            except OSError:  # the writers and the reader do not share it with that mode now
                continue
            self.held[sharing] += 1
            time.sleep(0.3)
            _winapi.CloseHandle(handle)


def main(seconds: float) -> None:
    """Run the storm and print what happened in it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.p12"
        ApiKeys(Keystore(path)).create("first")
        command = [sys.executable, "-c", WRITE, str(path)]
        writers = [
            subprocess.Popen([*command, name, str(seconds)], stdout=subprocess.PIPE)
            for name in "abc"
        ]
        holder = Holder(path)
        holder.start()
        reads = 0
        while any(writer.poll() is None for writer in writers):
            aliases = [key.alias for key in ApiKeys(Keystore(path)).list()]
            assert "first" in aliases
            reads += 1
        holder.done.set()
        holder.join()
        made, expected = 1, 1
        for writer in writers:
            out, _ = writer.communicate()
            assert writer.returncode == 0
            ours, kept = map(int, out.split())
            made, expected = made + ours, expected + kept
        found = len(ApiKeys(Keystore(path)).list())
        print(f"{made} keys made, {found} of {expected} left, {reads} reads")
        print(f"held {holder.held} times in each sharing mode")
        assert found == expected


if __name__ == "__main__":
    main(float(sys.argv[1]))
