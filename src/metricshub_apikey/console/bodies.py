"""What a body asks for: strict JSON, known members, and errors that name the member."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import NamedTuple, NoReturn

from metricshub_apikey.errors import ApiKeyError, InvalidArgumentError
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.durations import parse_duration
from metricshub_apikey.keys.expiry import Moment, after, parse_date_time
from metricshub_apikey.keys.metadata import NOTHING, Labels, Metadata
from metricshub_apikey.policy.rules import Policy

from .problems import Problem

Body = Mapping[str, object]

FIELDS = ("expires_in", "expires_on", "roles", "service_account", "description", "labels")


def parse_object(raw: bytes) -> dict[str, object]:
    """
    Return the JSON object in a body.

    Raises:
        Problem: 400 where it is not strict JSON, in UTF-8, or not an object.
    """
    import json

    def pairs(members: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(members)
        if len(found) < len(members):
            raise ValueError("a member is there twice")
        return found

    def constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is not JSON")

    try:
        body = json.loads(raw.decode(), object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Problem(400, "not-json", f"The body is not JSON: {why}.") from None
    if not isinstance(body, dict):
        raise Problem(400, "not-json", "The body is not a JSON object.")
    return body


def check_members(body: Body, known: Sequence[str]) -> None:
    """Refuse members that are not *known*: a field that is mistyped must not be left out."""
    for name in body:
        if name not in known:
            hint = f"The members are: {', '.join(known)}." if known else "There are none."
            shown = name[:40]
            raise invalid(f"There is no member '{shown}' here.", hint=hint)


def invalid(sentence: str, field: str | None = None, hint: str | None = None) -> Problem:
    """Return the problem of a member that cannot be used."""
    return Problem(422, InvalidArgumentError.code, sentence, field=field, hint=hint)


@contextmanager
def about(field: str) -> Iterator[None]:
    """Say of an error within that it is about *field*."""
    try:
        yield
    except ApiKeyError as error:
        raise Problem.of(error, field) from error


def text(body: Body, name: str) -> str:
    """Return a text that must be there."""
    value = body.get(name)
    if not isinstance(value, str):
        raise invalid(f"'{name}' must be a text.", name)
    return value


def optional_text(body: Body, name: str) -> str | None:
    """Return a text, or None where it is not there, null or empty."""
    return None if body.get(name) is None else text(body, name) or None


def texts(body: Body, name: str) -> tuple[str, ...]:
    """Return a list of texts, none where it is not there or null."""
    value = body.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise invalid(f"'{name}' must be a list of texts.", name)
    return tuple(value)


def overlap(body: Body, default: timedelta) -> timedelta:
    """Return the length of time that an old key works on."""
    if body.get("overlap") is None:
        return default
    value = text(body, "overlap")
    with about("overlap"):
        return timedelta() if value == "0" else parse_duration(value)


class Expiry(NamedTuple):
    """What a body says of the expiry: nothing at all, or a local date time, or never."""

    said: bool
    on: datetime | None = None


def expiry(body: Body, *, now: Moment, policy: Policy) -> Expiry:
    """
    Return what a body says of the expiry.

    Args:
        body: Of the request.
        now: The current instant, and the zone of the server.
        policy: Whose choices of a length of life count.
    """
    length, on = (
        None if body.get(name) is None else text(body, name)
        for name in ("expires_in", "expires_on")
    )
    if length is not None and on is not None:
        raise invalid("'expires_in' and 'expires_on' exclude each other.", "expires_in")
    if length is not None:
        with about("expires_in"):
            moment = after(now, parse_duration(length))
            policy.check_lifetime(length)
            return Expiry(said=True, on=moment)
    if on is not None:
        with about("expires_on"):
            return Expiry(said=True, on=parse_date_time(on, now.zone))
    return Expiry(said="expires_on" in body or "expires_in" in body)


def metadata(body: Body, old: Metadata = NOTHING) -> Metadata:
    """
    Return *old* with what a body changes (RFC 7396: null takes a member away).

    Raises:
        Problem: 422, about the member that cannot be used.
    """
    new = old
    if "roles" in body:
        new = new._replace(roles=tuple(sorted(set(texts(body, "roles")))))
    with about("roles"):
        Metadata(roles=new.roles).check()
    if "service_account" in body:
        new = new._replace(service_account=optional_text(body, "service_account"))
        with about("service_account"):
            Metadata(service_account=new.service_account).check()
    if "description" in body:
        new = new._replace(description=optional_text(body, "description"))
        with about("description"):
            Metadata(description=new.description).check()
    if "labels" in body:
        new = new._replace(labels=_labels(body["labels"], old.labels))
        with about("labels"):
            Metadata(labels=new.labels).check()
    return new


def _labels(value: object, old: Labels) -> Labels:
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise invalid("'labels' must be an object of texts.", "labels")
    labels = dict(old)
    for name, held in value.items():
        if held is None:
            labels.pop(name, None)
        elif isinstance(held, str):
            labels[name] = held
        else:
            raise invalid("'labels' must be an object of texts.", "labels")
    return tuple(sorted(labels.items()))


class Revision(NamedTuple):
    """What a PATCH changes of a key, as `ApiKeys.edit` takes it."""

    expires_on: datetime | None
    no_expiry: bool
    metadata: Metadata


def revision(body: Body, key: ApiKey, *, now: Moment, policy: Policy) -> Revision:
    """Return what *body* makes of *key*; raises Problem."""
    wanted = expiry(body, now=now, policy=policy)
    never = wanted.said and wanted.on is None and key.expires_on is not None
    return Revision(wanted.on, never, metadata(body, key.metadata))
