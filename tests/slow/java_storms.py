"""
Hundreds of rounds beside a stock-like Java writer, on each file system: `bin/test-slow`.

The window between our comparison and our exchange is widened, so that the two meet in it often.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import mounts
from java_storm import JavaStorm, no_lease
from metricshub_apikey.files.lease import Lease
from stock import Stock

ROUNDS = 250
FALLBACK_ROUNDS = 100
WIDENED = 0.005


def overlay(folder: Path) -> list[str | Path]:
    """Make the directories of an overlayfs, and return the arguments of its mount."""
    for name in ("lower", "upper", "work"):
        (folder / name).mkdir()
    parts = f"lowerdir={folder / 'lower'},upperdir={folder / 'upper'},workdir={folder / 'work'}"
    return ["-t", "overlay", "-o", parts, "overlay"]


@pytest.fixture
def root(request: pytest.FixtureRequest, public: Path) -> Iterator[Path]:
    """Mount the file system that the test asks for, and return where."""
    with ExitStack() as stack:
        if request.param == "tmpfs":
            yield stack.enter_context(mounts.memory(public / "tmpfs", "size=64m"))
        elif request.param == "overlayfs":
            with mounts.memory(public / "layers", "size=64m") as layers:
                (public / "overlay").mkdir()
                with mounts.mounted(public / "overlay", *overlay(layers)) as merged:
                    yield merged
        else:
            yield stack.enter_context(mounts.Disk(public, request.param)).root


EACH = pytest.mark.parametrize("root", ["ext4", "xfs", "tmpfs", "overlayfs"], indirect=True)


@EACH
def test_nothing_is_lost(stock: Stock, root: Path) -> None:
    """With lease and exchange no entry that either side finished is lost."""
    storm = JavaStorm(stock, root / "k.p12", rounds=ROUNDS, widened=WIDENED)
    storm.run()
    storm.check()


@EACH
def test_nothing_is_lost_without_a_lease(
    stock: Stock, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exchange, looked at twice, loses nothing either."""
    monkeypatch.setattr(Lease, "take", no_lease)
    storm = JavaStorm(stock, root / "k.p12", rounds=FALLBACK_ROUNDS, widened=WIDENED)
    storm.run()
    storm.check()
