"""When keys were last used: remembered by the minute, written down, and read again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import examples
from metricshub_apikey import ApiKeys
from metricshub_apikey.activity.database import ActivityLog, path_beside
from metricshub_apikey.errors import ActivityError
from metricshub_apikey.gateway.credential import Credential
from metricshub_apikey.gateway.usage import MINUTE, Uses
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.fingerprint import fingerprint
from metricshub_apikey.keys.selection import Usage
from metricshub_apikey.policy.rules import STOCK
from metricshub_apikey.secret import Secret

NOON = 1_800_000_000 // MINUTE * MINUTE
"""A full minute."""


def credential(alias: str) -> Credential:
    """Return a key whose secret is its alias, too."""
    return Credential(ApiKey(alias, Secret(alias), None, None), alias.encode(), STOCK)


def at(seconds: float) -> datetime:
    """Return an instant as records hold it."""
    return datetime.fromtimestamp(seconds, UTC)


def test_uses_are_known_by_the_minute() -> None:
    """All uses within a minute are one, at its start."""
    ci = credential("ci")
    uses = Uses()
    for seconds in (0.0, 0.1, 30.0, 59.999):
        uses.note(ci, NOON + seconds)
    assert uses.take() == {ci.fingerprint: ("ci", at(NOON))}
    assert uses.take() == {}, "that minute is written down"
    uses.note(ci, NOON + 60)
    assert uses.take() == {ci.fingerprint: ("ci", at(NOON + 60))}


def test_the_last_use_counts_and_keys_do_not_mix() -> None:
    """Of each key the last minute waits, whatever other keys do."""
    ci, web = credential("ci"), credential("web")
    uses = Uses()
    for seconds in (0, 60, 120):
        uses.note(ci, NOON + seconds)
    uses.note(web, NOON + 60)
    assert uses.take() == {
        ci.fingerprint: ("ci", at(NOON + 120)),
        web.fingerprint: ("web", at(NOON + 60)),
    }


def test_a_record_that_fails_loses_nothing() -> None:
    """What could not be written waits for the next time, and never replaces a later use."""
    ci, web = credential("ci"), credential("web")
    uses = Uses()
    uses.note(ci, NOON)
    uses.note(web, NOON)
    failed = uses.take()
    uses.note(ci, NOON + 60)
    uses.give_back(failed)
    assert uses.take() == {
        ci.fingerprint: ("ci", at(NOON + 60)),
        web.fingerprint: ("web", at(NOON)),
    }
    assert uses.take() == {}


@examples(50)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["ci", "web"]), st.integers(0, 200)),
            st.sampled_from(["written", "failed"]),
        ),
        max_size=30,
    )
)
def test_whatever_fails_the_record_ends_up_right(steps: list[tuple[str, int] | str]) -> None:
    """After any mixture of uses, writes and failures, the last use of each key is written."""
    uses, now = Uses(), float(NOON)
    known = {alias: credential(alias) for alias in ("ci", "web")}
    expected: dict[str, datetime] = {}
    written: dict[str, datetime] = {}
    for step in [*steps, "written"]:
        if isinstance(step, tuple):
            now += step[1]
            uses.note(known[step[0]], now)
            expected[known[step[0]].fingerprint] = at(now // MINUTE * MINUTE)
            continue
        taken = uses.take()
        if step == "failed":
            uses.give_back(taken)
        else:
            written.update({key: moment for key, (_, moment) in taken.items()})
    assert written == expected


def test_a_real_record_has_the_first_and_the_last_use(registry: ApiKeys, keystore: Path) -> None:
    """What the gateway writes down is what `list --long` and `check` read."""
    key = registry.create("ci")
    assert key.secret.reveal() is not None
    used = Credential(key, key.secret.reveal().encode(), STOCK)
    assert used.fingerprint == fingerprint(key.secret.reveal())
    record = ActivityLog(path_beside(str(keystore)))
    uses = Uses()
    for minute in (0, 5, 3):  # the last one was kept after a failure
        uses.note(used, NOON + 60 * minute + 7)
        record.record_uses(uses.take())
    usage = Usage(record.last_uses(), record.recording_since())
    assert usage == Usage({used.fingerprint: at(NOON + 300)}, at(NOON))


def test_a_record_that_cannot_be_written(keystore: Path) -> None:
    """A failing database is an error that the service can catch, and the uses stay."""
    keystore.parent.mkdir()
    path = path_beside(str(keystore))
    Path(path).mkdir()
    ci = credential("ci")
    uses = Uses()
    uses.note(ci, NOON)
    taken = uses.take()
    with pytest.raises(ActivityError):
        ActivityLog(path).record_uses(taken)
    uses.give_back(taken)
    Path(path).rmdir()
    ActivityLog(path).record_uses(uses.take())
    assert ActivityLog(path).last_uses() == {ci.fingerprint: at(NOON)}
