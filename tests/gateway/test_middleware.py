"""The middleware in front of real applications: FastAPI, Starlette, and plain ASGI."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import fastapi
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route

import metricshub_apikey.gateway
from fields import fields
from metricshub_apikey import ApiKeys, Policy
from metricshub_apikey.activity.database import ActivityLog, path_beside
from metricshub_apikey.errors import ApiKeyError
from metricshub_apikey.gateway import ApiKeyMiddleware
from metricshub_apikey.http.asgi import Message, Receive, Scope, Send
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.pkcs12.store import Store
from metricshub_apikey.policy.location import FILE_NAME
from ruled import RuledKeys

Headers = Mapping[str, str] | list[tuple[str, str]]

POLICY = """
[roles.reader]
allow = ["GET /api/**", "GET /ws"]
[rate_limit]
requests_per_minute = 20
burst_per_second = 3
"""
OURS = {"alias": "ci", "principal": "robot", "roles": ("reader",)}


class Recorder:
    """A plain ASGI application that remembers what it was called with, and says OK."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, whatever it is."""
        self.scopes.append(scope)
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                assert (await receive())["type"] == f"lifespan.{step}"
                await send({"type": f"lifespan.{step}.complete"})
        elif scope["type"] == "websocket":
            assert (await receive())["type"] == "websocket.connect"
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"OK"})

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the last request."""
        return {name.decode(): value.decode() for name, value in self.scopes[-1]["headers"]}


class House:
    """A keystore with one key, `ci`, and what stands in front of applications."""

    def __init__(self, keystore: Path, data: bytes) -> None:
        """Put the keystore into its place."""
        self.path = keystore
        self.policy = keystore.with_name(FILE_NAME)
        self.registry = RuledKeys(Keystore(keystore), Policy.none())
        keystore.parent.mkdir()
        keystore.write_bytes(data)
        self.key = self.registry.get("ci").secret.reveal() or ""
        self.bearer = {"authorization": f"Bearer {self.key}"}
        self.used_by = Recorder()

    def protect(self, app: Any = None, **options: Any) -> ApiKeyMiddleware:  # noqa: ANN401 - any ASGI application
        """Return *app*, or one that remembers its calls, with the middleware in front."""
        return ApiKeyMiddleware(app or self.used_by, str(self.path), **options)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing in the environment of the tests decide."""
    for name in ("KEYSTORE", "APIKEY_POLICY", "APIKEY_STATE"):
        monkeypatch.delenv(f"METRICSHUB_{name}", raising=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of a keystore with the key `ci`."""
    path = tmp_path_factory.mktemp("house") / "keys.p12"
    metadata = Metadata(roles=("reader",), service_account="robot")
    ApiKeys(Keystore(path)).create("ci", **fields(metadata))
    return path.read_bytes()


@pytest.fixture
def house(keystore: Path, data: bytes) -> House:
    """Return a keystore with the key `ci`, without a policy."""
    return House(keystore, data)


async def get(
    app: Any,  # noqa: ANN401 - any ASGI application
    path: str = "/api/a",
    headers: Headers | None = None,
    method: str = "GET",
) -> httpx.Response:
    """Make one request, in a turn of the event loop of its own, as one that a server receives."""
    await asyncio.sleep(0)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path, headers=headers)


def ask(
    app: Any,  # noqa: ANN401 - any ASGI application
    path: str = "/api/a",
    headers: Headers | None = None,
    method: str = "GET",
) -> httpx.Response:
    """Make one request in an event loop of its own."""
    return asyncio.run(get(app, path, headers, method))


# Frameworks


def test_fastapi(house: House) -> None:
    """An application reads whose key it is from the scope, and from headers like any other."""
    api = fastapi.FastAPI()

    @api.get("/api/whoami")
    def whoami(request: fastapi.Request) -> dict[str, Any]:
        header = request.headers["x-apikey-alias"]
        return {"scope": request.scope["apikey"], "header": header}

    api.add_middleware(ApiKeyMiddleware, keystore=str(house.path), public=["GET /docs"])
    accepted = ask(api, "/api/whoami", house.bearer)
    assert accepted.json() == {"scope": {**OURS, "roles": ["reader"]}, "header": "ci"}
    assert ask(api, "/api/whoami").status_code == 401
    assert ask(api, "/docs").status_code == 200
    assert ask(api, "/nothing", house.bearer).status_code == 404


def test_starlette_and_what_is_mounted_in_it(house: House) -> None:
    """Rules are about the whole path, wherever the middleware stands."""
    house.policy.write_text(POLICY)

    def hello(request: Request) -> JSONResponse:
        return JSONResponse(request.scope["apikey"])

    inner = Starlette(routes=[Route("/a", hello), Route("/b", hello)])
    outer = Starlette(
        routes=[Mount("/api", house.protect(inner)), Mount("/x", house.protect(inner))]
    )
    assert ask(outer, "/api/a", house.bearer).json()["alias"] == "ci"
    assert ask(outer, "/api/b").status_code == 401
    assert ask(outer, "/x/a", house.bearer).status_code == 403


def test_the_public_name() -> None:
    """The package hands out its one name, and knows no others."""
    assert metricshub_apikey.gateway.ApiKeyMiddleware is ApiKeyMiddleware
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        metricshub_apikey.gateway.Nothing  # noqa: B018 - it is what is tested


# HTTP


def test_what_the_application_sees(house: House) -> None:
    """It gets the request as it came, with whose key it is."""
    assert ask(house.protect(), "/a%20b?x=1", house.bearer).text == "OK"
    (scope,) = house.used_by.scopes
    assert scope["apikey"] == OURS
    assert (scope["raw_path"], scope["query_string"]) == (b"/a%20b", b"x=1")
    assert house.used_by.headers["x-apikey-alias"] == "ci"
    assert house.used_by.headers["x-apikey-principal"] == "robot"
    assert house.used_by.headers["x-apikey-roles"] == "reader"
    assert house.used_by.headers["authorization"] == f"Bearer {house.key}"


@pytest.mark.parametrize(
    "name",
    [
        "X-Apikey-Alias",
        "x-apikey-principal",
        "X-APIKEY-ROLES",
        "X_Apikey_Alias",
        "x-apikey_roles",
        "x_apikey-principal",
        "X-Apikey-Anything",
        "X-Apikey-",
    ],
)
@pytest.mark.parametrize("path", ["/api/a", "/open"])
def test_nobody_else_says_whose_key_it_is(house: House, name: str, path: str) -> None:
    """What clients send under our names never arrives, with a key or where none is needed."""
    app = house.protect(public=["GET /open"])
    headers = {**house.bearer, name: "admin", "x-other-apikey-alias": "stays"}
    assert ask(app, path, headers).status_code == 200
    assert "admin" not in house.used_by.headers.values()
    assert house.used_by.headers["x-other-apikey-alias"] == "stays"
    ours = [key for key in house.used_by.headers if key.startswith("x-apikey")]
    assert len(ours) == (3 if path == "/api/a" else 0)


def test_refusals(house: House) -> None:
    """Nothing that is refused reaches the application; the words are those of the gateway."""
    house.policy.write_text(POLICY)
    app = house.protect()
    cases: list[tuple[Headers, int]] = [
        ({}, 401),
        ({"authorization": "Bearer unknown"}, 401),
        ({"authorization": "Bearer a b"}, 400),
        ([*house.bearer.items(), *house.bearer.items()], 400),
    ]
    for headers, status in cases:
        answer = ask(app, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (
            status,
            "application/problem+json",
        )
        assert answer.headers["www-authenticate"].startswith('Bearer realm="apikey"')
    assert answer.headers["www-authenticate"].endswith('error="invalid_request"')
    assert ask(app, "/admin", house.bearer).status_code == 403
    assert ask(app, headers=house.bearer, method="POST").status_code == 403
    assert ask(app, "/api/%2e%2e/admin", house.bearer).status_code == 403
    assert house.used_by.scopes == []


def test_limits_are_told(house: House) -> None:
    """Answers of the application, and refusals, have the headers of the limits, once."""
    house.policy.write_text(POLICY)

    async def story() -> list[httpx.Response]:
        app = house.protect()
        return [await get(app, headers=house.bearer) for _ in range(4)]

    *accepted, refused = asyncio.run(story())
    assert [answer.status_code for answer in accepted] == [200] * 3
    remaining = [answer.headers["x-ratelimit-remaining"] for answer in accepted]
    assert remaining == ["19", "18", "17"]
    assert accepted[0].headers["ratelimit-policy"] == '"minute";q=20;w=60,"second";q=3;w=1'
    assert "x-apikey-alias" not in accepted[0].headers, "that is for the application"
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers.get_list("ratelimit") == [
        '"minute";r=17;t=' + refused.headers["retry-after"]
    ]
    assert len(house.used_by.scopes) == 3


def test_without_limits(house: House) -> None:
    """Where requests are not counted, nobody is told of limits."""
    house.policy.write_text(POLICY)
    app = house.protect(limits=False)

    async def story() -> set[int]:
        return {(await get(app, headers=house.bearer)).status_code for _ in range(25)}

    assert asyncio.run(story()) == {200}
    assert not [name for name in ask(app, headers=house.bearer).headers if "limit" in name]


def test_a_revoked_key_is_refused_by_the_next_request(house: House) -> None:
    """What changes in the keystore changes what the application sees."""

    async def story() -> list[int]:
        app = house.protect()
        before = await get(app, headers=house.bearer)
        house.registry.revoke("ci")
        after = await get(app, headers=house.bearer)
        return [before.status_code, after.status_code]

    assert asyncio.run(story()) == [200, 401]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/docs", 200),
        ("/static/a/b.css", 200),
        ("/docs/", 401),
        ("/static/../api/a", 401),
        ("/static/%2e%2e/api/a", 401),
        ("/static/..%2fapi", 401),
        ("/static//a", 401),
    ],
)
def test_public_paths(house: House, path: str, status: int) -> None:
    """What is public needs no key, and lends its name to nothing else."""
    app = house.protect(public=["GET /docs", "* /static/**"])
    assert asyncio.run(raw_get(app, path)) == status
    if status == 200:
        assert "apikey" not in house.used_by.scopes[-1]
        assert ask(app, path, method="POST").status_code == (401 if path == "/docs" else 200)
        assert ask(app, path, {"authorization": "Bearer wrong"}).status_code == 200


async def raw_get(
    app: ApiKeyMiddleware, path: str, headers: Mapping[str, str] | None = None, **scope: object
) -> int:
    """Make a request with a path that no client would send as it is; return the status."""
    sent = await raw(
        app,
        {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "headers": encoded(headers or {}),
            **scope,
        },
    )
    status: int = sent[0]["status"]
    return status


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return headers as they are in a scope."""
    return [(name.encode(), value.encode()) for name, value in headers.items()]


async def raw(app: ApiKeyMiddleware, scope: Scope, *messages: Message) -> list[Message]:
    """Call an application; return what it sent."""
    sent: list[Message] = []
    waiting = list(messages)

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Any) -> None:  # noqa: ANN401 - as ASGI has it
        sent.append(message)

    await app(scope, receive, send)
    return sent


@pytest.mark.parametrize("path", ["/api/~user/a:b@c,d=(e)", "/api/caf\xe9", "/api/a b"])
def test_a_server_that_tells_no_raw_path(house: House, path: str) -> None:
    """Where only the decoded path is known, rules are compared with that."""
    rule = "GET /api/~user/a:b@c,d=(e)" if "~" in path else "GET /api/*"
    house.policy.write_text(POLICY.replace("GET /api/**", rule))
    assert asyncio.run(raw_get(house.protect(), path, house.bearer, raw_path=None)) == 200
    bare: Scope = {"type": "http", "method": "GET", "path": path, "headers": encoded(house.bearer)}
    assert asyncio.run(raw(house.protect(), bare))[0]["status"] == 200
    assert asyncio.run(raw_get(house.protect(), "/api/../a", house.bearer, raw_path=None)) == 403


def test_errors_of_the_application_pass_through(house: House) -> None:
    """A bug in the application stays its own."""

    async def broken(*_: object) -> None:
        raise ZeroDivisionError("its own")

    with pytest.raises(ZeroDivisionError, match="its own"):
        ask(house.protect(broken), headers=house.bearer)
    assert ask(house.protect(broken)).status_code == 401


def test_headers_of_the_application_stay(house: House) -> None:
    """What the application says in its headers is not touched."""

    def hello(_: Request) -> PlainTextResponse:
        return PlainTextResponse("hi", 201, {"x-mine": "1", "cache-control": "max-age=5"})

    answer = ask(house.protect(Starlette(routes=[Route("/api/a", hello)])), headers=house.bearer)
    assert (answer.status_code, answer.text, answer.headers["x-mine"]) == (201, "hi", "1")
    assert answer.headers["cache-control"] == "max-age=5"
    assert answer.headers.get_list("content-length") == ["2"]


# Web sockets


def socket(headers: Mapping[str, str], path: str = "/ws", **extra: object) -> Scope:
    """Return the scope of a web socket."""
    return {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "headers": encoded(headers),
        **extra,
    }


CONNECT: Message = {"type": "websocket.connect"}


def test_a_web_socket_with_a_key(house: House) -> None:
    """It opens like a GET, the application knows whose it is, the client its limits."""
    house.policy.write_text(POLICY)
    (accept,) = asyncio.run(raw(house.protect(), socket(house.bearer), CONNECT))
    assert accept["type"] == "websocket.accept"
    assert (b"x-ratelimit-remaining", b"19") in accept["headers"]
    assert house.used_by.scopes[-1]["apikey"] == OURS
    assert house.used_by.headers["x-apikey-alias"] == "ci"


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [("/ws", {}, 401), ("/ws", {"authorization": "a b"}, 400), ("/other", None, 403)],
)
def test_a_web_socket_that_is_refused(
    house: House, path: str, headers: dict[str, str] | None, status: int
) -> None:
    """It is closed before it is open; where the server can, with the whole answer."""
    house.policy.write_text(POLICY)
    app = house.protect()
    plain = socket(house.bearer if headers is None else headers, path)
    assert asyncio.run(raw(app, plain, CONNECT)) == [{"type": "websocket.close", "code": 1008}]
    able = {**plain, "extensions": {"websocket.http.response": {}}}
    start, body = asyncio.run(raw(app, able, CONNECT))
    assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
    assert body["type"] == "websocket.http.response.body"
    assert json.loads(body["body"])["type"] == "about:blank"
    assert house.used_by.scopes == []


# Its life


LIFESPAN: Scope = {"type": "lifespan"}
STARTUP: Message = {"type": "lifespan.startup"}
SHUTDOWN: Message = {"type": "lifespan.shutdown"}


def last_used(house: House) -> set[str]:
    """Return the fingerprints of the keys whose use was written down."""
    return set(ActivityLog(path_beside(str(house.path))).last_uses())


def test_uses_are_written_down_at_the_end(house: House) -> None:
    """What is not written when the application ends is written then."""

    async def story() -> None:
        app = house.protect()
        ended = asyncio.Event()
        waiting = [STARTUP]
        sent: list[str] = []

        async def receive() -> Message:
            if not waiting:
                await ended.wait()
                return SHUTDOWN
            return waiting.pop()

        async def send(message: Any) -> None:  # noqa: ANN401 - as ASGI has it
            sent.append(message["type"])

        life = asyncio.create_task(app(LIFESPAN, receive, send))
        while "lifespan.startup.complete" not in sent:
            await asyncio.sleep(0.001)
        assert app._service.keyring.snapshot is not None, "the keys were read before any request"
        assert (await get(app, headers=house.bearer)).status_code == 200
        assert last_used(house) == set()
        ended.set()
        await life
        assert len(last_used(house)) == 1
        assert len(asyncio.all_tasks()) == 1, "nothing goes on"

    asyncio.run(story())


def test_a_framework_with_a_life_of_its_own(house: House) -> None:
    """The application's own start and end happen as without the middleware."""
    steps: list[str] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> Any:  # noqa: ANN401 - as Starlette has it
        steps.append("start")
        yield {"state": 1}
        steps.append("end")

    app = house.protect(Starlette(lifespan=lifespan))
    sent = asyncio.run(raw(app, {**LIFESPAN, "state": {}}, STARTUP, SHUTDOWN))
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert steps == ["start", "end"]


def test_other_kinds_of_calls_pass(house: House) -> None:
    """What is neither a request nor a web socket is none of our business."""
    scope = {"type": "something.new"}
    asyncio.run(raw(house.protect(), scope))
    assert house.used_by.scopes == [scope]


def test_a_second_event_loop(house: House) -> None:
    """Without a start, and in one event loop after the other, requests are decided."""
    app = house.protect()
    assert [ask(app, headers=house.bearer).status_code for _ in range(3)] == [200] * 3
    house.registry.revoke("ci")
    assert ask(app, headers=house.bearer).status_code == 401
    asyncio.run(raw(app, LIFESPAN, STARTUP, SHUTDOWN))
    assert len(last_used(house)) == 1


def test_a_second_event_loop_after_one_that_broke_off(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reading that an event loop has left behind holds up nobody in the next one."""
    app = house.protect()
    arrived, may_go_on = threading.Event(), threading.Event()
    read = Keystore.read

    def slow(self: Keystore, *, patience: float = 0.0) -> Store:
        arrived.set()
        assert may_go_on.wait(10)
        return read(self, patience=patience)

    async def begin() -> None:
        request = asyncio.create_task(get(app, headers=house.bearer))
        await asyncio.to_thread(arrived.wait, 10)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in (request, *tasks):
            task.cancel()
        await asyncio.wait(tasks)

    monkeypatch.setattr(Keystore, "read", slow)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()
    may_go_on.set()
    assert ask(app, headers=house.bearer).status_code == 200


def test_an_application_that_is_started_again(house: House) -> None:
    """After its end it can begin anew, with what it has counted."""
    app = house.protect()
    for _ in range(2):
        asyncio.run(raw(app, LIFESPAN, STARTUP, SHUTDOWN))
    assert ask(app, headers=house.bearer).status_code == 200


def test_a_record_that_cannot_be_written_harms_nobody(
    house: House, capfd: pytest.CaptureFixture[str]
) -> None:
    """Requests are answered, and the end is an end, with a line in the log that says why."""
    database = Path(path_beside(str(house.path)))
    database.mkdir()
    app = house.protect()

    async def story() -> int:
        answer = await get(app, headers=house.bearer)
        await app._service.stop()
        return answer.status_code

    assert asyncio.run(story()) == 200
    said = capfd.readouterr().err
    assert "The last uses of keys are kept for later." in said
    assert house.key not in said
    database.rmdir()
    asyncio.run(raw(app, LIFESPAN, STARTUP, SHUTDOWN))
    assert len(last_used(house)) == 1


def test_refusals_are_logged_without_the_key(
    house: House, capfd: pytest.CaptureFixture[str]
) -> None:
    """The log says what was refused, and why; never a key, wherever a client puts it."""
    house.registry.revoke("ci")
    app = house.protect()

    async def story() -> None:
        await get(app, f"/api/a?key={house.key}", house.bearer)
        await app._service.stop()

    asyncio.run(story())
    said = capfd.readouterr().err
    assert "decision=401 reason=unknown method=GET path=/api/a\n" in said
    assert house.key not in said


# Its settings


def test_bad_settings_are_told_at_once(house: House, tmp_path: Path) -> None:
    """What could never work is an error where the application is put together."""
    for options in (
        {"public": ["docs"]},
        {"state": "http://nowhere"},
        {"password_file": str(tmp_path / "nothing")},
    ):
        with pytest.raises(ApiKeyError):
            house.protect(**options)


def test_a_keystore_that_comes_later(keystore: Path, data: bytes) -> None:
    """Until there is a keystore nothing passes but what is public."""
    app = ApiKeyMiddleware(Recorder(), str(keystore), public=["GET /open"])

    async def story() -> None:
        assert (await get(app, headers={"authorization": "x"})).status_code == 503
        assert (await get(app, "/open")).status_code == 200
        house = House(keystore, data)
        assert (await get(app, headers=house.bearer)).status_code == 200

    asyncio.run(story())


def test_places_from_the_environment(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments it uses what `apikey` uses."""
    other = house.policy.with_name("other.toml")
    other.write_text("[roles]\n")
    monkeypatch.setenv("METRICSHUB_KEYSTORE", str(house.path))
    assert ask(ApiKeyMiddleware(Recorder()), headers=house.bearer).status_code == 200
    monkeypatch.setenv("METRICSHUB_APIKEY_POLICY", str(other))
    assert ask(ApiKeyMiddleware(Recorder()), headers=house.bearer).status_code == 403


def test_the_state_of_the_policy_counts(house: House) -> None:
    """Where the policy names a server that is not there, the application is told what to do."""
    house.policy.write_text('state = "redis://127.0.0.1:1"\n')
    closed = house.protect(state_failure="closed")
    assert ask(closed, headers=house.bearer).status_code == 503
    assert ask(house.protect(), headers=house.bearer).status_code == 200


def test_a_broken_policy_does_not_stop_the_application(house: House) -> None:
    """It starts, and nothing passes until the policy can be read."""
    house.policy.write_text("state = 7\n")
    protected = house.protect()
    assert ask(protected, headers=house.bearer).status_code == 503
    house.policy.write_text("")
    assert ask(protected, headers=house.bearer).status_code == 200


# MCP


MCP_POLICY = """
[roles.reader]
allow = ["* /mcp", "GET /sse", "GET /api/**"]
tools = ["List*"]
requests_per_minute = 2
[roles.everything]
allow = ["* /other"]
tools = ["*"]
[roles.away]
allow = ["* /mcp"]
tools = ["*"]
networks = ["192.0.2.0/24"]
[gateway]
public = ["OPTIONS /**", "POST /mcp"]
"""


async def post(app: ApiKeyMiddleware, body: bytes, headers: Mapping[str, str]) -> list[Message]:
    """Post a body to /mcp in two pieces; return what the application sent."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/mcp",
        "headers": encoded({"content-type": "application/json", **headers}),
    }
    half = len(body) // 2
    return await raw(
        app,
        scope,
        {"type": "http.request", "body": body[:half], "more_body": True},
        {"type": "http.request", "body": body[half:]},
    )


def give_roles(house: House, *roles: str) -> None:
    """Give the key other roles."""
    held = house.registry.get("ci").metadata.roles
    house.registry.edit("ci", remove_roles={*held} - {*roles}, add_roles=roles)


def called(tool: str) -> bytes:
    """Return the message that calls a tool."""
    message = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": tool}}
    return json.dumps(message).encode()


def test_tools_are_decided_by_the_body(house: House) -> None:
    """One role fits wholly or not at all, and a public rule covers no message."""
    house.policy.write_text(MCP_POLICY)
    give_roles(house, "reader", "everything", "away")
    app = house.protect(limits=False)
    accepted = asyncio.run(post(app, called("ListHosts"), house.bearer))
    assert accepted[0]["status"] == 200
    refused = asyncio.run(post(app, called("Execute"), house.bearer))
    assert refused[0]["status"] == 403
    assert json.loads(refused[1]["body"]) == {
        "jsonrpc": "2.0",
        "id": 5,
        "error": {
            "code": 403,
            "message": "The API key 'ci' may not call the tool 'Execute'.",
        },
    }
    unreadable = asyncio.run(post(app, b"[" + called("ListHosts") + b"]", house.bearer))
    assert unreadable[0]["status"] == 400
    assert asyncio.run(post(app, called("ListHosts"), {}))[0]["status"] == 401
    assert len(house.used_by.scopes) == 1


def test_networks_and_limits_of_roles(house: House) -> None:
    """A role counts only from its networks; the smallest figure of a key's roles limits it."""
    house.policy.write_text(MCP_POLICY)
    give_roles(house, "away")

    def ask_from(client: tuple[str, int] | None) -> int:
        async def one() -> int:
            scope: Scope = {
                "type": "http",
                "method": "GET",
                "path": "/mcp",
                "headers": encoded(house.bearer),
                "client": client,
            }
            sent = await raw(app, scope, {"type": "http.request", "body": b""})
            code: int = sent[0]["status"]
            return code

        return asyncio.run(one())

    app = house.protect()
    assert ask_from(("192.0.2.9", 1)) == 200
    assert ask_from(("::ffff:192.0.2.9", 1)) == 200
    assert [ask_from(one) for one in (("192.0.3.9", 1), ("x", 1), None)] == [403] * 3


def test_preflights_and_refusals_for_other_origins(house: House) -> None:
    """Where OPTIONS is public, a page of another origin may read what is refused."""
    house.policy.write_text(MCP_POLICY)
    app = house.protect()
    origin = {"origin": "https://page.example"}
    assert ask(app, "/api/a", origin, "OPTIONS").status_code == 200
    refused = ask(app, "/api/a", origin)
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://page.example"
    assert refused.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in refused.headers


def test_web_sockets_on_mcp_paths(house: House) -> None:
    """What a socket will say is not known, so only a role with all tools may open one there."""
    house.policy.write_text(MCP_POLICY)
    app = house.protect()
    scope = {**socket(house.bearer, "/mcp"), "extensions": {"websocket.http.response": {}}}
    assert asyncio.run(raw(app, scope, {"type": "websocket.connect"}))[0]["status"] == 403
