"""The limits of several gateways together, on real Redis servers that hang, die and change."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
import redis as package
from hypothesis import example, given
from hypothesis import strategies as st

from builders import examples
from metricshub_apikey import ApiKeys
from metricshub_apikey.errors import ActivityError
from metricshub_apikey.gateway.decision import StateError
from metricshub_apikey.gateway.limiter import MemoryLimiter
from metricshub_apikey.gateway.redis import client as redis_client
from metricshub_apikey.gateway.redis import limiter as redis_limiter
from metricshub_apikey.gateway.redis.limiter import TAKE, RedisLimiter
from metricshub_apikey.gateway.redis.record import RedisRecord
from metricshub_apikey.http.asgi import Header
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.policy.rules import RateLimit
from metricshub_apikey.policy.state import ENVIRONMENT_VARIABLE, Address, parse
from metricshub_apikey.policy.window import Window
from proxies import certificate
from redis_servers import Redis, execute, serving_redis, wait_for_answer
from servers import Gateway, Server, ask, forwarded, free_port, program, serving, wait_until

SECOND = 1_000_000
TICK = 15_625
"""Microseconds; as a fraction of a second it is exact in binary, so nothing depends on rounding."""

BEGINNING = 1_700_000_000 * SECOND
MANY_YEARS = 2 * BEGINNING
CLOCK = "local time = redis.call('TIME')\nlocal now = time[1] * 1000000 + time[2]\n"
TAKE_AT = TAKE.replace(CLOCK, "local now = tonumber(ARGV[3])\n")

KEY = "apikey:{key}"
PASSWORD = "Tr0ub4dor"
PATIENT = 10.0
"""Seconds: how long an answer may take where a test is not about that, on a busy machine."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """Run one server for most of the tests here."""
    with serving_redis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture
def client(server: Redis) -> Iterator[package.Redis]:
    """Return a client of that server, on which nothing is counted yet."""
    with server.client() as connected:
        connected.flushall()
        yield connected


# The script


Taken = tuple[bool, int, int, int]


def take_at(client: package.Redis, limit: RateLimit, now: int) -> Taken:
    """Ask the script at a time of our own: passes, remaining, reset, wait."""
    answer: Any = client.eval(TAKE_AT, 1, KEY, *limit, now)
    passes, *numbers = map(int, answer.split())
    remaining, reset, wait = numbers
    return bool(passes), remaining, reset, -1 if passes else wait


class Model:
    """All accepted requests, counted anew for every question."""

    def __init__(self, limit: RateLimit) -> None:
        """Start with none."""
        self.limit = limit
        self.accepted: list[int] = []

    def within(self, length: int, now: int) -> list[int]:
        """Return the times of those in the last *length* microseconds, both borders included."""
        return [one for one in self.accepted if one >= now - length]

    def take(self, now: int) -> Taken:
        """Accept a request, if it may pass; what was accepted goes back with the clock."""
        ahead = max(0, max(self.accepted, default=now) - now)
        self.accepted = [one - ahead for one in self.accepted]
        self.accepted = self.within(60 * SECOND, now)
        minute, second = self.limit
        recent, last = self.accepted, self.within(SECOND, now)
        waits = [-1]
        if len(recent) >= minute:
            waits.append(recent[-minute] + 60 * SECOND - now)
        if len(last) >= second:
            waits.append(last[-second] + SECOND - now)
        if max(waits) < 0:
            recent.append(now)
        left = minute - len(recent)
        return max(waits) < 0, left, recent[0] + 60 * SECOND - now, max(waits)


LIMITS = st.builds(RateLimit, st.integers(1, 12), st.integers(1, 12))
GAPS = st.lists(
    st.one_of(
        st.just(0),
        st.integers(0, 6),
        st.integers(0, 64 * 3),
        st.sampled_from([63, 64, 65, 64 * 59, 64 * 60 - 1, 64 * 60, 64 * 60 + 1, 64 * 200]),
        st.sampled_from([-1, -64, -64 * 61, -64 * 3600]),
    ),
    max_size=60,
)
"""Ticks between requests: bursts, pauses, the borders of both windows, and clocks set back."""


@example(RateLimit(3, 2), [0, 0, 0, 64, 65, -64 * 3600, 1, 64 * 60, 1])
@examples(60)
@given(LIMITS, GAPS)
def test_the_script_is_exact(server: Redis, limit: RateLimit, gaps: list[int]) -> None:
    """It decides as a model that counts everything, and as the window that each gateway has."""
    model, window = Model(limit), Window(limit)
    now, latest = BEGINNING, 0
    with server.client() as client:
        client.flushall()
        for gap in gaps:
            now += gap * TICK
            passes, remaining, reset, wait = expected = model.take(now)
            assert take_at(client, limit, now) == expected
            latest = now if latest <= now else MANY_YEARS
            if latest == now:  # the gateway's own clock never goes back
                assert window.take(now / SECOND) == passes
                assert window.remaining(now / SECOND) == (remaining, -(-reset // SECOND))
                assert passes or window.retry_after(now / SECOND) == wait // SECOND + 1
        assert client.llen(KEY) == len(model.accepted)


@examples(15)
@given(st.integers(100, 700), st.integers(1, 400), st.integers(0, 61 * 64))
def test_old_times_are_forgotten(server: Redis, requests: int, gap: int, pause: int) -> None:
    """However many have become too old, and none or all of them: they go, and no other."""
    limit = RateLimit(1000, 1000)
    with server.client() as client:
        client.flushall()
        times = [BEGINNING + number * gap * 1000 for number in range(requests)]
        client.rpush(KEY, *times)
        now = times[-1] + pause * TICK
        take_at(client, limit, now)
        kept = [int(one) for one in client.lrange(KEY, 0, -1)]
        assert kept == [*(one for one in times if one >= now - 60 * SECOND), now]


def test_a_clock_set_back_keeps_nobody_out_for_long(client: package.Redis) -> None:
    """After a clock was set back by an hour, a minute later the next request passes."""
    limit = RateLimit(5, 5)
    assert [take_at(client, limit, BEGINNING)[0] for _ in range(6)] == [True] * 5 + [False]
    earlier = BEGINNING - 3600 * SECOND
    assert not take_at(client, limit, earlier)[0]
    assert not take_at(client, limit, earlier + 60 * SECOND)[0]
    assert take_at(client, limit, earlier + 60 * SECOND + 1)[0]
    assert 0 < client.pttl(KEY) <= 61_000


def test_another_limit_counts_what_was_accepted(client: package.Redis) -> None:
    """When the policy changes, the requests of the last minute count for the new limit."""
    for number in range(8):
        take_at(client, RateLimit(10, 10), BEGINNING + number)
    refused = take_at(client, RateLimit(5, 5), BEGINNING + 2 * SECOND)
    assert refused == (False, 0, 58 * SECOND, 3 + 58 * SECOND)
    assert take_at(client, RateLimit(9, 9), BEGINNING + 2 * SECOND)[:2] == (True, 0)


def test_a_busy_key_is_small(client: package.Redis) -> None:
    """The times of 1,000 requests take less than 20 KB, and go a minute after the last one."""
    limit = RateLimit()
    for number in range(1000):
        assert take_at(client, limit, BEGINNING + number * 59_000)[0]
    assert not take_at(client, limit, BEGINNING + 1000 * 59_000)[0]
    assert 0 < (client.memory_usage(KEY) or 0) < 20_000
    assert 55_000 < client.pttl(KEY) <= 61_000


# One limiter, many troubles


@asynccontextmanager
async def started(
    address: Address, said: list[str], *, closed: bool = False, local: MemoryLimiter | None = None
) -> AsyncIterator[RedisLimiter]:
    """Yield a limiter at work, and stop it at the end."""
    limiter = RedisLimiter(address, local or MemoryLimiter(), closed=closed, report=said.append)
    await limiter.start()
    try:
        yield limiter
    finally:
        await limiter.stop()


async def until(condition: Callable[[], object]) -> None:
    """Wait on an event loop until *condition* is true."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a limiter wait: what else runs on this machine must not decide about a test."""
    monkeypatch.setattr(redis_limiter, "ANSWER_SECONDS", PATIENT)
    monkeypatch.setattr(redis_limiter, "CONNECT_SECONDS", PATIENT)


def fingerprint(name: str) -> str:
    """Return what a key is counted by."""
    return hashlib.sha256(name.encode()).hexdigest()


def times_of(client: package.Redis, name: str) -> list[int]:
    """Return when the requests of a key were accepted, by the server's clock."""
    found: Any = client.lrange(f"apikey:{{{fingerprint(name)}}}", 0, -1)
    return [int(one) for one in found]


def check_windows(times: Sequence[int], limit: RateLimit) -> None:
    """Check that no window of a second or a minute has more requests than it may."""
    for length, most in (
        (60 * SECOND, limit.requests_per_minute),
        (SECOND, limit.burst_per_second),
    ):
        for earlier, later in zip(times, times[most:], strict=False):
            assert later - earlier > length


async def passed(limiter: RedisLimiter, limit: RateLimit, count: int, name: str = "a") -> int:
    """Return how many of so many requests at once a limiter lets through."""
    answers = [limiter.take(fingerprint(name), limit) for _ in range(count)]
    return sum(passes for passes, _ in await asyncio.gather(*answers))


@pytest.mark.usefixtures("patient")
def test_two_limiters_count_as_one(server: Redis, client: package.Redis) -> None:
    """Two that are hammered let through what one would, in real time, in every window."""
    limit = RateLimit(requests_per_minute=23, burst_per_second=12)
    said: list[str] = []

    async def hammer() -> int:
        count = 0
        async with started(server.address, said) as one, started(server.address, said) as other:
            end = time.monotonic() + 1.3
            while time.monotonic() < end:
                both = await asyncio.gather(passed(one, limit, 7), passed(other, limit, 7))
                count += sum(both)
                await asyncio.sleep(0.01)
        return count

    count = asyncio.run(hammer())
    times = times_of(client, "a")
    assert said == []
    assert count == len(times) == limit.requests_per_minute
    check_windows(times, limit)


@pytest.mark.usefixtures("patient")
def test_headers_are_those_of_a_gateway_alone(server: Redis, client: package.Redis) -> None:
    """Clients cannot tell from the headers who counts."""
    del client
    limit = RateLimit(3, 2)

    async def take_three(limiter: RedisLimiter | MemoryLimiter) -> list[list[Header]]:
        return [(await limiter.take(fingerprint("a"), limit))[1] for _ in range(3)]

    async def compare() -> None:
        async with started(server.address, []) as limiter:
            assert await take_three(limiter) == await take_three(MemoryLimiter())

    asyncio.run(compare())


@pytest.mark.usefixtures("patient")
def test_a_server_that_forgets_the_script_is_told_it(server: Redis, client: package.Redis) -> None:
    """After SCRIPT FLUSH every request of a batch is decided, and counted once."""
    limit = RateLimit(50, 50)
    said: list[str] = []

    async def flush_between() -> list[int]:
        counts = []
        async with started(server.address, said) as limiter:
            for _ in range(3):
                counts.append(await passed(limiter, limit, 20))
                client.script_flush()
        return counts

    assert asyncio.run(flush_between()) == [20, 20, 10]
    assert said == []


@pytest.mark.usefixtures("patient")
def test_a_closed_connection_is_no_failure(server: Redis, client: package.Redis) -> None:
    """Servers close what was idle for long: the next request is decided by them all the same."""
    limit = RateLimit(5, 5)
    said: list[str] = []

    async def close_between() -> list[int]:
        counts = []
        async with started(server.address, said) as limiter:
            for _ in range(2):
                counts.append(await passed(limiter, limit, 3))
                client.client_kill_filter(skipme=True)
        return counts

    assert asyncio.run(close_between()) == [3, 2]
    assert said == []


def forget_internals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the package lack something that the gateway's own connection uses."""
    later = (*redis_client.INTERNALS, "renamed_in_a_later_redis")
    monkeypatch.setattr(redis_client, "INTERNALS", later)


def channel_of(address: Address) -> str:
    """Return which kind of channel leads to an address."""
    return type(redis_client.channel(address, timeout=1, connected=lambda: None)).__name__


@pytest.mark.usefixtures("patient")
def test_another_redis_package_is_used_by_its_public_interface(
    server: Redis, client: package.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the package's internals have changed, its own pipelines count the same, and recover."""
    assert channel_of(server.address) == "_Line", "the installed version is known"
    forget_internals(monkeypatch)
    assert channel_of(server.address) == "_Pipelines"
    limit = RateLimit(50, 50)
    said: list[str] = []

    async def disturb() -> list[int]:
        counts = []
        async with started(server.address, said) as limiter:
            for command in ("SCRIPT FLUSH", "CLIENT KILL TYPE normal SKIPME yes"):
                counts.append(await passed(limiter, limit, 20))
                execute(client, *command.split())
            counts.append(await passed(limiter, limit, 20))
        return counts

    assert asyncio.run(disturb()) == [20, 20, 10]
    assert said == []
    assert len(times_of(client, "a")) == 50


@pytest.mark.usefixtures("patient")
def test_a_server_that_forgets_while_connected(server: Redis, client: package.Redis) -> None:
    """However often it is emptied, no more than the limit passes, and the log says so once."""
    limit = RateLimit(30, 30)
    said: list[str] = []

    async def empty_between() -> list[int]:
        counts = []
        async with started(server.address, said) as limiter:
            for _ in range(4):
                counts.append(await passed(limiter, limit, 12))
                client.flushall()
        return counts

    assert asyncio.run(empty_between()) == [12, 12, 6, 0]
    assert len(said) == 1
    assert "forgets requests of the last minute" in said[0]


@pytest.mark.usefixtures("patient")
def test_many_requests_at_once(server: Redis, client: package.Redis) -> None:
    """More than one exchange takes: all are answered; those whose client went away, nobody asks."""
    limit = RateLimit(1400, 1400)

    async def ask_many() -> int:
        async with started(server.address, []) as limiter:
            gone = [asyncio.create_task(limiter.take(fingerprint("a"), limit)) for _ in range(50)]
            counted = asyncio.create_task(passed(limiter, limit, 1500))
            await asyncio.sleep(0)
            for task in gone:
                task.cancel()
            return await counted

    assert asyncio.run(ask_many()) == 1350
    assert len(times_of(client, "a")) == 1400


# Without an answer


@contextmanager
def hanging(redis: Redis) -> Iterator[None]:
    """Stop a server so that it takes connections, and never answers."""
    redis.send(signal.SIGSTOP)
    try:
        yield
    finally:
        redis.send(signal.SIGCONT)


def at_once(coroutine: Coroutine[object, None, Any]) -> Any:  # noqa: ANN401 - as it returns
    """Return what a coroutine returns without having waited for anything."""
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    return ended.value.value


@pytest.mark.usefixtures("patient")
def test_a_server_that_hangs_is_left_alone(
    server: Redis, client: package.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the requests that wait pay for it, later ones do not wait; none is let through twice."""
    limit = RateLimit(30, 30)
    said: list[str] = []

    async def hang() -> None:
        async with started(server.address, said) as limiter:
            assert await passed(limiter, limit, 10) == 10
            with hanging(server), monkeypatch.context() as short:
                short.setattr(redis_limiter, "ANSWER_SECONDS", 0.05)
                assert await passed(limiter, limit, 15) == 15
                assert [at_once(limiter.take(fingerprint("a"), limit))[0] for _ in range(50)] == [
                    *(True,) * 5,
                    *(False,) * 45,
                ]
            await until(lambda: "again" in said[-1])
            assert await passed(limiter, limit, 10) == 0

    asyncio.run(hang())
    place = f"127.0.0.1:{server.port}"
    assert said == [
        f"The state at {place} does not answer (no answer in time): each gateway counts alone.",
        f"The state at {place} answers again.",
    ]
    assert len(times_of(client, "a")) <= 30


def test_late_answers_are_nobodys(
    server: Redis, client: package.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a server says after it hung is not taken for the answer to something else."""
    monkeypatch.setattr(redis_limiter, "DOUBT_SECONDS", 0.0)
    used, fresh = RateLimit(10, 10), RateLimit(10, 10)
    said: list[str] = []

    async def hang() -> None:
        async with started(server.address, said) as limiter:
            assert await passed(limiter, used, 20, "used") == 10
            with hanging(server):
                await passed(limiter, used, 20, "used")
            await until(lambda: "again" in said[-1])
            monkeypatch.setattr(redis_limiter, "ANSWER_SECONDS", PATIENT)
            assert await passed(limiter, fresh, 4, "fresh") == 4

    asyncio.run(hang())
    assert len(times_of(client, "fresh")) == 4


def test_a_server_that_lost_everything_opens_nothing(tmp_path: Path) -> None:
    """Killed, and started empty: no gateway lets more through than the limit, all together."""
    limit = RateLimit(30, 30)
    said: list[str] = []

    async def restart(redis: Redis) -> int:
        async with started(redis.address, said) as limiter:
            count = await passed(limiter, limit, 10)
            redis.kill()
            count += await passed(limiter, limit, 10)
            redis.start()
            await until(lambda: "again" in said[-1])
            for _ in range(5):
                count += await passed(limiter, limit, 10)
        return count

    with serving_redis(tmp_path) as redis:
        assert asyncio.run(restart(redis)) == 30
        assert "connecting to" in said[0]
        with redis.client() as client:
            # The gateway knew better, and did not even ask.
            assert len(times_of(client, "a")) <= 10


def test_an_idle_restart_opens_nothing(tmp_path: Path) -> None:
    """The same if nobody asked meanwhile, so that nobody noticed."""
    limit = RateLimit(20, 20)

    async def restart(redis: Redis) -> int:
        async with started(redis.address, []) as limiter:
            count = await passed(limiter, limit, 15)
            redis.kill()
            redis.start()
            return count + await passed(limiter, limit, 40)

    with serving_redis(tmp_path) as redis:
        assert asyncio.run(restart(redis)) == 20


@pytest.mark.usefixtures("patient")
def test_after_a_minute_the_server_is_believed_again(
    server: Redis, client: package.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it alone decides: what a gateway counted for itself is in no window any more."""
    monkeypatch.setattr(redis_limiter, "DOUBT_SECONDS", 0.2)
    limit = RateLimit(10, 10)

    now = [0.0]

    async def wait() -> list[int]:
        counts = []
        async with started(server.address, [], local=MemoryLimiter(lambda: now[0])) as limiter:
            counts.append(await passed(limiter, limit, 20))
            client.client_kill_filter(skipme=True)
            client.flushdb()
            counts.append(await passed(limiter, limit, 20))
            client.flushdb()
            await asyncio.sleep(0.3)
            now[0] += 61
            counts.append(await passed(limiter, limit, 20))
        return counts

    assert asyncio.run(wait()) == [10, 0, 10]


def test_closed_means_closed(tmp_path: Path) -> None:
    """With nobody there at the start, hanging, killed: refused, and let through in between."""
    limit = RateLimit(1000, 1000)
    said: list[str] = []

    async def trouble(redis: Redis) -> None:
        async def refused(limiter: RedisLimiter) -> bool:
            try:
                await limiter.take(fingerprint("a"), limit)
            except StateError:
                return True
            return False

        async with started(redis.address, said, closed=True) as limiter:
            assert all([await refused(limiter) for _ in range(10)])
            redis.start()
            await until(lambda: "again" in said[-1])
            with hanging(redis):
                assert all([await refused(limiter) for _ in range(10)])
            redis.kill()
            assert all([await refused(limiter) for _ in range(10)])

    redis = Redis(tmp_path)
    try:
        asyncio.run(trouble(redis))
    finally:
        redis.kill()
    assert "does not answer" in said[0]
    assert said[0].endswith("requests are refused.")


@pytest.mark.usefixtures("patient")
def test_a_server_that_cannot_write_does_not_count(server: Redis, client: package.Redis) -> None:
    """A replica, or one without memory, answers PING: it is said once that it is of no use."""
    limit = RateLimit(10, 10)
    said: list[str] = []

    async def ask_replica() -> None:
        execute(client, "REPLICAOF", "127.0.0.1", str(free_port()))
        try:
            async with started(server.address, said) as limiter:
                assert await passed(limiter, limit, 20) == 10
                await asyncio.sleep(sum(redis_limiter.RETRY_SECONDS[:2]) + 0.1)
        finally:
            execute(client, "REPLICAOF", "NO", "ONE")

    asyncio.run(ask_replica())
    assert len(said) == 1
    assert "read only replica" in said[0]


# Who may connect, and how


def failure(address: Address) -> str:
    """Return what a limiter and a record say of a server that they cannot use, in one text."""
    said: list[str] = []

    async def start() -> None:
        async with started(address, said) as limiter:
            assert await passed(limiter, RateLimit(5, 5), 9) == 5

    asyncio.run(start())
    assert len(said) == 1
    with pytest.raises(ActivityError) as caught:
        RedisRecord(address).last_uses()
    return f"{said[0]}\n{caught.value.message}"


@pytest.mark.usefixtures("patient")
def check_counts(address: Address, keys: int = 3) -> None:
    """Check that a limiter counts at *address*, and a record keeps last uses there."""
    limit, said = RateLimit(4, 4), list[str]()

    async def count() -> None:
        async with started(address, said) as one, started(address, said) as other:
            for number in range(keys):
                name = os.urandom(8).hex()
                counts = [await passed(each, limit, 3, name) for each in (one, other)]
                assert counts == [3, 1], (number, said)

    asyncio.run(count())
    assert said == []
    assert RedisRecord(address).last_uses() == {}


@pytest.mark.usefixtures("patient")
def test_a_password(tmp_path: Path) -> None:
    """The right one opens; none or a wrong one does not, and no message shows it."""
    user = ("--user", "ann", "on", f">{PASSWORD}", "~*", "+@all")
    with serving_redis(tmp_path, "--requirepass", PASSWORD, *user) as redis:
        place = f"127.0.0.1:{redis.port}"
        check_counts(parse(f"redis://:{PASSWORD}@{place}/2"))
        check_counts(parse(f"redis://ann:{PASSWORD}@{place}/3"))
        for login in ("", f":not{PASSWORD}@", f"bob:{PASSWORD}@"):
            text = failure(parse(f"redis://{login}{place}"))
            assert place in text
            assert PASSWORD not in text


@pytest.mark.usefixtures("patient")
def test_a_server_that_repeats_the_password(tmp_path: Path) -> None:
    """Redis says what it does not understand, a password too: it is not repeated."""
    with serving_redis(tmp_path, "--rename-command", "AUTH", "") as redis:
        text = failure(parse(f"redis://:{PASSWORD}@127.0.0.1:{redis.port}"))
        assert text.count("unknown command") == 2
        assert PASSWORD not in text


@pytest.mark.usefixtures("patient")
def test_tls(tmp_path: Path) -> None:
    """With the authority's certificate it counts; without, or with another, it does not."""
    made, other = (tmp_path / name for name in ("made", "other"))
    made.mkdir()
    other.mkdir()
    ours, theirs = certificate(made), certificate(other)
    port = free_port()
    options = ("--tls-port", str(port), "--tls-auth-clients", "no")
    files = ("--tls-cert-file", str(ours.certificate), "--tls-key-file", str(ours.key))
    with serving_redis(tmp_path, *options, *files):
        check_counts(parse(f"rediss://localhost:{port}?ca={ours.certificate}"))
        check_counts(parse(f"rediss://127.0.0.1:{port}?ca={ours.certificate}"))
        for query in ("", f"?ca={theirs.certificate}", f"?ca={tmp_path}/none.pem"):
            failure(parse(f"rediss://127.0.0.1:{port}{query}"))
        # A certificate for other names is not enough.
        failure(parse(f"rediss://127.1.2.3:{port}?ca={ours.certificate}"))


@pytest.mark.usefixtures("patient")
def test_a_socket(tmp_path: Path) -> None:
    """A server on a Unix socket counts as well."""
    path = tmp_path / "my redis.sock"
    with serving_redis(tmp_path, "--unixsocket", str(path)):
        check_counts(parse(f"unix://{path}".replace(" ", "%20")))


@pytest.mark.parametrize("url", ["redis://a..b", f"redis://{'a' * 70}", "unix:///none/redis.sock"])
def test_places_that_are_none(url: str) -> None:
    """A name that no machine can have is a server that does not answer."""
    failure(parse(url))


# Several servers


@contextmanager
def running_all(servers: Sequence[Redis]) -> Iterator[None]:
    """Run servers until the block ends."""
    with ExitStack() as stack:
        for one in servers:
            stack.callback(one.kill)
            one.start()
        yield


@pytest.mark.usefixtures("patient")
def test_sentinel(tmp_path: Path) -> None:
    """When another server takes over, the gateways count there, with what was counted before."""
    limit, said = RateLimit(20, 20), list[str]()
    master = Redis(tmp_path)
    replica = Redis(tmp_path, "--replicaof", "127.0.0.1", str(master.port))
    conf = tmp_path / "sentinel.conf"
    conf.write_text(
        f"sentinel monitor main 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds main 60000\n"  # it acts when it is told to
        "sentinel failover-timeout main 5000\n"
    )
    watcher = Sentinel(tmp_path, conf)
    address = parse(f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{watcher.port}/main")

    async def fail_over(client: package.Redis) -> list[int]:
        counts = []
        async with started(address, said) as limiter:
            counts.append(await passed(limiter, limit, 5))
            execute(client, "WAIT", 1, 10_000)
            master.kill()
            await asyncio.to_thread(watcher.fail_over, replica.port)
            await passed(limiter, limit, 1, "other")
            await until(lambda: not said or "again" in said[-1])
            counts.append(await passed(limiter, limit, 30))
        return counts

    with running_all([master, replica]), master.client() as client, replica.client() as other:
        wait_until(lambda: client.info()["connected_slaves"], "the replica follows")
        with running_all([watcher]):
            watcher.wait_for_replica()
            assert asyncio.run(fail_over(client)) == [5, 15]
            assert len(times_of(other, "a")) == 20
            assert RedisRecord(address).last_uses() == {}


class Sentinel(Redis):
    """A Sentinel, which is a Redis server with another task."""

    def __init__(self, folder: Path, conf: Path) -> None:
        """Watch what its configuration names."""
        super().__init__(folder)
        self._conf = conf

    def start(self) -> None:
        """Start it."""
        with self._conf.open("a") as conf:
            conf.write(f"port {self.port}\nbind 127.0.0.1\n")
        self._server = Server([program("redis-server"), str(self._conf), "--sentinel"])
        with self.client() as client:
            wait_for_answer(client)

    def wait_for_replica(self) -> None:
        """Wait until it knows a server that could take over, and how that one is."""
        with self.client() as client:
            wait_until(
                lambda: "'ok'" in str(execute(client, "SENTINEL REPLICAS", "main")),
                "a replica is known",
            )

    def fail_over(self, port: int) -> None:
        """Tell it that the master is gone, and wait until it has made that server the master."""
        with self.client() as client:
            execute(client, "SENTINEL FAILOVER", "main")
            wait_until(
                lambda: (
                    execute(client, "SENTINEL GET-MASTER-ADDR-BY-NAME", "main")[1]
                    in (port, str(port), str(port).encode())
                ),
                "the replica has taken over",
            )


@pytest.mark.usefixtures("patient")
def test_cluster(tmp_path: Path) -> None:
    """Each key is counted by its server, also after it has moved; a lost part stops none."""
    nodes: list[Redis] = []
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        nodes.append(Redis(folder, "--cluster-enabled", "yes", "--cluster-port", str(free_port())))
    with running_all(nodes):
        create_cluster(nodes)
        address = parse("redis+cluster://" + ",".join(f"127.0.0.1:{n.port}" for n in nodes[:2]))
        check_counts(address, keys=12)
        with nodes[1].client() as client:
            client.script_flush()
        check_counts(address, keys=12)
        with pytest.MonkeyPatch.context() as changed:
            forget_internals(changed)
            assert channel_of(address) == "_Pipelines"
            check_counts(address, keys=12)
        asyncio.run(move_and_lose(address, nodes))


def create_cluster(nodes: Sequence[Redis]) -> None:
    """Make one Cluster of the nodes, and wait until all of them know it."""
    command = [program("redis-cli"), "--cluster-yes", "--cluster", "create"]
    made = subprocess.run(
        [*command, *(f"127.0.0.1:{node.port}" for node in nodes)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "All 16384 slots covered" in made.stdout, made.stdout + made.stderr
    for node in nodes:
        with node.client() as client:
            wait_until(
                lambda: execute(client, "CLUSTER INFO")["cluster_state"] == "ok",
                "the node knows the Cluster",
            )


async def move_and_lose(address: Address, nodes: Sequence[Redis]) -> None:
    """Count on while slots move to another node, and while a node is gone."""
    limit, said = RateLimit(6, 6), list[str]()
    async with started(address, said) as limiter:
        for name, half_way in (("moving", True), ("moved", False)):
            move_slot(f"apikey:{{{fingerprint(name)}}}", nodes, half_way=half_way)
            assert await passed(limiter, limit, 4, name) == 4
            assert await passed(limiter, limit, 4, name) == 2
        assert said == []
        nodes[2].kill()
        # Some of these are of the node that is gone, and are counted here.
        counts = [await passed(limiter, limit, 9, f"key-{number}") for number in range(9)]
        assert counts == [6] * 9
        for _ in range(3):  # a Cluster without a part of it does not answer again
            await asyncio.sleep(redis_limiter.RETRY_SECONDS[0])
            await asyncio.gather(*(passed(limiter, limit, 1, f"key-{n}") for n in range(9)))
        assert len(said) == 1


def move_slot(key: str, nodes: Sequence[Redis], *, half_way: bool) -> None:
    """Give the empty slot of *key* to the next node, or begin to; clients are not told."""
    with ExitStack() as stack:
        clients = [stack.enter_context(node.client()) for node in nodes]
        slot = execute(clients[0], "CLUSTER KEYSLOT", key)
        owner = int(slot) * len(nodes) // 16_384
        old, new = clients[owner], clients[(owner + 1) % len(nodes)]
        old_id, new_id = (execute(one, "CLUSTER", "MYID") for one in (old, new))
        if half_way:
            execute(new, "CLUSTER", "SETSLOT", slot, "IMPORTING", old_id)
            execute(old, "CLUSTER", "SETSLOT", slot, "MIGRATING", new_id)
            return
        for client in clients:
            execute(client, "CLUSTER", "SETSLOT", slot, "NODE", new_id)


# Real gateways

LIMIT = RateLimit(requests_per_minute=30, burst_per_second=16)
POLICY = f"""
[rate_limit]
requests_per_minute = {LIMIT.requests_per_minute}
burst_per_second = {LIMIT.burst_per_second}
"""


@pytest.fixture
def key(keystore: Path) -> str:
    """Return an API key under a policy with small limits."""
    created = ApiKeys(Keystore(keystore)).create("hammered")
    (keystore.parent / "apikey.toml").write_text(POLICY)
    assert created.secret.reveal() is not None
    return created.secret.reveal()


class Hammer:
    """Threads that make requests to gateways, as fast as they are answered."""

    def __init__(self, gateways: Sequence[Gateway], key: str) -> None:
        """Plan two threads for each gateway."""
        self._headers = forwarded(key)
        self._ended = threading.Event()
        self.answers: list[tuple[int, int, float]] = []
        self._threads = [
            threading.Thread(target=self._work, args=(number, gateway.port))
            for number, gateway in enumerate(gateways)
            for _ in range(2)
        ]

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """End."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _work(self, number: int, port: int) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            status = ask(port, headers=self._headers).status
            self.answers.append((number, status, time.monotonic() - began))
            time.sleep(0.005)

    def accepted(self, number: int | None = None) -> int:
        """Return how many requests all gateways have let through, or one of them."""
        return sum(
            status == 200 for one, status, _ in [*self.answers] if number is None or one == number
        )


def test_two_gateways_are_one(
    server: Redis, client: package.Redis, keystore: Path, key: str, environment: dict[str, str]
) -> None:
    """One hammered key gets exactly its limit of two gateways, in every window, and not twice."""
    options = ("--state", server.url, "--state-failure", "closed")
    with ExitStack() as stack:
        gateways = [
            stack.enter_context(serving(keystore, *options, environment=environment))
            for _ in range(2)
        ]
        with Hammer(gateways, key) as hammer:
            time.sleep(1.5)
    statuses = {status for _, status, _ in hammer.answers}
    times = times_of(client, key)
    check_windows(times, LIMIT)
    assert len(times) <= LIMIT.requests_per_minute
    if 503 in statuses:  # the machine was too busy for an answer in time: refused, never open
        assert hammer.accepted() <= len(times)
    else:
        assert statuses == {200, 429}
        assert hammer.accepted() == len(times) == LIMIT.requests_per_minute
        assert min(hammer.accepted(0), hammer.accepted(1)) > 0


def test_under_load_nothing_opens_and_nothing_breaks(
    tmp_path: Path, keystore: Path, key: str, environment: dict[str, str]
) -> None:
    """Hung, killed, empty, wrong, and back: each gateway lets through at most the limit."""
    with ExitStack() as stack:
        redis = stack.enter_context(serving_redis(tmp_path, "--requirepass", PASSWORD))
        url = f"redis://:{PASSWORD}@127.0.0.1:{redis.port}"
        variables = {**environment, ENVIRONMENT_VARIABLE: url}
        gateways = [stack.enter_context(serving(keystore, environment=variables)) for _ in range(2)]
        began = time.monotonic()
        with Hammer(gateways, key) as hammer:
            time.sleep(0.3)
            with hanging(redis):
                wait_for_all(gateways, "does not answer")
                time.sleep(0.3)
            wait_for_all(gateways, "answers again")
            redis.kill()
            wait_for_all(gateways, "does not answer", 2)
            redis.start()
            wait_for_all(gateways, "answers again", 2)
            time.sleep(max(0.0, began + 1.5 - time.monotonic()))
        within_a_minute = time.monotonic() - began < 60
        shown = Path(f"/proc/{gateways[0].pid}/cmdline").read_bytes().decode()
    assert {status for _, status, _ in hammer.answers} == {200, 429}
    if within_a_minute:
        for number in range(2):
            assert 0 < hammer.accepted(number) <= LIMIT.requests_per_minute
    assert max(took for _, _, took in hammer.answers) < 5
    for gateway in gateways:
        assert PASSWORD not in gateway.server.text
        assert key not in gateway.server.text
    assert PASSWORD not in shown


def wait_for_all(gateways: Sequence[Gateway], text: str, count: int = 1) -> None:
    """Wait until each gateway has said something so many times."""
    for gateway in gateways:
        wait_until(lambda: gateway.server.text.count(text) >= count, text)  # noqa: B023


def test_a_closed_gateway_waits_for_its_state(
    tmp_path: Path, keystore: Path, key: str, environment: dict[str, str]
) -> None:
    """It starts without a server, refuses with 503, and works from when the server is there."""
    redis = Redis(tmp_path)
    options = ("--state", redis.url, "--state-failure", "closed")
    try:
        with serving(keystore, *options, environment=environment) as gateway:
            refused = ask(gateway.port, headers=forwarded(key))
            redis.start()
            gateway.server.wait_for_line("answers again")
            wait_until(
                lambda: ask(gateway.port, headers=forwarded(key)).status == 200, "it is open"
            )
    finally:
        redis.kill()
    assert refused.status == 503
    assert "reason=no-state alias=hammered" in gateway.server.text
    assert gateway.server.process.returncode == 0
