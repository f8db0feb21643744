"""
Whether a request may pass: 200, 400, 401, 403, 404, 429 or 503, and what is said with it.

Every key that is not accepted gets the same words: the reason is for the log only.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.http.asgi import Header
from metricshub_apikey.keys.prefixed import is_intact
from metricshub_apikey.policy import acceptance
from metricshub_apikey.policy.access import WRONG_TOOL, client_address, refusal
from metricshub_apikey.policy.permission import normalise
from metricshub_apikey.policy.rules import RateLimit

from .credential import Credential, Identity
from .keyring import Keyring, Snapshot
from .mcp import UNSEEN, Message, error

if TYPE_CHECKING:
    from metricshub_apikey.policy.access import IpAddress, IpNetwork

CHALLENGE = b'Bearer realm="apikey"'


class Request(NamedTuple):
    """
    What is asked for.

    Attributes:
        method: As in the request line.
        target: The path as it was sent, with or without a query; None where the question lacks it.
        authorization: The values of all Authorization headers.
        source: Where it comes from, as in X-Forwarded-For; empty where that is not known.
        message: Of MCP, what its body says; None as long as it was not read.
    """

    method: str
    target: str | None
    authorization: list[bytes]
    source: str = ""
    message: Message | None = None


class Answer(NamedTuple):
    """
    What is answered.

    Attributes:
        status: 200 lets the request pass.
        reason: Why, for log and metrics: a stable name.
        headers: To send with it.
        body: A problem document (RFC 9457), or nothing.
        identity: Whose key it was, where that is known.
        may_call: Which MCP tools the key may call there; None where it is all of them.
    """

    status: int
    reason: str
    headers: list[Header]
    body: bytes = b""
    identity: Identity | None = None
    may_call: Callable[[str], bool] | None = None


class StateError(Exception):
    """The server that counts requests does not answer, and the gateway may not count alone."""


class Limiter(Protocol):
    """Where accepted requests are counted: in memory, or on a server."""

    async def take(self, fingerprint: str, limit: RateLimit) -> tuple[bool, list[Header]]:
        """
        Count a request of a key if the limits allow it.

        Returns:
            Whether they do, and the headers that tell the client.

        Raises:
            StateError: The server that counts does not answer.
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
NO_UPGRADE = _refusal(
    501, "no-upgrade", "Not Implemented", "WebSockets do not pass through the gateway."
)
UNREACHABLE = _refusal(
    502, "unreachable", "Bad Gateway", "The service behind the gateway cannot be reached."
)
LATE = _refusal(
    504, "late", "Gateway Timeout", "The service behind the gateway does not answer in time."
)
UNAVAILABLE = _refusal(503, "no-keystore", "Service Unavailable", "API keys cannot be checked now.")


def _no_oauth() -> Answer:
    """Return the answer to a client that looks for OAuth, in the words of RFC 6749, section 5.2."""
    sentence = "This server has no OAuth: send an API key as 'Authorization: Bearer <key>'."
    answer = _refusal(404, "no-oauth", "Not Found", sentence)
    said = {**json.loads(answer.body), "error": "not_found", "error_description": sentence}
    body = json.dumps(said).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    return answer._replace(headers=headers, body=body)


NO_OAUTH = _no_oauth()
PUBLIC = Answer(200, "public", [(b"content-length", b"0")])
UNREAD = Answer(0, "mcp-unread", [])
"""No answer yet: decide again with the message of MCP that the request carries."""

DISCOVERY = re.compile(
    r"(?:/[^?]*)?/\.well-known/(?:oauth-|openid-configuration)|/register(?:\?|\Z)"
)
"""Where a client looks for OAuth; a 401 there would send it on to look elsewhere."""


def token_in(authorization: list[bytes]) -> bytes | Answer:
    """Return the token in the Authorization headers, or the answer where there is none."""
    if len(authorization) != 1:
        return MALFORMED if authorization else NO_KEY
    token = acceptance.token_in(authorization[0])
    if token is None:
        return MALFORMED
    return token or NO_KEY


class Gate:
    """Decides about requests; everything it needs is given to it."""

    def __init__(
        self,
        keyring: Keyring,
        limiter: Limiter | None,
        *,
        used: Callable[[Credential, float], None],
        trusted: Sequence[IpNetwork] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Decide by these parts.

        Args:
            keyring: The keys in force.
            limiter: Counts the requests of each key; None lets any number pass.
            used: Takes each accepted use of a key, and when it was.
            trusted: The networks of the proxies, whose addresses are not their clients'.
            clock: Returns the seconds since 1970.
        """
        self._keyring = keyring
        self._limiter = limiter
        self._used = used
        self._trusted = trusted
        self._clock = clock

    async def decide(self, request: Request) -> Answer:
        """
        Decide about *request*; if the files have changed, by what they say now.

        Returns:
            `UNREAD` where it depends on the message that the request carries.
        """
        keyring = self._keyring
        if not keyring.looked:
            await keyring.follow()
        snapshot = keyring.snapshot
        if snapshot is None:
            return PUBLIC if self._is_public(request.method, request.target) else UNAVAILABLE
        now = self._clock()
        credential = self._identify(request, snapshot.clock.wall(now), snapshot)
        if isinstance(credential, Answer):
            return credential
        headers = credential.headers
        if self._limiter is not None:
            try:
                passes, said = await self._limiter.take(credential.fingerprint, credential.limit)
            except StateError:
                return UNAVAILABLE._replace(reason="no-state", identity=credential.identity)
            if not passes:
                said = [*TOO_MANY.headers, *said]
                return TOO_MANY._replace(headers=said, identity=credential.identity)
            headers = headers + said
        self._used(credential, now)
        if request.message is not None:
            may_call = self._tools(credential, request)
            return Answer(200, "accepted", headers, b"", credential.identity, may_call)
        return Answer(200, "accepted", headers, b"", credential.identity)

    def is_mcp(self, target: str | None) -> bool:
        """Return whether a path, with or without a query, belongs to MCP."""
        snapshot = self._keyring.snapshot
        return target is not None and snapshot is not None and snapshot.is_mcp(target)

    def is_stream(self, target: str | None) -> bool:
        """Return whether a path of MCP only sends events, and takes no messages."""
        snapshot = self._keyring.snapshot
        return snapshot is not None and not snapshot.policy.mcp.messages.covers(target or "")

    def answers_others(self, target: str | None) -> bool:
        """Return whether pages of other origins may read what is refused: OPTIONS is public."""
        return self._is_public("OPTIONS", target)

    def _is_public(self, method: str, target: str | None) -> bool:
        snapshot = self._keyring.snapshot
        policy = self._keyring.before if snapshot is None else snapshot.policy
        try:
            return bool(policy.public) and policy.is_public(method, normalise(target or ""))
        except InvalidArgumentError:
            return False

    def _identify(self, request: Request, wall: float, snapshot: Snapshot) -> Credential | Answer:
        """Return whose key may do this, but for the limits; or else the answer."""
        if snapshot.policy.public and self._is_public(request.method, request.target):
            return PUBLIC
        credential = self._find(request, wall)
        if not isinstance(credential, Answer):
            return self._unfit(request, credential, snapshot) or credential
        if DISCOVERY.match(request.target or ""):
            return NO_OAUTH._replace(reason=credential.reason, identity=credential.identity)
        return credential

    def _find(self, request: Request, wall: float) -> Credential | Answer:
        """Return whose key it is, or the refusal of one that is not valid."""
        token = token_in(request.authorization)
        if isinstance(token, Answer):
            return token
        credential = self._keyring.find(token)
        if credential is None:
            return self._unknown(token)
        reason = acceptance.refusal(
            suspended=credential.suspended, ends=credential.expires, wall=wall
        )
        if reason is not None:
            return INVALID._replace(reason=reason, identity=credential.identity)
        return credential

    def _unfit(self, request: Request, credential: Credential, snapshot: Snapshot) -> Answer | None:
        """Return why a key may not do this, or that a message must be read first; else None."""
        path = request.target
        if credential.roles is not None:
            try:
                path = None if path is None else normalise(path)
            except InvalidArgumentError:
                return FORBIDDEN._replace(reason="suspicious-path", identity=credential.identity)
            reason = "no-path" if path is None else self._forbidden(credential, request, path)
            if reason is not None:
                return _forbidden(reason, credential, request)
        if path is not None and snapshot.may_be_mcp(path) and snapshot.is_mcp(path):
            return _unfit(request.message, credential)
        return None

    def _forbidden(self, credential: Credential, request: Request, path: str) -> str | None:
        """Return why no role of the key permits the request; None if one does."""
        message = request.message
        return refusal(
            credential.roles or (),
            request.method,
            path,
            tool=None if message is None else message.tool,
            unseen=message is UNSEEN,
            address=self._address(request) if credential.networked else None,
        )

    def _address(self, request: Request) -> IpAddress | None:
        return client_address(request.source, self._trusted)

    def _tools(self, credential: Credential, request: Request) -> Callable[[str], bool] | None:
        """Return which tools the roles that permit the request may call; None for all of them."""
        if credential.roles is None:
            return None
        path = normalise(request.target or "")
        method, address = request.method, self._address(request)
        fitting = [
            role
            for role in credential.roles
            if refusal([role], method, path, address=address) is None
        ]
        if any(role.every_tool for role in fitting):
            return None
        return lambda tool: any(role.may_call(tool) for role in fitting)

    def _unknown(self, token: bytes) -> Answer:
        """Return the answer for a token that is no key, with the reason for the log."""
        identity = self._keyring.removed(token)
        if identity is not None:
            return INVALID._replace(reason="removed", identity=identity)
        if is_intact(token.decode("latin-1")) is False:
            return INVALID._replace(reason="mistyped")
        return INVALID


def _forbidden(reason: str, credential: Credential, request: Request) -> Answer:
    """Return the refusal of a request that no role of the key permits."""
    identity, message = credential.identity, request.message
    if reason == WRONG_TOOL and message is not None:
        detail = f"The API key '{identity.alias}' may not call the tool '{message.tool}'."
    elif message is UNSEEN and message.fault is not None and reason == message.fault.reason:
        detail = message.fault.sentence
    else:
        return FORBIDDEN._replace(reason=reason, identity=identity)
    return _refusal(403, reason, "Forbidden", detail)._replace(identity=identity)


def _unfit(message: Message | None, credential: Credential) -> Answer | None:
    """Return why a message of MCP passes for no key, or that it must be read; None if it passes."""
    if message is None:
        return UNREAD
    fault = message.fault
    if fault is None or message is UNSEEN:  # which the tools of the role have decided
        return None
    unfit = _refusal(400, fault.reason, "Bad Request", fault.sentence)
    return unfit._replace(identity=credential.identity)


def as_message(answer: Answer, message: Message) -> Answer:
    """
    Return a refusal as an error of JSON-RPC, which MCP clients show to the person before them.

    Args:
        answer: The refusal, a problem document.
        message: Of the request, for its id.
    """
    code = message.fault.code if answer.status == 400 and message.fault else answer.status
    body = error(message.id, code, json.loads(answer.body)["detail"])
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *(pair for pair in without_scope(answer).headers if not pair[0].startswith(b"content-")),
    ]
    return answer._replace(headers=headers, body=body)


def without_scope(answer: Answer) -> Answer:
    """Return a refusal of which no MCP client concludes that OAuth would help."""
    if answer.status != 403:
        return answer
    headers = [pair for pair in answer.headers if pair[0] != b"www-authenticate"]
    return answer._replace(headers=headers)


def for_origin(answer: Answer, origin: bytes) -> Answer:
    """Return a refusal that a page of another origin may read."""
    said = [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]
    return answer._replace(headers=[*answer.headers, *said])
