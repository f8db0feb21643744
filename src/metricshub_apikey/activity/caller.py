"""Who is running this command: the login behind sudo, where there is one."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

if sys.platform == "win32":
    from metricshub_apikey.files import windows

BEHIND = ("SUDO_USER", "DOAS_USER")
"""What sudo and doas tell root about who called them; others could set them to anything."""


def caller(environ: Mapping[str, str]) -> str:
    """Return `user@host`, with everything that could not be shown left out."""
    named = f"{_user(environ)}@{_host()}"
    return "".join(one for one in named if one.isprintable() and not one.isspace())


def _user(environ: Mapping[str, str]) -> str:
    if sys.platform == "win32":
        domain, _, name = (windows.user_name() or "").rpartition("\\")
        local = domain.lower() in ("", _host().lower())
        return (name if local else f"{domain}\\{name}") or "unknown"
    import pwd

    uid = os.getuid()
    behind = [environ[name] for name in BEHIND if environ.get(name)] if uid == 0 else []
    if behind:
        return behind[0]
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a container with a user of its own
        return f"#{uid}"


def _host() -> str:
    if sys.platform == "win32":
        return windows.computer_name() or "unknown"
    return os.uname().nodename
