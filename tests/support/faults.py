"""
Breaking the real command at a chosen system call, with strace.

A run is traced once to learn which calls its write window makes: from opening the lock file to the
last one. What comes after the keystore's own calls, the record of who did what, is a window of its
own. Each call is then named by its kind and its number among the calls of that kind, which is how
`strace -e inject` finds it again. Nothing random may decide which calls are made, so the hash seed
is fixed and bytecode is there before the first run.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from metricshub_apikey.activity.database import FILE_NAME

PROGRAM = "from metricshub_apikey.__main__ import main; main()"
COMMAND = [sys.executable, "-P", "-c", PROGRAM]

TRACED = (
    "openat,read,write,close,newfstatat,fstat,flock,getdents64,access,faccessat2,listxattr,"
    "flistxattr,getxattr,fgetxattr,setxattr,fsetxattr,fchown,fchmod,fsync,rename,unlink,mkdir,chmod,"
    "pread64,pwrite64,fcntl,fdatasync,ftruncate,link,renameat2,lseek"
)
OUTPUT = {"1", "2"}
LINE = re.compile(r"^\d+ +(?:\+\+\+|---|(\w+)\((.*))")


RECORD = {FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"}
"""What the command may leave beside the keystore besides its lock: who did what."""

NOT_RECORDED = "Warning: This is done, but not in the log: "


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


def write_window(log: Path, *directories: Path) -> list[Call]:
    """
    Return the calls from the first that touches the lock file to the last of the run.

    What Python does with files of its own, outside the keystore's directory and the other
    *directories* that are written to, is left out, and so is the record of who did what.
    """
    calls = list(_window(log, directories))
    recorded = _of_record(calls)
    return [call for call in calls if call not in recorded]


def record_window(log: Path, directory: Path) -> list[Call]:
    """Return the calls that write down who did what, after the keystore in *directory*."""
    return _of_record(list(_window(log, (directory,))))


def folder_window(log: Path, directory: Path) -> list[Call]:
    """Return the calls that deal with files in *directory*, once there is a lock."""
    return [call for call in _window(log, (directory,)) if _subject(call) not in OUTPUT]


def _of_record(calls: list[Call]) -> list[Call]:
    """Return the calls from the first that names the record on, the command's output aside."""
    first = next(index for index, call in enumerate(calls) if FILE_NAME in call.arguments)
    return [call for call in calls[first:] if _subject(call) not in OUTPUT]


def _window(log: Path, directories: Sequence[Path]) -> Iterator[Call]:
    calls = list(read_log(log))
    first = next(index for index, call in enumerate(calls) if ".lock" in call.arguments)
    ours = set(OUTPUT)
    for call in calls[first:]:
        named = any(str(directory) in call.arguments for directory in directories)
        if named or _subject(call) in ours:
            yield call
        if call.name == "openat" and named:
            ours.add(call.arguments.rpartition("= ")[2])
        if call.name == "close":
            ours.discard(_subject(call))


def _subject(call: Call) -> str:
    """Return the first argument: in most calls a file descriptor."""
    return call.arguments.partition(",")[0].rstrip(")").split(")")[0]
