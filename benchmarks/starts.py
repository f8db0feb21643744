"""Measure a bare Python, `list` and `create`, one after another, with the Python that runs this."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 15


def seconds(*arguments: str) -> float:
    """Return how long Python runs with these arguments."""
    started = time.perf_counter()
    command = [sys.executable, *arguments]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    return time.perf_counter() - started


def main() -> None:
    """Print the seconds of each round as JSON; the first round does not count."""
    found: dict[str, list[float]] = {"bare": [], "list": [], "create": []}
    with tempfile.TemporaryDirectory() as folder:
        apikey = ("-m", "metricshub_apikey", "--keystore", str(Path(folder) / "keys" / "store.p12"))
        seconds(*apikey, "create", "first")
        for number in range(ROUNDS + 1):
            found["bare"].append(seconds("-c", "pass"))
            found["list"].append(seconds(*apikey, "list"))
            found["create"].append(seconds(*apikey, "create", f"key-{number}"))
    json.dump({name: times[1:] for name, times in found.items()}, sys.stdout)


if __name__ == "__main__":
    main()
