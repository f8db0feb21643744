"""All parts of a gateway together, made from its settings."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from metricshub_apikey.activity.database import ActivityLog, path_beside
from metricshub_apikey.errors import ActivityError
from metricshub_apikey.keystore.keystore import STOCK_PASSWORDS, Keystore, Passwords
from metricshub_apikey.policy.state import Address

from .decision import UNREAD, Answer, Gate, Limiter, Request
from .keyring import Keyring, Snapshot
from .limiter import MemoryLimiter
from .log import Form, Log
from .metrics import Metrics
from .usage import Times, Uses

if TYPE_CHECKING:
    from metricshub_apikey.policy.access import IpNetwork

    from .redis.limiter import RedisLimiter

FLUSH_SECONDS = 10.0
FOLLOW_SECONDS = 1.0

StateFailure = Literal["local", "closed"]


@dataclass(frozen=True)
class Settings:
    """
    What a gateway works on, and how.

    Attributes:
        keystore: The keystore's path.
        passwords: Of the keystore.
        policy: The policy file's path; None for the one beside the keystore, if it is there.
        state: Where several gateways count together; None to count here.
        state_failure: Who decides where that server does not answer: `local` counts here,
            `closed` refuses.
        limits: Whether requests are counted at all.
        log_form: `text` or `json`.
        log_all: Log every decision, not only those that refuse.
        public: What needs no key, besides what the policy says.
        trusted: The networks of the proxies, whose own addresses are not their clients'.
    """

    keystore: str
    passwords: Passwords = STOCK_PASSWORDS
    policy: str | None = None
    state: Address | None = None
    state_failure: StateFailure = "local"
    limits: bool = True
    log_form: Form = "text"
    log_all: bool = False
    public: tuple[str, ...] = ()
    trusted: tuple[IpNetwork, ...] = ()
    timezone: str | None = None


class Record(Protocol):
    """Where uses are written down."""

    def record_uses(self, uses: Times) -> None:
        """Keep the uses; raises ActivityError."""


class Service:
    """
    A gateway at work: decides, follows its files, writes down when keys were used.

    Attributes:
        keyring: The keys in force.
        gate: Decides.
        log: Where it says what it does.
        metrics: Counts the decisions.
    """

    def __init__(self, settings: Settings) -> None:
        """Put the parts together; the files are read when it starts, or first decides."""
        self.log = Log(settings.log_form, everything=settings.log_all)
        self.keyring = Keyring(
            Keystore(settings.keystore, settings.passwords),
            settings.policy,
            public=settings.public,
            report=self.log.say,
            timezone=settings.timezone,
        )
        self.metrics = Metrics(self.keyring)
        self._uses = Uses()
        self._local = MemoryLimiter()
        self._record: Record = ActivityLog(path_beside(settings.keystore))
        self._limiter: Limiter | None = self._local if settings.limits else None
        self._shared: RedisLimiter | None = None
        if settings.state is not None:
            self._share(settings.state, settings)
        self.gate = Gate(
            self.keyring, self._limiter, used=self._uses.note, trusted=settings.trusted
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._tidied: Snapshot | None = None

    def _share(self, address: Address, settings: Settings) -> None:
        """Keep the state on a server."""
        from .redis.client import load_package
        from .redis.limiter import RedisLimiter
        from .redis.record import RedisRecord

        load_package()
        self._record = RedisRecord(address)
        if settings.limits:
            closed = settings.state_failure == "closed"
            self._shared = RedisLimiter(address, self._local, closed=closed, report=self.log.say)
            self._limiter = self._shared

    async def decide(self, request: Request) -> Answer:
        """Decide about a request, log and count it; the first one starts the background tasks."""
        if self._loop is not asyncio.get_running_loop():
            await self.start()
        answer = await self.gate.decide(request)
        if answer is not UNREAD:
            self.metrics.decisions[answer.reason] += 1
            self.log.decision(request, answer)
        return answer

    async def start(self) -> None:
        """Read the files, and begin to follow them and to write down uses."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        self._loop = loop
        self.keyring.leave_loop()
        self._tasks = [
            loop.create_task(self._repeat(self._follow, FOLLOW_SECONDS)),
            loop.create_task(self._repeat(self._flush, FLUSH_SECONDS)),
        ]
        atexit.register(self._flush_at_exit)
        if self._shared is not None:
            await self._shared.start()
        await self.keyring.follow()

    async def stop(self) -> None:
        """Write down what is left."""
        for task in self._tasks:
            task.cancel()
        await self._flush()
        if self._shared is not None:
            await self._shared.stop()
        atexit.unregister(self._flush_at_exit)
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []
        self._loop = None
        self.log.close()

    async def reload(self) -> None:
        """Read everything anew, as after a start."""
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._read_anew)
        except Exception as error:
            self.log.say(unexpected(error))
            return
        failure = self.keyring.failure
        done = "Everything was read anew." if failure is None else f"Not read: {failure.message}"
        self.log.say(done)

    def _read_anew(self) -> None:
        self.keyring.read(anew=True)

    async def _repeat(self, step: Callable[[], Awaitable[None]], seconds: float) -> None:
        """Run *step* for ever; an unexpected error is logged, and the next turn tries again."""
        reported = ""
        while True:
            await asyncio.sleep(seconds)
            try:
                await step()
            except Exception as error:
                if reported != repr(error):
                    reported = repr(error)
                    self.log.say(unexpected(error))
            else:
                reported = ""

    async def _follow(self) -> None:
        """Notice changes also while no request comes; forget what belongs to keys that are gone."""
        await self.keyring.follow()
        snapshot = self.keyring.snapshot
        if snapshot is not None and snapshot is not self._tidied:
            self._local.keep(snapshot.fingerprints)
            self._tidied = snapshot

    async def _flush(self) -> None:
        """Write down the uses so far, off the event loop."""
        uses = self._uses.take()
        if uses:
            await asyncio.get_running_loop().run_in_executor(None, self._write_down, uses)

    def _flush_at_exit(self) -> None:
        """Do the same without an event loop: an application may end without telling us."""
        self._write_down(self._uses.take())

    def _write_down(self, uses: Times) -> None:
        try:
            self._record.record_uses(uses)
        except Exception as error:
            self._uses.give_back(uses)
            why = error.message if isinstance(error, ActivityError) else unexpected(error)
            self.log.say(f"{why} The last uses of keys are kept for later.")


def unexpected(error: Exception) -> str:
    """Return a line for the log about an error that is a bug, with where it was raised."""
    return f"An unexpected error: {''.join(traceback.format_exception(error)).strip()}."
