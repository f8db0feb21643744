"""
Where keys of a keystore stand in files: in repositories, logs, shell histories, databases.

A key is found wherever it stands in a line, as `grep -F` would find it: UUIDs and prefixed keys by
their shape, a few others one by one. Many others are found by looking up some words of the text, of
8 bytes, or 4 for short keys: a key of 31 bytes covers a word at a multiple of 24, wherever it
stands, so where the text has one of the 24 words that end a key there, that key is compared.

Bytes are searched, whatever they are. In UTF-16 and UTF-32 a character of a key has zero bytes
beside it, so where there are any, the bytes are searched without them, too.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import compress, count, groupby
from typing import BinaryIO, Literal, NamedTuple

from metricshub_apikey.errors import InvalidArgumentError, NotAKeystoreError
from metricshub_apikey.files.reading import opened
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.prefixed import PREFIXED

STANDARD_INPUT = "-"
SHORTEST = 8
CHUNK = 1 << 20
WIDEST = 4  # bytes of a character, in UTF-32
SNIFFED = 8192  # for the zero byte that makes a file binary, as git does
FEW = 16  # so many keys are found faster one by one

Skipped = Callable[[str, str], None]
Place = tuple[int, int]


class Leak(NamedTuple):
    """
    A key in a file.

    Attributes:
        file: As it was named, `-` for standard input.
        line: From 1; None in a binary file.
        alias: Whose key it is.
        offset: In a binary file the bytes in front of the key; None in a text.
    """

    file: str
    line: int | None
    alias: str
    offset: int | None = None


class _Shape(NamedTuple):
    """What keys of a kind, all of the same length, have in common, from so many bytes on."""

    pattern: bytes
    offset: int
    length: int


UUIDS = _Shape(b"-[0-9A-Fa-f]{4}" * 3 + b"-[0-9A-Fa-f]{12}", 8, 36)
"""From their first hyphen on: what a pattern starts with is searched fast."""

Sampling = tuple[Literal["Q", "I"], int, int]
SAMPLINGS: tuple[Sampling, ...] = (("Q", 8, 24), ("Q", 8, 8), ("I", 4, 4))
"""Which words are looked up: their type, as `array` calls it, their size, how far apart."""


def find_leaks(
    keys: Mapping[str, str],
    paths: Sequence[str],
    *,
    stdin: BinaryIO,
    progress: Callable[[int, int], None],
    skipped: Skipped,
    chunk_size: int = CHUNK,
) -> Iterator[Leak]:
    """
    Find keys in files, folders and standard input; each once a line, in the order they stand there.

    Links inside a folder are followed to files, not to folders. In binary files, as git tells them,
    a key is told by its offset.

    Args:
        keys: The alias by the key itself.
        paths: Files and folders; `-` is standard input.
        stdin: Standard input.
        progress: Called with how many bytes are done, and how many there are.
        skipped: Called with a path, or the alias of a key, that is left out, and why.
        chunk_size: How many bytes are read at once.

    Raises:
        InvalidArgumentError: A path does not exist.
    """
    files = [file for path in paths for file in _files(path, skipped)]
    total = sum(file.size for file in files)
    done = 0

    def add(size: int) -> None:
        nonlocal done
        done += size
        if done // CHUNK > (done - size) // CHUNK:  # telling costs more than reading a small file
            progress(min(done, total), total)

    search = _Search(_searchable(keys, skipped))
    reader = _Reader(stdin, skipped, add, chunk_size)
    return (leak for file in files for leak in search.leaks(file.path, reader.chunks(file)))


def find_keys(
    keys: Iterable[ApiKey],
    paths: Sequence[str],
    *,
    stdin: BinaryIO,
    progress: Callable[[int, int], None],
    skipped: Skipped,
) -> Iterator[Leak]:
    """
    Find *keys* as `find_leaks` does; a secret that several keys share is a leak of each of them.

    Args:
        keys: From one keystore; those without a readable secret are not searched.
        paths: As for `find_leaks`, like the arguments that follow.
        stdin: Standard input.
        progress: Called with how many bytes are done, and how many there are.
        skipped: Called with a path, or the alias of a key, that is left out, and why.

    Raises:
        InvalidArgumentError: A path does not exist.
    """
    sharing: dict[str, list[str]] = {}
    for key in keys:
        if key.secret:
            sharing.setdefault(key.secret.reveal(), []).append(key.alias)
    first = {secret: aliases[0] for secret, aliases in sharing.items()}
    all_of = {aliases[0]: aliases for aliases in sharing.values()}
    for leak in find_leaks(first, paths, stdin=stdin, progress=progress, skipped=skipped):
        yield from (leak._replace(alias=alias) for alias in all_of[leak.alias])


def _searchable(keys: Mapping[str, str], skipped: Skipped) -> dict[bytes, str]:
    found = {}
    for key, alias in keys.items():
        if len(key) < SHORTEST or "\n" in key or "\r" in key:
            skipped(alias, f"its key has fewer than {SHORTEST} characters, or a line break")
        else:
            found[key.encode()] = alias
    return found


class _Search:
    """Looks for all the keys at once."""

    def __init__(self, aliases: dict[bytes, str]) -> None:
        self._aliases = aliases
        self._overlap = WIDEST * max(map(len, aliases), default=1) - 1
        kinds: dict[_Shape | None, list[bytes]] = {}
        for key in aliases:
            kinds.setdefault(_shape(key), []).append(key)
        others = kinds.pop(None, [])
        while len(kinds) > FEW:
            others += kinds.popitem()[1]
        self._shapes = [shape for shape in kinds if shape]
        self._single: list[bytes] = []
        self._tables: list[tuple[Sampling, dict[int, tuple[Place, ...]]]] = []
        for sampling in SAMPLINGS:
            shortest = sampling[1] + sampling[2] - 1  # to cover a word, wherever the key stands
            group = [key for key in others if len(key) >= shortest]
            others = [key for key in others if len(key) < shortest]
            if len(group) <= FEW:
                self._single += group
            else:
                self._tables.append((sampling, _table(group, sampling)))

    def leaks(self, file: str, chunks: Iterable[bytes]) -> Iterator[Leak]:
        """Yield the keys in a text: lines end at line feeds, wherever the chunks end."""
        line, base = 1, 0
        binary: bool | None = None
        seen: set[str] = set()
        for data, end in self._pieces(chunks):
            at = 0
            if binary is None:
                binary = b"\0" in data[:SNIFFED]
            found = {*self._found(data, end)}
            if b"\0" in data:
                found |= {*self._wide(data, end)}
            for start, key in [*sorted(found), (end, b"")]:
                if binary:
                    if key:
                        yield Leak(file, None, self._aliases[key], base + start)
                    continue
                if passed := data.count(b"\n", at, start):
                    line += passed
                    seen.clear()
                at = start
                alias = self._aliases.get(key)
                if alias is not None and alias not in seen:
                    seen.add(alias)
                    yield Leak(file, line, alias)
            base += end

    def _pieces(self, chunks: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
        """Yield pieces of text, and where the starts of keys in the next piece begin."""
        rest = b""
        for chunk in chunks:
            rest += chunk
            end = max(0, len(rest) - self._overlap)
            yield rest, end
            rest = rest[end:]
        yield rest, len(rest)

    def _found(self, data: bytes, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield where which key starts before *end*, in any order."""
        for start, length in self._candidates(data):
            if 0 <= start < end and (key := data[start : start + length]) in self._aliases:
                yield start, key

    def _wide(self, data: bytes, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield the same for keys whose characters have up to three zero bytes beside them."""
        compact = data.replace(b"\0", b"")
        for key in {key for _, key in self._found(compact, len(compact))}:
            spaced = b"\0{0,3}".join(re.escape(bytes([byte])) for byte in key)
            for match in re.finditer(spaced, data):
                if match.start() < end:
                    yield match.start(), key

    def _candidates(self, data: bytes) -> Iterator[Place]:
        """Yield where a key of which length may start."""
        for pattern, offset, length in self._shapes:
            for match in re.finditer(pattern, data):
                yield match.start() - offset, length
        for key in self._single:
            start = -1
            while (start := data.find(key, start + 1)) >= 0:
                yield start, len(key)
        for (kind, size, span), table in self._tables:
            words = array(kind, data[: len(data) // size * size])[:: span // size]
            for index in compress(count(), map(table.__contains__, words)):
                for shift, length in table[words[index]]:
                    yield index * span - shift, length


def _shape(key: bytes) -> _Shape | None:
    if re.fullmatch(b"[0-9A-Fa-f]{8}" + UUIDS.pattern, key):
        return UUIDS
    if found := re.fullmatch(PREFIXED.encode(), key):
        # No other key of this shape starts inside the prefix, so none is passed over.
        random = b"(?=[0-9A-Za-z]{%d})" % (len(key) - found.end("prefix"))
        return _Shape(re.escape(found["prefix"]) + random, 0, len(key))
    return None


def _table(keys: list[bytes], sampling: Sampling) -> dict[int, tuple[Place, ...]]:
    """Return, by word, where in a key of which length it may stand."""
    kind, size, span = sampling
    table: dict[int, tuple[Place, ...]] = {}
    for length, group in groupby(sorted(keys, key=len), key=len):
        shifts = range(length - size - span + 1, length - size + 1)
        places = [((shift, length),) for shift in shifts]
        for key in group:
            words = array(kind, b"".join([key[shift : shift + size] for shift in shifts]))
            for word, place in zip(words, places, strict=True):
                known = table.setdefault(word, place)
                if place[0] not in known:
                    table[word] = known + place
    return table


class _File(NamedTuple):
    path: str
    size: int
    inside: bool = False


def _files(path: str, skipped: Skipped) -> Iterator[_File]:
    """Yield what there is to read under a path that the user named."""
    if path == STANDARD_INPUT:
        yield _File(path, 0)
        return
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(path, skipped)
        elif stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode):
            yield _File(path, status.st_size)
        else:
            skipped(path, "it is neither a file nor a pipe")
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidArgumentError(f"{path} does not exist.") from None
    except OSError as error:
        skipped(path, f"{error.strerror}")


def _walk(top: str, skipped: Skipped) -> Iterator[_File]:
    """Yield the files of a folder, then those of the folders in it, each in order of name."""
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            skipped(folder, f"{error.strerror}")
            continue
        folders = []
        for entry in listed:
            try:
                if _is_folder(entry):
                    folders.append(entry.path)
                elif entry.is_file():
                    yield _File(entry.path, entry.stat().st_size, inside=True)
            except OSError as error:
                skipped(entry.path, f"{error.strerror}")
        waiting += reversed(folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    if sys.platform == "win32":  # A junction is a link, whatever Python 3.11 says.
        tag = entry.stat(follow_symlinks=False).st_reparse_tag
        if tag == stat.IO_REPARSE_TAG_MOUNT_POINT:
            return False
    return entry.is_dir(follow_symlinks=False)


class _Reader(NamedTuple):
    """Reads texts in chunks; says of what it cannot read why not, and goes on."""

    stdin: BinaryIO
    skipped: Skipped
    add: Callable[[int], None]
    chunk_size: int

    def chunks(self, file: _File) -> Iterator[bytes]:
        """Yield the bytes of the file; of UTF-16 and UTF-32 with a mark those of UTF-8."""
        try:
            if file.path == STANDARD_INPUT:
                yield from self._text(self.stdin.read)
                return
            if not file.inside:  # what the user named may be a pipe, which waits for its writer
                with open(file.path, "rb", buffering=0) as source:
                    yield from self._text(lambda size: source.read(size) or b"")
                return
            with opened(file.path) as descriptor:
                if descriptor is None or not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise NotAKeystoreError(f"{file.path} is not a regular file.")
                yield from self._text(partial(os.read, descriptor))
        except NotAKeystoreError:
            self.skipped(file.path, "it is no longer a regular file")
        except OSError as error:
            self.skipped(file.path, f"{error.strerror}")

    def _text(self, read: Callable[[int], bytes]) -> Iterator[bytes]:
        decode = None
        for number, chunk in enumerate(iter(partial(read, self.chunk_size), b"")):
            if not number:
                decode = _decoder(chunk)
            self.add(len(chunk))
            yield decode(chunk).encode("utf-8", "replace") if decode else chunk


def _decoder(start: bytes) -> Callable[[bytes], str] | None:
    """Return what decodes a text that begins with the mark of UTF-32 or UTF-16; None for others."""
    marks = {"utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)}
    marks["utf-16"] = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # begins like UTF-32's
    name = next((one for one, known in marks.items() if start.startswith(known)), None)
    return None if name is None else codecs.getincrementaldecoder(name)("replace").decode
