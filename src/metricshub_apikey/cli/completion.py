"""Completing commands, options and aliases in bash, zsh, fish and PowerShell."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from metricshub_apikey.errors import ApiKeyError

from .session import Session

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SHELLS = ("bash", "zsh", "fish", "powershell")
VARIABLE = "_APIKEY_COMPLETE"

POWERSHELL = """\
Register-ArgumentCompleter -Native -CommandName %(prog_name)s, %(prog_name)s.cmd -ScriptBlock {
    param($word, $commandAst, $position)
    $words = @($commandAst.CommandElements |
        Where-Object { $_.Extent.StartOffset -lt $position } | ForEach-Object { $_.ToString() })
    if ($word -eq '') { $words += '' }
    $env:_APIKEY_WORDS = $words -join "`n"
    $env:%(complete_var)s = 'powershell_complete'
    $encoding = [Console]::OutputEncoding
    try {
        [Console]::OutputEncoding = [System.Text.UTF8Encoding]::new()
        & $commandAst.CommandElements[0].ToString() | ForEach-Object {
            $kind, $value, $help = $_ -split "`t", 3
            if ($kind -eq 'plain') {
                [System.Management.Automation.CompletionResult]::new(
                    $value, $value, 'ParameterValue', $help)
            }
        }
    } finally {
        [Console]::OutputEncoding = $encoding
        Remove-Item Env:_APIKEY_WORDS, Env:%(complete_var)s
    }
}
"""
"""For `Register-ArgumentCompleter`; where a file is wanted it completes those by itself."""


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


def register_powershell() -> None:
    """Let Click complete for PowerShell, too; it knows the three shells of POSIX systems."""
    from click.shell_completion import ShellComplete, add_completion_class

    class PowerShell(ShellComplete):
        """
        What PowerShell's `Register-ArgumentCompleter` asks for.

        The words come one a line, the one that is typed last; each item goes back as a line.
        """

        name = "powershell"
        source_template = POWERSHELL

        def get_completion_args(self) -> tuple[list[str], str]:
            """Return the words before the one that is typed, and that one."""
            words = os.environ.get("_APIKEY_WORDS", "").split("\n")[1:]
            return words[:-1], words[-1] if words else ""

        def format_completion(self, item: CompletionItem) -> str:
            """Return a line for an item: its kind, its text, and what it means."""
            return f"{item.type}\t{item.value}\t{item.help or item.value}"

    add_completion_class(PowerShell)
