"""Who sends a request, and what they may do: the holder of a session, or an API key."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.fingerprint import fingerprint
from metricshub_apikey.policy.rules import MANAGE, Policy, Role

from .problems import Problem
from .sessions import Holder

LOOK = frozenset({"list"})
ALL = frozenset(MANAGE)
SEVERAL = "Each of its roles must be one that your key may grant."


class Caller(NamedTuple):
    """
    Who sends a request.

    Attributes:
        name: As the log calls them: the actor.
        identity: What replays are bound to; of a key, its fingerprint.
        verbs: What they may do, of `MANAGE`.
        key: The API key that they have sent; None for a person.
        grants: The roles that a managing key may give.
        self_rotate: Whether the key may rotate itself.
        shown: As the page calls them.
        seconds: For how long their session still holds.
    """

    name: str
    identity: str
    verbs: frozenset[str]
    key: ApiKey | None = None
    grants: frozenset[str] = frozenset()
    self_rotate: bool = False
    shown: str = ""
    seconds: float | None = None

    @classmethod
    def person(cls, holder: Holder, seconds: float) -> Caller:
        """Return who has a session."""
        verbs = ALL if holder.may_change else LOOK
        identity = f"person {holder.name}"
        return cls(holder.name, identity, verbs, shown=holder.shown, seconds=seconds)

    @classmethod
    def of_key(cls, key: ApiKey, policy: Policy, address: str) -> Caller:
        """Return who has sent *key*, which is accepted; a role counts within its networks."""
        roles = [role for role in _roles(key, policy) if _reaches(role, address)]
        return cls(
            f"api_key:{key.alias}",
            f"key {fingerprint(key.secret.reveal())}",
            frozenset(verb for role in roles for verb in role.manage),
            key,
            frozenset(name for role in roles for name in role.may_grant),
            any(role.self_rotate for role in roles),
        )

    @property
    def rights(self) -> str:
        """`rw` for those who change something, else `ro`."""
        return "ro" if self.verbs <= LOOK else "rw"

    def require(self, verb: str) -> None:
        """Refuse who may not do this at all; raises Problem 403."""
        if verb in self.verbs:
            return
        if self.key is None:
            raise Problem(403, "read-only", "You may look, but not change anything.")
        hint = f"A role of the key needs '{verb}' in its manage, in the policy file."
        raise Problem(403, "forbidden", f"Your key may not do this: {verb}.", hint=hint)

    def require_grant(self, roles: Sequence[str]) -> None:
        """Refuse to give a key roles that the caller may not grant; raises Problem 403."""
        if self.key is None:
            return
        if not roles:
            raise Problem(
                403, "forbidden", "Your key can only make keys that have a role.", field="roles"
            )
        for role in roles:
            if role not in self.grants:
                raise Problem(
                    403, "forbidden", f"Your key may not grant the role '{role}'.", field="roles"
                )

    def require_power_over(self, key: ApiKey, policy: Policy) -> None:
        """Refuse to touch a key that a managing key has no power over; raises Problem 403."""
        if self.key is None:
            return
        roles = key.metadata.roles
        managing = any(role.manage for role in _roles(key, policy))
        if not roles or managing or not self.grants.issuperset(roles):
            raise Problem(
                403, "forbidden", f"Your key may not change the key '{key.alias}'.", hint=SEVERAL
            )


def _reaches(role: Role, address: str) -> bool:
    """Return whether a role may be used from *address*; one that is unreadable fits no network."""
    if role.networks is None:
        return True
    try:
        client = ip_address(address)
    except ValueError:
        return False
    client = getattr(client, "ipv4_mapped", None) or client
    return any(client in ip_network(one, strict=False) for one in role.networks)


def _roles(key: ApiKey, policy: Policy) -> list[Role]:
    known = policy.roles or {}
    return [known[name] for name in key.metadata.roles if name in known]
