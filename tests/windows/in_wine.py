"""What runs on Windows: a genuine Python of python.org's, under wine."""

from __future__ import annotations

import pytest
import wine


@pytest.fixture(scope="session")
def windows() -> wine.Windows:
    """Return a Windows to run commands in, made on the first run on this machine."""
    if missing := wine.missing_tools():
        pytest.fail(f"Windows is tested with {', '.join(missing)}")
    return wine.cached()


@pytest.mark.parametrize("part", wine.PARTS)
def test_on_windows(windows: wine.Windows, part: str) -> None:
    """The tests of `inside`, and those of other folders that any system can run, pass there."""
    done = windows.run_tests(part)
    said = (done.stdout + done.stderr).decode(errors="replace")
    print(said)
    assert done.returncode == 0
    assert " passed" in said
