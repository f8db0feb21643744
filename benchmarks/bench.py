"""The programs that are measured, the keystores they work on, and how much is done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from measure import Program, Sample
from report import Row, at_most

HERE = Path(__file__).resolve().parent
LAUNCHER = HERE.parent / "bin" / "apikey"
PYTHON = HERE.parent / ".venv" / "bin" / "python"
START = "from metricshub_apikey.__main__ import main; main()"
MEGABYTE = 1_000_000


class Plan(NamedTuple):
    """How much to do."""

    keys: int
    short: int
    long: int
    derivations: int


FULL = Plan(keys=10_000, short=31, long=9, derivations=3)
QUICK = Plan(keys=1_000, short=11, long=5, derivations=3)


class Bench:
    """The programs, and the keystores they work on."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        """Make the keystores in *directory*, which takes Java minutes."""
        self.plan = plan
        self.directory = directory
        self.keys = f"{plan.keys:,} keys"
        prepare = [sys.executable, "-I", str(HERE / "prepare.py"), str(directory), str(plan.keys)]
        done = subprocess.run(prepare, stdout=subprocess.PIPE, check=True)
        self.stock: list[str] = json.loads(done.stdout)
        self._kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}

    def file(self, name: str) -> str:
        """Return the path of a keystore."""
        return str(self.directory / name / "keys.p12")

    def ours(self, name: str, *arguments: str) -> Program:
        """Return `apikey` on a keystore, started as the installed command starts it."""
        return self._program([str(PYTHON), "-I", "-c", START, *arguments], name)

    def launched(self, name: str, *arguments: str) -> Program:
        """Return `bin/apikey` on a keystore."""
        return self._program([str(LAUNCHER), *arguments], name)

    def floor(self) -> Program:
        """Return the program that does only what cannot be left out."""
        return self._program([str(PYTHON), "-I", str(HERE / "floor.py")], "two")

    def java(
        self, name: str, command: str, *arguments: str, options: Sequence[str] | None = ()
    ) -> Program:
        """Return the stock side on a keystore; with *options* None, Java gets none at all."""
        at = self.stock.index("-cp")
        start = self.stock[:1] if options is None else [*self.stock[:at], *options]
        line = [*start, *self.stock[at:], command, self.file(name), *arguments]
        return self._program(line, name)

    def _program(self, command: Sequence[str], name: str) -> Program:
        own = {"LANG": "C.UTF-8", "METRICSHUB_KEYSTORE": self.file(name)}
        return Program(command, {**self._kept, **own})


def walls(samples: Sequence[Sample]) -> list[float]:
    """Return the seconds on the clock."""
    return [sample.wall for sample in samples]


def cpus(samples: Sequence[Sample]) -> list[float]:
    """Return the seconds of CPU time."""
    return [sample.cpu for sample in samples]


def peak(command: str, samples: Sequence[Sample]) -> Row:
    """Return the row of the peak memory of ours."""
    values = [sample.peak / MEGABYTE for sample in samples]
    return Row(f"`{command}`: peak memory, MB", values, at_most(150))
