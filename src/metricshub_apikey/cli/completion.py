"""Completing commands, options and aliases in bash, zsh and fish."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from metricshub_apikey.errors import ApiKeyError

from .session import Session

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_APIKEY_COMPLETE"


def complete_alias(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """
    Return the aliases that begin with what is typed; nothing is decrypted, nothing printed.

    An alias that a shell, or the command, could not take as it is shown is left out.
    """
    del parameter
    return _aliases(context, incomplete, suspended=None)


def complete_working(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the aliases of keys that are not suspended, like `complete_alias`."""
    del parameter
    return _aliases(context, incomplete, suspended=False)


def complete_suspended(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the aliases of suspended keys, like `complete_alias`."""
    del parameter
    return _aliases(context, incomplete, suspended=True)


def _aliases(
    context: click.Context, incomplete: str, *, suspended: bool | None
) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    try:
        aliases = context.ensure_object(Session).quiet_keys().aliases(suspended=suspended)
    except ApiKeyError:
        return []
    begun = incomplete.lower()
    return [
        CompletionItem(alias)
        for alias in aliases
        if alias.startswith(begun)
        and not alias.startswith("-")
        and all(one.isalnum() or one in "._@%+/-" for one in alias)
    ]


def complete_role(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the roles of the policy file that begin with what is typed."""
    del parameter
    from click.shell_completion import CompletionItem

    try:
        roles = context.ensure_object(Session).policy.roles or {}
    except ApiKeyError:
        return []
    return [CompletionItem(role) for role in roles if role.startswith(incomplete)]
