"""A key works once it is held: delivery by commands, and what is left where it fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from conftest import COMMAND, Run
from metricshub_apikey import ApiKeys
from metricshub_apikey.errors import OvertakenError
from metricshub_apikey.keys import entries
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.pkcs12.store import Store
from shell import check, document

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="commands for a POSIX shell")


def pending(keystore: Path) -> list[str]:
    """Return the aliases of keys that wait for their delivery."""
    store = Keystore(keystore).read()
    return [entries.alias_of(bag.alias or "") for bag in entries.pending(store)]


def told(folder: Path, name: str) -> str:
    """Return what a command wrote into a file."""
    return (folder / name).read_text()


def test_a_command_takes_the_key(run: Run, registry: ApiKeys, tmp_path: Path) -> None:
    """It comes on standard input with a newline, and nowhere else; what the key is, is told."""
    command = (
        f"cat > {tmp_path}/key; env | grep ^APIKEY_ | sort > {tmp_path}/env; "
        f"tr '\\0' ' ' < /proc/$$/cmdline > {tmp_path}/argv"
    )
    done = run("create", "a/b", "--expires-on", "2999-01-02", "--role", "r", "--deliver", command)
    assert done.returncode == 0, done.stderr
    ends = "2999-01-02T23:59:59"
    assert done.stdout == f"API key created for alias 'a/b': delivered (Expires on {ends})\n"
    (key,) = registry.list()
    secret = key.secret.reveal()
    assert told(tmp_path, "key") == f"{secret}\n"
    environment = dict(line.split("=", 1) for line in told(tmp_path, "env").splitlines())
    assert environment["APIKEY_ALIAS"] == "a/b"
    assert environment["APIKEY_FILE_NAME"] == "a%2Fb"
    assert environment["APIKEY_ROLES"] == "r"
    assert environment["APIKEY_EXPIRES_ON"] == ends
    assert secret not in told(tmp_path, "env") + told(tmp_path, "argv") + done.stderr


def test_the_key_works_only_when_it_is_held(run: Run, keystore: Path, tmp_path: Path) -> None:
    """While the command runs, no server reads the entry; the command may use `apikey` itself."""
    ours = " ".join(COMMAND)
    command = f"{ours} list > {tmp_path}/list; {ours} create other -q > {tmp_path}/other"
    assert run("create", "new", "--deliver", command).returncode == 0
    assert told(tmp_path, "list") == "No API keys found.\n"
    assert set(run("list", "-q").stdout.split()) == {"other", "new"}
    assert pending(keystore) == []


@pytest.mark.parametrize(
    ("command", "message", "hint"),
    [
        ("echo no; echo sealed >&2; exit 3", "the command exited with 3.", "It printed: sealed"),
        ("kill -9 $$", "the command was ended by signal 9.", None),
        ("exec <&-; exit 1", "the command exited with 1.", None),
        ("no-such-program-here", "the command exited with 127.", "not found"),
    ],
)
def test_a_command_that_fails(
    run: Run, keystore: Path, command: str, message: str, hint: str | None
) -> None:
    """Its exit code and its last line are told, and no key is left, live or pending."""
    done = run("create", "x", "--deliver", command)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Error: The new API key of 'x' was not delivered: {message}\n" in done.stderr
    assert (hint or "Nothing is left behind.") in done.stderr.splitlines()[-1]
    assert run("list", "-q").stdout == ""
    assert pending(keystore) == []
    check(run("create", "x", "--if-missing", "--deliver", "true", "-q"), 0)
    assert run("list", "-q").stdout == "x\n"


def test_a_command_that_prints_the_key(run: Run, registry: ApiKeys) -> None:
    """The key is masked, also where it comes in pieces; in JSON the output has a field."""
    slowly = "key=$(cat); printf '%.9s' $key; sleep 0.2; printf '%s\\n' ${key#?????????}; echo end"
    done = run("create", "x", "--deliver", slowly)
    (key,) = registry.list()
    assert done.stderr == "********\nend\n"
    made = document(run("create", "y", "-o", "json", "--deliver", slowly).stdout)
    assert (made["key"], made["delivery_output"]) == (None, "********\nend\n")
    assert key.secret.reveal() not in done.stderr


def test_a_command_that_hangs(run: Run, keystore: Path, tmp_path: Path) -> None:
    """It is ended with all that it has started, and no key is left."""
    command = f"sleep 600 & echo $! > {tmp_path}/pid; wait"
    done = run("create", "x", "--deliver", command, "--deliver-timeout", "0.5")
    assert done.returncode == 1
    assert "the command was ended after 0.5 seconds." in done.stderr
    status = Path(f"/proc/{told(tmp_path, 'pid').strip()}/status")
    assert not status.exists() or "Z (zombie)" in status.read_text()
    assert pending(keystore) == []


def test_a_command_that_leaves_a_process(run: Run, tmp_path: Path) -> None:
    """One that goes on in the background with our pipes holds nothing up."""
    done = run("create", "x", "--deliver", f"sleep 600 & echo $! > {tmp_path}/pid; cat >/dev/null")
    assert done.returncode == 0
    os.kill(int(told(tmp_path, "pid")), signal.SIGKILL)


def test_what_follows(run: Run, tmp_path: Path) -> None:
    """It runs once the key works, without the key; its failure does not undo anything."""
    ours = " ".join(COMMAND)
    then = f"{ours} list -q > {tmp_path}/list; cat > {tmp_path}/stdin"
    assert run("create", "x", "--deliver", "cat >/dev/null", "--then", then).returncode == 0
    assert (told(tmp_path, "list"), told(tmp_path, "stdin")) == ("x\n", "")
    done = run("create", "y", "-q", "--then", "exit 4")
    assert done.returncode == 1
    assert len(done.stdout) == 37
    assert "is active and delivered, but the command that follows exited with 4." in done.stderr
    assert run("list", "-q").stdout == "x\ny\n"


def test_nothing_is_run_where_nothing_is_made(run: Run, tmp_path: Path) -> None:
    """Neither for a key that is there, nor for one that is not due."""
    run("create", "x", "--expires-in", "90d")
    touch = f"touch {tmp_path}/ran"
    for command in (["create", "x", "--if-missing"], ["rotate", "x", "--if-expiring", "1d"]):
        assert run(*command, "--deliver", touch, "--then", touch).returncode == 0
    assert not (tmp_path / "ran").exists()


def test_a_rotation_waits_for_the_delivery(run: Run, registry: ApiKeys, tmp_path: Path) -> None:
    """The old key keeps its place until the new one is held."""
    old = registry.create("x", expires_in=timedelta(days=9)).secret
    done = run("rotate", "x", "--deliver", "exit 1")
    assert (done.returncode, registry.get("x").secret, len(registry)) == (1, old, 1)
    assert "old key works" not in done.stderr
    done = run("rotate", "x", "--deliver", f"cat > {tmp_path}/key")
    assert done.returncode == 0
    assert told(tmp_path, "key") == f"{registry.get('x').secret.reveal()}\n"
    assert registry.get("x.prev").secret == old


def test_a_run_that_was_overtaken(registry: ApiKeys, keystore: Path) -> None:
    """Where another run makes the key meanwhile, that one counts, and this one says so."""
    with pytest.raises(OvertakenError) as caught:
        registry.create("x", deliver=lambda _: registry.create("x") and None)
    assert "overtaken by another run" in caught.value.message
    (key,) = registry.list()
    with pytest.raises(OvertakenError):
        registry.rotate("x", deliver=lambda _: registry.rotate("x") and None)
    assert registry.get("x.prev").secret == key.secret
    assert pending(keystore) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_meanwhile(
    environment: dict[str, str], run: Run, keystore: Path, tmp_path: Path, number: int
) -> None:
    """No key works; a killed run leaves an entry that the next run replaces and `check` names."""
    command = f"echo $$ > {tmp_path}/pid; mv {tmp_path}/pid {tmp_path}/runs; sleep 600"
    process = subprocess.Popen(
        [*COMMAND, "create", "x", "--deliver", command], env=environment, stderr=subprocess.PIPE
    )
    while not (tmp_path / "runs").exists():
        time.sleep(0.01)
    process.send_signal(number)
    process.wait(60)
    killed = number == signal.SIGKILL
    if killed:
        os.killpg(int(told(tmp_path, "runs")), signal.SIGKILL)
    process.communicate()
    assert process.returncode == (-number if killed else 128 + number)
    assert run("list").stdout == "No API keys found.\n"
    assert pending(keystore) == (["x"] if killed else [])
    assert ("x: a new key that was not delivered" in run("check").stdout) == killed
    assert len(run("create", "x", "--if-missing", "-q").stdout) == 37
    assert pending(keystore) == []


def test_what_is_left_is_removed_after_a_day(run: Run, keystore: Path) -> None:
    """`check --fix` leaves a delivery alone that may still be going on."""

    def add(store: Store) -> None:
        for name, created in (("old", 0), ("new", int(time.time() * 1000))):
            entry = f"pending_api_key:{name}"
            store.add(entry, b"k", created_ms=created, random_bytes=os.urandom)

    Keystore(keystore).update(add, create=True)
    done = run("check", "--fix")
    assert "Fixed: The key of 'old' that was not delivered is removed.\n" in done.stdout
    assert pending(keystore) == ["new"]


def test_the_error_is_a_document(run: Run) -> None:
    """With -o json a failed delivery has a code of its own."""
    done = run("create", "x", "-o", "json", "--deliver", "exit 9")
    assert json.loads(done.stderr)["error"]["code"] == "key-not-delivered"
    done = run("create", "x", "--out", "f", "--deliver", "true")
    assert done.returncode == 2
    assert done.stderr.endswith("Error: --out and --deliver exclude each other.\n")
