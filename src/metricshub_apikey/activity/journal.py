"""Who did what to which key, told to the record once it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from metricshub_apikey.errors import ActivityError
from metricshub_apikey.keys.api_key import ApiKey

if TYPE_CHECKING:
    from .database import ActivityLog, Event

UNKNOWN = "unknown"


def ignore_events(events: Sequence[Event]) -> None:
    """Record nothing; the default where no record is kept."""


def no_history(fingerprint: str) -> Sequence[Event]:
    """Know nothing of a key; the default where no record is kept."""
    del fingerprint
    return ()


class Journal:
    """What one person does."""

    def __init__(
        self,
        actor: str | Callable[[], str] | None = None,
        record: Callable[[Sequence[Event]], None] = ignore_events,
        history: Callable[[str], Sequence[Event]] = no_history,
    ) -> None:
        """
        Write for *actor*.

        Args:
            actor: As `user@host`, or what returns that; None where it is unknown.
            record: Takes what was done, once it is on the disk.
            history: Returns what was done to a key, by its fingerprint.
        """
        self._actor = actor
        self._record = record
        self.history = history

    @classmethod
    def of(
        cls, log: ActivityLog, actor: Callable[[], str], notify: Callable[[str], None]
    ) -> Journal:
        """
        Write into *log*; what is done is done, so a failure is only a note.

        Args:
            log: The activity database.
            actor: Returns who it is, as `user@host`.
            notify: Takes notes for the user, each a sentence.
        """

        def record(events: Sequence[Event]) -> None:
            try:
                log.record(events)
            except ActivityError as error:
                notify(f"This is done, but not in the log: {error.message}")

        def history(fingerprint: str) -> Sequence[Event]:
            try:
                return log.history(fingerprint)
            except ActivityError as error:
                notify(error.message)
                return ()

        return cls(actor, record, history)

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
                fingerprint(key.secret.reveal()) if key.secret else None,
                details,
            )
            for action, keys in done.items()
            for key in keys
        ]
        if events:
            self._record(events)
