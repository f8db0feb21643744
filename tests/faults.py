"""
Breaking the real command at a chosen system call, with strace.

A run is traced once to learn which calls its write window makes: from opening the lock file to the
last one. Each call of it is then named by its kind and its number among the calls of that kind,
which is how `strace -e inject` finds it again. Nothing random may decide which calls are made, so
the hash seed is fixed and bytecode is there before the first run.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PROGRAM = "from metricshub_apikey.__main__ import main; main()"
COMMAND = [sys.executable, "-P", "-c", PROGRAM]

TRACED = (
    "openat,read,write,close,newfstatat,fstat,flock,getdents64,access,faccessat2,listxattr,"
    "flistxattr,getxattr,fgetxattr,setxattr,fsetxattr,fchown,fchmod,fsync,rename,unlink,mkdir,chmod"
)
LINE = re.compile(r"^\d+ +(?:\+\+\+|---|(\w+)\((.*))")


class Call(NamedTuple):
    """
    One system call of a run.

    Attributes:
        name: Its kind.
        number: Its number among the calls of that kind, from 1.
        arguments: As strace prints them, and the result.
    """

    name: str
    number: int
    arguments: str

    def __str__(self) -> str:
        """Name it in test reports; the arguments differ from run to run."""
        return f"{self.name}-{self.number}"


def run_traced(
    arguments: list[str], *, log: Path, environment: Mapping[str, str], inject: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command under strace, with a fault if *inject* names one, and log its calls."""
    strace = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={TRACED}"]
    if inject is None or ":signal=" not in inject:
        strace.append("--seccomp-bpf")  # quicker, but it delivers no signals
    if inject is not None:
        strace += ["-e", f"inject={inject}"]
    return subprocess.run(
        [*strace, *COMMAND, *arguments],
        env={**environment, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def read_log(log: Path) -> Iterator[Call]:
    """Yield the calls in a log of strace."""
    count: Counter[str] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        found = LINE.match(line)
        if found and found[1]:
            count[found[1]] += 1
            yield Call(found[1], count[found[1]], found[2])


def write_window(log: Path, directory: Path) -> list[Call]:
    """
    Return the calls from the first that touches the lock file to the last of the run.

    What Python does with files of its own, outside the keystore's *directory*, is left out.
    """
    calls = list(read_log(log))
    first = next(index for index, call in enumerate(calls) if ".lock" in call.arguments)
    ours = {"1", "2"}
    window = []
    for call in calls[first:]:
        subject = call.arguments.partition(",")[0].rstrip(")").split(")")[0]
        if str(directory) in call.arguments or subject in ours:
            window.append(call)
        if call.name == "openat" and str(directory) in call.arguments:
            ours.add(call.arguments.rpartition("= ")[2])
        if call.name == "close":
            ours.discard(subject)
    return window
