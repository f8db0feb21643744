"""
Keys and passwords: never where somebody else could see them; and no key that nobody knows of.

A key is absent, or it is present and its user has it, or it is present and its user is told that
nobody has it. A signal at any moment does not change that.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

import faults
from conftest import COMMAND, Run, missing
from metricshub_apikey import ApiKeyError, ApiKeys
from metricshub_apikey.cli.output import Form, Output
from metricshub_apikey.cli.session import Session
from metricshub_apikey.files.new_file import NewFile
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.value import encode
from metricshub_apikey.keystore.keystore import STOCK_PASSWORDS, Keystore
from metricshub_apikey.pkcs12.kdf import Passwords

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks into Linux's /proc")

OWN_PASSWORD = "correct horse battery staple"

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}

RECORD = {"apikey-activity.db", "apikey-activity.db-wal", "apikey-activity.db-shm"}

UNDELIVERED = "was not delivered"
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@contextmanager
def waiting(
    keystore: Path, environment: dict[str, str], *arguments: str, prefix: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """Start the command and yield it while it waits for the lock; the block may drop that."""
    lock = keystore.with_name(f".{keystore.name}.lock")
    with lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with subprocess.Popen(
            [*prefix, *COMMAND, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            while not _has_open(process.pid, lock):
                assert process.poll() is None, process.communicate()
                time.sleep(0.01)
            yield process
            process.kill()


def _has_open(pid: int, file: Path) -> bool:
    try:
        links = list(Path(f"/proc/{pid}/fd").iterdir())
        return any(os.path.realpath(link) == str(file) for link in links)
    except OSError:
        return False


# Processes


@needs_proc
def test_neither_key_nor_password_is_in_the_process_list(
    keystore: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """What `ps` and /proc show of a running `create`, arguments and environment, has no secret."""
    password = tmp_path / "password"
    password.write_text(OWN_PASSWORD)
    password.chmod(0o600)
    passwords = Passwords(OWN_PASSWORD, OWN_PASSWORD)
    registry = ApiKeys(Keystore(keystore, passwords))
    old = registry.create("old")
    lock = keystore.with_name(f".{keystore.name}.lock")
    with lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = subprocess.Popen(
            [*COMMAND, "create", "new", "-q", "--password-file", str(password)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while not _has_open(process.pid, lock):
            assert process.poll() is None
            time.sleep(0.01)
        seen = b"".join(
            Path(f"/proc/{process.pid}/{name}").read_bytes()
            for name in ("cmdline", "environ", "comm", "status")
        )
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        assert not children.exists() or children.read_text() == ""
        fcntl.flock(held, fcntl.LOCK_UN)
        key = process.communicate()[0].strip()
    assert registry.list()[-1].secret.reveal() == key
    for secret in (key, str(old.secret.reveal()), OWN_PASSWORD, STOCK_PASSWORDS.store.reveal()):
        assert secret.encode() not in seen


@needs_proc
def test_core_dumps_are_off(keystore: Path, environment: dict[str, str]) -> None:
    """While keys are in memory, a limit of one byte keeps them out of any core dump."""
    ApiKeys(Keystore(keystore)).create("old")
    with waiting(keystore, environment, "create", "new") as process:
        limits = Path(f"/proc/{process.pid}/limits").read_text()
    (line,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert [value for value in line.split() if value.isdigit()] in (["1", "1"], ["0", "0"])


@needs_proc
def test_a_crash_leaves_no_core_file(
    keystore: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Nothing is dumped when the command aborts, even where the shell allows core files."""
    ApiKeys(Keystore(keystore)).create("old")
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard == 0:
        missing("a hard limit of 0 for core files forbids them anyway")
    folder = tmp_path / "cwd"
    folder.mkdir()
    script = f'ulimit -c $(ulimit -H -c); cd "{folder}"; exec "$@"'
    shell = ["sh", "-c", script, "sh"]
    search = {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path[1:]))}
    with waiting(keystore, {**environment, **search}, "create", "new", prefix=shell) as process:
        process.send_signal(signal.SIGABRT)
        process.communicate()
        assert process.returncode == -signal.SIGABRT
    assert os.listdir(folder) == []


# Texts


def secrets_of(key: ApiKey) -> list[str]:
    """Return what nobody may see: the key, and the passwords."""
    return [str(key.secret.reveal()), STOCK_PASSWORDS.store.reveal(), OWN_PASSWORD]


def test_no_text_of_an_object_shows_a_secret(keystore: Path, tmp_path: Path) -> None:
    """Whatever a debugger, a log or a traceback prints of an object, no secret is in it."""
    passwords = Passwords(OWN_PASSWORD, OWN_PASSWORD)
    opened = Keystore(keystore, passwords)
    registry = ApiKeys(opened)
    key = registry.create("x")
    store = opened.read()
    values = store.values(store.bags)
    assert str(key.secret.reveal()).encode() in values
    bag = store.bags[0]
    file = NewFile(str(tmp_path / "key"))
    objects = [
        key, [key], {"key": key}, registry.list(), passwords, opened, registry, store, bag,
        bag.encrypted(), bag.encrypted().algorithm, store.keys, file, Session(),
        Output(Form.TEXT, color=False), STOCK_PASSWORDS,
    ]  # fmt: skip
    for shown in objects:
        for text in (repr(shown), str(shown), f"{shown}", "%s" % (shown,), f"{shown!a}"):  # noqa: UP031
            assert not [secret for secret in secrets_of(key) if secret in text], type(shown)
    assert key.secret.reveal() is not None
    assert repr(key).count(key.secret.reveal()[-4:]) == 1, (
        "its last four characters are shown, as by `list`"
    )
    file.close()


def test_no_error_shows_a_secret(keystore: Path) -> None:
    """Nor do the errors: not their texts, arguments, causes or tracebacks with all variables."""
    own = Passwords(OWN_PASSWORD, OWN_PASSWORD)
    key = ApiKeys(Keystore(keystore, own)).create("x")
    wrong = ApiKeys(Keystore(keystore, Passwords("wrong-password", "wrong-password")))
    half = ApiKeys(Keystore(keystore, Passwords(OWN_PASSWORD, "wrong-password")))
    again = ApiKeys(Keystore(keystore, own))
    shown = [repr(half.list()), *(str(one.unreadable) for one in half.list())]
    for fail in (wrong.list, lambda: wrong.create("y"), lambda: again.create("x")):
        with pytest.raises(ApiKeyError) as caught:
            fail()
        error = caught.value
        shown += [repr(error), str(error), repr(error.args), str(error.hint)]
        shown += traceback.format_exception(error)
    text = "".join(shown)
    for secret in (*secrets_of(key), "wrong-password"):
        assert secret not in text


BROKEN = """
import sys
from metricshub_apikey.cli.commands import create, list
from metricshub_apikey.keystore import keystore
from metricshub_apikey.cli import main as cli
def bug(*arguments, **named):
    raise ZeroDivisionError("a bug")
{place} = bug
sys.exit(cli.run(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "place", ["keystore.Keystore._check", "create.Created", "list.Listing", "keystore.Store.parse"]
)
def test_a_bug_shows_no_secret(run: Run, registry: ApiKeys, place: str, tmp_path: Path) -> None:
    """The traceback of a bug, wherever it is, shows lines of code but no values."""
    old = registry.create("old")
    password = tmp_path / "none"
    broken = [sys.executable, "-c", BROKEN.format(place=place)]
    outputs = [run(*one, command=broken) for one in (["create", "new"], ["list"])]
    assert any("ZeroDivisionError: a bug" in done.stderr for done in outputs)
    assert not password.exists()
    keys = [str(key.secret.reveal()) for key in registry.list()]
    assert str(old.secret.reveal()) in keys
    for done in outputs:
        for secret in (*keys, STOCK_PASSWORDS.store.reveal()):
            assert secret not in done.stderr
    assert not [UUID4.search(done.stdout) for done in outputs if UUID4.search(done.stdout)] or (
        place == "list.Listing"
    ), "a key goes out whole or not at all"


def test_nothing_is_logged(registry: ApiKeys, caplog: pytest.LogCaptureFixture) -> None:
    """An application that logs everything logs nothing of ours."""
    with caplog.at_level(logging.NOTSET):
        registry.create("x")
        registry.list()
        registry.revoke("x")
    assert caplog.records == []


@pytest.mark.parametrize("option", [["-X", "dev"], ["-v"], ["-X", "importtime"]])
def test_python_s_own_debugging_shows_no_secret(
    run: Run, registry: ApiKeys, option: list[str]
) -> None:
    """What the interpreter can be told to print on standard error has no key in it."""
    done = run("create", "x", "-q", command=[COMMAND[0], *option, *COMMAND[1:]])
    assert done.returncode == 0
    assert done.stdout.strip() == registry.list()[0].secret.reveal()
    assert done.stdout.strip() not in done.stderr
    assert STOCK_PASSWORDS.store.reveal() not in done.stderr


def test_the_value_of_a_key_is_only_in_its_encrypted_form_on_the_disk(keystore: Path) -> None:
    """The keystore and its lock file hold no key in clear."""
    key = ApiKeys(Keystore(keystore)).create("x")
    for file in keystore.parent.iterdir():
        assert encode(str(key.secret.reveal()), None) not in file.read_bytes()


# Signals


def assert_accounted_for(
    keystore: Path, alias: str, *, code: int, stdout: str, stderr: str, number: int
) -> bool:
    """Check a run that was sent the signal *number*; return whether the key is there."""
    where = f"{signal.Signals(number).name}: exit {code}, {stdout!r}, {stderr!r}"
    assert "Traceback" not in stderr, where
    assert code in (0, 1, SIGNALS[signal.Signals(number)], -number), where
    found = {key.alias: key.secret.reveal() for key in ApiKeys(Keystore(keystore)).list()}
    delivered = stdout.strip()
    if alias in found:
        assert delivered == found[alias], where
        assert code != 1, where
    else:
        assert not delivered, where
        assert code != 0, where
        assert (code == 1) == (UNDELIVERED in stderr), where
    return alias in found


def leftovers(keystore: Path) -> list[str]:
    """Return what lies beside the keystore, its lock and the record of what was done."""
    ours = {keystore.name, f".{keystore.name}.lock", *RECORD}
    return sorted(set(os.listdir(keystore.parent)) - ours)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_at_any_time(
    keystore: Path, environment: dict[str, str], number: signal.Signals
) -> None:
    """From the start of the process to its end, spread over its measured length."""
    registry = ApiKeys(Keystore(keystore))
    started = time.monotonic()
    subprocess.run([*COMMAND, "create", "first", "-q"], env=environment, check=True)
    length = time.monotonic() - started
    for moment in range(10):
        alias = f"k{moment}"
        process = subprocess.Popen(
            [*COMMAND, "create", alias, "-q"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(length * moment / 9)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
        if "KeyboardInterrupt" in stderr and "metricshub_apikey/cli/main.py" not in stderr:
            # Python itself was still starting: it prints that before any code of ours runs.
            assert not stdout
            continue
        assert_accounted_for(
            keystore,
            alias,
            code=process.returncode,
            stdout=stdout,
            stderr=stderr,
            number=number,
        )
    registry.create("last")
    assert leftovers(keystore) == []


def start_again(keystore: Path, original: bytes) -> None:
    """Let the next run find, and so do, what the first one did."""
    keystore.write_bytes(original)
    for name in RECORD:
        keystore.with_name(name).unlink(missing_ok=True)


@pytest.fixture
def window(keystore: Path, environment: dict[str, str], tmp_path: Path) -> list[faults.Call]:
    """Return the calls of `create`'s write window, and leave a keystore with the key `old`."""
    if shutil.which("strace") is None:
        missing("strace is missing")
    ApiKeys(Keystore(keystore)).create("old")
    original = keystore.read_bytes()
    command = ["create", "new", "-q"]
    # Compiled modules are written by the first run alone, which would shift the numbers of calls.
    subprocess.run([*COMMAND, *command], env=environment, check=True, capture_output=True)
    start_again(keystore, original)
    done = faults.run_traced(command, log=tmp_path / "log", environment=environment)
    assert done.returncode == 0, done.stderr
    start_again(keystore, original)
    calls = faults.write_window(tmp_path / "log", keystore.parent)
    renamed = next(index for index, call in enumerate(calls) if call.name == "renameat2")
    # The record, which is written then, looks at its files often.
    return calls[:renamed] + [call for call in calls[renamed:] if call.name != "newfstatat"]


PARTS = {signal.SIGTERM: (0, 1), signal.SIGINT: (0, 3), signal.SIGHUP: (1, 3)}
"""Of the window's calls, where each signal starts and its step: they share one handler."""


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_at_each_call_of_the_write(
    window: list[faults.Call],
    keystore: Path,
    environment: dict[str, str],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    """Before the rename the key is absent; after it, its user has it. No file is left."""
    original = keystore.read_bytes()
    renamed = next(index for index, call in enumerate(window) if call.name == "renameat2")
    start, step = PARTS[number]
    there = {}
    for index in range(start, len(window), step):
        call = window[index]
        start_again(keystore, original)
        done = faults.run_traced(
            ["create", "new", "-q"],
            log=tmp_path / "log",
            environment=environment,
            inject=f"{call.name}:signal={number.name[3:]}:when={call.number}",
        )
        there[index] = assert_accounted_for(
            keystore,
            "new",
            code=done.returncode,
            stdout=done.stdout,
            stderr=done.stderr,
            number=number,
        )
        assert done.returncode == SIGNALS[number], f"{call}: {done}"
        assert leftovers(keystore) == [], call
    early = [window[index] for index, found in there.items() if found and index < renamed]
    assert early == []
    late = [window[index] for index, found in there.items() if not found and index >= renamed]
    assert late == []


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_a_key_file_is_made(
    window: list[faults.Call],
    keystore: Path,
    environment: dict[str, str],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    """A file that was made for a key, which then is not created, goes away."""
    del window
    file = tmp_path / "key"
    command = ["create", "new", "--out", str(file)]
    assert faults.run_traced(command, log=tmp_path / "log", environment=environment).returncode == 0
    file.unlink()
    ApiKeys(Keystore(keystore)).revoke("new")
    calls = faults.read_log(tmp_path / "log")
    (made,) = (one for one in calls if one.name == "openat" and str(file) in one.arguments)
    done = faults.run_traced(
        command,
        log=tmp_path / "log",
        environment=environment,
        inject=f"openat:signal={number.name[3:]}:when={made.number}",
    )
    assert done.returncode == SIGNALS[number], done
    assert (done.stdout, done.stderr) == ("", "")
    assert ApiKeys(Keystore(keystore)).aliases() == ("old",)
    assert not file.exists()


LATE = """
import os, signal, sys
from metricshub_apikey.cli import interrupts
from metricshub_apikey.cli import main as cli
{setup}
from metricshub_apikey.__main__ import main
main()
"""

MOMENTS = {
    "just after listening": (
        "listen = interrupts.Interrupts.listen\n"
        "def listen_then(self):\n"
        "    listen(self)\n"
        "    os.kill(os.getpid(), {number})\n"
        "interrupts.Interrupts.listen = listen_then\n"
    ),
    "just after the command": (
        "main_of_click = cli.apikey.main\n"
        "def main_then(*arguments, **named):\n"
        "    main_of_click(*arguments, **named)\n"
        "    import atexit\n"
        "    atexit.register(os.kill, os.getpid(), {number})\n"
        "cli.apikey.main = main_then\n"
    ),
    "while an error is shown": (
        "error = cli.Output.error\n"
        "def error_then(self, one):\n"
        "    os.kill(os.getpid(), {number})\n"
        "    return error(self, one)\n"
        "cli.Output.error = error_then\n"
    ),
}


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_outside_the_work(
    run: Run, registry: ApiKeys, moment: str, number: signal.Signals
) -> None:
    """Right before a command's work and right after it, a signal shows no traceback either."""
    registry.create("x")
    setup = MOMENTS[moment].format(number=int(number))
    done = run(
        *(["create", "x"] if "error" in moment else ["list"]),
        command=[sys.executable, "-c", LATE.format(setup=setup)],
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "Interrupted" not in done.stderr
    assert done.returncode in (0, 1, SIGNALS[number], -number)
