"""
Log lines on standard error, as text or JSON; never a key.

A thread of its own writes them: a reader that is slow, or has gone, delays no request.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Literal

from metricshub_apikey.keys.expiry import utc_text

from .decision import Answer, Request

Form = Literal["text", "json"]
Line = tuple[float, dict[str, object]]

MOST_WAITING = 10_000
LONGEST_METHOD = 40
LONGEST_PATH = 500
LONGEST_TOOL = 128
CLOSE_SECONDS = 2.0


class Log:
    """Where the gateway says what it does."""

    def __init__(self, form: Form = "text", *, everything: bool = False) -> None:
        """
        Write lines, from the first one on.

        Args:
            form: How they look.
            everything: Whether each decision is logged, and not only those that refuse.
        """
        self._form = form
        self._everything = everything
        self._waiting: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
        self._lost = 0
        self._thread: threading.Thread | None = None

    def say(self, sentence: str) -> None:
        """Log a sentence that is not about a decision."""
        self._add({"message": sentence})

    def decision(self, request: Request, answer: Answer) -> None:
        """Log a decision, if it is to be logged."""
        if answer.status == 200 and not self._everything:
            return
        identity = answer.identity
        tool = request.message and request.message.tool
        path = None if request.target is None else request.target.partition("?")[0][:LONGEST_PATH]
        self._add(
            {
                "decision": answer.status,
                "reason": answer.reason,
                "alias": identity and identity.alias,
                "principal": identity and identity.principal,
                "method": request.method[:LONGEST_METHOD],
                "path": path,
                "tool": tool and tool[:LONGEST_TOOL],
            }
        )

    def close(self) -> None:
        """Write what is waiting, unless the reader has stopped reading."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(CLOSE_SECONDS)
            self._thread = None

    def _add(self, fields: dict[str, object]) -> None:
        if self._waiting.qsize() >= MOST_WAITING:
            self._lost += 1
            return
        self._waiting.put((time.time(), fields))
        if self._thread is None or not self._thread.is_alive():  # a thread does not outlive a fork
            self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
            self._thread.start()

    def _write_all(self) -> None:
        while (line := self._waiting.get()) is not None:
            self._write(*line)
            if self._lost:
                lost, self._lost = self._lost, 0
                self._write(time.time(), {"message": f"{lost} lines of this log were lost."})

    def _write(self, at: float, fields: dict[str, object]) -> None:
        fields = {"time": utc_text(datetime.fromtimestamp(at, UTC)), **fields}
        line = json.dumps(fields) if self._form == "json" else _text(fields)
        if sys.stderr is None:
            return
        data = f"{line}\n".encode()
        try:
            while data:
                data = data[os.write(sys.stderr.fileno(), data) :]
        except (OSError, ValueError):
            pass  # The reader of the log has gone; decisions go on.


def _text(fields: dict[str, object]) -> str:
    """Return `name=value` pairs, quoted as in JSON where that is needed; a message as it is."""
    parts = []
    for name, value in fields.items():
        text = str(value)
        if name == "time":
            parts.append(text)
        elif name == "message":
            said = text if text.isprintable() else json.dumps(text)[1:-1].replace('\\"', '"')
            parts.append(said)
        elif value is not None:
            plain = text.isascii() and text.isprintable() and not set(text) & set(' "=')
            parts.append(f"{name}={text if plain and text else json.dumps(text)}")
    return " ".join(parts)
