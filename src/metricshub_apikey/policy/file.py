r"""
The policy file `apikey.toml`: where it is, and the rules in it.

Nothing in it is ignored: a key that is not known, or a value that makes no sense, is an error with
its line, because a rule that is mistyped must not be a rule that is not there.

    >>> parse('[keys]\nmax_lifetime = "1y"\n', "apikey.toml").max_lifetime.days
    365
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta

from metricshub_apikey.errors import InvalidArgumentError, KeystoreError, PolicyError
from metricshub_apikey.files import ownership
from metricshub_apikey.files.reading import is_in_use, read
from metricshub_apikey.files.text import decode
from metricshub_apikey.formats.toml_value import Value
from metricshub_apikey.keys.durations import parse_duration
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.keys.prefixed import check_prefix

from .permission import Permission, path_expression
from .rules import MANAGE, STOCK, KeyFormat, Mcp, Policy, RateLimit, Role
from .state import parse as parse_state

MAX_SIZE = 1 << 20
HIGHEST_RATE = 1_000_000

TOP = ("enforced", "state", "keys", "server", "roles", "gateway", "mcp", "rate_limit")
KEYS = (
    "require_expiry",
    "default_lifetime",
    "lifetimes",
    "max_lifetime",
    "require_role",
    "format",
    "prefix",
)
RATE_LIMIT = ("requests_per_minute", "burst_per_second")
MANAGING = ("manage", "may_grant", "self_rotate")
ROLE = ("description", "allow", "tools", "networks", *RATE_LIMIT, *MANAGING)
GATEWAY = ("public",)
MCP = ("paths", "streams")
SERVER = ("timezone",)
ZONE = re.compile(r"[A-Za-z0-9_+:/-]{1,64}")

HOMES = {
    **dict.fromkeys(TOP, "at the top of the file, above all tables"),
    **dict.fromkeys(KEYS, "in [keys]"),
    **dict.fromkeys(SERVER, "in [server]"),
    **dict.fromkeys(ROLE, "in the table of a role, such as [roles.read-only]"),
    **dict.fromkeys(RATE_LIMIT, "in [rate_limit], or in the table of a role"),
    **dict.fromkeys(GATEWAY, "in [gateway]"),
    **dict.fromkeys(MCP, "in [mcp]"),
}
"""Where each key belongs: a key that is appended to the file stands in the last table."""

FORMATS: dict[str, KeyFormat] = {"uuid": "uuid", "prefixed": "prefixed"}


def load(path: str) -> Policy:
    """
    Return the rules in the file *path*.

    Raises:
        PolicyError: It cannot be read, or used.
    """
    try:
        snapshot = read(path, MAX_SIZE)
    except KeystoreError as error:
        raise PolicyError(error.message) from error
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
    if "server" in top and "timezone" in (server := top["server"].members(SERVER, HOMES)):
        policy = policy._replace(timezone=server["timezone"].checked(_timezone))
    if "roles" in top:
        roles = {name: _read_role(name, role) for name, role in top["roles"].table().items()}
        _check_grants(roles, top["roles"].table())
        policy = policy._replace(roles=roles)
    if "gateway" in top:
        gateway = top["gateway"].members(GATEWAY, HOMES)
        policy = policy._replace(public=_texts(gateway.get("public"), _public))
    if "mcp" in top:
        places = top["mcp"].members(MCP, HOMES)
        mcp = {name: _texts(value, _mcp_path) for name, value in places.items()}
        policy = policy._replace(mcp=Mcp(**mcp))
    if "rate_limit" in top:
        limits = top["rate_limit"].members(RATE_LIMIT, HOMES)
        rates = {name: value.number(HIGHEST_RATE) for name, value in limits.items()}
        policy = policy._replace(rate_limit=RateLimit(**rates))
    return policy


def _check_grants(roles: Mapping[str, Role], tables: Mapping[str, Value]) -> None:
    """Refuse to let a role grant what is not there, or what manages keys itself."""
    for table in tables.values():
        granted = table.table().get("may_grant")
        for one in [] if granted is None else granted.items():
            if one.text() not in roles:
                raise one.error("there is no such role.")
            if roles[one.text()].manage:
                raise one.error("a role that manages keys cannot be granted.")


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


def _timezone(text: str) -> str:
    if not ZONE.fullmatch(text):
        raise InvalidArgumentError("expected a time zone such as 'Europe/Paris'.")
    return text


def _prefix(text: str) -> str:
    check_prefix(text)
    return text


def _read_role(name: str, role: Value) -> Role:
    try:
        Metadata(roles=(name,)).check()
    except InvalidArgumentError as error:
        raise role.error(error.message) from None
    members = role.members(ROLE, HOMES)
    description, networks = members.get("description"), members.get("networks")
    if networks is not None and not networks.items():
        raise networks.expected("at least one network, such as 10.0.0.0/8")
    return Role(
        None if description is None else description.checked(_description),
        _texts(members.get("allow"), _rule),
        _texts(members.get("tools"), _tool),
        None if networks is None else _texts(networks, _network),
        manage=_texts(members.get("manage"), _manage),
        may_grant=_texts(members.get("may_grant"), _granted),
        self_rotate="self_rotate" in members and members["self_rotate"].flag(),
        **{name: members[name].number(HIGHEST_RATE) for name in RATE_LIMIT if name in members},
    )


def _texts(value: Value | None, check: Callable[[str], str]) -> tuple[str, ...]:
    """Return a list of texts, each as *check* returns it; nothing where there is no list."""
    return () if value is None else tuple(one.checked(check) for one in value.items())


def _manage(text: str) -> str:
    if text not in MANAGE:
        raise InvalidArgumentError(f"expected one of {', '.join(MANAGE)}.")
    return text


def _granted(text: str) -> str:
    Metadata(roles=(text,)).check()
    return text


def _description(text: str) -> str:
    Metadata(description=text).check()
    return text


def _rule(text: str) -> str:
    Permission([text])
    return text


def _tool(text: str) -> str:
    from .access import check_tool

    check_tool(text)
    return text


def _network(text: str) -> str:
    from .access import read_network

    return str(read_network(text))


def _public(text: str) -> str:
    from .access import check_public

    check_public(text)
    return text


def _mcp_path(text: str) -> str:
    try:
        path_expression(text)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"'{text}' is not a path: {error.message}") from None
    return text
