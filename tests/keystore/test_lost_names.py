"""A keystore that a replacement left under its temporary name, as some file systems can."""

from __future__ import annotations

from pathlib import Path

import pytest

from metricshub_apikey import ApiKeys
from metricshub_apikey.errors import DamagedError, ReadFailedError
from metricshub_apikey.files import replacing, temporary
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.pkcs12.kdf import Passwords


@pytest.fixture
def lost(keystore: Path, registry: ApiKeys, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the temporary name under which a keystore with one key is."""
    registry.create("one")
    monkeypatch.setattr(replacing, "NAMES_CAN_BE_LOST", True)
    return keystore.rename(temporary.new_name(str(keystore), bytes))


def test_readers_say_where_it_is(keystore: Path, lost: Path) -> None:
    """It is not taken for an empty keystore."""
    with pytest.raises(ReadFailedError, match=rf"its content is in {lost}"):
        Keystore(keystore).read(patience=0)


def test_the_next_change_puts_it_back(keystore: Path, registry: ApiKeys, lost: Path) -> None:
    """Nothing is lost, and nothing is left beside it."""
    registry.create("two")
    assert [key.alias for key in registry.list()] == ["one", "two"]
    assert not lost.exists()
    assert temporary.names(str(keystore)) == []


def test_another_password_removes_nothing(keystore: Path, lost: Path) -> None:
    """A keystore that this password does not open is put back, not cleared away as a leftover."""
    content = lost.read_bytes()
    stranger = Keystore(keystore, Passwords("other", "other"))
    with pytest.raises(DamagedError, match="the password is wrong"):
        ApiKeys(stranger).create("two")
    assert keystore.read_bytes() == content


def test_half_a_file_is_no_keystore(keystore: Path, registry: ApiKeys, lost: Path) -> None:
    """What a writer had not finished is removed, and a new keystore is made."""
    lost.write_bytes(lost.read_bytes()[:100])
    registry.create("two")
    assert [key.alias for key in registry.list()] == ["two"]
    assert temporary.names(str(keystore)) == []
