"""
Answers that are given again: a client that lost one sends its Idempotency-Key once more.

An answer may hold a new key, which nothing else can show again, so it is kept in memory for ten
minutes, for the actor who got it and for the very same request.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Generic, TypeVar

from .problems import Problem

SECONDS = 600.0
MOST = 1_000
KEY = re.compile(rb"[!-~]{1,255}")

Answer = TypeVar("Answer")


class _Entry(Generic[Answer]):
    __slots__ = ("answer", "ends", "request")

    def __init__(self, request: bytes, ends: float) -> None:
        self.request = request
        self.ends = ends
        self.answer: Answer | None = None


class Replays(Generic[Answer]):
    """The answers of the last ten minutes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start with none; *clock* returns seconds that only grow."""
        self._clock = clock
        self._entries: dict[tuple[str, bytes], _Entry[Answer]] = {}

    def begin(self, actor: str, key: bytes, *request: bytes) -> Answer | None:
        """
        Return the answer that *actor* got to the same request; None where it must be worked on.

        After None, call `finish` or `forget`.

        Args:
            actor: Who sends it; of an API key, its fingerprint.
            key: The Idempotency-Key.
            request: All that makes it the same request: method, path, body.

        Raises:
            Problem: 400 for an unusable key, 422 for another request, 409 while it is worked on,
                503 where too much is being worked on.
        """
        if not KEY.fullmatch(key):
            raise Problem(
                400, "idempotency-key", "An Idempotency-Key has 1 to 255 visible characters."
            )
        now = self._clock()
        self._drop_old(now)
        digest = hashlib.sha256(b"\0".join(request)).digest()
        entry = self._entries.get((actor, key))
        if entry is None:
            self._make_room()
            self._entries[actor, key] = _Entry(digest, now + SECONDS)
            return None
        if entry.request != digest:
            raise Problem(
                422,
                "idempotency-mismatch",
                "This Idempotency-Key was sent with another request.",
                hint="Send a new one.",
            )
        if entry.answer is None:
            raise Problem(
                409,
                "idempotency-in-flight",
                "The first request with this Idempotency-Key is still being worked on.",
                headers=((b"retry-after", b"1"),),
            )
        return entry.answer

    def finish(self, actor: str, key: bytes, answer: Answer) -> None:
        """Keep the answer to be given again."""
        entry = self._entries.get((actor, key))
        if entry is not None:
            entry.answer = answer
            entry.ends = self._clock() + SECONDS

    def forget(self, actor: str, key: bytes) -> None:
        """Let the request be sent again: nothing came of it."""
        self._entries.pop((actor, key), None)

    def _drop_old(self, now: float) -> None:
        """Entries are in the order of their beginning; those in flight stay."""
        old = [
            name
            for name, entry in self._entries.items()
            if entry.ends <= now and entry.answer is not None
        ]
        for name in old:
            del self._entries[name]

    def _make_room(self) -> None:
        if len(self._entries) < MOST:
            return
        for name, entry in self._entries.items():
            if entry.answer is not None:
                del self._entries[name]
                return
        raise Problem(
            503,
            "idempotency-full",
            "Too many requests are being worked on.",
            headers=((b"retry-after", b"1"),),
        )
