"""
The items of a list in YAML, one after the other, each value with its line.

What is too much, or nested too deeply, is refused before it is built: PyYAML's fast loader dies of
100,000 open brackets, and ten lines of references can stand for more than memory holds.

    >>> [item.value for item in items("keys: [ci, 12]", "keys.yaml")]
    ['ci', 0]
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from metricshub_apikey.errors import ManifestError

from .toml_lines import Key

if TYPE_CHECKING:
    from yaml import SafeLoader

TAG = "tag:yaml.org,2002:"
TIMESTAMP = f"{TAG}timestamp"
TAGS = (None, "!", f"{TAG}str", TIMESTAMP)
STAND_INS = {f"{TAG}null": None, f"{TAG}int": 0, f"{TAG}float": 0.0}
"""Of these, only the kind matters."""

TRUE = ("true", "yes", "on")
"""How YAML 1.1 writes true."""

LEVELS = 2
"""An item, and a list or mapping in it."""

MAX_MEMBERS = 100
NO_LIST = "there is no list of keys; `keys: []` is an empty one."


class Field(NamedTuple):
    """A value, and its line; in TOML where it stands in the tables, which the line follows from."""

    value: object
    place: int | Key


class _Token(NamedTuple):
    """The start or the end of a list, `[` or `]`, or of a mapping; or a value, with no mark."""

    mark: str
    line: int
    value: object = None


def items(text: str, name: str) -> Iterator[Field]:
    """
    Yield the items of a list, which may be alone in a mapping, as `keys`.

    Args:
        text: The YAML.
        name: Where it is from, for the errors.

    Yields:
        Texts, dates and date times as they are; for other scalars something of the same kind; lists
        of these; mappings of names to fields, in which further mappings have bare values.

    Raises:
        ManifestError: It is not YAML, or more than such a list.
    """
    tokens = _tokens(text, name)
    token = next(tokens, _Token("", 1))
    if token.mark == "{":
        token = next(tokens)
        if token.value == "keys":
            token = next(tokens)
    if token.mark != "[":
        raise _error(name, token.line, NO_LIST)
    for start in tokens:
        if start.mark == "]":
            break
        yield Field(_value(tokens, start, name, LEVELS), start.line)
    for token in tokens:
        if token.mark != "}":
            raise _error(name, token.line, "nothing may follow the list of keys.")


def _error(name: str, line: int, sentence: str) -> ManifestError:
    return ManifestError(f"{name}, line {line}: {sentence}")


def _value(tokens: Iterator[_Token], start: _Token, name: str, levels: int) -> object:
    if not start.mark:
        return start.value
    if not levels:
        raise _error(name, start.line, "this is nested too deeply.")
    if start.mark == "[":
        members = _members(tokens, "]", name)
        return [_value(tokens, token, name, levels - 1) for token in members]
    fields: dict[str, Field] = {}
    for key in _members(tokens, "}", name):
        if not isinstance(key.value, str):
            raise _error(name, key.line, "a name has to be a text; put it in quotes.")
        if key.value in fields:
            raise _error(name, key.line, f"{key.value[:40]!r} is there twice.")
        fields[key.value] = Field(_value(tokens, next(tokens), name, levels - 1), key.line)
    return fields if levels == LEVELS else {key: field.value for key, field in fields.items()}


def _members(tokens: Iterator[_Token], end: str, name: str) -> Iterator[_Token]:
    for number, token in enumerate(tokens):
        if token.mark == end:
            return
        if number == MAX_MEMBERS:
            raise _error(name, token.line, f"this has more than {MAX_MEMBERS} members.")
        yield token


def _tokens(text: str, name: str) -> Iterator[_Token]:
    """Yield the tokens of the one document that there is."""
    import yaml

    marks = {
        yaml.SequenceStartEvent: "[",
        yaml.SequenceEndEvent: "]",
        yaml.MappingStartEvent: "{",
        yaml.MappingEndEvent: "}",
    }
    documents = 0
    try:
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        event = loader.get_event()
        while (kind := type(event)) is not yaml.StreamEndEvent:
            line = event.start_mark.line + 1
            if getattr(event, "tag", None) not in TAGS:
                raise _error(name, line, f"the tag {event.tag[:40]} is not used here.")
            if kind is yaml.ScalarEvent:
                tag = event.tag or loader.resolve(yaml.ScalarNode, event.value, event.implicit)
                yield _Token("", line, _scalar(loader, tag, event.value))
            elif kind in marks:
                yield _Token(marks[kind], line)
            elif kind is yaml.AliasEvent:
                raise _error(name, line, f"write out what *{event.anchor[:40]} stands for.")
            elif kind is yaml.DocumentStartEvent and (documents := documents + 1) > 1:
                raise _error(name, line, "nothing may follow the list of keys.")
            event = loader.get_event()
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        line, why = _reason(error, text)
        raise _error(name, line, f"this is not YAML: {why}.") from None


def _scalar(loader: SafeLoader, tag: str, value: str) -> object:
    if tag == TIMESTAMP:
        from yaml import ScalarNode

        with contextlib.suppress(ValueError, OverflowError, AttributeError):  # of another form
            return loader.construct_yaml_timestamp(ScalarNode(tag, value))
    if tag == f"{TAG}bool":
        return value.lower() in TRUE
    return STAND_INS.get(tag, value)


def _reason(error: Exception, text: str) -> tuple[int, str]:
    """Return the line that PyYAML complains about, and why."""
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return min(mark.line, text.count("\n")) + 1, getattr(error, "problem", None) or "odd"
    position = getattr(error, "position", 0)  # in bytes
    return text.encode()[:position].count(b"\n") + 1, getattr(error, "reason", "odd escape")
