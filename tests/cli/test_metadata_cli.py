"""What a key carries: given by `create`, shown by `show`, changed by `edit`."""

from __future__ import annotations

import json
import os
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from conftest import ORDINARY_USER, Run, missing
from metricshub_apikey import ApiKeys
from metricshub_apikey.keys.api_key import ENTRY_PREFIX
from metricshub_apikey.keys.document import KEY_FIELDS
from metricshub_apikey.keys.entries import find
from metricshub_apikey.keys.metadata import MAX_MEMBERS, Metadata
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.pkcs12.store import Store
from places import VECTORS
from stock import Stock

FOREVER = "2999-12-31T23:59:59"
HOST = os.uname().nodename
EVERYTHING = [
    "create", "CI-Prod", "--expires-in", "90d", "--service-account", "ci",
    "--role", "metrics-writer", "--role", "alert-manager", "--role", "metrics-writer",
    "--label", "env=staging", "--label", "team=a=b", "--label", "env=prod",
]  # fmt: skip
STOCK_SERVER = (
    "A stock MetricsHub server gives every key full access: roles count only where a gateway "
    "checks them."
)
ROLE_RULE = (
    "is not a role: 1 to 64 letters, digits, dots, colons, hyphens or underscores, the first one "
    "a letter or digit."
)
LABEL_RULE = (
    "is not the name of a label: 1 to 63 letters, digits, dots, slashes, hyphens or underscores, "
    "the first one a letter or digit."
)


def user() -> str:
    """Return who runs these tests, as a key says it."""
    import pwd

    return f"{pwd.getpwuid(os.getuid()).pw_name}@{HOST}"


def document(text: str) -> dict[str, Any]:
    """Return the one JSON document in *text*."""
    found: dict[str, Any] = json.loads(text)
    return found


def encrypted(keystore: Path, alias: str) -> bytes:
    """Return the encrypted value of a key's entry."""
    return find(Keystore(keystore).read(), alias)[0].encrypted().ciphertext


def state(keystore: Path) -> tuple[int, int, bytes]:
    """Return what a write of the file would change."""
    status = keystore.stat()
    return status.st_ino, status.st_mtime_ns, keystore.read_bytes()


# create and show


def test_everything_a_key_carries(run: Run, keystore: Path, registry: ApiKeys) -> None:
    """Every field is stored, shown in each form, and known to the library; one note on roles."""
    before = datetime.now(UTC)
    done = run(
        *EVERYTHING,
        "--description",
        "nightly “pipeline”, 日本",
        "--out",
        keystore.parent.parent / "k",
    )
    assert done.returncode == 0
    assert done.stderr == (
        f"Note: Stored as 'ci-prod': Java ignores letter case.\nNote: {STOCK_SERVER}\n"
    )
    (key,) = registry.list()
    assert key.metadata == Metadata(
        created_by=user(),
        roles=("alert-manager", "metrics-writer"),
        service_account="ci",
        description="nightly “pipeline”, 日本",
        labels=(("env", "prod"), ("team", "a=b")),
    )
    assert key.created_at is not None
    assert before - timedelta(seconds=1) <= key.created_at <= datetime.now(UTC)

    done = run("show", "CI-prod", env={"TZ": "UTC"})
    assert (done.returncode, done.stderr) == (0, "")
    ends = (key.created_at + timedelta(days=90)).strftime("%Y-%m-%dT%H:%M")
    found = dict(re.split(": +", line, maxsplit=1) for line in done.stdout.splitlines())
    assert re.fullmatch(rf"{ends}:\d\d \(in 90 days\)", found.pop("Expires"))
    assert found == {
        "Alias": "ci-prod",
        "Key": key.masked,
        "Created": key.created_at.strftime("%Y-%m-%dT%H:%M:%S"),
        "Created by": user(),
        "Last used": "unknown",
        "Roles": "alert-manager, metrics-writer",
        "Service account": "ci",
        "Description": "nightly “pipeline”, 日本",
        "Labels": "env=prod team=a=b",
    }
    assert str(key.secret.reveal()) not in done.stdout


def test_one_document_for_one_key(run: Run, keystore: Path) -> None:
    """What `create`, `show`, `list` and `edit` say of a key has the same fields and values."""
    made = document(run(*EVERYTHING, "-o", "json").stdout)
    assert made.pop("notes") == ["Stored as 'ci-prod': Java ignores letter case.", STOCK_SERVER]
    assert list(made) == ["keystore", "created", *KEY_FIELDS, "key", "file", "delivery_output"]
    assert made["labels"] == {"env": "prod", "team": "a=b"}
    assert made["roles"] == ["alert-manager", "metrics-writer"]
    known = {field: made[field] for field in KEY_FIELDS}
    shown = {"keystore": str(keystore), **known, "notes": []}
    assert document(run("show", "ci-prod", "-o", "json").stdout) == shown
    edited = document(run("edit", "ci-prod", "--service-account", "ci", "-o", "json").stdout)
    assert edited == {**shown, "changed": []}
    assert document(run("list", "-o", "json").stdout)["keys"] == [known]


def test_a_key_without_any_of_it(run: Run, keystore: Path) -> None:
    """A key of the stock tool is shown with what is known of it; empty fields are no fields."""
    keystore.parent.mkdir()
    shutil.copy(VECTORS / "jdk17.0.15-mixed.p12", keystore)
    done = run("show", "mcp-openai", env={"TZ": "UTC"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "Alias:           mcp-openai",
        "Key:             ********************8986",
        "Expires:         never",
        "Created:         2026-11-22T00:23:12",
        "Created by:      unknown",
        "Last used:       unknown",
        "Roles:           -",
        "Service account: -",
        "Description:     -",
        "Labels:          -",
    ]
    assert "2020-01-01T00:00:00 (" in run("show", "ÜNÏ-😀").stdout
    run("create", "empty", "--service-account", "", "--description", "")
    assert find(Keystore(keystore).read(), "empty")[1].metadata == Metadata(user())
    done = run("show", "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: No API key found with alias 'nobody'.\n"


def test_who_made_it(run: Run, registry: ApiKeys) -> None:
    """Behind sudo it is the login; for anybody else the variable is only a variable."""
    if os.geteuid():
        missing("needs root")
    run("create", "sudo", env={"SUDO_USER": "ann"})
    assert registry.get("sudo").metadata.created_by == f"ann@{HOST}"
    assert run("list", "-q", "--created-by", "ann").stdout == "sudo\n"
    (line,) = run("log", "sudo").stdout.splitlines()
    assert f" ann@{HOST} create sudo" in line


def test_who_made_it_as_an_ordinary_user(run: Run, ordinary: list[str], public: Path) -> None:
    """Nobody but root is believed to come from sudo."""
    if os.geteuid():
        missing("needs root, to become somebody else")
    import pwd

    os.chown(public, ORDINARY_USER, ORDINARY_USER)
    file = public / "security" / "k.p12"
    done = run("create", "x", "--keystore", file, env={"SUDO_USER": "ann"}, command=ordinary)
    assert (done.returncode, done.stderr) == (0, "")
    made_by = ApiKeys(Keystore(file)).get("x").metadata.created_by
    assert made_by == f"{pwd.getpwuid(ORDINARY_USER).pw_name}@{HOST}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--role", "a b"], f"'a b' {ROLE_RULE}"),
        (["--role", ""], f"'' {ROLE_RULE}"),
        (["--role", "x" * 65], f"'{'x' * 65}' {ROLE_RULE}"),
        (["--label", "production"], "'production' is not a label; use name=value."),
        (["--label", "=production"], f"'' {LABEL_RULE}"),
        (["--label", "a b=c"], f"'a b' {LABEL_RULE}"),
        (
            ["--label", f"a={'x' * 129}"],
            "The value of the label 'a' has at most 128 characters.",
        ),
        (["--service-account", "x" * 129], "A service account has at most 128 characters."),
        (["--description", "x" * 1001], "A description has at most 1,000 characters."),
        (
            ["--description", "two\nlines"],
            "A description has no control characters, and no white space at its ends.",
        ),
        (
            [word for number in range(MAX_MEMBERS + 1) for word in ("--role", f"r{number}")],
            "A key has at most 32 roles.",
        ),
    ],
)
def test_what_no_key_may_carry(
    run: Run, tmp_path: Path, arguments: list[str], message: str
) -> None:
    """It is wrong usage in words that name the rule; nothing is made."""
    done = run("create", "x", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: apikey create [OPTIONS] ALIAS\n")
    assert done.stderr.splitlines()[-1] == f"Error: {message}"
    assert list(tmp_path.iterdir()) == []


# edit


def test_edit(run: Run, registry: ApiKeys, keystore: Path, stock: Stock) -> None:
    """Each option changes its field and nothing else; a server accepts the same key all along."""
    key = run(*EVERYTHING, "-q").stdout.strip()
    value = encrypted(keystore, "ci-prod")
    made = registry.get("ci-prod")

    def edit(*arguments: str, done: str) -> Metadata:
        ran = run("edit", "CI-Prod", *arguments)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout == f"API key 'ci-prod' has been changed: {done}.\n"
        assert stock.ask("find", keystore, key) == ["accepted ci-prod"]
        now = registry.get("ci-prod")
        assert now == made._replace(metadata=now.metadata, expires_on=now.expires_on)
        return now.metadata

    arguments = ["--add-role", "read-only", "--remove-role", "metrics-writer", "--remove-role", "x"]
    known = edit(*arguments, done="roles")
    assert known == made.metadata._replace(roles=("alert-manager", "read-only"))
    arguments = [
        "--label",
        "env=dev",
        "--remove-label",
        "team",
        "--label",
        "Z=",
        "--description",
        "d",
    ]
    known = edit(*arguments, "--service-account", "", done="service account, description, labels")
    assert known == Metadata(
        created_by=user(),
        roles=("alert-manager", "read-only"),
        description="d",
        labels=(("Z", ""), ("env", "dev")),
    )
    assert encrypted(keystore, "ci-prod") == value
    edit("--no-expiry", "--description", "", done="expiry, description (No expiration)")
    assert encrypted(keystore, "ci-prod") != value
    done = f"expiry (Expires on {FOREVER})"
    assert edit("--expires-on", FOREVER, done=done) == known._replace(description=None)
    assert stock.rows("list", keystore)[0][2].endswith(f"__{FOREVER}")


def test_edit_in_json(run: Run, registry: ApiKeys) -> None:
    """The document has the key as it is now, and in words what has changed."""
    registry.create("x")
    made = document(run("edit", "x", "--add-role", "a", "--expires-in", "1d", "-o", "json").stdout)
    assert list(made) == ["keystore", "changed", *KEY_FIELDS, "notes"]
    assert made["changed"] == ["expiry", "roles"]
    assert made["roles"] == ["a"]
    assert made["expires_on"] is not None


@pytest.mark.parametrize(
    "arguments",
    [
        ["--add-role", "metrics-writer", "--remove-role", "nobody"],
        ["--label", "env=prod", "--remove-label", "nothing", "--service-account", "ci"],
        ["--expires-on", FOREVER],
    ],
)
def test_nothing_to_change(run: Run, keystore: Path, arguments: list[str]) -> None:
    """Where a key is like that already the file is not written; a note says so."""
    run(
        *[one.replace("90d", FOREVER).replace("--expires-in", "--expires-on") for one in EVERYTHING]
    )
    before = state(keystore)
    done = run("edit", "ci-prod", *arguments)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "Note: The API key 'ci-prod' is like that already.\n"
    assert state(keystore) == before
    assert len(run("log").stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["x"], 2, "Name something to change."),
        (["nobody", "--add-role", "a"], 1, "No API key found with alias 'nobody'."),
        (["x", "--expires-on", "2020-01-01"], 1, "Expiration date time must be in the future."),
        (["x", "--expires-in", "0d"], 1, "Expiration date time must be in the future."),
        (
            ["x", "--expires-in", "1d", "--no-expiry"],
            2,
            "--expires-in and --no-expiry exclude each other.",
        ),
        (
            ["x", "--expires-in", "1d", "--expires-on", FOREVER],
            2,
            "--expires-on and --expires-in exclude each other.",
        ),
        (
            ["x", "--add-role", "a", "--remove-role", "a"],
            2,
            "'a' cannot be both added and removed.",
        ),
        (
            ["x", "--label", "b=c", "--remove-label", "b"],
            2,
            "'b' cannot be both added and removed.",
        ),
        (["x", "--add-role", "a b"], 2, f"'a b' {ROLE_RULE}"),
        (["x", "--remove-label", "b=c"], 2, f"'b=c' {LABEL_RULE}"),
        (["x", "--label", "b"], 2, "'b' is not a label; use name=value."),
    ],
)
def test_what_edit_refuses(
    run: Run,
    registry: ApiKeys,
    keystore: Path,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    """What cannot be done changes nothing, and the exit code tells a mistake from a refusal."""
    registry.create("x", expires_on=datetime.max.replace(microsecond=0))
    before = state(keystore)
    done = run("edit", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.splitlines()[-1] == f"Error: {message}"
    assert state(keystore) == before


def test_edit_of_an_unreadable_key(run: Run, registry: ApiKeys, keystore: Path) -> None:
    """What is not in the encrypted value can be changed; the expiry cannot, nor taken away."""

    def add(store: Store) -> None:
        store.add(f"{ENTRY_PREFIX}bad", b"key__soon", created_ms=0, random_bytes=os.urandom)

    registry._keystore.update(add, create=True)
    value = encrypted(keystore, "bad")
    done = run("edit", "bad", "--add-role", "a")
    assert (done.returncode, done.stdout) == (0, "API key 'bad' has been changed: roles.\n")
    assert registry.get("bad").metadata.roles == ("a",)
    before = state(keystore)
    for expiry in (["--expires-in", "1d"], ["--no-expiry"]):
        done = run("edit", "bad", "--add-role", "b", *expiry)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines()[-1] == (
            "Error: The expiry of 'bad' cannot be changed: its expiry is not a date time."
        )
    assert encrypted(keystore, "bad") == value
    assert state(keystore) == before


def test_edit_of_a_key_of_java(run: Run, keystore: Path, stock: Stock) -> None:
    """It keeps its bytes but for what is new; other entries keep theirs; Java reads all."""
    keystore.parent.mkdir()
    shutil.copy(VECTORS / "jdk17.0.15-mixed.p12", keystore)
    before = Keystore(keystore).read()
    keys = stock.rows("apikeys", keystore)
    value = encrypted(keystore, "mcp-openai")
    done = run("edit", "mcp-openai", "--add-role", "read-only", "--label", "env=prod")
    assert (done.returncode, done.stderr) == (0, "")
    after = Keystore(keystore).read()
    assert len(set(before.pieces()) - set(after.pieces())) == 1
    assert [bag.alias for bag in after.bags] == [bag.alias for bag in before.bags]
    assert encrypted(keystore, "mcp-openai") == value
    assert stock.rows("apikeys", keystore) == keys
    edited = ApiKeys(Keystore(keystore)).get("mcp-openai")
    assert edited.metadata == Metadata(None, ("read-only",), labels=(("env", "prod"),))
    stock.ask("rewrite", keystore, keystore)
    assert ApiKeys(Keystore(keystore)).get("mcp-openai") == edited


def test_edit_when_the_record_cannot_be_written(
    run: Run, registry: ApiKeys, keystore: Path
) -> None:
    """The change is made, and a warning says that it is not in the log."""
    registry.create("x")
    keystore.with_name("apikey-activity.db").write_bytes(b"no database at all")
    done = run("edit", "x", "--description", "d")
    assert (done.returncode, done.stdout) == (0, "API key 'x' has been changed: description.\n")
    assert re.fullmatch(r"Warning: This is done, but not in the log: .*\n", done.stderr)
    assert registry.get("x").metadata.description == "d"


def test_what_cannot_be_shown_is_done(run: Run, registry: ApiKeys) -> None:
    """If standard output is full, the error does not look as if nothing had changed."""
    registry.create("x")
    with Path("/dev/full").open("w") as full:
        done = run("edit", "x", "--add-role", "a", stdout=full)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "Error: The API key has been changed, but this could not be shown"
    )
    assert registry.get("x").metadata.roles == ("a",)
