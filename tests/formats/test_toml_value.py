"""Values in TOML: each kind, and the error with its line where another was expected."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from metricshub_apikey.errors import InvalidArgumentError, PolicyError
from metricshub_apikey.formats.toml_value import Value


def read(source: str) -> dict[str, Value]:
    """Return the values in a text."""
    return Value.read(source, "x.toml").table()


def test_good_values() -> None:
    """Every kind is returned as Python's own."""
    values = read('flag = false\nnumber = 7\ntext = "é"\nlist = ["a", "b"]\n[table.inner]\n')
    assert values["flag"].flag() is False
    assert values["number"].number(7) == 7
    assert values["text"].text() == "é"
    assert [one.text() for one in values["list"].items()] == ["a", "b"]
    assert list(values["table"].members(("inner", "other"))) == ["inner"]


@pytest.mark.parametrize(
    ("source", "take", "expected"),
    [
        ('x = "true"', Value.flag, "true or false"),
        ("x = 1", Value.flag, "true or false"),
        ("x = 0", lambda value: value.number(9), "a whole number from 1 to 9"),
        ("x = -1", lambda value: value.number(9), "a whole number from 1 to 9"),
        ("x = 1_001", lambda value: value.number(1_000), "a whole number from 1 to 1,000"),
        ("x = true", lambda value: value.number(9), "a whole number from 1 to 9"),
        ("x = 1.0", lambda value: value.number(9), "a whole number from 1 to 9"),
        ('x = "1"', lambda value: value.number(9), "a whole number from 1 to 9"),
        ("x = 1", Value.text, "a text in quotes"),
        ("x = 2027-01-01", Value.text, "a text in quotes"),
        ('x = ["a"]', Value.text, "a text in quotes"),
        ('x = "a"', Value.items, "a list"),
        ("x = {}", Value.items, "a list"),
        ("x = 1", Value.table, "a table"),
        ("[[x]]", Value.table, "a table"),
        ("x = []", lambda value: value.members(()), "a table"),
    ],
)
def test_other_kinds(source: str, take: Callable[[Value], object], expected: str) -> None:
    """A value of another kind is named with its line and what was expected."""
    with pytest.raises(PolicyError) as caught:
        take(read(f"\n{source}")["x"])
    assert caught.value.message == f"x.toml, line 2: x: expected {expected}."


def test_names_of_nested_values() -> None:
    """A value is named with the tables around it, quoted where TOML wants that."""
    value = read('[a.b-1."c d"]\nlist = [\n  1,\n]')["a"].table()["b-1"].table()["c d"].table()
    with pytest.raises(PolicyError) as caught:
        value["list"].items()[0].text()
    assert caught.value.message == ("x.toml, line 3: a.b-1.'c d'.list: expected a text in quotes.")


def test_converters() -> None:
    """What a converter says against a text becomes the error about that value, hint and all."""

    def refuse(text: str) -> str:
        raise InvalidArgumentError(f"'{text}' is odd.", hint="Write another.")

    value = read('x = "a"')["x"]
    assert value.checked(str.upper) == "A"
    with pytest.raises(PolicyError) as caught:
        value.checked(refuse)
    assert caught.value.message == "x.toml, line 1: x: 'a' is odd."
    assert caught.value.hint == "Write another."


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("colur", "Did you mean 'colour'?"),
        ("size", "It belongs in [shape]."),
        ("zzz", "Known are: colour, weight."),
    ],
)
def test_unknown_keys(name: str, hint: str) -> None:
    """An unknown key is named with its line, and what may have been meant."""
    table = read(f"[paint]\ncolour = 1\n{name} = 2\n")["paint"]
    with pytest.raises(PolicyError) as caught:
        table.members(("colour", "weight"), {"size": "in [shape]"})
    assert caught.value.message == f"x.toml, line 3: '{name}' is not a key of [paint]."
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("a = ", 1),
        ("\n\na = \nb = 1\n", 3),
        ("a = 1\nb\n", 2),
        ("a = 1\na = 2\n", 2),
        ("a = [1,\n\n2\n", 3),
        ("a = 'x\n'", 1),
        ("[a]\n[a]\n", 2),
    ],
)
def test_syntax_errors(source: str, line: int) -> None:
    """What is not TOML is named with its line."""
    with pytest.raises(PolicyError, match=rf"^x\.toml, line {line}: this is not TOML: .*[^.]\.$"):
        read(source)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("a = " + "[" * 100_000, "is nested too deeply"),
        ("a = " + "9" * 5_000, "is not TOML: Exceeds the limit"),
    ],
)
def test_texts_that_break_a_parser(source: str, why: str) -> None:
    """What Python's parser gives up on is an error like the others."""
    with pytest.raises(PolicyError, match=rf"^x\.toml {why}"):
        read(source)
