"""
What an administrator asks of API keys: the rules, and which of them a key breaks.

`policy_file` reads them from `apikey.toml`; without such a file they are `STOCK`, which asks for
nothing, as a stock MetricsHub server does.

    >>> policy = Policy(path="apikey.toml", require_role=True)
    >>> now = datetime.fromisoformat("2027-01-01T00:00Z")
    >>> policy.breaches(expires_on=None, created_at=now, roles=())[0].sentence
    'The key has no role; keys.require_role in apikey.toml asks for one.'
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from metricshub_apikey.errors import PolicyBreachError
from metricshub_apikey.keys.expiry import SECOND, Moment, after, lifetime, parse_duration, text
from metricshub_apikey.keys.value import new_key

if TYPE_CHECKING:
    from .permission import Permission
    from .state import Address

KeyFormat = Literal["uuid", "prefixed"]
DEFAULT_PREFIX = "metricshub_"

UNITS = {"day": 86_400, "hour": 3_600, "minute": 60, "second": 1}


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
    """What one role is for, and which requests it allows, as rules of `Permission`."""

    description: str | None = None
    allow: tuple[str, ...] = ()

    @property
    def permission(self) -> Permission:
        """The rules, compiled once."""
        return _compiled(self.allow)


@lru_cache(maxsize=1024)
def _compiled(rules: tuple[str, ...]) -> Permission:
    from .permission import Permission

    return Permission(rules)


class RateLimit(NamedTuple):
    """How many requests one key may make, in any minute and in any second."""

    requests_per_minute: int = 1_000
    burst_per_second: int = 100


class Policy(NamedTuple):
    """
    The rules for API keys.

    Attributes:
        path: The file they come from; None where there is none.
        enforced: Whether roles bite: the keys' services stand behind the gateway.
        require_expiry: Whether every key must end.
        default_lifetime: How long a key lives for which nobody said it; None means for ever.
        lifetimes: The lengths to choose from, as written; none means any.
        max_lifetime: The longest life of a key, from its creation; None means no limit.
        require_role: Whether every key needs a role.
        format: How new keys look: a UUID, or `prefix`, random characters and a checksum.
        prefix: The beginning of prefixed keys.
        roles: What each role means; None means that any name passes, and allows everything.
        rate_limit: How many requests the gateway lets through.
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
        Refuse a length of life that is none of the choices, in whatever units it is typed.

        Args:
            typed: As `expiry.parse_duration` reads it.

        Raises:
            InvalidArgumentError: It is no length of time.
            PolicyBreachError: It is none of the choices.
        """
        length = parse_duration(typed)
        if self.lifetimes and length not in map(parse_duration, self.lifetimes):
            raise PolicyBreachError(
                f"'{typed}' is not one of the choices of keys.lifetimes in {self.source}.",
                hint=f"The choices are: {', '.join(self.lifetimes)}.",
            )

    def new_key(self, random_bytes: Callable[[int], bytes]) -> str:
        """Return a new key of the format that the rules ask for."""
        if self.format == "prefixed":
            from metricshub_apikey.keys.prefixed import new_prefixed_key

            return new_prefixed_key(self.prefix, random_bytes)
        return new_key(random_bytes)

    def permits(self, roles: Sequence[str], method: str, path: str) -> bool:
        """
        Return whether a key with these roles may make a request.

        Where no roles are defined every key may; where they are, a key without one may nothing.

        Args:
            roles: The roles of the key; those that the rules do not know allow nothing.
            method: As in the request.
            path: As `permission.normalise` returned it.
        """
        if self.roles is None:
            return True
        known = self.roles
        return any(known[role].permission.allows(method, path) for role in roles if role in known)

    @property
    def source(self) -> str:
        """The file, for a sentence."""
        return self.path or "the policy"

    @property
    def _longest(self) -> str:
        return self.max_lifetime_text or spoken(self.max_lifetime or timedelta())


STOCK = Policy()


def spoken(length: timedelta) -> str:
    """Return a length of time in words, such as `1 day 12 hours`, to the second."""
    rest = length // SECOND
    parts = []
    for unit, seconds in UNITS.items():
        count, rest = divmod(rest, seconds)
        if count:
            parts.append(f"{count:,} {unit}{'' if count == 1 else 's'}")
    return " ".join(parts) or "0 seconds"


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


def _allowed(role: Role) -> str:
    allowed = ", ".join(role.allow) or "nothing"
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
        "roles": roles
        and {
            name: {"description": role.description, "allow": list(role.allow)}
            for name, role in roles.items()
        },
        "rate_limit": policy.rate_limit._asdict(),
        "state": policy.state and str(policy.state),
        "server": {"timezone": policy.timezone},
    }


def _seconds(length: timedelta | None) -> int | None:
    return None if length is None else length // SECOND
