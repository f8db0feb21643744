"""The name of an API key: what a new one may be."""

from __future__ import annotations

from metricshub_apikey.errors import InvalidArgumentError

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
    if not 1 <= len(alias) <= MAX_ALIAS:
        raise InvalidArgumentError(f"An alias has 1 to {MAX_ALIAS} characters.")
    if alias != alias.strip():
        raise InvalidArgumentError("An alias has no white space at its ends.")
    if any(_is_control(character) for character in alias):
        raise InvalidArgumentError(
            "An alias has no control, text direction or line separator characters."
        )
    if CAPITAL_SIGMA in alias or any("\ud800" <= character <= "\udfff" for character in alias):
        raise InvalidArgumentError(
            "An alias has no capital sigma and only valid Unicode: Java would store another name."
        )


def _is_control(character: str) -> bool:
    return (
        character < " "
        or "\x7f" <= character <= "\x9f"
        or character in LINE_SEPARATORS
        or character in BIDI_CONTROLS
    )
