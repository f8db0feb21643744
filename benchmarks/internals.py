"""
Measure what the internals of redis-py give over its public interface.

    .venv.test/bin/python benchmarks/internals.py    prints, in a minute

Each row is processor time of this process for one request, the public interface over ours. Below
1.15 the internals would not be worth their keep; see `gateway/redis/client.py`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parent / name) for name in ("tests", "tests/support", "src")]

import uvloop  # noqa: E402
from report import at_least  # noqa: E402

from metricshub_apikey.gateway.redis import client, limiter  # noqa: E402
from metricshub_apikey.policy.rules import RateLimit  # noqa: E402
from redis_servers import serving_redis  # noqa: E402

ROUNDS = 30
REQUESTS = 300
LARGE = 1_000_000

Step = Callable[[], Awaitable[object]]


async def cost(step: Step, requests: int) -> float:
    """Return the processor time of one request in µs."""
    start = time.process_time()
    for _ in range(REQUESTS // requests):
        await step()
    return (time.process_time() - start) / REQUESTS * 1e6


async def compare(name: str, ours: Step, public: Step, requests: int = 1) -> None:
    """Run both in turn, and print the least that each of them took."""
    found = [(await cost(ours, requests), await cost(public, requests)) for _ in range(ROUNDS)]
    ours_cost, public_cost = (min(column) for column in zip(*found, strict=True))
    verdict = "yes" if at_least(1.15).met(public_cost / ours_cost) else "no"
    print(
        f"{name}: ours {ours_cost:.1f} µs, public {public_cost:.1f} µs, "
        f"ratio {public_cost / ours_cost:.2f}; worth it: {verdict}"
    )


async def counts(folder: Path) -> None:
    """Compare exchanges with Redis over our connection and over the package's pipelines."""
    limit = RateLimit(LARGE, LARGE)
    with serving_redis(folder) as redis:
        known = client.INTERNALS
        ours = client.channel(redis.address, timeout=5, connected=lambda: None)
        client.INTERNALS = ("missing", *known[1:])
        public = client.channel(redis.address, timeout=5, connected=lambda: None)
        client.INTERNALS = known
        await ours.run([("EVAL", limiter.TAKE, *limiter._arguments("x", limit))])
        for size in (1, 8, 32):
            arguments = [limiter._arguments(f"key{number}", limit) for number in range(size)]
            commands = [("EVALSHA", limiter.TAKE_SHA, *one) for one in arguments]
            mine, theirs = partial(ours.run, commands), partial(public.run, commands)
            await compare(f"{size} at a time, in Redis", mine, theirs, requests=size)
        await ours.close()
        await public.close()


async def main() -> None:
    """Measure in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        await counts(Path(folder))


if __name__ == "__main__":
    uvloop.run(main())
