"""
What a user may have meant by a name that is not known.

    >>> did_you_mean("rolse", ["alias", "roles"])
    "Did you mean 'roles'?"
"""

from __future__ import annotations

from collections.abc import Iterable

LONGEST = 40
"""Characters of the name that are compared: comparing takes the square of its length."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint for the unknown *name*: the nearest of the *known* names, or all of them."""
    names = list(known)
    return nearest(name, names) or f"Known are: {', '.join(names)}."


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return a hint for the unknown *name*: the nearest of the *known* names; None if none is."""
    from difflib import get_close_matches

    close = get_close_matches(name[:LONGEST], known, n=1)
    return f"Did you mean '{close[0]}'?" if close else None
