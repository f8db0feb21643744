"""The systemd unit of docs/gateway: what systemd says of it, and its command as its user."""

from __future__ import annotations

import grp
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ORDINARY_USER, Run, missing
from proxies import DOCS, documented
from servers import Server, ask, forwarded, free_port, program, running

UNIT = "apikey-gateway.service"
FOLDER = "/opt/metricshub/lib/security"
COMMAND = "/usr/local/bin/apikey"
WORST_EXPOSURE = 1.5
"""Of 10; systemd calls up to 2 "OK", and a unit without any hardening has 9.6."""

AS_SERVICE = f"""
import os, sys
# The interpreter may be in root's home, so all that is imported late is imported now.
import difflib, json, mmap, platformdirs, pwd, resource, shlex, sqlite3, tomllib, unicodedata
import uuid
import encodings.idna, uvicorn.lifespan.on, uvicorn.logging, uvicorn.loops.auto
import uvicorn.loops.uvloop, uvicorn.middleware.wsgi, metricshub_apikey.gateway.log
from metricshub_apikey import ApiKeys
from metricshub_apikey.keystore.keystore import Keystore  # noqa: E402
from metricshub_apikey.cli.commands import serve
from metricshub_apikey.cli.main import run
from metricshub_apikey.gateway import server
from metricshub_apikey.policy.file import load
load(os.environ["METRICSHUB_KEYSTORE"].replace("metricshub-keystore.p12", "apikey.toml"))
ApiKeys(Keystore(os.environ["METRICSHUB_KEYSTORE"])).list()
os.setgroups([])
os.setgid({ORDINARY_USER})
os.setuid({ORDINARY_USER})
"""
"""The command's beginning: its rights given up as soon as everything is imported."""

RUN = AS_SERVICE + "sys.exit(run(sys.argv[1:]))"
REPLACE = AS_SERVICE + "os.rename(sys.argv[1], sys.argv[2])"
READ_ONLY = """
mount --bind "$0" "$0" && mount -o remount,bind,ro / && exec "$@"
"""
"""A shell script that runs a command with a file system that is read-only but for one folder."""


def settings(text: str) -> dict[str, list[str]]:
    """Return what a unit says, each setting with all its values."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    """It knows every setting, and is content with the hardening."""
    unit = tmp_path / UNIT
    unit.write_text(documented(UNIT, {COMMAND: sys.executable}))
    analyze = program("systemd-analyze")
    verified = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    # Its words about users that this machine lacks, and about other units, are not about this one.
    assert verified.returncode == 0, verified.stderr
    assert f"{UNIT}:" not in verified.stderr, verified.stderr
    threshold = f"--threshold={round(WORST_EXPOSURE * 10)}"
    command = [analyze, "security", "--offline=yes", threshold, str(unit)]
    exposed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert exposed.returncode == 0, exposed.stdout[-200:]


def test_the_keystore_is_mounted_nowhere() -> None:
    """A file that is a mount of its own stays the old one: a revoked key would live on."""
    said = settings((DOCS / UNIT).read_text())
    assert said["ReadWritePaths"] == [FOLDER]
    assert not said.keys() & {"ReadOnlyPaths", "BindPaths", "BindReadOnlyPaths", "LoadCredential"}
    assert said["Environment"] == [f"METRICSHUB_KEYSTORE={FOLDER}/metricshub-keystore.p12"]


def prepare(folder: Path) -> None:
    """Do as README.md says, for a user that is there on every machine."""
    text = (DOCS / "README.md").read_text("utf-8")
    block = next(one for one in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "chgrp" in one)
    first, *commands = block.splitlines()
    assert first.startswith("useradd --system ")
    script = "\n".join(commands).replace(FOLDER, str(folder))
    script = script.replace("apikey-gateway", grp.getgrgid(ORDINARY_USER).gr_name)
    subprocess.run(["sh", "-euc", script], check=True)


@pytest.fixture
def home(public: Path) -> Path:
    """Return the folder of the keystore."""
    if os.geteuid():
        missing("changing owners needs root")
    return public / "security"


@pytest.fixture
def service(home: Path, run: Run, own_mounts: list[str]) -> Iterator[tuple[Server, int, str]]:
    """Return the unit's command at work as an ordinary user, its port, and a key."""
    store = str(home / "metricshub-keystore.p12")
    key = run("create", "ci", "-q", env={"METRICSHUB_KEYSTORE": store}).stdout.strip()
    prepare(home)
    port = free_port()
    changes = {FOLDER: str(home), "127.0.0.1:8484": f"127.0.0.1:{port}"}
    said = settings(documented(UNIT, changes))
    name, *options = shlex.split(said["ExecStart"][0])
    assert name == COMMAND
    variable, _, value = said["Environment"][0].partition("=")
    environment = {"PATH": os.environ["PATH"], variable: value}
    wrapped = [*own_mounts, "sh", "-c", READ_ONLY, str(home)]
    command = [*wrapped, sys.executable, "-c", RUN, *options]
    with running(command, port=port, environment=environment) as server:
        yield server, port, key


def test_its_user_needs_no_more(
    service: tuple[Server, int, str], home: Path, run: Run, environment: dict[str, str]
) -> None:
    """Keys are read, also new ones; uses are written down; the keystore cannot be replaced."""
    server, port, key = service
    store = home / "metricshub-keystore.p12"
    named = {"METRICSHUB_KEYSTORE": str(store)}
    assert ask(port, headers=forwarded(key)).status == 200
    later = run("create", "later", "-q", env=named).stdout.strip()
    assert ask(port, headers=forwarded(later)).status == 200
    run("revoke", "later", env=named)
    assert ask(port, headers=forwarded(later)).status == 401

    said = settings((DOCS / UNIT).read_text())
    reload = shlex.split(said["ExecReload"][0].replace("$MAINPID", str(server.process.pid)))
    subprocess.run(reload, check=True)
    server.wait_for_line("Everything was read anew")

    environ = {**environment, **named}
    own = home / "apikey-activity.db"
    taken = subprocess.run(
        [sys.executable, "-c", REPLACE, str(own), str(store)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert taken.stderr.splitlines()[-1].startswith("PermissionError")

    assert server.stop() == 0, server.text
    listed = json.loads(run("list", "--output", "json", env=named).stdout)
    used = {one["alias"]: one["last_used_at"] for one in listed["keys"]}
    assert used["ci"] is not None, server.text
    assert str(time.gmtime().tm_year) in used["ci"]
    assert run("check", env=named).returncode in (0, 1)
