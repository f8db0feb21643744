r"""
Where the keystore is: the first rule that matches.

1. What the user said, or the environment variable `METRICSHUB_KEYSTORE`.
2. On Windows, that of a checkout of this project outside an installation whose `bin\apikey.cmd` was
   started; else `%ProgramData%\MetricsHub\security`.
3. The installation that `apikey` was started from, or a checkout of this project; else
   `/opt/metricshub`.
4. The user's data folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import NamedTuple

from metricshub_apikey.errors import InvalidArgumentError

FILE_NAME = "metricshub-keystore.p12"
ENVIRONMENT_VARIABLE = "METRICSHUB_KEYSTORE"
DEFAULT_INSTALLATION = "/opt/metricshub"


class Location(NamedTuple):
    """
    A keystore's path and why it is that one.

    Attributes:
        path: The file; it need not exist.
        rule: A stable name for scripts.
        reason: The same for people.
    """

    path: str
    rule: str
    reason: str


def exists(path: str) -> bool | None:
    """Return whether there is a file *path*; None where this user may not look."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return None
    return True


def find_keystore(
    named: str | None,
    *,
    environ: Mapping[str, str],
    launcher: str,
    platform: str = sys.platform,
    default_installation: str = DEFAULT_INSTALLATION,
) -> Location:
    """
    Return which keystore to use.

    Args:
        named: What the user asked for on the command line, or None.
        environ: The environment variables.
        launcher: The path `apikey` was started as, links not resolved: a link
            `/opt/metricshub/bin/apikey` means the installation `/opt/metricshub`.
        platform: As `sys.platform`.
        default_installation: Where MetricsHub's packages install.

    Raises:
        InvalidArgumentError: No rule matches, as the user has no home directory.
    """
    if named is not None:
        return Location(named, "option", "the option --keystore")
    if from_environment := environ.get(ENVIRONMENT_VARIABLE):
        reason = f"the environment variable {ENVIRONMENT_VARIABLE}"
        return Location(from_environment, "environment", reason)
    if platform == "win32" and (location := _on_windows(environ, launcher)) is not None:
        return location
    if (location := _started_from(launcher)) is not None:
        return location
    if os.path.isdir(default_installation):
        path = _in_installation(default_installation)
        return Location(path, "default-installation", f"{default_installation} is there")
    return Location(os.path.join(_user_data(), FILE_NAME), "user-data", "the user's data folder")


def _user_data() -> str:
    from platformdirs import user_data_dir

    try:
        folder = user_data_dir("metricshub", appauthor=False)
    except RuntimeError:  # as platformdirs says it since 4.14
        folder = ""
    if not os.path.isabs(folder):  # before, it is a folder named "~" wherever one is
        raise InvalidArgumentError(
            "This user has no home directory in which a keystore could be.",
            hint=f"Name the keystore with --keystore or {ENVIRONMENT_VARIABLE}.",
        )
    return folder


def _started_from(launcher: str) -> Location | None:
    folder, name = os.path.split(os.path.dirname(os.path.abspath(launcher)))
    if name == "bin" and _is_checkout(folder):
        reason = "the checkout apikey was started from"
        return Location(_in_installation(folder), "checkout", reason)
    if name == "bin" and _is_installation(folder):
        reason = "the installation apikey was started from"
        return Location(_in_installation(folder), "installation", reason)
    return None


def _on_windows(environ: Mapping[str, str], launcher: str) -> Location | None:
    location = _own_checkout(launcher)
    if location is None and (program_data := environ.get("ProgramData")):
        path = os.path.join(program_data, "MetricsHub", "security", FILE_NAME)
        location = Location(path, "program-data", "the program data folder of Windows")
    return location


def _own_checkout(launcher: str) -> Location | None:
    """Return the keystore of the checkout that was started, unless an installation has it."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(launcher)))
    location = _started_from(launcher)
    if location is None or location.rule != "checkout":
        return None
    installed = any(map(_is_installed_program, (folder, os.path.dirname(folder))))
    return None if installed else location


def _is_installed_program(folder: str) -> bool:
    return os.path.isdir(os.path.join(folder, "lib", "app")) or os.path.isdir(
        os.path.join(folder, "app")
    )


def _is_installation(folder: str) -> bool:
    return os.path.isdir(os.path.join(folder, "lib", "app")) or any(
        os.path.isfile(os.path.join(folder, *parts, FILE_NAME))
        for parts in (("security",), ("lib", "security"))
    )


def _is_checkout(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, "pyproject.toml")) and os.path.isdir(
        os.path.join(folder, "src", "metricshub_apikey")
    )


def _in_installation(folder: str) -> str:
    """Return the keystore's path; MetricsHub's packages use `lib`, and link `security` to it."""
    library = os.path.join(folder, "lib")
    if os.path.isdir(os.path.join(library, "security")) or os.path.isdir(
        os.path.join(library, "app")
    ):
        return os.path.join(library, "security", FILE_NAME)
    return os.path.join(folder, "security", FILE_NAME)
