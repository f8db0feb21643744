"""Where the policy file is; it is read in `file`, which is imported where there is one."""

from __future__ import annotations

import os
from collections.abc import Mapping

from .rules import STOCK, Policy

FILE_NAME = "apikey.toml"
ENVIRONMENT_VARIABLE = "METRICSHUB_APIKEY_POLICY"


def path_beside(keystore: str) -> str:
    """Return where the policy of *keystore* belongs, links resolved."""
    return os.path.join(os.path.dirname(os.path.realpath(keystore)), FILE_NAME)


def named_policy(named: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the policy file that the user asks for: *named*, or in the environment variables."""
    return environ.get(ENVIRONMENT_VARIABLE) or None if named is None else named


def find_policy(named: str | None, keystore: str, environ: Mapping[str, str]) -> str | None:
    """
    Return which policy file to use; None if there is none.

    Args:
        named: What the user asked for on the command line, or None.
        keystore: The path of the keystore; a policy beside the file behind all links counts.
        environ: The environment variables.
    """
    if (asked_for := named_policy(named, environ)) is not None:
        return asked_for
    path = path_beside(keystore)
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:  # a user who may not look into the directory cannot use its keystore
        return None
    except OSError:  # it may be there: let `load` say what is wrong
        return path
    return path


def in_force(named: str | None, keystore: str, environ: Mapping[str, str]) -> Policy:
    """
    Return the rules for *keystore*; those of a stock server where there is no policy file.

    The arguments are those of `find_policy`; raises PolicyError as `file.load` does.
    """
    path = find_policy(named, keystore, environ)
    if path is None:
        return STOCK
    from .file import load

    return load(path)
