"""One key, prepared for the gateway: everything that is the same for each of its requests."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import NamedTuple
from urllib.parse import quote

from metricshub_apikey.http.asgi import Header
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.expiry import wall_seconds
from metricshub_apikey.policy.permission import Permission
from metricshub_apikey.policy.rules import Policy

NEVER = float("inf")
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
        permissions: What its roles allow; None where the policy defines no roles.
        headers: Of an answer that accepts it.
        minute: In which it was used last, since 1970; whoever decides keeps it.
    """

    __slots__ = (
        "digest",
        "expires",
        "fingerprint",
        "headers",
        "identity",
        "minute",
        "permissions",
        "token",
    )

    def __init__(self, key: ApiKey, token: bytes, policy: Policy) -> None:
        """Prepare *key* with the secret *token*, under the rules of *policy*."""
        self.token = token
        self.digest = hashlib.sha256(token).digest()
        self.fingerprint = self.digest.hex()
        self.identity = Identity(key.alias, key.principal, key.metadata.roles)
        self.expires = _seconds(key.expires_on)
        self.permissions = _permissions(self.identity.roles, policy)
        self.minute = -1.0
        self.headers = [(b"content-length", b"0"), *self.identity.headers]

    def __repr__(self) -> str:
        """Show no secret."""
        return f"Credential({self.identity.alias!r})"

    def permits(self, method: str, path: str) -> bool:
        """Return whether a role allows a request of a *path* that was normalised."""
        permissions = self.permissions
        return permissions is None or any(one.allows(method, path) for one in permissions)


def _seconds(expires_on: datetime | None) -> float:
    return NEVER if expires_on is None else wall_seconds(expires_on)


def _permissions(roles: tuple[str, ...], policy: Policy) -> tuple[Permission, ...] | None:
    known = policy.roles
    if known is None:
        return None
    return tuple(known[role].permission for role in roles if role in known)


def _header(text: str) -> bytes:
    return quote(text, safe=PRINTED, errors="replace").encode()
