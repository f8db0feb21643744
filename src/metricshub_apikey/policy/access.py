"""
Whether one role fits a request wholly: its rules, its networks and its tools.

    >>> from ipaddress import ip_address
    >>> role = Access(["* /mcp"], tools=["List*"], networks=["10.0.0.0/8"])
    >>> refusal([role], "POST", "/mcp", tool="ListHosts", address=ip_address("10.1.2.3"))
    >>> refusal([role], "POST", "/mcp", tool="Delete", address=ip_address("10.1.2.3"))
    'tool-not-permitted'
    >>> refusal([role], "POST", "/mcp", tool="ListHosts", address=None)
    'wrong-network'
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from metricshub_apikey.errors import InvalidArgumentError

from .permission import Permission, normalise, path_expression, readings

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

    IpAddress = IPv4Address | IPv6Address
    IpNetwork = IPv4Network | IPv6Network

EVERY = "*"
LONGEST_TOOL = 128
EVERYTHING = re.compile(r"\* (?:/\*\*)+")

NOT_PERMITTED = "not-permitted"
WRONG_NETWORK = "wrong-network"
WRONG_TOOL = "tool-not-permitted"
UNSEEN = "mcp-unseen"


class Access:
    """
    What one role permits, compiled once.

    Attributes:
        allows: Whether its rules allow a method and a path.
        networks: From where it may be used; None means from anywhere.
        every_tool: Whether it may call each tool.
    """

    __slots__ = ("_tools", "allows", "every_tool", "networks")

    def __init__(
        self,
        allow: Sequence[str],
        *,
        tools: Sequence[str] = (),
        networks: Sequence[str] | None = None,
    ) -> None:
        """
        Compile a role.

        Args:
            allow: Rules, as `Permission` reads them.
            tools: Patterns of `fnmatch` for the whole name of an MCP tool, in its letter case.
            networks: Such as `10.0.0.0/8`; None where it does not matter.

        Raises:
            InvalidArgumentError: One of them makes no sense.
        """
        self.allows = Permission(allow).allows
        self._tools = re.compile("|".join(map(fnmatch.translate, tools)) or r"(?!)").fullmatch
        self.every_tool = EVERY in tools
        self.networks = None if networks is None else tuple(map(read_network, networks))

    def may_call(self, tool: str) -> bool:
        """Return whether it may call the tool of that name."""
        return self._tools(tool) is not None

    def reaches(self, address: IpAddress | None) -> bool:
        """Return whether it may be used from an address; None is in no network."""
        if self.networks is None:
            return True
        return address is not None and any(address in network for network in self.networks)


def refusal(
    roles: Iterable[Access],
    method: str,
    path: str,
    *,
    tool: str | None = None,
    unseen: bool = False,
    address: IpAddress | None = None,
) -> str | None:
    """
    Return why no role fits a request wholly, by a stable name; None if one fits.

    Roles that fit in part add nothing up: the path of one does not lend itself to another's tools.

    Args:
        roles: Those of one key.
        method: As in the request.
        path: As `normalise` returned it.
        tool: The MCP tool that is called; None where none is.
        unseen: Whether it may be a call of any tool.
        address: Where it comes from; None where that is not known.
    """
    reason = NOT_PERMITTED
    for role in roles:
        if not role.allows(method, path):
            continue
        if role.networks is not None and not role.reaches(address):
            reason = WRONG_NETWORK
        elif unseen and not role.every_tool:
            reason = UNSEEN
        elif tool is not None and not role.may_call(tool):
            reason = WRONG_TOOL
        else:
            return None
    return reason


def read_network(text: str) -> IpNetwork:
    """Return a network such as `10.0.0.0/8` or `::1`; raises InvalidArgumentError."""
    from ipaddress import ip_network

    try:
        return ip_network(text)
    except ValueError as error:
        raise InvalidArgumentError(f"this is not a network: {error}.") from None


def client_address(forwarded: str, trusted: Sequence[IpNetwork]) -> IpAddress | None:
    """
    Return where a request comes from: the last address of a list that is not a proxy of ours.

    Args:
        forwarded: As in X-Forwarded-For, addresses with commas between.
        trusted: The networks of the proxies.

    Returns:
        IPv4-mapped addresses as IPv4; None where it is missing or unreadable.
    """
    from ipaddress import ip_address

    for text in reversed(forwarded.split(",")):
        try:
            address = ip_address(text.strip())
        except ValueError:
            return None
        address = getattr(address, "ipv4_mapped", None) or address
        if not any(address in network for network in trusted):
            return address
    return None


def check_tool(pattern: str) -> None:
    """Raise InvalidArgumentError if no MCP tool can have a name that fits *pattern*."""
    if not pattern or not pattern.isprintable() or len(pattern) > LONGEST_TOOL:
        raise InvalidArgumentError(f"a tool's name has 1 to {LONGEST_TOOL} printable characters.")


def check_public(rule: str) -> None:
    """Raise InvalidArgumentError unless *rule* is one that leaves something for keys to protect."""
    Permission([rule])
    if EVERYTHING.fullmatch(rule):
        raise InvalidArgumentError(f"'{rule}' would let every request pass without a key.")


class Paths:
    """
    Paths by patterns, in any letter case, with or without a slash at the end, in any reading.

    What could be one of them for some server is one of them.

    Attributes:
        may_cover: Says no, at little cost, of almost every path that is none of them.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        """Compile *patterns*, paths as in the rules of `Permission`."""
        paths = "|".join(path_expression(pattern.rstrip("/") or "/") for pattern in patterns)
        exact = rf"(?i:{paths})/?(?:\?|\Z)" if paths else r"(?!)"
        self._match = re.compile(exact).match
        self.may_cover = re.compile(rf"{exact}|[^%;]*[%;]").match

    def covers(self, target: str) -> bool:
        """Return whether a path, with or without a query, could be one of them."""
        if "%" not in target and ";" not in target:
            return self._match(target) is not None
        try:
            path = normalise(target)
        except InvalidArgumentError:
            return False
        return any(self._match(one) for one in readings(path))
