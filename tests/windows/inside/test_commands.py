"""The real command on Windows, in a process of its own each time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from metricshub_apikey.files import windows

assert sys.platform == "win32"

CALLS = windows.SYSTEM_CALLS
NAME = "metricshub-keystore.p12"
KEY = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


class Machine:
    """A Windows with a `ProgramData` folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; nothing is in it."""
        self.folder = folder
        self.keystore = folder / "MetricsHub" / "security" / NAME
        self.runs = 0

    def apikey(
        self, *arguments: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> tuple[int, str, str]:
        """Run the command; return its exit code and what it printed."""
        self.runs += 1
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("METRICSHUB")}
        done = subprocess.run(
            [sys.executable, "-m", "metricshub_apikey", *map(str, arguments)],
            env={**inherited, "ProgramData": str(self.folder), "USERNAME": "liar", **(env or {})},
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            timeout=120,
            check=False,
        )
        out, err = (text.decode().replace("\r\n", "\n") for text in (done.stdout, done.stderr))
        assert "Traceback" not in err, err
        return done.returncode, out, err


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Return one machine for all the tests here: they are one story."""
    return Machine(tmp_path_factory.mktemp("program data"))


Expected = tuple[int, str, str]
STORY: list[tuple[str, Expected]] = [
    ("path", (0, r"MetricsHub\\security\\metricshub-keystore.p12 \(the program data folder", "")),
    ("path -q", (0, r"\.p12$", "")),
    ("list", (0, "^No API keys found.$", "")),
    ("check", (3, "does not exist", "")),
    ("create first", (0, f"alias 'first': {KEY} ", "")),
    ("create first", (1, "", "already exists")),
    ("create first --if-missing -q", (0, "^$", "")),
    ("create far --expires-on 9999-12-31", (0, "Expires on 9999-12-31T23:59:59", "")),
    ("create soon --expires-in 90d --description äöü -q", (0, f"^{KEY}$", "")),
    ("create early --expires-on 1969-12-31", (1, "", "must be in the future")),
    ("create dated --expires-on 3001-01-01T00:00:00", (0, "3001-01-01", "")),
    ("create filed --out filed.key", (0, "written to filed.key", "")),
    ("create device --out nul", (1, "", "cannot be made: that is the name of a device")),
    ("create stream --out ab:cd", (1, "", "cannot be made: its name has a colon")),
    ("create dot --out dot.", (1, "", "cannot be made: its name ends with a dot")),
    ("create filed2 --out filed.key", (1, "", "exists already")),
    ("list", (0, r"(?s)first \*+.*far \*+.*9999-12-31T23:59:59", "")),
    ("list -q", (0, "(?s)^first\nfar\nsoon\n", "")),
    ("list -o csv", (0, "(?s)^alias,masked,expires_on.*äöü", "")),
    ("show far", (0, "Expires: +9999-12-31T23:59:59", "")),
    ("show far -o json", (0, '"expires_on": "9999-12-31T23:59:59"', "")),
    ("show nothing", (1, "", "No API key found with alias 'nothing'")),
    ("show", (2, "", "Missing argument")),
    ("edit soon --description new", (0, "has been changed: description", "")),
    ("edit first --expires-on 3500-06-01", (0, "Expires on 3500-06-01", "")),
    ("rotate soon --overlap 1d", (0, KEY, "")),
    ("rotate soon --finish", (0, "has been removed", "")),
    ("rotate dated --out dated.key", (0, "written to", "")),
    ("check -o json", (0, '"check": "directory"', "")),
    ("check -o prometheus", (0, "apikey_expiry_timestamp_seconds", "")),
    ("check --fix", (0, "may replace the file", "")),
    ("log", (0, "create first", "")),
    ("log -o json", (0, '"action": "create"', "")),
    ("policy init", (0, "apikey.toml", "")),
    ("policy check", (0, "", "")),
    ("scan .", (1, "filed.key", "")),
    ("completion powershell", (0, "Register-ArgumentCompleter -Native -CommandName apikey", "")),
    ("completion bash", (0, "_APIKEY_COMPLETE=bash_complete", "")),
    ("revoke first", (0, "has been revoked", "")),
    ("revoke first", (1, "", "No API key found")),
    ("prune --yes", (0, "No keys expired", "")),
    ("--version", (0, r"^apikey \d", "")),
    ("--help", (0, "Create, list, rotate", "")),
    ("frobnicate", (2, "", "No such command")),
    ("--keystore . list", (1, "", "is not a regular file")),
    ("--keystore nul list", (1, "", "is not a regular file")),
    ("list --lock-timeout x", (2, "", "x is not a number of seconds")),
    ("serve --workers 2", (2, "", "On Windows there is one worker")),
    ("serve --unix x", (1, "", "no Unix sockets")),
]


@pytest.mark.parametrize("number", range(len(STORY)))
def test_the_story(machine: Machine, number: int) -> None:
    """Each command does on Windows what it does elsewhere, one after the other."""
    line, (code, out, err) = STORY[number]
    done = machine.apikey(*line.split(" "))
    assert (done[0], bool(re.search(out, done[1])), bool(re.search(err, done[2]))) == (
        code,
        True,
        True,
    ), done


def test_what_everybody_may_read_is_found(machine: Machine) -> None:
    """`check` reads the access list, names who may read the file, and `--fix` mends it."""
    private = CALLS.access_list(str(machine.keystore))
    CALLS.set_access_list(str(machine.keystore), private[private.index("D:") :] + "(A;;FR;;;WD)")
    code, out, _ = machine.apikey("check")
    assert code == 2
    assert "By its access list, Everyone may read the file." in out
    code, out, _ = machine.apikey("check", "--fix")
    assert code == 0
    assert "The file's access list names no group of everybody any more." in out
    assert CALLS.access_list(str(machine.keystore)) == private


def test_the_caller_is_asked_of_the_system(machine: Machine) -> None:
    """The log names the user that Windows knows, not what a variable says."""
    said = machine.apikey("log")[1]
    assert "@" in said
    assert "liar" not in said


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf", "\ufeff".encode("utf-16-le")])
def test_byte_order_marks(machine: Machine, mark: bytes) -> None:
    """A password that PowerShell wrote, and a key that it pipes, are read with any mark."""
    encoding = "utf-16-le" if mark.startswith(b"\xff") else "utf-8"
    password = machine.folder / "password"
    password.write_bytes(mark + "pass wörd\r\n".encode(encoding) if mark else b"plain\r\n")
    store = machine.folder / f"own{len(mark)}{encoding}.p12"
    options = ("--keystore", str(store), "--password-file", str(password))
    code, out, _ = machine.apikey(*options, "create", "x", "-q")
    if mark:  # Java before version 25 knows no such password for a new keystore
        assert code == 1
        password.write_bytes(mark + "pass word\r\n".encode(encoding))
        code, out, _ = machine.apikey(*options, "create", "x", "-q")
    assert code == 0
    typed = mark + f"{out.strip()}\r\n".encode(encoding)
    assert machine.apikey(*options, "verify", stdin=typed)[0] == 0


@pytest.mark.parametrize("page", ["utf-8", "cp437", "cp1252"])
def test_code_pages(machine: Machine, page: str) -> None:
    """What a console cannot show is escaped; nothing fails because of it."""
    env = {"PYTHONIOENCODING": page}
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("METRICSHUB")}
    alias = f"naïve-日本-{page}"
    done = subprocess.run(
        [sys.executable, "-m", "metricshub_apikey", "create", alias],
        env={**inherited, "ProgramData": str(machine.folder), **env},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=True,
    )
    shown = done.stdout.decode(page)
    assert "naïve-" in shown
    assert ("日本" if page == "utf-8" else "\\u65e5\\u672c") in shown


def test_odd_aliases_in_a_folder(machine: Machine) -> None:
    """Keys named like devices, or with a dot at the end, get files that can be."""
    manifest = machine.folder / "keys.yaml"
    manifest.write_text("keys: [{alias: con}, {alias: 'dot.'}, {alias: 'a:b'}]\n", encoding="utf-8")
    code, _, err = machine.apikey("apply", manifest, "--out-dir", "keys", "--yes")
    assert code == 0, err
    found = sorted(one.name for one in (machine.folder / "keys").iterdir())
    assert found == ["%63on", "a%3Ab", "dot%2E"]


def test_powershell_completes(machine: Machine) -> None:
    """The script's question is answered with a line for each word that fits."""
    env = {"_APIKEY_COMPLETE": "powershell_complete", "_APIKEY_WORDS": "apikey\nshow\nfa"}
    _, out, _ = machine.apikey(env=env)
    assert out == "plain\tfar\tfar\n"


def test_the_keys_are_all_there(machine: Machine) -> None:
    """After all that, the JSON document has every key, those after the year 3000 too."""
    keys = json.loads(machine.apikey("list", "-o", "json")[1])["keys"]
    assert {"far", "soon", "dated", "filed", "con"} <= {key["alias"] for key in keys}
    assert machine.runs >= 40 or len(STORY) >= 40
