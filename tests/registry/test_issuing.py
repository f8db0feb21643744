"""The rules for new and changed keys, all in one place, and what happens where one is broken."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest

import metricshub_apikey.errors as wrong
from clock import HERE, at
from metricshub_apikey import ApiKey
from metricshub_apikey.keys.expiry import to_local
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.policy.rules import STOCK, Policy
from metricshub_apikey.registry.issuing import Issuer, new_name, undelivered
from metricshub_apikey.secret import UNREADABLE, Secret

NOW = datetime(2030, 5, 6, 7, 8, 9, 123_456, tzinfo=UTC)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
STRICT = Policy(
    path="apikey.toml",
    require_expiry=True,
    default_lifetime=30 * DAY,
    max_lifetime=90 * DAY,
    require_role=True,
)
READER = Metadata(roles=("reader",))


def make(
    alias: str = "web",
    expires_on: datetime | None = None,
    metadata: Metadata = READER,
    policy: Policy = STOCK,
) -> ApiKey:
    """Return a new key."""
    issuer = Issuer(at(NOW), policy, None, os.urandom)
    return issuer.new_key(new_name(alias), expires_on, metadata)


def check_edit(old: ApiKey, new: ApiKey, *, now: datetime, policy: Policy) -> None:
    """Check that *old* may become *new*."""
    Issuer(at(now), policy, None, os.urandom).check_edit(old, new)


def end(length: timedelta) -> datetime:
    """Return the local time *length* from now."""
    return to_local(NOW + length, HERE)


# New keys


def test_a_new_key() -> None:
    """Its alias is folded, its age is in milliseconds, and its secret is its own."""
    key = make("Web", end(DAY))
    assert key == ApiKey(
        "web", Secret(key.secret.reveal()), end(DAY), int(NOW.timestamp() * 1000), None, READER
    )
    assert key.created_at == NOW.replace(microsecond=123_000)
    assert key.lifetime(HERE) == DAY
    assert len({make().secret.reveal() for _ in range(10)}) == 10


def test_the_randomness_is_an_argument() -> None:
    """With the same random bytes it is the same key."""
    keys = {Issuer(at(NOW), STOCK, None, bytes).new_key("x", None, READER).secret for _ in range(2)}
    assert keys == {Secret("00000000-0000-4000-8000-000000000000")}


@pytest.mark.parametrize(
    ("policy", "asked", "expected"),
    [
        (STOCK, None, None),
        (STOCK, end(DAY), end(DAY)),
        (STRICT, None, end(30 * DAY)),
        (STRICT, end(DAY), end(DAY)),
        (STRICT, end(90 * DAY), end(90 * DAY)),
        (STRICT._replace(default_lifetime=90 * DAY), None, end(90 * DAY)),
    ],
)
def test_when_it_ends(policy: Policy, asked: datetime | None, expected: datetime | None) -> None:
    """What is asked for counts, then the policy's default; the longest life is allowed."""
    assert make(expires_on=asked, policy=policy).expires_on == expected


@pytest.mark.parametrize(
    ("alias", "expires_on", "metadata", "policy", "error"),
    [
        ("", None, READER, STOCK, wrong.InvalidArgumentError),
        ("a\nb", None, READER, STOCK, wrong.InvalidArgumentError),
        ("web", None, Metadata(roles=("no role",)), STOCK, wrong.InvalidArgumentError),
        ("web", end(timedelta()), READER, STOCK, wrong.ExpiryInPastError),
        ("web", end(-DAY), READER, STOCK, wrong.ExpiryInPastError),
        ("web", None, READER, Policy(require_expiry=True), wrong.PolicyBreachError),
        ("web", end(90 * DAY + SECOND), READER, STRICT, wrong.PolicyBreachError),
        ("web", None, Metadata(), STRICT, wrong.PolicyBreachError),
    ],
)
def test_what_is_refused(
    alias: str,
    expires_on: datetime | None,
    metadata: Metadata,
    policy: Policy,
    error: type[Exception],
) -> None:
    """Each rule has its own kind of error."""
    with pytest.raises(error):
        make(alias, expires_on, metadata, policy)


def test_a_default_that_would_be_too_long() -> None:
    """A default beyond the longest life is no way around it."""
    with pytest.raises(wrong.PolicyBreachError, match="max_lifetime"):
        make(policy=STRICT._replace(default_lifetime=91 * DAY))


# Changed keys


OLD = ApiKey(
    "web", Secret("key"), end(10 * DAY), int((NOW - 50 * DAY).timestamp() * 1000), None, READER
)


@pytest.mark.parametrize(
    "new",
    [
        OLD._replace(expires_on=end(SECOND)),
        OLD._replace(expires_on=end(40 * DAY)),
        OLD._replace(metadata=READER._replace(description="what for")),
    ],
)
def test_what_may_be_changed(new: ApiKey) -> None:
    """Within the longest life, counted from its creation, a key may end when it likes."""
    check_edit(OLD, new, now=NOW, policy=STRICT)


@pytest.mark.parametrize(
    ("new", "policy", "error"),
    [
        (OLD._replace(expires_on=end(timedelta())), STOCK, wrong.ExpiryInPastError),
        (OLD._replace(expires_on=end(41 * DAY)), STRICT, wrong.PolicyBreachError),
        (OLD._replace(expires_on=None), STRICT, wrong.PolicyBreachError),
        (OLD._replace(metadata=Metadata()), STRICT, wrong.PolicyBreachError),
        (OLD._replace(metadata=Metadata(roles=("",))), STOCK, wrong.InvalidArgumentError),
    ],
)
def test_what_may_not_be_changed(new: ApiKey, policy: Policy, error: type[Exception]) -> None:
    """No change makes a key break a rule."""
    with pytest.raises(error):
        check_edit(OLD, new, now=NOW, policy=policy)


def test_an_expired_key_may_be_described() -> None:
    """Where its expiry is not touched, it does not matter that it has passed."""
    old = OLD._replace(expires_on=end(-DAY))
    check_edit(old, old._replace(metadata=READER), now=NOW, policy=STRICT)


def test_an_unreadable_key() -> None:
    """Its fields may be changed, its expiry not: nobody knows the secret to write with it."""
    old = OLD._replace(secret=UNREADABLE, expires_on=None, unreadable="it is not UTF-8")
    check_edit(old, old._replace(metadata=READER), now=NOW, policy=STOCK)
    with pytest.raises(wrong.InvalidArgumentError, match="'web' cannot be changed: it is not UTF"):
        check_edit(old, old._replace(expires_on=end(DAY)), now=NOW, policy=STOCK)


def test_a_key_of_unknown_age_counts_as_new() -> None:
    """Without a creation time the longest life counts from now."""
    old = OLD._replace(created_ms=None)
    check_edit(old, old._replace(expires_on=end(90 * DAY)), now=NOW, policy=STRICT)
    with pytest.raises(wrong.PolicyBreachError):
        check_edit(old, old._replace(expires_on=end(91 * DAY)), now=NOW, policy=STRICT)


# Keys that nobody got


def test_an_unconfirmed_key() -> None:
    """The error keeps its sentence, and says what to do; others pass as they are."""
    with pytest.raises(wrong.NotConfirmedError) as caught, undelivered("web"):
        raise wrong.NotConfirmedError("x is changed, but …", hint="Wait.")
    assert caught.value.message == "x is changed, but …"
    assert "revoke 'web', then create it again" in (caught.value.hint or "")
    with pytest.raises(wrong.WriteFailedError) as other, undelivered("web"):
        raise wrong.WriteFailedError("x is not changed", hint="Wait.")
    assert other.value.hint == "Wait."
