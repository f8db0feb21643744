"""The same decision in front of an ASGI application: Starlette, FastAPI, Django, Quart."""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import quote

from metricshub_apikey.errors import PolicyError
from metricshub_apikey.http.asgi import Application, Header, Message, Receive, Scope, Send
from metricshub_apikey.keystore.location import find_keystore
from metricshub_apikey.keystore.passwords import read_passwords
from metricshub_apikey.policy.access import check_public
from metricshub_apikey.policy.file import load
from metricshub_apikey.policy.location import find_policy, named_policy
from metricshub_apikey.policy.state import Address, find_state, parse

from .decision import UNREAD, Answer, Request, as_message, for_origin, without_scope
from .mcp import UNSEEN
from .mcp import Message as McpMessage
from .mcp import read as read_message
from .relay import Exchange, Relay, Streams, read_body, replayed
from .service import Service, Settings, StateFailure

OURS = b"x-apikey-"
UNESCAPED = "/!$&'()*+,;=:@"
"""What clients leave as it is in a path, besides letters and digits."""

POLICY_VIOLATION = 1008


class ApiKeyMiddleware:
    """
    Lets only requests with a valid API key through to an application.

    It finds in `scope["apikey"]` whose key it is: `alias`, `principal` and `roles`; and the same
    in the headers `X-Apikey-...`, of which none comes from a client.
    """

    def __init__(  # noqa: PLR0913 - all by name
        self,
        app: Application,
        keystore: str | None = None,
        *,
        password_file: str | None = None,
        policy: str | None = None,
        state: str | None = None,
        state_failure: StateFailure = "local",
        limits: bool = True,
        public: Sequence[str] = (),
    ) -> None:
        """
        Protect *app*.

        Args:
            app: Any ASGI application.
            keystore: The keystore's path; None for the one that `apikey path` shows.
            password_file: Has the keystore's own password in its first line.
            policy: The policy file's path; None for the usual places.
            state: `redis://...` where several processes count requests together; None for what
                the environment or the policy says.
            state_failure: Who decides where that server does not answer: `local` counts here,
                `closed` refuses.
            limits: Whether requests are counted at all.
            public: What needs no key, as rules: `GET /docs`, `* /static/**`; the policy's
                `[gateway] public` adds to it. On MCP paths it covers OPTIONS only.

        Raises:
            InvalidArgumentError: One of the texts is not a rule.
            PasswordError: The password cannot be read.
        """
        for rule in public:
            check_public(rule)
        warnings: list[str] = []
        location = find_keystore(keystore, environ=os.environ, launcher="")
        settings = Settings(
            keystore=location.path,
            passwords=read_passwords(password_file, warnings.append),
            policy=named_policy(policy, os.environ),
            state=parse(state) if state else _usual_state(policy, location.path),
            state_failure=state_failure,
            limits=limits,
            public=tuple(public),
        )
        self._begin(app, Service(settings))
        for warning in warnings:
            self._service.log.say(warning)

    @classmethod
    def around(cls, app: Application, service: Service) -> ApiKeyMiddleware:
        """Protect *app* by a service that something else starts and stops."""
        made = cls.__new__(cls)
        made._begin(app, service)  # noqa: SLF001 - its own
        return made

    def _begin(self, app: Application, service: Service) -> None:
        self._app = app
        self._service = service
        self._gate = service.gate
        self._streams = Streams(service.gate.is_mcp, service.log.say)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Decide, then answer or let the application do it."""
        if scope["type"] == "lifespan":
            await self._app(scope, self._following(receive), send)
            return
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = [pair for pair in scope["headers"] if not _is_ours(pair[0])]
        authorization = [value for name, value in headers if name == b"authorization"]
        client = scope.get("client")
        request = Request(
            scope.get("method", "GET"),
            _target(scope),
            authorization,
            client[0] if client else "",
        )
        answer = await self._service.decide(request)
        outer = {**scope, "headers": headers}
        if answer is UNREAD or (answer.status != 200 and self._gate.is_mcp(request.target)):
            await self._converse(outer, receive, send, request, answer)
        elif answer.status != 200:
            await self._refuse(outer, receive, send, request, answer)
        else:
            await self._pass(outer, receive, send, answer)

    async def _pass(self, scope: Scope, receive: Receive, send: Send, answer: Answer) -> None:
        """Let the application answer."""
        identity = answer.identity
        if identity is not None:
            send = _telling(send, answer.headers)
            scope["headers"] += identity.headers
            scope["apikey"] = identity._asdict()
        await self._app(scope, receive, send)

    async def _converse(
        self, scope: Scope, receive: Receive, send: Send, request: Request, answer: Answer
    ) -> None:
        """Decide about a request of MCP by its body; answer, or let the application do it."""
        message, body = UNSEEN, b""
        if scope["type"] == "http":
            if (read := await read_body(receive)) is None:
                return
            body = read
            message = read_message(body, scope["headers"], request.method)
            receive = replayed(body, receive)
        request = request._replace(message=message)
        if answer is UNREAD:
            answer = await self._service.decide(request)
        if answer.status != 200:
            await self._refuse_message(scope, receive, send, request, answer)
            return
        alias = "" if answer.identity is None else answer.identity.alias
        target = _with_query(scope, request)
        relay = Relay(send, Exchange(target, alias, message, answer.may_call), self._streams)
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
        scope["extensions"] = {}
        try:
            await self._pass(scope, receive, relay, answer)
        finally:
            relay.close()

    async def _refuse_message(
        self, scope: Scope, receive: Receive, send: Send, request: Request, answer: Answer
    ) -> None:
        """Refuse a request of MCP where its client looks for the answer."""
        message, identity = request.message, answer.identity
        if message is None or scope["type"] != "http" or message == McpMessage():
            await self._refuse(scope, receive, send, request, without_scope(answer))
            return
        answer = as_message(answer, message)
        if message.id is not None and identity is not None and answer.status != 401:
            target = _with_query(scope, request)
            if await self._streams.say(target, identity.alias, answer.body):
                accepted = [(b"content-length", b"0")]
                answer = answer._replace(status=202, headers=accepted, body=b"")
        await self._refuse(scope, receive, send, request, answer)

    async def _refuse(
        self, scope: Scope, receive: Receive, send: Send, request: Request, answer: Answer
    ) -> None:
        origin = dict(scope["headers"]).get(b"origin")
        if origin is not None and self._gate.answers_others(request.target):
            answer = for_origin(answer, origin)
        await _refuse(scope, receive, send, answer)

    def _following(self, receive: Receive) -> Receive:
        """Start and stop with the application."""

        async def follow() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._service.start()
            elif message["type"] == "lifespan.shutdown":
                await self._service.stop()
            return message

        return follow


def _usual_state(policy: str | None, keystore: str) -> Address | None:
    """Return where the state is, as it was when the application started."""
    path = find_policy(policy, keystore, os.environ)
    try:
        known = None if path is None else load(path).state
    except PolicyError:  # decisions wait for it, and the log says why
        known = None
    return find_state(None, known, os.environ)


def _is_ours(name: bytes) -> bool:
    """Return whether a header is one of ours, also for frameworks that take `_` for `-`."""
    return b"apikey" in name and name.replace(b"_", b"-").startswith(OURS)


def _target(scope: Scope) -> str:
    raw: bytes | None = scope.get("raw_path")
    return quote(scope["path"], safe=UNESCAPED) if raw is None else raw.decode("latin-1")


def _with_query(scope: Scope, request: Request) -> str:
    query: bytes = scope.get("query_string", b"")
    path = (request.target or "").partition("?")[0]
    return f"{path}?{query.decode('latin-1')}" if query else path


def _telling(send: Send, headers: Sequence[Header]) -> Send:
    """Tell the client of its limits, too."""
    said = [pair for pair in headers if b"ratelimit" in pair[0]]

    async def tell(message: Message) -> None:
        if said and message["type"] in ("http.response.start", "websocket.accept"):
            message = {**message, "headers": [*message.get("headers", ()), *said]}
        await send(message)

    return tell


async def _refuse(scope: Scope, receive: Receive, send: Send, answer: Answer) -> None:
    kind = "http"
    if scope["type"] == "websocket":
        await receive()
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        kind = "websocket.http"
    status = 400 if answer.reason == "malformed" else answer.status
    await send({"type": f"{kind}.response.start", "status": status, "headers": answer.headers})
    await send({"type": f"{kind}.response.body", "body": answer.body})
