"""Rotating keys, through the library: what becomes of the new key, the old one and all others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import metricshub_apikey.errors as wrong
from builders import examples
from clock import HERE, at
from fields import fields
from metricshub_apikey import ApiKey, ApiKeys
from metricshub_apikey.activity.database import Event
from metricshub_apikey.activity.journal import Journal
from metricshub_apikey.keys.api_key import ENTRY_PREFIX
from metricshub_apikey.keys.expiry import to_local
from metricshub_apikey.keys.fingerprint import fingerprint
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.keystore.keystore import STOCK_PASSWORDS, Keystore
from metricshub_apikey.pkcs12.bag import Bag, encode_bag
from metricshub_apikey.pkcs12.store import Store
from metricshub_apikey.policy.rules import STOCK, Policy, Role
from metricshub_apikey.registry.rotation import is_due, is_previous, next_expiry
from metricshub_apikey.secret import Secret
from ruled import RuledKeys
from stock import Stock

NOW = datetime(2030, 5, 6, 7, 8, 9, 123_456, tzinfo=UTC)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
FULL = Metadata(
    created_by="maker@there",
    roles=("reader", "writer"),
    service_account="ci",
    description="nightly pipeline",
    labels=(("env", "production"), ("team", "a")),
)

Move = Callable[[str], None]


class Bench:
    """
    A registry with a clock that can be set, which remembers what it did.

    Attributes:
        now: What the clock shows.
        commits: How often a file was put in place.
        events: What was recorded.
    """

    def __init__(self, file: Path, policy: Policy = STOCK) -> None:
        self.now = NOW
        self.commits = 0
        self.events: list[Event] = []
        self.notes: list[str] = []
        self.registry = RuledKeys(
            Keystore(file, before_commit=self._count),
            policy,
            clock=lambda: self.now,
            journal=Journal("somebody@here", self._record),
            notify=self.notes.append,
        )

    def _count(self) -> None:
        self.commits += 1

    def _record(self, events: Sequence[Event]) -> None:
        self.events.extend(events)

    def end(self, length: timedelta) -> datetime:
        """Return the local time *length* from now."""
        return to_local(self.now + length, HERE)

    def make(self, alias: str, length: timedelta | None = None) -> ApiKey:
        """Create a key that lives for *length*, with all that a key can carry."""
        ends = None if length is None else self.end(length)
        return self.registry.create(alias, expires_on=ends, **fields(FULL))

    def keys(self) -> dict[str, ApiKey]:
        """Return the keys by alias, in their order."""
        return {key.alias: key for key in self.registry.list()}


@pytest.fixture
def bench(keystore: Path) -> Bench:
    """Return a bench with the stock policy."""
    return Bench(keystore)


def put(keystore: Path, alias: str, value: bytes, *, dated: bool = True) -> None:
    """Put an entry there that this program would not make, or one without a good date."""

    def add(store: Store) -> None:
        name = ENTRY_PREFIX + alias
        raw = encode_bag(name, 0, *store.encrypt(name, value, os.urandom))
        store.adopt(Bag(raw if dated else raw.replace(b"Time ", b"Tide ")))

    Keystore(keystore).update(add, create=True)


# What a rotation does


def test_a_rotation(bench: Bench) -> None:
    """The new key has the old one's place and fields; the old one is last, until the overlap."""
    old = bench.make("web", 90 * DAY)
    bench.make("other")
    bench.commits = 0
    bench.now += 80 * DAY
    done = bench.registry.rotate("WEB", overlap=2 * DAY)
    assert done is not None

    assert bench.commits == 1
    found = bench.keys()
    assert list(found) == ["web", "other", "web.prev"]
    assert (found["web"], found["web.prev"]) == (done.new, done.old)
    assert done.new.secret.reveal() not in (None, old.secret.reveal())
    assert done.new.expires_on == bench.end(90 * DAY)
    assert done.new.created_ms == int(bench.now.timestamp() * 1000)
    assert done.new.metadata == FULL._replace(created_by="somebody@here")
    assert done.kept
    assert (done.old.secret.reveal(), done.old.created_ms) == (old.secret.reveal(), old.created_ms)
    assert done.old.expires_on == bench.end(2 * DAY)
    rotated_at = bench.now.replace(microsecond=0)
    assert done.old.metadata == old.metadata._replace(rotated_at=rotated_at)
    assert is_previous(done.old)
    assert not is_previous(done.new)


def test_a_week_is_the_default(bench: Bench) -> None:
    """Without a word about it, the old key works for seven days; one without expiry gets one."""
    bench.make("web")
    done = bench.registry.rotate("web")
    assert done is not None
    assert (done.new.expires_on, done.old.expires_on) == (None, bench.end(7 * DAY))
    assert done.consequence == "old key works until 2030-05-13T07:08:09"


def test_the_old_key_never_lives_longer_than_it_would_have(bench: Bench) -> None:
    """An overlap beyond the old key's own expiry does not prolong it."""
    old = bench.make("web", 3 * DAY)
    done = bench.registry.rotate("web", overlap=400 * DAY)
    assert done is not None
    assert done.old.expires_on == old.expires_on
    assert bench.keys()["web.prev"].expires_on == old.expires_on


def test_no_overlap(bench: Bench) -> None:
    """With an overlap of 0 the old key is gone at once, also where its life had no end."""
    bench.make("web")
    done = bench.registry.rotate("web", overlap=timedelta())
    assert done is not None
    assert (done.kept, done.consequence) == (False, "old key ended")
    assert bench.keys() == {"web": done.new}
    assert bench.registry.rotate("web", overlap=timedelta()) is not None, "and nothing is pending"


def test_an_expired_key(bench: Bench) -> None:
    """A key that is too late to overlap gets a successor with a life of the same length."""
    bench.make("web", DAY)
    bench.now += 5 * DAY
    done = bench.registry.rotate("web")
    assert done is not None
    assert not done.kept
    assert done.new.expires_on == bench.end(DAY)
    assert list(bench.keys()) == ["web"]


def test_an_expiry_of_one_s_own(bench: Bench) -> None:
    """What is asked for counts, not the old key's life; it must be in the future."""
    bench.make("web", 90 * DAY)
    with pytest.raises(wrong.ExpiryInPastError):
        bench.registry.rotate("web", expires_on=bench.end(timedelta()))
    done = bench.registry.rotate("web", expires_on=bench.end(DAY))
    assert done is not None
    assert done.new.expires_on == bench.end(DAY)


def test_all_other_entries_keep_their_bytes(bench: Bench, keystore: Path, stock: Stock) -> None:
    """The master key, users and other keys are not touched, and the old key keeps its secret."""
    keystore.parent.mkdir()
    stock.ask("new", keystore)
    bench.make("web")
    bench.make("other")

    def pieces() -> set[bytes]:
        return set(Store.parse(keystore.read_bytes(), STOCK_PASSWORDS).pieces())

    before = pieces()
    bench.registry.rotate("web")
    assert len(before - pieces()) == 1
    bench.registry.finish("web")
    assert len(before - pieces()) == 1
    assert len(pieces()) == len(before)


def test_what_is_recorded(bench: Bench) -> None:
    """Rotating and finishing are recorded under the key's alias, for the key that they end."""
    old = bench.make("web")
    bench.events.clear()
    bench.registry.rotate("web", overlap=DAY)
    bench.registry.finish("web")
    known = fingerprint(old.secret.reveal() or "")
    assert bench.events == [
        Event(
            NOW, "somebody@here", "rotate", "web", known, "old key works until 2030-05-07T07:08:09"
        ),
        Event(NOW, "somebody@here", "finish", "web", known),
    ]


# The length of its life


@pytest.mark.parametrize("start", ["2030-03-30", "2030-10-26"])
def test_the_life_is_as_long_across_clock_changes(bench: Bench, zone: Move, start: str) -> None:
    """However often the clocks change meanwhile, 30 days are 30 times 24 hours."""
    zone("Europe/Berlin")
    bench.now = datetime.fromisoformat(f"{start}T11:00:00.5+01:00")
    made = bench.make("web", 30 * DAY)
    for _ in range(4):
        bench.now += 29 * DAY
        done = bench.registry.rotate("web", overlap=DAY / 2)
        assert done is not None
        made = done.new
        assert made.expires_on == bench.end(30 * DAY)
        assert made.lifetime(HERE) == 30 * DAY
        bench.now += DAY


lengths = st.integers(1, 10**9).map(lambda seconds: timedelta(seconds=seconds))
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@examples(200)
@given(moments, moments, lengths)
def test_a_life_is_repeated_to_the_second(
    created: datetime, now: datetime, length: timedelta
) -> None:
    """Whatever fractions of a second there are, the new life is as long as the old one."""
    key = ApiKey(
        "x", Secret("key"), to_local(created + length, HERE), int(created.timestamp() * 1000)
    )
    assert next_expiry(key, now=at(now), asked=None, policy=STOCK) == to_local(now + length, HERE)


def test_nobody_knows_when_it_was_created(bench: Bench, keystore: Path) -> None:
    """Without a creation time the user must say how long the new key shall live."""
    put(keystore, "web", b"key-1234__2999-01-01T00:00:00", dated=False)
    assert bench.registry.get("web").created_at is None
    before = keystore.read_bytes()
    with pytest.raises(
        wrong.InvalidArgumentError, match="It is not recorded when 'web' was created"
    ):
        bench.registry.rotate("web")
    assert keystore.read_bytes() == before
    done = bench.registry.rotate("web", expires_on=bench.end(DAY))
    assert done is not None
    assert done.old.created_at is None
    assert list(bench.keys()) == ["web", "web.prev"]


def test_nobody_needs_to_know_it(bench: Bench, keystore: Path) -> None:
    """A key for ever without a creation time is followed by a key for ever."""
    put(keystore, "web", b"key-1234", dated=False)
    done = bench.registry.rotate("web")
    assert done is not None
    assert (done.new.expires_on, done.old.secret.reveal()) == (None, "key-1234")


# The rules


def test_the_policy_s_default_counts_where_there_was_no_expiry(keystore: Path) -> None:
    """The successor of a key for ever gets the default lifetime, that of others their own."""
    Bench(keystore).make("web")
    Bench(keystore).make("site", 3 * DAY)
    bench = Bench(keystore, Policy(require_expiry=True, default_lifetime=90 * DAY))
    for alias, length in (("web", 90 * DAY), ("site", 3 * DAY)):
        done = bench.registry.rotate(alias)
        assert done is not None
        assert done.new.expires_on == bench.end(length)


@pytest.mark.parametrize(
    ("policy", "rule"),
    [
        (Policy(max_lifetime=30 * DAY), "keys.max_lifetime"),
        (Policy(require_role=True, roles={"reader": Role()}), "has no role 'writer'"),
        (Policy(roles={}), "has no role 'reader'"),
    ],
)
def test_the_new_key_keeps_the_rules(keystore: Path, policy: Policy, rule: str) -> None:
    """A key that would break a rule today is not rotated into one that does; nothing changes."""
    Bench(keystore).make("web", 90 * DAY)
    before = keystore.read_bytes()
    bench = Bench(keystore, policy)
    with pytest.raises(wrong.PolicyBreachError, match=rule):
        bench.registry.rotate("web")
    assert keystore.read_bytes() == before


def test_a_rule_that_wants_an_expiry_or_a_role(keystore: Path) -> None:
    """Keys from before the rule are refused, until the user says what the new one shall have."""
    stock = Bench(keystore).registry
    stock.create("bare")
    bench = Bench(keystore, Policy(require_expiry=True))
    with pytest.raises(wrong.PolicyBreachError, match="require_expiry"):
        bench.registry.rotate("bare")
    assert bench.registry.rotate("bare", expires_on=bench.end(DAY)) is not None
    bench = Bench(keystore, Policy(require_role=True))
    bench.now += 30 * DAY
    with pytest.raises(wrong.PolicyBreachError, match="require_role"):
        bench.registry.rotate("bare")


def test_the_new_key_has_the_policy_s_format(keystore: Path) -> None:
    """A UUID is followed by a prefixed key where the policy asks for one."""
    Bench(keystore).make("web")
    done = Bench(keystore, Policy(format="prefixed", prefix="acme_")).registry.rotate("web")
    assert done is not None
    assert (done.new.secret.reveal() or "").startswith("acme_")


# Pending rotations


def test_a_second_rotation_while_one_is_pending(bench: Bench, keystore: Path) -> None:
    """Running the same job twice does not end the key that was just handed out."""
    bench.make("web", 90 * DAY)
    bench.registry.rotate("web", overlap=DAY)
    before = keystore.read_bytes()
    for overlap in (DAY, timedelta()):
        with pytest.raises(wrong.RotationPendingError) as caught:
            bench.registry.rotate("web", overlap=overlap)
        assert caught.value.code == "rotation-pending"
        assert caught.value.message == (
            "The API key 'web' has just been rotated: its old key works until 2030-05-07T07:08:09."
        )
        assert "apikey rotate --finish -- web" in (caught.value.hint or "")
    assert keystore.read_bytes() == before
    assert bench.commits == 2


def test_the_next_rotation_replaces_an_expired_old_key(bench: Bench) -> None:
    """Up to its last second the old key is protected; then the next rotation removes it."""
    bench.make("web", 90 * DAY)
    first = bench.registry.rotate("web", overlap=DAY)
    bench.make("later")
    bench.now += DAY - SECOND
    with pytest.raises(wrong.RotationPendingError):
        bench.registry.rotate("web")
    bench.now += SECOND
    second = bench.registry.rotate("web", overlap=2 * DAY)
    assert first is not None
    assert second is not None
    assert second.old.secret.reveal() == first.new.secret.reveal()
    assert bench.keys() == {
        "web": second.new,
        "later": bench.registry.get("later"),
        "web.prev": second.old,
    }
    bench.now += 5 * DAY
    bench.registry.rotate("web", overlap=timedelta())
    assert list(bench.keys()) == ["web", "later"], "also where no new one comes"


@pytest.mark.parametrize("overlap", [timedelta(), DAY])
def test_somebody_else_s_key_with_that_alias(bench: Bench, overlap: timedelta) -> None:
    """A key that merely is called `web.prev` is neither ended nor replaced."""
    bench.make("web")
    bench.make("web.prev", DAY)
    bench.now += 3 * DAY
    before = bench.keys()
    with pytest.raises(wrong.KeyExistsError, match=r"'web\.prev' already exists"):
        bench.registry.rotate("web", overlap=overlap)
    with pytest.raises(wrong.NotRotatedError):
        bench.registry.finish("web")
    assert bench.keys() == before
    done = bench.registry.rotate("web.prev")
    assert done is not None
    assert done.new.alias == "web.prev", "it is a key like any other"


def test_an_old_key_is_not_rotated(bench: Bench, keystore: Path) -> None:
    """What a rotation left is on its way out, also when its overlap is over."""
    bench.make("web")
    bench.registry.rotate("web", overlap=DAY)
    before = keystore.read_bytes()
    for _ in range(2):
        with pytest.raises(wrong.InvalidArgumentError, match=r"'web\.prev' is the old key of"):
            bench.registry.rotate("web.prev")
        bench.now += 9 * DAY
    assert keystore.read_bytes() == before


def test_long_aliases(bench: Bench) -> None:
    """Of 123 characters there is room for the old key's alias; beyond, only without overlap."""
    bench.make("a" * 123)
    assert bench.registry.rotate("a" * 123) is not None
    assert len(list(bench.keys())[1]) == 128
    for length in (124, 128):
        alias = "b" * length
        bench.make(alias)
        before = bench.keys()
        with pytest.raises(wrong.InvalidArgumentError, match="more than 123 characters"):
            bench.registry.rotate(alias)
        assert bench.keys() == before
        done = bench.registry.rotate(alias, overlap=timedelta())
        assert done is not None
        assert done.new.alias == alias


@pytest.mark.parametrize("value", [b"\xff", b"key__tomorrow"])
def test_an_unreadable_key(bench: Bench, keystore: Path, value: bytes) -> None:
    """What no server can read cannot go on working, so it is not rotated, due or not."""
    put(keystore, "odd", value)
    before = keystore.read_bytes()
    with pytest.raises(wrong.EntryUnreadableError) as caught:
        bench.registry.rotate_if_expiring("odd", DAY)
    assert caught.value.hint == "Revoke it, then create it again: apikey revoke -- odd"
    with pytest.raises(wrong.EntryUnreadableError):
        bench.registry.rotate("odd")
    assert keystore.read_bytes() == before


def test_an_unknown_alias(bench: Bench, tmp_path: Path) -> None:
    """Where there is no such key, or no keystore, nothing is made."""
    for change in (bench.registry.rotate, bench.registry.finish):
        with pytest.raises((wrong.KeyNotFoundError, wrong.NotRotatedError)):
            change("web")
    assert list(tmp_path.iterdir()) == []


def test_of_equal_aliases_the_last_one_is_rotated(bench: Bench, keystore: Path) -> None:
    """Where somebody wrote an alias twice, the key that counts is the one that is replaced."""
    for value in (b"first-1111", b"last-2222"):
        put(keystore, "twin", value)
    done = bench.registry.rotate("twin")
    assert done is not None
    assert done.old.secret.reveal() == "last-2222"
    assert bench.keys() == {"twin": done.new, "twin.prev": done.old}


# Only if it is due


def test_only_what_expires_soon(bench: Bench, keystore: Path) -> None:
    """Beyond the given time nothing happens, and a key for ever is never due."""
    bench.make("web", 30 * DAY)
    bench.make("ever")
    before = keystore.read_bytes()
    for alias in ("web", "ever"):
        assert bench.registry.rotate_if_expiring(alias, 30 * DAY - SECOND) is None
    assert keystore.read_bytes() == before
    assert bench.commits == 2
    assert len(bench.events) == 2
    assert bench.registry.rotate_if_expiring("web", 30 * DAY) is not None
    assert bench.registry.rotate_if_expiring("web", 14 * DAY) is None, "the same job, run again"
    bench.now += 31 * DAY
    assert bench.registry.rotate_if_expiring("web", 14 * DAY) is not None, "an expired one is due"


def test_a_short_life_is_always_due(bench: Bench) -> None:
    """Where the whole life is shorter than that time, a pending rotation still protects it."""
    bench.make("web", 7 * DAY)
    assert bench.registry.rotate_if_expiring("web", 14 * DAY) is not None
    with pytest.raises(wrong.RotationPendingError):
        bench.registry.rotate_if_expiring("web", 14 * DAY)


def test_when_a_key_is_due() -> None:
    """At the very second it is; of a key that cannot be read, nobody knows."""
    key = ApiKey("x", Secret("key"), datetime(2030, 1, 2), None)
    now = datetime(2030, 1, 1).astimezone()
    assert is_due(key, now=at(now), within=DAY)
    assert not is_due(key, now=at(now), within=DAY - SECOND)
    assert not is_due(key._replace(expires_on=None), now=at(now), within=DAY)
    assert is_due(key._replace(expires_on=None, unreadable="why"), now=at(now), within=DAY)


# The end of the overlap


def test_finish(bench: Bench) -> None:
    """The old key goes, in one write; then there is nothing more to end, and the next can come."""
    bench.make("web")
    done = bench.registry.rotate("web")
    assert done is not None
    bench.commits = 0
    assert bench.registry.finish("Web") == (done.old, done.new)
    assert bench.commits == 1
    assert bench.keys() == {"web": done.new}
    with pytest.raises(wrong.NotRotatedError, match="There is no old key of 'web' to remove"):
        bench.registry.finish("web")
    assert bench.registry.rotate("web") is not None


def test_finish_where_only_the_old_key_is_left(bench: Bench) -> None:
    """An old key that was kept when its successor was revoked can be ended, too."""
    bench.make("web")
    done = bench.registry.rotate("web")
    assert bench.registry.revoke("WEB", keep_previous=True) == (("WEB",), ())
    assert done is not None
    assert bench.registry.finish("web") == (done.old, None)
    assert bench.keys() == {}


def test_the_old_key_is_revoked_with_its_alias(bench: Bench) -> None:
    """An incident must end both, suspended or not; a key that only has such a name stays."""
    for alias in ("web", "app", "own"):
        bench.make(alias)
    bench.make("own.prev")
    bench.registry.rotate("web")
    bench.registry.rotate("app")
    bench.registry.suspend("app")
    revoked = bench.registry.revoke("WEB", "app", "own")
    assert revoked == (("WEB", "app", "own"), ("web.prev", "app.prev"))
    assert list(bench.keys()) == ["own.prev"]
    bench.make("web")
    bench.registry.rotate("web")
    assert bench.registry.revoke("web.prev", "web") == (("web.prev", "web"), ())


def test_an_expired_old_key_can_be_removed(bench: Bench) -> None:
    """After the overlap, too, `finish` cleans up."""
    bench.make("web")
    bench.registry.rotate("web", overlap=DAY)
    bench.now += 2 * DAY
    bench.registry.finish("web")
    assert list(bench.keys()) == ["web"]


def test_an_unconfirmed_rotation(keystore: Path, no_more_files: Callable[[], None]) -> None:
    """Where the disk does not confirm, the new key is not handed out; the old one goes on."""
    old = Bench(keystore).make("web")
    registry = ApiKeys(Keystore(keystore, before_commit=no_more_files))
    with pytest.raises(wrong.NotConfirmedError, match="has not confirmed it") as caught:
        registry.rotate("web")
    assert "revoke 'web', then create it again" in (caught.value.hint or "")
    assert old.secret.reveal() is not None
    assert old.secret.reveal() not in f"{caught.value} {caught.value.hint}"


# Beside Java


def test_a_stock_server_during_and_after_the_overlap(
    stock: Stock, registry: ApiKeys, keystore: Path
) -> None:
    """Both keys are accepted during the overlap; then the old one is refused."""
    old = registry.create("web", expires_on=to_local(datetime.now(UTC) + DAY, HERE))
    done = registry.rotate("web", overlap=2 * SECOND)
    assert done is not None
    assert stock.ask("find", keystore, done.new.secret.reveal() or "") == ["accepted web"]
    assert stock.ask("find", keystore, old.secret.reveal() or "") == ["accepted web.prev"]
    end = done.old.expires_on
    assert end is not None
    time.sleep(max(0, (end - datetime.now()).total_seconds()) + 0.01)
    assert stock.ask("find", keystore, done.new.secret.reveal() or "") == ["accepted web"]
    assert stock.ask("find", keystore, old.secret.reveal() or "") == ["expired web.prev"]
    registry.finish("web")
    assert stock.ask("find", keystore, old.secret.reveal() or "") == ["unknown"]


@pytest.mark.parametrize("expiry", [None, "2999-12-31T23:59:59"])
def test_a_key_of_the_stock_tool(
    stock: Stock, registry: ApiKeys, keystore: Path, expiry: str | None
) -> None:
    """What Java made is rotated like any other key, and Java accepts both."""
    keystore.parent.mkdir()
    stock.ask("new", keystore)
    stock.ask("create", keystore, "Theirs", "their-key", *([expiry] if expiry else []))
    done = registry.rotate("theirs")
    assert done is not None
    assert (done.new.expires_on is None) == (expiry is None)
    if expiry is not None:
        assert done.new.expires_on is not None
        assert abs(done.new.expires_on - datetime.fromisoformat(expiry)) < timedelta(minutes=1)
    assert stock.ask("find", keystore, "their-key") == ["accepted theirs.prev"]
    assert stock.ask("find", keystore, done.new.secret.reveal() or "") == ["accepted theirs"]


def test_java_rewrites_the_file_in_the_middle(
    stock: Stock, registry: ApiKeys, keystore: Path
) -> None:
    """Its own creation of a key keeps what `--finish` needs, and the new key's fields."""
    registry.create("web", **fields(FULL))
    done = registry.rotate("web")
    stock.ask("create", keystore, "theirs", "their-key")
    assert done is not None
    assert registry.get("web") == done.new
    assert registry.get("web.prev") == done.old
    with pytest.raises(wrong.RotationPendingError):
        registry.rotate("web")
    assert registry.finish("web") == (done.old, done.new)
    assert registry.aliases() == ("web", "theirs")


def test_many_rotations_hide_nothing_from_java(stock: Stock, bench: Bench, keystore: Path) -> None:
    """After several rotations Java still reads every entry, each where it was."""
    for alias in ("a", "b", "c"):
        bench.make(alias, 2 * DAY)
    for _ in range(3):
        for alias in ("a", "b", "c"):
            assert bench.registry.rotate(alias, overlap=DAY) is not None
        bench.now += DAY
    rows = stock.rows("apikeys", keystore)
    assert [row[0] for row in rows] == ["a", "b", "c", "a.prev", "b.prev", "c.prev"]
    assert [row[1] for row in rows] == [key.masked for key in bench.registry.list()]
