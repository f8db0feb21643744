"""One key, prepared for the gateway: everything that is the same for each of its requests."""

from __future__ import annotations

import hashlib
from typing import NamedTuple
from urllib.parse import quote

from metricshub_apikey.http.asgi import Header
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.policy import acceptance
from metricshub_apikey.policy.access import Access
from metricshub_apikey.policy.rules import Policy

PRINTED = " !#$&'()*+,-./:;<=>?@[]^_`{|}~"


class Identity(NamedTuple):
    """
    Whose key it is: what a service and the log are told.

    Attributes:
        alias: The key's name.
        principal: Its service account, or else the alias.
        roles: What it may do.
    """

    alias: str
    principal: str
    roles: tuple[str, ...]

    @property
    def headers(self) -> list[Header]:
        """The same as headers; what is not printable ASCII is percent-encoded."""
        return [
            (b"x-apikey-alias", _header(self.alias)),
            (b"x-apikey-principal", _header(self.principal)),
            (b"x-apikey-roles", _header(",".join(self.roles))),
        ]


class Credential:
    """
    A key that can be looked up by the SHA-256 of its token.

    Attributes:
        token: The secret, as clients send it.
        digest: Its SHA-256.
        fingerprint: The same in hexadecimal, as records know it.
        identity: Whose key it is.
        expires: What the server's clock shows when it ends, as `wall_seconds`.
        suspended: Whether it is refused until it is resumed.
        roles: What each of its roles permits; None where the policy defines no roles.
        networked: Whether one of them asks from where a request comes.
        limit: How many requests it may make.
        headers: Of an answer that accepts it.
        minute: In which it was used last, since 1970; `Uses` keeps it.
    """

    __slots__ = (
        "digest",
        "expires",
        "fingerprint",
        "headers",
        "identity",
        "limit",
        "minute",
        "networked",
        "roles",
        "suspended",
        "token",
    )

    def __init__(self, key: ApiKey, token: bytes, policy: Policy) -> None:
        """Prepare *key* with the secret *token*, under the rules of *policy*."""
        self.token = token
        self.digest = hashlib.sha256(token).digest()
        self.fingerprint = self.digest.hex()
        self.identity = Identity(key.alias, key.principal, key.metadata.roles)
        self.suspended = key.suspended
        self.expires = acceptance.ends(key)
        self.roles = _roles(self.identity.roles, policy)
        self.networked = any(role.networks is not None for role in self.roles or ())
        self.limit = policy.limit_of(self.identity.roles)
        self.minute = -1
        self.headers = [(b"content-length", b"0"), *self.identity.headers]

    def __repr__(self) -> str:
        """Show no secret."""
        return f"Credential({self.identity.alias!r})"


def _roles(names: tuple[str, ...], policy: Policy) -> tuple[Access, ...] | None:
    known = policy.roles
    if known is None:
        return None
    return tuple(known[name].access for name in names if name in known)


def _header(text: str) -> bytes:
    return quote(text, safe=PRINTED, errors="replace").encode()
