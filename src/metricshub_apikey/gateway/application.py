"""
The gateway as an ASGI application: `/auth` and `/envoy/` for proxies, `/healthz`, `/metrics`.

It is plain ASGI: a web framework would take more time than the decision.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address

from metricshub_apikey.http.asgi import Header, Receive, Scope, Send
from metricshub_apikey.http.listener import Network

from .decision import UNREAD, Answer, Request, as_message, for_origin, without_scope
from .mcp import TOO_LARGE, UNSEEN, WITHOUT_BODY, read
from .mcp import Message as McpMessage
from .relay import read_body
from .service import Service

AUTH = b"/auth"
UNDER_AUTH = b"/auth/"
ENVOY = b"/envoy"
UNDER_ENVOY = b"/envoy/"

ASKED_BELOW = (
    "A proxy asks below /auth/, which is not a question: write /auth for nginx, Caddy and Traefik, "
    "path_prefix: /envoy for Envoy."
)
ASKED_TWICE = (
    "A proxy asks below /envoy and sends X-Forwarded-Method or X-Forwarded-Uri: write /auth for "
    "nginx, Caddy and Traefik; let Envoy not send these headers."
)
"""What the log says of a question that could be understood in two ways."""

AUTHORIZATION = b"authorization"
METHOD = b"x-forwarded-method"
URI = b"x-forwarded-uri"
FORWARDED = b"x-forwarded-for"
PARTIAL = b"x-envoy-auth-partial-body"
PROXY = b"x-apikey-proxy"
NGINX = b"nginx"
NGINX_KNOWS = (200, 401, 403)
"""What `auth_request` passes on; of anything else it makes 500."""

MOST_PEERS = 10_000


class Gateway:
    """Answers proxies that ask whether a request may pass."""

    def __init__(self, service: Service, trusted: Sequence[Network]) -> None:
        """
        Answer by *service*.

        Args:
            service: Decides; it is started and stopped with the server.
            trusted: The networks whose proxies may ask; those on a Unix socket always may.
        """
        self._service = service
        self._gate = service.gate
        self._decide = service.decide
        self._trusted = trusted
        self._peers: dict[str, bool] = {}
        self._mistakes: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or take part in the server's start and end."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await live(self._service, receive, send)
            return
        target: bytes = scope["raw_path"]
        if target != AUTH and not target.startswith((UNDER_ENVOY, UNDER_AUTH)):
            await self._tell(target, send)
            return
        client = scope["client"]
        if client is not None and not (self._peers.get(client[0]) or self._trusts(client[0])):
            await _say(send, 403, "Only proxies named by --trusted-proxies may ask.")
            return
        if target != AUTH and (mistake := _mistake(scope, target)):
            await self._refuse_question(mistake, send)
            return
        request, proxy = _request(scope, target)
        answer = await self._decide(request)
        if answer.status != 200:
            request, answer = await self._refusal(scope, receive, request, answer)
        status, headers = answer.status, answer.headers
        if proxy == NGINX and status not in NGINX_KNOWS:
            headers = [*headers, (b"x-apikey-status", b"%d" % status)]
            status = 403
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _refusal(
        self, scope: Scope, receive: Receive, request: Request, answer: Answer
    ) -> tuple[Request, Answer]:
        """Return the answer to a request that does not pass at once; MCP may pass by its body."""
        headers = dict(scope["headers"])
        if answer is UNREAD or self._gate.is_mcp(request.target):
            message = await self._message(scope, receive, request)
            request = request._replace(message=message)
            if answer is UNREAD:
                answer = await self._decide(request)
            if answer.status == 200:
                return request, answer
            is_read = message not in (UNSEEN, McpMessage())
            answer = as_message(answer, message) if is_read else without_scope(answer)
        if (origin := headers.get(b"origin")) and self._gate.answers_others(request.target):
            answer = for_origin(answer, origin)
        return request, answer

    async def _message(self, scope: Scope, receive: Receive, request: Request) -> McpMessage:
        """
        Return what the body of a request to an MCP path says, as far as the question carries it.

        Without a body there must be none: Envoy would show it. The other proxies may keep the body
        of a GET to themselves, which matters where messages are taken, not where events are sent.
        """
        headers: list[Header] = scope["headers"]
        said = dict(headers)
        if said.get(PARTIAL) == b"true":
            return TOO_LARGE
        if int(said.get(b"content-length", b"0")) or b"transfer-encoding" in said:
            body = await read_body(receive)
            return McpMessage() if body is None else read(body, headers, request.method)
        is_shown = scope["raw_path"] != AUTH or self._gate.is_stream(request.target)
        return McpMessage() if is_shown and request.method in WITHOUT_BODY else UNSEEN

    async def _refuse_question(self, mistake: str, send: Send) -> None:
        """Refuse what a proxy has asked, for it is set up wrong; the log says how, once."""
        if mistake not in self._mistakes:
            self._mistakes.add(mistake)
            self._service.log.say(mistake)
        self._service.metrics.decisions["bad-question"] += 1
        await _say(send, 403, "The proxy does not ask as it should; the gateway's log says more.")

    async def _tell(self, target: bytes, send: Send) -> None:
        keyring = self._service.keyring
        if target == b"/metrics":
            await _say(send, 200, self._service.metrics.text())
        elif target != b"/healthz":
            await _say(send, 404, "There are /auth, /envoy/, /healthz and /metrics.")
        elif keyring.snapshot is not None:
            await _say(send, 200, f"Keys in force: {len(keyring.snapshot.credentials)}.")
        else:
            await _say(send, 503, "No keystore could be read yet.")

    def _trusts(self, peer: str) -> bool:
        known = self._peers.get(peer)
        if known is None:
            address = ip_address(peer)
            address = getattr(address, "ipv4_mapped", None) or address
            known = any(address in network for network in self._trusted)
            if len(self._peers) < MOST_PEERS:
                self._peers[peer] = known
        return known


async def live(
    service: Service,
    receive: Receive,
    send: Send,
    close: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Start and stop *service* with the server; at the end *close* what else is open."""
    await receive()
    await service.start()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await service.stop()
    if close is not None:
        await close()
    await send({"type": "lifespan.shutdown.complete"})


def _mistake(scope: Scope, target: bytes) -> str | None:
    """Return what is wrong with a question that is not one at `/auth`; None for one of Envoy's."""
    if target.startswith(UNDER_AUTH):
        return ASKED_BELOW
    said = {name for name, _ in scope["headers"]}
    return ASKED_TWICE if METHOD in said or URI in said else None


def _request(scope: Scope, target: bytes) -> tuple[Request, bytes]:
    """
    Return what a proxy asks about, and which proxy it is, if it says so.

    Envoy asks with the request's own method, and its path below `/envoy`; the others say both in
    headers. If these come twice, one of them is the client's: then the path is unknown, and no
    role permits that.
    """
    headers: list[Header] = scope["headers"]
    said = dict(headers)
    key = said.get(AUTHORIZATION)
    authorization = [] if key is None else [key]
    source = said.get(FORWARDED, b"")
    if len(said) < len(headers):  # one of them comes twice
        authorization = [value for name, value in headers if name == AUTHORIZATION]
        source = b",".join(value for name, value in headers if name == FORWARDED)
        for wanted in (METHOD, URI):
            if sum(name == wanted for name, _ in headers) > 1:
                del said[wanted]
    proxy = said.get(PROXY, b"")
    client = source.decode("latin-1")
    if target != AUTH:
        path = target[len(ENVOY) :].decode("latin-1")
        return Request(scope["method"], path, authorization, client), proxy
    method, uri = said.get(METHOD), said.get(URI)
    if method is None or uri is None:
        return Request("", None, authorization, client), proxy
    asked = Request(method.decode("latin-1"), uri.decode("latin-1"), authorization, client)
    return asked, proxy


async def _say(send: Send, status: int, text: str) -> None:
    body = text.removesuffix("\n").encode() + b"\n"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
