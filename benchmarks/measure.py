"""
Run whole processes side by side, and measure each when it has ended.

CPU time and peak memory are what the operating system says of the ended process (`os.wait4`). On
Linux the peak of a new process begins with that of the one that started it, so whoever imports
this module must stay small: only the standard library, and little of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Program(NamedTuple):
    """A command line and its environment."""

    command: Sequence[str]
    environment: Mapping[str, str]


class Sample(NamedTuple):
    """One run of a program: seconds, bytes, and how many lines it printed."""

    wall: float
    cpu: float
    peak: int
    lines: int


class FailedError(Exception):
    """A program that is measured did not succeed."""


def run(program: Program) -> Sample:
    """
    Run *program* to its end.

    Raises:
        FailedError: It ended with another exit code than 0.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            program.command,
            env=program.environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            err.seek(0)
            raise FailedError(f"{list(program.command)}: {err.read().decode(errors='replace')}")
        out.seek(0)
        lines = sum(1 for _ in out)
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * MAXRSS_UNIT, lines)


def side_by_side(programs: Sequence[Program], runs: int) -> list[list[Sample]]:
    """Run all programs once, then all again, and so on; return the samples of each program."""
    rounds = [[run(program) for program in programs] for _ in range(runs)]
    return [list(samples) for samples in zip(*rounds, strict=True)]
