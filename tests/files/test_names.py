"""Names that Windows takes for something else."""

from __future__ import annotations

import pytest

from metricshub_apikey.files import names


@pytest.mark.parametrize(
    "name",
    ["con", "NUL", "aux.txt", "com1", "LPT9.key", "com¹", "conin$", "prn ", "nul .x", "nul.tar.gz"],
)
def test_devices(name: str) -> None:
    """A device is one in every folder, whatever the ending and the case of letters."""
    assert names.is_device(name)
    assert names.odd_on_windows(f"C:\\keys\\{name}") == "that is the name of a device"


@pytest.mark.parametrize("name", ["c", "console", "com", "com10", "nule", "xcon", "lpt", ".con"])
def test_ordinary_names(name: str) -> None:
    """What only looks like one is a file."""
    assert not names.is_device(name)
    assert names.odd_on_windows(f"..\\{name}") is None


@pytest.mark.parametrize(
    "path", ["a.", "a ", "ab:c", "C:a:b", "a?b", "a\tb", 'x\\a"b', "a|b", "<a>"]
)
def test_names_that_cannot_be(path: str) -> None:
    """Windows would drop the end, or write into a stream of another file."""
    assert names.odd_on_windows(path)


@pytest.mark.parametrize("path", ["C:a", "C:\\a\\b", "a", "..\\a", "\\\\host\\share\\a", "a/b.key"])
def test_paths_that_can_be(path: str) -> None:
    """Drives, shares and both slashes are in order."""
    assert names.odd_on_windows(path) is None
