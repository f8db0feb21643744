"""The rules that a new key, or a changed one, must keep before it gets into a keystore."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import NamedTuple

from metricshub_apikey.errors import ExpiryInPastError, NotConfirmedError
from metricshub_apikey.keys.alias import check_alias, stored
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.changes import unchangeable
from metricshub_apikey.keys.entries import RandomBytes
from metricshub_apikey.keys.expiry import Moment, after, end_of_repetition, has_come, text
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.policy.rules import Policy
from metricshub_apikey.secret import Secret


def new_name(alias: str) -> str:
    """
    Return how the alias of a new key is stored: folded as Java does, in Unicode's form NFC.

    Raises:
        InvalidArgumentError: The alias breaks a rule.
    """
    check_alias(alias)
    return stored(alias)


class Issuer(NamedTuple):
    """
    Makes keys that keep the rules; they are in no keystore yet.

    Attributes:
        now: The current moment, and the server's zone.
        policy: The rules.
        actor: Who makes the keys, as `user@host`; None where that is unknown.
        random_bytes: Returns that many random bytes, fit for keys.
    """

    now: Moment
    policy: Policy
    actor: str | None
    random_bytes: RandomBytes

    def new_key(self, alias: str, expires_on: datetime | None, metadata: Metadata) -> ApiKey:
        """
        Return a key that keeps all rules, with a new secret.

        Args:
            alias: As it is stored; see `new_name`.
            expires_on: Local date time; None means the policy's default, or never.
            metadata: What it carries; who made it is added.

        Raises:
            InvalidArgumentError: A field breaks a rule.
            ExpiryInPastError: The key would not live.
            PolicyBreachError: The key would break a rule of the policy.
        """
        now, policy = self.now, self.policy
        metadata = metadata._replace(created_by=self.actor, rotated_at=None)
        metadata.check()
        if expires_on is None and policy.default_lifetime is not None:
            expires_on = after(now, policy.default_lifetime)
        _check_future(expires_on, now)
        policy.enforce(expires_on=expires_on, created_at=now, roles=metadata.roles)
        created_ms = int(now.instant.timestamp() * 1000)
        secret = Secret(policy.new_key(self.random_bytes))
        return ApiKey(alias, secret, expires_on, created_ms, None, metadata)

    def expiry_in(self, length: timedelta) -> datetime:
        """
        Return when a key ends that lives for *length* from now on, as local date time.

        Raises:
            PolicyBreachError: The policy does not offer that lifetime.
            InvalidArgumentError: That is after the year 9999.
        """
        self.policy.check_length(length)
        return after(self.now, length)

    def check_edit(self, old: ApiKey, new: ApiKey) -> None:
        """
        Check that the key *old* may become *new*.

        The lifetime counts from the creation, so that editing cannot prolong a key for ever.

        Raises:
            InvalidArgumentError: A field breaks a rule, or the value cannot be read.
            ExpiryInPastError: The key would no longer live.
            PolicyBreachError: The key would break a rule of the policy.
        """
        new.metadata.check()
        if new.expires_on != old.expires_on:
            if old.unreadable is not None:
                raise unchangeable(old)
            _check_future(new.expires_on, self.now)
        self.policy.enforce(
            expires_on=new.expires_on,
            created_at=self.now._replace(instant=old.created_at or self.now.instant),
            roles=new.metadata.roles,
        )


def _check_future(expires_on: datetime | None, now: Moment) -> None:
    if expires_on is None or not has_come(expires_on, now.local):
        return
    again = end_of_repetition(expires_on, now.zone)
    if again is not None and now.local < again:
        raise ExpiryInPastError(
            f"The clocks are put back at {text(again)}, and a server would take "
            f"{text(expires_on)} for past already.",
            hint=f"Let the key expire at {text(again)} or later.",
        )
    raise ExpiryInPastError("Expiration date time must be in the future.")


@contextmanager
def undelivered(alias: str) -> Iterator[None]:
    """Add what to do to the error after which a new key is in place, and was not handed out."""
    try:
        yield
    except NotConfirmedError as error:
        hint = f"Check the disk. The key was not shown: revoke '{alias}', then create it again."
        raise NotConfirmedError(error.message, hint=hint) from error
