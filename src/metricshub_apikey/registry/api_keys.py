"""
The API keys of one keystore: create, look up, edit, rotate, verify, revoke.

    >>> keys = ApiKeys("metricshub-keystore.p12")
    >>> key = keys.create("mcp-openai")
    >>> [(known.alias, known.secret == key.secret) for known in keys]
    [('mcp-openai', True)]
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, NamedTuple, Self

from metricshub_apikey.activity.journal import Journal
from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.keys import entries
from metricshub_apikey.keys.alias import meant
from metricshub_apikey.keys.api_key import ENTRY_PREFIX, SUSPENDED_PREFIX, ApiKey, differences
from metricshub_apikey.keys.changes import Changes, sorted_labels
from metricshub_apikey.keys.expiry import Moment
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.keystore.keystore import STOCK_PASSWORDS, Keystore, Passwords, ignore_note
from metricshub_apikey.keystore.server_zone import server_zone
from metricshub_apikey.pkcs12.store import Store
from metricshub_apikey.policy.rules import Policy

from . import pending, removal, rotation, suspension
from .issuing import Issuer, new_name, undelivered
from .pending import Pending
from .rotation import PREVIOUS, Rotation

if TYPE_CHECKING:
    from .manifest import Wanted
    from .plan import Plan
    from .verification import Verdict

Progress = Callable[[int, int], None]
DEFAULT_OVERLAP = timedelta(days=7)


def utc_now() -> datetime:
    """Return the current instant."""
    return datetime.now(UTC)


class Edited(NamedTuple):
    """A key before and after a change."""

    old: ApiKey
    new: ApiKey


class Finished(NamedTuple):
    """The old key that a rotation had left, and the one that has the alias; None if it is gone."""

    old: ApiKey
    new: ApiKey | None


class Revoked(NamedTuple):
    """The aliases of keys that are gone: as they were named, and of the old keys that went too."""

    aliases: tuple[str, ...]
    also: tuple[str, ...]


class ApiKeys:
    """
    The API keys in a keystore; its other entries are never touched.

    `len(keys)`, `alias in keys` and iteration read the file anew each time; the first two decrypt
    nothing.
    """

    def __init__(
        self,
        keystore: str | os.PathLike[str] | Keystore,
        *,
        passwords: Passwords = STOCK_PASSWORDS,
        clock: Callable[[], datetime] = utc_now,
        zone: tzinfo | None = None,
        journal: Journal | None = None,
        notify: Callable[[str], None] = ignore_note,
    ) -> None:
        """
        Use *keystore*; nothing is opened yet.

        Args:
            keystore: The file, which need not exist, or what reads and writes it.
            passwords: Of the file and of its entries, where *keystore* is a path.
            clock: Returns the current instant, with a time zone.
            zone: The server's; None for the one that the policy beside the file names, or else
                the one that MetricsHub's Java finds on this machine.
            journal: Takes who did what, once it is on the disk; None writes it into the activity
                database beside the file where *keystore* is a path, and keeps no record otherwise.
            notify: Takes notes for the user, each a sentence.
        """
        if isinstance(keystore, Keystore):
            self._keystore = keystore
            self._journal = journal or Journal()
        else:
            self._keystore = Keystore(keystore, passwords, notify=notify)
            self._journal = journal or _record_beside(self._keystore.path, notify)
        self._clock = clock
        self._zone = zone or server_zone(self.path, policy=lambda: self._policy(None).timezone)

    @classmethod
    def open(cls, keystore: str | None = None) -> Self:
        """
        Use the keystore that `apikey path` shows.

        Args:
            keystore: A path that goes before all other rules.
        """
        from metricshub_apikey.keystore.location import find_keystore

        return cls(find_keystore(keystore, environ=os.environ, launcher="").path)

    @property
    def path(self) -> str:
        """The keystore's path, as it was named."""
        return self._keystore.path

    def create(  # noqa: PLR0913 - all by name
        self,
        alias: str,
        *,
        expires_on: datetime | None = None,
        expires_in: timedelta | None = None,
        roles: Collection[str] = (),
        service_account: str | None = None,
        description: str | None = None,
        labels: Mapping[str, str] | None = None,
        policy: Policy | None = None,
        deliver: Callable[[ApiKey], None] | None = None,
    ) -> ApiKey:
        """
        Make a new API key and put it into the keystore, which is made if there is none.

        Args:
            alias: 1 to 128 characters; stored in lower case, as Java does, and in form NFC.
            expires_on: Local date time of the machine the server runs on.
            expires_in: How long it lives; without both the policy's default, or for ever.
            roles: What it may do, behind the gateway.
            service_account: Whom a service sees; None for the alias.
            description: What it is for.
            labels: Values by name, such as `{"env": "production"}`.
            policy: The rules; None for those of the `apikey.toml` beside the keystore.
            deliver: Hands the key out before it is in force; if that raises, there is no key.

        Returns:
            The key, safe on the disk; this is the only time that it is handed out in clear.

        Raises:
            InvalidArgumentError: The alias, or a field, breaks a rule.
            ExpiryInPastError: The key would not live.
            PolicyBreachError: The key would break a rule of the policy.
            KeyExistsError: The alias is taken.
            KeystoreError: The keystore could not be changed; see `Keystore.update`.
        """
        issuer = self._issuer(policy)
        metadata = Metadata(
            roles=tuple(sorted(set(roles))),
            service_account=service_account or None,
            description=description or None,
            labels=sorted_labels(labels or {}),
        )
        key = issuer.new_key(new_name(alias), _expiry(issuer, expires_on, expires_in), metadata)

        def add(store: Store) -> None:
            entries.require_free(store, alias)
            store.adopt(entries.new_bag(store, key, self._keystore.random_bytes))

        def prepare(store: Store) -> Pending:
            entries.require_free(store, alias)
            return pending.put(store, key, self._keystore.random_bytes)

        if deliver is None:
            with undelivered(alias):
                self._keystore.update(add, create=True)
        else:
            prepared = self._keystore.update(prepare, create=True)
            pending.hand_over(self._keystore, prepared, lambda: deliver(key), add)
        self._journal.write("create", [key], issuer.now.instant, _described(key))
        return key

    def require_free(self, alias: str) -> None:
        """Check that *alias* can be created; raises KeyExistsError, or as `list` does."""
        entries.require_free(self._keystore.read(), alias)

    def list(
        self, progress: Progress | None = None, *, metadata: bool = True
    ) -> tuple[ApiKey, ...]:
        """
        Return all API keys in the order of the keystore; an empty tuple where there is no file.

        An entry that cannot be read is in the list with the reason. Of entries with the same
        alias the last one counts, as in Java.

        Args:
            progress: Called with how many keys are derived, and how many there are, where a
                keystore of another program needs one derivation for each entry.
            metadata: Read it, too; it takes as long as the rest.

        Raises:
            KeystoreError: The file cannot be read; see `Keystore.read`.
        """
        store = self._keystore.read()
        with self._keystore.named_in_errors():
            found = entries.by_entry(store)
            return tuple(entries.read(store, found, progress, metadata=metadata).values())

    def __iter__(self) -> Iterator[ApiKey]:
        """Yield the keys as `list` returns them."""
        return iter(self.list())

    def __len__(self) -> int:
        """Return how many keys there are."""
        return len(entries.by_entry(self._keystore.read()))

    def __contains__(self, alias: object) -> bool:
        """Return whether there is a key with this alias; letter case is ignored, as in Java."""
        return isinstance(alias, str) and meant(alias, self.aliases()) is not None

    def aliases(self, *, suspended: bool | None = None) -> tuple[str, ...]:
        """
        Return the aliases in the order of the keystore; nothing is decrypted.

        Args:
            suspended: Only those of suspended keys, or only those of the others.
        """
        store = self._keystore.read()
        if suspended is None:
            return tuple(entries.by_alias(store))
        prefix = SUSPENDED_PREFIX if suspended else ENTRY_PREFIX
        found = entries.by_entry(store)
        return tuple(entries.alias_of(entry) for entry in found if entry.startswith(prefix))

    def get(self, alias: str) -> ApiKey:
        """
        Return one API key.

        Raises:
            KeyNotFoundError: No API key has this alias.
            KeystoreError: The file cannot be read; see `Keystore.read`.
        """
        store = self._keystore.read()
        with self._keystore.named_in_errors():
            return entries.find(store, alias)[1]

    def edit(  # noqa: PLR0913 - all by name
        self,
        alias: str,
        *,
        expires_on: datetime | None = None,
        expires_in: timedelta | None = None,
        no_expiry: bool = False,
        add_roles: Collection[str] = (),
        remove_roles: Collection[str] = (),
        labels: Mapping[str, str] | None = None,
        remove_labels: Collection[str] = (),
        service_account: str | None = None,
        description: str | None = None,
        policy: Policy | None = None,
    ) -> Edited:
        """
        Change what an API key carries; the secret itself stays.

        Args:
            alias: Letter case is ignored, as in Java.
            expires_on: Local date time of the machine the server runs on.
            expires_in: How long it lives from now on.
            no_expiry: It never ends.
            add_roles: Roles to give it.
            remove_roles: Roles to take away.
            labels: Labels to set, values by name.
            remove_labels: Names of labels to take away.
            service_account: Whom a service sees; an empty text takes it away.
            description: What it is for; an empty text takes it away.
            policy: The rules; None for those of the `apikey.toml` beside the keystore.

        Returns:
            The key before and after.

        Raises:
            KeyNotFoundError: No API key has this alias.
            InvalidArgumentError: A field breaks a rule.
            ExpiryInPastError: The key would no longer live.
            PolicyBreachError: The key would break a rule of the policy.
            KeystoreError: The keystore could not be changed; see `Keystore.update`.
        """
        issuer = self._issuer(policy)
        changes = Changes(
            _expiry(issuer, expires_on, expires_in),
            no_expiry,
            add_roles,
            remove_roles,
            labels or {},
            remove_labels,
            service_account,
            description,
        )
        changes.check()

        def revise(store: Store) -> Edited:
            bag, old = entries.find(store, alias)
            new = changes.apply(old)
            if new != old:
                issuer.check_edit(old, new)
                revised = entries.revised_bag(store, bag, old, new, issuer.random_bytes)
                store.replace({bag: revised})
            return Edited(old, new)

        old, new = done = self._keystore.update(revise)
        if new != old:
            self._journal.write("edit", [new], issuer.now.instant, ", ".join(differences(old, new)))
        return done

    def rotate(
        self,
        alias: str,
        *,
        overlap: timedelta = DEFAULT_OVERLAP,
        expires_on: datetime | None = None,
        expires_in: timedelta | None = None,
        policy: Policy | None = None,
        deliver: Callable[[Rotation], None] | None = None,
    ) -> Rotation:
        """
        Give *alias* a new key in one write; the old one works on as `ALIAS.prev` for a time.

        Args:
            alias: Letter case is ignored, as in Java.
            overlap: How long the old key works on, never longer than it would have; 0 ends it.
            expires_on: Local date time of the machine the server runs on.
            expires_in: How long the new key lives; without both as long as the old key's life.
            policy: The rules; None for those of the `apikey.toml` beside the keystore.
            deliver: Hands the new key out before it is in force; if that raises, the old key keeps
                its place.

        Returns:
            The new key and the old one.

        Raises:
            KeyNotFoundError: No API key has this alias.
            RotationPendingError: The old key of the last rotation still works.
            ApiKeyError: Its other children, as for `create` and `rotation.require_rotatable`.
        """
        issuer = self._issuer(policy)
        expiry = _expiry(issuer, expires_on, expires_in)
        done = self._rotate(issuer, alias, overlap, expiry, None, deliver)
        if done is None:
            raise AssertionError(alias)
        return done

    def rotate_if_expiring(
        self,
        alias: str,
        within: timedelta,
        *,
        overlap: timedelta = DEFAULT_OVERLAP,
        expires_on: datetime | None = None,
        expires_in: timedelta | None = None,
        policy: Policy | None = None,
        deliver: Callable[[Rotation], None] | None = None,
    ) -> Rotation | None:
        """Like `rotate`, but return None, and change nothing, unless it expires *within* that."""
        issuer = self._issuer(policy)
        expiry = _expiry(issuer, expires_on, expires_in)
        return self._rotate(issuer, alias, overlap, expiry, within, deliver)

    def _rotate(
        self,
        issuer: Issuer,
        alias: str,
        overlap: timedelta,
        expires_on: datetime | None,
        within: timedelta | None,
        deliver: Callable[[Rotation], None] | None,
    ) -> Rotation | None:
        now = issuer.now

        def renew(old: ApiKey) -> ApiKey:
            expiry = rotation.next_expiry(old, now=now, asked=expires_on, policy=issuer.policy)
            return issuer.new_key(old.alias, expiry, old.metadata)

        def rotate(store: Store, handed_out: ApiKey | None = None) -> Rotation | None:
            return rotation.rotate(
                store,
                alias,
                lambda old: handed_out or renew(old),
                now=now,
                overlap=overlap,
                within=None if handed_out else within,
                random_bytes=issuer.random_bytes,
            )

        if deliver is None:
            with undelivered(alias):
                done = self._keystore.update(rotate)
        else:

            def plan(store: Store) -> Rotation | None:
                old = rotation.candidate(store, alias, now=now, within=within, overlap=overlap)
                return old and rotation.outcome(old, renew(old), now=now, overlap=overlap)

            done = self._hand_over(plan, deliver, rotate)
        if done is not None:
            ended = done.old._replace(alias=done.new.alias)
            self._journal.write("rotate", [ended], now.instant, done.consequence)
        return done

    def _hand_over(
        self,
        plan: Callable[[Store], Rotation | None],
        deliver: Callable[[Rotation], None],
        rotate: Callable[[Store, ApiKey], Rotation | None],
    ) -> Rotation | None:
        """Hand the new key of a rotation out before it is in force; None where none is due."""

        def prepare(store: Store) -> tuple[Pending, Rotation] | None:
            planned = plan(store)
            if planned is None:
                return None
            return pending.put(store, planned.new, self._keystore.random_bytes), planned

        prepared = self._keystore.update(prepare)
        if prepared is None:
            return None
        waiting, planned = prepared
        return pending.hand_over(
            self._keystore,
            waiting,
            lambda: deliver(planned),
            lambda store: rotate(store, planned.new),
        )

    def finish(self, alias: str) -> Finished:
        """
        End the overlap of a rotation: remove the old key.

        Raises:
            NotRotatedError: No rotation has left an old key.
            KeystoreError: The keystore could not be changed; see `Keystore.update`.
        """
        done = self._keystore.update(lambda store: Finished(*rotation.finish(store, alias)))
        ended = done.old._replace(alias=done.old.alias.removesuffix(PREVIOUS))
        self._journal.write("finish", [ended], self._clock())
        return done

    def suspend(self, *aliases: str, keep_previous: bool = False) -> tuple[ApiKey, ...]:
        """
        Have every server refuse these keys until they are resumed: all or none, in one write.

        The entry gets a name that a stock server does not read, and keeps when it rewrites the
        file; all else stays byte for byte.

        Args:
            aliases: Letter case is ignored, as in Java; naming one twice counts once.
            keep_previous: Leave the old key of a pending rotation, which goes along otherwise.

        Returns:
            The keys as they are now, the old keys of rotations last; those that were suspended
            already are not among them.

        Raises:
            KeyNotFoundError: One of them has no API key; nothing was changed.
            KeyExistsError: One of them has both a key that works and a suspended one.
            KeystoreError: The keystore could not be changed; see `Keystore.update`.
        """
        return self._set_suspended(aliases, suspended=True, keep_previous=keep_previous)

    def resume(self, *aliases: str, keep_previous: bool = False) -> tuple[ApiKey, ...]:
        """
        Let servers accept suspended keys again: all or none, in one write; see `suspend`.

        Raises:
            KeyNotFoundError: One of them has no API key; nothing was changed.
            KeyExistsError: Another program made a key with the alias of a suspended one.
            KeystoreError: The keystore could not be changed; see `Keystore.update`.
        """
        return self._set_suspended(aliases, suspended=False, keep_previous=keep_previous)

    def _set_suspended(
        self, aliases: Sequence[str], *, suspended: bool, keep_previous: bool
    ) -> tuple[ApiKey, ...]:
        def rename(store: Store) -> tuple[ApiKey, ...]:
            return suspension.rename(
                store, aliases, suspended=suspended, keep_previous=keep_previous
            )

        done = self._keystore.update(rename)
        self._journal.write("suspend" if suspended else "resume", done, self._clock())
        return done

    def revoke(self, *aliases: str, keep_previous: bool = False) -> Revoked:
        """
        Remove API keys, all or none, leaving every other entry's bytes untouched.

        MetricsHub keeps its master key and its users in the same file. The old key of a pending
        rotation goes along: an incident must end both.

        Args:
            aliases: Letter case is ignored, as in Java; naming one twice counts once.
            keep_previous: Leave the old keys of pending rotations until their overlap ends.

        Returns:
            The aliases as given, each once, and those of the old keys that went along.

        Raises:
            KeyNotFoundError: One of them has no API key; nothing was removed.
            KeystoreError: The keystore could not be changed; see `Keystore.update`.
        """
        given: dict[str, str] = {}

        def remove(store: Store) -> Sequence[ApiKey]:
            given.clear()
            for alias in aliases:
                given.setdefault(entries.known_alias(store, alias), alias)
            return removal.remove(store, given, keep_previous=keep_previous)

        removed = self._keystore.update(remove)
        self._journal.write("revoke", removed, self._clock())
        also = dict.fromkeys(key.alias for key in removed if key.alias not in given)
        return Revoked(tuple(given.values()), tuple(also))

    def remove(
        self, unwanted: Iterable[ApiKey], action: str, *, secrets: bool = False
    ) -> tuple[ApiKey, ...]:
        """
        Remove those of the *unwanted* keys that are still what they were, in one write.

        Args:
            unwanted: As `list` returned them.
            action: What it is called in the record: "prune" or "revoke".
            secrets: It is their secrets that must go, under whatever alias they are by now.

        Raises:
            KeystoreError: The keystore could not be changed; see `Keystore.update`.
        """
        keys_seen = tuple(unwanted)
        remove = removal.remove_secrets if secrets else removal.remove_unchanged
        removed = self._keystore.update(lambda store: remove(store, keys_seen))
        self._journal.write(action, removed, self._clock())
        return tuple(removed)

    def verify(
        self,
        token: str,
        *,
        roles: Sequence[str] = (),
        request: str | None = None,
        policy: Policy | None = None,
    ) -> Verdict:
        """
        Tell whether a server would accept *token* now, and if not, why.

        Args:
            token: What a client sends.
            roles: The key must have all of these.
            request: A request that one of its roles must permit, such as `POST /api/x`.
            policy: The rules; None for those of the `apikey.toml` beside the keystore.

        Raises:
            KeystoreError: The file cannot be read; see `Keystore.read`.
            PolicyError: The policy file cannot be used.
        """
        from .verification import Demand, verify

        return verify(
            token,
            self.list(),
            now=self._now(),
            policy=self._policy(policy),
            demand=Demand(roles, request),
            history=self._journal.history,
        )

    def preview(
        self, wanted: Sequence[Wanted], *, prune: bool, policy: Policy | None = None
    ) -> Plan:
        """Return what `apply` would do; nothing is written; raises as `apply` does."""
        from .plan import change

        store = self._keystore.read()
        with self._keystore.named_in_errors():
            return change(store, wanted, self._issuer(policy), prune=prune)

    def apply(
        self,
        wanted: Sequence[Wanted],
        *,
        prune: bool,
        deliver: Callable[[Sequence[ApiKey]], None],
        policy: Policy | None = None,
        agreed: Collection[ApiKey] | None = None,
    ) -> Plan:
        """
        Bring the keystore to what *wanted* says, in one write; doing it again changes nothing.

        Args:
            wanted: What the keys should be.
            prune: Remove the keys that are not wanted; the old keys of those that are stay.
            deliver: Takes the new keys before they are in the keystore; may be called again with
                others, if another program writes meanwhile.
            policy: The rules; None for those of the `apikey.toml` beside the keystore.
            agreed: The only keys that may be removed, as `preview` told them; None for any.

        Raises:
            ApiKeyError: One of the keys breaks a rule, as for `create` and `edit`; its message
                names the key, and nothing was changed.
            KeystoreError: The keystore could not be changed; see `Keystore.update`.
        """
        from .plan import change

        issuer = self._issuer(policy)

        def bring(store: Store) -> Plan:
            plan = change(store, wanted, issuer, prune=prune, agreed=agreed)
            deliver(plan.created)
            return plan

        plan = self._keystore.update(bring, create=True)
        done = {"create": plan.created, "edit": plan.edited, "revoke": plan.removed}
        self._journal.write_all(done, issuer.now.instant, "applied from a list")
        return plan

    def _now(self) -> Moment:
        return Moment(self._clock(), self._zone)

    def _issuer(self, policy: Policy | None) -> Issuer:
        return Issuer(
            self._now(), self._policy(policy), self._journal.actor, self._keystore.random_bytes
        )

    def _policy(self, policy: Policy | None) -> Policy:
        if policy is not None:
            return policy
        from metricshub_apikey.policy.location import in_force

        return in_force(None, self.path, os.environ)


def _expiry(
    issuer: Issuer, expires_on: datetime | None, expires_in: timedelta | None
) -> datetime | None:
    if expires_in is None:
        return expires_on
    if expires_on is not None:
        raise InvalidArgumentError("A key has either an expiry or a length of life.")
    return issuer.expiry_in(expires_in)


def _described(key: ApiKey) -> str | None:
    roles = ", ".join(key.metadata.roles)
    return f"roles: {roles}" if roles else None


def _record_beside(keystore: str, notify: Callable[[str], None]) -> Journal:
    """Return a journal that writes into the activity database beside *keystore*."""
    from metricshub_apikey.activity.caller import caller
    from metricshub_apikey.activity.database import ActivityLog, path_beside

    log = ActivityLog(path_beside(keystore))
    return Journal.of(log, lambda: caller(os.environ), notify)
