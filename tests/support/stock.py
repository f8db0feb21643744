"""The stock server and key tool as an oracle: Stock.java in a JVM of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import pytest

from places import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Self

SOURCE = PROJECT / "tests/java/Stock.java"
LEAN = ("-Xshare:auto", "-XX:+UseSerialGC", "-Xmx256m")
SHORT_LIVED = "-XX:TieredStopAtLevel=1"  # starts quicker, derives keys slower
_ESCAPES = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\"}
_PLAIN = {escape[1]: char for char, escape in _ESCAPES.items()}


class StockError(Exception):
    """What Java answered instead: the exception's class and message."""


def escape(text: str) -> str:
    r"""Write a field in ASCII: \t, \n, \r, \\ and \uXXXX (two of them above U+FFFF)."""

    def one(match: re.Match[str]) -> str:
        char = match[0]
        units = char.encode("utf-16-be", "surrogatepass").hex()
        pairs = (units[at : at + 4] for at in range(0, len(units), 4))
        return _ESCAPES.get(char) or "".join(f"\\u{unit}" for unit in pairs)

    return re.sub(r"[^ -~]|\\", one, text)


def unescape(text: str) -> str:
    """Read a field that `escape` or Stock.java wrote."""

    def one(match: re.Match[str]) -> str:
        return chr(int(match[1], 16)) if match[1] else _PLAIN[match[2]]

    plain = re.sub(r"\\(?:u([0-9a-fA-F]{4})|(.))", one, text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def compile_stock(directory: Path) -> Path:
    """Compile Stock.java into a directory, unless it is there already, and return it."""
    if not (directory / "Stock.class").exists():
        directory.mkdir(parents=True, exist_ok=True)
        options = ["--release", "8", "-Xlint:-options", "-encoding", "UTF-8", "-d", str(directory)]
        javac = shutil.which("javac") or "javac"
        subprocess.run([javac, *options, str(SOURCE)], check=True)
    return directory


def java_command(
    classes: Path, *args: str, java: str = "java", options: Sequence[str] = ()
) -> list[str]:
    """Return the command line that runs one Stock command, or the server without `args`."""
    flags = [*LEAN, SHORT_LIVED] if args else LEAN
    fields = [escape(arg) for arg in args]
    return [java, *flags, *options, "-cp", str(classes), "Stock", *fields]


class Stock:
    """A running JVM that does with keystores what stock Java code does."""

    def __init__(self, directory: Path, java: str = "java", options: Sequence[str] = ()) -> None:
        """Compile into `directory` where needed, and start `java` with extra JVM `options`."""
        self.classes = compile_stock(directory)
        self.java = java
        self.options = tuple(options)
        self._lock = Lock()
        self._process = subprocess.Popen(
            self.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="ascii",
            env={**os.environ, "LC_ALL": "C.UTF-8"},  # for file names
        )

    def command(self, *args: str) -> list[str]:
        """Return the command line that runs one command in a JVM like this one."""
        return java_command(self.classes, *args, java=self.java, options=self.options)

    def rows(self, *fields: str | Path) -> list[list[str]]:
        """Run one command and return the fields of each line of its answer."""
        line = "\t".join(escape(str(field)) for field in fields)
        with self._lock:
            lines = self._exchange(line)
        if lines and lines[0].startswith("! "):
            raise StockError(unescape(lines[0][2:]))
        return [[unescape(field) for field in line.split("\t")] for line in lines]

    def ask(self, *fields: str | Path) -> list[str]:
        """Run one command and return the lines of its answer, their fields joined by TAB."""
        return ["\t".join(row) for row in self.rows(*fields)]

    def close(self) -> None:
        """End the JVM."""
        self._process.communicate()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the JVM."""
        self.close()

    def _exchange(self, line: str) -> list[str]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise StockError("the JVM has no pipes")
        stdin.write(line + "\n")
        stdin.flush()
        lines: list[str] = []
        while (answer := stdout.readline()) != ".\n":
            if not answer:
                raise StockError("the JVM ended")
            lines.append(answer.rstrip("\n"))
        return lines


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stock]:
    """The stock side, once a session; needs a JDK, and on CI a missing one is a failure."""
    missing = [tool for tool in ("java", "javac") if shutil.which(tool) is None]
    if missing:
        reason = f"no {' and no '.join(missing)} on the PATH: these tests need a JDK (8 or later)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with Stock(tmp_path_factory.mktemp("stock")) as running:
        yield running
