r"""
Text that came from elsewhere, made harmless for a terminal and for a line of a log.

    >>> print(escape("ci\x1b[2J"))
    ci\x1b[2J
"""

from __future__ import annotations

INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")


class _Visible(dict[int, str]):
    """What to show for each character, found out when the character is met for the first time."""

    def __missing__(self, code: int) -> str:
        from unicodedata import category

        one = chr(code)
        hidden = category(one) in INVISIBLE
        self[code] = one.encode("unicode_escape").decode() if hidden else one
        return self[code]


def escape(raw: str) -> str:
    """Return *raw* with everything that could move the cursor or hide as an escape sequence."""
    return raw if raw.isprintable() else raw.translate(_Visible())
