"""
MetricsHub's own users, from the same keystore: who they are, and whether a password is theirs.

An entry `user:<name>` holds the name, a bcrypt hash and `ro` or `rw`, with a separator that
MetricsHub writes between them. MetricsHub's own cookies and tokens are not accepted: the secret
that signs them is a published constant.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from metricshub_apikey.pkcs12.store import Store

from .problems import Problem

PREFIX = "user:"
SEPARATOR = "__§m8b_user_info§__"
RIGHTS = ("ro", "rw")
LONGEST_PASSWORD = 72
NOBODY = b"$2a$10$wrE./cJSsL7GHVS7BhH58e/uMjrlhaMPbrB3VCkso7.Rstb14fZ0K"
"""The hash that a password is compared with where there are no users at all."""

Name = tuple[str, ...]

MINUTE = 60.0
MOST_FOR_USER = 5
MOST_FOR_ADDRESS = 20
MOST_WATCHED = 10_000


class User(NamedTuple):
    """
    One user of MetricsHub.

    Attributes:
        name: In lower case, as the entry is called.
        hash: The password's, as bcrypt writes it.
        may_change: Whether their role is `rw`.
        entry: The entry's value, by which a change of it is noticed.
    """

    name: str
    hash: bytes
    may_change: bool
    entry: bytes


def users_in(store: Store) -> dict[str, User]:
    """Return the users by their name; entries that are not as MetricsHub writes them are none."""
    bags = {bag.alias: bag for bag in store.bags if bag.alias and bag.alias.startswith(PREFIX)}
    values = store.values(bags.values())
    found = (_user(alias[len(PREFIX) :], value) for alias, value in zip(bags, values, strict=True))
    return {user.name: user for user in found if user is not None}


def _user(name: str, value: object) -> User | None:
    if not isinstance(value, bytes):
        return None
    try:
        parts = value.decode().split(SEPARATOR)
    except UnicodeDecodeError:
        return None
    if len(parts) != 3 or parts[2] not in RIGHTS or not parts[1].startswith("$2"):
        return None
    return User(name, parts[1].encode(), parts[2] == "rw", value)


def fits(users: Mapping[str, User], name: str, password: str) -> bool:
    """
    Return whether *password* is that of the user *name*; of an unknown user it takes as long.

    bcrypt looks at 72 bytes only, so a longer password is wrong, whatever it begins with.
    """
    import bcrypt

    user = users.get(name)
    stand_in = next(iter(users.values())).hash if users else NOBODY
    given = password.encode("utf-8", "surrogatepass")
    right = len(given) <= LONGEST_PASSWORD and b"\0" not in given
    try:
        same = bcrypt.checkpw(given[:LONGEST_PASSWORD], user.hash if user else stand_in)
    except ValueError:  # the hash is not one
        same = False
    return same and right and user is not None


class Failures:
    """The wrong passwords of the last minute, by user and client address, and by address."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start with none; *clock* returns seconds that only grow."""
        self._clock = clock
        self._times: dict[Name, deque[float]] = {}

    def check(self, user: str, address: str) -> None:
        """Refuse one more attempt, right or wrong; raises Problem 429."""
        now = self._clock()
        for name, most in self._names(user, address):
            times = self._recent(name, now)
            if len(times) >= most:
                seconds = max(1, int(times[0] + MINUTE - now) + 1)
                raise Problem(
                    429,
                    "too-many-failures",
                    f"Too many wrong passwords. Try again in {seconds} seconds.",
                    headers=((b"retry-after", b"%d" % seconds),),
                )

    def count(self, user: str, address: str) -> None:
        """Remember a wrong password."""
        now = self._clock()
        if len(self._times) > MOST_WATCHED:
            self._times = dict(self._still_counting(now))
        for name, _ in self._names(user, address):
            self._times.setdefault(name, deque()).append(now)

    def give_back(self, user: str, address: str) -> None:
        """Forget the last one: the password was right after all."""
        for name, _ in self._names(user, address):
            if times := self._times.get(name):
                times.pop()

    def _names(self, user: str, address: str) -> list[tuple[Name, int]]:
        return [((user, address), MOST_FOR_USER), ((address,), MOST_FOR_ADDRESS)]

    def _recent(self, name: Name, now: float) -> deque[float]:
        times = self._times.get(name, deque())
        while times and times[0] <= now - MINUTE:
            times.popleft()
        return times

    def _still_counting(self, now: float) -> Iterator[tuple[Name, deque[float]]]:
        for name in [*self._times]:
            if times := self._recent(name, now):
                yield name, times
