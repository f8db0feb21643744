"""The examples in README.md, run as they stand there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
README = (PROJECT / "README.md").read_text(encoding="utf-8")

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
MASK = re.compile(r"\*{20}[0-9a-f]{4}")


def blocks(language: str) -> list[str]:
    """Return the fenced blocks in *language*."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def examples() -> list[tuple[str, str]]:
    """Return each command line of the console blocks, and what the README says it prints."""
    found = []
    for block in blocks("console"):
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = example.partition("\n")
            found.append((command, printed.strip()))
    return found


def normalised(printed: str) -> str:
    """Return *printed* with what differs from run to run replaced."""
    return MASK.sub("MASK", UUID.sub("KEY", printed)).strip()


@pytest.fixture
def shell_environment(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Return an environment in which `apikey` is the command under test."""
    shim = tmp_path / "shims" / "apikey"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m metricshub_apikey "$@"\n')
    shim.chmod(0o755)
    environment["PATH"] = f"{shim.parent}:{environment['PATH']}"
    return environment


def test_every_console_example_prints_what_the_readme_says(
    shell_environment: dict[str, str], tmp_path: Path, keystore: Path
) -> None:
    """Run in order, the examples print what stands under them, but for the random keys."""
    for command, expected in examples():
        if command.startswith("./bin/"):
            continue
        done = subprocess.run(
            ["sh", "-c", command],
            env=shell_environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        shown = done.stdout.replace(str(keystore), "/home/you/metricshub-keystore.p12")
        shown = "\n".join(line for line in shown.splitlines() if not line.startswith("Warning"))
        assert normalised(shown) == normalised(expected), command


def test_the_first_command_starts_the_tool_from_the_clone(environment: dict[str, str]) -> None:
    """The README opens with a command that works with nothing set up before."""
    command, expected = examples()[0]
    assert command.startswith("./bin/apikey create ")

    done = subprocess.run(
        ["sh", "-c", command],
        env=environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert normalised(done.stdout) == normalised(expected)


def test_the_second_command_is_what_ci_runs() -> None:
    """The README's test command is the very one that CI calls."""
    command = blocks("sh")[0].strip()

    assert command == "./bin/test"
    assert (PROJECT / ".ci" / "run").read_text().rstrip().endswith(f"exec {command}")


def test_the_python_example_runs(tmp_path: Path) -> None:
    """The library's example is a whole program."""
    (program,) = blocks("python")

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert done.stdout == "['from-python']\n"
