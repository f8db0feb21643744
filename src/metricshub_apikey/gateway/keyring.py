"""
The keys in force: read from the keystore, and again when it, or the policy, has changed.

A stock Java program empties the file before it writes it, and some editors move a file away before
they write it anew. Of a file that cannot be read well, what was read last stays in force.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from metricshub_apikey.errors import ApiKeyError, PolicyError, ReadFailedError
from metricshub_apikey.keys import entries
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.keystore.server_zone import Note, ServerZone, server_zone
from metricshub_apikey.policy.file import load
from metricshub_apikey.policy.location import find_policy, path_beside
from metricshub_apikey.policy.rules import STOCK, Policy

from .clock import ServerClock
from .credential import Credential, Identity

RETRY_SECONDS = 1.0
SETTLE_SECONDS = 0.05
MOST_REMOVED = 10_000

Stamp = tuple[int, ...] | None


class Snapshot(NamedTuple):
    """
    What is in force.

    Attributes:
        credentials: By the SHA-256 of the token.
        fingerprints: The same SHA-256s, in hexadecimal.
        policy: The rules.
        is_mcp: Whether a path, with or without a query, belongs to MCP.
        may_be_mcp: Says no to almost every other path, at little cost.
        unreadable: How many entries could not be read.
        loaded: When, in seconds since 1970.
        clock: The server's, which expiries are compared with.
    """

    credentials: Mapping[bytes, Credential]
    fingerprints: frozenset[str]
    policy: Policy
    is_mcp: Callable[[str], bool]
    may_be_mcp: Callable[[str], object]
    unreadable: int
    loaded: float
    clock: ServerClock


class Keyring:
    """
    The keys of one keystore, under one policy.

    Attributes:
        snapshot: What is in force; None until it could be read for the first time.
        failure: Why the files as they are now are not in force; None where they are.
        looked: Whether `follow` need not be called in this turn of the event loop.
    """

    def __init__(
        self,
        keystore: Keystore,
        policy: str | None,
        *,
        public: Sequence[str] = (),
        report: Callable[[str], None],
        ticks: Callable[[], float] = time.monotonic,
        timezone: str | None = None,
    ) -> None:
        """
        Name what to read; nothing is read yet.

        Args:
            keystore: Where the keys are.
            policy: The policy file; None for the one beside the keystore, if it is there.
            public: What needs no key, besides what the policy says.
            report: Takes what the log should say, a sentence.
            ticks: Returns seconds, and never goes back.
            timezone: The server's zone that was named; None for the policy's, or the one found.
        """
        self._keystore = keystore
        self._ticks = ticks
        self._policy = policy
        self._policy_path = path_beside(keystore.path) if policy is None else policy
        self._public = tuple(public)
        self._report = report
        self._timezone = timezone
        self._told: set[str] = set()
        self._zone = self._zone_under(STOCK)
        self._opened: dict[bytes, ApiKey] = {}
        self._removed: dict[bytes, Identity] = {}
        self._in_force: tuple[Stamp, Stamp] | None = None
        self._failed: tuple[Stamp, Stamp] | None = None
        self._failed_at = 0.0
        self._reported = ""
        self._reading: asyncio.Future[None] | None = None
        self.looked = False
        self._one_at_a_time = threading.Lock()
        self.snapshot: Snapshot | None = None
        self.failure: ApiKeyError | None = None

    def find(self, token: bytes) -> Credential | None:
        """Return whose *token* it is; found by its hash, then compared in constant time."""
        if self.snapshot is None:
            return None
        found = self.snapshot.credentials.get(hashlib.sha256(token).digest())
        if found is None or not hmac.compare_digest(found.token, token):
            return None
        return found

    def removed(self, token: bytes) -> Identity | None:
        """Return whose *token* it was, if it was removed while we were looking."""
        return self._removed.get(hashlib.sha256(token).digest())

    @property
    def before(self) -> Policy:
        """What holds as long as no policy has been read."""
        return STOCK._replace(public=self._public)

    async def follow(self) -> None:
        """
        Put the files in force as they are now, if they have changed since they were read.

        Requests that are handled in one turn of the event loop had all arrived before it, so one
        look at the files is enough for them; whatever arrives later is handled in a later turn.
        """
        if self._is_stale():
            await self._refresh()
        else:
            self.looked = True
            asyncio.get_running_loop().call_soon(self._look_again)

    def _look_again(self) -> None:
        self.looked = False

    def _is_stale(self) -> bool:
        stamps = (_stamp(self._keystore.path), _stamp(self._policy_path))
        if stamps == self._in_force:
            return False
        return stamps != self._failed or self._ticks() - self._failed_at > RETRY_SECONDS

    async def _refresh(self) -> None:
        """
        Read the files off the event loop.

        A reading that is under way may have begun before the last change: then one more follows.
        """
        if self._reading is not None and not self._reading.done():
            await asyncio.shield(self._reading)
            if not self._is_stale():
                return
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().run_in_executor(None, self.read)
        await asyncio.shield(self._reading)

    def check(self) -> Policy:
        """Return the policy; raise the ApiKeyError that keeps a file from being read."""
        policy = self._read_policy(anew=True)
        self._keystore.read()
        return policy

    def leave_loop(self) -> None:
        """Forget what was begun on an event loop that is gone."""
        self.looked = False
        self._reading = None

    def read(self, *, anew: bool = False) -> None:
        """
        Read the files now, and put them in force; what one of them said stays if it cannot be read.

        Args:
            anew: Also accept that the policy defines no roles any more.
        """
        with self._one_at_a_time:
            self._read(anew=anew)

    def _read(self, *, anew: bool) -> None:
        if self._policy is None:  # links may lead elsewhere by now
            self._policy_path = path_beside(self._keystore.path)
        stamps = (_stamp(self._keystore.path), _stamp(self._policy_path))
        began = time.time()
        old, known = self.snapshot, self._opened
        policy = self.before if old is None else old.policy
        failure: ApiKeyError | None = None
        try:
            policy = self._read_policy(anew=anew)
        except ApiKeyError as error:  # a key must be revoked whatever the policy is like
            failure = error
        try:
            self._read_keys()
        except ApiKeyError as error:
            failure = error
        if failure is None or (old and (old.policy, known.keys()) != (policy, self._opened.keys())):
            self._put_in_force(policy, began)
        if failure is not None:
            self._fail(failure, stamps)
            return
        self._failed = self.failure = None
        self._reported = ""
        # What was written in the last instant may be written again without a trace in `stat`.
        settled = all(abs(began - _changed(stamp)) > SETTLE_SECONDS for stamp in stamps)
        self._in_force = stamps if settled else None

    def _fail(self, error: ApiKeyError, stamps: tuple[Stamp, Stamp]) -> None:
        """Remember why nothing new is in force, and say it when it is more than a moment."""
        lasting = stamps == self._failed
        self.failure = error
        self._failed, self._failed_at = stamps, self._ticks()
        if error.message != self._reported and (lasting or self.snapshot is None):
            kept = f"The old {'rules' if isinstance(error, PolicyError) else 'keys'} stay"
            what = "No request is let through" if self.snapshot is None else kept
            self._report(f"{what}: {error.message}")
            self._reported = error.message

    def _read_policy(self, *, anew: bool) -> Policy:
        """
        Return the rules.

        While a file is being written it may be empty, or gone: that must not open the door.
        """
        path = find_policy(self._policy, self._keystore.path, {})
        policy = STOCK if path is None else load(path)
        policy = policy._replace(public=policy.public + self._public)
        old = self.snapshot
        if old is not None and old.policy.roles is not None and policy.roles is None and not anew:
            raise PolicyError(
                f"The roles are gone from {self._policy_path}; reload if that is meant."
            )
        zone = self._zone_under(policy)
        zone.found  # noqa: B018 - a zone that Java does not know must not be in force
        self._zone = zone
        return policy

    def _read_keys(self) -> None:
        """Open the entries; those that are as they were are not decrypted again."""
        store = self._keystore.read(patience=0)
        if store.seal is None:
            raise ReadFailedError(f"There is no keystore {self._keystore.path}.")
        found = entries.by_entry(store)
        new = {alias: bag for alias, bag in found.items() if bag.raw not in self._opened}
        with self._keystore.named_in_errors():
            opened = entries.read(store, new)
        known = self._opened
        self._opened = {
            bag.raw: opened[alias] if alias in opened else known[bag.raw]
            for alias, bag in found.items()
        }

    def _zone_under(self, policy: Policy) -> ServerZone:
        """Return the server's zone; what is odd about it is said once."""
        return server_zone(
            self._keystore.path,
            option=self._timezone,
            policy=lambda: policy.timezone,
            notify=self._tell,
        )

    def _tell(self, note: Note) -> None:
        if note.code not in self._told:
            self._told.add(note.code)
            self._report(note.message)

    def _prepare(self, key: ApiKey, policy: Policy) -> Credential | None:
        """Return what requests with *key* need; None, and a line in the log, if that fails."""
        try:
            return Credential(key, key.secret.reveal().encode(), policy) if key.secret else None
        except Exception as error:  # whatever is odd about a key, the others work
            self._report(f"The key '{key.alias}' is refused: {type(error).__name__}.")
            return None

    def _put_in_force(self, policy: Policy, now: float) -> None:
        # Of two entries with one secret, the one that works counts.
        keys = sorted(self._opened.values(), key=lambda one: not one.suspended)
        prepared = [*filter(None, (self._prepare(key, policy) for key in keys))]
        credentials = {one.digest: one for one in prepared}
        fingerprints = frozenset(one.fingerprint for one in prepared)
        unreadable = len(keys) - len(prepared)
        old = self.snapshot
        mcp = policy.mcp.all
        clock = ServerClock(self._zone)
        self.snapshot = Snapshot(
            credentials, fingerprints, policy, mcp.covers, mcp.may_cover, unreadable, now, clock
        )
        if old is None or (old.fingerprints, old.policy) != (fingerprints, policy):
            rules = policy.path or "none"
            self._report(f"Keys in force: {len(credentials)}; policy: {rules}.")
        if old is None:
            return
        gone = old.credentials.keys() - credentials.keys()
        for digest in gone:
            self._removed[digest] = old.credentials[digest].identity
        for digest in [*self._removed]:
            if digest in credentials or len(self._removed) > MOST_REMOVED:
                del self._removed[digest]


def _stamp(path: str) -> Stamp:
    """Return what differs when a file was replaced or written to; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_size,
        status.st_ino,
        status.st_dev,
    )


def _changed(stamp: Stamp) -> float:
    return 0.0 if stamp is None else stamp[1] / 1e9
