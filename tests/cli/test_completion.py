"""
Completion in the real shells: each reads the script of `apikey completion` and is asked for words.

Bash calls the function with its variables set, fish completes a line given on its command line, and
zsh is driven through a terminal.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import shlex
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import AS_ORDINARY_USER, COMMAND, Run, missing
from metricshub_apikey import ApiKeys
from metricshub_apikey.cli.completion import SHELLS, complete_alias
from metricshub_apikey.cli.main import COMMANDS, apikey
from metricshub_apikey.cli.session import Session
from metricshub_apikey.keys.api_key import ENTRY_PREFIX
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.pkcs12.store import Store

TIMEOUT = 30
COMPLETE_AND_PRINT = """
source "$1"
shift
for line in "$@"; do
    read -ra COMP_WORDS <<<"$line"
    [[ $line == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    _apikey_completion apikey
    echo "== $line"
    printf '%s\\n' "${COMPREPLY[@]}"
done
"""
FISH_COMPLETE_AND_PRINT = """
source $argv[1]
for line in $argv[2..]
    echo "== $line"
    complete -C $line
end
"""
ZSH_START = """
PROMPT= RPROMPT=
unsetopt prompt_sp
autoload -Uz compinit && compinit -D -u
zmodload zsh/complist
zstyle ':completion:*' completer _complete
zstyle ':completion:*' list-colors 'no=<<' 'lc=' 'rc=' 'ec=>>'
source {script}
show() {{ zle list-choices; zle -R; print -r -- "#""SHOWN" }}
press-tab() {{ zle complete-word; print -r -- "#""LINE[$BUFFER]" }}
zle -N show
zle -N press-tab
bindkey -e
bindkey '^X' show
bindkey '^I' press-tab
print "#""READY"
"""

REAL_SHELLS = [name for name in SHELLS if name != "powershell"]
"""PowerShell cannot be had here; the tests of Windows ask what it asks."""


class Terminal:
    """An interactive zsh that has read the script."""

    def __init__(self, script: Path, environment: dict[str, str]) -> None:
        """Start it on a terminal wide enough to wrap nothing."""
        self._terminal, other = os.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 300, 0, 0))
        self._process = subprocess.Popen(
            ["zsh", "-f", "-i"],
            env={**environment, "TERM": "xterm"},
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)
        start = script.with_name("start.zsh")
        start.write_text(ZSH_START.format(script=shlex.quote(str(script))))
        self.transcript = ""
        self.type(f"source {shlex.quote(str(start))}\n", until="#READY\r\n")

    def type(self, keys: str, *, until: str) -> str:
        """Type *keys* and return what the terminal shows up to *until*."""
        os.write(self._terminal, keys.encode())
        shown = b""
        end = time.monotonic() + TIMEOUT
        while until.encode() not in shown:
            ready = select.select([self._terminal], [], [], max(0, end - time.monotonic()))[0]
            assert ready, f"zsh does not answer: {shown!r}"
            shown += os.read(self._terminal, 65536)
        self.transcript += shown.decode()
        return shown.decode()

    def candidates(self, line: str) -> set[str]:
        """Return what zsh lists for *line*, which is removed again."""
        shown = self.type(f"{line}\x18", until="#SHOWN\r\n")
        os.write(self._terminal, b"\x15")
        return {found.split("  ")[0] for found in re.findall("<<(.*?)>>", shown)}

    def tab(self, line: str) -> str:
        """Return the line after Tab."""
        (after,) = re.findall(r"#LINE\[(.*?)\]", self.type(f"{line}\t", until="]\r\n"))
        os.write(self._terminal, b"\x15")
        return str(after)

    def close(self) -> None:
        """End zsh."""
        os.close(self._terminal)
        self._process.kill()
        self._process.wait(TIMEOUT)


class Shell:
    """One of the shells, with `apikey` in its PATH; what that prints on its stderr is kept."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str]) -> None:
        """Make the command and the script in *folder*."""
        self.name = name
        self._folder = folder
        self.stderr = folder / "stderr"
        self.script = folder / f"script.{name}"
        self.environment = {
            **environment,
            "PATH": f"{folder}:{environment['PATH']}",
            "HOME": str(folder / "home"),
        }
        self.transcript = ""
        self._make_command()

    def _make_command(self) -> None:
        (self._folder / "home").mkdir()
        self.stderr.touch()
        shim = self._folder / "apikey"
        log = shlex.quote(str(self.stderr))
        shim.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@" 2>>{log}\n')
        shim.chmod(0o755)

    def complete(self, *lines: str) -> list[set[str]]:
        """Return the words that the shell offers at the end of each line."""
        if self.name == "zsh":
            terminal = Terminal(self.script, self.environment)
            try:
                found = [terminal.candidates(line) for line in lines]
            finally:
                terminal.close()
            self.transcript = terminal.transcript
            return found
        script = str(self.script)
        command = {
            "bash": ["bash", "--norc", "-c", COMPLETE_AND_PRINT, "bash", script, *lines],
            "fish": ["fish", "--no-config", "-c", FISH_COMPLETE_AND_PRINT, script, *lines],
        }[self.name]
        done = subprocess.run(
            command,
            env=self.environment,
            capture_output=True,
            check=True,
            encoding="utf-8",
            timeout=TIMEOUT,
        )
        assert done.stderr == ""
        self.transcript = done.stdout
        answers = re.split(r"^== .*\n", done.stdout, flags=re.MULTILINE)[1:]
        return [
            {word.partition("\t")[0] for word in answer.splitlines() if word} for answer in answers
        ]


@pytest.fixture(params=REAL_SHELLS)
def shell(
    request: pytest.FixtureRequest, public: Path, environment: dict[str, str], run: Run
) -> Shell:
    """Return each shell in turn, its script made by the command."""
    name: str = request.param
    if shutil.which(name) is None:
        missing(f"needs {name}")
    made = Shell(name, public, environment)
    made.script.write_text(run("completion", name).stdout)
    return made


@pytest.fixture
def zsh(public: Path, environment: dict[str, str], run: Run) -> Iterator[Terminal]:
    """Return a terminal with zsh."""
    if shutil.which("zsh") is None:
        missing("needs zsh")
    made = Shell("zsh", public, environment)
    made.script.write_text(run("completion", "zsh").stdout)
    terminal = Terminal(made.script, made.environment)
    yield terminal
    terminal.close()


@pytest.mark.parametrize("name", REAL_SHELLS)
def test_the_shell_accepts_the_script(name: str, run: Run, tmp_path: Path) -> None:
    """`bash -n`, `zsh -n` and `fish -n` find nothing wrong with it."""
    if shutil.which(name) is None:
        missing(f"needs {name}")
    printed = run("completion", name)
    script = tmp_path / "script"
    script.write_text(printed.stdout)

    done = subprocess.run([name, "-n", script], capture_output=True, check=False, timeout=TIMEOUT)

    assert (printed.returncode, printed.stderr) == (0, "")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_completes_commands_options_and_choices(shell: Shell) -> None:
    """What the command line knows is offered, whatever the keystore."""
    assert shell.complete(
        "apikey ",
        "apikey cr",
        "apikey create --expires-",
        "apikey --color ",
        "apikey completion ",
    ) == [
        set(COMMANDS),
        {"create"},
        {"--expires-on", "--expires-in"},
        {"auto", "always", "never"},
        set(SHELLS),
    ]
    assert shell.stderr.read_text() == ""


def test_completes_the_aliases_and_leaks_nothing_else(shell: Shell, registry: ApiKeys) -> None:
    """Only aliases of API keys are offered, and only those that need no quotes."""
    key = registry.create("MCP-One").secret.reveal() or ""
    unsafe = ["sp ace", "qu'ote", 'qu"ote', "dol$home", "back`id`", "semi;x", "st*r", "a\\b"]
    api_keys = [f"{ENTRY_PREFIX}mcp-{name}" for name in ("two", "unreadable", *unsafe)]

    def add_foreign(store: Store) -> None:
        for alias in (*api_keys, f"{ENTRY_PREFIX}other", "metricshub-master-key", "user:mcp-admin"):
            store.add(alias, b"\xff secret", created_ms=0, random_bytes=os.urandom)

    registry._keystore.update(add_foreign)

    assert shell.complete(
        "apikey revoke mcp-", "apikey revoke mcp-one MCP-T", "apikey create "
    ) == [
        {"mcp-one", "mcp-two", "mcp-unreadable"},
        {"mcp-two"},
        set(),
    ]
    assert shell.stderr.read_text() == ""
    assert key not in shell.transcript


def damage(good: Path, damaged: Path) -> None:
    """Write *good* to *damaged* with one bit changed."""
    content = bytearray(good.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)


def test_a_keystore_that_cannot_be_read_does_not_disturb_the_shell(
    shell: Shell, public: Path, keystore: Path
) -> None:
    """No keystore, and a damaged one: nothing is offered, nothing printed, no file made."""
    good, damaged = public / "good.p12", public / "damaged.p12"
    ApiKeys(Keystore(good)).create("mcp-one")
    damage(good, damaged)

    assert shell.complete(
        "apikey revoke mcp-",
        f"apikey --keystore {damaged} revoke mcp-",
        f"apikey --keystore {good} revoke mcp-",
    ) == [set(), set(), {"mcp-one"}]
    assert shell.stderr.read_text() == ""
    assert not keystore.parent.exists()


def test_is_quiet_about_every_keystore_that_cannot_be_read(run: Run, public: Path) -> None:
    """Missing, damaged, foreign, denied, a directory, another password: no word, no file."""
    good, denied = public / "good.p12", public / "denied.p12"
    ApiKeys(Keystore(good)).create("mcp-one")
    good.chmod(0o644)
    denied.write_bytes(good.read_bytes())
    denied.chmod(0)
    damage(good, public / "damaged.p12")
    (public / "foreign.p12").write_text("no keystore")
    password = public / "password"
    password.write_text("another\n")
    before = sorted(os.listdir(public))
    # The interpreter may be in root's home, so what is imported late is imported now.
    late = f"import click.shell_completion\n{AS_ORDINARY_USER}"
    as_ordinary_user = COMMAND if os.geteuid() else [sys.executable, "-c", late]

    def offered(options: str, command: list[str] = COMMAND) -> tuple[str, str, int]:
        words = f"apikey {options} revoke mcp-"
        asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        done = run(env={**asked, "_APIKEY_COMPLETE": "bash_complete"}, command=command)
        return done.stdout.strip(), done.stderr, done.returncode

    assert offered(f"--keystore {good}", as_ordinary_user) == ("plain,mcp-one", "", 0)
    for options in (
        f"--keystore {public}/missing/store.p12",
        f"--keystore {public}/damaged.p12",
        f"--keystore {public}/foreign.p12",
        f"--keystore {public}",
        f"--keystore {good} --password-file {password}",
        f"--keystore {good} --password-file {public}/missing",
    ):
        assert offered(options) == ("", "", 0), options
    assert offered(f"--keystore {denied}", as_ordinary_user) == ("", "", 0)
    assert sorted(os.listdir(public)) == before


def test_tab_completes_on_a_terminal(zsh: Terminal, registry: ApiKeys) -> None:
    """The only candidate is inserted with a space behind it; without one the line stays."""
    registry.create("mcp-one")

    assert zsh.tab("apikey cr") == "apikey create "
    assert zsh.tab("apikey revoke m") == "apikey revoke mcp-one "
    assert zsh.tab("apikey revoke x") == "apikey revoke x"


def test_decrypts_nothing(
    registry: ApiKeys, monkeypatch: pytest.MonkeyPatch, keystore: Path
) -> None:
    """Aliases are not secret: no entry is opened to complete one."""
    registry.create("mcp-one")

    def refuse(*_: object) -> Callable[[], None]:
        pytest.fail("an entry was decrypted")

    monkeypatch.setattr(Store, "values", refuse)
    monkeypatch.setenv("METRICSHUB_KEYSTORE", str(keystore))
    context = apikey.make_context("apikey", ["revoke", "x"], obj=Session())

    found = complete_alias(context, apikey.params[0], "mcp-")

    assert [item.value for item in found] == ["mcp-one"]
