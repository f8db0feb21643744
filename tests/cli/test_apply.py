"""Applying a list: the keystore becomes what it says, in one write, and then stays so."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import builders
from builders import examples
from clock import HERE, at
from conftest import Run, missing
from faults import read_log, run_traced
from fields import fields
from metricshub_apikey import ApiKeys
from metricshub_apikey.errors import (
    ExpiryInPastError,
    InvalidArgumentError,
    OutputError,
    PolicyBreachError,
)
from metricshub_apikey.files.reading import identity
from metricshub_apikey.keys.api_key import ENTRY_PREFIX, ApiKey
from metricshub_apikey.keys.expiry import after, to_local
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.pkcs12.store import Store
from metricshub_apikey.policy.rules import Policy
from metricshub_apikey.policy.templates import template
from metricshub_apikey.registry.key_folder import KeyFolder, file_name
from metricshub_apikey.registry.manifest import Wanted
from metricshub_apikey.registry.plan import Plan
from places import VECTORS
from ruled import RuledKeys
from stock import Stock

NOW = datetime(2027, 6, 15, 12, 0, 0, 500_000, tzinfo=UTC)
DAY = timedelta(days=1)

YAML = """\
keys:
  - alias: CI
    expires_in: 90d
    roles: [metrics-writer]
    labels: {env: production}
    description: nightly
  - web
"""
TOML = """\
[[keys]]
alias = "ci"
expires_in = "90d"
roles = ["metrics-writer"]
labels = {env = "production"}
description = "nightly"

[[keys]]
alias = "web"
"""


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """Return the path of a list of two keys."""
    path = tmp_path / "keys.yaml"
    path.write_text(YAML)
    return path


@pytest.fixture
def past(keystore: Path) -> RuledKeys:
    """Return the test's API keys, as of `NOW`."""
    return RuledKeys(Keystore(keystore), Policy(), clock=lambda: NOW)


def apply_to(registry: ApiKeys, *wanted: Wanted, prune: bool = False) -> Plan:
    """Apply a list, and hand the new keys to nobody."""
    return registry.apply(wanted, prune=prune, deliver=lambda _keys: None)


def said(plan: Plan) -> list[str]:
    """Return the steps of a plan, as the command prints them."""
    signs = {"create": "+", "edit": "~", "remove": "-"}
    return [f"{signs[step.action]} {' '.join((step.alias, *step.fields))}" for step in plan.steps]


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Return everything below a folder, with what changes when somebody writes to it."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_ino, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
    }


# The command


@pytest.mark.parametrize(("name", "text"), [("keys.yaml", YAML), ("keys.toml", TOML)])
def test_apply(
    run: Run, keystore: Path, tmp_path: Path, stock: Stock, name: str, text: str
) -> None:
    """New keys get what the list says, a private file each, and a server accepts them."""
    (tmp_path / name).write_text(text)
    out = tmp_path / "new" / "out"
    done = run("apply", tmp_path / name, "--out-dir", out)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"+ ci: written to {out}/ci\n+ web: written to {out}/web\n"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (out, out / "ci")] == [0o700, 0o600]
    for alias in ("ci", "web"):
        key = (out / alias).read_text()
        assert key.endswith("\n")
        assert stock.ask("find", keystore, key.strip()) == [f"accepted {alias}"]
    ci, web = ApiKeys(Keystore(keystore)).list()
    assert ci.lifetime(HERE) == 90 * DAY
    assert ci.metadata == Metadata(
        created_by=ci.metadata.created_by,
        roles=("metrics-writer",),
        description="nightly",
        labels=(("env", "production"),),
    )
    assert (web.expires_on, web.metadata.created_by) == (None, ci.metadata.created_by)
    assert re.fullmatch(r"\S+@\S+", ci.metadata.created_by or "")


def test_twice(run: Run, listed: Path, tmp_path: Path) -> None:
    """The second time nothing is written, no folder for new keys is needed, and that is said."""
    run("apply", listed, "--out-dir", tmp_path / "out")
    before = tree(tmp_path)
    done = run("apply", listed, "--prune", "--yes")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Nothing to change.\n", "")
    assert tree(tmp_path) == before


def test_the_plan(run: Run, registry: ApiKeys, listed: Path, tmp_path: Path) -> None:
    """What is created, changed and removed is one line each; a dry run writes nothing at all."""
    for alias in ("web", "old", "CI"):
        registry.create(alias)
    listed.write_text("keys:\n- alias: web\n  roles: [r]\n  expires_in: 1y\n- new\n- ci\n")
    before = tree(tmp_path)
    out = tmp_path / "out"
    done = run("apply", listed, "--prune", "--out-dir", out, "--dry-run")
    plan = ["~ web (expiry, roles)", "+ new", "- old"]
    assert (done.returncode, done.stderr, done.stdout.splitlines()) == (0, "", plan)
    assert run("apply", listed, "--dry-run").stdout.splitlines() == plan[:2]
    assert tree(tmp_path) == before
    done = run("apply", listed, "--prune", "--yes", "--out-dir", out, "-o", "json")
    document = json.loads(done.stdout)
    assert document["dry_run"] is False
    assert document["steps"] == [
        {"action": "edit", "alias": "web", "fields": ["expiry", "roles"], "file": None},
        {"action": "create", "alias": "new", "fields": [], "file": str(out / "new")},
        {"action": "remove", "alias": "old", "fields": [], "file": None},
    ]
    assert run("list", "-q").stdout == "web\nci\nnew\n"


def test_a_dry_run_on_nothing(run: Run, listed: Path, tmp_path: Path) -> None:
    """Where there is no keystore, a dry run makes neither it nor its folder."""
    done = run("apply", listed, "--dry-run", "--out-dir", tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, "+ ci\n+ web\n")
    assert os.listdir(tmp_path) == ["keys.yaml"]


def test_nowhere_to_put_new_keys(run: Run, listed: Path, tmp_path: Path) -> None:
    """That is wrong usage, found out before anything is made."""
    done = run("apply", listed)
    assert (done.returncode, done.stdout) == (2, "")
    message = "Error: There are new keys ('ci'): name a folder for them with --out-dir.\n"
    assert done.stderr.endswith(message)
    assert os.listdir(tmp_path) == ["keys.yaml"]


def test_a_file_in_the_way(run: Run, listed: Path, keystore: Path, tmp_path: Path) -> None:
    """It stays as it is, no key is made, and no other file is left."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "web").write_text("precious")
    done = run("apply", listed, "--out-dir", out)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: {out}/web exists already; it is not overwritten.\n"
    assert (os.listdir(out), (out / "web").read_text()) == (["web"], "precious")
    assert not keystore.exists()


def test_a_breach_of_the_policy(run: Run, listed: Path, keystore: Path, tmp_path: Path) -> None:
    """The key is named, and neither it nor any other is made."""
    keystore.parent.mkdir()
    rules = keystore.with_name("apikey.toml")
    rules.write_text(template("strict"))
    out = tmp_path / "out"
    done = run("apply", listed, "--out-dir", out)
    assert (done.returncode, done.stdout) == (1, "")
    asks = f"The key has no role; keys.require_role in {rules} asks for one."
    assert done.stderr.splitlines()[0] == f"Error: 'web': {asks}"
    assert not out.exists()
    assert os.listdir(keystore.parent) == ["apikey.toml"]


def test_one_write(run: Run, environment: dict[str, str], listed: Path, tmp_path: Path) -> None:
    """However many keys change, the keystore is replaced once."""
    if not shutil.which("strace"):
        missing("counting system calls needs strace")
    run("create", "old")
    run("create", "web")
    arguments = ["apply", str(listed), "--prune", "--yes", "--out-dir", str(tmp_path / "out")]
    log = tmp_path / "log"
    assert run_traced(arguments, log=log, environment=environment).returncode == 0
    into_place = f'"{environment["METRICSHUB_KEYSTORE"]}", RENAME_EXCHANGE'
    renamed = [call for call in read_log(log) if call.name == "renameat2"]
    assert sum(into_place in call.arguments for call in renamed) == 1
    assert run("list", "-q").stdout == "web\nci\n"


def test_standard_input(run: Run, tmp_path: Path) -> None:
    """The list may come from another program; without any input that is an error."""
    done = run("apply", "-", "--out-dir", tmp_path / "out", stdin="keys: [ci]\n")
    assert done.stdout == f"+ ci: written to {tmp_path}/out/ci\n"
    done = run("apply", "-", "--password-file", "-", stdin="keys: [ci]\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert "The password and a file cannot both be standard input." in done.stderr


def test_a_list_that_cannot_be_used(run: Run, listed: Path, tmp_path: Path) -> None:
    """The error has the file and the line, and nothing is made."""
    listed.write_text("keys:\n- alias: ci\n  role: x\n")
    done = run("apply", listed, "--out-dir", tmp_path / "out")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"Error: {listed}, line 3: 'role' is not a field of a key.",
        "Hint: Did you mean 'roles'?",
    ]
    assert os.listdir(tmp_path) == ["keys.yaml"]


# The files of new keys


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("ci", "ci"),
        ("a/b", "a%2Fb"),
        ("a%2fb", "a%252fb"),
        ("a\\b:c", "a%5Cb%3Ac"),
        ("..", "%2E%2E"),
        (".x", "%2Ex"),
        ("a b", "a b"),
        ("ünï-😀", "ünï-😀"),
        ("-rf", "-rf"),
    ],
)
def test_names_of_files(past: RuledKeys, tmp_path: Path, alias: str, name: str) -> None:
    """Every alias is the name of a file in the folder, and nowhere else."""
    out = tmp_path / "out"
    with KeyFolder(str(out)) as folder:
        past.apply([Wanted(alias)], prune=False, deliver=folder.write)
        folder.keep()
    assert os.listdir(out) == [name]
    assert (out / name).read_text() == f"{past.get(alias).secret.reveal()}\n"


@examples(100)
@given(st.lists(st.text(min_size=1, max_size=10), unique=True, max_size=8))
def test_no_two_aliases_share_a_file(aliases: list[str]) -> None:
    """Different aliases have different names, and none leaves the folder."""
    found = [file_name(alias) for alias in aliases]
    assert len(set(found)) == len(found)
    assert not any("/" in name or name in (".", "..") for name in found)


def test_without_a_write_no_file_stays(past: RuledKeys, tmp_path: Path) -> None:
    """If the keystore cannot be written after all, the files of its keys go away."""
    out = tmp_path / "out"

    def stop() -> None:
        raise OutputError("Stop.")

    store = Keystore(past._keystore.path, before_commit=stop)
    with pytest.raises(OutputError), KeyFolder(str(out)) as folder:
        ApiKeys(store).apply([Wanted("ci")], prune=False, deliver=folder.write)
    assert os.listdir(out) == []
    assert past.list() == ()


def test_a_folder_that_cannot_be(past: RuledKeys, tmp_path: Path) -> None:
    """Where a file is, no folder can be made, and no key."""
    (tmp_path / "file").touch()
    with pytest.raises(OutputError) as caught, KeyFolder(str(tmp_path / "file")) as folder:
        past.apply([Wanted("ci")], prune=False, deliver=folder.write)
    assert caught.value.message == f"{tmp_path}/file cannot take the keys: File exists."
    assert past.list() == ()


# What is managed


def test_fields_that_are_not_listed_stay(past: RuledKeys) -> None:
    """Only what the list mentions changes; what it mentions as empty is taken away."""
    metadata = Metadata(roles=("r",), description="x", labels=(("env", "test"),))
    past.create("ci", expires_on=after(at(NOW), DAY), **fields(metadata))
    before = past.get("ci")
    assert said(apply_to(past, Wanted("ci"))) == []
    assert past.get("ci") == before
    plan = apply_to(past, Wanted("ci", metadata={"description": None, "service_account": "svc"}))
    assert said(plan) == ["~ ci service account description"]
    changed = before.metadata._replace(description=None, service_account="svc")
    assert past.get("ci") == before._replace(metadata=changed)


def test_keys_of_the_stock_tool(past: RuledKeys, keystore: Path, stock: Stock) -> None:
    """They are edited like any other, their secrets and all other entries stay."""
    keystore.parent.mkdir()
    shutil.copy(VECTORS / "jdk17.0.15-mixed.p12", keystore)
    before = {key.alias: key.secret.reveal() for key in past.list()}
    others = [bag.raw for bag in past._keystore.read().bags if "api_key" not in (bag.alias or "")]
    wanted = [
        Wanted("mcp-openai", metadata={"roles": ("r",)}),
        Wanted("mcp-claude", expires_on=datetime(2999, 1, 1)),
        Wanted("ünï-😀", no_expiry=True),
    ]
    plan = apply_to(past, *wanted)
    assert said(plan) == ["~ mcp-openai roles", "~ mcp-claude expiry", "~ ünï-😀 expiry"]
    assert {key.alias: key.secret.reveal() for key in past.list()} == before
    after_it = [bag.raw for bag in past._keystore.read().bags]
    assert all(raw in after_it for raw in others)
    for alias, key in before.items():
        assert stock.rows("find", keystore, key or "") == [[f"accepted {alias}"]]


def test_expires_in_counts_from_the_creation(past: RuledKeys) -> None:
    """So the same list changes nothing, however much later it is applied."""
    wanted = Wanted("ci", expires_in="90d")
    apply_to(past, wanted)
    ends = past.get("ci").expires_on
    assert ends == after(at(NOW), 90 * DAY)
    past._clock = lambda: NOW + 80 * DAY
    assert said(apply_to(past, wanted)) == []
    assert said(apply_to(past, Wanted("ci", expires_in="100d"))) == ["~ ci expiry"]
    assert past.get("ci").expires_on == after(at(NOW), 100 * DAY)
    with pytest.raises(ExpiryInPastError, match=r"^'ci': "):
        apply_to(past, Wanted("ci", expires_in="80d"))
    past._clock = lambda: NOW + 200 * DAY
    assert said(apply_to(past, Wanted("ci", expires_in="100d"))) == []


def test_expires_in_of_an_undated_key(tmp_path: Path) -> None:
    """Where nobody knows the creation, a key keeps the end it has, or gets one from now on."""
    file = tmp_path / "store.p12"
    values = {"ends": b"key-1__2999-01-01T00:00:00", "endless": b"key-2"}
    bags = [undated_bag(ENTRY_PREFIX + alias, value) for alias, value in values.items()]
    file.write_bytes(builders.keystore(builders.data_info(*bags)))
    undated = ApiKeys(Keystore(file, builders.PASSWORDS), clock=lambda: NOW)
    assert [key.created_ms for key in undated.list()] == [None, None]
    wanted = [Wanted("ends", expires_in="1d"), Wanted("endless", expires_in="1d")]
    assert said(apply_to(undated, *wanted)) == ["~ endless expiry"]
    assert undated.get("endless").expires_on == after(at(NOW), DAY)
    undated._clock = lambda: NOW + timedelta(hours=1)
    assert said(apply_to(undated, *wanted)) == []


def undated_bag(alias: str, value: bytes) -> bytes:
    """Return an entry without the attribute that dates it."""
    plaintext = builders.secret_plaintext(value)
    ciphertext = builders.aes_encrypt(plaintext, builders.PASSWORDS.entries.reveal())
    return builders.shrouded_bag(builders.pbes2(), ciphertext, builders.friendly_name(alias))


def test_the_default_lifetime(past: RuledKeys) -> None:
    """A key for which the list has no expiry gets the policy's; one without end never ends."""
    past.policy = Policy(default_lifetime=30 * DAY)
    wanted = [Wanted("ci"), Wanted("web", no_expiry=True)]
    apply_to(past, *wanted)
    assert [key.expires_on for key in past.list()] == [after(at(NOW), 30 * DAY), None]
    assert said(apply_to(past, *wanted)) == []


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (Wanted("new", no_expiry=True), PolicyBreachError),
        (Wanted("new", expires_in="45d"), PolicyBreachError),
        (Wanted("new", expires_on=datetime(2999, 1, 1)), PolicyBreachError),
        (Wanted("new", expires_on=datetime(2001, 1, 1)), ExpiryInPastError),
        (Wanted("ci", no_expiry=True), PolicyBreachError),
        (Wanted("ci", expires_in="45d"), PolicyBreachError),
        (Wanted("ci", metadata={"roles": ("nobody",)}), PolicyBreachError),
        (Wanted("ci", expires_on=datetime(2001, 1, 1)), ExpiryInPastError),
    ],
)
def test_rules(past: RuledKeys, wanted: Wanted, error: type[Exception]) -> None:
    """A new key and a changed one keep the rules, whose error names the key; nothing changes."""
    past.create("ci", expires_on=after(at(NOW), 30 * DAY))
    past.policy = Policy(
        path="apikey.toml",
        require_expiry=True,
        default_lifetime=90 * DAY,
        lifetimes=("30d", "90d"),
        max_lifetime=90 * DAY,
        roles={},
    )
    before = past.list()
    with pytest.raises(error, match=f"^'{wanted.alias}': "):
        apply_to(past, Wanted("other"), wanted)
    with pytest.raises(error, match=f"^'{wanted.alias}': "):
        past.preview([Wanted("other"), wanted], prune=True)
    assert past.list() == before


def test_a_key_that_breaks_a_rule_already(past: RuledKeys) -> None:
    """What the list does not change need not keep a rule that is newer than the key."""
    past.create("ci")
    past.policy = Policy(require_role=True)
    assert said(apply_to(past, Wanted("ci"))) == []


# Removing


def test_prune(past: RuledKeys, keystore: Path) -> None:
    """What is not listed goes with its old key, and what cannot be read; others keep theirs."""
    for alias in ("ci", "web", "other.prev"):
        past.create(alias)
    past.rotate("ci")
    past.rotate("web")

    def spoil(store: Store) -> None:
        name = f"{ENTRY_PREFIX}broken"
        store.add(name, b"key__never", created_ms=0, random_bytes=os.urandom)

    Keystore(keystore).update(spoil)
    plan = apply_to(past, Wanted("ci"), prune=True)
    assert said(plan) == ["- web", "- other.prev", "- web.prev", "- broken"]
    assert [key.alias for key in past.list()] == ["ci", "ci.prev"]
    assert said(apply_to(past, Wanted("ci"), prune=True)) == []


def test_without_prune_nothing_is_removed(past: RuledKeys) -> None:
    """An empty list alone changes nothing; with pruning it removes all."""
    past.create("ci")
    assert said(apply_to(past)) == []
    assert said(apply_to(past, prune=True)) == ["- ci"]
    assert past.list() == ()


def test_an_unreadable_key(past: RuledKeys, keystore: Path) -> None:
    """It can be described, but its expiry is no use: that error names it."""

    def spoil(store: Store) -> None:
        name = f"{ENTRY_PREFIX}broken"
        store.add(name, b"key__never", created_ms=0, random_bytes=os.urandom)

    Keystore(keystore).update(spoil, create=True)
    assert said(apply_to(past, Wanted("broken", metadata={"roles": ("r",)}))) == ["~ broken roles"]
    with pytest.raises(InvalidArgumentError, match=r"^'broken': "):
        apply_to(past, Wanted("broken", expires_in="1d"))


# Any list

ALIASES = st.sampled_from(["a", "b", "c/d", "ü", "e.prev"])
EXPIRIES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.just({"no_expiry": True}),
    st.sampled_from([{"expires_in": length} for length in ("1d", "90d", "1y12h")]),
    st.integers(1, 500).map(lambda days: {"expires_on": to_local(NOW, HERE) + days * DAY}),
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "roles": st.sampled_from([(), ("r",), ("a", "r")]),
        "description": st.sampled_from([None, "x"]),
        "service_account": st.sampled_from([None, "svc"]),
        "labels": st.sampled_from([(), (("env", "test"),)]),
    },
)
WANTED = st.builds(
    lambda alias, expiry, metadata: Wanted(alias, metadata=metadata, **expiry),
    ALIASES, EXPIRIES, FIELDS,
)  # fmt: skip
LISTS = st.lists(WANTED, unique_by=lambda one: one.alias, max_size=5)


@examples(12)
@given(LISTS, LISTS, st.booleans(), st.sampled_from([None, 90 * DAY]))
def test_any_list(
    tmp_path_factory: pytest.TempPathFactory,
    first: list[Wanted],
    second: list[Wanted],
    prune: bool,  # noqa: FBT001
    default: timedelta | None,
) -> None:
    """Whatever is there, the keys are then what the list says, and a second time is none."""
    keystore = tmp_path_factory.mktemp("any") / "store.p12"
    policy = Policy(default_lifetime=default)
    registry = RuledKeys(Keystore(keystore), policy, clock=lambda: NOW)
    apply_to(registry, *first)
    before = {key.alias: key for key in registry.list()}
    expected = registry.preview(second, prune=prune)
    plan = apply_to(registry, *second, prune=prune)
    assert plan.steps == expected.steps
    keys = {key.alias: key for key in registry.list()}
    for one in second:
        check_wanted(one, keys[one.alias], before.get(one.alias))
    listed = {one.alias for one in second}
    assert keys.keys() - listed == (set() if prune else before.keys() - listed)
    assert all(keys[alias] == before[alias] for alias in keys.keys() - listed)
    status = identity(keystore.stat()) if keystore.exists() else None
    registry._clock = lambda: NOW + timedelta(hours=1)
    assert apply_to(registry, *second, prune=prune).steps == ()
    assert status == (identity(keystore.stat()) if keystore.exists() else None)


def check_wanted(wanted: Wanted, key: ApiKey, old: ApiKey | None) -> None:
    """Check that a key is what the list says, and else what it was."""
    assert key.metadata._asdict().items() >= wanted.metadata.items()
    if wanted.no_expiry:
        assert key.expires_on is None
    if wanted.expires_on is not None:
        assert key.expires_on == wanted.expires_on
    if wanted.expires_in is not None:
        assert key.lifetime(HERE) in (DAY, 90 * DAY, 365 * DAY + timedelta(hours=12))
    if old is not None:
        assert (key.secret.reveal(), key.created_ms) == (old.secret.reveal(), old.created_ms)
