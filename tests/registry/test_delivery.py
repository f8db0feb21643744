"""The file for a new key, and the promise that its user gets it or is told."""

from __future__ import annotations

import errno
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from clock import at
from metricshub_apikey.cli.delivery import NewKey, hand_out, promise, reserve
from metricshub_apikey.cli.interrupts import Interrupted
from metricshub_apikey.cli.output import Form, Output
from metricshub_apikey.errors import KeyExistsError, NotDeliveredError, OutputError
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.secret import Secret

KEY = ApiKey("ci", Secret("eb47c2be-927f-495f-aa97-0ba0f60b8986"), None, None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of a key file that is not there yet."""
    return tmp_path / "key"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_the_key_is_in_a_private_file(file: Path, umask: int) -> None:
    """The file holds the key and a newline, and has mode 0600 whatever the umask."""
    old = os.umask(umask)
    try:
        with reserve(str(file)) as made:
            assert made is not None
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            made.write(KEY.secret.reveal() or "")
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == f"{KEY.secret.reveal()}\n"


def test_no_file_is_asked_for(tmp_path: Path) -> None:
    """Without a path nothing is made."""
    with reserve(None) as made:
        assert made is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_never_overwritten(file: Path) -> None:
    """A file that is there stays as it is."""
    file.write_text("precious")
    with pytest.raises(OutputError) as caught, reserve(str(file)):
        pytest.fail("it must not come to a key")
    assert caught.value.message == f"{file} exists already; it is not overwritten."
    assert file.read_text() == "precious"


def test_a_link_is_never_followed(file: Path, tmp_path: Path) -> None:
    """A link that somebody planted, even one that leads nowhere, is no new file."""
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="exists already"), reserve(str(file)):
        pytest.fail("it must not come to a key")
    assert [one.name for one in tmp_path.iterdir()] == ["key"]


def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    """The path and the operating system's reason are told."""
    path = str(tmp_path / "none" / "key")
    with pytest.raises(OutputError) as caught, reserve(path):
        pytest.fail("it must not come to a key")
    assert caught.value.message == f"{path} cannot be made: No such file or directory."


@pytest.mark.parametrize("error", [KeyExistsError("x"), Interrupted(2), OSError("disk")])
def test_without_a_key_the_file_goes_away(file: Path, error: BaseException) -> None:
    """Whatever stops the creation, no empty file is left."""
    with pytest.raises(type(error)), reserve(str(file)):
        raise error
    assert not file.exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OutputError("Standard output is closed."), "Standard output is closed."),
        (Interrupted(15), "The command was interrupted."),
    ],
)
def test_an_undelivered_key_is_told(error: BaseException, reason: str) -> None:
    """What comes between a new key and its user names the key and how to take it back."""
    with pytest.raises(NotDeliveredError) as caught, promise("ci"):
        raise error
    message = caught.value.message
    assert message.startswith("The API key with alias 'ci' was created but not delivered: ")
    assert reason in message
    assert caught.value.hint is not None
    assert caught.value.hint.endswith("apikey revoke -- ci")


def test_a_bug_is_not_disguised() -> None:
    """An error that nobody expects keeps its type."""
    with pytest.raises(ZeroDivisionError), promise("ci"):
        raise ZeroDivisionError


def test_a_kept_promise_says_nothing() -> None:
    """Where nothing goes wrong, nothing is raised."""
    with promise("ci"):
        pass


class Full(Output):
    """A standard output that takes nothing."""

    def write(self, content: str, end: str = "\n") -> None:
        """Fail, whatever there is to print."""
        del content, end
        raise OutputError("Standard output is full.")


def test_a_delivered_key_stays(file: Path) -> None:
    """Once the key is in its file, no failure to say so takes the file away."""
    out = Full(Form.TEXT, color=False)
    new = NewKey(
        KEY, alias="ci", file=str(file), keystore="k.p12", now=at(datetime(2027, 1, 1, tzinfo=UTC))
    )
    with pytest.raises(OutputError) as caught, reserve(str(file)) as made:
        hand_out(out, new, made)
    assert not isinstance(caught.value, NotDeliveredError)
    assert caught.value.message.startswith(f"The key is in {file}, but this could not be shown.")
    assert file.read_text() == f"{KEY.secret.reveal()}\n"
