"""A secret: what cannot show it, and what it is equal to."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keystore.keystore import STOCK_PASSWORDS
from metricshub_apikey.policy.state import parse
from metricshub_apikey.secret import MASK, UNREADABLE, Secret

TOKEN = "3f2b1c4d-8e5f-4a2b-bc15-0ba0f60b15f3"


@dataclasses.dataclass
class Holder:
    """A record of somebody else's program."""

    secret: Secret


def test_only_reveal_shows_it() -> None:
    """The text comes back from `reveal`, and from nothing else."""
    assert Secret(TOKEN).reveal() == TOKEN


@pytest.mark.parametrize(
    "held",
    [
        ApiKey("ci", Secret(TOKEN), None, 0),
        parse(f"redis://:{TOKEN}@cache.example"),
        Holder(Secret(TOKEN)),
        Secret(TOKEN),
    ],
    ids=["key", "address", "dataclass", "itself"],
)
def test_no_way_of_printing_shows_it(held: object, caplog: pytest.LogCaptureFixture) -> None:
    """Formatting, JSON, logging, unpacking, copies and tracebacks show the mask."""
    parts = list(held) if isinstance(held, tuple) else [held]
    logging.getLogger("test").warning("%s %r", held, parts)
    try:
        raise ValueError(held, *parts)
    except ValueError as error:
        trace = "".join(traceback.format_exception(error))
    whole = dataclasses.asdict(held) if isinstance(held, Holder) else copy.deepcopy(held)
    seen = [f"{held} {held!r} {parts}", json.dumps(held, default=str), caplog.text, trace]
    assert not [text for text in [*seen, repr(whole), str(vars)] if TOKEN[:8] in text]


@pytest.mark.parametrize("held", [STOCK_PASSWORDS, STOCK_PASSWORDS.store])
def test_passwords_are_not_shown_either(held: object) -> None:
    """The two passwords of a keystore are secrets, too."""
    shown = f"{held} {held!r} {json.dumps(held, default=str)}"
    assert "Matrix" not in shown


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_cannot_be_pickled(protocol: int) -> None:
    """No pickle can hold it."""
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Secret(TOKEN), protocol)


@given(st.text(), st.text())
def test_it_is_equal_as_its_text_is(one: str, other: str) -> None:
    """Two secrets are equal, and have one hash, if their texts are the same."""
    assert (Secret(one) == Secret(other)) == (one == other)
    assert hash(Secret(one)) == hash(Secret(one))
    assert bool(Secret(one)) == bool(one)


def test_a_secret_that_could_not_be_read() -> None:
    """It is equal to itself alone, is nothing, and has nothing to reveal."""
    assert copy.copy(UNREADABLE) == UNREADABLE
    assert Secret(None) not in (UNREADABLE, Secret(""), "")
    assert not UNREADABLE
    assert UNREADABLE.masked == MASK
    with pytest.raises(LookupError):
        UNREADABLE.reveal()
