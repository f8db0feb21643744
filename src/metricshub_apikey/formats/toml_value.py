"""
The values in a TOML text, each with its line: what is not as expected is an error that names it.

    >>> Value.read("colour = 3", "paint.toml").members(("colour",))["colour"].text()
    Traceback (most recent call last):
    metricshub_apikey.errors.PolicyError: paint.toml, line 1: colour: expected a text in quotes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, Self, TypeVar

from metricshub_apikey.errors import InvalidArgumentError, PolicyError

from .nearest import did_you_mean
from .toml_lines import Key, line_of

BARE = r"[A-Za-z0-9_-]+"
SYNTAX_ERROR = r"(?P<why>.*) \(at (?:line (?P<line>[0-9]+), column [0-9]+|end of document)\)"

T = TypeVar("T")


class Value(NamedTuple):
    """
    A value in a TOML text, or the whole of it.

    Attributes:
        path: The file, for the errors.
        source: The text of the file.
        key: Where it stands in the tables.
        value: As `tomllib` reads it.
    """

    path: str
    source: str
    key: Key
    value: object

    @classmethod
    def read(cls, source: str, path: str) -> Self:
        """Return the whole text; raises PolicyError if it is not TOML."""
        import tomllib

        try:
            return cls(path, source, (), tomllib.loads(source))
        except RecursionError:
            raise PolicyError(f"{path} is nested too deeply.") from None
        except ValueError as error:
            found = re.fullmatch(SYNTAX_ERROR, str(error))
            if found is None:  # a number with thousands of digits
                raise PolicyError(f"{path} is not TOML: {error}.") from None
            line = found["line"] or source.rstrip("\n").count("\n") + 1
            raise PolicyError(f"{path}, line {line}: this is not TOML: {found['why']}.") from None

    @property
    def name(self) -> str:
        """The key with the tables around it, as one would write it."""
        parts = (part for part in self.key if isinstance(part, str))
        return ".".join(part if re.fullmatch(BARE, part) else repr(part) for part in parts)

    def error(self, sentence: str, hint: str | None = None) -> PolicyError:
        """Return the error that this value is; *sentence* goes on after its name."""
        return self._error_at(self.key, f"{self.name}: {sentence}", hint)

    def expected(self, what: str) -> PolicyError:
        """Return the error that this value is no such thing."""
        return self.error(f"expected {what}.")

    def _error_at(self, key: Key, sentence: str, hint: str | None) -> PolicyError:
        line = line_of(self.source, key)
        return PolicyError(f"{self.path}, line {line}: {sentence}", hint=hint)

    def table(self) -> dict[str, Self]:
        """Return what is in a table."""
        if not isinstance(self.value, dict):
            raise self.expected("a table")
        return {
            name: self._replace(key=(*self.key, name), value=value)
            for name, value in self.value.items()
        }

    def members(
        self, known: tuple[str, ...], homes: Mapping[str, str] | None = None
    ) -> dict[str, Self]:
        """
        Return what is in a table that has only known keys.

        Args:
            known: These keys.
            homes: Where keys belong that might stand here by mistake.
        """
        found = self.table()
        for name, value in found.items():
            if name not in known:
                where = f"[{self.name}]" if self.key else "the file"
                home = homes and homes.get(name)
                hint = f"It belongs {home}." if home else did_you_mean(name, known)
                raise self._error_at(value.key, f"{name!r} is not a key of {where}.", hint)
        return found

    def items(self) -> list[Self]:
        """Return what is in a list."""
        if not isinstance(self.value, list):
            raise self.expected("a list")
        return [
            self._replace(key=(*self.key, index), value=value)
            for index, value in enumerate(self.value)
        ]

    def text(self) -> str:
        """Return a text."""
        if not isinstance(self.value, str):
            raise self.expected("a text in quotes")
        return self.value

    def checked(self, convert: Callable[[str], T]) -> T:
        """Return what *convert* makes of a text, unless it raises InvalidArgumentError."""
        text = self.text()
        try:
            return convert(text)
        except InvalidArgumentError as error:
            raise self.error(error.message, error.hint) from None

    def flag(self) -> bool:
        """Return true or false."""
        if not isinstance(self.value, bool):
            raise self.expected("true or false")
        return self.value

    def number(self, highest: int) -> int:
        """Return a whole number from 1 to *highest*."""
        value = self.value
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= highest:
            raise self.expected(f"a whole number from 1 to {highest:,}")
        return value
