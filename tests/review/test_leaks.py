"""Leaks: keys of a keystore in files, folders and standard input."""

from __future__ import annotations

import io
import os
import random
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.keys.prefixed import new_prefixed_key
from metricshub_apikey.review import leaks
from metricshub_apikey.review.leaks import FEW, Leak, find_leaks

KEY = "eb47c2be-927f-495f-aa97-0ba0f60b8986"
OTHER = "0dd3a7a4-6d8f-4a9c-8f0e-5d5d0f8f0a11"
PREFIXED_KEY = "metoro_secret_00000000000000000000000000000000000000000001YOTla"
ODD = "hunter2-hunter2"
KEYS = {KEY: "web", OTHER: "ci", PREFIXED_KEY: "push", ODD: "old"}


class Search(NamedTuple):
    """What a search found, and what it left out."""

    found: list[Leak]
    skipped: list[tuple[str, str]]


def search(
    *paths: str | Path,
    keys: Mapping[str, str] = KEYS,
    stdin: bytes = b"",
    chunk_size: int = leaks.CHUNK,
) -> Search:
    """Look for keys and collect all there is to tell."""
    skipped: list[tuple[str, str]] = []
    found = find_leaks(
        keys,
        [str(path) for path in paths],
        stdin=io.BytesIO(stdin),
        progress=lambda _done, _total: None,
        skipped=lambda what, why: skipped.append((what, why)),
        chunk_size=chunk_size,
    )
    return Search(list(found), skipped)


def in_text(text: bytes, keys: Mapping[str, str] = KEYS, chunk_size: int = 64) -> list[Leak]:
    """Return the keys in a text."""
    return search("-", keys=keys, stdin=text, chunk_size=chunk_size).found


def naive(text: bytes, keys: Mapping[str, str]) -> list[Leak]:
    """Return the same, found line by line and key by key."""
    return [
        Leak("-", number, alias)
        for number, line in enumerate(text.split(b"\n"), 1)
        for _, _, alias in sorted(
            (line.index(key.encode()), key.encode(), alias)
            for key, alias in keys.items()
            if key.encode() in line
        )
    ]


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "Authorization: Bearer {}",
        "https://host:31888/mcp?key={}&x=1",
        '{{"key": "{}"}}',
        "export KEY='{}'; run",
        "abcdef{}abcdef",
        "-{}-",
        "0123-4567-89ab-{}",
        "a{0}{0}b",
        "\t{}\r",
        "metoro_secret_{}",
        "é{}é\xff",
    ],
)
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("chunk_size", [1, 7, 100_000])
def test_found_wherever_it_stands(line: str, key: str, chunk_size: int) -> None:
    """A key of any kind is found whatever surrounds it, and wherever a chunk ends."""
    text = f"first\n{line.format(key)}\nlast".encode()
    assert in_text(text, chunk_size=chunk_size) == [Leak("-", 2, KEYS[key])]


@pytest.mark.parametrize("key", [KEY[:-1], KEY.upper(), KEY.replace("-", ""), PREFIXED_KEY[:-1]])
def test_what_is_no_key_is_not_found(key: str) -> None:
    """A part of a key, or a key in other letters, is not the key."""
    assert in_text(key.encode()) == []


def test_once_for_each_line() -> None:
    """A key that stands in a line twice is told once, in the order of occurrence."""
    text = f"{KEY} {OTHER} {KEY}\n\n{OTHER}{KEY}{OTHER}".encode()
    assert in_text(text) == [
        Leak("-", 1, "web"),
        Leak("-", 1, "ci"),
        Leak("-", 3, "ci"),
        Leak("-", 3, "web"),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_lines_are_counted(end: str, last: bool) -> None:  # noqa: FBT001
    """Lines end with a line feed, with or without a carriage return; the last one may not."""
    lines = [KEY if number % 7 == 0 else "x" * number for number in range(1, 100)]
    text = (end.join(lines) + (end if last else "")).encode()
    assert [leak.line for leak in in_text(text)] == list(range(7, 100, 7))


def test_a_long_line() -> None:
    """A line need not fit in a chunk, and a key that it repeats is told once."""
    text = b"x" * 300_000 + KEY.encode() + b"y" * 300_000 + KEY.encode() + b"\n" + ODD.encode()
    assert in_text(text, chunk_size=1000) == [Leak("-", 1, "web"), Leak("-", 2, "old")]


@pytest.mark.parametrize("kind", ["v1", "upper", "nil"])
def test_uuids_of_other_makers(kind: str) -> None:
    """Any UUID is found as it is written."""
    key = {
        "v1": "c232ab00-9414-11ec-b3c8-9f6bdeced846",
        "upper": KEY.upper(),
        "nil": str(UUID(int=0)),
    }[kind]
    assert in_text(f"00{key}00".encode(), {key: "a"}) == [Leak("-", 1, "a")]


def test_prefixes_that_overlap() -> None:
    """A prefix that begins inside another one, or at the end of another key, is found."""
    body = "0" * 48
    keys = {f"a_{body}a": "short", f"a_a_{body}1": "long", f"b_{body}a": "next"}
    first, second, third = keys
    keys[f"a_{body}2"] = "glued"
    text = f"a_{second}\n{first}_{body}2\n{third}_{body}a".encode()
    assert in_text(text, keys, 1000) == naive(text, keys)
    assert [leak.line for leak in in_text(text, keys, 1000)] == [1, 2, 2, 3, 3]


@pytest.mark.parametrize("count", [1, FEW, FEW + 1, 200])
@pytest.mark.parametrize("length", [8, 14, 15, 30, 31, 200])
@pytest.mark.parametrize("chunk_size", [5, 1000])
def test_any_number_of_keys_of_any_length(count: int, length: int, chunk_size: int) -> None:
    """Few keys or many, short or long: all are found, at any distance from the start."""
    chance = random.Random(count * length)
    keys = {"".join(chance.choices("ab-1", k=length)): f"key-{number}" for number in range(count)}
    text = "\n".join("x" * (number % 50) + key for number, key in enumerate(keys)).encode()
    assert in_text(text, keys, chunk_size) == naive(text, keys)


def test_many_prefixes() -> None:
    """Prefixed keys of which each has a prefix of its own are found like any others."""
    chance = random.Random(1)
    prefixes = [f"app{number}_" for number in range(3 * FEW)]
    keys = {new_prefixed_key(prefix, chance.randbytes): prefix for prefix in prefixes}
    text = "".join(keys).encode()
    assert [leak.alias for leak in in_text(text, keys)] == prefixes


ALPHABET = "ab-_0"


@st.composite
def texts_with_keys(draw: st.DrawFn) -> tuple[dict[str, str], bytes]:
    """Return keys of all kinds, alike as keys never are, and a text made of their parts."""
    chance = draw(st.randoms(use_true_random=False))
    kinds: list[Callable[[], str]] = [
        lambda: "".join(chance.choices(ALPHABET, k=chance.randint(8, 70))),
        lambda: "".join(chance.choices("ab", k=chance.randint(8, 12))),
        lambda: str(UUID(int=chance.choice([0, 1, 1 << 60]) * chance.choice([1, 1 << 64]))),
        lambda: chance.choice(["a_", "b_a_"]) + "".join(chance.choices("ab", k=49)),
        lambda: "é" * chance.randint(8, 20),
    ]
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=5))
    made = {chance.choice(chosen)() for _ in range(draw(st.integers(1, 60)))}
    keys = {key: f"key-{number}" for number, key in enumerate(sorted(made))}
    parts = []
    for _ in range(draw(st.integers(0, 40))):
        key = chance.choice(list(keys)).encode()
        start = chance.choice([0, 0, 0, chance.randrange(len(key))])
        end = chance.choice([None, None, chance.randrange(len(key))])
        parts += [key[start:end], chance.choice([b"", b"", b"a", b"-", b"\n", b"\r\n", b"\xff"])]
    return keys, b"".join(parts)


@settings(max_examples=75, deadline=None)
@given(texts_with_keys(), st.integers(1, 200))
def test_found_as_by_the_naive_search(case: tuple[dict[str, str], bytes], chunk_size: int) -> None:
    """Whatever the keys, the text and the chunks, each line has the keys that are in it."""
    keys, text = case
    assert in_text(text, keys, chunk_size) == naive(text, keys)


def test_found_as_by_grep(tmp_path: Path) -> None:
    """The lines are those of `grep -F`, in a text of many chunks."""
    chance = random.Random(2)
    keys = {new_prefixed_key("app_", chance.randbytes): f"key-{number}" for number in range(50)}
    lines = [chance.choice([*keys, "nothing", KEY]) * chance.randint(0, 3) for _ in range(2000)]
    file = tmp_path / "text"
    file.write_text("\n".join(lines), "utf-8")
    (tmp_path / "keys").write_text("\n".join(keys), "utf-8")
    grep = ["grep", "-Fn", "-f", str(tmp_path / "keys"), str(file)]
    printed = subprocess.run(grep, check=True, capture_output=True, text=True).stdout
    expected = [int(line.split(":")[0]) for line in printed.splitlines()]
    found = search(file, keys=keys, chunk_size=4096).found
    assert [leak.line for leak in found] == expected


# What is not searched


def test_short_keys_are_left_out_once() -> None:
    """A key that would match everything, or cannot be in a line, is named by its alias."""
    keys = {"1234567": "short", "12345678": "long", "": "empty", "two\nlines of key": "split"}
    result = search("-", "-", keys=keys, stdin=b"12345678 1234567 two\nlines of key")
    assert result.found == [Leak("-", 1, "long")]
    why = "its key has fewer than 8 characters, or a line break"
    assert result.skipped == [("short", why), ("empty", why), ("split", why)]


def test_no_key_at_all(tmp_path: Path) -> None:
    """Nothing is found where there is nothing to look for, or nothing to look at."""
    (tmp_path / "text").write_text(KEY)
    assert search(tmp_path, keys={}) == ([], [])
    assert search() == ([], [])


def test_binary_files(tmp_path: Path) -> None:
    """A file with an early zero byte is searched, too; a key in it is told by its offset."""
    binary = tmp_path / "binary"
    binary.write_bytes(b"\0\n" + KEY.encode() + b"\0")
    late = tmp_path / "late"
    late.write_bytes(b"x" * 8192 + b"\0" + KEY.encode())
    found = Leak(str(binary), None, "web", 2)
    assert search(tmp_path) == ([found, Leak(str(late), 1, "web")], [])
    assert search(binary) == ([found], [])
    assert search("-", stdin=binary.read_bytes()) == ([found._replace(file="-")], [])


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("chunk_size", [5, 64, 4096])
def test_wide_texts_without_a_mark(tmp_path: Path, encoding: str, chunk_size: int) -> None:
    """A key is found in UTF-16 and UTF-32 of both orders, wherever the chunks end."""
    file = tmp_path / "wide"
    text = f"a line\nkey={KEY};\n"
    file.write_bytes(text.encode(encoding))
    (leak,) = search(file, chunk_size=chunk_size).found
    assert (leak.line, leak.alias, leak.offset is not None) == (None, "web", True)
    assert text.encode(encoding)[leak.offset :].replace(b"\0", b"").startswith(KEY.encode())


def test_a_pipe_that_was_named(tmp_path: Path) -> None:
    """What a shell makes of `<(...)` is read to its end."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["sh", "-c", f"printf '%s' 'a {KEY}' > '{pipe}'"]):
        assert search(pipe) == ([Leak(str(pipe), 1, "web")], [])


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-8"])
@pytest.mark.parametrize("chunk_size", [3, 4096])
def test_texts_with_a_mark(tmp_path: Path, encoding: str, chunk_size: int) -> None:
    """What PowerShell writes is text, whatever its byte order."""
    file = tmp_path / "transcript"
    file.write_bytes(f"\ufeffé😀\r\nkey {KEY}\r\n{ODD}".encode(encoding) + b"\xd8")
    expected = [Leak(str(file), 2, "web"), Leak(str(file), 3, "old")]
    assert search(file, chunk_size=chunk_size).found == expected


# Files and folders


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a folder with texts in folders."""
    for name in ("b/2", "b/1", "b/c/3", "a/4", "z"):
        file = tmp_path / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"\n{KEY}\n")
    return tmp_path / "tree"


def files(result: Search, top: Path) -> list[str]:
    """Return in which files something was found."""
    return [os.path.relpath(leak.file, top) for leak in result.found]


def test_folders_are_walked_in_order(tree: Path) -> None:
    """All files are found, those of a folder first, by name."""
    assert files(search(tree), tree) == ["z", "a/4", "b/1", "b/2", "b/c/3"]


def test_names_are_as_given(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is shown as it was named, or as it was reached from what was named."""
    monkeypatch.chdir(tree)
    named = ["z", "./z", "a", "-"]
    found = search(*named, stdin=KEY.encode()).found
    assert [leak.file for leak in found] == ["z", "./z", "a/4", "-"]


def test_links(tree: Path, tmp_path: Path) -> None:
    """A link is followed to a file, not to a folder, unless it was named; loops end."""
    (tree / "b" / "loop").symlink_to(tree)
    (tree / "gone").symlink_to("nowhere")
    (tree / "self").symlink_to("self")
    outside = tmp_path / "outside"
    outside.write_text(ODD)
    (tree / "link").symlink_to(outside)
    result = search(tree)
    assert files(result, tree) == ["link", "z", "a/4", "b/1", "b/2", "b/c/3"]
    assert [Path(what).name for what, _ in result.skipped] == ["self"]
    named = tmp_path / "named"
    named.symlink_to(tree / "b")
    assert files(search(named), named) == ["1", "2", "c/3"]


def test_special_files_are_not_opened(tree: Path) -> None:
    """A pipe in a folder, a socket or a device delays no search; a named one is mentioned."""
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(tree / "socket"))
    assert len(search(tree).found) == 5
    for special in (tree / "socket", "/dev/zero"):
        assert search(special) == ([], [(str(special), "it is neither a file nor a pipe")])


@pytest.mark.parametrize("name", ["nothing", "z/nothing"])
def test_a_path_that_does_not_exist(tree: Path, name: str) -> None:
    """A mistyped path is an error at once, before anything is read."""
    with pytest.raises(InvalidArgumentError) as caught:
        find_leaks(
            KEYS,
            [str(tree / name)],
            stdin=io.BytesIO(),
            progress=lambda _done, _total: None,
            skipped=lambda _what, _why: None,
        )
    assert caught.value.message == f"{tree / name} does not exist."


UNPRIVILEGED = """
import io, os, sys
from metricshub_apikey.review.leaks import find_leaks
key, top = sys.argv[1:]
if not os.geteuid():
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
tell = lambda what, why: print(os.path.relpath(what, top), why)
found = find_leaks({key: "web"}, [top], stdin=io.BytesIO(), progress=print, skipped=tell)
for leak in found:
    print(os.path.relpath(leak.file, top), leak.line)
"""


def test_what_cannot_be_read(public: Path) -> None:
    """An unreadable file or folder is told with the reason, and the search goes on."""
    for name in ("a", "b/c", "d"):
        (public / name).parent.mkdir(mode=0o755, exist_ok=True)
        (public / name).write_text(KEY)
    (public / "a").chmod(0)
    (public / "b").chmod(0)
    try:
        command = [sys.executable, "-c", UNPRIVILEGED, KEY, str(public)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    finally:
        (public / "b").chmod(0o755)
    assert printed.splitlines() == ["b Permission denied", "a Permission denied", "d 1"]


def test_what_changes_meanwhile(tree: Path) -> None:
    """A file that is gone, or something else, when its turn comes is told; others are read."""
    skipped: list[tuple[str, str]] = []
    found = find_leaks(
        KEYS,
        [str(tree)],
        stdin=io.BytesIO(),
        progress=lambda _done, _total: None,
        skipped=lambda what, why: skipped.append((os.path.relpath(what, tree), why)),
    )
    (tree / "z").unlink()
    (tree / "a/4").unlink()
    os.mkfifo(tree / "a/4")
    (tree / "b/1").unlink()
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(tree / "b/1"))
    assert [os.path.relpath(leak.file, tree) for leak in found] == ["b/2", "b/c/3"]
    assert skipped == [(name, "it is no longer a regular file") for name in ("z", "a/4", "b/1")]


def test_deep_folders(tmp_path: Path) -> None:
    """Folders nested deeper than Python's own stack are walked."""
    home = os.open(".", os.O_RDONLY)
    try:
        os.chdir(tmp_path)
        for _ in range(1200):
            os.mkdir("d")
            os.chdir("d")
        Path("text").write_text(KEY)
        os.fchdir(home)
        found = search(tmp_path).found
        assert [leak.file.count("/d") for leak in found] == [1200]
    finally:
        os.fchdir(home)
        os.close(home)
        # Python 3.11 itself cannot remove them.
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


def test_many_keys_and_odd_file_names(tree: Path) -> None:
    """A file name that is not UTF-8 is kept as Python knows it."""
    name = os.fsencode(tree) + b"/\xff\n"
    with open(name, "w", encoding="ascii") as file:
        file.write(KEY)
    assert os.fsencode(search(tree).found[1].file) == name


# How far it is


def test_progress(tmp_path: Path) -> None:
    """The bytes that are done grow to all there are, however files are split and binary."""
    (tmp_path / "a").write_bytes(b"x" * 5_000_000)
    (tmp_path / "b").write_bytes(b"\0" * 3_000_000)
    for number in range(20):
        (tmp_path / f"c{number}").write_bytes(b"x" * 100_000)
    told: list[tuple[int, int]] = []
    found = find_leaks(
        KEYS,
        [str(tmp_path), "-"],
        stdin=io.BytesIO(b"x" * 1_000_000),
        progress=lambda done, total: told.append((done, total)),
        skipped=lambda _what, _why: None,
    )
    assert list(found) == []
    assert {total for _, total in told} == {10_000_000}
    done = [done for done, _ in told]
    assert done == sorted(done)
    assert done[-1] == 10_000_000
    assert 8 <= len(done) <= 15


def test_no_secret_is_shown(tree: Path) -> None:
    """Nothing that comes out of a search has a key in it."""
    (tree / "short").write_text("1234567")
    shown = repr(search(tree, keys={**KEYS, "1234567": "short"}))
    assert not [key for key in [*KEYS, "1234567"] if key in shown]
    assert re.search(r"Leak\(file='.*/z', line=2, alias='web', offset=None\)", shown)
