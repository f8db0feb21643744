"""
File systems of a test's own: in memory, in an image, or a second view of what is there.

Each is mounted for the length of a `with` block and unmounted whatever happens in it. The power of
one in an image can be cut: the kernel then forgets what has not reached the image.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from conftest import missing

if sys.platform != "win32":
    import fcntl

SHUTDOWN = 0x8004587D
"""`EXT4_IOC_SHUTDOWN`, that is `_IOR('X', 125, __u32)`; `XFS_IOC_GOINGDOWN` is the same."""

NO_LOG_FLUSH = (2).to_bytes(4, "little")
"""Stop at once; do not even write what is in the journal's buffers."""

MEGABYTES = {"ext4": 8, "xfs": 300}
"""The size of an image, most of it holes; xfs takes no smaller one."""


def needs(*tools: str) -> None:
    """Go on only where these programs are; on CI all of them are."""
    for tool in tools:
        if shutil.which(tool) is None:
            missing(f"needs {tool}")


def needs_root() -> None:
    """Go on only as root."""
    if os.geteuid():
        missing("needs root")


def _command(*arguments: str | Path) -> str:
    """Run a program that must succeed; return what it complained of, else nothing."""
    done = subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=60)
    return done.stderr.strip() or str(done.returncode) if done.returncode else ""


def _mount(at: Path, *arguments: str | Path) -> None:
    needs_root()
    needs("mount", "umount")
    if problem := _command("mount", *arguments, at):
        missing(f"cannot mount here: {problem}")


def _unmount(at: Path) -> None:
    if problem := _command("umount", at):
        _command("umount", "--lazy", at)
        raise AssertionError(problem)


@contextmanager
def mounted(at: Path, *arguments: str | Path) -> Iterator[Path]:
    """Mount something at *at*, with these arguments of `mount`, until the block ends."""
    _mount(at, *arguments)
    try:
        yield at
    finally:
        _unmount(at)


@contextmanager
def memory(at: Path, options: str) -> Iterator[Path]:
    """Mount a tmpfs at the new directory *at*."""
    at.mkdir()
    with mounted(at, "-t", "tmpfs", "-o", options, "tmpfs"):
        yield at


class Disk:
    """
    A file system in an image, mounted while a `with` block lasts.

    Attributes:
        root: Where it is mounted; every user may enter.
    """

    def __init__(
        self, folder: Path, kind: str, *, make: tuple[str, ...] = (), options: str = "rw"
    ) -> None:
        """
        Make the image.

        Args:
            folder: Where image and mount point are made.
            kind: `ext4` or `xfs`.
            make: Further arguments for `mkfs`.
            options: How it is mounted.
        """
        needs_root()
        needs(f"mkfs.{kind}")
        self.root = folder / kind
        self._image = folder / f"{kind}.image"
        self._options = f"loop,{options}"
        self.root.mkdir()
        with self._image.open("wb") as image:
            image.truncate(MEGABYTES[kind] << 20)
        problem = _command(f"mkfs.{kind}", "-q", *make, self._image)
        assert not problem, problem

    def __enter__(self) -> Self:
        """Mount it."""
        self._mount()
        self.root.chmod(0o755)
        return self

    def _mount(self) -> None:
        _mount(self.root, "-o", self._options, self._image)

    def __exit__(self, *error: object) -> None:
        """Unmount it, if a failure has not done so."""
        if os.path.ismount(self.root):
            _unmount(self.root)

    def cut_power(self) -> None:
        """Lose what is not on the disk, and start again."""
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, NO_LOG_FLUSH)
        finally:
            os.close(descriptor)
        deadline = time.monotonic() + 20
        _unmount(self.root)
        self._mount()
        # Another test's mount namespace may hold the file system that has lost its power.
        while self._is_down() and time.monotonic() < deadline:
            _unmount(self.root)
            time.sleep(0.05)
            self._mount()

    def _is_down(self) -> bool:
        probe = self.root / "probe"
        try:
            probe.touch()
            probe.unlink()
        except OSError as error:
            return error.errno == errno.EIO
        return False

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Let nobody write for a while."""
        problem = _command("mount", "-o", "remount,ro", self.root)
        assert not problem, problem
        try:
            yield
        finally:
            _command("mount", "-o", "remount,rw", self.root)

    @contextmanager
    def immutable(self, path: Path) -> Iterator[None]:
        """Make *path* immutable for a while."""
        needs("chattr")
        problem = _command("chattr", "+i", path)
        assert not problem, problem
        try:
            yield
        finally:
            _command("chattr", "-i", path)


def sync(path: Path) -> None:
    """Force a file, or a directory's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fill(filler: Path, blocks: int) -> None:
    """Make *filler* so large that *blocks* are left, or one less: it may need some for itself."""
    with filler.open("wb") as file:
        size, step = 0, 1 << 30
        while step:
            status = os.statvfs(filler)
            step = min(step, status.f_bavail - blocks)
            if step <= 0:
                break
            try:
                os.posix_fallocate(file.fileno(), size, step * status.f_bsize)
                size += step * status.f_bsize
            except OSError:
                step //= 2


@contextmanager
def full(directory: Path, *, blocks: int | None = None, inodes: int | None = None) -> Iterator[int]:
    """
    Leave only so many *blocks*, or *inodes*, free in the file system of *directory* for a while.

    Yields how many are really free.
    """
    filler = directory / "filler"
    filler.mkdir()
    try:
        if blocks is not None:
            _fill(filler / "blocks", blocks)
        if inodes is not None:
            for number in range(os.statvfs(directory).f_favail - inodes):
                (filler / str(number)).touch()
        status = os.statvfs(directory)
        yield status.f_bavail if inodes is None else status.f_favail
    finally:
        shutil.rmtree(filler)
