r"""
The policy file `apikey.toml`: where it is, and the rules in it.

Nothing in it is ignored: a key that is not known, or a value that makes no sense, is an error with
its line, because a rule that is mistyped must not be a rule that is not there.

    >>> parse('[keys]\nmax_lifetime = "1y"\n', "apikey.toml").max_lifetime.days
    365
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta

from metricshub_apikey.errors import InvalidArgumentError, KeystoreError, PolicyError
from metricshub_apikey.files import ownership
from metricshub_apikey.files.reading import is_in_use, read
from metricshub_apikey.files.text import decode
from metricshub_apikey.formats.toml_value import Value
from metricshub_apikey.keys.durations import parse_duration
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.keys.prefixed import check_prefix

from .permission import Permission
from .rules import STOCK, KeyFormat, Policy, RateLimit, Role
from .state import parse as parse_state

FILE_NAME = "apikey.toml"
ENVIRONMENT_VARIABLE = "METRICSHUB_APIKEY_POLICY"
MAX_SIZE = 1 << 20
HIGHEST_RATE = 1_000_000

TOP = ("enforced", "state", "keys", "roles", "rate_limit")
KEYS = (
    "require_expiry",
    "default_lifetime",
    "lifetimes",
    "max_lifetime",
    "require_role",
    "format",
    "prefix",
)
ROLE = ("description", "allow")
RATE_LIMIT = ("requests_per_minute", "burst_per_second")

HOMES = {
    **dict.fromkeys(TOP, "at the top of the file, above all tables"),
    **dict.fromkeys(KEYS, "in [keys]"),
    **dict.fromkeys(ROLE, "in the table of a role, such as [roles.read-only]"),
    **dict.fromkeys(RATE_LIMIT, "in [rate_limit]"),
}
"""Where each key belongs: whoever appends one to the file puts it into the last table."""

FORMATS: dict[str, KeyFormat] = {"uuid": "uuid", "prefixed": "prefixed"}


def path_beside(keystore: str) -> str:
    """Return where the policy of *keystore* belongs, links resolved."""
    return os.path.join(os.path.dirname(os.path.realpath(keystore)), FILE_NAME)


def named_policy(named: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the policy file that somebody asks for: *named*, or in the environment variables."""
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
    except PermissionError:  # whoever may not look into the directory cannot use its keystore
        return None
    except OSError:  # it may be there: let `load` say what is wrong
        return path
    return path


def in_force(named: str | None, keystore: str, environ: Mapping[str, str]) -> Policy:
    """
    Return the rules for *keystore*; those of a stock server where there is no policy file.

    The arguments are those of `find_policy`; raises PolicyError as `load` does.
    """
    path = find_policy(named, keystore, environ)
    return STOCK if path is None else load(path)


def load(path: str) -> Policy:
    """
    Return the rules in the file *path*.

    Raises:
        PolicyError: It cannot be read, or used.
    """
    try:
        snapshot = read(path, MAX_SIZE)
    except KeystoreError as error:
        raise PolicyError(f"{path} {error.message}.") from error
    except PermissionError as error:
        if is_in_use(error):
            raise PolicyError(f"{path} is in use by another program.") from error
        hint = ownership.access_hint(path)
        raise PolicyError(f"Access denied to {path}.", hint=hint) from error
    except OSError as error:
        raise PolicyError(f"{path} cannot be read: {error.strerror}.") from error
    if snapshot is None:
        link = "It is a link, and what it points to is missing." if os.path.islink(path) else None
        raise PolicyError(f"There is no policy file {path}.", hint=link)
    return parse(decode(snapshot.data, path, PolicyError), path)


def parse(text: str, path: str) -> Policy:
    """
    Return the rules in *text*.

    Args:
        text: The policy, in TOML.
        path: The file it is from, for the errors and as `Policy.path`.

    Raises:
        PolicyError: It cannot be used; the message names the line and the key.
    """
    top = Value.read(text, path).members(TOP, HOMES)
    policy = STOCK._replace(path=path)
    if "enforced" in top:
        policy = policy._replace(enforced=top["enforced"].flag())
    if "state" in top:
        policy = policy._replace(state=top["state"].checked(parse_state))
    if "keys" in top:
        policy = _read_keys(policy, top["keys"].members(KEYS, HOMES))
    if "roles" in top:
        roles = {name: _read_role(name, role) for name, role in top["roles"].table().items()}
        policy = policy._replace(roles=roles)
    if "rate_limit" in top:
        limits = top["rate_limit"].members(RATE_LIMIT, HOMES)
        rates = {name: value.number(HIGHEST_RATE) for name, value in limits.items()}
        policy = policy._replace(rate_limit=RateLimit(**rates))
    return policy


def _read_keys(policy: Policy, keys: Mapping[str, Value]) -> Policy:
    """Return *policy* with the rules of the table `[keys]`."""
    if "require_expiry" in keys:
        policy = policy._replace(require_expiry=keys["require_expiry"].flag())
    if "require_role" in keys:
        policy = policy._replace(require_role=keys["require_role"].flag())
    if "format" in keys:
        policy = policy._replace(format=keys["format"].checked(_key_format))
    if "prefix" in keys:
        policy = policy._replace(prefix=keys["prefix"].checked(_prefix))
    if "max_lifetime" in keys:
        length, text = _duration(keys["max_lifetime"])
        policy = policy._replace(max_lifetime=length, max_lifetime_text=text)
    if "default_lifetime" in keys:
        length, text = _within(policy, keys["default_lifetime"])
        policy = policy._replace(default_lifetime=length, default_lifetime_text=text)
    if "lifetimes" in keys:
        choices = tuple(_within(policy, value)[1] for value in keys["lifetimes"].items())
        if not choices:
            raise keys["lifetimes"].expected("at least one length of time")
        policy = policy._replace(lifetimes=choices)
    return policy


def _duration(value: Value) -> tuple[timedelta, str]:
    """Return a length of time, and how it is written."""
    length = value.checked(parse_duration)
    if not length:
        raise value.error("a key that lives for no time is of no use.")
    return length, value.text()


def _within(policy: Policy, value: Value) -> tuple[timedelta, str]:
    """Return a length of time that is not longer than the limit, and how it is written."""
    length, text = _duration(value)
    if policy.max_lifetime is not None and length > policy.max_lifetime:
        raise value.error(f"{text} is longer than max_lifetime, {policy.max_lifetime_text}.")
    return length, text


def _key_format(text: str) -> KeyFormat:
    if text not in FORMATS:
        raise InvalidArgumentError("expected 'uuid' or 'prefixed'.")
    return FORMATS[text]


def _prefix(text: str) -> str:
    check_prefix(text)
    return text


def _read_role(name: str, role: Value) -> Role:
    try:
        Metadata(roles=(name,)).check()
    except InvalidArgumentError as error:
        raise role.error(error.message) from None
    members = role.members(ROLE, HOMES)
    description, allow = members.get("description"), members.get("allow")
    return Role(
        None if description is None else description.checked(_description),
        () if allow is None else tuple(rule.checked(_rule) for rule in allow.items()),
    )


def _description(text: str) -> str:
    Metadata(description=text).check()
    return text


def _rule(text: str) -> str:
    Permission([text])
    return text
