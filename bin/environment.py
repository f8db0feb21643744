"""
Make a virtual environment with what the project needs, and print where it is.

    python -I environment.py [--tests] PLACE...

The first PLACE that can be written is used. Everything installed has the version that
constraints.txt names. An environment counts from the moment its stamp is there, a copy of the
pyproject.toml it was made from, written last; the next start removes what an interrupted one left.
The lock lets simultaneous first starts wait for each other.

The project itself is not installed: the environment refers to its src folder. That needs no build
tool to be downloaded, and an environment inside the project moves and is copied with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parent.parent
FILES = PROJECT / "pyproject.toml", PROJECT / "bin" / "constraints.txt"
LOCK = "apikey.lock"
STEPS = ("Downloading", "Using cached", "Installing", "Prepared", "Installed", "Bytecode")
"""How the lines of pip and uv begin that show how far they are."""


class MakingError(Exception):
    """What stops us, in one line for the user."""


def requirements(pyproject: bytes, *, tests: bool) -> list[str]:
    """Return the requirements in a pyproject.toml; for tests all extras and groups, too."""
    table = tomllib.loads(pyproject.decode())
    more = (table["project"]["optional-dependencies"], table["dependency-groups"]) if tests else ()
    lists = [table["project"]["dependencies"], *(one for named in more for one in named.values())]
    return [requirement for one in lists for requirement in one]


class Environment:
    """A virtual environment, there or to be made."""

    def __init__(self, place: str, *, tests: bool) -> None:
        """Read what it should hold; the time first, so that a later change is noticed."""
        self.place = Path(place).absolute()
        self.stamp, self.constraints = self.place / "apikey.stamp", self.place / "constraints.txt"
        self.python = self.place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.ours = self.place.resolve().is_relative_to(PROJECT)
        self.tests = tests
        self.time = max(file.stat().st_mtime_ns for file in FILES)
        self.texts = [file.read_bytes() for file in FILES]
        self.wanted = requirements(self.texts[0], tests=tests)

    def fits(self) -> bool:
        """Tell whether it is complete, was made by a user we trust, and holds what is wanted."""
        try:
            # Outside the project, another user's environment could hold anything.
            owner = self.place.stat().st_uid
            return (
                (self.ours or sys.platform == "win32" or owner == os.geteuid())
                and os.access(self.python, os.X_OK)
                and requirements(self.stamp.read_bytes(), tests=self.tests) == self.wanted
                and self.constraints.read_bytes() == self.texts[1]
            )
        except (OSError, ValueError, KeyError):
            return False

    def seal(self) -> None:
        """Write the stamp, in one step, with the time of what it stands for: see bin/apikey."""
        new = self.stamp.with_suffix(".new")
        new.write_bytes(self.texts[0])
        os.utime(new, ns=(self.time, self.time))
        new.replace(self.stamp)

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the lock; an OSError says that this place cannot be used."""
        self.place.mkdir(parents=True, exist_ok=True)
        path = self.place / LOCK
        # A developer's own .venv has no lock: hands off. (The second look is for a start that made
        # its lock between the first two.)
        if not path.exists() and any(self.place.iterdir()) and not path.exists():
            message = "something else is there"
            raise OSError(message)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            take(lock)
            yield lock
        finally:
            os.close(lock)

    def make(self, lock: int) -> None:
        """Make it anew; whatever goes wrong, no stamp is left."""
        why = "what is needed has changed" if self.stamp.exists() else "first use"
        say(f"{why}: making a virtual environment in {self.place} (once)")
        try:
            self.fill(lock)
            self.refer_to_source()
            self.seal()
        except BaseException:
            self.clear()
            raise

    def fill(self, lock: int) -> None:
        """Install with uv, in a fifth of the time, or with the pip that comes with Python."""
        packages = "--constraint", str(self.constraints), *self.wanted
        if uv := shutil.which("uv"):
            # Without its cache, where files have the modes of an earlier umask.
            options = "--no-cache", "--compile-bytecode", "--python", str(self.python)
            try:
                self.begin(lock, "--without-pip")
                return run(lock, "uv failed", uv, "pip", "install", *options, *packages)
            except MakingError as error:
                say(f"{error}; trying pip")
        self.begin(lock)
        pip = str(self.python), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input"
        return run(lock, "pip could not install what is needed", *pip, "install", *packages)

    def begin(self, lock: int, *options: str) -> None:
        """Make it empty."""
        self.clear()
        # The name without links: what python3 leads to may be another version tomorrow.
        python = os.path.realpath(sys.executable)
        run(lock, "venv failed", python, "-I", "-m", "venv", *options, str(self.place))
        self.constraints.write_bytes(self.texts[1])

    def refer_to_source(self) -> None:
        """Let it import the project from where it is."""
        bases = {"base": str(self.place), "platbase": str(self.place)}
        packages = Path(sysconfig.get_path("purelib", "venv", bases))
        source = str(PROJECT / "src")
        text = os.path.relpath(source, packages) if self.ours else source
        (packages / "metricshub_apikey.pth").write_bytes(os.fsencode(text) + b"\n")

    def clear(self) -> None:
        """Empty the place: the stamp goes first, the lock stays."""
        self.stamp.unlink(missing_ok=True)
        for path in self.place.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()


def try_to_take(lock: int) -> bool:
    """Take the lock if it is free; the operating system gives it back when its holders end."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def take(lock: int) -> None:
    """Wait for the lock."""
    if not try_to_take(lock):
        say("waiting for another start that makes the virtual environment")
        while not try_to_take(lock):
            time.sleep(0.1)


def run(lock: int, problem: str, *command: str) -> None:
    """Run *command* and show its progress, or fail with *problem* and the line that says why."""
    environ = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    lines = []
    with subprocess.Popen(  # noqa: S603
        command,
        cwd=PROJECT,  # where uv looks for settings: not in any folder that the user is in
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environ,
        # A pip that outlives us goes on writing, so it shares the lock.
        pass_fds=() if sys.platform == "win32" else (lock,),
        text=True,
        errors="replace",
    ) as process:
        for line in filter(None, map(str.strip, process.stdout or ())):
            lines.append(line)
            if line.startswith(STEPS):
                say(line)
    if process.returncode != 0:
        errors = [line for line in lines if line.lower().startswith("error")] or lines
        reason = errors[-1].removeprefix("ERROR: ") if errors else f"exit code {process.returncode}"
        message = f"{problem}: {reason}"
        raise MakingError(message)


def say(message: str) -> None:
    """Tell the user, on standard error: standard output belongs to the tool."""
    sys.stderr.write(f"apikey: {message}\n")
    sys.stderr.flush()


def provide(places: list[str], *, tests: bool) -> Path:
    """Return the place of a complete environment, made now if need be."""
    obstacles = []
    for place in places:
        environment = Environment(place, tests=tests)
        # The caller's umask must neither lock other users out of the project's environment nor
        # let them write to it; a user's own is for that user alone.
        os.umask(0o022 if environment.ours else 0o077)
        with contextlib.ExitStack() as stack:
            try:
                lock = stack.enter_context(environment.locked())
            except OSError as error:
                if environment.fits():  # ours to use, if not to change
                    return environment.place
                obstacles.append(f"{environment.place} ({error.strerror or error})")
                continue
            if environment.fits():  # made while we waited, or still asked for the same
                environment.seal()
            else:
                environment.make(lock)
            return environment.place
    message = "no virtual environment can be made in " + " or ".join(obstacles)
    raise MakingError(message)


def main() -> int:
    """Parse the command line, report failures."""
    tests = "--tests" in sys.argv
    try:
        place = provide([one for one in sys.argv[1:] if one != "--tests"], tests=tests)
    except KeyboardInterrupt:
        return 130
    except MakingError as failure:
        say(str(failure))
        return 1
    except OSError as error:
        say(f"the virtual environment could not be made: {error}")
        return 1
    sys.stdout.write(f"{place}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
