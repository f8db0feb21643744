r"""
On which line of a TOML text each table, key and list element stands; `tomllib` does not tell.

It reads only what `tomllib` has already accepted, so it checks nothing.

    >>> lines('[keys]\nlifetimes = [\n  "30d",\n]\n')
    {('keys',): 1, ('keys', 'lifetimes'): 2, ('keys', 'lifetimes', 0): 3}
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Key = tuple[str | int, ...]

TOKEN = re.compile(
    r'''(?P<string>"""(?s:\\.|[^\\])*?"{3,5}|\'{3}(?s:.)*?\'{3,5}|"(?:\\.|[^"\\])*"|'[^']*')'''
    r"""|(?P<mark>[][{}=,.\n])|(?P<word>[^][{}=,.\s#"']+)|(?P<blank>#[^\n]*|[^\S\n]+)"""
)
"""The quotes of a long string may follow up to two that belong to it."""


def lines(text: str) -> dict[Key, int]:
    """
    Return the line of each table, key and list element of *text*, counted from 1.

    Args:
        text: What `tomllib.loads` has read without an error.
    """
    return _Reader(text).read()


def line_of(text: str, key: Key) -> int:
    """Return the line of *key* in *text*, or of the nearest table around it."""
    found = lines(text)
    return next((found[key[:size]] for size in range(len(key), 0, -1) if key[:size] in found), 1)


class _Reader:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._next = 0
        self._lines: dict[Key, int] = {}
        self._lengths: dict[Key, int] = {}  # of the lists of tables, [[...]]

    def read(self) -> dict[Key, int]:
        table: Key = ()
        while self._skip("\n"):
            if self._take("["):
                table = self._header(is_list=self._take("["))
            else:
                self._pair(table)
        return self._lines

    def _header(self, *, is_list: bool) -> Key:
        """Read a table's name, in which a list of tables stands for its last one."""
        line = self._tokens[self._next][1]
        table: Key = ()
        for part in self._name("]"):
            if table in self._lengths:
                table = (*table, self._lengths[table] - 1)
            table = (*table, part)
            self._lines.setdefault(table, line)
        if is_list:
            self._take("]")
            self._lengths[table] = self._lengths.get(table, 0) + 1
        if table in self._lengths:
            table = (*table, self._lengths[table] - 1)
            self._lines[table] = line
        return table

    def _pair(self, table: Key) -> None:
        line = self._tokens[self._next][1]
        for part in self._name("="):
            table = (*table, part)
            self._lines.setdefault(table, line)
        self._value(table)

    def _name(self, end: str) -> Iterator[str]:
        while not self._take(end):
            if not self._take("."):
                yield _unquoted(self._tokens[self._next][0])
                self._next += 1

    def _value(self, key: Key) -> None:
        if self._take("["):
            index = 0
            while self._skip(",\n") and not self._take("]"):
                self._lines[*key, index] = self._tokens[self._next][1]
                self._value((*key, index))
                index += 1
        elif self._take("{"):
            while self._skip(",\n") and not self._take("}"):
                self._pair(key)
        else:
            while self._next < len(self._tokens) and self._tokens[self._next][0] not in ",]}\n":
                self._next += 1

    def _take(self, mark: str) -> bool:
        taken = self._next < len(self._tokens) and self._tokens[self._next][0] == mark
        self._next += taken
        return taken

    def _skip(self, marks: str) -> bool:
        """Skip these marks; return whether anything is left."""
        while any(map(self._take, marks)):
            pass
        return self._next < len(self._tokens)


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    line = 1
    for found in TOKEN.finditer(text):
        if found.lastgroup != "blank":
            yield found[0], line
        line += found[0].count("\n")


def _unquoted(name: str) -> str:
    if name[0] not in "\"'":
        return name
    import tomllib

    text: str = tomllib.loads(f"name = {name}")["name"]
    return text
