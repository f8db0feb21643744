"""The policy: which rules a key breaks, what new keys look like, and what it says of itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clock import at
from metricshub_apikey.errors import InvalidArgumentError, PolicyBreachError
from metricshub_apikey.keys.durations import parse_duration, spoken
from metricshub_apikey.keys.expiry import after
from metricshub_apikey.keys.prefixed import is_intact
from metricshub_apikey.policy.file import parse
from metricshub_apikey.policy.rules import (
    STOCK,
    Breach,
    Policy,
    RateLimit,
    Role,
    describe,
    document,
)
from metricshub_apikey.policy.templates import template

Zone = Callable[[str], None]

NOW = datetime(2027, 3, 14, 6, 30, 15, 700_000, tzinfo=UTC)
STRICT = parse(template("strict"), "/etc/apikey.toml")
ROLES = {"reader": Role("Dashboards", ("GET /**",)), "writer": Role(None, ("POST /metrics/*",))}


def breaches(policy: Policy, life: str | None, *roles: str) -> list[Breach]:
    """Return what is wrong with a key made now that lives for that long."""
    expires_on = after(at(NOW), parse_duration(life)) if life else None
    return policy.breaches(expires_on=expires_on, created_at=at(NOW), roles=roles)


def test_the_stock_policy_asks_for_nothing() -> None:
    """Without a policy file any key is right, and every valid key may do everything."""
    assert breaches(STOCK, None) == []
    assert breaches(STOCK, "1000y", "any", "name") == []
    STOCK.enforce(expires_on=None, created_at=at(NOW), roles=["any"])
    STOCK.check_lifetime("5m")
    assert STOCK.refusal([], "DELETE", "/admin") is None
    assert (STOCK.path, STOCK.enforced, STOCK.default_lifetime) == (None, False, None)
    assert STOCK.rate_limit == RateLimit(1_000, 100)


def test_a_key_that_keeps_the_rules() -> None:
    """The strictest policy has nothing to say of the key it asks for."""
    assert breaches(STRICT, "90d", "read-only") == []
    assert breaches(STRICT, "1y", "read-only", "full-access") == []
    STRICT.enforce(expires_on=after(at(NOW), timedelta(1)), created_at=at(NOW), roles=["read-only"])


def test_require_expiry() -> None:
    """A key without an end is named once, although it also lives too long."""
    (breach,) = breaches(STRICT, None, "read-only")
    assert breach.rule == "keys.require_expiry"
    assert breach.sentence == (
        "The key would never expire; keys.require_expiry in /etc/apikey.toml forbids it."
    )


def test_no_expiry_is_longer_than_any_limit() -> None:
    """A limit alone forbids keys for ever, too."""
    policy = parse('[keys]\nmax_lifetime = "2w"', "x.toml")
    assert breaches(policy, None) == [
        Breach(
            "keys.max_lifetime",
            "The key would never expire; keys.max_lifetime in x.toml is 2w.",
        )
    ]


def test_max_lifetime(zone: Zone) -> None:
    """A key that lives too long is told how long it would, the limit, and the last expiry."""
    zone("Europe/Paris")
    (breach,) = breaches(STRICT, "400d", "read-only")
    assert breach == Breach(
        "keys.max_lifetime",
        "The key would live for 400 days; keys.max_lifetime in /etc/apikey.toml is 1y.",
        "Its last possible expiry is 2028-03-13T07:30:15.",
    )


@pytest.mark.parametrize("name", ["UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("start", range(0, 366, 30))
def test_the_limit_itself_is_kept_in_every_zone(zone: Zone, name: str, start: int) -> None:
    """A key of just the longest life is right, one second more is not, whatever clocks do."""
    zone(name)
    policy = Policy(max_lifetime=timedelta(days=45))
    created_at = NOW + timedelta(days=start)
    for seconds, count in ((0, 0), (1, 1)):
        expires_on = after(at(created_at), timedelta(days=45, seconds=seconds))
        found = policy.breaches(expires_on=expires_on, created_at=at(created_at), roles=())
        assert len(found) == count


def test_parts_of_a_second_do_not_count() -> None:
    """An expiry in whole seconds cannot be blamed for the milliseconds of the creation."""
    policy = Policy(max_lifetime=timedelta(hours=1))
    for microsecond, seconds, count in ((1, 0, 0), (999_999, 0, 0), (1, 1, 1), (999_999, 1, 1)):
        created_at = NOW.replace(microsecond=microsecond)
        expires_on = after(at(created_at), timedelta(hours=1, seconds=seconds))
        found = policy.breaches(expires_on=expires_on, created_at=at(created_at), roles=())
        assert len(found) == count


def test_an_ambiguous_expiry_is_the_earlier_one(zone: Zone) -> None:
    """Of the two instants that a local time can mean, the one at which the key ends counts."""
    zone("Europe/Paris")
    created_at = datetime(2027, 10, 31, 0, 0, tzinfo=UTC)
    expires_on = datetime(2027, 10, 31, 2, 30)
    for minutes, count in ((30, 0), (29, 1)):
        policy = Policy(max_lifetime=timedelta(minutes=minutes))
        found = policy.breaches(expires_on=expires_on, created_at=at(created_at), roles=())
        assert len(found) == count


def test_editing_does_not_prolong_for_ever() -> None:
    """The life counts from the creation: an old key may not have the full length again."""
    created_at = NOW - timedelta(days=300)
    expires_on = after(at(NOW), timedelta(days=90))
    (breach,) = STRICT.breaches(
        expires_on=expires_on, created_at=at(created_at), roles=["read-only"]
    )
    assert "live for 390 days" in breach.sentence


def test_the_end_of_the_calendar() -> None:
    """An expiry that Java can write and Python cannot is longer than every limit."""
    found = STRICT.breaches(expires_on=datetime.max, created_at=at(NOW), roles=["read-only"])
    assert [breach.rule for breach in found] == ["keys.max_lifetime"]


def test_require_role() -> None:
    """A key without a role is told which there are."""
    assert breaches(STRICT, "1d") == [
        Breach(
            "keys.require_role",
            "The key has no role; keys.require_role in /etc/apikey.toml asks for one.",
            "The roles are: read-only, metrics-writer, alert-manager, chat-bot, full-access.",
        )
    ]


def test_unknown_roles() -> None:
    """Each role that the file does not have is named, with those it has."""
    known = "The roles are: read-only, metrics-writer, alert-manager, chat-bot, full-access."
    assert breaches(STRICT, "1d", "Read-Only", "full-access", "x") == [
        Breach("roles", "[roles] in /etc/apikey.toml has no role 'Read-Only'.", known),
        Breach("roles", "[roles] in /etc/apikey.toml has no role 'x'.", known),
    ]


def test_a_table_without_roles_knows_none() -> None:
    """An empty table is not a missing one: no role is right, and no key may do anything."""
    policy = parse("[roles]", "x.toml")
    assert breaches(policy, None, "x") == [Breach("roles", "[roles] in x.toml has no role 'x'.")]
    assert policy.refusal(["x"], "GET", "/") == "not-permitted"
    assert breaches(policy, None) == []


def test_all_breaches_are_found_and_the_first_is_raised() -> None:
    """`breaches` reports everything, `enforce` stops at the first rule, in the file's order."""
    found = breaches(STRICT, "2y", "x", "y")
    assert [breach.rule for breach in found] == ["keys.max_lifetime", "roles", "roles"]
    with pytest.raises(PolicyBreachError) as caught:
        STRICT.enforce(expires_on=after(at(NOW), timedelta(730)), created_at=at(NOW), roles=["x"])
    assert (caught.value.message, caught.value.hint) == (found[0].sentence, found[0].hint)


@pytest.mark.parametrize("typed", ["30d", "90d", "2160h", "1y", "365d", "129600m", "12w6d"])
def test_lifetimes_that_are_choices(typed: str) -> None:
    """A choice counts in whatever units it is typed."""
    STRICT.check_lifetime(typed)


@pytest.mark.parametrize("typed", ["31d", "1h", "0d", "2159h", "2y"])
def test_lifetimes_that_are_none(typed: str) -> None:
    """Another length is refused with the choices, even one below the limit."""
    with pytest.raises(PolicyBreachError) as caught:
        STRICT.check_lifetime(typed)
    assert caught.value.message == (
        f"'{typed}' is not one of the choices of keys.lifetimes in /etc/apikey.toml."
    )
    assert caught.value.hint == "The choices are: 30d, 60d, 90d, 180d, 1y."


def test_lifetimes_that_are_no_length() -> None:
    """What cannot be read is that error, with choices and without."""
    for policy in (STOCK, STRICT):
        with pytest.raises(InvalidArgumentError, match="'soon' is not a length of time"):
            policy.check_lifetime("soon")


def test_new_keys() -> None:
    """A new key has the format and the prefix that the policy says."""
    assert len(STOCK.new_key(bytes)) == 36
    key = STRICT.new_key(bytes)
    assert key.startswith("metricshub_")
    assert is_intact(key)
    assert STOCK._replace(format="prefixed").new_key(bytes).startswith("metricshub_0")


@pytest.mark.parametrize(
    ("roles", "method", "path", "permitted"),
    [
        (["reader"], "GET", "/metrics/a", True),
        (["reader"], "POST", "/metrics/a", False),
        (["reader", "writer"], "POST", "/metrics/a", True),
        (["writer"], "POST", "/metrics/a/b", False),
        (["unknown", "writer"], "POST", "/metrics/a", True),
        (["unknown"], "GET", "/", False),
        ([], "GET", "/", False),
    ],
)
def test_permission(roles: list[str], method: str, path: str, *, permitted: bool) -> None:
    """Any of a key's roles is enough; none, or one that nobody defined, is not."""
    assert (Policy(roles=ROLES).refusal(roles, method, path) is None) is permitted


def test_rules_are_compiled_once() -> None:
    """The same rules are one permission, however often they are asked for."""
    assert ROLES["reader"].access is Role("Others", ("GET /**",)).access


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(days=400), "400 days"),
        (timedelta(days=1), "1 day"),
        (timedelta(hours=36), "1 day 12 hours"),
        (timedelta(days=365, seconds=1), "365 days 1 second"),
        (timedelta(days=10_000, minutes=61), "10,000 days 1 hour 1 minute"),
        (timedelta(milliseconds=999), "0 seconds"),
    ],
)
def test_lengths_in_words(length: timedelta, words: str) -> None:
    """A length is told in days and smaller units, those that are zero left out."""
    assert spoken(length) == words


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=99_999)))
def test_lengths_in_words_are_exact(length: timedelta) -> None:
    """Words name the length to the second."""
    words = spoken(length).replace(",", "").split()
    pairs = zip(map(int, words[::2]), words[1::2], strict=True)
    total = sum((timedelta(**{f"{unit.rstrip('s')}s": n}) for n, unit in pairs), timedelta())
    assert total == length - timedelta(microseconds=length.microseconds)


def test_describe_the_stock_policy() -> None:
    """People read that there is no file, and what that means."""
    assert describe(STOCK) == [
        ("Policy file", "none: the stock behaviour"),
        ("Enforced", "no, as far as the file says"),
        ("Expiry", "optional"),
        ("Key format", "UUID"),
        ("Roles", "optional; any name passes"),
        ("Rate limit", "1,000 requests a minute, 100 a second"),
    ]


def test_describe_a_strict_policy() -> None:
    """People read every rule as the administrator wrote it."""
    policy = STRICT._replace(enforced=True, roles={**ROLES, "none": Role()})
    assert describe(policy) == [
        ("Policy file", "/etc/apikey.toml"),
        ("Enforced", "yes, by the gateway"),
        (
            "Expiry",
            "required, at most 1y, 90d if none is given; choices 30d, 60d, 90d, 180d, 1y",
        ),
        ("Key format", "metricshub_, 43 random characters and a checksum"),
        ("Roles", "required; reader, writer, none"),
        ("Role reader", "Dashboards: GET /**"),
        ("Role writer", "POST /metrics/*"),
        ("Role none", "nothing"),
        ("Rate limit", "1,000 requests a minute, 100 a second"),
    ]
    assert ("Roles", "optional; there are none") in describe(Policy(roles={}))


def test_limits_without_a_text_are_told_in_words() -> None:
    """A policy made in a program has no words of its own for its lengths."""
    policy = Policy(max_lifetime=timedelta(days=7), default_lifetime=timedelta(hours=1))
    assert ("Expiry", "optional, at most 7 days, 1 hour if none is given") in describe(policy)
    (breach,) = breaches(policy, "8d")
    assert breach.sentence == (
        "The key would live for 8 days; keys.max_lifetime in the policy is 7 days."
    )


def test_document_of_the_stock_policy() -> None:
    """Scripts find every name, whatever the policy is."""
    assert document(STOCK) == {
        "path": None,
        "enforced": False,
        "keys": {
            "require_expiry": False,
            "default_lifetime": None,
            "default_lifetime_seconds": None,
            "lifetimes": [],
            "lifetimes_seconds": [],
            "max_lifetime": None,
            "max_lifetime_seconds": None,
            "require_role": False,
            "format": "uuid",
            "prefix": None,
        },
        "roles": None,
        "rate_limit": {"requests_per_minute": 1_000, "burst_per_second": 100},
        "gateway": {"public": []},
        "mcp": {"paths": ["/mcp", "/mcp/message"], "streams": ["/sse"]},
        "remarks": ["No roles are defined: every key may do everything."],
        "server": {"timezone": None},
        "state": None,
    }


def test_document_of_a_strict_policy() -> None:
    """Lengths are there as written and in seconds, and all of it is JSON."""
    made = document(STRICT._replace(roles=ROLES))
    assert json.loads(json.dumps(made)) == made
    assert made["keys"] == {
        "require_expiry": True,
        "default_lifetime": "90d",
        "default_lifetime_seconds": 7_776_000,
        "lifetimes": ["30d", "60d", "90d", "180d", "1y"],
        "lifetimes_seconds": [2_592_000, 5_184_000, 7_776_000, 15_552_000, 31_536_000],
        "max_lifetime": "1y",
        "max_lifetime_seconds": 31_536_000,
        "require_role": True,
        "format": "prefixed",
        "prefix": "metricshub_",
    }
    said_nothing: dict[str, object] = {
        "tools": [],
        "networks": None,
        "requests_per_minute": None,
        "burst_per_second": None,
        "manage": [],
        "may_grant": [],
        "self_rotate": False,
    }
    assert made["roles"] == {
        "reader": {**said_nothing, "description": "Dashboards", "allow": ["GET /**"]},
        "writer": {**said_nothing, "description": None, "allow": ["POST /metrics/*"]},
    }
    assert document(Policy(roles={}))["roles"] == {}


ROLE_LIMITS = """
[roles.slow]
requests_per_minute = 60
[roles.quick]
requests_per_minute = 5000
burst_per_second = 7
[roles.plain]
"""


@pytest.mark.parametrize(
    ("roles", "limit"),
    [
        (["plain"], (1_000, 100)),
        (["slow", "plain"], (60, 100)),
        (["quick"], (5_000, 7)),
        (["quick", "slow", "unknown"], (60, 7)),
    ],
)
def test_limits_of_roles(roles: list[str], limit: tuple[int, int]) -> None:
    """Of each figure the smallest that a role of the key says applies, else the policy's."""
    assert parse(ROLE_LIMITS, "p").limit_of(roles) == limit


def test_what_is_remarked() -> None:
    """A role that allows an MCP path without tools is named, and a policy without roles."""
    text = """
[roles.talker]
allow = ["POST /mcp"]
[roles.caller]
allow = ["* /**"]
tools = ["List*"]
[roles.writer]
allow = ["POST /api/**"]
"""
    assert parse(text, "p").remarks() == [
        "The role 'talker' allows an MCP path (/mcp) but has no 'tools' line: it may call no tool."
    ]
    assert STOCK.remarks() == ["No roles are defined: every key may do everything."]


@pytest.mark.parametrize(
    ("request_line", "is_public"),
    [
        ("GET /open/a", True),
        ("GET /open/a;b", True),
        ("GET /mcp", False),
        ("POST /mcp", False),
        ("PUT /MCP/", False),
        ("OPTIONS /mcp", True),
        ("GET /files/a.txt", True),
        ("GET /files/secret;.txt", False),
        ("GET /files/secret%3B.txt", False),
        ("GET /files/secret%3F.txt", False),
    ],
)
def test_what_is_public(request_line: str, *, is_public: bool) -> None:
    """A public rule must hold for every reading of a path, and covers no message of MCP."""
    text = '[gateway]\npublic = ["* /open/*", "* /mcp", "GET /files/*.txt"]'
    method, path = request_line.split(" ")
    assert parse(text, "p").is_public(method, path) is is_public
