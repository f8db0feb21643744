"""Telling whoever keeps the record who did what to which key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from metricshub_apikey.keys.api_key import ApiKey

if TYPE_CHECKING:
    from .database import Event

UNKNOWN = "unknown"


def ignore_events(events: Sequence[Event]) -> None:
    """Record nothing; the default of those who keep no record."""


class Journal:
    """What one person does."""

    def __init__(
        self,
        actor: str | Callable[[], str] | None = None,
        record: Callable[[Sequence[Event]], None] = ignore_events,
    ) -> None:
        """
        Write for *actor*.

        Args:
            actor: As `user@host`, or what returns that; None where nobody knows.
            record: Takes what was done, once it is on the disk.
        """
        self._actor = actor
        self._record = record

    @cached_property
    def actor(self) -> str | None:
        """Who it is, found out when it is needed: that may take a directory service."""
        return self._actor() if callable(self._actor) else self._actor

    def write(
        self, action: str, keys: Iterable[ApiKey], at: datetime, details: str | None = None
    ) -> None:
        """Record that *action* was done to *keys* at the instant *at*."""
        self.write_all({action: keys}, at, details)

    def write_all(
        self, done: Mapping[str, Iterable[ApiKey]], at: datetime, details: str | None = None
    ) -> None:
        """Record several actions, each with its keys: all of them or none."""
        from metricshub_apikey.keys.fingerprint import fingerprint

        from .database import Event

        events = [
            Event(
                at,
                self.actor or UNKNOWN,
                action,
                key.alias,
                key.key and fingerprint(key.key),
                details,
            )
            for action, keys in done.items()
            for key in keys
        ]
        if events:
            self._record(events)
