"""`verify`."""

from __future__ import annotations

import click

from metricshub_apikey.cli import reports, views
from metricshub_apikey.cli.options import (
    Command,
    common_options,
    pass_session,
    roles_option,
    state_option,
)
from metricshub_apikey.cli.output import Form
from metricshub_apikey.cli.session import Session
from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.registry.verification import Demand, token_in
from metricshub_apikey.registry.verification import verify as decide


@click.command(cls=Command)
@roles_option("--role", "roles", "The key must have that role")
@click.option(
    "--request", metavar='"METHOD PATH"', help="One of its roles must permit that request."
)
@state_option
@common_options()
@pass_session
def verify(session: Session, *, roles: tuple[str, ...], request: str | None) -> int:
    """
    Read a key from standard input, and tell whose it is.

    It may be in an Authorization header. The exit code is 0 if the key would be accepted now,
    else 1.

    \b
    Example:
      apikey verify < nightly.key
    """
    if request is not None and " " not in request:
        raise InvalidArgumentError("A request is a method and a path, such as 'POST /api/x'.")
    token = token_in(session.read_secret("Key"))
    keys = session.keys.list()
    views.warn_of_unreadable(session.out, keys)
    verdict = decide(
        token,
        keys,
        now=session.now,
        policy=session.policy,
        demand=Demand(roles, request),
        history=session.history,
    )
    reports.show_verdict(session.view(usage=session.out.form is Form.JSON), verdict)
    return 0 if verdict.accepted else 1


COMMANDS = (verify,)
