"""The API keys of a keystore, through the library."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import metricshub_apikey.errors as wrong
from builders import put
from clock import HERE
from metricshub_apikey import ApiKeys
from metricshub_apikey.keys.api_key import ENTRY_PREFIX
from metricshub_apikey.keys.expiry import to_local
from metricshub_apikey.keystore.keystore import STOCK_PASSWORDS, Keystore
from metricshub_apikey.pkcs12.kdf import Passwords
from metricshub_apikey.pkcs12.store import Store
from metricshub_apikey.secret import UNREADABLE
from places import VECTORS
from stock import Stock

NOW = datetime(2030, 5, 6, 7, 8, 9, 123_456, tzinfo=UTC)


def put_foreign(keystore: Path, alias: str) -> None:
    """Put an entry there under another entry password."""
    store = Store.parse(keystore.read_bytes(), Passwords(STOCK_PASSWORDS.store.reveal(), "other"))
    store.add(ENTRY_PREFIX + alias, b"key", created_ms=0, random_bytes=os.urandom)
    keystore.write_bytes(store.serialise(os.urandom))


def counter() -> Callable[[int], bytes]:
    """Return a source of "random" bytes that always gives the same ones."""
    state = iter(range(1, 1000))
    return lambda count: bytes([next(state)]) * count


@pytest.fixture
def mixed(keystore: Path) -> Path:
    """Return a copy of a keystore that a JDK wrote, with a certificate and a private key."""
    keystore.parent.mkdir()
    shutil.copy(VECTORS / "jdk17.0.15-mixed.p12", keystore)
    return keystore


def pieces(keystore: Path) -> list[bytes]:
    """Return the bytes of every entry."""
    return Store.parse(keystore.read_bytes(), STOCK_PASSWORDS).pieces()


# create


def test_create_and_list(registry: ApiKeys) -> None:
    """A new key is returned once and then listed, in the order of creation."""
    made = (
        registry.create("first"),
        registry.create("Second", expires_on=datetime(9999, 12, 31, 23, 59, 59)),
        registry.create("a third"),
    )
    assert registry.list() == made
    assert [key.alias for key in made] == ["first", "second", "a third"]
    assert registry.aliases() == ("first", "second", "a third")
    assert len({key.secret.reveal() for key in made}) == 3


def test_nothing_is_there_at_first(registry: ApiKeys, tmp_path: Path) -> None:
    """Reading where there is no keystore finds nothing and makes nothing."""
    assert registry.list() == ()
    assert registry.aliases() == ()
    registry.require_free("x")
    with pytest.raises(wrong.KeyNotFoundError):
        registry.revoke("x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("alias", ["x", "X"])
def test_a_taken_alias(registry: ApiKeys, keystore: Path, alias: str) -> None:
    """An alias is taken whatever its case, and the message has it as typed."""
    registry.create("x")
    before = keystore.read_bytes()
    for refuse in (registry.create, registry.require_free):
        with pytest.raises(wrong.KeyExistsError) as caught:
            refuse(alias)
        assert caught.value.message == f"An API key with alias '{alias}' already exists."
        assert caught.value.hint == "Choose another alias, or revoke it first: apikey revoke -- x"
    assert keystore.read_bytes() == before


def test_a_bad_alias_changes_nothing(registry: ApiKeys, tmp_path: Path) -> None:
    """An alias that breaks a rule is refused before anything is made."""
    with pytest.raises(wrong.InvalidArgumentError):
        registry.create("a\nb")
    assert list(tmp_path.iterdir()) == []


def test_the_clock_and_the_randomness_are_arguments(tmp_path: Path) -> None:
    """With the same clock and the same random bytes, two keystores are the same file."""
    files = [tmp_path / "a" / "k.p12", tmp_path / "b" / "k.p12"]
    for file in files:
        source = Keystore(file, random_bytes=counter())
        key = ApiKeys(source, clock=lambda: NOW).create("x")
        assert key.secret.reveal() == "01010101-0101-4101-8101-010101010101"
        assert key.created_ms == 1_904_281_689_123
    assert files[0].read_bytes() == files[1].read_bytes()


def test_an_expiry_must_be_in_the_future(keystore: Path) -> None:
    """The present second is too late; the next one is not."""
    registry = ApiKeys(Keystore(keystore), clock=lambda: NOW)
    now = to_local(NOW, HERE)
    for late in (now, now - timedelta(seconds=1), datetime.min):
        with pytest.raises(wrong.ExpiryInPastError) as caught:
            registry.create("x", expires_on=late)
        assert caught.value.message == "Expiration date time must be in the future."
    assert not keystore.exists()
    assert registry.create("x", expires_on=now + timedelta(seconds=1)).expires_on is not None


def test_an_unconfirmed_key_is_not_handed_out(
    keystore: Path, no_more_files: Callable[[], None]
) -> None:
    """Where the disk does not confirm, the error says what to do with a key that nobody got."""
    registry = ApiKeys(Keystore(keystore, before_commit=no_more_files))
    with pytest.raises(wrong.NotConfirmedError, match="has not confirmed it") as caught:
        registry.create("x")
    assert "revoke 'x'" in (caught.value.hint or "")


# other entries


def test_other_entries_keep_their_bytes(mixed: Path) -> None:
    """Creating and revoking change no byte of the master key, the users and everything else."""
    before = pieces(mixed)
    registry = ApiKeys(Keystore(mixed))
    registry.create("new")
    assert [piece for piece in pieces(mixed) if piece in before] == before
    registry.revoke("new")
    assert pieces(mixed) == before
    registry.revoke("mcp-openai")
    assert len(set(before) - set(pieces(mixed))) == 1


def test_only_api_keys_are_api_keys(mixed: Path) -> None:
    """The master key, users, certificates and private keys are neither listed nor revoked."""
    registry = ApiKeys(Keystore(mixed))
    assert registry.aliases() == ("mcp-openai", "mcp-claude", "ünï-😀")
    for alias in ("masterkey", "user:admin", "server", "ca", ENTRY_PREFIX + "mcp-openai"):
        with pytest.raises(wrong.KeyNotFoundError):
            registry.revoke(alias)


def test_an_alias_may_look_like_an_entry(registry: ApiKeys) -> None:
    """The prefix belongs to the entry; an alias that begins like it is another one."""
    registry.create("x")
    registry.create("api_key:x")
    registry.revoke("api_key:x")
    assert registry.aliases() == ("x",)


# revoke


def test_revoke_is_all_or_nothing(registry: ApiKeys, keystore: Path) -> None:
    """Where one of the names is unknown, none is revoked."""
    registry.create("a")
    registry.create("b")
    before = keystore.read_bytes()
    with pytest.raises(wrong.KeyNotFoundError) as caught:
        registry.revoke("a", "Nobody", "b")
    assert caught.value.message == "No API key found with alias 'Nobody'."
    assert keystore.read_bytes() == before
    assert registry.revoke("b", "a") == (("b", "a"), ())
    assert registry.list() == ()


def test_a_name_twice_counts_once(registry: ApiKeys) -> None:
    """The same alias in any case is revoked once, under its first spelling."""
    registry.create("a")
    assert registry.revoke("A", "a", "A").aliases == ("A",)


def test_revoking_nothing_changes_nothing(registry: ApiKeys, keystore: Path) -> None:
    """Without a name the file stays as it is."""
    registry.create("a")
    before = keystore.read_bytes()
    assert registry.revoke() == ((), ())
    assert keystore.read_bytes() == before


def test_a_revoked_alias_is_free(registry: ApiKeys) -> None:
    """The alias can be used again at once, for another key."""
    first = registry.create("a")
    registry.revoke("a")
    assert registry.create("a").secret.reveal() != first.secret.reveal()


def test_of_equal_aliases_the_last_one_counts(registry: ApiKeys, keystore: Path) -> None:
    """Where somebody wrote an alias twice, the last is listed and revoking removes both."""
    put(keystore, "twin", b"first-1111")
    put(keystore, "other", b"other-2222")
    put(keystore, "twin", b"last-3333")
    assert [(key.alias, key.secret.reveal()) for key in registry.list()] == [
        ("other", "other-2222"),
        ("twin", "last-3333"),
    ]
    registry.revoke("twin")
    assert len(pieces(keystore)) == 1
    assert registry.aliases() == ("other",)


# unreadable entries


def test_unreadable_entries_hide_nothing(registry: ApiKeys, keystore: Path) -> None:
    """Each entry that cannot be read is listed in its place with the reason."""
    registry.create("first")
    put(keystore, "bytes", b"\xff\xfe")
    put(keystore, "date", b"key__tomorrow")
    put_foreign(keystore, "foreign")
    registry.create("last")
    found = registry.list()
    assert {key.alias: key.unreadable for key in found} == {
        "first": None,
        "bytes": "it is not UTF-8",
        "date": "its expiry is not a date time",
        "foreign": "it has another password or is damaged",
        "last": None,
    }
    assert [key.secret for key in found if key.unreadable] == [UNREADABLE] * 3
    registry.revoke("bytes", "date", "foreign")
    assert registry.aliases() == ("first", "last")


def test_aliases_need_no_entry_password(keystore: Path, registry: ApiKeys) -> None:
    """Aliases are shown without decrypting an entry."""
    registry.create("x")
    other = Keystore(keystore, Passwords(STOCK_PASSWORDS.store.reveal(), "wrong"))
    assert ApiKeys(other).aliases() == ("x",)
    assert ApiKeys(other).list()[0].unreadable


def test_progress_is_told(registry: ApiKeys, keystore: Path, stock: Stock) -> None:
    """Where Java gave each entry its own salt, progress goes from start to end."""
    keystore.parent.mkdir()
    stock.ask("create-many", keystore, "17", "n")
    told: list[tuple[int, int]] = []
    assert len(registry.list(lambda *step: told.append(step))) == 17
    assert told == sorted(told)
    assert told[-1] == (17, 17)
