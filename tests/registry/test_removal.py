"""`revoke` in bulk and `prune`: which keys go, who is asked, and what nobody agreed to stays."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from fields import fields
from metricshub_apikey import ApiKey, ApiKeys
from metricshub_apikey.keys.api_key import ENTRY_PREFIX
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.keys.value import encode
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.pkcs12.store import Store
from metricshub_apikey.registry.removal import remove_unchanged
from metricshub_apikey.secret import Secret
from terminal import CTRL_C, CTRL_D, Terminal

DAY = timedelta(days=1)
BULK = [["revoke", "--expired"], ["revoke", "--role", "r"], ["prune"], ["revoke", "--leaked", "."]]
NEEDS_YES = "Error: Without a terminal to ask on, this needs --yes."
QUESTION = "Remove these keys? [y/N]: "

Done = subprocess.CompletedProcess[str]
Environment = dict[str, str]


def check(done: Done, code: int, stdout: str = "", stderr: str = "") -> None:
    """Compare everything that a command did for its caller."""
    assert (done.returncode, done.stdout, done.stderr) == (code, stdout, stderr)


def document(text: str) -> dict[str, Any]:
    """Return the one JSON document in *text*."""
    found: dict[str, Any] = json.loads(text)
    return found


def make(keystore: Path, keys: Iterable[tuple[str, timedelta | None]], role: str = "r") -> None:
    """Make keys with that role that end at these times from now, perhaps long ago."""
    now = datetime.now().replace(microsecond=0)

    def add(store: Store) -> None:
        for alias, length in keys:
            value = encode(f"key-of-{alias}", None if length is None else now + length)
            store.add(ENTRY_PREFIX + alias, value, created_ms=0, random_bytes=os.urandom)

    Keystore(keystore).update(add, create=True)
    registry = ApiKeys(Keystore(keystore))
    for alias, _ in list(keys)[:3] if role else ():
        registry.edit(alias, add_roles=(role,))


AGES = [
    ("dead", -40 * DAY),
    ("fresh", 40 * DAY),
    ("late", -DAY),
    ("ever", None),
    ("ancient", -400 * DAY),
]
"""Aliases and when they end; the first three have the role `r`."""


@pytest.fixture
def file(keystore: Path) -> Path:
    """Return a keystore with keys of all ages."""
    make(keystore, AGES)
    return keystore


def aliases(registry: ApiKeys) -> list[str]:
    """Return the aliases."""
    return list(registry.aliases())


def expired_line(alias: str, length: timedelta) -> str:
    """Return the pattern of a line of `list` for an expired key."""
    day = (datetime.now() + length).date()
    return rf"{alias} \*{{20}}{alias[-4:]} \(Expired on {day}T\d\d:\d\d:\d\d\)"


# Which keys go


@pytest.mark.parametrize(
    ("command", "gone"),
    [
        (["revoke", "--expired"], ["dead", "late", "ancient"]),
        (["revoke", "--role", "r"], ["dead", "fresh", "late"]),
        (["revoke", "--role", "r", "--expired"], ["dead", "late"]),
        (["revoke", "--role", "R"], []),
        (["prune"], ["dead", "ancient"]),
        (["prune", "--older-than", "0"], ["dead", "late", "ancient"]),
        (["prune", "--older-than", "12h"], ["dead", "late", "ancient"]),
        (["prune", "--older-than", "1y"], ["ancient"]),
        (["prune", "--older-than", "9000y"], []),
    ],
)
def test_which_keys_go(
    run: Run, file: Path, registry: ApiKeys, command: list[str], gone: list[str]
) -> None:
    """Each form removes what it says, in one document and one write, and nothing else."""
    inode = file.stat().st_ino
    done = run(*command, "--yes", "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert document(done.stdout)["pruned" if command[0] == "prune" else "revoked"] == gone
    assert aliases(registry) == [alias for alias, _ in AGES if alias not in gone]
    assert (file.stat().st_ino == inode) == (not gone)


def test_leaked_keys(run: Run, file: Path, registry: ApiKeys, tmp_path: Path) -> None:
    """What is found in files is shown on standard error, with the place, and revoked."""
    history = tmp_path / "history"
    history.write_text("curl -H 'Authorization: Bearer key-of-fresh'\n\nkey-of-ever\n")
    done = run("revoke", "--leaked", history, "--yes")
    assert done.stderr == f"{history}:1: fresh\n{history}:3: ever\n"
    assert done.stdout == "API key 'fresh' has been revoked.\nAPI key 'ever' has been revoked.\n"
    assert done.returncode == 0
    assert aliases(registry) == ["dead", "late", "ancient"]
    history.write_text("key-of-dead")
    done = run("revoke", "--leaked", history, "--yes", "-o", "json")
    assert (done.stderr, document(done.stdout)["revoked"]) == ("", ["dead"])
    check(run("revoke", "--leaked", history, "--yes"), 0, "No such API keys found.\n")
    assert file.exists()


def test_what_prune_says(run: Run, file: Path) -> None:
    """It tells of each key when it had expired; a dry run tells the same and changes nothing."""
    before = file.read_bytes()
    lines = [expired_line("dead", -40 * DAY), expired_line("ancient", -400 * DAY)]
    done = run("prune", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch("".join(f"{line} would be removed\\.\n" for line in lines), done.stdout)
    check(run("prune", "--dry-run", "-q"), 0, "dead\nancient\n")
    found = document(run("prune", "--dry-run", "-o", "json").stdout)
    assert (found["pruned"], found["dry_run"]) == (["dead", "ancient"], True)
    assert file.read_bytes() == before
    done = run("prune", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch("".join(f"{line} has been removed\\.\n" for line in lines), done.stdout)


def test_revoke_quietly(run: Run, file: Path, registry: ApiKeys) -> None:
    """With `-q` a bulk revocation prints nothing."""
    check(run("revoke", "--expired", "--yes", "-q"), 0)
    assert aliases(registry) == ["fresh", "ever"]
    assert file.exists()


@pytest.mark.parametrize("command", BULK)
def test_nothing_to_do(run: Run, keystore: Path, tmp_path: Path, command: list[str]) -> None:
    """Where no key is meant, that is no failure; a keystore that is not there is one."""
    nothing = {
        "prune": "No keys expired that long ago.\n",
        "revoke": "No such API keys found.\n",
    }[command[0]]
    done = run(*command, "--yes", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: There is no keystore at ")
    assert list(tmp_path.iterdir()) == []
    make(keystore, [("fresh", DAY)], role="")
    before = keystore.read_bytes()
    check(run(*command, "--yes", cwd=tmp_path), 0, nothing)
    assert keystore.read_bytes() == before
    assert sorted(os.listdir(keystore.parent)) == [f".{keystore.name}.lock", keystore.name]


def test_a_thousand_keys_in_one_write(run: Run, keystore: Path, registry: ApiKeys) -> None:
    """However many keys there are to remove, the file is replaced once."""
    make(keystore, [(f"key-{number}", -40 * DAY) for number in range(1000)], role="")
    registry.create("kept")
    before = keystore.stat()
    program = (
        "import sys\n"
        "from metricshub_apikey.files import kernel\n"
        "from metricshub_apikey.cli.main import run\n"
        "exchange, renamed = kernel.exchange, []\n"
        "def rename(*names):\n"
        "    renamed.append(names)\n"
        "    return exchange(*names)\n"
        "kernel.exchange = rename\n"
        "code = run(['prune', '--yes', '-q'])\n"
        "print(len(renamed), file=sys.stderr)\n"
        "sys.exit(code)\n"
    )

    done = run(command=[sys.executable, "-c", program])
    assert (done.returncode, done.stderr) == (0, "1\n")
    assert len(done.stdout.splitlines()) == 1000
    assert aliases(registry) == ["kept"]
    assert keystore.stat().st_size < before.st_size / 100


def test_a_role_takes_the_old_key_of_a_rotation_along(run: Run, registry: ApiKeys) -> None:
    """The old key has the roles of the new one, so both go."""
    registry.create("web", **fields(Metadata(roles=("r",))))
    registry.rotate("web")
    assert run("revoke", "--role", "r", "--yes").returncode == 0
    assert aliases(registry) == []


def test_it_is_in_the_log(run: Run, file: Path) -> None:
    """Each removed key is recorded, under the name of what was done."""
    run("prune", "--older-than", "1y", "--yes")
    run("revoke", "--expired", "--yes")
    run("revoke", "--role", "r", "--yes")
    events = document(run("log", "-o", "json").stdout)["events"]
    assert [(event["action"], event["alias"]) for event in events] == [
        ("prune", "ancient"),
        ("revoke", "dead"),
        ("revoke", "late"),
        ("revoke", "fresh"),
    ]
    assert file.exists()


# Who is asked


@pytest.mark.parametrize("command", [*BULK, ["prune", "-q"], ["revoke", "--expired", "-o", "json"]])
def test_without_a_terminal(run: Run, file: Path, tmp_path: Path, command: list[str]) -> None:
    """Where nobody can be asked it is wrong usage not to say `--yes`; nothing is changed."""
    before = file.read_bytes()
    done = run(*command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    if "json" in command:
        assert document(done.stderr)["error"]["message"] == NEEDS_YES.removeprefix("Error: ")
    else:
        assert done.stderr.splitlines()[-1] == NEEDS_YES
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--yes"],
        ["web", "--expired"],
        ["web", "--role", "r"],
        ["--leaked", ".", "--expired"],
        ["--leaked", ".", "--role", "r", "--yes"],
    ],
)
def test_one_way_at_a_time(run: Run, file: Path, arguments: list[str]) -> None:
    """Aliases, filters and leaks are not mixed, nor is revoking nothing meant to be all."""
    before = file.read_bytes()
    done = run("revoke", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Name aliases, or use --leaked, or options that select keys" in done.stderr
    assert file.read_bytes() == before


@pytest.mark.parametrize(("form", "answer"), [([], "y"), (["-q"], "YES")])
def test_yes(
    file: Path, registry: ApiKeys, environment: Environment, form: list[str], answer: str
) -> None:
    """On a terminal the keys and the question are on standard error; yes removes the keys."""
    with Terminal(["prune", *form], environment) as terminal:
        terminal.wait_for(QUESTION)
        lines = (expired_line("dead", -40 * DAY), expired_line("ancient", -400 * DAY))
        assert re.fullmatch("\n".join([*lines, re.escape(QUESTION)]), terminal.shown)
        assert len(aliases(registry)) == 5, "nothing is done before the answer"
        terminal.type(f"{answer}\n")
        code, output = terminal.end()
    assert code == 0
    assert output.count("\n") == 2
    assert output.startswith("dead")
    assert "[y/N]" not in output
    assert aliases(registry) == ["fresh", "late", "ever"]
    assert file.exists()


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ("n\n", 1, "Error: Nothing was changed."),
        ("\n", 1, "Error: Nothing was changed."),
        ("what?\nn\n", 1, "Error: Nothing was changed."),
        (CTRL_D, 1, "Error: Nothing was changed."),
        (CTRL_C, 130, ""),
    ],
)
def test_no(file: Path, environment: Environment, answer: str, code: int, said: str) -> None:
    """Whatever else is answered, nothing is changed, and nothing is on standard output."""
    before = file.read_bytes()
    with Terminal(["revoke", "--expired"], environment) as terminal:
        terminal.wait_for(QUESTION)
        terminal.type(answer)
        assert terminal.end() == (code, "")
        assert terminal.shown.rstrip().endswith(said or QUESTION + "^C")
    assert "Traceback" not in terminal.shown
    assert file.read_bytes() == before


def test_one_key_is_one_key(file: Path, registry: ApiKeys, environment: Environment) -> None:
    """For a single key the question has no plural."""
    with Terminal(["prune", "--older-than", "1y"], environment) as terminal:
        terminal.wait_for("Remove this key? [y/N]: ")
        terminal.type("y\n")
        assert terminal.end()[0] == 0
    assert "ancient" not in aliases(registry)
    assert file.exists()


@pytest.mark.parametrize("command", [["revoke", "--role", "nobody"], ["prune", "--dry-run"]])
def test_where_there_is_nothing_to_ask(
    file: Path, environment: Environment, command: list[str]
) -> None:
    """Without a key to remove, or with a dry run, there is no question on a terminal either."""
    before = file.read_bytes()
    with Terminal(command, environment) as terminal:
        assert terminal.end()[0] == 0
        assert terminal.shown == ""
    assert file.read_bytes() == before


def test_json_never_asks(file: Path, environment: Environment) -> None:
    """A script on a terminal is not asked either."""
    with Terminal(["prune", "-o", "json"], environment) as terminal:
        code, output = terminal.end()
    assert (code, output) == (2, "")
    assert "needs --yes" in terminal.shown
    assert file.exists()


# What nobody agreed to


def test_a_key_that_was_replaced_meanwhile(
    file: Path, registry: ApiKeys, environment: Environment
) -> None:
    """Keys that were made, changed or revoked between question and answer were not agreed to."""
    with Terminal(["revoke", "--expired"], environment) as terminal:
        terminal.wait_for(QUESTION)
        registry.revoke("dead", "late")
        again = registry.create("dead")
        registry.edit("ancient", expires_on=datetime(2999, 1, 1))
        make(file, [("new", -40 * DAY)], role="")
        terminal.type("y\n")
        assert terminal.end() == (0, "No such API keys found.\n")
    assert registry.get("dead") == again
    assert aliases(registry) == ["fresh", "ever", "ancient", "dead", "new"]


def test_the_others_still_go(file: Path, registry: ApiKeys, environment: Environment) -> None:
    """One key that has changed does not keep the rest."""
    with Terminal(["revoke", "--expired"], environment) as terminal:
        terminal.wait_for(QUESTION)
        registry.revoke("dead")
        again = registry.create("dead")
        terminal.type("y\n")
        code, output = terminal.end()
    assert code == 0
    assert output == "API key 'late' has been revoked.\nAPI key 'ancient' has been revoked.\n"
    assert aliases(registry) == ["fresh", "ever", "dead"]
    assert registry.get("dead") == again
    assert file.exists()


def test_nobody_holds_the_lock_while_asking(file: Path, run: Run, environment: Environment) -> None:
    """Others can write while somebody thinks about an answer."""
    with Terminal(["prune"], environment) as terminal:
        terminal.wait_for(QUESTION)
        assert run("create", "meanwhile", "--lock-timeout", "0").returncode == 0
        terminal.type("n\n")
        assert terminal.end()[0] == 1
    assert file.exists()


def test_unchanged_means_all_of_it(keystore: Path, registry: ApiKeys) -> None:
    """Another secret, expiry, role or age makes it another key; the same one in any case goes."""
    key = registry.create("web", **fields(Metadata(roles=("r",))))
    store = Keystore(keystore).read()
    others: list[ApiKey] = [
        key._replace(secret=Secret("another")),
        key._replace(expires_on=datetime(2999, 1, 1)),
        key._replace(created_ms=0),
        key._replace(metadata=Metadata()),
        key._replace(alias="site"),
    ]
    for other in others:
        assert remove_unchanged(store, [other]) == []
    assert remove_unchanged(store, [key]) == [key]
    assert remove_unchanged(store, [key]) == [], "and only once"


def test_unreadable_keys_can_go_in_bulk(run: Run, keystore: Path, registry: ApiKeys) -> None:
    """What cannot be read never expires, but a role in its attributes is known."""
    make(keystore, [("odd", None)], role="")

    def spoil(store: Store) -> None:
        store.add(ENTRY_PREFIX + "bytes", b"\xff", created_ms=0, random_bytes=os.urandom)

    Keystore(keystore).update(spoil)
    assert run("revoke", "--expired", "--yes").stdout == "No such API keys found.\n"
    registry.edit("bytes", add_roles=("r",))
    assert run("revoke", "--role", "r", "--yes").returncode == 0
    assert aliases(registry) == ["odd"]
