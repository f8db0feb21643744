"""
Measure `list` and `create` in a Python for Windows under wine beside the Python that runs this.

    .venv.test/bin/python benchmarks/windows.py

Wine starts a process in another time than Windows does, and so does each machine: so a bare start
of the same Python is taken off, and what remains is compared. It writes windows.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
sys.path.append(str(PROJECT / "tests" / "windows"))

import wine  # noqa: E402

Rounds = dict[str, list[float]]


def here() -> Rounds:
    """Return the seconds on this system."""
    command = [sys.executable, str(HERE / "starts.py")]
    environment = {"PYTHONPATH": str(PROJECT / "src"), "PATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    return dict(json.loads(done.stdout))


def there() -> Rounds:
    """Return the seconds under wine."""
    windows = wine.cached()
    environment = {"PYTHONPATH": wine.windows_path(PROJECT / "src")}
    done = windows.run(windows.python, HERE / "starts.py", env=environment)
    return dict(json.loads(done.stdout))


def net(rounds: Rounds, name: str) -> float:
    """Return the median of what a command takes beyond the bare start of its round."""
    pairs = zip(rounds[name], rounds["bare"], strict=True)
    return median(whole - bare for whole, bare in pairs)


def main() -> None:
    """Measure, print and write the table."""
    ours, theirs = here(), there()
    bare = [median(one["bare"]) * 1000 for one in (ours, theirs)]
    lines = [
        "# Windows beside Linux",
        "",
        "Made by `benchmarks/windows.py`, under wine: medians, in milliseconds.",
        "",
        "| | Linux | Windows (wine) | ratio |",
        "| --- | --- | --- | --- |",
        f"| `python -c pass` | {bare[0]:.0f} | {bare[1]:.0f} | {bare[1] / bare[0]:.1f} |",
    ]
    for name in ("list", "create"):
        linux, windows = (net(one, name) * 1000 for one in (ours, theirs))
        ratio = f"{windows / linux:.1f}"
        lines.append(f"| `{name}`, beyond that | {linux:.0f} | {windows:.0f} | {ratio} |")
    text = "\n".join([*lines, ""])
    (HERE / "windows.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
