"""The exact limit of one key, against a model that counts everything, and against `limits`."""

from __future__ import annotations

import sys
import tracemalloc
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from types import SimpleNamespace

import limits.storage.memory
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from limits import RateLimitItem, RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from builders import examples
from metricshub_apikey.policy.rules import RateLimit
from metricshub_apikey.policy.window import FIRST_SIZE, Window

STOCK = RateLimit()
TICK = 1 / 64
INSTANT = 1 / (1 << 20)
"""Both are exact in binary, so that nothing here is a matter of rounding."""

LIMITS = st.builds(RateLimit, st.integers(1, 12), st.integers(1, 12))
GAPS = st.lists(
    st.one_of(
        st.just(0),
        st.integers(0, 6),
        st.integers(0, 64 * 3),
        st.sampled_from([63, 64, 65, 64 * 59, 64 * 60 - 1, 64 * 60, 64 * 60 + 1, 64 * 200]),
    ),
    max_size=60,
)
"""Times between requests, in ticks: bursts, pauses, and the borders of both windows."""

LARGE = st.builds(RateLimit, st.integers(FIRST_SIZE - 2, 5 * FIRST_SIZE), st.integers(1, 700))


class Model:
    """All accepted requests, counted anew for every question."""

    def __init__(self, limit: RateLimit) -> None:
        """Start with none."""
        self.limit = limit
        self.accepted: list[float] = []

    def within(self, seconds: float, now: float) -> int:
        """Return how many were accepted in the last *seconds*, both borders included."""
        return len(self.accepted) - bisect_left(self.accepted, now - seconds)

    def passes(self, now: float) -> bool:
        """Return whether one more may pass."""
        minute, second = self.limit
        return self.within(60, now) < minute and self.within(1, now) < second

    def take(self, now: float) -> bool:
        """Accept a request and remember it, if it may pass."""
        passes = self.passes(now)
        if passes:
            self.accepted.append(now)
        return passes


def times(gaps: list[int]) -> list[float]:
    """Return the times of requests, from the ticks between them; the clock started long ago."""
    moments, now = [], 1_000_000.0
    for gap in gaps:
        now += gap * TICK
        moments.append(now)
    return moments


def filled(limit: RateLimit, now: float = 0.0) -> Window:
    """Return a window whose minute is used up, evenly, and the last of it at *now*."""
    window = Window(limit)
    for number in range(limit.requests_per_minute):
        assert window.take(now - 30 + 30 * (number + 1) / limit.requests_per_minute)
    return window


@examples(100)
@given(LIMITS, GAPS)
@example(RateLimit(2, 2), [0, 0, 64 * 60, 1, 0])
@example(RateLimit(5, 2), [0, 0, 64, 1, 0])
def test_a_window_is_exact(limit: RateLimit, gaps: list[int]) -> None:
    """Each request passes or not as a count of all requests before it says."""
    window, model = Window(limit), Model(limit)
    for now in times(gaps):
        assert window.take(now) is model.take(now), now
        assert window.remaining(now)[0] == limit.requests_per_minute - model.within(60, now)


@examples(40)
@given(
    LARGE, st.lists(st.tuples(st.sampled_from([0, 1, 5, 40, 64]), st.integers(1, 400)), max_size=4)
)
@example(RateLimit(300, 300), [(64, 100), (1, 300)])
def test_a_growing_window_is_exact(limit: RateLimit, phases: list[tuple[int, int]]) -> None:
    """A ring that starts smaller than the quota forgets nothing when it grows, and turns."""
    window, model, now = Window(limit), Model(limit), 0.0
    for now in times([gap for gap, count in phases for _ in range(count)]):
        assert window.take(now) is model.take(now), now
    assert window.remaining(now)[0] == limit.requests_per_minute - model.within(60, now)


@examples(30)
@given(LIMITS, GAPS)
def test_like_the_moving_window_of_limits(limit: RateLimit, gaps: list[int]) -> None:
    """Another implementation of moving windows decides the same."""
    clock = SimpleNamespace(now=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits.storage.memory, "time", SimpleNamespace(time=lambda: clock.now))
        storage = MemoryStorage()
        strategy = MovingWindowRateLimiter(storage)
        minute, second = limit
        quotas: list[RateLimitItem] = [
            RateLimitItemPerMinute(minute),
            RateLimitItemPerSecond(second),
        ]
        window = Window(limit)
        for number, moment in enumerate(times(gaps)):
            # Its cleaner and its counter differ about what is exactly a window old.
            clock.now = moment + number * INSTANT
            expected = all(strategy.test(quota) for quota in quotas)
            assert window.take(clock.now) is expected, number
            if expected:
                assert [strategy.hit(quota) for quota in quotas] == [True, True]
        storage.timer.join()


@examples(100)
@given(LIMITS, GAPS)
@example(RateLimit(1, 1), [0])
@example(RateLimit(3, 1), [0, 64])
@example(RateLimit(3, 3), [0, 0, 0])
def test_whoever_waits_as_told_passes(limit: RateLimit, gaps: list[int]) -> None:
    """After exactly as many seconds as a refusal says one request passes, and it says enough."""
    window, model = Window(limit), Model(limit)
    now = 0.0
    for now in times(gaps):
        if not window.take(now):
            break
        model.take(now)
    else:
        return
    wait = window.retry_after(now)
    assert 1 <= wait <= 61
    assert wait == 1 or not model.passes(now + wait - 1 - INSTANT), "it could be sooner"
    assert window.take(now + wait)


@examples(50)
@given(LIMITS, GAPS)
def test_the_reset_is_when_one_more_is_left(limit: RateLimit, gaps: list[int]) -> None:
    """What remains of the minute grows within the seconds that are told, not a second before."""
    window, model = Window(limit), Model(limit)
    for now in times(gaps):
        model.accepted += [now] if window.take(now) else []
    now = times([*gaps, 7])[-1]
    used = model.within(60, now)
    remaining, reset = window.remaining(now)
    assert remaining == limit.requests_per_minute - used
    if not used:
        assert reset == 0
        return
    assert model.within(60, now + reset + INSTANT) < used
    assert model.within(60, now + reset - 1) == used


@examples(60)
@given(st.one_of(LIMITS, LARGE), GAPS, st.one_of(LIMITS, LARGE), GAPS)
def test_another_limit_counts_what_was_before(
    old: RateLimit, before: list[int], new: RateLimit, after: list[int]
) -> None:
    """When the limit changes, up or down, the requests so far count under the new one."""
    moments = times([*before, *after])
    model = Model(old)
    window = Window(old)
    for number, now in enumerate(moments):
        if number == len(before):
            window = window.resized(new, now)
            model.limit = new
        assert window.take(now) is model.take(now)
        used = model.within(60, now)
        assert window.remaining(now)[0] == max(0, model.limit.requests_per_minute - used)


def test_a_smaller_limit_holds_at_once() -> None:
    """A key that has used up much has nothing left when its limit is cut."""
    window = filled(RateLimit(1000, 1000)).resized(RateLimit(20, 5), 0.0)
    assert [window.take(at) for at in (0.5, 2.0, 30.0)] == [False] * 3
    assert window.remaining(2.0)[0] == 0
    assert [window.take(at) for at in (60.5, 60.5)] == [True, True]


def test_the_stock_limits_to_the_request() -> None:
    """1,000 in any minute and 100 in any second, also across the borders of clock minutes."""
    window = Window(STOCK)
    accepted = [at for at in (tick / 512 for tick in range(512 * 135)) if window.take(at)]
    for at in accepted:
        assert bisect_right(accepted, at + 60) - bisect_left(accepted, at) <= 1000
        assert bisect_right(accepted, at + 1) - bisect_left(accepted, at) <= 100
    assert len(accepted) == 3000, "all that is allowed did pass"


def test_refused_requests_do_not_count() -> None:
    """Whoever keeps asking is let through as early as whoever waits."""
    patient, stubborn = filled(RateLimit(10, 10)), filled(RateLimit(10, 10))
    refused = [stubborn.take(tick / 64) for tick in range(64 * 33)]
    assert not any(refused)
    assert [stubborn.take(33.1), patient.take(33.1)] == [True, True]


def test_a_burst_is_never_larger_than_the_minute() -> None:
    """A quota for the second that is above the one for the minute does no harm."""
    window = Window(RateLimit(2, 100))
    assert [window.take(at) for at in (0.0, 0.0, 0.0, 5.0)] == [True, True, False, False]
    assert window.take(60.5)


def test_a_window_starts_small_and_ends_at_eight_bytes_a_request() -> None:
    """A key that was used once takes 1 KB, one that uses all of its quota 8 KB."""
    assert peak(lambda: [Window(STOCK) for _ in range(100)]) < 100 * 1_400
    assert peak(lambda: [filled(STOCK) for _ in range(10)]) < 10 * 8_800
    assert sys.getsizeof(filled(STOCK)._ring) < 8_200
    assert sys.getsizeof(filled(RateLimit(100_000, 100_000))._ring) < 801_000


def peak(make: Callable[[], object]) -> int:
    """Return how many bytes are held by what *make* returns."""
    tracemalloc.start()
    try:
        made = make()
        held, _ = tracemalloc.get_traced_memory()
        del made
    finally:
        tracemalloc.stop()
    return held
