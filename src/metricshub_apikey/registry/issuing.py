"""The rules that a new key, or a changed one, must keep before it gets into a keystore."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from metricshub_apikey.errors import ExpiryInPastError, InvalidArgumentError, NotConfirmedError
from metricshub_apikey.keys.alias import check_alias
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.entries import RandomBytes
from metricshub_apikey.keys.expiry import Moment, after, end_of_repetition, has_come, text
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.pkcs12.bag import fold
from metricshub_apikey.policy.rules import Policy


def new_key(
    alias: str,
    expires_on: datetime | None,
    metadata: Metadata,
    *,
    now: Moment,
    policy: Policy,
    random_bytes: RandomBytes,
) -> ApiKey:
    """
    Return a key that keeps all rules, with a new secret; it is in no keystore yet.

    Args:
        alias: As the user typed it.
        expires_on: Local date time; None means the policy's default, or never.
        metadata: What it carries.
        now: The current moment.
        policy: The rules.
        random_bytes: Returns that many random bytes, fit for keys.

    Raises:
        InvalidArgumentError: The alias, or a field, breaks a rule.
        ExpiryInPastError: The key would not live.
        PolicyBreachError: The key would break a rule of the policy.
    """
    check_alias(alias)
    metadata.check()
    if expires_on is None and policy.default_lifetime is not None:
        expires_on = after(now, policy.default_lifetime)
    _check_future(expires_on, now)
    policy.enforce(expires_on=expires_on, created_at=now, roles=metadata.roles)
    created_ms = int(now.instant.timestamp() * 1000)
    return ApiKey(fold(alias), policy.new_key(random_bytes), expires_on, created_ms, None, metadata)


def check_edit(old: ApiKey, new: ApiKey, *, now: Moment, policy: Policy) -> None:
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
        _check_future(new.expires_on, now)
    created_at = now._replace(instant=old.created_at or now.instant)
    policy.enforce(expires_on=new.expires_on, created_at=created_at, roles=new.metadata.roles)


def unchangeable(key: ApiKey) -> InvalidArgumentError:
    """Return the error for an expiry that cannot be changed, as its entry cannot be read."""
    return InvalidArgumentError(f"The expiry of '{key.alias}' cannot be changed: {key.unreadable}.")


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
    """Add what to do to the error after which a new key is in place, and nobody has got it."""
    try:
        yield
    except NotConfirmedError as error:
        hint = f"Check the disk. Nobody got the key: revoke '{alias}', then create it again."
        raise NotConfirmedError(error.message, hint=hint) from error
