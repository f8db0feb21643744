"""
The two streams: results on standard output, everything else on standard error.

Text that comes out of a keystore or from an argument is never shown raw: see `escape`.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING

import click

from metricshub_apikey.errors import ApiKeyError, OutputError, ReaderGoneError

if TYPE_CHECKING:
    from rich.console import RenderableType

INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
BATCH = 10_000
"""Lines, or pieces of JSON, printed at once: neither each alone, nor all of a large keystore."""

PROGRESS_AFTER_SECONDS = 1.0
UNLIMITED_WIDTH = 250

Document = dict[str, object]


class _Visible(dict[int, str]):
    """What to show for each character, found out when it is met for the first time."""

    def __missing__(self, code: int) -> str:
        from unicodedata import category

        one = chr(code)
        hidden = category(one) in INVISIBLE
        self[code] = one.encode("unicode_escape").decode() if hidden else one
        return self[code]


def escape(raw: str) -> str:
    """Return *raw* with everything that could move the cursor or hide as an escape sequence."""
    return raw if raw.isprintable() else raw.translate(_Visible())


class Form(Enum):
    """How results are printed."""

    TEXT = "text"
    QUIET = "quiet"
    JSON = "json"
    CSV = "csv"
    PROMETHEUS = "prometheus"
    NAGIOS = "nagios"


class Output:
    """
    Where a command's results, notes and errors go.

    Attributes:
        form: Lines for people, bare values for `$(…)`, or one JSON document, which then holds
            the notes, too.
    """

    def __init__(self, form: Form, *, color: bool | None) -> None:
        """
        Open nothing.

        Args:
            form: How results are printed.
            color: None decides by whether the stream is a terminal.
        """
        self.form = form
        self._color = color
        terminal = sys.stdout is not None and sys.stdout.isatty()
        self._colors_results = terminal if color is None else color
        self._notes: list[str] = []

    def green(self, shown: str) -> str:
        """Colour a part of a result line, where results are coloured."""
        return click.style(shown, fg="green") if self._colors_results else shown

    def lines(self, lines: list[str]) -> None:
        """
        Print result lines.

        Raises:
            OutputError: Standard output does not take them.
            ReaderGoneError: Nobody reads it any more.
        """
        for batch in range(0, len(lines), BATCH):
            self._print("\n".join(lines[batch : batch + BATCH]))

    def document(self, document: Document) -> None:
        """Print the command's JSON document, with the notes so far; raises as `lines` does."""
        import json

        encoder = json.JSONEncoder(indent=2)
        chunks = encoder.iterencode({**document, "notes": self._notes})
        while batch := "".join(islice(chunks, BATCH)):
            self._print(batch, end="")
        self._print("")

    def _print(self, content: str, end: str = "\n") -> None:
        if sys.stdout is None:
            raise OutputError("Standard output is closed.")
        try:
            click.echo(content + end, nl=False, color=self._color)
        except OSError as error:
            raise output_failed(error) from error

    def table(self, header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
        """Print comma-separated values (RFC 4180); raises as `lines` does."""
        import csv
        from io import StringIO

        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        self._print(text.getvalue(), end="")

    def width(self) -> int:
        """Return how many columns a table may have; where nobody looks, it need not be narrow."""
        if sys.stdout is None or (not sys.stdout.isatty() and "COLUMNS" not in os.environ):
            return UNLIMITED_WIDTH
        import shutil

        return shutil.get_terminal_size().columns

    def render(self, drawn: RenderableType) -> None:
        """Print what Rich draws; raises as `lines` does."""
        from io import StringIO

        from rich.console import Console

        class Text(StringIO):
            encoding = sys.stdout.encoding if sys.stdout else "utf-8"  # which lines it can draw

        text = Text()
        console = Console(
            file=text,
            width=self.width(),
            force_terminal=self._colors_results,
            color_system="standard" if self._colors_results else None,
            no_color=not self._colors_results,
            height=UNLIMITED_WIDTH,  # without one, Rich takes a dumb terminal for 80 columns wide
            legacy_windows=False,
            highlight=False,
            emoji=False,
        )
        console.print(drawn)
        lines = [line.rstrip() for line in text.getvalue().split("\n")]
        self._print("\n".join(lines).strip("\n"))

    def can_ask(self) -> bool:
        """Return whether there is somebody at a terminal who could answer."""
        return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))

    def ask(self, question: str) -> bool:
        """Ask on standard error, and return whether the answer is yes; the default is no."""
        try:
            return click.confirm(question, err=True)
        except click.Abort:
            return False

    def note(self, sentence: str) -> None:
        """Tell the user something that is worth knowing and no error."""
        self._aside("Note", sentence)

    def warn(self, sentence: str) -> None:
        """Tell the user something to act on, though the command succeeds."""
        self._aside("Warning", sentence)

    def warn_late(self, sentence: str) -> None:
        """Warn when the result, with all notes, has been printed."""
        self.tell(click.style("Warning:", fg="yellow") + f" {escape(sentence)}")

    def _aside(self, kind: str, sentence: str) -> None:
        if self.form is Form.JSON:
            self._notes.append(sentence)
        else:
            self.tell(click.style(f"{kind}:", fg="yellow") + f" {escape(sentence)}")

    def error(self, error: ApiKeyError) -> None:
        """Tell the user why the command failed."""
        if self.form is Form.JSON:
            import json

            told = {"code": error.code, "message": error.message, "hint": error.hint}
            return self.tell(json.dumps({"error": told}))
        self.tell(click.style(f"Error: {escape(error.message)}", fg="red"))
        if error.hint:
            self.tell(f"Hint: {escape(error.hint)}")
        return None

    def tell(self, line: str) -> None:
        """Print a line on standard error, as it is."""
        # Where standard error is gone too, the exit code is all that is left.
        try:
            click.echo(line, err=True, color=self._color)
        except OSError:
            sys.stderr = None

    def warn_if_readable(self) -> None:
        """Warn where standard output is a file that group or others may read."""
        if sys.stdout is None or sys.platform == "win32":
            return
        try:
            mode = os.fstat(sys.stdout.fileno()).st_mode
        except (OSError, ValueError):
            return
        if stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
            self.warn("The key goes to a file that others may read; use --out FILE instead.")

    @contextmanager
    def progress(self, label: str) -> Iterator[Callable[[int, int], None]]:
        """
        Show a bar on a terminal's standard error while work takes longer than a second.

        Yields:
            What to call with how much is done, and how much there is.
        """
        if self.form is Form.JSON or sys.stderr is None or not sys.stderr.isatty():
            yield lambda _done, _total: None
            return
        started = time.monotonic()
        bars: list[_Bar] = []

        def advance(done: int, total: int) -> None:
            if not bars and time.monotonic() - started > PROGRESS_AFTER_SECONDS:
                bars.append(_Bar(label, total))
            for bar in bars:
                bar.advance(done)

        try:
            yield advance
        finally:
            for bar in bars:
                bar.close()


class _Bar:
    """A progress bar; Rich is imported only where one is shown."""

    def __init__(self, label: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._progress = Progress(console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task(label, total=total)
        self._progress.start()

    def advance(self, done: int) -> None:
        self._progress.update(self._task, completed=done)

    def close(self) -> None:
        self._progress.stop()


def output_failed(error: OSError) -> OutputError:
    """Return what to raise; standard output goes nowhere now, so its last flush cannot fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    kind = ReaderGoneError if isinstance(error, BrokenPipeError) else OutputError
    return kind(f"Standard output cannot be written: {error.strerror}.")
