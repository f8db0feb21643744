"""The journal: everything that a registry does is told to whoever keeps the record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fields import fields
from metricshub_apikey import ApiKeys
from metricshub_apikey.activity.database import ActivityLog, Event
from metricshub_apikey.activity.journal import UNKNOWN, Journal
from metricshub_apikey.errors import KeyNotFoundError
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.fingerprint import fingerprint
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.registry.manifest import Wanted
from metricshub_apikey.secret import UNREADABLE, Secret

NOW = datetime(2027, 6, 15, 12, tzinfo=UTC)
KEY = ApiKey("ci", Secret("the-key"), None, 0)


@pytest.fixture
def events() -> list[Event]:
    """Return the list that the test's journal writes to."""
    return []


@pytest.fixture
def recorded(keystore: Path, events: list[Event]) -> ApiKeys:
    """Return the test's API keys, whose journal writes to `events`."""
    journal = Journal("me@here", events.extend)
    return ApiKeys(Keystore(keystore), clock=lambda: NOW, journal=journal)


def told(events: Sequence[Event]) -> list[tuple[str, str, str | None]]:
    """Return what was done to which key, and the details."""
    return [(event.action, event.alias, event.details) for event in events]


def test_an_event_for_each_key(events: list[Event]) -> None:
    """Who, when, what and which key, which is known by its fingerprint only."""
    Journal("me@here", events.extend).write(
        "revoke", [KEY, KEY._replace(secret=UNREADABLE)], NOW, "why"
    )
    known = Event(NOW, "me@here", "revoke", "ci", fingerprint("the-key"), "why")
    assert events == [known, known._replace(fingerprint=None)]
    assert "the-key" not in repr(events)


@pytest.mark.parametrize("actor", [None, "", lambda: ""])
def test_nobody_knows_who(events: list[Event], actor: str | Callable[[], str] | None) -> None:
    """An actor that nobody knows has a word of its own."""
    Journal(actor, events.extend).write("create", [KEY], NOW)
    assert [event.actor for event in events] == [UNKNOWN]


def test_who_it_is_is_found_out_once_and_late(events: list[Event]) -> None:
    """A directory service is asked once, and only if something happens."""
    asked = []

    def ask() -> str:
        asked.append(1)
        return "me@here"

    journal = Journal(ask, events.extend)
    journal.write("create", [], NOW)
    assert asked == []
    journal.write("create", [KEY, KEY], NOW)
    journal.write("revoke", [KEY], NOW)
    assert (len(asked), {event.actor for event in events}) == (1, {"me@here"})


def test_nothing_happened(events: list[Event]) -> None:
    """Without a key the record is left alone."""

    def record(_events: Sequence[Event]) -> None:
        pytest.fail("there is nothing to record")

    Journal("me@here", record).write("revoke", [], NOW)
    assert events == []


def test_by_default_nothing_is_recorded() -> None:
    """A journal of nobody's is harmless."""
    Journal().write("create", [KEY], NOW)


def test_everything_a_registry_does(recorded: ApiKeys, events: list[Event]) -> None:
    """Each action is told once, after it is done, with what else there is to say."""
    first = recorded.create("CI", **fields(Metadata(roles=("a", "b"))))
    recorded.create("web")
    recorded.edit("ci", remove_roles=("a", "b"), description="x")
    done = recorded.rotate("ci")
    recorded.finish("ci")
    recorded.revoke("WEB", "web")
    recorded.remove(recorded.list(), "prune")
    assert done is not None
    assert told(events) == [
        ("create", "ci", "roles: a, b"),
        ("create", "web", None),
        ("edit", "ci", "roles, description"),
        ("rotate", events[3].alias, events[3].details),
        ("finish", events[4].alias, events[4].details),
        ("revoke", "web", None),
        ("prune", "ci", None),
    ]
    assert (events[3].details or "").startswith("old key works until ")
    keys = [first, first, first, first, done.new]
    owners = [events[0], events[2], events[3], events[4], events[6]]
    assert [event.fingerprint for event in owners] == [
        fingerprint(key.secret.reveal() or "") for key in keys
    ]
    assert {(event.actor, event.at) for event in events} == {("me@here", NOW)}


def test_what_did_not_happen_is_not_told(recorded: ApiKeys, events: list[Event]) -> None:
    """A change that changes nothing, or fails, leaves no trace."""
    recorded.create("ci")
    recorded.edit("ci")
    recorded.rotate_if_expiring("ci", timedelta(days=1))
    recorded.remove([KEY], "prune")
    with pytest.raises(KeyNotFoundError):
        recorded.revoke("ci", "nobody")
    assert told(events) == [("create", "ci", None)]


def test_a_list_that_is_applied(recorded: ApiKeys, events: list[Event]) -> None:
    """Each key that a list creates, changes or removes is told; those it leaves are not."""
    for alias in ("old", "same", "web"):
        recorded.create(alias)
    events.clear()
    wanted = [Wanted("new"), Wanted("web", metadata={"roles": ("r",)}), Wanted("same")]
    recorded.apply(wanted, prune=True, deliver=lambda _keys: None)
    assert [(event.action, event.alias) for event in events] == [
        ("create", "new"),
        ("edit", "web"),
        ("revoke", "old"),
    ]
    assert {event.details for event in events} == {"applied from a list"}
    events.clear()
    recorded.apply(wanted, prune=True, deliver=lambda _keys: None)
    assert events == []


def test_into_the_database(keystore: Path, tmp_path: Path) -> None:
    """What the journal tells is what the activity database returns."""
    log = ActivityLog(str(tmp_path / "activity.db"))
    registry = ApiKeys(Keystore(keystore), journal=Journal("me@here", log.record))
    key = registry.create("ci")
    registry.revoke("ci")
    assert told(log.history(fingerprint(key.secret.reveal() or ""))) == [
        ("create", "ci", None),
        ("revoke", "ci", None),
    ]
