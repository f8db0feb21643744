"""
Whether a request may pass: 200, 401, 403, 429 or 503, and what is said with it.

Every key that is not accepted gets the same words: the reason is for the log only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.http.asgi import Header
from metricshub_apikey.keys.prefixed import is_intact
from metricshub_apikey.policy.permission import normalise
from metricshub_apikey.policy.rules import RateLimit

from .credential import Credential, Identity
from .keyring import Keyring

SCHEME = b"bearer"
LONGEST_TOKEN = 4_096
MINUTE = 60
CHALLENGE = b'Bearer realm="apikey"'


class Request(NamedTuple):
    """
    What is asked for.

    Attributes:
        method: As in the request line.
        target: The path as it was sent, with or without a query; None where nobody said it.
        authorization: The values of all Authorization headers.
    """

    method: str
    target: str | None
    authorization: list[bytes]


class Answer(NamedTuple):
    """
    What is answered.

    Attributes:
        status: 200 lets the request pass.
        reason: Why, for log and metrics: a stable name.
        headers: To send with it.
        body: A problem document (RFC 9457), or nothing.
        identity: Whose key it was, where that is known.
    """

    status: int
    reason: str
    headers: list[Header]
    body: bytes = b""
    identity: Identity | None = None


class StateError(Exception):
    """The server that counts requests does not answer, and nobody else may count."""


class Limiter(Protocol):
    """Where accepted requests are counted: in memory, or on a server."""

    async def take(self, fingerprint: str, limit: RateLimit) -> tuple[bool, list[Header]]:
        """
        Count a request of a key if the limits allow it.

        Returns:
            Whether they do, and the headers that tell the client.

        Raises:
            StateError: Nobody can say.
        """


def _refusal(
    status: int, reason: str, title: str, detail: str, challenge: bytes | None = None
) -> Answer:
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    body = json.dumps(problem).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    if challenge is not None:
        headers.append((b"www-authenticate", challenge))
    return Answer(status, reason, headers, body)


NO_KEY = _refusal(401, "no-key", "Unauthorized", "This needs an API key.", CHALLENGE)
MALFORMED = _refusal(
    401,
    "malformed",
    "Unauthorized",
    "There must be one Authorization header, with one API key.",
    CHALLENGE + b', error="invalid_request"',
)
INVALID = _refusal(
    401,
    "unknown",
    "Unauthorized",
    "The API key is not valid.",
    CHALLENGE + b', error="invalid_token", error_description="The API key is not valid."',
)
FORBIDDEN = _refusal(
    403,
    "not-permitted",
    "Forbidden",
    "The API key does not permit this request.",
    CHALLENGE + b', error="insufficient_scope"',
)
TOO_MANY = _refusal(
    429, "over-limit", "Too Many Requests", "The API key has made too many requests."
)
UNAVAILABLE = _refusal(503, "no-keystore", "Service Unavailable", "API keys cannot be checked now.")


def token_in(authorization: list[bytes]) -> bytes | Answer:
    """
    Return the token in the Authorization headers, or the answer where there is none.

    Clients send `Bearer <key>` (RFC 6750), the scheme in any case, and the bare key.
    """
    if len(authorization) != 1:
        return MALFORMED if authorization else NO_KEY
    parts = authorization[0].split(None, 2)
    if parts and parts[0].lower() == SCHEME:
        del parts[0]
    if not parts:
        return NO_KEY
    return parts[0] if len(parts) == 1 and len(parts[0]) <= LONGEST_TOKEN else MALFORMED


class Gate:
    """Decides about requests; everything it needs is given to it."""

    def __init__(
        self,
        keyring: Keyring,
        limiter: Limiter | None,
        *,
        used: Callable[[Credential, float], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Decide by these parts.

        Args:
            keyring: The keys in force.
            limiter: Counts the requests of each key; None lets any number pass.
            used: Takes the first use of a key in each minute, and when it was.
            clock: Returns the seconds since 1970.
        """
        self._keyring = keyring
        self._limiter = limiter
        self._used = used
        self._clock = clock

    async def decide(self, request: Request) -> Answer:
        """Decide about *request*; if the files have changed, by what they say now."""
        keyring = self._keyring
        if not keyring.looked:
            await keyring.follow()
        snapshot = keyring.snapshot
        if snapshot is None:
            return UNAVAILABLE
        now = self._clock()
        credential = self._identify(request, snapshot.clock.wall(now))
        if isinstance(credential, Answer):
            return credential
        headers = credential.headers
        if self._limiter is not None:
            try:
                limit = snapshot.policy.rate_limit
                passes, said = await self._limiter.take(credential.fingerprint, limit)
            except StateError:
                return UNAVAILABLE._replace(reason="no-state", identity=credential.identity)
            if not passes:
                said = [*TOO_MANY.headers, *said]
                return TOO_MANY._replace(headers=said, identity=credential.identity)
            headers = headers + said
        minute = now // MINUTE
        if credential.minute != minute:
            credential.minute = minute
            self._used(credential, now)
        return Answer(200, "accepted", headers, b"", credential.identity)

    def _identify(self, request: Request, wall: float) -> Credential | Answer:
        """Return whose key may do this, but for the limits; or else the refusal."""
        token = token_in(request.authorization)
        if isinstance(token, Answer):
            return token
        credential = self._keyring.find(token)
        if credential is None:
            return self._unknown(token)
        if credential.expires <= wall:
            return INVALID._replace(reason="expired", identity=credential.identity)
        if credential.permissions is not None and (reason := _forbidden(credential, request)):
            return FORBIDDEN._replace(reason=reason, identity=credential.identity)
        return credential

    def _unknown(self, token: bytes) -> Answer:
        """Return the answer for a token that is no key, with the reason for the log."""
        identity = self._keyring.removed(token)
        if identity is not None:
            return INVALID._replace(reason="removed", identity=identity)
        if is_intact(token.decode("latin-1")) is False:
            return INVALID._replace(reason="mistyped")
        return INVALID


def _forbidden(credential: Credential, request: Request) -> str | None:
    """Return why no role of the key permits the request; None if one does."""
    if request.target is None:
        return "no-path"
    try:
        path = normalise(request.target)
    except InvalidArgumentError:
        return "suspicious-path"
    return None if credential.permits(request.method, path) else "not-permitted"
