"""The policy as its users meet it: writing one, showing it, and every command that must keep it."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from clock import HERE
from conftest import ORDINARY_USER, Run, missing
from metricshub_apikey import ApiKeys
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.prefixed import is_intact
from metricshub_apikey.policy.file import parse
from metricshub_apikey.policy.rules import Policy
from metricshub_apikey.policy.templates import template
from metricshub_apikey.review.checks import breaches
from metricshub_apikey.secret import Secret
from places import VECTORS
from stock import Stock

STRICT = template("strict")
KNOWN = "read-only, metrics-writer, alert-manager, chat-bot, full-access"
ROLES = f"Hint: The roles are: {KNOWN}.\n"
CHOICES = "Hint: The choices are: 30d, 60d, 90d, 180d, 1y.\n"
WRITER = ("--role", "metrics-writer")

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def policy(keystore: Path) -> Path:
    """Return the path of the policy file beside the keystore; nothing is there yet."""
    return keystore.with_name("apikey.toml")


@pytest.fixture
def strict(policy: Path) -> Path:
    """Return the path of a policy file as `policy init --template strict` writes it."""
    policy.parent.mkdir()
    policy.write_text(STRICT)
    return policy


def mode(path: Path) -> int:
    """Return the rights of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def refused(done: Done, message: str, hint: str = "", code: int = 1) -> None:
    """Check that a command failed with *message* and *hint*, and printed nothing else."""
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == f"Error: {message}\n{hint}"


# init


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_init(run: Run, policy: Path, umask: int) -> None:
    """The stock template is written beside the keystore for all to read, in a private folder."""
    done = run("policy", "init", umask=umask)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"The stock policy has been written to {policy}.\n"
    assert policy.read_text() == template("stock")
    assert (mode(policy), mode(policy.parent)) == (0o644, 0o700)
    assert sorted(os.listdir(policy.parent)) == ["apikey.toml"]


def test_init_strict(run: Run, policy: Path) -> None:
    """The strict template is written whole, and JSON says where."""
    done = run("policy", "init", "--template", "strict", "-o", "json")
    found = json.loads(done.stdout)
    assert found == {"path": str(policy), "template": "strict", "notes": []}
    assert policy.read_text() == STRICT


def test_init_never_overwrites(run: Run, policy: Path) -> None:
    """A file that is there stays as it is, and so does a link that leads nowhere."""
    policy.parent.mkdir()
    policy.write_text("precious")
    refused(run("policy", "init"), f"{policy} exists already; it is not overwritten.")
    assert policy.read_text() == "precious"
    policy.unlink()
    policy.symlink_to(policy.with_name("elsewhere"))
    refused(run("policy", "init"), f"{policy} exists already; it is not overwritten.")
    assert os.listdir(policy.parent) == ["apikey.toml"]


def test_init_elsewhere(run: Run, tmp_path: Path, keystore: Path) -> None:
    """The option says where, else the environment; the keystore's folder is not made then."""
    named, fromenv = tmp_path / "new" / "rules.toml", tmp_path / "env.toml"
    variable = {"METRICSHUB_APIKEY_POLICY": str(fromenv)}
    assert run("policy", "init", "--policy", named, env=variable).returncode == 0
    assert (named.exists(), fromenv.exists()) == (True, False)
    assert run("policy", "init", env=variable).returncode == 0
    assert (fromenv.exists(), keystore.parent.exists()) == (True, False)


def test_init_behind_a_link(run: Run, tmp_path: Path, keystore: Path) -> None:
    """Where the keystore is a link, the policy belongs beside what it leads to."""
    keystore.parent.mkdir()
    (tmp_path / "real").mkdir()
    keystore.symlink_to(tmp_path / "real" / "store.p12")
    run("policy", "init")
    assert (tmp_path / "real" / "apikey.toml").exists()


def test_init_where_no_file_can_be(run: Run, tmp_path: Path) -> None:
    """A folder that cannot be made is one clear error."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "apikey.toml"
    refused(run("policy", "init", "--policy", path), f"{path} cannot be made: Not a directory.")


def test_init_for_a_service(run: Run, policy: Path) -> None:
    """What root writes belongs to the owner of the folder."""
    if os.geteuid():
        missing("giving files away needs root")
    policy.parent.mkdir()
    os.chown(policy.parent, ORDINARY_USER, ORDINARY_USER)
    assert run("policy", "init").returncode == 0
    status = policy.stat()
    assert (status.st_uid, status.st_gid) == (ORDINARY_USER, ORDINARY_USER)


# show


def test_show_without_a_file(run: Run, keystore: Path) -> None:
    """Without a policy file the stock behaviour is told, and nothing is made."""
    done = run("policy", "show")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "Policy file: none: the stock behaviour",
        "Enforced:    no, as far as the file says",
        "Expiry:      optional",
        "Key format:  UUID",
        "Roles:       optional; any name passes",
        "Rate limit:  1,000 requests a minute, 100 a second",
        "No roles are defined: every key may do everything.",
    ]
    assert not keystore.parent.exists()


def test_show_the_strict_rules(run: Run, strict: Path) -> None:
    """Every rule of the strict template is told, with the file it comes from."""
    shown = run("policy", "show").stdout
    choices = "choices 30d, 60d, 90d, 180d, 1y"
    for line in (
        f"Policy file:         {strict}",
        f"Expiry:              required, at most 1y, 90d if none is given; {choices}",
        "Key format:          metricshub_, 43 random characters and a checksum",
        (
            "Roles:               required; read-only, metrics-writer, alert-manager, chat-bot, "
            "full-access"
        ),
        "Role metrics-writer: Applications that push metrics: POST /api/v1/metrics/**",
    ):
        assert line in shown.splitlines()


def test_show_as_json(run: Run, strict: Path) -> None:
    """Scripts get the rules with lengths in seconds, from the file that the option names."""
    other = strict.with_name("other.toml")
    other.write_text('[keys]\nmax_lifetime = "2w"\n')
    assert json.loads(run("policy", "show", "-o", "json").stdout)["path"] == str(strict)
    found = json.loads(run("policy", "show", "-o", "json", "--policy", other).stdout)
    assert (found["path"], found["keys"]["max_lifetime_seconds"]) == (str(other), 1_209_600)


# The rules, broken on purpose

LAST = re.compile(r"(?<=Hint: Its last possible expiry is )[0-9T:-]{19}")


def too_long(done: Done, policy: Path) -> None:
    """Check that a life was refused as too long, with a hint that names the last expiry."""
    assert (done.returncode, done.stdout) == (1, "")
    first, hint = done.stderr.splitlines()
    assert re.match(r"Error: The key would live for [0-9,]+ days", first)
    assert first.endswith(f"; keys.max_lifetime in {policy} is 1y.")
    assert LAST.search(hint)


def tomorrow_in(years: int) -> str:
    """Return the date after tomorrow, some years from now, as a user types it."""
    return (datetime.now().date() + timedelta(days=365 * years + 2)).isoformat()


def test_create_keeps_the_rules(run: Run, strict: Path, keystore: Path) -> None:
    """Each rule that a new key would break is named with its limit and its file."""
    asks = f"The key has no role; keys.require_role in {strict} asks for one."
    refused(run("create", "ci"), asks, ROLES)
    unknown = f"[roles] in {strict} has no role 'writer'."
    refused(run("create", "ci", "--role", "read-only", "--role", "writer"), unknown, ROLES)
    none = f"'45d' is not one of the choices of keys.lifetimes in {strict}."
    refused(run("create", "ci", *WRITER, "--expires-in", "45d"), none, CHOICES)
    too_long(run("create", "ci", *WRITER, "--expires-on", tomorrow_in(1)), strict)
    assert not keystore.exists()


def test_edit_keeps_the_rules(run: Run, strict: Path, registry: ApiKeys) -> None:
    """Each rule that a changed key would break is named, and the key stays as it is."""
    run("create", "ci", *WRITER)
    before = registry.get("ci")
    asks = f"The key has no role; keys.require_role in {strict} asks for one."
    refused(run("edit", "ci", "--remove-role", "metrics-writer"), asks, ROLES)
    unknown = f"[roles] in {strict} has no role 'admin'."
    refused(run("edit", "ci", "--add-role", "admin"), unknown, ROLES)
    never = f"The key would never expire; keys.require_expiry in {strict} forbids it."
    refused(run("edit", "ci", "--no-expiry"), never)
    none = f"'2y' is not one of the choices of keys.lifetimes in {strict}."
    refused(run("edit", "ci", "--expires-in", "2y"), none, CHOICES)
    too_long(run("edit", "ci", "--expires-on", tomorrow_in(1)), strict)
    assert registry.get("ci") == before


def test_rotate_keeps_the_rules(run: Run, strict: Path, registry: ApiKeys) -> None:
    """A rotation is refused where the new key would break a rule, and the old one stays."""
    old = registry.create("ci")
    asks = f"The key has no role; keys.require_role in {strict} asks for one."
    refused(run("rotate", "ci"), asks, ROLES)
    run("edit", "ci", "--add-role", "read-only", "--expires-in", "90d")
    none = f"'45d' is not one of the choices of keys.lifetimes in {strict}."
    refused(run("rotate", "ci", "--expires-in", "45d"), none, CHOICES)
    too_long(run("rotate", "ci", "--expires-on", tomorrow_in(1)), strict)
    assert [key.secret.reveal() for key in registry.list()] == [old.secret.reveal()]


@pytest.mark.parametrize("choice", ["30d", "60d", "90d", "180d", "1y"])
def test_presets(run: Run, strict: Path, registry: ApiKeys, choice: str) -> None:
    """Each choice of the strict template is a life of exactly that length."""
    assert run("create", "ci", *WRITER, "--expires-in", choice, "-q").returncode == 0
    offered = dict(
        zip(parse(strict.read_text(), "").lifetimes, (30, 60, 90, 180, 365), strict=True)
    )
    assert registry.get("ci").lifetime(HERE) == timedelta(days=offered[choice])


@pytest.mark.parametrize("other", ["45d", "1y1m"])
def test_no_other_presets(strict: Path, other: str, run: Run) -> None:
    """No other length is a choice."""
    refused(
        run("create", "ci", *WRITER, "--expires-in", other),
        f"'{other}' is not one of the choices of keys.lifetimes in {strict}.",
        CHOICES,
    )


def test_a_year_to_the_second(run: Run, strict: Path) -> None:
    """The expiry that the hint names is allowed; a minute more is not."""
    hint = run("create", "ci", *WRITER, "--expires-on", tomorrow_in(1)).stderr
    found = LAST.search(hint)
    assert found
    later = datetime.fromisoformat(found[0]) + timedelta(minutes=1)
    too_long(run("create", "ci", *WRITER, "--expires-on", later.isoformat()), strict)
    assert run("create", "ci", *WRITER, "--expires-on", found[0], "-q").returncode == 0


def test_the_default_lifetime(run: Run, strict: Path, registry: ApiKeys) -> None:
    """A key for which nobody says an expiry gets the one of the policy."""
    assert strict.exists()
    run("create", "ci", *WRITER)
    assert registry.get("ci").lifetime(HERE) == timedelta(days=90)


def test_prefixed_keys(run: Run, strict: Path, keystore: Path, stock: Stock) -> None:
    """New keys have the prefix and a checksum, and a stock server knows them."""
    assert strict.exists()
    key = run("create", "ci", *WRITER, "-q").stdout.strip()
    rotated = run("rotate", "ci", "-q").stdout.strip()
    for made, alias in ((key, "ci.prev"), (rotated, "ci")):
        assert re.fullmatch("metricshub_[0-9A-Za-z]{49}", made)
        assert (len(made), is_intact(made)) == (60, True)
        assert stock.ask("find", keystore, made) == [f"accepted {alias}"]


def test_enforced_roles_need_no_note(run: Run, policy: Path) -> None:
    """Roles without a gateway are noted; where the policy says that they bite, they are not."""
    noted = run("create", "a", "--role", "r").stderr
    assert "roles count only where a gateway checks them" in noted
    policy.write_text("enforced = true\n")
    done = run("create", "b", "--role", "r")
    assert (done.returncode, done.stderr) == (0, "")


# check


def test_check_finds_what_breaks_the_rules(run: Run, strict: Path, keystore: Path) -> None:
    """Keys of the stock tool are told with every rule they break, and the exit code is 1."""
    keystore.write_bytes((VECTORS / "jdk17.0.15.p12").read_bytes())
    before = keystore.read_bytes()
    done = run("policy", "check")
    assert (done.returncode, done.stderr) == (1, "")
    no_role = f"The key has no role; keys.require_role in {strict} asks for one."
    never, openai, long, claude, expired = done.stdout.splitlines()
    assert never == (
        f"mcp-openai: The key would never expire; keys.require_expiry in {strict} forbids it."
    )
    assert openai == f"mcp-openai: {no_role}"
    assert re.match("mcp-claude: The key would live for .* days", long)
    assert (claude, expired) == (f"mcp-claude: {no_role}", f"ünï-😀: {no_role}")
    found = json.loads(run("policy", "check", "-o", "json").stdout)["keys"]
    assert [one["alias"] for one in found] == ["mcp-openai", "mcp-claude", "ünï-😀"]
    assert found[2]["breaches"] == [no_role]
    assert keystore.read_bytes() == before


def test_check_finds_nothing(run: Run, keystore: Path, strict: Path) -> None:
    """Where every key keeps the rules, the exit code is 0; without a keystore that is unknown."""
    done = run("policy", "check")
    assert (done.returncode, done.stdout) == (2, "")
    run("create", "ci", *WRITER)
    done = run("policy", "check")
    assert (done.returncode, done.stdout) == (0, "Every key keeps the policy.\n")
    assert (keystore.exists(), strict.exists()) == (True, True)


def test_check_leaves_old_keys_alone(run: Run, policy: Path, registry: ApiKeys) -> None:
    """The old key of a rotation ends by itself, so it breaks nothing; a like-named key does."""
    registry.create("ci")
    registry.create("other.prev")
    registry.rotate("ci")
    policy.write_text("[keys]\nrequire_role = true\n")
    done = run("policy", "check")
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["ci", "other.prev"]


def test_undated_keys(zone: Callable[[str], None]) -> None:
    """Of a key that nobody dated no life is too long; what has nothing to do with it counts."""
    zone("UTC")
    rules = Policy(require_expiry=True, max_lifetime=timedelta(days=1), require_role=True)
    far = ApiKey("far", Secret("key"), datetime(2999, 1, 1), None)
    assert len(breaches(far, rules, HERE)) == 1
    assert len(breaches(far._replace(expires_on=None), rules, HERE)) == 2
    assert len(breaches(far._replace(created_ms=0), rules, HERE)) == 2
    assert breaches(far._replace(unreadable="it is not UTF-8"), rules, HERE) == []


# A policy file that cannot be used


@pytest.fixture
def broken(policy: Path, registry: ApiKeys) -> Path:
    """Return the path of a policy file with a mistyped rule, beside a keystore with a key."""
    registry.create("ci")
    policy.write_text("[keys]\nrequire_expiry = true\nmax_lifetme = '1y'\n")
    return policy


@pytest.mark.parametrize(
    "command",
    ["create new", "edit ci --add-role x", "rotate ci", "policy show", "policy check"],
)
def test_a_broken_policy(run: Run, broken: Path, keystore: Path, command: str) -> None:
    """What must keep the rules fails with file, line and key, and changes nothing."""
    before = keystore.read_bytes()
    message = f"{broken}, line 3: 'max_lifetme' is not a key of [keys]."
    code = 2 if command == "policy check" else 1  # which answers with its verdict
    refused(run(*command.split()), message, "Hint: Did you mean 'max_lifetime'?\n", code)
    assert keystore.read_bytes() == before


def test_a_broken_policy_keeps_nobody_from_reading_and_revoking(run: Run, broken: Path) -> None:
    """Keys can be listed, shown and revoked, and the log read, whatever the policy is like."""
    assert run("list", "-q").stdout == "ci\n"
    for command in ("show ci", "revoke ci", "log"):
        done = run(*command.split())
        assert (done.returncode, done.stderr) == (0, ""), command
    assert broken.exists()


def test_check_reports_a_broken_policy(run: Run, broken: Path) -> None:
    """It is critical: nobody can create a key, and nobody knows which keys break a rule."""
    done = run("check", "-o", "json")
    assert done.returncode == 2
    found = [one for one in json.loads(done.stdout)["findings"] if one["severity"] != "ok"]
    assert found == [
        {
            "check": "policy",
            "severity": "critical",
            "sentence": f"{broken}, line 3: 'max_lifetme' is not a key of [keys].",
            "hint": "Did you mean 'max_lifetime'?",
            "aliases": [],
        }
    ]


def test_a_policy_that_is_not_there(run: Run, tmp_path: Path, registry: ApiKeys) -> None:
    """A file that the option or the environment names must be there, where the rules count."""
    registry.create("ci")
    path = tmp_path / "none.toml"
    refused(run("create", "new", "--policy", path), f"There is no policy file {path}.")
    variable = {"METRICSHUB_APIKEY_POLICY": str(path)}
    refused(run("rotate", "ci", env=variable), f"There is no policy file {path}.")
    assert run("list", "-q", env=variable).stdout == "ci\n"
