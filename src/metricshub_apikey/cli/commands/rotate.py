"""`rotate`: a new key for an alias; the old one works on for a while."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click

from metricshub_apikey.cli.completion import complete_alias
from metricshub_apikey.cli.delivery import NewKey, Receivers, handover
from metricshub_apikey.cli.options import (
    Command,
    asked_expiry,
    common_options,
    expiry_options,
    length,
    pass_session,
    quiet,
    receivers,
    state_option,
)
from metricshub_apikey.cli.result import Document, Result
from metricshub_apikey.cli.session import Session
from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.document import KEY_FIELDS, key_document
from metricshub_apikey.keys.durations import SECOND
from metricshub_apikey.keys.expiry import Moment, end_of_repetition, text
from metricshub_apikey.keys.selection import Usage
from metricshub_apikey.registry.api_keys import DEFAULT_OVERLAP
from metricshub_apikey.registry.rotation import Rotation, is_due


class Rotated(NewKey):
    """The new key of an alias, and how long the old one works."""

    verb = "rotated"

    def __init__(
        self, done: Rotation, *, alias: str, file: str | None, keystore: str, now: Moment
    ) -> None:
        super().__init__(done.new, alias=alias, file=file, keystore=keystore, now=now)
        self.old = done.old if done.kept and done.old.expires_on is not None else None

    def document(self) -> Document:
        """Return the new key with its secret or file, and the old key while it works."""
        old = self.old and key_document(self.old, now=self.now, usage=Usage())
        return {"keystore": self.keystore, "rotated": True, **self.fields(), "old": old}

    def consequences(self) -> list[str]:
        """Return how long the old key works."""
        if self.old is None or self.old.expires_on is None:
            return []
        ends = self.old.expires_on
        again = end_of_repetition(ends - SECOND, self.now.zone) == ends
        why = ", when the clocks have repeated their hour" if again else ""
        return [f"The old key works until {text(ends)}{why}, as '{self.old.alias}'."]


class NotDue(Result):
    """A key that does not expire soon enough to be rotated."""

    def __init__(self, alias: str, keystore: str) -> None:
        self.alias = alias
        self.keystore = keystore

    def document(self) -> Document:
        """Return the fields of a rotated key, all unknown but the alias."""
        unknown = dict.fromkeys((*KEY_FIELDS, "key", "file", "delivery_output", "old"))
        return {"keystore": self.keystore, "rotated": False, **unknown, "alias": self.alias}


class Finished(Result):
    """The old key of a rotation, which is gone."""

    def __init__(self, alias: str, keystore: str) -> None:
        self.alias = alias
        self.keystore = keystore

    def document(self) -> Document:
        """Return the alias of the old key."""
        return {"keystore": self.keystore, "finished": self.alias}

    def lines(self) -> list[str]:
        """Return one sentence."""
        return [f"The old key '{escape(self.alias)}' has been removed."]


@click.command("rotate", cls=Command)
@click.argument("alias", shell_complete=complete_alias)
@click.option(
    "--overlap",
    metavar="LENGTH",
    type=length,
    help="How long the old key works on; default: 7d; 0 ends it at once.",
)
@click.option(
    "--if-expiring",
    metavar="LENGTH",
    type=length,
    help="Do nothing unless the key expires within that time.",
)
@click.option("--finish", is_flag=True, help="Remove the old key of the last rotation.")
@expiry_options
@receivers
@quiet("Print the key alone.")
@state_option
@common_options()
@pass_session
def command(
    session: Session,
    /,
    *,
    alias: str,
    finish: bool,
    out: str | None,
    deliver: str | None,
    then: str | None,
    deliver_timeout: float,
    **options: Any,  # noqa: ANN401 - what Click passes
) -> None:
    """
    Replace a key by a new one; the old one works on for a while.

    \b
    Example, from cron:
      apikey rotate ci-prod --if-expiring 14d --out /run/ci-prod.key
    """
    session.require_keystore()
    if finish:
        if any(value is not None for value in (out, deliver, then, *options.values())):
            raise InvalidArgumentError("--finish goes with no other option.")
        return _finish(session, alias)
    if not _is_due(session, alias, options["if_expiring"]):
        return _not_due(session, alias)
    with handover(session, Receivers(out, deliver, then, deliver_timeout)) as hands:
        made: list[Rotated] = []

        def give(planned: Rotation) -> None:
            keystore, now = session.location.path, session.now
            made.append(Rotated(planned, alias=alias, file=out, keystore=keystore, now=now))
            hands.give(made[-1])

        done = _rotate(session, alias, give, **options)
        if done is None:  # since a moment ago
            hands.give_up()
            return _not_due(session, alias)
        return hands.finish(made[-1])


def _is_due(session: Session, alias: str, within: timedelta | None) -> bool:
    """Look before the key's file is made: the last rotation's file may still be there."""
    return within is None or is_due(session.keys.get(alias), now=session.now, within=within)


def _not_due(session: Session, alias: str) -> None:
    session.out.note(
        f"The API key '{alias}' does not expire within that time; nothing was changed.",
        minor=True,
    )
    session.out.show(NotDue(alias, session.location.path))


def _rotate(
    session: Session,
    alias: str,
    give: Callable[[Rotation], None],
    *,
    overlap: timedelta | None,
    if_expiring: timedelta | None,
    expires_on: str | None,
    expires_in: str | None,
) -> Rotation | None:
    moment = asked_expiry(session, expires_on, expires_in)
    overlap = DEFAULT_OVERLAP if overlap is None else overlap
    policy = session.policy
    if if_expiring is None:
        return session.keys.rotate(
            alias, overlap=overlap, expires_on=moment, policy=policy, deliver=give
        )
    return session.keys.rotate_if_expiring(
        alias, if_expiring, overlap=overlap, expires_on=moment, policy=policy, deliver=give
    )


def _finish(session: Session, alias: str) -> None:
    old, new = session.keys.finish(alias)
    if new is not None and session.usage.of(new) is None:
        session.out.warn(f"No use of the new key is recorded for '{new.alias}'.")
    finished = Finished(old.alias, session.location.path)
    session.out.show(finished, done="The old key has been removed")
