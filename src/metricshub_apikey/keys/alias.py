"""The name of an API key: what a new one may be, and by which names one is found."""

from __future__ import annotations

from collections.abc import Container

from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.pkcs12.bag import fold

MAX_ALIAS = 128

LINE_SEPARATORS = "\u2028\u2029"
BIDI_CONTROLS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
CAPITAL_SIGMA = "\u03a3"


def check_alias(alias: str) -> None:
    """
    Refuse what should not be the alias of a new key.

    Java folds capital sigma in another way than Python, so it cannot be looked up reliably.

    Raises:
        InvalidArgumentError: With the rule that *alias* breaks.
    """
    if not alias or max(len(alias), len(stored(alias))) > MAX_ALIAS:
        raise InvalidArgumentError(f"An alias has 1 to {MAX_ALIAS} characters.")
    if alias.startswith("-"):
        raise InvalidArgumentError("An alias does not begin with a hyphen, as options do.")
    if alias != alias.strip():
        raise InvalidArgumentError("An alias has no white space at its ends.")
    if any(_is_control(character) for character in alias):
        raise InvalidArgumentError(
            "An alias has no control, text direction or line separator characters."
        )
    if any(character.isspace() and character != " " for character in alias):
        raise InvalidArgumentError("Of white space, an alias has only the ordinary space.")
    if CAPITAL_SIGMA in alias or any("\ud800" <= character <= "\udfff" for character in alias):
        raise InvalidArgumentError(
            "An alias has no capital sigma and only valid Unicode: Java would store another name."
        )


def stored(alias: str) -> str:
    """Return the name under which a new *alias* is stored: folded as Java does, in form NFC."""
    if alias.isascii():
        return fold(alias)
    from unicodedata import normalize

    return normalize("NFC", fold(normalize("NFC", alias)))


def spellings(alias: str) -> tuple[str, ...]:
    """Return the names that *alias* may mean, as typed first: others may have stored any form."""
    return tuple(dict.fromkeys((fold(alias), stored(alias))))


def meant(alias: str, known: Container[str]) -> str | None:
    """Return which of the *known* names, all folded, *alias* means; None where none fits."""
    return next((name for name in spellings(alias) if name in known), None)


def _is_control(character: str) -> bool:
    return (
        character < " "
        or "\x7f" <= character <= "\x9f"
        or character in LINE_SEPARATORS
        or character in BIDI_CONTROLS
    )
