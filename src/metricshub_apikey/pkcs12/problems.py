"""
What can be wrong with the bytes of a keystore.

This code does not know the file, so an error holds the end of a sentence; `keystore` makes the
sentence of it.
"""

from __future__ import annotations


class FormatError(Exception):
    """
    The bytes cannot be used.

    Args:
        problem: What is wrong with the file, as the end of a sentence: "is not a keystore".
        hint: What else there is to say, as a sentence.
    """

    def __init__(self, problem: str, *, hint: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint


class NotPkcs12Error(FormatError):
    """The bytes are not a PKCS#12 file at all."""

    def __init__(
        self, problem: str = "is not a PKCS#12 keystore", *, hint: str | None = None
    ) -> None:
        super().__init__(problem, hint=hint)


class DamagedBytesError(FormatError):
    """Wrong password and damage look the same: the MAC does not fit."""

    def __init__(
        self,
        problem: str = "cannot be opened: the password is wrong or the file is damaged",
        *,
        hint: str | None = None,
    ) -> None:
        super().__init__(problem, hint=hint)


class TruncatedBytesError(DamagedBytesError):
    """The bytes end early, as they do while a Java program is writing the file."""


class UnsupportedFormatError(FormatError):
    """A keystore of a kind that is refused on purpose."""


class FormatLimitError(FormatError):
    """The bytes ask for more than a limit allows."""
