"""`rotate`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from metricshub_apikey.cli import completion, handing, views
from metricshub_apikey.cli.options import (
    Command,
    asked_expiry,
    common_options,
    expiry_options,
    length,
    out_option,
    pass_session,
    quiet,
    state_option,
)
from metricshub_apikey.cli.session import Session
from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.registry.api_keys import DEFAULT_OVERLAP
from metricshub_apikey.registry.rotation import Rotation, is_due


@click.command(cls=Command)
@click.argument("alias", shell_complete=completion.complete_alias)
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
@out_option
@quiet("Print the key alone.")
@state_option
@common_options()
@pass_session
def rotate(
    session: Session,
    /,
    *,
    alias: str,
    finish: bool,
    out: str | None,
    **options: Any,  # noqa: ANN401 - what Click passes
) -> None:
    """
    Replace a key by a new one; the old one works on for a while.

    \b
    Example, from cron:
      apikey rotate ci-prod --if-expiring 14d --out /run/ci-prod.key
    """
    if finish:
        if out is not None or any(value is not None for value in options.values()):
            raise InvalidArgumentError("--finish goes with no other option.")
        return _finish(session, alias)
    if not _is_due(session, alias, options["if_expiring"]):
        return views.show_not_due(session.view(), alias)
    with handing.reserve(out) as file:
        done = _rotate(session, alias, **options)
        view = session.view()
        if done is None:  # since a moment ago
            if file is not None:
                file.discard()
            return views.show_not_due(view, alias)
        return handing.hand_out(
            done.new,
            alias,
            file,
            lambda: views.show_rotated(view, done, alias=alias, file=out),
            session.out,
            done="rotated",
        )


def _is_due(session: Session, alias: str, within: timedelta | None) -> bool:
    """Look before the key's file is made: the last rotation's file may still be there."""
    return within is None or is_due(session.registry.get(alias), now=session.now, within=within)


def _rotate(
    session: Session,
    alias: str,
    *,
    overlap: timedelta | None,
    if_expiring: timedelta | None,
    expires_on: str | None,
    expires_in: str | None,
) -> Rotation | None:
    moment = asked_expiry(session, expires_on, expires_in)
    return session.issuing_registry.rotate(
        alias,
        overlap=DEFAULT_OVERLAP if overlap is None else overlap,
        expires_on=moment,
        within=if_expiring,
    )


def _finish(session: Session, alias: str) -> None:
    old, new = session.registry.finish(alias)
    if new is not None and session.usage.of(new) is None:
        session.out.warn(f"Nobody has recorded a use of the new key of '{new.alias}'.")
    with handing.after("The old key has been removed"):
        views.show_finished(session.view(), old)


COMMANDS = (rotate,)
