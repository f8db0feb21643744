"""The API under /v1: which routes there are, and what each of them does."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from metricshub_apikey.errors import ActivityError, ApiKeyError
from metricshub_apikey.keys.expiry import text, utc_text
from metricshub_apikey.policy import rules
from metricshub_apikey.policy.rules import Policy
from metricshub_apikey.registry.api_keys import DEFAULT_OVERLAP

from . import bodies, queries
from .address import alias_in, segment
from .answers import Answer, Headers, Request, reply
from .callers import Caller
from .known import Known
from .operations import NO_USAGE, Done, Operations, Target, by_alias, etag
from .problems import Problem
from .replay import Replays
from .signing import Signing
from .worker import Worker

Handler = Callable[["Api", Request], Awaitable[Answer]]

ALIAS = "{alias}"
MOST_EVENTS = 10_000


class Route(NamedTuple):
    """
    What one method of one path does.

    Attributes:
        handler: A method of `Api`.
        verb: What the caller must be allowed to do; empty where that is looked at later, None
            where no token is needed.
        replayed: Whether an Idempotency-Key makes it answer again.
    """

    handler: Handler
    verb: str | None
    replayed: bool = False


class Api:
    """The API of one keystore."""

    def __init__(
        self,
        operations: Operations,
        signing: Signing,
        *,
        clock: Callable[[], datetime],
        seconds: Callable[[], float],
        worker: Worker,
    ) -> None:
        """
        Answer with *operations*.

        Args:
            operations: What is done with keys.
            signing: Who is signed in.
            clock: Returns the current instant, with a zone.
            seconds: Returns seconds that only grow.
            worker: Does what may wait for files.
        """
        self._operations = operations
        self._signing = signing
        self._clock = clock
        self._work = worker.do
        self._replays: Replays[Answer] = Replays(seconds)

    async def known(self) -> Known:
        """Return what is known of the files; raises KeystoreError."""
        shelf = self._signing.shelf
        known = shelf.fresh()
        return await self._work(shelf.read) if known is None else known

    async def answer(self, request: Request, route: Route) -> Answer:
        """Answer one request; raises Problem or ApiKeyError."""
        key = request.said.get(b"idempotency-key") if route.replayed else None
        if route.verb:
            request.sender.require(route.verb)
        if key is None:
            return await route.handler(self, request)
        who = request.sender.identity
        same = (request.method.encode(), request.path, request.body)
        before = self._replays.begin(who, key, *same)
        if before is not None:
            await self._still_allowed(request)
            return before._replace(headers=(*before.headers, (b"idempotent-replayed", b"true")))
        try:
            done = await route.handler(self, request)
        except BaseException:
            self._replays.forget(who, key)
            raise
        self._replays.finish(who, key, done)
        return done

    async def _still_allowed(self, request: Request) -> None:
        """Check the caller's rights over what a replay would hand out once more."""
        caller = request.sender
        if caller.key is None:
            return
        known = await self.known()
        if request.alias:
            key = by_alias(known.by_alias, request.alias)
            caller.require_power_over(key, known.rules)
        elif request.path.endswith(b"/keys"):
            caller.require_grant(bodies.texts(bodies.parse_object(request.body), "roles"))
        elif not caller.self_rotate:
            raise Problem(403, "forbidden", "Your key may no longer rotate itself.")

    # Sessions

    async def sign_in(self, request: Request) -> Answer:
        """Swap a ticket, or a user's password, for a session."""
        body = bodies.parse_object(request.body)
        opened = await self._signing.open(body, request.address, self.known)
        ends = self._clock() + timedelta(seconds=opened.seconds)
        return reply(
            {
                "token": opened.token,
                "actor": opened.holder.shown,
                "rights": "rw" if opened.holder.may_change else "ro",
                "expires_at": utc_text(ends),
            },
            201,
        )

    async def sign_out(self, request: Request) -> Answer:
        """End the session."""
        if request.sender.seconds is None:
            raise Problem(409, "no-session", "An API key has no session to end.")
        self._signing.sessions.close(request.token)
        return Answer(204)

    # Keys

    async def list(self, request: Request) -> Answer:
        """List keys; 304 where nothing is different."""
        queries.check(request.query, queries.LIST, queries.REPEATED)
        known = await self.known()
        if queries.changes_with_time(request.query):
            return await self._list_at(request, known)
        tag = _tag(known.version, request.query, request.sender)
        if tag in _tags(request, b"if-none-match"):
            return Answer(304, ((b"etag", tag.encode()),))
        return await self._work(lambda: self._list(request, known, tag))

    async def _list_at(self, request: Request, known: Known) -> Answer:
        """List keys whose filters look at the clock: the ETag covers what they give."""
        answer = await self._work(lambda: self._list(request, known, ""))
        tag = f'"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
        headers = tuple(one for one in answer.headers if one[0] != b"etag")
        tagged = (*headers, (b"etag", tag.encode()))
        if tag in _tags(request, b"if-none-match"):
            return Answer(304, ((b"etag", tag.encode()),))
        return answer._replace(headers=tagged)

    def _list(self, request: Request, known: Known, tag: str) -> Answer:
        operations = self._operations
        notes = _notes(known)
        try:
            usage = operations.usage()
        except ActivityError as error:
            if queries.needs_usage(request.query):
                raise
            usage = NO_USAGE
            notes.append({"code": error.code, "message": error.message})
        page = queries.select(known.keys, request.query, now=operations.now, usage=usage)
        document = {
            "keys": operations.documents(page.keys, usage),
            "keystore": operations.keystore,
            "notes": notes,
        }
        headers: Headers = ((b"etag", tag.encode()),)
        if page.following is not None:
            headers += ((b"link", f'</v1/keys?{page.following}>; rel="next"'.encode()),)
        return reply(document, 200, headers)

    async def create(self, request: Request) -> Answer:
        """Make a key."""
        known, body = await self.known(), bodies.parse_object(request.body)
        done = await self._work(lambda: self._operations.create(request.sender, known, body))
        return _made(done, 201)

    async def show(self, request: Request) -> Answer:
        """Tell of one key."""
        known = await self.known()
        key = by_alias(known.by_alias, request.alias)
        document = await self._work(lambda: self._operations.document_with_usage(key))
        return reply(document, 200, ((b"etag", etag(key).encode()),))

    async def edit(self, request: Request) -> Answer:
        """Change one key; it must still be what the client has seen."""
        target = _target(request)
        if target.etag is None:
            raise Problem(
                428,
                "if-match-missing",
                "A change needs If-Match with the key's ETag.",
                hint="Read the key first; its answer has the ETag.",
            )
        known, body = await self.known(), bodies.parse_object(request.body)
        done = await self._work(lambda: self._operations.edit(request.sender, known, target, body))
        return _made(done, 200)

    async def revoke(self, request: Request) -> Answer:
        """Revoke one key."""
        known, target = await self.known(), _target(request)
        await self._work(lambda: self._operations.revoke(request.sender, known, target))
        return Answer(204)

    async def suspend(self, request: Request) -> Answer:
        """Suspend one key."""
        known, target = await self.known(), _target(request)
        await self._work(lambda: self._operations.suspend(request.sender, known, target))
        return Answer(204)

    async def resume(self, request: Request) -> Answer:
        """Resume one key."""
        known, target = await self.known(), _target(request)
        await self._work(lambda: self._operations.resume(request.sender, known, target))
        return Answer(204)

    async def rotate(self, request: Request) -> Answer:
        """Rotate one key."""
        known, target, overlap = await self.known(), _target(request), _overlap(request)
        done = await self._work(
            lambda: self._operations.rotate(request.sender, known, target, overlap)
        )
        return _made(done, 201)

    async def finish(self, request: Request) -> Answer:
        """End the overlap of a rotation."""
        queries.check(request.query, ("force",))
        force = queries.flag(request.query, "force")
        known, target = await self.known(), _target(request)
        await self._work(
            lambda: self._operations.finish(request.sender, known, target, force=force)
        )
        return Answer(204)

    async def rotate_self(self, request: Request) -> Answer:
        """Give the caller's own key a successor."""
        known, overlap = await self.known(), _overlap(request)
        done = await self._work(
            lambda: self._operations.rotate_self(request.sender, known, overlap)
        )
        return _made(done, 201)

    # What is known besides

    async def verify(self, request: Request) -> Answer:
        """Tell whose key it is."""
        known, body = await self.known(), bodies.parse_object(request.body)
        return reply(await self._work(lambda: self._operations.verify(known, body)))

    async def events(self, request: Request) -> Answer:
        """Tell who did what."""
        query = request.query
        queries.check(query, ("alias", "since", "limit"))
        alias = queries.one(query, "alias")
        since = queries.since(query, "since", self._clock())
        limit = queries.number(query, "limit", MOST_EVENTS) or MOST_EVENTS
        found = await self._work(lambda: self._operations.events(alias, since, limit))
        return reply({"database": self._operations.activity.path, "events": found})

    async def usage(self, request: Request) -> Answer:
        """Tell when keys were used."""
        queries.check(request.query, ())
        known = await self.known()
        return reply(await self._work(lambda: self._operations.usage_document(known)))

    async def policy(self, request: Request) -> Answer:
        """Tell the rules in force."""
        queries.check(request.query, ())
        policy = (await self.known()).rules
        now = self._clock()
        return reply(
            {
                **rules.document(policy),
                "described": [list(pair) for pair in rules.describe(policy)],
                "server": {"now": text(self._operations.now.local), "at": utc_text(now)},
            }
        )

    async def findings(self, request: Request) -> Answer:
        """Tell what is well and what is not."""
        queries.check(request.query, ())
        known = await self.known()
        report = await self._work(lambda: self._operations.examine(known))
        return reply(
            {
                "severity": report.severity.name.lower(),
                "findings": [
                    {**one._asdict(), "severity": one.severity.name.lower()}
                    for one in report.findings
                ],
            }
        )

    async def openapi(self, request: Request) -> Answer:
        """Return the description of this API."""
        from importlib import resources

        queries.check(request.query, ())
        body = resources.files(__package__).joinpath("openapi.json").read_bytes()
        return Answer(200, ((b"content-type", b"application/json"),), body)

    async def health(self, request: Request) -> Answer:
        """Tell whether the keystore can be read."""
        queries.check(request.query, ())
        try:
            await self.known()
        except ApiKeyError as error:
            problem = Problem.of(error)
            problem.status = 503
            raise problem from error
        return reply({"status": "ok", "sign_in": self._signing.how})


ROUTES: Mapping[tuple[str, ...], Mapping[str, Route]] = {
    ("v1", "sessions"): {"POST": Route(Api.sign_in, None)},
    ("v1", "sessions", "current"): {"DELETE": Route(Api.sign_out, "")},
    ("v1", "keys"): {
        "GET": Route(Api.list, "list"),
        "POST": Route(Api.create, "create", replayed=True),
    },
    ("v1", "keys", ALIAS): {
        "GET": Route(Api.show, "list"),
        "PATCH": Route(Api.edit, "edit"),
        "DELETE": Route(Api.revoke, "revoke"),
    },
    ("v1", "keys", ALIAS, "rotation"): {
        "POST": Route(Api.rotate, "rotate", replayed=True),
        "DELETE": Route(Api.finish, "rotate"),
    },
    ("v1", "keys", ALIAS, "suspension"): {
        "POST": Route(Api.suspend, "suspend"),
        "DELETE": Route(Api.resume, "suspend"),
    },
    ("v1", "self", "rotation"): {"POST": Route(Api.rotate_self, "", replayed=True)},
    ("v1", "verification"): {"POST": Route(Api.verify, "list")},
    ("v1", "events"): {"GET": Route(Api.events, "list")},
    ("v1", "usage"): {"GET": Route(Api.usage, "list")},
    ("v1", "policy"): {"GET": Route(Api.policy, "list")},
    ("v1", "findings"): {"GET": Route(Api.findings, "list")},
    ("v1", "openapi.json"): {"GET": Route(Api.openapi, None)},
    ("healthz",): {"GET": Route(Api.health, None)},
}
"""All there is; the OpenAPI document says the same."""


def find_route(path: bytes, method: str) -> tuple[Route, str]:
    """
    Return what a request asks for, and the alias in its path.

    Args:
        path: As it was sent: it is split before it is decoded.
        method: GET for HEAD, too.

    Raises:
        Problem: 404 or 405.
    """
    parts = path.decode("latin-1").split("/")[1:]
    named = "" if parts[:2] != ["v1", "keys"] or len(parts) < 3 else parts[2]
    pattern = tuple(ALIAS if named and place == 2 else part for place, part in enumerate(parts))
    methods = ROUTES.get(pattern)
    if methods is None:
        raise Problem(
            404, "no-such-path", "There is nothing at this path.", hint="See /v1/openapi.json."
        )
    route = methods.get(method)
    if route is None:
        allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
        raise Problem(
            405,
            "method-not-allowed",
            "This path does not take this method.",
            headers=((b"allow", allowed.encode()),),
        )
    alias = alias_in(named) if named else ""
    if alias is None:
        raise Problem(
            404, "key-not-found", "This is not the address of a key: its alias cannot be decoded."
        )
    return route, alias


def _notes(known: Known) -> list[object]:
    notes: list[object] = []
    if not known.exists:
        message = "There is no keystore yet: the first key makes it."
        notes.append({"code": "no-keystore", "message": message})
    unreadable = [key.alias for key in known.keys if key.unreadable is not None]
    if unreadable:
        message = (
            f"{len(unreadable)} of the entries cannot be read ({', '.join(unreadable[:3])}): a "
            "stock server stops at the first of them and refuses every key stored after it."
        )
        notes.append({"code": "unreadable", "message": message})
    if not isinstance(known.policy, Policy):
        notes.append({"code": known.policy.code, "message": known.policy.message})
    return notes


def _tag(version: str, query: queries.Query, caller: Caller) -> str:
    """Return the ETag of a list: of the files, the query, and what the caller may do."""
    asked = sorted((name, *values) for name, values in query.items())
    seen = repr((version, asked, sorted(caller.verbs), sorted(caller.grants)))
    return f'"{hashlib.sha256(seen.encode(errors="surrogatepass")).hexdigest()[:32]}"'


def _tags(request: Request, name: bytes) -> list[str]:
    """Return the ETags in a header, without what marks them as weak."""
    value = request.header(name) or ""
    return [one.strip().removeprefix("W/") for one in value.split(",")]


def _target(request: Request) -> Target:
    tags = [one for one in _tags(request, b"if-match") if one]
    return Target(request.alias, tags[0] if tags else None)


def _overlap(request: Request) -> timedelta:
    body = bodies.parse_object(request.body or b"{}")
    bodies.check_members(body, ("overlap",))
    return bodies.overlap(body, DEFAULT_OVERLAP)


def _made(done: Done, status: int) -> Answer:
    headers: Headers = ()
    if done.key is not None:
        headers = ((b"etag", etag(done.key).encode()),)
        if status == 201:
            headers += ((b"location", f"/v1/keys/{segment(done.key.alias)}".encode()),)
    return reply(done.document, status, headers)
