"""The parameters of the list of keys: filters, and pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import parse_qs, urlencode

from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.durations import parse_duration
from metricshub_apikey.keys.expiry import Moment, parse_date_time
from metricshub_apikey.keys.selection import Selection, Usage

from .bodies import about, invalid
from .problems import Problem

LIST = ("limit", "after", "role", "label", "state", "expires_before", "unused_for", "q")
REPEATED = ("role", "label")
STATES = ("active", "expired", "suspended", "unreadable")
MOST = 10_000
MOST_PARAMETERS = 50

Query = Mapping[str, list[str]]


def parse(raw: bytes) -> dict[str, list[str]]:
    """Return the parameters of a query; raises Problem 400 where it cannot be read."""
    try:
        text = raw.decode("ascii")
        return parse_qs(
            text, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS
        )
    except ValueError:
        raise Problem(400, "bad-query", "The query of the request cannot be read.") from None


def check(query: Query, known: Sequence[str], repeated: Sequence[str] = ()) -> None:
    """Refuse parameters that are not *known*, or that are there twice; raises Problem 422."""
    for name, values in query.items():
        if name not in known:
            hint = f"The parameters are: {', '.join(known)}." if known else "There are none."
            raise invalid(f"There is no parameter '{name[:40]}' here.", hint=hint)
        if len(values) > 1 and name not in repeated:
            raise invalid(f"The parameter '{name}' is there twice.", name)


def one(query: Query, name: str) -> str | None:
    """Return the value of a parameter; None where it is not there."""
    return query[name][0] if name in query else None


def number(query: Query, name: str, most: int) -> int | None:
    """Return a whole number from 1 on; None where the parameter is not there."""
    value = one(query, name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 7 and 1 <= int(value) <= most):
        raise invalid(f"'{name}' must be a whole number from 1 to {most:,}.", name)
    return int(value)


def flag(query: Query, name: str) -> bool:
    """Return whether a parameter is `true`."""
    value = one(query, name)
    if value not in (None, "true", "false"):
        raise invalid(f"'{name}' must be true or false.", name)
    return value == "true"


def since(query: Query, name: str, now: datetime) -> datetime | None:
    """Return the instant that a length of time, or an RFC 3339 time, names."""
    value = one(query, name)
    if value is None:
        return None
    if value[:4].isdigit() and "-" in value:
        try:
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.astimezone()).astimezone(UTC)
        except (ValueError, OverflowError):
            raise invalid(f"'{name}' must be a time, or a length such as 7d.", name) from None
    with about(name):
        length = parse_duration(value)
    return now - min(length, now - datetime.min.replace(tzinfo=UTC))


class Page(NamedTuple):
    """The keys that were asked for, and the query of the next page, where there is one."""

    keys: tuple[ApiKey, ...]
    following: str | None


def needs_usage(query: Query) -> bool:
    """Return whether it matters when keys were last used."""
    return "unused_for" in query


def changes_with_time(query: Query) -> bool:
    """Return whether the same files can give other keys later."""
    return any(name in query for name in ("state", "expires_before", "unused_for"))


def select(keys: Iterable[ApiKey], query: Query, *, now: Moment, usage: Usage) -> Page:
    """
    Return those of the *keys* that a query asks for.

    Args:
        keys: In the order of the keystore.
        query: Its parameters, checked with `check`.
        now: The current instant, and the zone of the server.
        usage: When keys were last used.
    """
    unused = one(query, "unused_for")
    selection = Selection(
        unused_for=None if unused is None else _length(unused),
        roles=tuple(query.get("role", ())),
        labels=tuple(query.get("label", ())),
    )
    found = selection.select(keys, now=now, usage=usage)
    for keep in _filters(query, now):
        found = tuple(key for key in found if keep(key))
    return _page(found, query)


def _length(value: str) -> timedelta:
    with about("unused_for"):
        return parse_duration(value)


def _filters(query: Query, now: Moment) -> list[Callable[[ApiKey], bool]]:
    filters: list[Callable[[ApiKey], bool]] = []
    state, before, words = (one(query, name) for name in ("state", "expires_before", "q"))
    if state is not None:
        if state not in STATES:
            raise invalid(f"'state' must be one of {', '.join(STATES)}.", "state")
        filters.append(lambda key: state_of(key, now) == state)
    if before is not None:
        try:
            end = parse_date_time(before, now.zone)
        except InvalidArgumentError as error:
            raise Problem.of(error, "expires_before") from error
        filters.append(lambda key: key.expires_on is not None and key.expires_on < end)
    if words:
        wanted = words.lower().split()
        filters.append(lambda key: all(word in _said(key) for word in wanted))
    return filters


def state_of(key: ApiKey, now: Moment) -> str:
    """Return in which of `STATES` a key is, at *now*."""
    if key.unreadable is not None:
        return "unreadable"
    if key.suspended:
        return "suspended"
    return "expired" if key.expired(now) else "active"


def _said(key: ApiKey) -> str:
    held = key.metadata
    labels = (f"{name}={value}" for name, value in held.labels)
    texts = (key.alias, held.description, held.service_account, held.created_by, *held.roles)
    return "\n".join(filter(None, (*texts, key.masked[-4:], *labels))).lower()


def _page(keys: tuple[ApiKey, ...], query: Query) -> Page:
    after, limit = one(query, "after"), number(query, "limit", MOST)
    if after is not None:
        places = [place for place, key in enumerate(keys) if key.alias == after]
        if not places:
            raise invalid(f"There is no key '{after[:40]}' to go on after.", "after")
        keys = keys[places[0] + 1 :]
    if limit is None or len(keys) <= limit:
        return Page(keys, None)
    shown = keys[:limit]
    rest = {name: values for name, values in query.items() if name != "after"}
    following = {**rest, "after": [shown[-1].alias]}
    return Page(shown, urlencode(following, doseq=True, errors="surrogatepass"))
