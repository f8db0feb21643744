"""What hints tell to type: it works when it is pasted into a shell, whatever the key is called."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from builders import put
from conftest import Run
from metricshub_apikey import ApiKeys
from metricshub_apikey.cli.session import Session
from metricshub_apikey.errors import MissingExtraError, own_command, same_command, use_program
from metricshub_apikey.keystore.keystore import Keystore

ODD = ["-y", "--expired", "x;touch pwned", "$(touch pwned)", "it's", "two words", "a*b", "# x"]


def hint(done: subprocess.CompletedProcess[str]) -> str:
    """Return what the hint says behind its colon."""
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Hint: ")]
    return line.removeprefix("Hint: ").partition(": ")[2]


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the command as an installation has it, in a folder that is not on the PATH."""
    file = tmp_path / "a folder" / "apikey"
    file.parent.mkdir()
    file.write_text(
        f'#!/bin/sh\nAPIKEY_LAUNCHER=$0 exec {sys.executable} -m metricshub_apikey "$@"\n'
    )
    file.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    return file


@pytest.mark.parametrize("alias", ODD)
def test_a_hint_can_be_pasted(run: Run, launcher: Path, keystore: Path, alias: str) -> None:
    """It names the program, the keystore and the key, and runs nothing else."""
    put(keystore, alias, b"key-of-java-1111")
    command = [str(launcher), "--keystore", "security/metricshub-keystore.p12"]
    assert run("rotate", "-q", "--", alias, command=command).returncode == 0
    pasted = hint(run("rotate", "--", alias, command=command))
    assert pasted.startswith(shlex.join([str(launcher), "--keystore"]))
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(["sh", "-c", pasted], env=environment, check=True, capture_output=True)
    assert done.stdout.decode() == f"The old key '{alias}.prev' has been removed.\n"
    assert ApiKeys(keystore).aliases() == (alias.lower(),)
    assert not Path("pwned").exists()


def test_the_program_s_name_is_enough_where_the_shell_finds_it(run: Run, launcher: Path) -> None:
    """The one that runs, and no other program of that name."""
    command = ["sh", "-c", 'exec apikey "$@"', "sh"]
    path = {"PATH": f"{launcher.parent}:{os.environ['PATH']}"}
    file = launcher.parent / "k.p12"
    run("create", "ci", "--keystore", file, command=command, env=path)
    pasted = hint(run("create", "ci", "--keystore", file, command=command, env=path))
    assert pasted == f"apikey --keystore {shlex.quote(str(file))} revoke -- ci"


def program(session: Session, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Let hints come from that command line."""
    monkeypatch.setattr(sys, "argv", list(arguments))
    use_program(session.program)


def test_another_user_gets_the_whole_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the environment says, for sudo passes none of it on, and no password in it."""
    session = Session()
    monkeypatch.setenv("METRICSHUB_KEYSTORE", "/k 1.p12")
    monkeypatch.setenv("METRICSHUB_APIKEY_POLICY", "/p.toml")
    monkeypatch.setenv("APIKEY_LAUNCHER", "bin/apikey")
    try:
        program(session, monkeypatch, "-c", "revoke", "--", "-y")
        here = os.path.abspath("bin/apikey")
        places = "--keystore '/k 1.p12' --policy /p.toml"
        assert same_command() == f"{here} {places} revoke -- -y"
        assert own_command("path") == f"{here} path"
        session.keystore = "mine.p12"
        program(session, monkeypatch, "-c", "list", "--keystore", "mine.p12")
        assert same_command() == f"{here} --policy /p.toml list --keystore mine.p12"
        program(session, monkeypatch, "-c", "serve", "--state", "redis://:secret@host:1")
        assert "secret" not in same_command()
    finally:
        use_program(lambda elsewhere: ["apikey"])  # noqa: ARG005 - as in a library


def test_a_list_that_is_passed_on_as_options(run: Run, keystore: Path) -> None:
    """`list -q | xargs apikey revoke`: Java's keys that look like options are no options."""
    for alias in ("--expired", "--yes"):
        put(keystore, alias, b"key-of-java-1111")
    put(keystore, "dead", b"dead-1111__2020-01-01T00:00:00")
    before = keystore.read_bytes()
    words = ["--expired", "--yes"]
    done = run("revoke", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "'--expired' is an option, and a key has this alias, too." in done.stderr
    assert keystore.read_bytes() == before
    assert run("revoke", "--", *words).returncode == 0
    assert ApiKeys(Keystore(keystore)).aliases() == ("dead",)


def test_a_near_alias_is_suggested(run: Run) -> None:
    """For every command that looks a key up."""
    run("create", "ci-prod")
    for words in ("show ci-prdo", "revoke ci-prdo", "rotate ci-prdo", "suspend ci-prdo"):
        assert "Hint: Did you mean 'ci-prod'?" in run(*words.split()).stderr
    assert "Hint" not in run("show", "something else").stderr


WITH_PIP = f"{shlex.quote(sys.executable)} -m pip install"
WITH_UV = f"uv pip install --python {shlex.quote(sys.executable)}"


@pytest.mark.parametrize(
    ("prefix", "begins"),
    [
        ("/root/.local/share/pipx/venvs/metricshub-apikey", "pipx install --force"),
        ("/root/.local/share/uv/tools/metricshub-apikey", "uv tool install --force"),
        (sys.prefix, WITH_PIP if find_spec("pip") else WITH_UV),
    ],
)
def test_a_missing_extra(monkeypatch: pytest.MonkeyPatch, prefix: str, begins: str) -> None:
    """The command is that of the way in which apikey was installed; here it is a clone."""
    monkeypatch.setattr(sys, "prefix", prefix)
    clone = Path(__file__).parent.parent.parent
    told = MissingExtraError("gateway").hint or ""
    assert told == f"Install it with: {begins} -e {shlex.quote(f'{clone}[gateway]')}"
    monkeypatch.setattr("metricshub_apikey.errors.__file__", "/site-packages/x/errors.py")
    told = MissingExtraError("gateway").hint or ""
    assert told == f"Install it with: {begins} 'metricshub-apikey[gateway]'"
