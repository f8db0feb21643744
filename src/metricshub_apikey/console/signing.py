"""Who is signed in: by a ticket, as a user of MetricsHub, or with an API key that manages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.expiry import Moment
from metricshub_apikey.keys.fingerprint import fingerprint
from metricshub_apikey.pkcs12.bag import fold
from metricshub_apikey.policy import acceptance
from metricshub_apikey.policy.rules import Policy
from metricshub_apikey.policy.window import Window

from . import bodies
from .callers import Caller
from .known import Known, Shelf
from .problems import Problem
from .sessions import Holder, Sessions
from .users import Failures, fits

How = Literal["link", "users", "none"]

MOST_HASHING = 2
CHALLENGE = ((b"www-authenticate", b'Bearer realm="apikey console"'),)
LONGEST_NAME = 200


class Opened(NamedTuple):
    """A session that has just begun."""

    token: str
    holder: Holder
    seconds: float


class Signing:
    """
    Lets people and keys in.

    Attributes:
        shelf: What is known of the keystore.
        sessions: Who is signed in.
        how: How people sign in.
    """

    def __init__(
        self,
        shelf: Shelf,
        sessions: Sessions,
        how: How,
        *,
        actor: str,
        moment: Callable[[], Moment],
        seconds: Callable[[], float],
    ) -> None:
        """
        Start without a session.

        Args:
            shelf: What is known of the keystore.
            sessions: Where sessions are kept.
            how: How people sign in.
            actor: Who has started the console, and holds the link.
            moment: Returns the current instant, and the zone of the server.
            seconds: Returns seconds that only grow.
        """
        self._moment = moment
        self.shelf = shelf
        self.sessions = sessions
        self.how = how
        self._actor = actor
        self._seconds = seconds
        self._failures = Failures(seconds)
        self._hashing = ThreadPoolExecutor(MOST_HASHING, "bcrypt")
        self._windows: dict[str, Window] = {}

    async def open(
        self, body: bodies.Body, address: str, known: Callable[[], Awaitable[Known]]
    ) -> Opened:
        """Open a session for a ticket, or a user's password; raises Problem."""
        bodies.check_members(body, ("ticket", "user", "password"))
        if "ticket" in body:
            if len(body) > 1:
                raise bodies.invalid("A ticket comes alone.", "ticket")
            holder = self._by_ticket(bodies.text(body, "ticket"))
        else:
            user, password = bodies.text(body, "user"), bodies.text(body, "password")
            holder = await self._by_password(fold(user[:LONGEST_NAME]), password, address, known)
        token, seconds = self.sessions.open(holder)
        return Opened(token, holder, seconds)

    def _by_ticket(self, ticket: str) -> Holder:
        if self.how != "link" or not self.sessions.take_ticket(ticket):
            raise Problem(
                401,
                "ticket-invalid",
                "This link has been used, or is older than a minute.",
                hint="Press Enter in the terminal for another one.",
                headers=CHALLENGE,
            )
        return Holder(self._actor, f"{self._actor.partition('@')[0]}, link")

    async def _by_password(
        self, name: str, password: str, address: str, known: Callable[[], Awaitable[Known]]
    ) -> Holder:
        self._failures.check(name, address)
        self._failures.count(name, address)  # at once: attempts may run side by side
        users = (await known()).users if self.how == "users" else {}
        loop = asyncio.get_running_loop()
        if not await loop.run_in_executor(self._hashing, fits, users, name, password):
            raise Problem(
                401, "wrong-password", "The user or the password is wrong.", headers=CHALLENGE
            )
        self._failures.give_back(name, address)
        user = users[name]
        return Holder(f"user:{name}", name, user.entry, name, user.may_change)

    def caller(
        self, authorization: str | None, known: Known, address: str, *, background: bool
    ) -> Caller:
        """
        Return who sends a request.

        Args:
            authorization: The header, as it was sent.
            known: What is known of the keystore now.
            address: The client's address.
            background: The page asked by itself.

        Raises:
            Problem: 401, or 429 for a key that is used too often.
        """
        token = token_in(authorization)
        found = self.sessions.find(token, background=background)
        if found is not None:
            holder, seconds = found
            user = known.users.get(holder.user or "")
            if holder.user is None or (user is not None and user.entry == holder.entry):
                return Caller.person(holder, seconds)
            self.sessions.close(token)
        key = known.by_fingerprint.get(fingerprint(token))
        if key is None or acceptance.refusal_of(key, self._moment()) is not None:
            raise not_signed_in("The token is not valid, or no longer.")
        return self._key_caller(key, known, address)

    def _key_caller(self, key: ApiKey, known: Known, address: str) -> Caller:
        policy = known.rules
        self._take(key, policy)
        caller = Caller.of_key(key, policy, address)
        if not caller.verbs and not caller.self_rotate:
            raise Problem(
                403,
                "forbidden",
                "This key may use MetricsHub, but not manage keys.",
                hint="A role with manage lets it, in the policy file.",
            )
        return caller

    def _take(self, key: ApiKey, policy: Policy) -> None:
        """Count a request against the key's limit; raises Problem 429."""
        now, limit = self._seconds(), policy.limit_of(key.metadata.roles)
        mark = fingerprint(key.secret.reveal())
        window = self._windows.get(mark)
        if window is None or window.limit != limit:
            window = self._windows[mark] = Window(limit)
        if not window.take(now):
            seconds = window.retry_after(now)
            raise Problem(
                429,
                "rate-limit",
                f"This key is used too often. Try again in {seconds} seconds.",
                headers=((b"retry-after", b"%d" % seconds),),
            )

    def stop(self) -> None:
        """End the threads."""
        self._hashing.shutdown(wait=False, cancel_futures=True)


def token_in(authorization: str | None) -> str:
    """Return the bearer token of a header; raises Problem 401 where there is none."""
    token = acceptance.token_in((authorization or "").encode("latin-1", "replace"))
    if not token:
        raise not_signed_in("This needs a token: Authorization: Bearer.")
    return token.decode("latin-1")


def not_signed_in(sentence: str) -> Problem:
    """Return the problem of a request without a valid token."""
    return Problem(401, "not-signed-in", sentence, headers=CHALLENGE)
