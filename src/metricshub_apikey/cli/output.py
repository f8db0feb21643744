"""
The two streams: results on standard output, everything else on standard error.

`Output.show` is the one place where text, bare values, JSON and the other forms are told apart.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from io import TextIOWrapper
from itertools import islice
from typing import TYPE_CHECKING, Literal

import click

from metricshub_apikey.errors import ApiKeyError, OutputError, ReaderGoneError
from metricshub_apikey.formats.visible import escape

from .result import Document, Result, Rows

if TYPE_CHECKING:
    from rich.console import RenderableType

BATCH = 10_000
"""Lines, or pieces of JSON, printed at once: neither each alone, nor all of a large keystore."""

PROGRESS_AFTER_SECONDS = 1.0
UNLIMITED_WIDTH = 250

GREEN, RED, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[0m"


def green(shown: str) -> str:
    """Colour a part of a result line; `Output` takes colours away where results have none."""
    return f"{GREEN}{shown}{PLAIN}"


def red(shown: str) -> str:
    """Colour what a server refuses, in the same way."""
    return f"{RED}{shown}{PLAIN}"


class Form(Enum):
    """How results are printed."""

    TEXT = "text"
    QUIET = "quiet"
    JSON = "json"
    CSV = "csv"
    PROMETHEUS = "prometheus"
    NAGIOS = "nagios"

    @property
    def has_all_fields(self) -> bool:
        """Whether scripts get everything that is known of a key, in fields."""
        return self in (Form.JSON, Form.CSV)

    @property
    def log_form(self) -> Literal["text", "json"]:
        """How a program that goes on running logs."""
        return "json" if self is Form.JSON else "text"


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

    def show(self, result: Result, *, done: str | None = None) -> None:
        """
        Print a command's result in the form that was asked for.

        Args:
            result: What there is to show.
            done: What was done before, a clause such as "The keys have been revoked": an error of
                standard output must not hide it.

        Raises:
            OutputError: Standard output does not take the result.
            ReaderGoneError: The program that read standard output has stopped.
        """
        try:
            self._show(result)
        except ReaderGoneError:
            raise
        except OutputError as error:
            if done is None:
                raise
            raise OutputError(f"{done}, but this could not be shown. {error.message}") from error

    def _show(self, result: Result) -> None:
        if self.form is Form.JSON:
            return self._document(result.document())
        for sentence in result.notes():
            self.note(sentence)
        if self.form is Form.CSV:
            return self._table(result.rows())
        if self.form is Form.TEXT:
            self._lines(result.lines())
            drawing = result.drawing(self._width)
            return None if drawing is None else self._draw(drawing)
        of_form = {
            Form.QUIET: result.quiet,
            Form.PROMETHEUS: result.prometheus,
            Form.NAGIOS: result.nagios,
        }
        return self._lines(of_form[self.form]())

    def _lines(self, lines: list[str]) -> None:
        for batch in range(0, len(lines), BATCH):
            self.write("\n".join(lines[batch : batch + BATCH]))

    def _document(self, document: Document) -> None:
        import json

        encoder = json.JSONEncoder(indent=2)
        chunks = encoder.iterencode({**document, "notes": self._notes})
        while batch := "".join(islice(chunks, BATCH)):
            self.write(batch, end="")
        self.write("")

    def write(self, content: str, end: str = "\n") -> None:
        """Print text on standard output as it is; raises as `show` does."""
        if sys.stdout is None:
            raise OutputError("Standard output is closed.")
        try:
            click.echo(content + end, nl=False, color=self._color)
        except OSError as error:
            raise output_failed(error) from error

    def _table(self, table: Rows) -> None:
        """Print comma-separated values (RFC 4180)."""
        import csv
        from io import StringIO

        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(table.header)
        writer.writerows(table.rows)
        self.write(text.getvalue(), end="")

    def _width(self) -> int:
        """Return how many columns a table may have; a file need not be narrow."""
        if sys.stdout is None or (not sys.stdout.isatty() and "COLUMNS" not in os.environ):
            return UNLIMITED_WIDTH
        import shutil

        return shutil.get_terminal_size().columns

    def _draw(self, drawing: RenderableType) -> None:
        from .table import drawn

        encoding = sys.stdout.encoding if sys.stdout else "utf-8"
        self.write(drawn(drawing, self._width(), encoding, color=self._colors_results))

    def can_ask(self) -> bool:
        """Return whether a user at a terminal could answer a question."""
        return self.form is not Form.JSON and all(
            stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)
        )

    def ask(self, question: str) -> bool:
        """Ask on standard error, and return whether the answer is yes; the default is no."""
        try:
            return click.confirm(question, err=True)
        except click.Abort:
            return False

    def note(self, sentence: str, *, minor: bool = False) -> None:
        """
        Tell the user something that is worth knowing and not an error.

        Args:
            sentence: What the user should know.
            minor: Leave it out of bare values: cron would mail it every night.
        """
        if not (minor and self.form is Form.QUIET):
            self._aside("Note", sentence)

    def warn(self, sentence: str) -> None:
        """Tell the user something to act on, though the command succeeds."""
        self._aside("Warning", sentence)

    def warn_late(self, sentence: str) -> None:
        """Warn when the result, with all notes, has been printed."""
        self._tell(click.style("Warning:", fg="yellow") + f" {escape(sentence)}")

    def _aside(self, kind: str, sentence: str) -> None:
        if self.form is Form.JSON:
            self._notes.append(sentence)
        else:
            self._tell(click.style(f"{kind}:", fg="yellow") + f" {escape(sentence)}")

    def error(self, error: ApiKeyError) -> None:
        """Tell the user why the command failed."""
        if self.form is Form.JSON:
            import json

            told = {"code": error.code, "message": error.message, "hint": error.hint}
            return self._tell(json.dumps({"error": told}))
        self._tell(click.style(f"Error: {escape(error.message)}", fg="red"))
        if error.hint:
            self._tell(f"Hint: {escape(error.hint)}")
        return None

    def tell(self, line: str, *, end: str = "\n") -> None:
        """Print a line for people on standard error, as it is; in JSON it is left out."""
        if self.form is not Form.JSON:
            self._tell(line, end)

    def _tell(self, line: str, end: str = "\n") -> None:
        # Where standard error is gone too, the exit code is all that is left.
        try:
            click.echo(line + end, nl=False, err=True, color=self._color)
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


def prepare_streams() -> None:
    """
    Let no text fail for what a stream cannot show: an alias may have any letter.

    On Windows pipes and files get UTF-8, as elsewhere, unless PYTHONIOENCODING says otherwise; a
    console takes every letter anyway. Without that they would get the code page of the system,
    which is neither what PowerShell reads there nor what a CSV or Prometheus file may be in.
    """
    if sys.stdout is not None:
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if sys.platform == "win32" and not _has_chosen_encoding():
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper) and not stream.isatty():
                stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _has_chosen_encoding() -> bool:
    return "PYTHONIOENCODING" in os.environ and not sys.flags.ignore_environment


def show_text(text: str) -> None:
    """Print the help or the version, which have one form only; raises as `Output.show` does."""
    if sys.stdout is not None:
        Output(Form.TEXT, color=None).write(text)


def _is_reader_gone(error: OSError) -> bool:
    """Return whether *error* is that of a pipe without a reader; on Windows that is EINVAL."""
    if sys.platform == "win32" and error.errno == errno.EINVAL:
        return True
    return isinstance(error, BrokenPipeError)


def output_failed(error: OSError) -> OutputError:
    """Return what to raise; standard output goes nowhere now, so its last flush cannot fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    kind = ReaderGoneError if _is_reader_gone(error) else OutputError
    return kind(f"Standard output cannot be written: {error.strerror}.")
