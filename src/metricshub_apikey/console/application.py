"""The console as an ASGI application: what is checked first, then the page or the API."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address

from metricshub_apikey.errors import ApiKeyError
from metricshub_apikey.http.asgi import Receive, Scope, Send
from metricshub_apikey.keys.expiry import Moment
from metricshub_apikey.keystore.server_zone import server_zone
from metricshub_apikey.policy.location import in_force
from metricshub_apikey.registry.api_keys import utc_now

from . import guard, queries
from .answers import Answer, Request, refuse
from .api import Api, Route, find_route
from .guard import Place
from .known import Files, Shelf
from .operations import Operations
from .page import Page
from .problems import Problem
from .sessions import Sessions
from .signing import How, Signing
from .worker import Worker

HEALTH = b"/healthz"
BUG = Problem(500, "bug", "This is a bug in apikey: please report it. Its log says more.")


@dataclass(frozen=True)
class Settings:
    """
    What the console works on, and for whom.

    Attributes:
        files: The keystore and its policy.
        place: Where browsers find it.
        how: How people sign in.
        page: Whether there is a page, or only the API.
        actor: Who has started it.
        timezone: The server's zone that was named; None for the policy's, or the one found.
    """

    files: Files
    place: Place
    how: How
    page: bool
    actor: str
    timezone: str | None = None


class Console:
    """Answers browsers and programs."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], datetime] = utc_now,
        seconds: Callable[[], float] = time.monotonic,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """
        Work by *settings*; nothing is read yet.

        Args:
            settings: What for.
            clock: Returns the current instant, with a zone.
            seconds: Returns seconds that only grow.
            random_bytes: Returns that many random bytes, fit for secrets.
        """
        self._place = settings.place
        moment = _moments(settings, clock)
        shelf = Shelf(settings.files, with_users=settings.how == "users")
        self.sessions = Sessions(seconds, random_bytes)
        self._signing = Signing(
            shelf, self.sessions, settings.how, actor=settings.actor, moment=moment, seconds=seconds
        )
        self._worker = Worker()
        self._api = Api(
            Operations(settings.files, moment),
            self._signing,
            clock=clock,
            seconds=seconds,
            worker=self._worker,
        )
        self._page = Page() if settings.page else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or take part in the server's start and end."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        if scope["type"] != "http":
            return
        try:
            answer = await self._answer(scope, receive)
        except Problem as problem:
            answer = refuse(problem)
        except ApiKeyError as error:
            answer = refuse(Problem.of(error))
        except Exception:
            await _send(send, refuse(BUG))
            raise
        await _send(send, answer)

    async def reload(self) -> None:
        """Do nothing: files are read again whenever they change."""

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path: bytes = scope["raw_path"]
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        said = guard.single(scope["headers"])
        guard.check_origin(self._place, path, said)
        has_body = guard.check_body(method, said)
        if not guard.in_api(path) and path != HEALTH:
            if self._page is None:
                raise Problem(404, "no-such-path", "There is no page here, only the API.")
            return self._page.answer(method, path, said)
        route, alias = find_route(path, method)
        body = await _body(receive) if has_body else b""
        request = Request(
            method,
            path,
            alias,
            queries.parse(scope["query_string"]),
            said,
            body,
            None,
            "",
            self._address(scope, said),
        )
        return await self._answer_api(request, route)

    async def _answer_api(self, request: Request, route: Route) -> Answer:
        if route.verb is None:
            return await self._api.answer(request, route)
        authorization = request.header(b"authorization")
        background = b"x-apikey-background" in request.said
        signing = self._signing
        caller = signing.caller(
            authorization, await self._api.known(), request.address, background=background
        )
        token = authorization.partition(" ")[2].strip() if authorization else ""
        answer = await self._api.answer(request._replace(caller=caller, token=token), route)
        if caller.seconds is None:
            return answer
        left = (b"x-apikey-session", b"%d" % caller.seconds)
        return answer._replace(headers=(*answer.headers, left))

    def _address(self, scope: Scope, said: Mapping[bytes, bytes]) -> str:
        """Return the client's address; behind a proxy on this machine, the one that it says."""
        client = scope["client"]
        peer: str = client[0] if client else ""
        forwarded = said.get(b"x-forwarded-for", b"").decode("latin-1").rpartition(",")[2].strip()
        if self._place.public is None or not forwarded or not _is_loopback(peer):
            return peer
        return forwarded[:64]

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._signing.stop()
        self._worker.stop()
        await send({"type": "lifespan.shutdown.complete"})


def _is_loopback(peer: str) -> bool:
    try:
        return ip_address(peer).is_loopback
    except ValueError:  # a Unix socket
        return True


async def _body(receive: Receive) -> bytes:
    """Read a body up to the limit; raises Problem 413 or 400."""
    parts = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Problem(400, "incomplete", "The request ended early.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > guard.LARGEST_BODY:
            raise guard.too_large()
        if not message.get("more_body"):
            return b"".join(parts)


async def _send(send: Send, answer: Answer) -> None:
    length = () if answer.status in (204, 304) else ((b"content-length", b"%d" % len(answer.body)),)
    headers = [*guard.SECURITY_HEADERS, *answer.headers, *length]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def _moments(settings: Settings, clock: Callable[[], datetime]) -> Callable[[], Moment]:
    """Return what tells the time as the server sees it: its zone is found once."""
    files = settings.files
    zone = server_zone(
        files.keystore,
        option=settings.timezone,
        policy=lambda: in_force(files.policy, files.keystore, {}).timezone,
    )
    return lambda: Moment(clock(), zone)
