"""`create`: one new key, shown once."""

from __future__ import annotations

from typing import Any

import click

from metricshub_apikey.cli.delivery import NewKey, Receivers, handover
from metricshub_apikey.cli.options import (
    Command,
    asked_expiry,
    common_options,
    expiry_options,
    pass_session,
    quiet,
    receivers,
    roles_option,
)
from metricshub_apikey.cli.result import Document, Result
from metricshub_apikey.cli.session import Session
from metricshub_apikey.errors import KeyExistsError, KeySuspendedError
from metricshub_apikey.keys.alias import stored
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.document import KEY_FIELDS
from metricshub_apikey.keys.metadata import parse_labels
from metricshub_apikey.pkcs12.bag import fold


class Created(NewKey):
    """A new key."""

    def document(self) -> Document:
        """Return the key with its secret, or the file that has it."""
        return {"keystore": self.keystore, "created": True, **self.fields()}


class NotCreated(Result):
    """An alias that exists already: its key cannot be shown again."""

    def __init__(self, alias: str, keystore: str) -> None:
        self.alias = alias
        self.keystore = keystore

    def document(self) -> Document:
        """Return the fields of a new key, all unknown but the alias."""
        unknown = dict.fromkeys((*KEY_FIELDS, "key", "file", "delivery_output"))
        return {"keystore": self.keystore, "created": False, **unknown, "alias": self.alias}


@click.command("create", cls=Command)
@click.argument("alias")
@expiry_options
@roles_option("--role", "roles", "What the key may do, behind the gateway")
@click.option("--service-account", metavar="NAME", help="Whom a service sees; default: the alias.")
@click.option("--description", metavar="TEXT", help="What the key is for.")
@click.option(
    "--label", "labels", metavar="NAME=VALUE", multiple=True, help="A label; may be repeated."
)
@receivers
@click.option("--if-missing", is_flag=True, help="Succeed if the alias exists already.")
@quiet("Print the key alone.")
@common_options()
@pass_session
def command(
    session: Session,
    /,
    *,
    alias: str,
    expires_on: str | None,
    expires_in: str | None,
    out: str | None,
    deliver: str | None,
    then: str | None,
    deliver_timeout: float,
    if_missing: bool,
    labels: tuple[str, ...],
    **fields: Any,  # noqa: ANN401 - the other fields of `ApiKeys.create`
) -> None:
    """
    Create an API key and show it, once.

    \b
    Example:
      apikey create ci-prod --expires-in 90d --role metrics-writer
    """
    moment = asked_expiry(session, expires_on, expires_in)
    receivers = Receivers(out, deliver, then, deliver_timeout)
    try:
        if if_missing:
            session.keys.require_free(alias)
        with handover(session, receivers) as hands:
            made: list[Created] = []

            def give(key: ApiKey) -> None:
                note_what_differs(session, key, alias)
                keystore, now = session.location.path, session.now
                made.append(Created(key, alias=alias, file=out, keystore=keystore, now=now))
                hands.give(made[-1])

            session.keys.create(
                alias,
                expires_on=moment,
                labels=dict(parse_labels(labels)),
                policy=session.policy,
                deliver=give,
                **fields,
            )
            hands.finish(made[-1])
    except KeyExistsError as error:
        if not if_missing or isinstance(error, KeySuspendedError):
            raise
        name = stored(alias)
        session.out.note(f"An API key with alias '{name}' exists already; nothing was created.")
        session.out.show(NotCreated(name, session.location.path))


def note_what_differs(session: Session, key: ApiKey, alias: str) -> None:
    """Tell where the new key is not what the user may expect."""
    if key.alias != alias:
        why = "Java ignores letter case" if key.alias == fold(alias) else "in Unicode's form NFC"
        session.out.note(f"Stored as '{key.alias}': {why}.")
    if key.metadata.roles and not session.policy.enforced:
        session.out.note(
            "A stock MetricsHub server gives every key full access: roles count only "
            "where a gateway checks them."
        )
