"""
The gateway as a reverse proxy: what may pass goes to one service, and its answer comes back.

It is an ASGI application that stands behind `ApiKeyMiddleware`, so decisions are made there.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass

import aiohttp
from yarl import URL

from metricshub_apikey.errors import InvalidArgumentError, ServeError
from metricshub_apikey.http.asgi import Header, Receive, Scope, Send

from .decision import LATE, NO_UPGRADE, UNREACHABLE, Answer

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 3_600.0
"""As long as an event stream may be silent."""

IDLE_SECONDS = 15.0
"""Less than servers keep an idle connection: it is ours to close."""

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"expect",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""What belongs to one connection (RFC 9110, section 7.6.1), and Expect, which we answer."""

BENT = frozenset(
    {
        b"forwarded",
        b"true-client-ip",
        b"x-client-ip",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"x-original-host",
        b"x-original-method",
        b"x-original-uri",
        b"x-original-url",
        b"x-real-ip",
        b"x-rewrite-url",
    }
)
"""With what clients say where they come from, or what a service should rather do."""

WITHHELD = (
    "The service answered 401, and it was not given the key: if it wants to see it, as MetricsHub "
    "does, use --pass-authorization."
)


@dataclass(frozen=True)
class Upstream:
    """
    The service behind the gateway.

    Attributes:
        url: Scheme, host and port.
        insecure: Do not check its certificate.
        ca: A file with the certificate to trust; None for those that the system trusts.
        pass_authorization: Whether it is given the key.
    """

    url: str
    insecure: bool = False
    ca: str | None = None
    pass_authorization: bool = False

    def check(self) -> None:
        """Refuse what cannot be the address of a service; raises InvalidArgumentError."""
        try:
            url = URL(self.url)
            is_origin = url.scheme in ("http", "https") and bool(url.host) and url.port is not None
        except ValueError:
            is_origin = False
        if not is_origin or url != url.origin():
            raise InvalidArgumentError(
                f"--upstream: '{self.url}' is not http://HOST:PORT or https://HOST:PORT."
            )
        if self.insecure and self.ca is not None:
            raise InvalidArgumentError("--upstream-insecure and --upstream-ca exclude each other.")

    def context(self) -> ssl.SSLContext:
        """Return how its certificate is checked; raises ServeError if the file cannot be read."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise ServeError(f"The certificate {self.ca} cannot be used: {error}.") from error
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class _Gone(Exception):  # noqa: N818 - not an error
    """The client has closed its connection."""


class ReverseProxy:
    """Passes requests on to a service, and its answers back, both as they come."""

    def __init__(self, upstream: Upstream, say: Callable[[str], None]) -> None:
        """
        Pass on to *upstream*; nothing is opened yet.

        Args:
            upstream: Checked.
            say: Takes what the log should say, a sentence.
        """
        self._upstream = upstream
        self._context = upstream.context()
        self._say = say
        self._said: set[str] = set()
        self._open: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections to the service."""
        if self._open is not None:
            await self._open.close()
            self._open = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on; a client that goes away ends it."""
        if scope["type"] != "http":
            return
        if any(n == b"upgrade" and b"websocket" in v.lower() for n, v in scope["headers"]):
            await _answer(send, NO_UPGRADE)
            return
        body = _Body(receive)
        if not _has_body(scope):
            body.skip()
        passing = asyncio.current_task()
        watching = asyncio.ensure_future(body.end_when_gone(passing))
        try:
            await self._pass_on(scope, body, send)
        except asyncio.CancelledError:
            if passing is None or not body.is_gone:
                raise
            passing.uncancel()
        finally:
            watching.cancel()

    async def _pass_on(self, scope: Scope, body: _Body, send: Send) -> None:
        try:
            async with self._session().request(
                scope["method"],
                self._url(scope),
                headers=self._headers(scope),
                data=body.parts() if _has_body(scope) else None,
                allow_redirects=False,
            ) as answer:
                try:
                    await self._pass_back(answer, send)
                except asyncio.CancelledError:
                    _abort(answer)
                    raise
        except _Gone:
            return
        except TimeoutError:
            self._say_once(f"The service at {self._upstream.url} does not answer in time.")
            await _answer(send, LATE)
        except aiohttp.ClientError as error:
            self._say_once(self._failure(error))
            await _answer(send, UNREACHABLE)

    async def _pass_back(self, answer: aiohttp.ClientResponse, send: Send) -> None:
        if answer.status == 401 and not self._upstream.pass_authorization:
            self._say_once(WITHHELD)
        headers = [
            (name, value)
            for name, value in _end_to_end(answer.raw_headers)
            if b"ratelimit" not in name and (answer.status != 304 or name != b"content-length")
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        try:
            async for part in answer.content.iter_any():
                await send({"type": "http.response.body", "body": part, "more_body": True})
        except (aiohttp.ClientError, TimeoutError) as error:
            # The client sees from the broken connection that something is missing.
            self._say_once(f"An answer of {self._upstream.url} broke off: {_words(error)}.")
            return
        await send({"type": "http.response.body"})

    def _session(self) -> aiohttp.ClientSession:
        if self._open is None:
            self._open = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, ssl=self._context, keepalive_timeout=IDLE_SECONDS
                ),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
                ),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            )
        return self._open

    def _url(self, scope: Scope) -> URL:
        """Return the address with the path and query as they were decided about."""
        query: bytes = scope["query_string"]
        target: bytes = scope["raw_path"] + (b"?" + query if query else b"")
        return URL(self._upstream.url.rstrip("/") + target.decode("latin-1"), encoded=True)

    def _headers(self, scope: Scope) -> list[tuple[str, str]]:
        """Return the headers for the service: nothing that only the client says of itself."""
        kept = []
        for name, value in _end_to_end(scope["headers"]):
            bent = name in BENT or name.startswith(b"x-forwarded") or b"_" in name
            withheld = name == b"authorization" and not self._upstream.pass_authorization
            if not (bent or withheld):
                kept.append((name.decode("latin-1"), value.decode("latin-1")))
        client = scope["client"]
        if client is not None:
            kept.append(("x-forwarded-for", client[0]))
        kept.append(("x-forwarded-proto", scope["scheme"]))
        return kept + [("x-forwarded-host", value) for name, value in kept if name == "host"]

    def _failure(self, error: aiohttp.ClientError) -> str:
        place = self._upstream.url
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return (
                f"The certificate of {place} is not trusted ({_words(error.certificate_error)}): "
                "name it with --upstream-ca, or use --upstream-insecure."
            )
        return f"The service at {place} cannot be reached: {_words(error)}."

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._say(sentence)


class _Body:
    """The body of one request, and the news that its client has gone."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.is_gone = False
        self._is_read = asyncio.Event()

    async def parts(self) -> AsyncIterator[bytes]:
        """Return the body as it comes."""
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                raise _Gone
            if part := message.get("body", b""):
                yield part
            if not message.get("more_body", False):
                self._is_read.set()
                return

    async def end_when_gone(self, task: asyncio.Task[object] | None) -> None:
        """Cancel *task* when the client has closed its connection after its request."""
        await self._is_read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        if task is not None:
            task.cancel()

    def skip(self) -> None:
        """Note that there is no body."""
        self._is_read.set()


def _abort(answer: aiohttp.ClientResponse) -> None:
    """End an answer at once: a TLS connection that is closed waits for the other side to agree."""
    if answer.connection is not None and answer.connection.transport is not None:
        answer.connection.transport.abort()


def _has_body(scope: Scope) -> bool:
    names = {name for name, _ in scope["headers"]}
    return b"transfer-encoding" in names or b"content-length" in names


def _end_to_end(headers: Iterable[Header]) -> list[Header]:
    """Return the headers that do not belong to one connection, names in lower case."""
    lowered = [(name.lower(), value) for name, value in headers]
    named = b",".join(value for name, value in lowered if name == b"connection").lower()
    ours = {one.strip() for one in named.split(b",")} - {b"host", b"content-length"}
    return [
        (name, value)
        for name, value in lowered
        if name not in HOP_BY_HOP and (name not in ours or name.startswith(b"x-apikey-"))
    ]


def _words(error: BaseException) -> str:
    return str(error).rstrip(".") or type(error).__name__


async def _answer(send: Send, answer: Answer) -> None:
    with contextlib.suppress(RuntimeError):  # an answer has begun
        await send(
            {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
        )
        await send({"type": "http.response.body", "body": answer.body})
