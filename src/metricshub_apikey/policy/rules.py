"""
What an administrator asks of API keys: the rules, and which of them a key breaks.

`policy_file` reads them from `apikey.toml`; without such a file they are `STOCK`, which asks for
nothing, as a stock MetricsHub server does.

    >>> from datetime import UTC
    >>> policy = Policy(path="apikey.toml", require_role=True)
    >>> now = Moment(datetime.fromisoformat("2027-01-01T00:00Z"), UTC)
    >>> policy.breaches(expires_on=None, created_at=now, roles=())[0].sentence
    'The key has no role; keys.require_role in apikey.toml asks for one.'
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from metricshub_apikey.errors import PolicyBreachError
from metricshub_apikey.keys.durations import SECOND, parse_duration, spoken
from metricshub_apikey.keys.expiry import Moment, after, lifetime, text
from metricshub_apikey.keys.value import new_key

if TYPE_CHECKING:
    from .access import Access, Paths
    from .permission import Permission
    from .state import Address

KeyFormat = Literal["uuid", "prefixed"]
DEFAULT_PREFIX = "metricshub_"

MANAGE = ("list", "create", "edit", "rotate", "suspend", "revoke")
"""What a role can let its keys do with other keys."""


class Breach(NamedTuple):
    """
    A rule that a key breaks.

    Attributes:
        rule: Its name in the policy file, such as `keys.max_lifetime`.
        sentence: What is wrong, with the rule, its limit and the file.
        hint: What to do next, where there is something useful to say.
    """

    rule: str
    sentence: str
    hint: str | None = None


class Role(NamedTuple):
    """
    What one role is for, and what it permits; one role must fit a request wholly.

    Attributes:
        description: For people.
        allow: Which requests, as rules of `Permission`.
        tools: Which MCP tools it may call, as patterns of `fnmatch`.
        networks: From where it may be used; None means from anywhere.
        requests_per_minute: Instead of the policy's; None where the role does not say.
        burst_per_second: Likewise.
        manage: What it may do with other keys through the console; `MANAGE` has the words.
        may_grant: The roles that keys it manages may have.
        self_rotate: Whether a key may rotate itself.
    """

    description: str | None = None
    allow: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    networks: tuple[str, ...] | None = None
    requests_per_minute: int | None = None
    burst_per_second: int | None = None
    manage: tuple[str, ...] = ()
    may_grant: tuple[str, ...] = ()
    self_rotate: bool = False

    @property
    def access(self) -> Access:
        """What it permits, compiled once."""
        return _access(self.allow, self.tools, self.networks)


@lru_cache(maxsize=1024)
def _access(
    allow: tuple[str, ...], tools: tuple[str, ...], networks: tuple[str, ...] | None
) -> Access:
    from .access import Access

    return Access(allow, tools=tools, networks=networks)


class RateLimit(NamedTuple):
    """How many requests one key may make, in any minute and in any second."""

    requests_per_minute: int = 1_000
    burst_per_second: int = 100


class Mcp(NamedTuple):
    """
    Where MCP is spoken.

    Attributes:
        paths: The endpoints that take messages.
        streams: The endpoints that only send events.
    """

    paths: tuple[str, ...] = ("/mcp", "/mcp/message")
    streams: tuple[str, ...] = ("/sse",)

    @property
    def all(self) -> Paths:
        """All of them, compiled once."""
        return _paths(self.paths + self.streams)

    @property
    def messages(self) -> Paths:
        """The endpoints that take messages, compiled once."""
        return _paths(self.paths)


@lru_cache(maxsize=64)
def _paths(patterns: tuple[str, ...]) -> Paths:
    from .access import Paths

    return Paths(patterns)


@lru_cache(maxsize=64)
def _compiled(rules: tuple[str, ...]) -> Permission:
    from .permission import Permission

    return Permission(rules)


class Policy(NamedTuple):
    """
    The rules for API keys.

    Attributes:
        path: The file they come from; None where there is none.
        enforced: Whether roles bite: the keys' services stand behind the gateway.
        require_expiry: Whether every key must end.
        default_lifetime: How long a key lives that gets no expiry; None means for ever.
        lifetimes: The lengths to choose from, as written; none means any.
        max_lifetime: The longest life of a key, from its creation; None means no limit.
        require_role: Whether every key needs a role.
        format: How new keys look: a UUID, or `prefix`, random characters and a checksum.
        prefix: The beginning of prefixed keys.
        roles: What each role means; None means that any name passes, and allows everything.
        rate_limit: How many requests the gateway lets through.
        public: What needs no key, as rules of `Permission`.
        mcp: Where MCP is spoken.
        state: The server that gateways share; None where each is alone.
        timezone: The zone of MetricsHub's server, as Java names it; None to find it.
        default_lifetime_text: The default, as written.
        max_lifetime_text: The limit, as written.
    """

    path: str | None = None
    enforced: bool = False
    require_expiry: bool = False
    default_lifetime: timedelta | None = None
    lifetimes: tuple[str, ...] = ()
    max_lifetime: timedelta | None = None
    require_role: bool = False
    format: KeyFormat = "uuid"
    prefix: str = DEFAULT_PREFIX
    roles: Mapping[str, Role] | None = None
    rate_limit: RateLimit = RateLimit()
    public: tuple[str, ...] = ()
    mcp: Mcp = Mcp()
    state: Address | None = None
    timezone: str | None = None
    default_lifetime_text: str | None = None
    max_lifetime_text: str | None = None

    def enforce(
        self, *, expires_on: datetime | None, created_at: Moment, roles: Sequence[str]
    ) -> None:
        """
        Refuse a key that breaks a rule; the arguments are those of `breaches`.

        Raises:
            PolicyBreachError: With the first of these rules.
        """
        for breach in self.breaches(expires_on=expires_on, created_at=created_at, roles=roles):
            raise PolicyBreachError(breach.sentence, hint=breach.hint)

    def breaches(
        self, *, expires_on: datetime | None, created_at: Moment, roles: Sequence[str]
    ) -> list[Breach]:
        """
        Return the rules that a key breaks, in the order of the file.

        Its life counts from its creation, so that no change of its expiry, however often,
        prolongs it beyond the limit.

        Args:
            expires_on: Local date time from which on it is refused; None means never.
            created_at: When it was made, and the server's zone.
            roles: What it may do.
        """
        return [*self._life_breaches(expires_on, created_at), *self._role_breaches(roles)]

    def _life_breaches(self, expires_on: datetime | None, created_at: Moment) -> Iterator[Breach]:
        limit = f"keys.max_lifetime in {self.source} is {self._longest}."
        if expires_on is None and self.require_expiry:
            sentence = (
                f"The key would never expire; keys.require_expiry in {self.source} forbids it."
            )
            yield Breach("keys.require_expiry", sentence)
        elif self.max_lifetime is None:
            return
        elif expires_on is None:
            yield Breach("keys.max_lifetime", f"The key would never expire; {limit}")
        elif (
            life := lifetime(created_at.instant, expires_on, created_at.zone)
        ) > self.max_lifetime:
            yield Breach(
                "keys.max_lifetime",
                f"The key would live for {spoken(life)}; {limit}",
                f"Its last possible expiry is {text(after(created_at, self.max_lifetime))}.",
            )

    def _role_breaches(self, roles: Sequence[str]) -> Iterator[Breach]:
        known = f"The roles are: {', '.join(self.roles)}." if self.roles else None
        if self.require_role and not roles:
            sentence = f"The key has no role; keys.require_role in {self.source} asks for one."
            yield Breach("keys.require_role", sentence, known)
        for role in roles:
            if self.roles is not None and role not in self.roles:
                sentence = f"[roles] in {self.source} has no role '{role}'."
                yield Breach("roles", sentence, known)

    def check_lifetime(self, typed: str) -> None:
        """
        Refuse a length of life that is not one of the choices, in whatever units it is typed.

        Args:
            typed: As `parse_duration` reads it.

        Raises:
            InvalidArgumentError: It is not a length of time.
            PolicyBreachError: It is not one of the choices.
        """
        self.check_length(parse_duration(typed), typed)

    def check_length(self, length: timedelta, typed: str | None = None) -> None:
        """Do the same for a *length* that was perhaps not *typed*; raises PolicyBreachError."""
        if self.lifetimes and length not in map(parse_duration, self.lifetimes):
            raise PolicyBreachError(
                f"'{typed or spoken(length)}' is not one of the choices of keys.lifetimes in "
                f"{self.source}.",
                hint=f"The choices are: {', '.join(self.lifetimes)}.",
            )

    def new_key(self, random_bytes: Callable[[int], bytes]) -> str:
        """Return a new key of the format that the rules ask for."""
        if self.format == "prefixed":
            from metricshub_apikey.keys.prefixed import new_prefixed_key

            return new_prefixed_key(self.prefix, random_bytes)
        return new_key(random_bytes)

    def refusal(
        self, roles: Sequence[str], method: str, path: str, tool: str | None = None
    ) -> str | None:
        """
        Return why none of these roles permits a request, by a stable name; None if one does.

        Where no roles are defined every key may do everything; where they are, a key without one
        may do nothing. From where the request comes is not asked here.

        Args:
            roles: The roles of the key; those that the rules do not know allow nothing.
            method: As in the request.
            path: As `permission.normalise` returned it.
            tool: The MCP tool that it calls, if it does.
        """
        if self.roles is None:
            return None
        from .access import Access, refusal

        known = [self.roles[role] for role in roles if role in self.roles]
        return refusal(
            [Access(role.allow, tools=role.tools) for role in known], method, path, tool=tool
        )

    def limit_of(self, roles: Sequence[str]) -> RateLimit:
        """
        Return how many requests a key with these roles may make.

        Of each figure the smallest one among the roles applies, and the policy's own where none of
        them says any.
        """
        known = [self.roles[role] for role in roles if role in self.roles] if self.roles else []
        minutes = [role.requests_per_minute for role in known if role.requests_per_minute]
        seconds = [role.burst_per_second for role in known if role.burst_per_second]
        if not minutes and not seconds:
            return self.rate_limit
        minute, second = self.rate_limit
        return RateLimit(min(minutes, default=minute), min(seconds, default=second))

    def is_public(self, method: str, path: str) -> bool:
        """
        Return whether a request needs no key.

        On an MCP path only OPTIONS can be public: every other method could carry a message.

        Args:
            method: As in the request.
            path: As `permission.normalise` returned it.
        """
        if not self.public or not _compiled(self.public).allows(method, path):
            return False
        return method == "OPTIONS" or not self.mcp.all.covers(path)

    def remarks(self) -> list[str]:
        """Return what an administrator should know of the roles, each a sentence."""
        if self.roles is None:
            return ["No roles are defined: every key may do everything."]
        paths = [path.replace("*", "x") for path in self.mcp.paths]
        return [
            f"The role '{name}' allows an MCP path ({path}) but has no 'tools' line: "
            "it may call no tool."
            for name, role in self.roles.items()
            if not role.tools
            for path in [next((one for one in paths if role.access.allows("POST", one)), None)]
            if path
        ]

    @classmethod
    def none(cls) -> Policy:
        """Return the rules of a stock MetricsHub server, which ask for nothing."""
        return STOCK

    @property
    def source(self) -> str:
        """The file, for a sentence."""
        return self.path or "the policy"

    @property
    def _longest(self) -> str:
        return self.max_lifetime_text or spoken(self.max_lifetime or timedelta())


STOCK = Policy()


def describe(policy: Policy) -> list[tuple[str, str]]:
    """Return the rules for people: what each is about, and what it says."""
    prefixed = f"{policy.prefix}, 43 random characters and a checksum"
    roles = (
        "any name passes" if policy.roles is None else ", ".join(policy.roles) or "there are none"
    )
    minute, second = policy.rate_limit
    return [
        ("Policy file", policy.path or "none: the stock behaviour"),
        ("Enforced", "yes, by the gateway" if policy.enforced else "no, as far as the file says"),
        ("Expiry", _expiry(policy)),
        ("Key format", prefixed if policy.format == "prefixed" else "UUID"),
        ("Roles", f"{'required' if policy.require_role else 'optional'}; {roles}"),
        *((f"Role {name}", _allowed(role)) for name, role in (policy.roles or {}).items()),
        ("Rate limit", f"{minute:,} requests a minute, {second:,} a second"),
        *([("Public", ", ".join(policy.public))] if policy.public else []),
        *([("MCP", _mcp(policy.mcp))] if policy.mcp != Mcp() else []),
        *([("State", str(policy.state))] if policy.state else []),
        *([("Server's time", policy.timezone)] if policy.timezone else []),
    ]


def _expiry(policy: Policy) -> str:
    default = policy.default_lifetime
    parts = ["required" if policy.require_expiry else "optional"]
    if policy.max_lifetime is not None:
        parts.append(f"at most {policy.max_lifetime_text or spoken(policy.max_lifetime)}")
    if default is not None:
        parts.append(f"{policy.default_lifetime_text or spoken(default)} if none is given")
    choices = f"; choices {', '.join(policy.lifetimes)}" if policy.lifetimes else ""
    return ", ".join(parts) + choices


def _mcp(mcp: Mcp) -> str:
    return ", ".join(mcp.paths + mcp.streams) or "no path is looked into"


def _allowed(role: Role) -> str:
    parts = [", ".join(role.allow) or "nothing"]
    if role.tools:
        parts.append(f"tools {', '.join(role.tools)}")
    if role.networks is not None:
        parts.append(f"from {', '.join(role.networks)}")
    if role.requests_per_minute is not None:
        parts.append(f"{role.requests_per_minute:,} requests a minute")
    if role.burst_per_second is not None:
        parts.append(f"{role.burst_per_second:,} a second")
    if role.manage:
        parts.append(f"manages keys ({', '.join(role.manage)})")
    if role.may_grant:
        parts.append(f"grants {', '.join(role.may_grant)}")
    if role.self_rotate:
        parts.append("rotates itself")
    allowed = "; ".join(parts)
    return f"{role.description}: {allowed}" if role.description else allowed


def document(policy: Policy) -> dict[str, object]:
    """Return the rules for scripts: lengths of time as written, and in seconds."""
    roles = policy.roles
    return {
        "path": policy.path,
        "enforced": policy.enforced,
        "keys": {
            "require_expiry": policy.require_expiry,
            "default_lifetime": policy.default_lifetime_text,
            "default_lifetime_seconds": _seconds(policy.default_lifetime),
            "lifetimes": list(policy.lifetimes),
            "lifetimes_seconds": [_seconds(parse_duration(one)) for one in policy.lifetimes],
            "max_lifetime": policy.max_lifetime_text,
            "max_lifetime_seconds": _seconds(policy.max_lifetime),
            "require_role": policy.require_role,
            "format": policy.format,
            "prefix": policy.prefix if policy.format == "prefixed" else None,
        },
        "roles": roles and {name: _role_document(role) for name, role in roles.items()},
        "rate_limit": policy.rate_limit._asdict(),
        "gateway": {"public": list(policy.public)},
        "mcp": {"paths": list(policy.mcp.paths), "streams": list(policy.mcp.streams)},
        "remarks": policy.remarks(),
        "state": policy.state and str(policy.state),
        "server": {"timezone": policy.timezone},
    }


def _role_document(role: Role) -> dict[str, object]:
    """Return a role with lists in place of tuples, as JSON has them."""
    return {
        name: list(held) if isinstance(held, tuple) else held
        for name, held in role._asdict().items()
    }


def _seconds(length: timedelta | None) -> int | None:
    return None if length is None else length // SECOND
