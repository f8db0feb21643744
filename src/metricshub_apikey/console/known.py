"""What is known of the keystore and the policy: read again when their files change."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from metricshub_apikey.errors import PolicyError
from metricshub_apikey.files.reading import identity
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.fingerprint import fingerprint
from metricshub_apikey.keystore.keystore import LOCK_TIMEOUT, Keystore
from metricshub_apikey.pkcs12.kdf import Passwords
from metricshub_apikey.policy.file import load
from metricshub_apikey.policy.location import find_policy
from metricshub_apikey.policy.rules import STOCK, Policy
from metricshub_apikey.registry.api_keys import ApiKeys

from .users import User, users_in

ATTEMPTS = 5


@dataclass(frozen=True)
class Files:
    """
    Which files the console is about.

    Attributes:
        keystore: Its path.
        passwords: Its passwords.
        policy: The policy file that was named; None to look beside the keystore.
        lock_timeout: Seconds to wait for another writer.
    """

    keystore: str
    passwords: Passwords
    policy: str | None = None
    lock_timeout: float = LOCK_TIMEOUT


class Known(NamedTuple):
    """
    One reading of the files.

    Attributes:
        keys: In the order of the keystore.
        by_alias: The same by alias.
        by_fingerprint: Those that can be read, by the SHA-256 of the key.
        users: MetricsHub's users by name, where they may sign in.
        policy: The rules, or why they cannot be read.
        version: Changes with the files.
        exists: Whether there is a keystore.
    """

    keys: tuple[ApiKey, ...]
    by_alias: Mapping[str, ApiKey]
    by_fingerprint: Mapping[str, ApiKey]
    users: Mapping[str, User]
    policy: Policy | PolicyError
    version: str
    exists: bool

    @property
    def rules(self) -> Policy:
        """The rules; raises PolicyError where they cannot be read."""
        if isinstance(self.policy, PolicyError):
            raise self.policy
        return self.policy


class Shelf:
    """Holds what was read last."""

    def __init__(self, files: Files, *, with_users: bool) -> None:
        """
        Follow *files*; nothing is read yet.

        Args:
            files: The files.
            with_users: Whether MetricsHub's users are wanted.
        """
        self._files = files
        self._with_users = with_users
        self._known: Known | None = None
        self._state: object = None

    def fresh(self) -> Known | None:
        """Return what is known if the files are as they were; two calls of `stat` tell."""
        return self._known if self._known and self._look() == self._state else None

    def read(self) -> Known:
        """
        Return what is known, read again if a file has changed.

        Raises:
            KeystoreError: The keystore cannot be read.
        """
        known = self.fresh()
        for _ in range(ATTEMPTS):
            if known is not None:
                return known
            self._state = self._look()
            self._known = self._load()
            known = self.fresh()
        if self._known is None:
            raise AssertionError("nothing was read")
        return self._known

    def _look(self) -> object:
        policy = find_policy(self._files.policy, self._files.keystore, {})
        return _identity(self._files.keystore), policy, policy and _identity(policy)

    def _load(self) -> Known:
        self._known = None
        files = self._files
        keystore = Keystore(files.keystore, files.passwords, lock_timeout=files.lock_timeout)
        keys = ApiKeys(keystore).list()
        users = users_in(keystore.read()) if self._with_users else {}
        return Known(
            keys,
            {key.alias: key for key in keys},
            {fingerprint(key.secret.reveal()): key for key in keys if key.secret},
            users,
            self._policy(),
            repr(self._state),
            _identity(files.keystore) is not None,
        )

    def _policy(self) -> Policy | PolicyError:
        path = find_policy(self._files.policy, self._files.keystore, {})
        try:
            return STOCK if path is None else load(path)
        except PolicyError as error:
            return error


def _identity(path: str) -> object:
    """Return what changes when the file does; why it cannot be looked at, where that is so."""
    try:
        return identity(os.stat(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.errno
