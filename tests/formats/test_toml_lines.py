"""The lines of TOML: where each table, key and list element stands."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metricshub_apikey.formats.toml_lines import Key, line_of, lines

ODD = '''\
a.b = 1.5 # x = "
c = {d = "}#", e.f = [1, {g = 2}]}
s = """x
[no]
y = \\"""z
"""""
l = \'\'\'
[[no]] '' "
\'\'\'
[x."y.\\u007A]" . 'w"']
k = [
  1, # ]

  "a]\\"", 'b\\',
  [2,
   3],
]
[[t]]
n = 2020-01-01 10:00:00
[[t]]
n=-inf
[t.u]
v = "" # """
w = """a""""
x = "b"
[[t.w]]
'''


def keys(value: object, key: Key = ()) -> list[Key]:
    """Return the key of every table, value and list element in what `tomllib` read."""
    found: list[Key] = [key] if key else []
    if isinstance(value, dict):
        for name, member in value.items():
            found += keys(member, (*key, name))
    if isinstance(value, list):
        for index, member in enumerate(value):
            found += keys(member, (*key, index))
    return found


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("a",), 1),
        (("a", "b"), 1),
        (("c", "e", "f", 1, "g"), 2),
        (("s",), 3),
        (("l",), 7),
        (("x", "y.z]", 'w"'), 10),
        (("x", "y.z]", 'w"', "k"), 11),
        (("x", "y.z]", 'w"', "k", 0), 12),
        (("x", "y.z]", 'w"', "k", 1), 14),
        (("x", "y.z]", 'w"', "k", 2), 14),
        (("x", "y.z]", 'w"', "k", 3, 1), 16),
        (("t",), 18),
        (("t", 0, "n"), 19),
        (("t", 1), 20),
        (("t", 1, "n"), 21),
        (("t", 1, "u", "v"), 23),
        (("t", 1, "u", "x"), 25),
        (("t", 1, "w", 0), 26),
    ],
)
def test_odd_but_valid(key: Key, line: int) -> None:
    """Dotted, quoted and inline keys, long strings and lists of tables are found."""
    assert lines(ODD)[key] == line


def test_every_key_is_found() -> None:
    """What `tomllib` reads and what has a line are the same keys."""
    assert sorted(map(repr, lines(ODD))) == sorted(map(repr, keys(tomllib.loads(ODD))))


def test_lines_may_end_as_on_windows() -> None:
    """Both kinds of line ends count as one."""
    assert lines(ODD.replace("\n", "\r\n")) == lines(ODD)


def test_what_has_no_line_has_that_of_its_table() -> None:
    """A key that is not in the text is where its table is, or else on the first line."""
    text = "\n[a]\nb = {c = 1}\n"
    assert line_of(text, ("a", "b", "x", 0)) == 3
    assert line_of(text, ("a", "x")) == 2
    assert line_of(text, ("x",)) == 1


VALUES = st.sampled_from(
    [
        *("1", "-1.5e3", "true", '"x"', "'#'", '"""a\nb = 1"""', "'''\n[x]\n'''", "07:32:00"),
        *("[]", "[1, 2]", "[\n  'a', # [\n  'b',\n]", "{}", "{y = 1, z.a = [2]}", '["]", "}"]'),
    ]
)
NAMES = st.sampled_from(["a", "b-c", '"d.e"', "'f # g'", "1", "h_i", '"\\"j"'])


@given(st.lists(st.tuples(NAMES, st.lists(st.tuples(NAMES, VALUES), max_size=4)), max_size=4))
def test_any_tables(tables: list[tuple[str, list[tuple[str, str]]]]) -> None:
    """Every key of every table is on the line where it was written."""
    text = ""
    expected: dict[Key, int] = {}
    for table, members in dict(tables).items():
        expected[unquoted(table),] = text.count("\n") + 1
        text += f"[{table}]\n"
        for name, value in dict(members).items():
            expected[unquoted(table), unquoted(name)] = text.count("\n") + 1
            text += f"{name} = {value}\n"
    found = lines(text)
    assert sorted(map(repr, found)) == sorted(map(repr, keys(tomllib.loads(text))))
    assert {key: line for key, line in found.items() if key in expected} == expected


def unquoted(name: str) -> str:
    """Return a key as `tomllib` reads it."""
    return next(iter(tomllib.loads(f"{name} = 1")))
