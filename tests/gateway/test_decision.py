"""The decision: every row of its table, malformed headers, and paths that try to get around."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builders import examples
from fields import fields
from metricshub_apikey import Policy
from metricshub_apikey.gateway.credential import Credential, Identity
from metricshub_apikey.gateway.decision import Answer, Gate, Request, StateError
from metricshub_apikey.gateway.keyring import SETTLE_SECONDS, Keyring
from metricshub_apikey.gateway.limiter import MemoryLimiter
from metricshub_apikey.http.asgi import Header
from metricshub_apikey.keys.api_key import ENTRY_PREFIX
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.policy.acceptance import LONGEST_TOKEN
from metricshub_apikey.policy.location import FILE_NAME
from metricshub_apikey.policy.permission import normalise
from metricshub_apikey.policy.rules import RateLimit
from ruled import RuledKeys

POLICY = """
[roles.public]
allow = ["GET /public/**", "POST /api/*"]
[roles.everything]
allow = ["* /**"]
[rate_limit]
requests_per_minute = 20
burst_per_second = 5
"""

# Each of these is /admin for some server behind us.
BYPASSES = [
    "/public/%2e%2e/admin",
    "/public/%2E%2e/admin",
    "/public/.%2e/admin",
    "/public/../admin",
    "/public/./../admin",
    "/public/..;/admin",
    "/public/..;x=1/admin",
    "/public/%2e%2e;/admin",
    "/public/..%3b/admin",
    "/public/..%2fadmin",
    "/public%2f..%2fadmin",
    "/public/..%5cadmin",
    "/public/..\\admin",
    "/public//../admin",
    "//admin",
    "/public//admin",
    "/public/%252e%252e/admin",
    "/public/%25%32%65%25%32%65/admin",
    "/public/%00/../admin",
    "/public/%00",
    "/public/\x00",
    "/public/%c0%ae%c0%ae/admin",
    "/public/%0d%0aX-Apikey-Alias:%20admin",
    "/public/ /admin",
    "/public/%20/..%20/admin",
    "/public/%u002e%u002e/admin",
    "/public/%2",
    "/public/\xe9",
    "http://elsewhere/public/a",
    "public/a",
    "*",
    "",
]

STRANGE: list[list[bytes]] = [
    [b"Bearer a b"],
    [b"Bearer a\tb"],
    [b"Basic dXNlcjpwYXNzd29yZA=="],
    [b"Digest username=x, realm=y"],
    [b"Bearer " + b"x" * (1 << 20)],
    [b"x" * (LONGEST_TOKEN + 1)],
    [b"Bearer one", b"Bearer two"],
    [b"", b""],
]
UNKNOWN: list[list[bytes]] = [
    [b"Bearer unknown"],
    [b"unknown"],
    [b"Bearer \x00"],
    [b"Bearer \xff\xfe"],
    ["Bearer clé".encode()],
    [b"Bearer " + b"x" * LONGEST_TOKEN],
    [b"Bearerunknown"],
    [b"Bearer\x0bunknown"],
]
EMPTY: list[list[bytes]] = [
    [],
    [b""],
    [b" "],
    [b"\t \t"],
    [b"Bearer"],
    [b"bearer "],
    [b"BEARER\t\t "],
]


class House:
    """A keystore, and a gate in front of it."""

    def __init__(self, keystore: Path, policy: str | None = None, *, limits: bool = False) -> None:
        """Make no key yet."""
        self.now = time.time()
        self.uses: list[tuple[str, float]] = []
        self.registry = RuledKeys(Keystore(keystore), Policy.none())
        self.keyring = Keyring(Keystore(keystore), None, report=lambda _: None)
        self.limiter = MemoryLimiter(lambda: self.now) if limits else None
        self.gate = Gate(self.keyring, self.limiter, used=self._use, clock=lambda: self.now)
        self.runner = asyncio.Runner()
        self.policy = keystore.with_name(FILE_NAME)
        keystore.parent.mkdir(exist_ok=True)
        if policy is not None:
            self.policy.write_text(policy)

    def _use(self, credential: Credential, now: float) -> None:
        self.uses.append((credential.identity.alias, now))

    def create(self, alias: str, *roles: str, expires_on: datetime | None = None) -> bytes:
        """Make a key, and return its secret."""
        metadata = Metadata(roles=roles, service_account=f"{alias}-account")
        key = self.registry.create(alias, expires_on=expires_on, **fields(metadata)).secret.reveal()
        assert key is not None
        return key.encode()

    def ask(
        self, token: bytes | list[bytes], method: str = "GET", target: str | None = "/public/a"
    ) -> Answer:
        """Return the decision about a request that comes now; a single token as clients send it."""
        authorization = token if isinstance(token, list) else [b"Bearer " + token]
        return self.runner.run(self._ask(Request(method, target, authorization)))

    async def _ask(self, request: Request) -> Answer:
        await asyncio.sleep(0)  # a request comes in a turn of the loop of its own
        return await self.gate.decide(request)


def said(answer: Answer) -> tuple[int, list[Header], bytes]:
    """Return what a client can see of an answer."""
    return answer.status, answer.headers, answer.body


def check_problem(answer: Answer, title: str, challenge: str | None) -> None:
    """Check that an answer is a problem document, with a challenge or without."""
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    assert headers["content-type"] == "application/problem+json"
    assert headers["content-length"] == str(len(answer.body))
    assert headers["cache-control"] == "no-store"
    assert headers.get("www-authenticate") == challenge
    problem = json.loads(answer.body)
    assert (problem["status"], problem["title"]) == (answer.status, title)
    assert set(problem) == {"type", "title", "status", "detail"}


Build = Callable[..., House]


@pytest.fixture(scope="module")
def runners() -> Iterator[ExitStack]:
    """Return what closes event loops in the end."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def build(keystore: Path, runners: ExitStack) -> Build:
    """Return a function that makes a house, with a policy or without, with limits or without."""

    def make(policy: str | None = None, *, limits: bool = False) -> House:
        house = House(keystore, policy, limits=limits)
        runners.enter_context(house.runner)
        return house

    return make


@pytest.fixture
def house(build: Build) -> House:
    """Return a house without a policy."""
    return build()


@pytest.fixture
def ruled(build: Build) -> House:
    """Return a house with roles and small limits."""
    return build(POLICY, limits=True)


class Standing(NamedTuple):
    """A house in which nothing changes, with two keys: for many questions."""

    house: House
    public: bytes
    everything: bytes


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory, runners: ExitStack) -> Standing:
    """Return a house in which nothing changes, without limits."""
    house = House(tmp_path_factory.mktemp("house") / "keys.p12", POLICY)
    runners.enter_context(house.runner)
    tokens = [house.create(role, role) for role in ("public", "everything")]
    time.sleep(SETTLE_SECONDS + 0.02)
    assert [house.ask(token).status for token in tokens] == [200, 200]
    house.uses.clear()
    return Standing(house, *tokens)


# The table


def test_a_valid_key_passes(ruled: House) -> None:
    """The service learns whose key it is, the client its limits, and the use is known."""
    answer = ruled.ask(ruled.create("ci", "public", "everything"))
    headers = dict(answer.headers)
    assert (answer.status, answer.reason, answer.body) == (200, "accepted", b"")
    assert answer.identity == Identity("ci", "ci-account", ("everything", "public"))
    assert headers[b"x-apikey-alias"] == b"ci"
    assert headers[b"x-apikey-principal"] == b"ci-account"
    assert headers[b"x-apikey-roles"] == b"everything,public"
    assert headers[b"ratelimit-policy"] == b'"minute";q=20;w=60,"second";q=5;w=1'
    assert headers[b"ratelimit"] == b'"minute";r=19;t=60'
    assert ruled.uses == [("ci", ruled.now)]


@pytest.mark.parametrize("authorization", EMPTY)
def test_without_a_key(standing: Standing, authorization: list[bytes]) -> None:
    """Who sends no key is told that one is needed, and nothing of an error."""
    answer = standing.house.ask(authorization)
    assert (answer.status, answer.reason, answer.identity) == (401, "no-key", None)
    check_problem(answer, "Unauthorized", 'Bearer realm="apikey"')


@pytest.mark.parametrize("authorization", STRANGE)
def test_malformed_headers(standing: Standing, authorization: list[bytes]) -> None:
    """What cannot be one key is refused as such, however long it is."""
    answer = standing.house.ask(authorization)
    assert (answer.status, answer.reason) == (401, "malformed")
    check_problem(answer, "Unauthorized", 'Bearer realm="apikey", error="invalid_request"')


def test_several_headers_with_a_valid_key(standing: Standing) -> None:
    """Nobody can say which of two headers a service would believe."""
    token = standing.public
    for other in (b"", b"Bearer " + token, b"Bearer other", token):
        for both in ([b"Bearer " + token, other], [other, b"Bearer " + token]):
            assert standing.house.ask(both).reason == "malformed"


@pytest.mark.parametrize("before", [b"", b"Bearer ", b"bearer ", b"BEARER ", b"bEaReR\t", b" \t"])
@pytest.mark.parametrize("after", [b"", b" ", b"\t "])
def test_the_ways_to_send_a_key(standing: Standing, before: bytes, after: bytes) -> None:
    """A key comes with its scheme in any case, or bare; white space around it does no harm."""
    assert standing.house.ask([before + standing.public + after]).status == 200


@pytest.mark.parametrize(
    "around", [b"Token %s", b"Bearer: %s", b'"%s"', b"%s,%s", b"\xa0%s", b"%s\0"]
)
def test_other_ways_are_none(standing: Standing, around: bytes) -> None:
    """A key among other things is no key."""
    assert standing.house.ask([around.replace(b"%s", standing.public)]).status == 401


def test_every_refused_key_gets_the_same_words(ruled: House) -> None:
    """Unknown, mistyped, expired, removed: a client cannot tell; the log can."""
    soon = datetime.fromtimestamp(ruled.now).replace(microsecond=0) + timedelta(minutes=1)
    expired = ruled.create("old", "public", expires_on=soon)
    removed = ruled.create("gone", "public")
    assert ruled.ask(removed).status == 200
    ruled.registry.revoke("gone")
    ruled.now += 120
    reasons = {
        "expired": expired,
        "removed": removed,
        "mistyped": b"metoro_secret_" + b"0" * 49,
        "unknown": b"00000000-0000-4000-8000-000000000000",
    }
    answers = {reason: ruled.ask(token) for reason, token in reasons.items()}
    assert {reason: answer.reason for reason, answer in answers.items()} == {
        reason: reason for reason in reasons
    }
    known = {
        reason: answer.identity and answer.identity.alias for reason, answer in answers.items()
    }
    assert known == {"expired": "old", "removed": "gone", "mistyped": None, "unknown": None}
    for strange in UNKNOWN:
        answers[repr(strange)] = ruled.ask(strange)
        assert answers[repr(strange)].reason == "unknown"
    first = answers["unknown"]
    assert all(said(answer) == said(first) for answer in answers.values())
    check_problem(
        first,
        "Unauthorized",
        'Bearer realm="apikey", error="invalid_token", '
        'error_description="The API key is not valid."',
    )


def test_a_key_without_permission(ruled: House) -> None:
    """Which requests a key may make is what its roles say, by method and path."""
    token = ruled.create("ci", "public")
    for method, target, status in [
        ("GET", "/public/a?x=/admin", 200),
        ("GET", "/public/", 200),
        ("GET", "/public", 403),
        ("get", "/public/a", 403),
        ("HEAD", "/public/a", 403),
        ("POST", "/public/a", 403),
        ("POST", "/api/a", 200),
        ("POST", "/api/a/b", 403),
        ("GET", "/admin", 403),
        ("GET", "/PUBLIC/a", 403),
    ]:
        ruled.now += 2
        assert ruled.ask(token, method, target).status == status, (method, target)
    answer = ruled.ask(token, "GET", "/admin")
    assert (answer.reason, answer.identity) == (
        "not-permitted",
        Identity("ci", "ci-account", ("public",)),
    )
    check_problem(answer, "Forbidden", 'Bearer realm="apikey", error="insufficient_scope"')


def test_a_key_over_its_limit(ruled: House) -> None:
    """It is told when to come again, refusals do not count, and no other key is affected."""
    token, other = ruled.create("ci", "public"), ruled.create("web", "public")
    assert [ruled.ask(token).status for _ in range(7)] == [200] * 5 + [429] * 2
    answer = ruled.ask(token)
    headers = dict(answer.headers)
    assert (answer.reason, headers[b"retry-after"]) == ("over-limit", b"2")
    assert headers[b"ratelimit"].startswith(b'"minute";r=15;')
    assert answer.identity is not None
    assert b"x-apikey-alias" not in headers
    check_problem(answer, "Too Many Requests", None)
    ruled.now += 60
    assert [ruled.ask(token).status for _ in range(7)] == [200] * 5 + [429] * 2
    assert len(ruled.uses) == 10, "only what passed is a use"
    assert ruled.ask(other).status == 200
    ruled.now += 2
    assert ruled.ask(token).status == 200


def test_what_is_refused_for_another_reason_does_not_count(ruled: House) -> None:
    """A client that is not permitted something has its quota for what it is permitted."""
    token = ruled.create("ci", "public")
    assert {ruled.ask(token, "GET", "/admin").status for _ in range(30)} == {403}
    assert ruled.ask(token).status == 200
    assert ruled.uses == [("ci", ruled.now)]


def test_limits_of_the_policy_are_in_force_at_once(ruled: House) -> None:
    """A limit that was lowered counts what was before."""
    token = ruled.create("ci", "public")
    assert [ruled.ask(token).status for _ in range(4)] == [200] * 4
    ruled.policy.write_text(POLICY.replace("20", "4"))
    ruled.now += 5
    assert ruled.ask(token).status == 429


def test_before_the_first_keystore(house: House) -> None:
    """As long as no key can be checked nothing passes, and nobody is told that a key is wrong."""
    for authorization in ([b"Bearer x"], [], [b"a b"]):
        answer = house.ask(authorization)
        assert (answer.status, answer.reason) == (503, "no-keystore")
        check_problem(answer, "Service Unavailable", None)
    token = house.create("ci")
    assert house.ask(token).status == 200


class Dead:
    """A limiter whose server does not answer."""

    async def take(self, fingerprint: str, limit: RateLimit) -> tuple[bool, list[Header]]:
        """Say that nobody can say."""
        del fingerprint, limit
        raise StateError


def test_nobody_can_count(house: House) -> None:
    """Where nobody may count instead, a valid key is not let through, and the log knows whose."""
    token = house.create("ci")
    house.gate = Gate(house.keyring, Dead(), used=house._use)
    answer = house.ask(token)
    assert (answer.status, answer.reason) == (503, "no-state")
    assert answer.identity is not None
    assert house.ask(b"unknown").status == 401
    assert house.uses == []


def test_without_limits(house: House) -> None:
    """Where nobody counts, any number passes, and no header speaks of limits."""
    token = house.create("ci")
    answers = [house.ask(token) for _ in range(150)]
    assert {answer.status for answer in answers} == {200}
    assert not [name for name, _ in answers[-1].headers if b"limit" in name]


# Roles


def test_without_roles_in_the_policy(house: House) -> None:
    """Where no roles are defined every key may do everything, wherever it is."""
    token = house.create("ci", "whatever")
    for target in ("/admin", "/a/../b", None):
        assert house.ask(token, "DELETE", target).status == 200


@pytest.mark.parametrize("policy", [POLICY, "[roles]\n"])
@pytest.mark.parametrize("roles", [(), ("nobody-knows-this",)])
def test_a_key_without_a_role_that_counts(
    build: Build, policy: str, roles: tuple[str, ...]
) -> None:
    """Where roles are defined, a key without one, or with none that is known, may nothing."""
    house = build(policy)
    answer = house.ask(house.create("ci", *roles))
    assert (answer.status, answer.reason) == (403, "not-permitted")


def test_an_unknown_role_beside_a_known_one(ruled: House) -> None:
    """A role that the policy does not know takes nothing from another one."""
    token = ruled.create("ci", "nobody-knows-this", "public")
    assert ruled.ask(token).status == 200


def test_roles_are_in_force_at_once(ruled: House) -> None:
    """A role given or taken, in the keystore or in the policy, counts for the next request."""
    token = ruled.create("ci")
    assert ruled.ask(token).status == 403
    give(ruled, "public")
    assert ruled.ask(token).status == 200
    give(ruled)
    assert ruled.ask(token).status == 403
    give(ruled, "public")
    ruled.policy.write_text(POLICY.replace("GET /public/**", "GET /other/**"))
    assert ruled.ask(token).status == 403
    ruled.policy.write_text("")
    assert ruled.ask(token).status == 403, "an emptied policy opens nothing"
    ruled.policy.unlink()
    assert ruled.ask(token).status == 403, "nor does one that is gone"


def give(house: House, *roles: str) -> None:
    """Give the key `ci` other roles."""
    old = house.registry.get("ci").metadata.roles
    house.registry.edit("ci", remove_roles={*old} - {*roles}, add_roles=roles)


# Paths


@pytest.mark.parametrize("role", ["public", "everything"])
@pytest.mark.parametrize("target", BYPASSES)
def test_paths_that_could_be_others(standing: Standing, target: str, role: str) -> None:
    """A path that servers could read differently is refused, even where all is permitted."""
    answer = standing.house.ask(getattr(standing, role), target=target)
    assert (answer.status, answer.reason) == (403, "suspicious-path")


def test_a_path_that_nobody_said(standing: Standing) -> None:
    """Without a path no role permits anything."""
    answer = standing.house.ask(standing.everything, "", None)
    assert (answer.status, answer.reason) == (403, "no-path")


@pytest.mark.parametrize("method", ["", "GET /public/a", "GET ", " GET", "G\nET", "*", "GET\x00"])
def test_methods_that_are_none(standing: Standing, method: str) -> None:
    """A method cannot bring a path of its own along."""
    assert standing.house.ask(standing.everything, method, "/admin").status == 403


# Expiry


@pytest.mark.parametrize(
    ("name", "local", "instant"),
    [
        ("UTC", "2031-06-30T12:00:00", "2031-06-30T12:00:00Z"),
        ("Pacific/Kiritimati", "2031-06-30T12:00:00", "2031-06-29T22:00:00Z"),
        ("America/New_York", "2031-01-15T23:59:59", "2031-01-16T04:59:59Z"),
        ("Europe/Paris", "2027-10-31T03:00:00", "2027-10-31T02:00:00Z"),
        ("Europe/Paris", "2027-03-28T02:30:00", "2027-03-28T01:00:00Z"),
    ],
)
def test_a_key_ends_to_the_second(
    house: House, zone: Callable[[str], None], name: str, local: str, instant: str
) -> None:
    """Up to its expiry a key passes, from then on never again, in the zone of the machine."""
    zone(name)
    token = house.create("ci", expires_on=datetime.fromisoformat(local))
    end = datetime.fromisoformat(instant).astimezone(UTC).timestamp()
    seen = []
    for house.now in (end - 86_400, end - 1, end - 0.001, end, end + 0.001, end + 1800, end + 3600):
        seen.append(house.ask(token).status)
    assert seen == [200] * 3 + [401] * 4


def test_a_key_is_back_in_the_repeated_hour(house: House, zone: Callable[[str], None]) -> None:
    """A stock server compares what its clock shows, and so does the gateway."""
    zone("Europe/Paris")
    token = house.create("ci", expires_on=datetime(2027, 10, 31, 2, 30))
    first = datetime(2027, 10, 31, 0, 30, tzinfo=UTC).timestamp()
    seen = []
    for house.now in (first - 1, first, first + 1799, first + 1800, first + 3599, first + 3600):
        seen.append(house.ask(token).status)
    assert seen == [200, 401, 401, 200, 200, 401]


# Anything at all


@examples(150)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.builds(bytes.__add__, st.sampled_from([b"Bearer ", b"bearer"]), st.binary()),
        ),
        max_size=3,
    ),
    st.one_of(st.text(max_size=20), st.sampled_from(["GET", "POST"])),
    st.one_of(st.none(), st.text(max_size=30), st.text("/.%2efc0AE;\\a", max_size=12)),
)
@example([b"Bearer"], "GET", "/")
@example([b"Bearer \xff"], "GET", "/%")
def test_nothing_raises_and_nothing_else_passes(
    standing: Standing, headers: list[bytes], method: str, target: str | None
) -> None:
    """Whatever bytes come: a refusal without the key; and with it, only what is permitted."""
    refused = standing.house.ask(headers, method, target)
    assert (refused.status, refused.identity) == (401, None)
    assert all(b"\n" not in value for _, value in refused.headers)
    answer = standing.house.ask(standing.everything, method, target)
    assert answer.status in (200, 403)
    if answer.status == 200:
        assert target is not None
        assert normalise(target).startswith("/")


def test_a_name_in_any_language_is_a_header(house: House) -> None:
    """What no header could hold, control characters too, is percent-encoded."""
    house.registry._keystore.update(
        lambda store: store.add(
            f'{ENTRY_PREFIX}caf\xe9 100%\r\nx-apikey-roles: admin"',
            b"secret",
            created_ms=0,
            random_bytes=lambda count: b"\1" * count,
        ),
        create=True,
    )
    headers = house.ask(b"secret").headers
    alias = b"caf%C3%A9 100%25%0D%0Ax-apikey-roles: admin%22"
    assert headers[1:3] == [(b"x-apikey-alias", alias), (b"x-apikey-principal", alias)]
    assert dict(headers)[b"x-apikey-roles"] == b""


def test_a_key_with_letters_beyond_ascii(house: House) -> None:
    """Keys that somebody chose are compared as the bytes that clients send."""
    house.registry._keystore.update(
        lambda store: store.add(
            f"{ENTRY_PREFIX}ci",
            "clé".encode(),
            created_ms=0,
            random_bytes=lambda count: b"\1" * count,
        ),
        create=True,
    )
    composed, decomposed = "clé", "cle\u0301"
    spellings = [composed.encode(), composed.encode("latin-1"), decomposed.encode()]
    assert [house.ask([spelling]).status for spelling in spellings] == [200, 401, 401]
