r"""
Transcripts: what a user types and sees, as a test.

    $ apikey create ci            a command, in the shell's quotes
    API key created for …         its standard output, line by line
    ! Note: …                     its standard error
    ? 1                           its exit code, where that is not 0

A line that begins with `#` says what the next lines show. `<key:NAME>` is a new key, which has
that name from then on; `<end:NAME>` are its last four characters. `<time>` is a date time.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import NamedTuple

UUID4 = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"
PLACEHOLDER = re.compile(r"<(key|end|time)(?::([a-z]+))?>")


class Step(NamedTuple):
    """A command, and everything that it does for its caller."""

    command: str
    stdout: str
    stderr: str
    code: int


def steps(path: Path) -> Iterator[Step]:
    """Yield the commands of a transcript in their order."""
    for block in re.split(r"(?m)^\$ ", path.read_text("utf-8"))[1:]:
        command, *shown = [line for line in block.splitlines() if line and line[0] != "#"]
        told = [line[2:] for line in shown if line.startswith("! ")]
        codes = [int(line[2:]) for line in shown if line.startswith("? ")]
        lines = [line for line in shown if line[:2] not in ("! ", "? ")]
        yield Step(command, _text(lines), _text(told), codes[0] if codes else 0)


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def replay(path: Path, run: Callable[..., CompletedProcess[str]]) -> None:
    """Run the commands of a transcript, and compare what they print with what is written."""
    keys: dict[str, str] = {}
    for step in steps(path):
        program, *arguments = shlex.split(step.command)
        assert program == "apikey"
        done = run(*arguments)
        assert done.returncode == step.code, (step.command, done)
        for expected, printed in ((step.stdout, done.stdout), (step.stderr, done.stderr)):
            found = re.fullmatch(_pattern(expected, keys), printed)
            assert found, f"$ {step.command}\nexpected:\n{expected}\nprinted:\n{printed}"
            keys.update(found.groupdict())


def _pattern(expected: str, keys: dict[str, str]) -> str:
    parts, end = [], 0
    for found in PLACEHOLDER.finditer(expected):
        parts.append(re.escape(expected[end : found.start()]))
        kind, name = found.groups()
        if kind == "time":
            parts.append(TIME)
        else:
            known = re.escape(keys[name][-4:]) if kind == "end" else f"(?P<{name}>{UUID4})"
            parts.append(known)
        end = found.end()
    return "".join([*parts, re.escape(expected[end:])])
