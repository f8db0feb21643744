"""
Would this key be accepted now, and if not, why?

    >>> token_in("Authorization: Bearer 3f2b1c4d")
    '3f2b1c4d'
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from metricshub_apikey.activity.database import Event
from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.expiry import Moment, text, to_local
from metricshub_apikey.keys.fingerprint import fingerprint
from metricshub_apikey.keys.prefixed import is_intact
from metricshub_apikey.policy import acceptance, permission
from metricshub_apikey.policy.rules import Policy
from metricshub_apikey.secret import Secret

NAME = re.compile(r"\s*authorization\s*:", re.IGNORECASE)
LIKE_A_KEY = re.compile(r"[!-~]{4,512}")

ENDED_BY = {"revoke": "revoked", "prune": "revoked", "rotate": "rotated", "finish": "rotated"}


class Verdict(NamedTuple):
    """
    Whether a key would be accepted.

    Attributes:
        reason: A stable name for scripts: `accepted`, `malformed`, `mistyped`, `unknown`,
            `expired`, `suspended`, `revoked`, `rotated`, `no-role`, `not-permitted` or
            `tool-not-permitted`.
        sentence: The same for people.
        key: Which key it is, where it is in the keystore.
    """

    reason: str
    sentence: str
    key: ApiKey | None = None

    @property
    def accepted(self) -> bool:
        """Whether it would be accepted."""
        return self.reason == "accepted"


class Demand(NamedTuple):
    """
    What a key must be allowed besides.

    Attributes:
        roles: Which it must have.
        request: What one of its roles must permit, such as `POST /mcp`.
        tool: The MCP tool that this request calls.
    """

    roles: Sequence[str] = ()
    request: str | None = None
    tool: str | None = None


def token_in(line: str) -> str:
    """Return the key in an `Authorization` header line, with or without its name and scheme."""
    name = NAME.match(line)
    value = line[name.end() if name else 0 :].strip()
    token = acceptance.token_in(value.encode("utf-8", "surrogateescape"))
    return value if token is None else token.decode("utf-8", "surrogateescape")


def verify(
    token: str,
    keys: Iterable[ApiKey],
    *,
    now: Moment,
    policy: Policy,
    demand: Demand,
    history: Callable[[str], Sequence[Event]],
) -> Verdict:
    """
    Decide about one *token*.

    Args:
        token: What a client sends.
        keys: All keys of the keystore; each is compared in constant time.
        now: The current moment.
        policy: What roles allow.
        demand: What the key must be allowed besides.
        history: Returns what is recorded of a key that is not in the keystore, by fingerprint.
    """
    found, wanted = None, Secret(token)
    for key in keys:
        if key.secret and key.secret == wanted and (found is None or found.suspended):
            found = key
    if found is None:
        return _absent(token, history, now)
    reason = acceptance.refusal_of(found, now)
    if reason is not None:
        ended = not found.suspended and found.expires_on
        return Verdict(reason, f"expired since {text(ended)}" if ended else reason, found)
    return _allowed(found, policy, demand) or Verdict("accepted", "accepted", found)


def _absent(token: str, history: Callable[[str], Sequence[Event]], now: Moment) -> Verdict:
    if is_intact(token) is False:
        return Verdict("mistyped", "mistyped: its checksum does not fit")
    if not LIKE_A_KEY.fullmatch(token):
        return Verdict("malformed", "malformed: no API key looks like this")
    ends = [event for event in history(fingerprint(token)) if event.action in ENDED_BY]
    if ends:
        ended = ENDED_BY[ends[-1].action]
        at = text(to_local(ends[-1].at, now.zone))
        return Verdict(ended, f"'{ends[-1].alias}', {ended} at {at} by {ends[-1].actor}")
    return Verdict("unknown", "unknown: it is not in this keystore")


def _allowed(key: ApiKey, policy: Policy, demand: Demand) -> Verdict | None:
    lacking = [role for role in demand.roles if role not in key.metadata.roles]
    if lacking:
        return Verdict("no-role", f"it does not have the role '{lacking[0]}'", key)
    if demand.request is None:
        return None
    method, _, target = demand.request.partition(" ")
    try:
        path = permission.normalise(target.strip())
    except InvalidArgumentError as error:
        return Verdict("not-permitted", f"no role permits such a path: {error.message}", key)
    reason = policy.refusal(key.metadata.roles, method, path, demand.tool)
    if reason == "tool-not-permitted":
        asked = f"the tool {demand.tool} with {demand.request}"
        return Verdict(reason, f"none of its roles permits {asked}", key)
    if reason is not None:
        return Verdict(reason, f"none of its roles permits {demand.request}", key)
    return None
