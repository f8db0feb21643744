"""Counting the requests of each key in one process, and the headers that tell clients of it."""

from __future__ import annotations

import asyncio
import re

from hypothesis import given
from hypothesis import strategies as st

from builders import examples
from metricshub_apikey.gateway.limiter import MemoryLimiter
from metricshub_apikey.policy.rules import RateLimit

STOCK = RateLimit()
SMALL = RateLimit(requests_per_minute=3, burst_per_second=2)
MINUTE = 60.0


class Hand:
    """A clock that somebody moves by hand."""

    def __init__(self) -> None:
        """Start some time after the machine did."""
        self.now = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Counter:
    """A limiter, asked without an event loop's ado."""

    def __init__(self) -> None:
        """Count by a clock that stands still."""
        self.clock = Hand()
        self.limiter = MemoryLimiter(self.clock)

    def take(self, key: str, limit: RateLimit = SMALL) -> tuple[bool, dict[str, str]]:
        """Ask whether a request of *key* may pass; return the headers by their names, too."""
        passes, headers = asyncio.run(self.limiter.take(key, limit))
        assert len(dict(headers)) == len(headers), "no header comes twice"
        return passes, {name.decode(): value.decode() for name, value in headers}

    def passes(self, key: str, limit: RateLimit = SMALL) -> bool:
        """Ask whether a request of *key* may pass."""
        return self.take(key, limit)[0]


def test_the_headers_of_an_accepted_request() -> None:
    """They are those of the IETF draft and the older ones, and say what is left."""
    counter = Counter()
    assert counter.take("a", STOCK) == (
        True,
        {
            "ratelimit-policy": '"minute";q=1000;w=60,"second";q=100;w=1',
            "ratelimit": '"minute";r=999;t=60',
            "x-ratelimit-limit": "1000",
            "x-ratelimit-remaining": "999",
            "x-ratelimit-reset": "60",
        },
    )
    counter.clock.now += 17.5
    assert counter.take("a", STOCK)[1]["ratelimit"] == '"minute";r=998;t=43'


def test_the_headers_of_a_refusal() -> None:
    """A refusal says what is left of the minute, and when to come again."""
    counter = Counter()
    assert [counter.passes("a") for _ in range(2)] == [True, True]
    counter.clock.now += 0.25
    passes, headers = counter.take("a")
    assert (passes, headers["retry-after"], headers["ratelimit"]) == (
        False,
        "1",
        '"minute";r=1;t=1',
    )
    counter.clock.now += 1.25
    assert counter.passes("a")
    passes, headers = counter.take("a")
    assert not passes
    assert headers["retry-after"] == headers["x-ratelimit-reset"] == "59"
    assert headers["x-ratelimit-remaining"] == "0"


def test_each_key_by_itself() -> None:
    """One key that is over its limit takes nothing from another."""
    counter = Counter()
    assert [counter.passes("a") for _ in range(3)] == [True, True, False]
    assert [counter.passes("b") for _ in range(3)] == [True, True, False]


def test_a_new_limit_is_in_force_at_once() -> None:
    """A limit that changes counts what was before, and so does the same limit read anew."""
    counter = Counter()
    assert [counter.passes("a", RateLimit(100, 100)) for _ in range(50)] == [True] * 50
    counter.clock.now += 2
    assert not counter.passes("a", RateLimit(50, 50))
    assert counter.take("a", RateLimit(51, 50))[1]["ratelimit"] == '"minute";r=0;t=58'
    assert not counter.passes("a", RateLimit(51, 50)), "an equal limit is the same one"


def test_what_others_accepted_counts() -> None:
    """Requests that a server has accepted leave less for when it does not answer."""
    counter = Counter()
    for _ in range(3):
        counter.limiter.count("a", SMALL)
        counter.clock.now += 1.5
    assert not counter.passes("a")
    for _ in range(100):
        counter.limiter.count("a", SMALL)
    counter.clock.now += 59
    assert not counter.passes("a")
    counter.clock.now += 1.5
    assert counter.passes("a")


def test_asking_whether_a_key_is_full_counts_nothing() -> None:
    """A key is full when its minute is used up, not when it is in a burst."""
    counter = Counter()
    full = [counter.limiter.is_full("a", SMALL) for _ in range(5)]
    assert [counter.passes("a"), counter.passes("a"), counter.passes("a")] == [True, True, False]
    assert [*full, counter.limiter.is_full("a", SMALL)] == [False] * 6
    counter.clock.now += 2
    assert counter.passes("a")
    assert counter.limiter.is_full("a", SMALL)
    counter.clock.now += 58.5
    assert not counter.limiter.is_full("a", SMALL)


def test_keeping_forgets_no_request_that_counts() -> None:
    """Keys that are gone and keys at rest are forgotten; one that is at its limit stays there."""
    counter = Counter()
    assert counter.passes("idle")
    counter.clock.now += 50
    assert counter.passes("gone")
    assert [counter.passes("busy") for _ in range(3)] == [True, True, False]
    counter.clock.now += 10.5
    counter.limiter.keep({"idle", "busy"})
    assert set(counter.limiter._windows) == {"busy"}
    assert [counter.passes("busy"), counter.passes("busy")] == [True, False]


@examples(50)
@given(
    st.builds(RateLimit, st.integers(1, 8), st.integers(1, 8)),
    st.lists(st.integers(0, 64 * 25), max_size=25),
)
def test_the_headers_are_true(limit: RateLimit, gaps: list[int]) -> None:
    """Whatever happened, exactly as many requests as a header says pass before the reset."""
    counter = Counter()
    headers: dict[str, str] = {}
    for gap in [*gaps, 0]:
        counter.clock.now += gap / 64
        headers = counter.take("a", limit)[1]
    found = re.fullmatch(r'"minute";r=(\d+);t=(\d+)', headers["ratelimit"])
    assert found is not None
    remaining, reset = map(int, found.groups())
    assert f"{remaining} {reset}" == (
        f"{headers['x-ratelimit-remaining']} {headers['x-ratelimit-reset']}"
    )
    assert 0 <= remaining < limit.requests_per_minute
    assert 1 <= reset <= 61
    window = counter.limiter._windows["a"]
    assert window.remaining(counter.clock.now)[0] == remaining
    if "retry-after" in headers:
        counter.clock.now += int(headers["retry-after"])
        assert counter.passes("a", limit)
