"""
A text that no message, log, JSON document or traceback can show.

    >>> token = Secret("3f2b1c4d-8e5f-4a2b-bc15-0ba0f60b15f3")
    >>> token
    Secret(********************15f3)
    >>> f"{token} {(token,)}"
    'Secret(********************15f3) (Secret(********************15f3),)'
    >>> token.reveal()
    '3f2b1c4d-8e5f-4a2b-bc15-0ba0f60b15f3'
"""

from __future__ import annotations

import hmac
from typing import NoReturn, Self

MASK = "*" * 20
SHOWN = 4


class Secret:
    """
    A key, a password, or the absence of one that could be read.

    It is not a `str`, so that formatting, `json.dumps(..., default=str)`, logging, unpacking and
    `dataclasses.asdict` show the mask; pickling is refused.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str | None) -> None:
        """Hide *text*; None stands for a secret that could not be read."""
        self._text = text

    def reveal(self) -> str:
        """
        Return the text: the only way to see it.

        Raises:
            LookupError: The secret could not be read.
        """
        if self._text is None:
            raise LookupError("This secret could not be read.")
        return self._text

    @property
    def masked(self) -> str:
        """20 asterisks and the last four characters; of a text that short, asterisks alone."""
        if self._text is None or len(self._text) <= SHOWN:
            return MASK
        return MASK + self._text[-SHOWN:]

    def __bool__(self) -> bool:
        """Tell whether there is a text, and not an empty one."""
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        """Compare in constant time; two secrets that could not be read are not the same."""
        if not isinstance(other, Secret):
            return NotImplemented
        if self._text is None or other._text is None:
            return self is other
        mine, theirs = (one.encode("utf-8", "surrogatepass") for one in (self._text, other._text))
        return hmac.compare_digest(mine, theirs)

    def __hash__(self) -> int:
        """Return a hash, salted in each process."""
        return hash(self._text)

    def __repr__(self) -> str:
        """Show the mask."""
        return f"Secret({self.masked})"

    def __copy__(self) -> Self:
        """Return itself."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        """Return itself."""
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled."""
        raise TypeError("A secret cannot be pickled.")


UNREADABLE = Secret(None)
"""The secret of an entry that could not be read."""
