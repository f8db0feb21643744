"""What the API does with keys: the same calls of the registry and the review as the commands."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

from metricshub_apikey.activity.database import ActivityLog, Event, path_beside
from metricshub_apikey.activity.journal import Journal
from metricshub_apikey.errors import (
    ActivityError,
    ApiKeyError,
    ExpiryInPastError,
    KeyExistsError,
    PolicyBreachError,
)
from metricshub_apikey.keys import entries
from metricshub_apikey.keys.alias import check_alias, meant
from metricshub_apikey.keys.api_key import ApiKey, differences
from metricshub_apikey.keys.document import key_document
from metricshub_apikey.keys.expiry import Moment, utc_text
from metricshub_apikey.keys.selection import Usage
from metricshub_apikey.keystore.keystore import Keystore, ignore_note
from metricshub_apikey.pkcs12.store import Store
from metricshub_apikey.policy.rules import Policy
from metricshub_apikey.registry import verification
from metricshub_apikey.registry.api_keys import ApiKeys
from metricshub_apikey.registry.rotation import Rotation, previous_alias
from metricshub_apikey.registry.verification import Demand, Verdict
from metricshub_apikey.review.checks import Report, Thresholds, examine

from . import bodies
from .bodies import Body
from .callers import Caller
from .known import Files, Known
from .problems import Problem

Result = TypeVar("Result")
Condition = Callable[[Store], None]
Document = dict[str, object]

RECENTLY = timedelta(hours=24)
NO_USAGE = Usage()


class Done(NamedTuple):
    """
    What came of a change.

    Attributes:
        document: What is said of it.
        key: The key it left, for its ETag; None where there is none.
    """

    document: Document
    key: ApiKey | None = None


class Target(NamedTuple):
    """Which key a change is about, and what it must still be: the ETag of If-Match, if any."""

    alias: str
    etag: str | None = None


class _Conditional(Keystore):
    """A keystore whose changes happen only on a condition, looked at under the writers' lock."""

    condition: Condition | None = None

    def update(self, change: Callable[[Store], Result], *, create: bool = False) -> Result:
        """Like a keystore, once the condition holds; raises what it raises."""
        condition = self.condition
        if condition is None:
            return super().update(change, create=create)

        def checked(store: Store) -> Result:
            condition(store)
            return change(store)

        return super().update(checked, create=create)


def etag(key: ApiKey) -> str:
    """Return the ETag of one key: a digest of its stored fields."""
    secret = key.secret.reveal() if key.secret else None
    stored = (key.alias, secret, key.expires_on, key.created_ms, key.unreadable, key.metadata)
    return f'"{hashlib.sha256(repr(stored).encode(errors="surrogatepass")).hexdigest()[:32]}"'


class Operations:
    """The keys of one keystore, for callers with rights; each call reads or writes files."""

    def __init__(self, files: Files, moment: Callable[[], Moment]) -> None:
        """
        Work on *files*.

        Args:
            files: The files.
            moment: Returns the current instant, and the zone of the server.
        """
        self._files = files
        self._moment = moment
        self.activity = ActivityLog(path_beside(files.keystore))

    @property
    def now(self) -> Moment:
        """The current instant, and the zone of the server."""
        return self._moment()

    def document(self, key: ApiKey, usage: Usage = NO_USAGE) -> Document:
        """Return what is said of one key, as on the command line."""
        return key_document(key, now=self.now, usage=usage)

    @property
    def keystore(self) -> str:
        """The keystore's path."""
        return self._files.keystore

    def documents(self, keys: Iterable[ApiKey], usage: Usage) -> list[Document]:
        """Return what is said of several keys."""
        now = self.now
        return [key_document(key, now=now, usage=usage) for key in keys]

    def document_with_usage(self, key: ApiKey) -> Document:
        """Return what is said of one key, its last use included, where that can be read."""
        try:
            return self.document(key, self.usage())
        except ActivityError:
            return self.document(key)

    def create(self, caller: Caller, known: Known, body: Body) -> Done:
        """Make a key; raises ApiKeyError or Problem."""
        policy, now = known.rules, self.now
        bodies.check_members(body, ("alias", *bodies.FIELDS))
        alias = bodies.text(body, "alias")
        with bodies.about("alias"):
            check_alias(alias)
        wanted = bodies.expiry(body, now=now, policy=policy)
        metadata = bodies.metadata(body)
        caller.require_grant(metadata.roles)
        with self._change(caller, policy) as change, _fields(policy):
            key = change.keys.create(
                alias,
                expires_on=wanted.on,
                roles=metadata.roles,
                service_account=metadata.service_account,
                description=metadata.description,
                labels=dict(metadata.labels),
                policy=policy,
            )
        return Done({**self.document(key), "key": key.secret.reveal(), "notes": change.notes}, key)

    def edit(self, caller: Caller, known: Known, target: Target, body: Body) -> Done:
        """Change what a key carries; raises ApiKeyError or Problem."""
        policy, now = known.rules, self.now
        bodies.check_members(body, bodies.FIELDS)
        bodies.metadata(body)  # what no key can have is told first
        bodies.expiry(body, now=now, policy=policy)
        old = by_alias(known.by_alias, target.alias)
        if target.etag not in (etag(old), "*"):
            raise stale(target.alias)
        wanted = bodies.revision(body, old, now=now, policy=policy)
        caller.require_power_over(old, policy)
        caller.require_grant(wanted.metadata.roles)
        held, new_labels = old.metadata, dict(wanted.metadata.labels)
        seen = Target(target.alias, etag(old))
        with self._change(caller, policy, seen) as change, _fields(policy):
            old, new = change.keys.edit(
                target.alias,
                expires_on=wanted.expires_on,
                no_expiry=wanted.no_expiry,
                add_roles=set(wanted.metadata.roles) - set(held.roles),
                remove_roles=set(held.roles) - set(wanted.metadata.roles),
                labels={n: v for n, v in new_labels.items() if dict(held.labels).get(n) != v},
                remove_labels=[name for name, _ in held.labels if name not in new_labels],
                service_account=_changed(held.service_account, wanted.metadata.service_account),
                description=_changed(held.description, wanted.metadata.description),
                policy=policy,
            )
        changed = list(differences(old, new))
        return Done({**self.document(new), "changed": changed, "notes": change.notes}, new)

    def revoke(self, caller: Caller, known: Known, target: Target) -> None:
        """Remove a key; raises ApiKeyError or Problem."""
        with self._change(caller, known.policy, target) as change:
            change.keys.revoke(target.alias)

    def suspend(self, caller: Caller, known: Known, target: Target) -> None:
        """Have servers refuse a key; raises ApiKeyError or Problem."""
        with self._change(caller, known.policy, target) as change:
            change.keys.suspend(target.alias)

    def resume(self, caller: Caller, known: Known, target: Target) -> None:
        """Let servers accept a suspended key again; raises ApiKeyError or Problem."""
        with self._change(caller, known.policy, target) as change:
            change.keys.resume(target.alias)

    def rotate(self, caller: Caller, known: Known, target: Target, overlap: timedelta) -> Done:
        """Give an alias a new key; raises ApiKeyError or Problem."""
        policy = known.rules
        with self._change(caller, policy, target) as change, _fields(policy):
            done = change.keys.rotate(target.alias, overlap=overlap, policy=policy)
        return self._rotated(done, change.notes)

    def rotate_self(self, caller: Caller, known: Known, overlap: timedelta) -> Done:
        """Give the caller's own key a successor; raises ApiKeyError or Problem."""
        policy, key = known.rules, caller.key
        if key is None or not caller.self_rotate:
            raise Problem(403, "forbidden", "Only a key whose role has self_rotate may do this.")
        if not overlap:
            raise bodies.invalid(
                "A key that rotates itself needs an overlap, or a lost answer ends it.", "overlap"
            )
        same = Target(key.alias, etag(key))
        with self._change(caller._replace(key=None), policy, same) as change, _fields(policy):
            done = change.keys.rotate(key.alias, overlap=overlap, policy=policy)
        return self._rotated(done, change.notes)

    def _rotated(self, done: Rotation, notes: list[Document]) -> Done:
        old = self.document(done.old) if done.kept else None
        document = {
            **self.document(done.new),
            "key": done.new.secret.reveal(),
            "old": old,
            "notes": notes,
        }
        return Done(document, done.new)

    def finish(self, caller: Caller, known: Known, target: Target, *, force: bool) -> None:
        """End the overlap of a rotation; raises ApiKeyError or Problem."""
        if not force:
            self._refuse_used(known, target.alias)
        with self._change(caller, known.policy, target) as change:
            change.keys.finish(target.alias)

    def _refuse_used(self, known: Known, alias: str) -> None:
        """Refuse to end an old key that was used of late."""
        old = known.by_alias.get(previous_alias(meant(alias, known.by_alias) or alias))
        used = None if old is None else self.usage().of(old)
        now = self.now.instant
        if used is not None and now - used < RECENTLY:
            minutes = max(0, int((now - used).total_seconds() // 60))
            ago = f"{minutes} min" if minutes < 60 else f"{minutes // 60} h"
            raise Problem(
                409,
                "old-key-used",
                f"The old key of '{alias}' was used {ago} ago.",
                hint="To end it all the same, add ?force=true.",
            )

    def verify(self, known: Known, body: Body) -> Document:
        """Tell whose key it is, and whether it would be accepted; raises ApiKeyError."""
        bodies.check_members(body, ("key", "roles", "request"))
        request = bodies.optional_text(body, "request")
        if request is not None and " " not in request:
            raise bodies.invalid("A request is a method and a path, such as 'POST /x'.", "request")
        token = verification.token_in(bodies.text(body, "key"))
        demand = Demand(bodies.texts(body, "roles"), request)
        verdict = self.verdict(known, token, demand)
        key = verdict.key and self.document(verdict.key, self.usage())
        return {
            "accepted": verdict.accepted,
            "reason": verdict.reason,
            "message": verdict.sentence,
            "key": key,
        }

    def verdict(self, known: Known, token: str, demand: Demand) -> Verdict:
        """Decide about one key by the rule of the gateway and of `apikey verify`."""
        return verification.verify(
            token,
            known.keys,
            now=self.now,
            policy=known.rules,
            demand=demand,
            history=self.activity.history,
        )

    def events(self, alias: str | None, since: datetime | None, limit: int) -> list[Document]:
        """Return the last *limit* things that were done, oldest first; raises ActivityError."""
        found = self.activity.about(alias, since)[-limit:]
        return [{**event._asdict(), "at": utc_text(event.at)} for event in found]

    def usage(self) -> Usage:
        """Return when keys were last used; raises ActivityError."""
        return Usage(self.activity.last_uses(), self.activity.recording_since())

    def usage_document(self, known: Known) -> Document:
        """Return what is known of the use of all keys; raises ActivityError."""
        usage = self.usage()
        keys = {}
        for mark, moment in usage.last.items():
            key = known.by_fingerprint.get(mark)
            if key is not None:
                keys[key.alias] = {"last_used_at": utc_text(moment)}
        since = usage.since and utc_text(usage.since)
        return {"recording_since": since, "heartbeat_at": None, "first_day": None, "keys": keys}

    def examine(self, known: Known) -> Report:
        """Look for what is not well, as `apikey check` does."""
        try:
            usage = self.usage()
        except ActivityError:
            usage = NO_USAGE
        return examine(
            self._keystore(ignore_note),
            policy=known.policy,
            usage=usage,
            now=self.now,
            thresholds=Thresholds(),
        )

    def _keystore(self, notify: Callable[[str], None]) -> _Conditional:
        files = self._files
        timeout = files.lock_timeout
        return _Conditional(files.keystore, files.passwords, lock_timeout=timeout, notify=notify)

    @contextmanager
    def _change(
        self, caller: Caller, policy: object, target: Target | None = None
    ) -> Iterator[_Change]:
        """Give a registry that works for *caller*, and record what was done with it."""
        notes: list[Document] = []
        events: list[Event] = []

        def notify(sentence: str) -> None:
            notes.append({"code": "note", "message": sentence})

        keystore = self._keystore(notify)
        rules = policy if isinstance(policy, Policy) else Policy()
        if target is not None:
            keystore.condition = _condition(caller, rules, target)
        keys = ApiKeys(
            keystore,
            clock=lambda: self.now.instant,
            zone=self.now.zone,
            journal=Journal(caller.name, events.extend),
            notify=notify,
        )
        yield _Change(keys, notes)
        try:
            self.activity.record(events)
        except ActivityError as error:
            notes.append(
                {
                    "code": "not-recorded",
                    "message": f"This is done, but not in the log: {error.message}",
                }
            )


class _Change(NamedTuple):
    keys: ApiKeys
    notes: list[Document]


def _changed(old: str | None, new: str | None) -> str | None:
    """Return a text as `ApiKeys.edit` takes it: None leaves it, an empty one takes it away."""
    return None if new == old else new or ""


def _condition(caller: Caller, policy: Policy, target: Target) -> Condition:
    """Return what must hold of the key when the change happens."""

    def check(store: Store) -> None:
        key = entries.find(store, target.alias)[1]
        caller.require_power_over(key, policy)
        if target.etag is not None and target.etag not in (etag(key), "*"):
            raise stale(target.alias)

    return check


def stale(alias: str) -> Problem:
    """Return the problem of a change to a key that another change has overtaken."""
    return Problem(
        412,
        "stale",
        f"The API key '{alias}' has been changed meanwhile.",
        hint="Read it again, then change what is there now.",
    )


@contextmanager
def _fields(policy: Policy) -> Iterator[None]:
    """Say which member an error of the registry is about."""
    try:
        yield
    except (KeyExistsError, ExpiryInPastError, PolicyBreachError) as error:
        raise Problem.of(error, _field(error, policy)) from error


def _field(error: ApiKeyError, policy: Policy) -> str:
    if isinstance(error, KeyExistsError):
        return "alias"
    about_roles = (f"[roles] in {policy.source}", "keys.require_role")
    if isinstance(error, PolicyBreachError) and any(one in error.message for one in about_roles):
        return "roles"
    return "expires_on"


def by_alias(keys: Mapping[str, ApiKey], alias: str) -> ApiKey:
    """Return a key; raises KeyNotFoundError."""
    name = meant(alias, keys)
    if name is None:
        raise entries.not_found(alias, keys)
    return keys[name]
