"""`verify`: whose key it is, and whether it would be accepted now."""

from __future__ import annotations

import click

from metricshub_apikey.cli.key_text import expiry_phrase, warn_of_unreadable
from metricshub_apikey.cli.options import (
    VerdictCommand,
    common_options,
    pass_session,
    roles_option,
    state_option,
)
from metricshub_apikey.cli.output import green
from metricshub_apikey.cli.result import Document, Result
from metricshub_apikey.cli.session import Session
from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.document import KEY_FIELDS, key_document
from metricshub_apikey.keys.expiry import Moment, text, to_local
from metricshub_apikey.keys.selection import Usage
from metricshub_apikey.registry import verification
from metricshub_apikey.registry.verification import Demand, Verdict, token_in


class Verified(Result):
    """Which key it is, and whether it would be accepted."""

    def __init__(self, verdict: Verdict, usage: Usage, *, keystore: str, now: Moment) -> None:
        self.verdict = verdict
        self.usage = usage
        self.keystore = keystore
        self.now = now

    def document(self) -> Document:
        """Return the verdict, and the fields of the key, all unknown for a foreign one."""
        verdict, key = self.verdict, self.verdict.key
        return {
            "keystore": self.keystore,
            "accepted": verdict.accepted,
            "reason": verdict.reason,
            "message": verdict.sentence,
            **(
                key_document(key, now=self.now, usage=self.usage)
                if key
                else dict.fromkeys(KEY_FIELDS)
            ),
        }

    def lines(self) -> list[str]:
        """Return the verdict in one line."""
        key = self.verdict.key
        name = f"{green(escape(key.alias))}: " if key else ""
        if key is None or not self.verdict.accepted:
            return [f"{name}refused ({escape(self.verdict.sentence)})"]
        rotated = key.metadata.rotated_at
        ending = f"; rotated at {text(to_local(rotated, self.now.zone))}" if rotated else ""
        return [f"{name}accepted ({expiry_phrase(key.expires_on, self.now)}){ending}"]


@click.command("verify", cls=VerdictCommand)
@roles_option("--role", "roles", "The key must have that role")
@click.option(
    "--request", metavar='"METHOD PATH"', help="One of its roles must permit that request."
)
@click.option("--tool", metavar="NAME", help="That request calls this MCP tool.")
@state_option
@common_options()
@pass_session
def command(
    session: Session, *, roles: tuple[str, ...], request: str | None, tool: str | None
) -> int:
    """
    Read a key from standard input, and tell whose it is.

    \b
    Example:
      apikey verify < nightly.key

    It may be in an Authorization header. The exit code is 0 if the key would be accepted now,
    1 if not, 2 if that cannot be told.
    """
    if request is not None and " " not in request:
        raise InvalidArgumentError("A request is a method and a path, such as 'POST /api/x'.")
    _check_tool(session, request, tool)
    session.require_keystore()
    token = token_in(session.read_secret("Key"))
    keys = session.keys.list()
    warn_of_unreadable(session.out, keys)
    verdict = verification.verify(
        token,
        keys,
        now=session.now,
        policy=session.policy,
        demand=Demand(roles, request, tool),
        history=session.history,
    )
    usage = session.usage if session.out.form.has_all_fields else Usage()
    result = Verified(verdict, usage, keystore=session.location.path, now=session.now)
    session.out.show(result)
    return 0 if verdict.accepted else 1


def _check_tool(session: Session, request: str | None, tool: str | None) -> None:
    """Refuse a tool without the request of an MCP path that calls it."""
    if tool is None:
        return
    target = (request or "").partition(" ")[2].strip()
    if not session.policy.mcp.all.covers(target):
        paths = ", ".join(session.policy.mcp.paths) or "there are none"
        raise InvalidArgumentError(
            "--tool needs a --request of an MCP path.", hint=f"The MCP paths are: {paths}."
        )
