"""Which keys the filters mean, and what is known of a key's use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clock import HERE, at
from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.expiry import to_local
from metricshub_apikey.keys.fingerprint import fingerprint
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.keys.selection import Selection, Usage
from metricshub_apikey.secret import UNREADABLE, Secret

NOW = datetime(2030, 5, 6, 7, 8, 9, tzinfo=UTC)
LOCAL = to_local(NOW, HERE)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
FOREVER = timedelta.max


def key(alias: str, *, age: timedelta | None = 100 * DAY, **fields: object) -> ApiKey:
    """Return a key whose secret is its alias; it was made *age* ago."""
    expires_on = fields.pop("expires_on", None)
    assert expires_on is None or isinstance(expires_on, datetime)
    created_ms = None if age is None else int((NOW - age).timestamp() * 1000)
    metadata = Metadata()._replace(**fields)  # type: ignore[arg-type]
    return ApiKey(alias, Secret(alias), expires_on, created_ms, None, metadata)


STOCK = key("stock")
DEAD = key("dead", expires_on=LOCAL)
SOON = key("soon", expires_on=LOCAL + DAY, roles=("a", "b"), created_by="ann@here")
LATE = key("late", expires_on=LOCAL + 100 * DAY, roles=("b",), created_by="bob@here")
LABELLED = key("labelled", labels=(("env", "production"), ("team", "")), created_by="ann@there")
BROKEN = ApiKey("bad", UNREADABLE, None, 0, "it is not UTF-8", Metadata(roles=("a",)))
ALL = (STOCK, DEAD, SOON, LATE, LABELLED, BROKEN)

NOBODY_RECORDS = Usage()


def chosen(selection: Selection, usage: Usage = NOBODY_RECORDS) -> list[str]:
    """Return the aliases of those that are selected."""
    return [one.alias for one in selection.select(ALL, now=at(NOW), usage=usage)]


@pytest.mark.parametrize(
    ("selection", "aliases"),
    [
        (Selection(), ["stock", "dead", "soon", "late", "labelled", "bad"]),
        (Selection(expired=True), ["dead"]),
        (Selection(expiring_in=DAY), ["soon"]),
        (Selection(expiring_in=DAY - SECOND), []),
        (Selection(expiring_in=timedelta()), []),
        (Selection(expiring_in=FOREVER), ["soon", "late"]),
        (Selection(expired=True, expiring_in=DAY), ["dead", "soon"]),
        (Selection(roles=("b",)), ["soon", "late"]),
        (Selection(roles=("b", "a")), ["soon"]),
        (Selection(roles=("B",)), []),
        (Selection(labels=("env=production",)), ["labelled"]),
        (Selection(labels=("env",)), ["labelled"]),
        (Selection(labels=("env=",)), []),
        (Selection(labels=("team=", "env")), ["labelled"]),
        (Selection(labels=("env", "owner")), []),
        (Selection(created_by="ann"), ["soon", "labelled"]),
        (Selection(created_by="ann@here"), ["soon"]),
        (Selection(created_by="here"), []),
        (Selection(created_by="an"), []),
        (Selection(expiring_in=FOREVER, roles=("b",), created_by="bob"), ["late"]),
        (Selection(expired=True, roles=("b",)), []),
    ],
)
def test_each_filter(selection: Selection, aliases: list[str]) -> None:
    """A key must pass every filter; those of stock tools pass where nothing is asked of them."""
    assert chosen(selection) == aliases


def test_keys_without_a_maker_are_nobody_s() -> None:
    """An empty name selects what nobody is known to have made."""
    assert chosen(Selection(created_by="")) == ["stock", "dead", "bad"]


def test_unused_keys() -> None:
    """A key is unused if its last use is older, or if there is none though others were recorded."""
    uses = {fingerprint("stock"): NOW - 10 * DAY, fingerprint("soon"): NOW - DAY}
    usage = Usage(uses, since=NOW - 50 * DAY)
    unused = ["stock", "dead", "late", "labelled", "bad"]
    assert chosen(Selection(unused_for=5 * DAY), usage) == unused
    assert chosen(Selection(unused_for=60 * DAY), usage) == []
    assert chosen(Selection(unused_for=DAY - SECOND), usage)[2] == "soon"
    assert chosen(Selection(unused_for=5 * DAY)) == [], "nobody records, so nobody knows"
    assert chosen(Selection(unused_for=FOREVER), usage) == []


@pytest.mark.parametrize(
    ("age", "since", "unused"),
    [
        (20 * DAY, 30 * DAY, True),
        (5 * DAY, 30 * DAY, False),
        (10 * DAY, 30 * DAY, True),
        (20 * DAY, 5 * DAY, None),
        (20 * DAY, None, None),
        (None, 30 * DAY, True),
        (None, 5 * DAY, None),
    ],
)
def test_a_key_without_a_recorded_use(
    age: timedelta | None, since: timedelta | None, *, unused: bool | None
) -> None:
    """A young key is not unused; of an older one that is known only if uses were recorded."""
    usage = Usage({}, None if since is None else NOW - since)
    assert usage.unused(key("x", age=age), since=NOW - 10 * DAY) is unused


def test_the_last_use() -> None:
    """It is found by the key's fingerprint; an entry that cannot be read has none."""
    usage = Usage({fingerprint("stock"): NOW})
    assert [usage.of(one) for one in ALL] == [NOW, None, None, None, None, None]


@pytest.mark.parametrize("label", ["", "=", "=production"])
def test_a_label_filter_has_a_name(label: str) -> None:
    """What no label could match is wrong usage, not an empty list."""
    with pytest.raises(InvalidArgumentError, match="is not a label"):
        Selection(labels=(label,)).check()


@settings(max_examples=50)
@given(st.timedeltas(min_value=timedelta()), st.timedeltas(min_value=timedelta()))
def test_no_length_overflows(ahead: timedelta, ago: timedelta) -> None:
    """However long a length is, it ends with the calendar."""
    usage = Usage({}, NOW - 50 * DAY)
    assert set(chosen(Selection(expiring_in=ahead), usage)) <= {"soon", "late"}
    assert set(chosen(Selection(unused_for=ago), usage)) <= {one.alias for one in ALL}
