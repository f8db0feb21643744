"""The commands `scan` and `revoke --leaked`: keys in texts, found and never shown."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from conftest import COMMAND, Run
from metricshub_apikey import ApiKeys
from metricshub_apikey.files.reading import identity
from metricshub_apikey.policy.rules import Policy

CLEAN = "No API keys found in there.\n"


@pytest.fixture
def secrets(registry: ApiKeys) -> dict[str, str]:
    """Return the keys in the keystore by their alias: a UUID, a prefixed one, and one more."""
    registry.create("ci")
    prefixed = Policy(format="prefixed", prefix="metoro_secret_")
    registry.create("web", policy=prefixed)
    registry.create("safe", policy=prefixed)
    return {key.alias: key.secret.reveal() or "" for key in registry.list()}


@pytest.fixture
def repository(tmp_path: Path, secrets: dict[str, str]) -> Path:
    """Return a folder in which two of the keys have leaked, and an image has the third."""
    folder = tmp_path / "repository"
    (folder / "deploy").mkdir(parents=True)
    (folder / "README.md").write_text("Nothing here.\n")
    (folder / ".env").write_text(f"# settings\nTOKEN={secrets['ci']}\nOTHER=x\n")
    (folder / "deploy" / "job.yaml").write_text(f"a: 1\nb: ['{secrets['web']}', {secrets['ci']}]\n")
    (folder / "logo.png").write_bytes(b"\x89PNG\0" + secrets["safe"].encode())
    return folder


def check_secret(text: str, secrets: dict[str, str]) -> None:
    """Check that no key, nor a half of one, is in what was printed."""
    for secret in secrets.values():
        assert secret[: len(secret) // 2] not in text
        assert secret[len(secret) // 2 :] not in text


def test_scan(run: Run, repository: Path, secrets: dict[str, str], keystore: Path) -> None:
    """Each place is a line with file, line and alias, never the key; the exit code is 1."""
    before = identity(keystore.stat())
    done = run("scan", repository)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        f"{repository}/.env:2: ci",
        f"{repository}/logo.png: offset 5: safe",
        f"{repository}/deploy/job.yaml:2: web",
        f"{repository}/deploy/job.yaml:2: ci",
    ]
    check_secret(done.stdout, secrets)
    assert identity(keystore.stat()) == before


def test_nothing_leaked(run: Run, repository: Path) -> None:
    """Where no key is, that is said, and the exit code is 0."""
    done = run("scan", repository / "README.md")
    assert (done.returncode, done.stdout, done.stderr) == (0, CLEAN, "")


def test_standard_input(run: Run, secrets: dict[str, str]) -> None:
    """`-` is standard input, which may be one of several places."""
    done = run("scan", "-", stdin=f"curl\n\ncurl -H 'Authorization: Bearer {secrets['web']}'\n")
    assert (done.returncode, done.stdout) == (1, "-:3: web\n")
    assert run("scan", "-", stdin="curl\n").returncode == 0


def test_json(run: Run, repository: Path, secrets: dict[str, str]) -> None:
    """Scripts get the same as a document, and the warnings in it."""
    done = run("scan", repository / ".env", repository / "logo.png", "-o", "json")
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    assert found["leaks"][0] == {
        "file": f"{repository}/.env",
        "line": 2,
        "alias": "ci",
        "offset": None,
    }
    assert (found["leaks"][1]["alias"], found["leaks"][1]["line"]) == ("safe", None)
    assert (found["complete"], found["not_searched"], found["notes"]) == (True, [], [])
    check_secret(done.stdout, secrets)


def test_a_missing_path(run: Run, repository: Path) -> None:
    """A path that is not there is wrong usage, whatever was found elsewhere."""
    done = run("scan", repository, repository / "none")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Error: {repository}/none does not exist.\n" in done.stderr


def test_an_unreadable_file(run: Run, registry: ApiKeys, public: Path, ordinary: list[str]) -> None:
    """What may not be read is a warning, and the search goes on."""
    key = registry.create("ci").secret.reveal()
    for name in ("a-locked", "b-open"):
        (public / name).write_text(f"{key}\n")
    (public / "a-locked").chmod(0)
    with open(registry.path, "rb") as file:
        (public / "store.p12").write_bytes(file.read())
    store = public / "store.p12"
    done = run("scan", public, "--keystore", store, command=ordinary)
    assert (done.returncode, done.stdout) == (1, f"{public}/b-open:1: ci\n")
    assert done.stderr == f"Warning: {public}/a-locked was not searched: Permission denied.\n"


def test_no_keystore(run: Run, repository: Path, tmp_path: Path) -> None:
    """A mistyped keystore is not "nothing found"; the exit code is no verdict, nothing is made."""
    path = tmp_path / "none" / "store.p12"
    done = run("scan", repository, "--keystore", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Error: There is no keystore at {path}.\nHint: ")
    assert not (tmp_path / "none").exists()


def test_the_password_and_the_text_cannot_both_be_standard_input(
    run: Run, registry: ApiKeys
) -> None:
    """What would be read as the password would not be searched."""
    registry.create("ci")
    done = run("scan", "-", "--password-file", "-", stdin="password\ntext\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: The password and a file cannot both be standard input.\n" in done.stderr


@pytest.mark.parametrize(("path", "code"), [("-", 2), (".", 0)])
def test_without_standard_input(
    run: Run, registry: ApiKeys, tmp_path: Path, path: str, code: int
) -> None:
    """A closed standard input is an error only where it should be read."""
    registry.create("ci")
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *COMMAND]
    done = run("scan", path, command=closed, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    if code:
        assert "Error: There is no standard input to read.\n" in done.stderr


def test_progress_is_for_terminals(
    environment: dict[str, str], secrets: dict[str, str], tmp_path: Path
) -> None:
    """A long search shows a bar on a terminal's standard error, and never elsewhere."""
    text = tmp_path / "text"
    with open(text, "wb") as file:
        file.writelines(b"x" * (1 << 20) + b"\n" for _ in range(8))
    slow = (
        "import time, metricshub_apikey.cli.output as output\noutput.PROGRESS_AFTER_SECONDS = 0.0\n"
    )
    program = f"{slow}from metricshub_apikey.__main__ import main; main()"
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [COMMAND[0], "-c", program, "scan", str(text)]
    variables = {**environment, "TERM": "xterm"}
    done = subprocess.run(
        command, env=variables, stdout=subprocess.PIPE, stderr=theirs, check=False
    )
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert done.stdout.decode() == CLEAN
    assert "Searching" in shown
    quiet = subprocess.run(command, env=variables, capture_output=True, check=True)
    assert quiet.stderr == b""
    check_secret(shown, secrets)


# revoke --leaked


def test_revoke_leaked(run: Run, repository: Path, secrets: dict[str, str]) -> None:
    """Exactly the keys that were found are revoked, in one go, and where is told."""
    done = run(
        "revoke", "--leaked", repository / "deploy", "--leaked", repository / ".env", "--yes"
    )
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "API key 'ci' has been revoked.",
        "API key 'web' has been revoked.",
    ]
    assert done.stderr.splitlines() == [
        f"{repository}/deploy/job.yaml:2: web",
        f"{repository}/deploy/job.yaml:2: ci",
        f"{repository}/.env:2: ci",
    ]
    check_secret(done.stderr, secrets)
    assert run("list", "-q").stdout == "safe\n"
    assert run("scan", repository).stdout == f"{repository}/logo.png: offset 5: safe\n"


def test_revoke_leaked_without_consent(run: Run, repository: Path, keystore: Path) -> None:
    """Without a terminal to ask on, and without --yes, nothing is revoked."""
    before = identity(keystore.stat())
    done = run("revoke", "--leaked", repository)
    assert (done.returncode, done.stdout) == (2, "")
    assert "this needs --yes" in done.stderr
    assert identity(keystore.stat()) == before


def test_revoke_leaked_finds_nothing(run: Run, repository: Path, keystore: Path) -> None:
    """Where no key has leaked, nothing is revoked, and it is no failure."""
    before = identity(keystore.stat())
    done = run("revoke", "--leaked", repository / "README.md", "--yes")
    assert (done.returncode, done.stdout) == (0, "No such API keys found.\n")
    assert identity(keystore.stat()) == before
    done = run("revoke", "--leaked", repository / "none", "--yes")
    assert (done.returncode, done.stdout) == (2, "")


def test_revoke_leaked_from_standard_input(run: Run, secrets: dict[str, str]) -> None:
    """What another program prints can be searched, too; JSON says what was revoked."""
    done = run("revoke", "--leaked", "-", "--yes", "-o", "json", stdin=secrets["web"])
    assert done.returncode == 0
    assert json.loads(done.stdout)["revoked"] == ["web"]
    assert run("list", "-q").stdout == "ci\nsafe\n"
