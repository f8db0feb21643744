"""Who a key was made by: the user, or the login behind sudo."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import missing
from metricshub_apikey.activity import caller
from metricshub_apikey.activity.caller import BEHIND

HOST = os.uname().nodename
NOBODY = 54_321
"""A user without an entry in the password file, as containers have."""

AS_NOBODY = f"""
import os, pwd
from metricshub_apikey.activity.caller import caller
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
print(caller(os.environ))
"""


def as_user(uid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process look as if that user ran it."""
    monkeypatch.setattr(os, "getuid", lambda: uid)


def test_the_user_at_this_host() -> None:
    """Without sudo it is the user that the process runs as."""
    assert caller.caller({}) == f"{pwd.getpwuid(os.getuid()).pw_name}@{HOST}"


@pytest.mark.parametrize("name", BEHIND)
def test_the_login_behind_root(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Sudo and doas tell root who called them; an empty name is none."""
    as_user(0, monkeypatch)
    assert caller.caller({name: "ann"}) == f"ann@{HOST}"
    assert caller.caller({name: ""}) == f"root@{HOST}"


@pytest.mark.parametrize("name", BEHIND)
def test_only_root_is_believed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Anybody can set the variable; only root has it from sudo."""
    as_user(65534, monkeypatch)
    assert caller.caller({name: "ann"}) == f"{pwd.getpwuid(65534).pw_name}@{HOST}"


def test_a_user_without_an_entry() -> None:
    """In a container the number has to do."""
    if os.geteuid():
        missing("becoming another user needs root")
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY],
        env={"SUDO_USER": "ann", "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"#{NOBODY}@{HOST}\n"


@given(st.text())
def test_what_cannot_be_shown_is_left_out(name: str) -> None:
    """Whatever sudo was told, the result is one printable word."""
    with pytest.MonkeyPatch.context() as patch:
        as_user(0, patch)
        found = caller.caller({"SUDO_USER": name})
    assert found.isprintable()
    assert not any(one.isspace() for one in found)
    assert found.endswith(f"@{HOST}")
