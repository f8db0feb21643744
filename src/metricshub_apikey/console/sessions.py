"""
Who is signed in: tickets, which a link brings once, and sessions, which are bearer tokens.

There are no cookies: on loopback a browser sends a cookie to every port of the host. Both live in
memory, known by their SHA-256, and end with the process.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import NamedTuple

TICKET_SECONDS = 60.0
IDLE_SECONDS = 15 * 60.0
LONGEST_SECONDS = 8 * 3_600.0
MOST_SESSIONS = 1_000
MOST_TICKETS = 100
SECRET_BYTES = 32


class Holder(NamedTuple):
    """
    Who has a session.

    Attributes:
        name: As the log calls them.
        shown: As the page calls them.
        entry: The user's entry in the keystore, as it was when they signed in; None for the
            person at the shell. Any change of it ends the session.
        user: The user's name there, in lower case; None for the person at the shell.
        may_change: Whether they manage, and not only look.
    """

    name: str
    shown: str
    entry: bytes | None = None
    user: str | None = None
    may_change: bool = True


class _Session:
    __slots__ = ("began", "holder", "used")

    def __init__(self, holder: Holder, now: float) -> None:
        self.holder = holder
        self.began = self.used = now

    def ends(self) -> float:
        return min(self.used + IDLE_SECONDS, self.began + LONGEST_SECONDS)


class Sessions:
    """The tickets that were printed, and the sessions that are open."""

    def __init__(self, clock: Callable[[], float], random_bytes: Callable[[int], bytes]) -> None:
        """
        Start with none.

        Args:
            clock: Returns seconds that only grow.
            random_bytes: Returns that many random bytes, fit for secrets.
        """
        self._clock = clock
        self._random_bytes = random_bytes
        self._tickets: dict[bytes, float] = {}
        self._sessions: dict[bytes, _Session] = {}

    def new_ticket(self) -> str:
        """Return a secret of 256 bits that opens one session within 60 seconds."""
        now = self._clock()
        self._tickets = {one: ends for one, ends in self._tickets.items() if ends > now}
        if len(self._tickets) >= MOST_TICKETS:
            del self._tickets[next(iter(self._tickets))]
        ticket = self._secret()
        self._tickets[_known_by(ticket)] = now + TICKET_SECONDS
        return ticket

    def take_ticket(self, ticket: str) -> bool:
        """Return whether *ticket* opens a session; it never does again."""
        ends = self._tickets.pop(_known_by(ticket), None)
        return ends is not None and ends > self._clock()

    def open(self, holder: Holder) -> tuple[str, float]:
        """Return a new session's token, and the seconds for which it holds without use."""
        now = self._clock()
        for known, session in [*self._sessions.items()]:
            if session.ends() <= now:
                del self._sessions[known]
        if len(self._sessions) >= MOST_SESSIONS:
            idle = min(self._sessions, key=lambda known: self._sessions[known].used)
            del self._sessions[idle]
        token = self._secret()
        session = self._sessions[_known_by(token)] = _Session(holder, now)
        return token, session.ends() - now

    def find(self, token: str, *, background: bool = False) -> tuple[Holder, float] | None:
        """
        Return who has the session, and for how many seconds it still holds; None where it is over.

        Args:
            token: The bearer token.
            background: The page asked by itself, which does not prolong the session.
        """
        known = _known_by(token)
        session = self._sessions.get(known)
        if session is None:
            return None
        now = self._clock()
        if session.ends() <= now:
            del self._sessions[known]
            return None
        if not background:
            session.used = now
        return session.holder, session.ends() - now

    def close(self, token: str) -> None:
        """End a session."""
        self._sessions.pop(_known_by(token), None)

    def _secret(self) -> str:
        return base64.urlsafe_b64encode(self._random_bytes(SECRET_BYTES)).decode().rstrip("=")


def _known_by(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()
