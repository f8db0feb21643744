"""Suspending and resuming keys: what a stock server, and everything of ours, makes of them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from conftest import Run
from metricshub_apikey import ApiKeys
from metricshub_apikey.errors import KeyExistsError, KeyNotFoundError, KeySuspendedError
from stock import Stock


@pytest.fixture
def keys(keystore: Path) -> ApiKeys:
    """Return the keys of a keystore that is not there yet."""
    return ApiKeys(keystore)


def test_a_stock_server_refuses_a_suspended_key(
    keys: ApiKeys, keystore: Path, stock: Stock
) -> None:
    """It is refused at once, kept through a rewrite by Java, and accepted again when resumed."""
    made = keys.create("ci", roles=["reader"], expires_in=timedelta(days=9))
    assert stock.ask("find", keystore, made.secret.reveal()) == ["accepted ci"]
    (suspended,) = keys.suspend("CI")
    assert stock.ask("find", keystore, made.secret.reveal()) == ["unknown"]
    stock.ask("rewrite", keystore, keystore)
    assert keys.list() == (suspended,)
    assert suspended == made._replace(suspended=True)
    assert keys.resume("ci") == (made,)
    assert stock.ask("find", keystore, made.secret.reveal()) == ["accepted ci"]


def test_the_old_key_of_a_rotation_goes_along(keys: ApiKeys) -> None:
    """An incident ends both; with keep_previous the old key works on."""
    keys.create("ci")
    keys.rotate("ci")
    assert [key.alias for key in keys.suspend("ci")] == ["ci", "ci.prev"]
    assert [key.alias for key in keys.resume("ci", keep_previous=True)] == ["ci"]
    assert [key.suspended for key in keys.list()] == [False, True]


def test_all_or_none(keys: ApiKeys) -> None:
    """Where one alias has no key, none is suspended."""
    keys.create("a")
    with pytest.raises(KeyNotFoundError):
        keys.suspend("a", "b")
    assert not keys.get("a").suspended


def test_a_suspended_alias_is_taken(keys: ApiKeys) -> None:
    """It can neither be created nor rotated, and to suspend it again changes nothing."""
    made = keys.create("a")
    keys.suspend("a")
    with pytest.raises(KeySuspendedError):
        keys.create("a")
    with pytest.raises(KeySuspendedError):
        keys.rotate("a")
    assert keys.suspend("a") == ()
    assert keys.verify(made.secret.reveal()).reason == "suspended"


def test_another_program_makes_the_same_alias(keys: ApiKeys, keystore: Path, stock: Stock) -> None:
    """Both are listed, resuming is refused, and revoking removes both."""
    keys.create("a")
    keys.suspend("a")
    stock.ask("create", keystore, "a", "key-of-another-program")
    assert sorted(key.suspended for key in keys.list()) == [False, True]
    with pytest.raises(KeyExistsError):
        keys.resume("a")
    keys.revoke("a")
    assert keys.list() == ()


def test_the_commands(run: Run) -> None:
    """`suspend` and `list` say it in words and in JSON; `resume` undoes it."""
    run("create", "ci", "-q")
    assert run("suspend", "ci").stdout == "API key 'ci' has been suspended.\n"
    assert run("list").stdout.endswith("(Suspended)\n")
    (key,) = json.loads(run("list", "-o", "json").stdout)["keys"]
    assert key["suspended"] is True
    assert run("create", "ci", "--if-missing").returncode == 1
    assert run("resume", "ci").stdout == "API key 'ci' has been resumed.\n"
    assert run("list").stdout.endswith("(No expiration)\n")


def test_a_list_of_keys_says_it(run: Run, tmp_path: Path) -> None:
    """`apply` suspends and resumes, and changes nothing the second time."""
    run("create", "ci", "-q")
    file = tmp_path / "keys.yaml"
    for wanted, shown in (("true", "~ ci (suspended)"), ("true", "Nothing to change.")):
        file.write_text(f"- {{alias: ci, suspended: {wanted}}}\n")
        assert run("apply", file).stdout.strip() == shown
    file.write_text("- {alias: ci, suspended: false}\n")
    assert run("apply", file).stdout.strip() == "~ ci (suspended)"
