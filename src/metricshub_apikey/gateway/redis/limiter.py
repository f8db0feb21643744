"""
The same exact limits for several gateways, counted by one Redis or Valkey server.

One Lua call decides about a request, on the server's clock; requests of one turn of the event loop
travel together. A server that does not answer in time is left alone until it does: meanwhile each
gateway counts for itself, beginning with what it has let through, or refuses. Never silently open.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from itertools import chain, repeat
from math import ceil
from typing import Any, NamedTuple

from metricshub_apikey.gateway.decision import StateError
from metricshub_apikey.gateway.limiter import MemoryLimiter, limit_headers, refusal_headers
from metricshub_apikey.http.asgi import Header
from metricshub_apikey.policy.rules import RateLimit
from metricshub_apikey.policy.state import Address

from .client import PREFIX, Channel, Command, channel, reason

ANSWER_SECONDS = 0.05
LAST_LOOK_SECONDS = 0.005
CONNECT_SECONDS = 2.0
RETRY_SECONDS = (0.2, 0.4, 0.8, 1.6)
"""Pauses between tries, the last one again and again: to ask a Cluster for its parts is work."""

DOUBT_SECONDS = 60.0
LEEWAY_SECONDS = 1.0
"""By how much a gateway may count a request longer than the server, whose answer came late."""

MOST_AT_ONCE = 500
MICROSECONDS = 1_000_000

TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local key, minute, second = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local start = now - 60000000

local function at(index)
  local found = redis.call('LINDEX', key, index)
  return found and tonumber(found)
end
local function append(moment)
  redis.call('RPUSH', key, string.format('%.0f', moment))
  redis.call('PEXPIRE', key, 61000)
end

local ahead = (at(-1) or now) - now
if ahead > 0 then -- the clock was set back: what was accepted goes back with it
  local times = redis.call('LRANGE', key, 0, -1)
  redis.call('DEL', key)
  for _, moment in ipairs(times) do append(moment - ahead) end
end

local step = 1
while step >= 1 do
  if (at(step - 1) or now) < start then
    redis.call('LTRIM', key, step, -1)
    step = step * 2
  else
    step = step / 2
  end
end

local count = redis.call('LLEN', key)
local wait = -1
if count >= second then wait = at(-second) + 1000000 - now end
if count >= minute then wait = math.max(wait, at(-minute) + 60000000 - now) end
local passes = wait < 0
if passes then
  append(now)
  count = count + 1
end
return redis.status_reply(string.format(
  '%d %d %.0f %.0f', passes and 1 or 0, math.max(0, minute - count), at(0) - start, wait))
"""
"""
Returns whether it passes, how many are left, and microseconds until one more, and until the next.

A list holds the times of the accepted requests of the last minute, in microseconds.
"""

TAKE_SHA = hashlib.sha1(TAKE.encode(), usedforsecurity=False).hexdigest()


class Answer(NamedTuple):
    """What the script returns."""

    passes: int
    remaining: int
    reset: int
    wait: int


class Asked(NamedTuple):
    """A request that waits for its answer: None if the server has none."""

    arguments: Command
    answer: asyncio.Future[Answer | None]


class RedisLimiter:
    """Counts requests on a Redis server; one exchange with it is under way at a time."""

    def __init__(
        self, address: Address, local: MemoryLimiter, *, closed: bool, report: Callable[[str], None]
    ) -> None:
        """
        Count at *address*.

        Args:
            address: Where it is.
            local: Counts too, for when the server does not answer.
            closed: Refuse requests then instead.
            report: Takes what the log should say, a sentence.
        """
        self._address = address
        self._local = local
        self._closed = closed
        self._report = report
        self._channel: Channel | None = None
        self._answers = False
        self._doubted_until = 0.0
        self._said_forgotten = False
        self._waiting: list[Asked] = []
        self._exchange: asyncio.Task[None] | None = None
        self._connector: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, and keep trying; returns when the first try has ended."""
        self._channel = channel(self._address, timeout=CONNECT_SECONDS, connected=self._doubt)
        try:
            await self._try(self._channel)
        except Exception as error:
            self._lose(error)
        else:
            self._answers = True
            self._doubted_until = 0.0  # nothing was counted elsewhere yet

    async def stop(self) -> None:
        """Close the connections."""
        server, self._channel, self._answers = self._channel, None, False
        tasks = [task for task in (self._connector, self._exchange) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if server is not None:
            await server.close()

    async def take(self, fingerprint: str, limit: RateLimit) -> tuple[bool, list[Header]]:
        """Count a request if the limits allow it; see `Limiter`."""
        if self._answers:
            if self._doubted and self._local.is_full(fingerprint, limit):
                return await self._local.take(fingerprint, limit)
            answer = await self._ask(fingerprint, limit)
            if answer is not None:
                if not answer.passes:
                    wait = answer.wait // MICROSECONDS + 1
                    return False, refusal_headers(limit, answer.remaining, wait)
                if self._doubted:
                    return await self._local.take(fingerprint, limit)
                if self._local.is_full(fingerprint, limit, ahead=LEEWAY_SECONDS):
                    self._forgotten()
                    return await self._local.take(fingerprint, limit)
                self._local.count(fingerprint, limit)
                reset = ceil(answer.reset / MICROSECONDS)
                return True, limit_headers(limit, answer.remaining, reset)
        if self._closed:
            raise StateError
        return await self._local.take(fingerprint, limit)

    def _forgotten(self) -> None:
        """Count here, too, for a minute: the server has lost what this gateway counted there."""
        self._doubt()
        if not self._said_forgotten:
            self._said_forgotten = True
            self._report(
                f"The state at {self._address} forgets requests of the last minute (eviction, a "
                "flush or a failover): each gateway's own count holds as well."
            )

    @property
    def _doubted(self) -> bool:
        """Whether the server may know of fewer requests than we do."""
        return self._doubted_until > time.monotonic()

    def _doubt(self) -> None:
        """For a minute, do not believe the server alone: it may have lost what it knew."""
        self._doubted_until = time.monotonic() + DOUBT_SECONDS

    def _ask(self, fingerprint: str, limit: RateLimit) -> asyncio.Future[Answer | None]:
        loop = asyncio.get_running_loop()
        asked = Asked(_arguments(fingerprint, limit), loop.create_future())
        self._waiting.append(asked)
        if self._exchange is None:
            self._exchange = loop.create_task(self._exchange_all())
        return asked.answer

    async def _exchange_all(self) -> None:
        """Send what is waiting, until nothing is; the next request begins a new exchange."""
        try:
            await self._send_all()
        finally:
            self._exchange = None

    async def _send_all(self) -> None:
        while self._waiting:
            asked = self._waiting[:MOST_AT_ONCE]
            del self._waiting[:MOST_AT_ONCE]
            answers: list[Answer] | list[None]
            try:
                answers = await self._run([one.arguments for one in asked])
            except Exception as error:
                self._lose(error)
                asked += self._waiting
                self._waiting.clear()
                answers = [None] * len(asked)
            for one, answer in zip(asked, answers, strict=True):
                if not one.answer.done():
                    one.answer.set_result(answer)

    async def _run(self, requests: list[Command]) -> list[Answer]:
        """Call the script for each of them; raises TimeoutError if that takes too long."""
        called = asyncio.get_running_loop().create_task(self._call(requests))
        try:
            for seconds in (ANSWER_SECONDS, LAST_LOOK_SECONDS):  # perhaps it was us who had no time
                if not called.done():
                    await asyncio.wait((called,), timeout=seconds)
        finally:
            called.cancel()
        if not called.done():
            await asyncio.wait((called,))
        if called.cancelled():
            raise TimeoutError
        return called.result()

    async def _call(self, requests: list[Command]) -> list[Answer]:
        """Call the script; a server that was started anew must be told it."""
        from redis.exceptions import NoScriptError

        if self._channel is None:
            raise StateError
        answers = await self._channel.run([("EVALSHA", TAKE_SHA, *one) for one in requests])
        missing = [n for n, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if missing:
            again = await self._channel.run([("EVAL", TAKE, *requests[n]) for n in missing])
            for n, answer in zip(missing, again, strict=True):
                answers[n] = answer
        return [_answer(answer) for answer in answers]

    def _lose(self, error: Exception) -> None:
        """Do without the server until it answers again."""
        self._answers = False
        if self._connector is None:
            meanwhile = "requests are refused" if self._closed else "each gateway counts alone"
            failed = f"The state at {self._address} does not answer ({reason(error)})"
            self._report(f"{failed}: {meanwhile}.")
            self._connector = asyncio.get_running_loop().create_task(self._reconnect())

    async def _reconnect(self) -> None:
        for pause in chain(RETRY_SECONDS, repeat(RETRY_SECONDS[-1])):
            await asyncio.sleep(pause)
            if self._channel is None:
                return
            try:
                await self._try(self._channel)
            except Exception:  # noqa: S112 - it is down still
                continue
            self._answers, self._connector = True, None
            self._report(f"The state at {self._address} answers again.")
            return

    async def _try(self, server: Channel) -> None:
        """Connect, and count a request of no key: a server that only reads is of no use."""
        async with asyncio.timeout(CONNECT_SECONDS):
            await server.open()
        await self._run([_arguments("nobody", RateLimit())])


def _arguments(fingerprint: str, limit: RateLimit) -> Command:
    """Return what the script is called with; the braces keep a key on one server of a Cluster."""
    minute, second = limit
    return ("1", f"{PREFIX}{{{fingerprint}}}", str(minute), str(second))


def _answer(answer: Any) -> Answer:  # noqa: ANN401 - as Redis answers
    if isinstance(answer, Exception):
        raise answer
    return Answer(*map(int, answer.split()))
