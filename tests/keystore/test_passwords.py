"""The password file: what is read, warned of and refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from metricshub_apikey.errors import PasswordError
from metricshub_apikey.keystore.keystore import STOCK_PASSWORDS
from metricshub_apikey.keystore.passwords import MAX_SIZE, read_passwords
from metricshub_apikey.pkcs12.kdf import Passwords


def write(folder: Path, content: bytes, mode: int = 0o600) -> str:
    """Write a password file and return its path."""
    file = folder / "password"
    file.write_bytes(content)
    file.chmod(mode)
    return str(file)


def read(file: str | None) -> Passwords:
    """Read *file*, for which there must be no warning."""
    return read_passwords(file, pytest.fail)


def test_no_file_means_the_published_passwords() -> None:
    """Nothing needs to be configured for MetricsHub's own keystore."""
    assert read(None) is STOCK_PASSWORDS


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"hunter2", "hunter2"),
        (b"hunter2\n", "hunter2"),
        (b"hunter2\r\n", "hunter2"),
        (b"hunter2\nsecond line\n", "hunter2"),
        (b" with spaces \n", " with spaces "),
        ("pässwörd\n".encode(), "pässwörd"),
        (b"x" * MAX_SIZE + b"\n", "x" * MAX_SIZE),
    ],
)
def test_the_first_line_is_the_password(tmp_path: Path, content: bytes, password: str) -> None:
    """The first line without its end, spaces included, opens store and entries."""
    assert read(write(tmp_path, content)) == Passwords(password, password)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "The first line of {} is not a password."),
        (b"\nsecond line\n", "The first line of {} is not a password."),
        (b"\r\n", "The first line of {} is not a password."),
        (b"a\0b\n", "The first line of {} is not a password."),
        (b"x" * (MAX_SIZE + 1) + b"\n", "The first line of {} is not a password."),
        (b"x" * (MAX_SIZE + 9), "The first line of {} is not a password."),
        (b"p\xe4ss\n", "The password in {} is not UTF-8."),
    ],
)
def test_what_is_no_password(tmp_path: Path, content: bytes, why: str) -> None:
    """An empty, binary or endless first line is refused without showing any of it."""
    file = write(tmp_path, content)
    with pytest.raises(PasswordError) as caught:
        read(file)
    assert caught.value.message == why.format(file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file and a directory are named with the operating system's reason."""
    with pytest.raises(PasswordError, match=r"/none cannot be read: No such file or directory\."):
        read(str(tmp_path / "none"))
    with pytest.raises(PasswordError, match=r" cannot be read: Is a directory\."):
        read(str(tmp_path))


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o666])
def test_a_world_readable_file_is_warned_of(tmp_path: Path, mode: int) -> None:
    """A password that everybody may read is used, with one warning."""
    file = write(tmp_path, b"hunter2", mode)
    warnings: list[str] = []
    assert read_passwords(file, warnings.append).store.reveal() == "hunter2"
    assert warnings == [f"{file} holds a password, and everybody may read it: chmod 600 it."]


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o620])
def test_a_private_file_is_not_warned_of(tmp_path: Path, mode: int) -> None:
    """A file for its owner, or for a group as secrets are mounted, is in order."""
    assert read(write(tmp_path, b"hunter2", mode)).entries.reveal() == "hunter2"


def test_passwords_do_not_show(tmp_path: Path) -> None:
    """The `repr` that a traceback or a debugger prints has no password in it."""
    shown = read(write(tmp_path, b"hunter2"))
    assert "hunter2" not in f"{shown} {shown!r} {shown.store!r}"
