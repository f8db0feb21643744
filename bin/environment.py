"""
Make a virtual environment with what the project needs, and print where it is.

    python -I environment.py [--group NAME] PLACE...

The first PLACE that can be written is used. An environment counts from the moment its stamp is
there, a copy of the pyproject.toml it was made from, written last; the next start removes what an
interrupted one left. The lock lets simultaneous first starts wait for each other.

The project itself is not installed: the environment refers to its src folder. That needs no build
tool to be downloaded, and an environment inside the project moves and is copied with it.
"""

from __future__ import annotations

import argparse
import compileall
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

if sys.platform == "win32":
    import msvcrt

    def try_lock(lock: int) -> None:
        """Take the lock, or raise what BUSY says."""
        msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)

    BUSY = PermissionError
else:
    import fcntl

    def try_lock(lock: int) -> None:
        """Take the lock, or raise what BUSY says."""
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    BUSY = BlockingIOError

PROJECT = Path(__file__).resolve().parent.parent
STAMP = "apikey.stamp"
LOCK = "apikey.lock"


class MakingError(Exception):
    """What stops us, in one line for the user."""


class Wanted:
    """What pyproject.toml asks for."""

    def __init__(self, groups: list[str]) -> None:
        """Read pyproject.toml; its time first, so a change in between is noticed later."""
        path = PROJECT / "pyproject.toml"
        self.time = path.stat().st_mtime
        self.text = path.read_bytes()
        self.groups = groups
        self.requirements = self.requirements_of(self.text)

    def requirements_of(self, text: bytes) -> list[str]:
        """Return the requirements of a pyproject.toml, those of our groups included."""
        table = tomllib.loads(text.decode())
        wanted = list(table["project"]["dependencies"])
        for group in self.groups:
            wanted += table["dependency-groups"][group]
        return wanted


class Environment:
    """A virtual environment, there or to be made."""

    def __init__(self, place: str) -> None:
        """Refer to the environment at *place*."""
        self.place = Path(place).absolute()
        self.stamp = self.place / STAMP
        self.ours = self.place.resolve().is_relative_to(PROJECT)
        self.python = self.place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def fits(self, wanted: Wanted) -> bool:
        """Tell whether it is complete, was made by someone we trust, and holds what is wanted."""
        try:
            # Outside the project, another user's environment could hold anything.
            trusted = self.ours or sys.platform == "win32" or self.owner() == os.geteuid()
            made_from = self.stamp.read_bytes()
            return (
                trusted
                and os.access(self.python, os.X_OK)
                and wanted.requirements_of(made_from) == wanted.requirements
            )
        except (OSError, ValueError, KeyError):
            return False

    def owner(self) -> int:
        """Return the user id of the owner."""
        return self.place.stat().st_uid

    def seal(self, wanted: Wanted) -> None:
        """Write the stamp, in one step."""
        new = self.place / (STAMP + ".new")
        new.write_bytes(wanted.text)
        # The launcher compares times. An update may well bring a pyproject.toml older than today,
        # so the stamp gets the time of the present one, plus what coarse file systems round off.
        time_of_stamp = int(wanted.time) + 2
        os.utime(new, (time_of_stamp, time_of_stamp))
        new.replace(self.stamp)

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the lock; an OSError says that this place cannot be used."""
        self.place.parent.mkdir(parents=True, exist_ok=True)
        self.place.mkdir(exist_ok=True)
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

    def make(self, wanted: Wanted, lock: int) -> None:
        """Make it anew; whatever goes wrong, no stamp is left."""
        why = "pyproject.toml or Python changed" if self.stamp.exists() else "first use"
        say(f"{why}: making a virtual environment in {self.place} (once)")
        self.clear()
        try:
            # The name without links: what python3 leads to may be another version tomorrow.
            python = os.path.realpath(sys.executable)
            run(lock, "venv failed", python, "-I", "-m", "venv", str(self.place))
            pip = (str(self.python), "-I", "-m", "pip", "--quiet", "--disable-pip-version-check")
            install = (*pip, "install", "--no-input", "--prefer-binary", *wanted.requirements)
            run(lock, "pip could not install what is needed", *install)
            self.refer_to_source()
            self.seal(wanted)
        except BaseException:
            self.clear()
            raise

    def refer_to_source(self) -> None:
        """Let the environment import the project from where it is."""
        bases = {"base": str(self.place), "platbase": str(self.place)}
        packages = Path(sysconfig.get_path("purelib", "venv", bases))
        source = str(PROJECT / "src")
        if self.ours:
            # Users who may not write there would otherwise compile at each start.
            compileall.compile_dir(source, quiet=2)
            source = os.path.relpath(source, packages)
        (packages / "metricshub_apikey.pth").write_bytes(os.fsencode(source) + b"\n")
        # Comes with Python 3.11's venv, is not needed, and costs 2 ms at each start.
        (packages / "distutils-precedence.pth").unlink(missing_ok=True)

    def clear(self) -> None:
        """Empty the place: the stamp goes first, the lock stays."""
        self.stamp.unlink(missing_ok=True)
        for path in self.place.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()


def take(lock: int) -> None:
    """Wait for the lock; the operating system gives it back when its holders end."""
    waiting = False
    while True:
        try:
            try_lock(lock)
        except BUSY:
            if not waiting:
                say("waiting for another start that makes the virtual environment")
            waiting = True
            time.sleep(0.1)
        else:
            return


def run(lock: int, problem: str, *command: str) -> None:
    """Run *command*, or fail with *problem* and the last line that says what is wrong."""
    done = subprocess.run(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={name: text for name, text in os.environ.items() if not name.startswith("PYTHON")},
        # A pip that outlives us goes on writing, so it shares the lock.
        pass_fds=() if sys.platform == "win32" else (lock,),
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith("error")] or lines
        reason = errors[-1].removeprefix("ERROR: ") if errors else f"exit code {done.returncode}"
        message = f"{problem}: {reason}"
        raise MakingError(message)


def say(message: str) -> None:
    """Tell the user, on standard error: standard output belongs to the tool."""
    sys.stderr.write(f"apikey: {message}\n")
    sys.stderr.flush()


def provide(places: list[str], groups: list[str]) -> Path:
    """Return the place of a complete environment, made now if need be."""
    wanted = Wanted(groups)
    obstacles = []
    for environment in map(Environment, places):
        # The caller's umask must neither lock other users out of the project's environment nor
        # let them write to it; a user's own is nobody else's business.
        os.umask(0o022 if environment.ours else 0o077)
        with contextlib.ExitStack() as stack:
            try:
                lock = stack.enter_context(environment.locked())
            except OSError as error:
                if environment.fits(wanted):  # ours to use, if not to change
                    return environment.place
                obstacles.append(f"{environment.place} ({error.strerror or error})")
                continue
            if environment.fits(wanted):  # made while we waited, or still asked for the same
                environment.seal(wanted)
            else:
                environment.make(wanted, lock)
            return environment.place
    message = "no virtual environment can be made in " + " or ".join(obstacles)
    raise MakingError(message)


def main() -> int:
    """Parse the command line, report failures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--group", action="append", default=[])
    parser.add_argument("places", nargs="+", metavar="PLACE")
    arguments = parser.parse_args()
    try:
        place = provide(arguments.places, arguments.group)
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
