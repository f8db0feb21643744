"""Removing keys that were not named one by one: the user sees them and is asked first."""

from __future__ import annotations

from metricshub_apikey.keys.api_key import ApiKey

from .key_text import line
from .session import Session


def remove_agreed(
    session: Session,
    unwanted: tuple[ApiKey, ...],
    action: str,
    *,
    yes: bool,
    secrets: bool = False,
) -> tuple[ApiKey, ...]:
    """Show which keys would go, ask, and remove them in one write; warn of those that stay."""
    if unwanted and not yes:
        for key in unwanted:
            session.out.tell(line(key, session.now))
        session.agree(f"Remove {'this key' if len(unwanted) == 1 else 'these keys'}?")
    if not unwanted:
        return ()
    removed = session.keys.remove(unwanted, action, secrets=secrets)
    gone = {key.secret for key in removed} if secrets else {key.alias for key in removed}
    for key in unwanted:
        if (key.secret if secrets else key.alias) not in gone:
            session.out.warn(f"'{key.alias}' has changed meanwhile, and was left alone.")
    return removed
