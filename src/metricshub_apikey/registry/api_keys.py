"""
The API keys of one keystore: create, list, edit, rotate, revoke.

    >>> registry = ApiKeyRegistry(Keystore("metricshub-keystore.p12"))
    >>> key = registry.create("mcp-openai")
    >>> [(known.alias, known.key == key.key) for known in registry.list()]
    [('mcp-openai', True)]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta, tzinfo

from metricshub_apikey.activity.journal import Journal
from metricshub_apikey.keys import api_key, entries
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.expiry import Moment
from metricshub_apikey.keys.metadata import NOTHING, Metadata
from metricshub_apikey.keystore.keystore import Keystore, ignore_note
from metricshub_apikey.keystore.server_zone import server_zone
from metricshub_apikey.pkcs12.bag import fold
from metricshub_apikey.pkcs12.store import Store
from metricshub_apikey.policy.rules import STOCK, Policy

from . import issuing, removal, rotation
from .rotation import PREVIOUS, Rotation

NO_JOURNAL = Journal()
Progress = Callable[[int, int], None]
DEFAULT_OVERLAP = timedelta(days=7)


def utc_now() -> datetime:
    """Return the current instant."""
    return datetime.now(UTC)


class ApiKeyRegistry:
    """The API keys in a keystore; its other entries are never touched."""

    def __init__(
        self,
        keystore: Keystore,
        *,
        clock: Callable[[], datetime] = utc_now,
        zone: tzinfo | None = None,
        policy: Policy = STOCK,
        journal: Journal = NO_JOURNAL,
        notify: Callable[[str], None] = ignore_note,
    ) -> None:
        """
        Use *keystore*.

        Args:
            keystore: Where the keys are.
            clock: Returns the current instant, with a time zone.
            zone: The server's; None for the one that is found on this machine.
            policy: The rules that new and changed keys must keep.
            journal: Takes who did what, once it is on the disk.
            notify: Takes notes for the user, each a sentence.
        """
        self.keystore = keystore
        self.policy = policy
        self.clock = clock
        self.zone = zone or server_zone(keystore.path, policy=lambda: policy.timezone)
        self.journal = journal
        self._notify = notify

    def now(self) -> Moment:
        """Return the current moment, on the server's clock."""
        return Moment(self.clock(), self.zone)

    def create(
        self, alias: str, *, expires_on: datetime | None = None, metadata: Metadata = NOTHING
    ) -> ApiKey:
        """
        Make a new API key and put it into the keystore, which is made if there is none.

        Args:
            alias: 1 to 128 characters; stored in lower case, as Java does.
            expires_on: Local date time of the machine the server runs on; None means the
                policy's default, or never.
            metadata: What the key is for; who made it is added.

        Returns: The key, safe on the disk; this is the only time it is handed out in clear.

        Raises:
            InvalidArgumentError: The alias, or a field, breaks a rule.
            ExpiryInPastError: The key would not live.
            PolicyBreachError: The key would break a rule of the policy.
            KeyExistsError: The alias is taken.
            KeystoreError: The keystore could not be changed; see `Keystore.update`.
        """
        now = self.now()
        key = self.issue(alias, expires_on, metadata, now)

        def add(store: Store) -> None:
            entries.require_free(store, alias)
            store.adopt(entries.new_bag(store, key, self.keystore.random_bytes))

        with issuing.undelivered(alias):
            self.keystore.update(add, create=True)
        self.journal.write("create", [key], now.instant, _described(key))
        return key

    def issue(
        self, alias: str, expires_on: datetime | None, metadata: Metadata, now: Moment
    ) -> ApiKey:
        """Return a new key that keeps all rules, for `now`; it is not in the keystore yet."""
        return issuing.new_key(
            alias,
            expires_on,
            metadata._replace(created_by=self.journal.actor, rotated_at=None),
            now=now,
            policy=self.policy,
            random_bytes=self.keystore.random_bytes,
        )

    def require_free(self, alias: str) -> None:
        """Check that *alias* can be created; raises KeyExistsError, or as `list` does."""
        entries.require_free(self.keystore.read(), alias)

    def list(
        self, progress: Progress | None = None, *, metadata: bool = True
    ) -> tuple[ApiKey, ...]:
        """
        Return all API keys in the order of the keystore; none where there is no file.

        An entry that cannot be read is in the list with the reason. Of entries with the same
        alias the last one counts, as in Java.

        Args:
            progress: Called with how many keys are derived, and how many there are, where a
                keystore of somebody else's needs one derivation for each entry.
            metadata: Read it, too; it takes as long as the rest.

        Raises:
            KeystoreError: The file cannot be read; see `Keystore.read`.
        """
        store = self.keystore.read()
        with self.keystore.named_in_errors():
            found = entries.by_alias(store)
            return tuple(entries.read(store, found, progress, metadata=metadata).values())

    def aliases(self) -> tuple[str, ...]:
        """Return the aliases in the order of the keystore; nothing is decrypted."""
        return tuple(entries.by_alias(self.keystore.read()))

    def get(self, alias: str) -> ApiKey:
        """
        Return one API key.

        Raises:
            KeyNotFoundError: No API key has this alias.
            KeystoreError: The file cannot be read; see `Keystore.read`.
        """
        store = self.keystore.read()
        with self.keystore.named_in_errors():
            return entries.find(store, alias)[1]

    def edit(self, alias: str, change: Callable[[ApiKey], ApiKey]) -> tuple[ApiKey, ApiKey]:
        """
        Change what an API key carries; the secret itself stays.

        Args:
            alias: Letter case is ignored, as in Java.
            change: Returns the key with another expiry or other metadata.

        Returns: The key before and after.

        Raises:
            KeyNotFoundError: No API key has this alias.
            InvalidArgumentError: A field breaks a rule.
            ExpiryInPastError: The key would no longer live.
            PolicyBreachError: The key would break a rule of the policy.
            KeystoreError: The keystore could not be changed; see `Keystore.update`.
        """
        now = self.now()

        def revise(store: Store) -> tuple[ApiKey, ApiKey]:
            bag, old = entries.find(store, alias)
            new = change(old)
            if new != old:
                issuing.check_edit(old, new, now=now, policy=self.policy)
                random_bytes = self.keystore.random_bytes
                store.replace({bag: entries.revised_bag(store, bag, old, new, random_bytes)})
            return old, new

        old, new = self.keystore.update(revise)
        if new != old:
            self.journal.write("edit", [new], now.instant, ", ".join(api_key.differences(old, new)))
        return old, new

    def rotate(
        self,
        alias: str,
        *,
        overlap: timedelta = DEFAULT_OVERLAP,
        expires_on: datetime | None = None,
        within: timedelta | None = None,
    ) -> Rotation | None:
        """
        Give *alias* a new key in one write; the old one works on as `ALIAS.prev` for a time.

        Args:
            alias: Letter case is ignored, as in Java.
            overlap: How long the old key works on, never longer than it would have; 0 ends it.
            expires_on: Local date time; None means a life as long as the old key's.
            within: Do nothing unless the key expires within this time.

        Returns: The new key and the old one; None where there was nothing to do.

        Raises:
            KeyNotFoundError: No API key has this alias.
            RotationPendingError: The old key of the last rotation still works.
            ApiKeyError: Its other children, as for `create` and `rotation.require_rotatable`.
        """
        now = self.now()

        def renew(old: ApiKey) -> ApiKey:
            expiry = rotation.next_expiry(old, now=now, asked=expires_on, policy=self.policy)
            return self.issue(old.alias, expiry, old.metadata, now)

        def rotate(store: Store) -> Rotation | None:
            random_bytes = self.keystore.random_bytes
            return rotation.rotate(
                store,
                alias,
                renew,
                now=now,
                overlap=overlap,
                within=within,
                random_bytes=random_bytes,
            )

        with issuing.undelivered(alias):
            done = self.keystore.update(rotate)
        if done is not None:
            ended = done.old._replace(alias=done.new.alias)
            self.journal.write("rotate", [ended], now.instant, done.consequence)
        return done

    def finish(self, alias: str) -> tuple[ApiKey, ApiKey | None]:
        """
        End the overlap of a rotation: remove the old key.

        Returns: The old key, and the new one.

        Raises:
            NotRotatedError: No rotation has left an old key.
            KeystoreError: The keystore could not be changed; see `Keystore.update`.
        """
        old, new = self.keystore.update(lambda store: rotation.finish(store, alias))
        self.journal.write("finish", [old._replace(alias=fold(alias))], self.now().instant)
        return old, new

    def revoke(self, *aliases: str) -> tuple[str, ...]:
        """
        Remove API keys, all or none, leaving every other entry's bytes untouched.

        Args:
            aliases: Letter case is ignored, as in Java; naming one twice counts once.

        Returns: The aliases as given, each once.

        Raises:
            KeyNotFoundError: One of them has no API key; nothing was removed.
            KeystoreError: The keystore could not be changed; see `Keystore.update`.
        """
        wanted: dict[str, str] = {}
        for alias in aliases:
            wanted.setdefault(fold(alias), alias)

        now = self.now()

        def remove(store: Store) -> tuple[list[ApiKey], list[str]]:
            removed = removal.remove(store, wanted.values())
            return removed, rotation.left_behind(store, wanted, now=now)

        removed, left = self.keystore.update(remove)
        for alias in left:
            self._notify(f"The old key of '{alias}' still works, as '{alias}{PREVIOUS}'.")
        self.journal.write("revoke", removed, now.instant)
        return tuple(wanted.values())

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
        removed = self.keystore.update(lambda store: remove(store, keys_seen))
        self.journal.write(action, removed, self.now().instant)
        return tuple(removed)


def _described(key: ApiKey) -> str | None:
    roles = ", ".join(key.metadata.roles)
    return f"roles: {roles}" if roles else None
