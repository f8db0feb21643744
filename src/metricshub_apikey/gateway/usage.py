"""When each key was last used: remembered here, and written down every few seconds."""

from __future__ import annotations

from datetime import UTC, datetime

from .credential import Credential

MINUTE = 60

Times = dict[str, tuple[str, datetime]]
"""The alias and the time of a use, in UTC, by the key's fingerprint."""


class Uses:
    """The uses that are not written down yet; minutes are exact enough."""

    def __init__(self) -> None:
        """Start with none."""
        self._waiting: dict[str, tuple[str, int]] = {}

    def note(self, credential: Credential, now: float) -> None:
        """Remember that a key was used at *now*, seconds since 1970."""
        minute = int(now) // MINUTE
        if credential.minute != minute:
            credential.minute = minute
            self._waiting[credential.fingerprint] = (credential.identity.alias, minute)

    def take(self) -> Times:
        """Return what is to be written down, and forget it."""
        waiting, self._waiting = self._waiting, {}
        return {
            fingerprint: (alias, datetime.fromtimestamp(minute * MINUTE, UTC))
            for fingerprint, (alias, minute) in waiting.items()
        }

    def give_back(self, uses: Times) -> None:
        """Keep for the next time what could not be written down."""
        for fingerprint, (alias, at) in uses.items():
            self._waiting.setdefault(fingerprint, (alias, int(at.timestamp()) // MINUTE))
