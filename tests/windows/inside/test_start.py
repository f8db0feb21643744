"""The start scripts of a clone, from cmd, with nothing set up before."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from places import PROJECT

PYTHON = Path(sys.base_prefix)
NEEDED = ("bin", "src", "tests/conftest.py", "tests/support", "tests/vectors", "pyproject.toml")
ANYWHERE = "tests/files/test_names.py", "tests/windows/anywhere.txt", "tests/windows/inside"


def cmd(
    script: Path, *arguments: str, env: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """
    Run a script as a user of cmd does; return its exit code and what it printed.

    `cmd /c` takes away the first and the last quotation mark where there are more than two.
    """
    kept = {k: v for k, v in os.environ.items() if k.upper() != "PATH" and k[:6] != "PYTHON"}
    path = f"{PYTHON};{os.environ['PATH']}"
    done = subprocess.run(
        f'cmd /s /c "{subprocess.list2cmdline([str(script), *arguments])}"',
        env={**kept, "PATH": path, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clone whose first start has been made, in a folder with a space in its name."""
    clone = tmp_path_factory.mktemp("my clones") / "metricshub-apikey"
    for name in (*NEEDED, *ANYWHERE):
        source, target = PROJECT / name, clone / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    code, out, err = cmd(clone / "bin" / "apikey.cmd", "--version")
    assert code == 0, err
    assert out.startswith("apikey ")
    assert "first use: making a virtual environment" in err
    return clone


def test_the_next_start_makes_nothing(clone: Path) -> None:
    """The environment is there; arguments and exit codes go through, and so do other letters."""
    start = clone / "bin" / "apikey.cmd"
    assert cmd(start, "create", "two words", "-q", "--description", "äöü")[2] == ""
    code, out, err = cmd(start, "list", "-o", "csv")
    assert (code, err) == (0, "")
    assert "two words" in out
    assert "äöü" in out
    assert cmd(start, "show", "nothing")[0] == 1
    assert cmd(start, "show")[0] == 2


def test_the_keystore_of_a_clone(clone: Path) -> None:
    """A clone has a keystore of its own, as on other systems."""
    code, out, _ = cmd(clone / "bin" / "apikey.cmd", "path")
    assert code == 0
    assert str(clone / "security" / "metricshub-keystore.p12") in out
    assert "the checkout apikey was started from" in out


def test_the_keystore_of_an_installation(clone: Path, tmp_path: Path) -> None:
    """A clone that stands in an installation uses the keystore of the installation."""
    installation = tmp_path / "MetricsHub"
    (installation / "app").mkdir(parents=True)
    inside = clone.rename(installation / "apikey")
    code, out, err = cmd(inside / "bin" / "apikey.cmd", "path", env={"ProgramData": str(tmp_path)})
    inside.rename(clone)
    assert (code, err) == (0, "")
    keystore = tmp_path / "MetricsHub" / "security" / "metricshub-keystore.p12"
    assert f"{keystore} (the program data folder of Windows)" in out


def test_without_python(clone: Path) -> None:
    """Where there is no Python, the script says what is needed."""
    venv = (clone / ".venv").rename(clone / "away")
    nowhere = {"PATH": f"{os.environ['SYSTEMROOT']}\\system32", "LOCALAPPDATA": str(clone)}
    code, _, err = cmd(clone / "bin" / "apikey.cmd", "path", env=nowhere)
    venv.rename(clone / ".venv")
    assert code == 1
    assert "Python 3.11 or newer is needed" in err


def test_the_tests_start(clone: Path) -> None:
    """With an environment that fits, `test.cmd` runs pytest and ends as it does."""
    venv = clone / ".venv.test"
    command = [sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", str(venv)]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    shutil.copy(clone / "pyproject.toml", venv / "apikey.stamp")
    shutil.copy(clone / "bin" / "constraints.txt", venv)
    (venv / "apikey.lock").touch()
    (venv / "Lib" / "site-packages" / "source.pth").write_text(str(clone / "src"))
    (clone / "tests" / "windows" / "anywhere.txt").write_text("tests/files/test_names.py\n")
    start = clone / "bin" / "test.cmd"
    code, out, err = cmd(start, "-k", "test_names")
    assert code == 0, out + err
    assert " passed" in out
    assert cmd(start, "--no-such-option")[0] == 4
