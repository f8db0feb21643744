"""One JSON document on one stream, whatever the outcome."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from builders import put
from conftest import Run
from metricshub_apikey import ApiKeys
from metricshub_apikey.keys.document import KEY_FIELDS
from shell import (
    UUID4,
    document,
)


def test_json_of_create(run: Run, keystore: Path, tmp_path: Path) -> None:
    """The document of a new key has the key, both forms of its expiry, and stable names."""
    here = {"TZ": "America/New_York"}
    done = run("create", "CI", "--expires-on", "2999-06-30T12:00", "-o", "json", env=here)
    made = document(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(made) == [
        "keystore",
        "created",
        *KEY_FIELDS,
        "key",
        "file",
        "delivery_output",
        "notes",
    ]
    assert re.fullmatch(UUID4, made["key"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made["created_at"])
    assert made == {
        **made,
        "keystore": str(keystore),
        "created": True,
        "alias": "ci",
        "masked": "*" * 20 + made["key"][-4:],
        "expires_on": "2999-06-30T12:00:00",
        "expires_at": "2999-06-30T16:00:00Z",
        "expired": False,
        "unreadable": None,
        "file": None,
    }
    file = tmp_path / "key"
    made = document(run("create", "b", "--out", file, "-o", "json").stdout)
    assert (made["key"], made["file"]) == (None, str(file))
    assert (made["expires_on"], made["expires_at"]) == (None, None)


def test_json_has_the_notes(run: Run) -> None:
    """What would be a note on standard error is in the document."""
    made = document(run("create", "CI", "-o", "json").stdout)
    assert made["notes"] == ["Stored as 'ci': Java ignores letter case."]


def test_json_of_if_missing(run: Run, keystore: Path) -> None:
    """Of an existing key only the alias is told; the other fields are there, and null."""
    run("create", "ci")
    done = run("create", "ci", "--if-missing", "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert document(done.stdout) == {
        **dict.fromkeys((*KEY_FIELDS, "key", "file", "delivery_output")),
        "keystore": str(keystore),
        "created": False,
        "alias": "ci",
        "notes": ["An API key with alias 'ci' exists already; nothing was created."],
    }


def test_json_of_list(run: Run, java_keystore: Path) -> None:
    """The list is one document with the same fields for every key, and no key in clear."""
    done = run("list", "-o", "json", env={"TZ": "Europe/Paris"})
    found = document(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(found) == {"keystore", "keys", "notes"}
    assert [tuple(key) for key in found["keys"]] == [KEY_FIELDS] * 3
    assert found["keys"][2] == {
        "alias": "ünï-😀",
        "masked": "********************1d90",
        "expires_on": "2020-01-01T00:00:00",
        "expires_at": "2019-12-31T23:00:00Z",
        "expired": True,
        "suspended": False,
        "created_at": "2026-11-22T00:23:12Z",
        "created_by": None,
        "roles": [],
        "service_account": None,
        "description": None,
        "labels": {},
        "rotated_at": None,
        "last_used_at": None,
        "unreadable": None,
    }
    assert document(run("list", "-o", "json", "--keystore", "/none").stdout)["keys"] == []
    assert java_keystore.exists()


def test_json_of_revoke_and_path(run: Run, keystore: Path) -> None:
    """The other commands answer with a document, too."""
    run("create", "a")
    run("create", "b")
    assert document(run("revoke", "B", "a", "b", "-o", "json").stdout) == {
        "keystore": str(keystore),
        "revoked": ["B", "a"],
        "also_revoked": [],
        "notes": [],
    }
    assert document(run("path", "-o", "json").stdout) == {
        "keystore": str(keystore),
        "rule": "environment",
        "reason": "the environment variable METRICSHUB_KEYSTORE",
        "exists": True,
        "notes": [],
    }


def test_json_of_unreadable_entries(run: Run, keystore: Path) -> None:
    """An unreadable entry has its reason, no mask, and a note."""
    put(keystore, "bad", b"\xff")
    found = document(run("list", "-o", "json").stdout)
    (key,) = found["keys"]
    assert (key["masked"], key["unreadable"]) == (None, "it is not UTF-8")
    assert len(found["notes"]) == 1


@pytest.mark.parametrize("created_ms", [0, 253_402_300_799_999, 253_402_300_800_000, 10**15 - 1])
def test_json_of_odd_creation_times(run: Run, keystore: Path, created_ms: int) -> None:
    """A creation time beyond the calendar, which anybody may have written, breaks nothing."""
    put(keystore, "x", b"key-1234", created_ms)
    done = run("list", "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert document(done.stdout)["keys"][0]["masked"].endswith("1234")


@pytest.mark.parametrize("value", [b"key__+12345-01-01T00:00", b"key__-0001-01-01T00:00"])
def test_json_of_odd_years(run: Run, keystore: Path, value: bytes) -> None:
    """Years that only Java's calendar has are shown as the nearest that there is."""
    put(keystore, "x", value)
    for zone in ("Pacific/Kiritimati", "America/New_York"):
        done = run("list", "-o", "json", env={"TZ": zone})
        assert (done.returncode, done.stderr) == (0, "")
        assert document(done.stdout)["keys"][0]["expired"] == (b"-0001" in value)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (["create", "taken", "-o", "json"], 1, "key-exists"),
        (["-o", "json", "revoke", "nobody"], 1, "key-not-found"),
        (["create", "x", "--expires-on", "2020-01-01", "--output=json"], 1, "expiry-in-past"),
        (["list", "--keystore", "/etc/passwd", "-ojson"], 1, "not-a-keystore"),
        (["list", "--password-file", "/none", "-o", "json"], 1, "password"),
        (["create", "x", "--out", "/none/x", "-o", "json"], 1, "output-failed"),
        (["create", "x", "--expires-on", "soon", "-o", "json"], 2, "invalid-argument"),
        (["create", "--output", "json"], 2, "invalid-argument"),
        (["-o", "json", "create", "x", "--nonsense"], 2, "invalid-argument"),
        (["nonsense", "-o", "json"], 2, "invalid-argument"),
        (["list", "-q", "-o", "json"], 2, "invalid-argument"),
        (["list", "-qo", "json"], 2, "invalid-argument"),
    ],
)
def test_json_of_errors(
    run: Run, registry: ApiKeys, arguments: list[str], exit_code: int, code: str
) -> None:
    """Every failure, wrong usage included, is one JSON document on standard error."""
    registry.create("taken")
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (exit_code, "")
    error = document(done.stderr)
    assert set(error) == {"error"}
    assert set(error["error"]) == {"code", "message", "hint"}
    assert error["error"]["code"] == code
    assert error["error"]["message"]


def test_json_keeps_the_hint_apart(run: Run, registry: ApiKeys) -> None:
    """Message and hint are the ones that people see."""
    registry.create("x")
    assert document(run("create", "x", "-o", "json").stderr) == {
        "error": {
            "code": "key-exists",
            "message": "An API key with alias 'x' already exists.",
            "hint": "Choose another alias, or revoke it first: apikey revoke -- x",
        }
    }
