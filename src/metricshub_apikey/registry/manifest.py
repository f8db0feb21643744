"""
The list of keys that a keystore should have, as a user writes it in YAML or TOML.

    keys:
      - alias: ci
        expires_in: 90d
        roles: [metrics-writer]
        labels: {env: production}
      - web

A field that an item leaves out stays as it is; an empty one is taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time, tzinfo
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

from metricshub_apikey.errors import InvalidArgumentError, KeystoreError, ManifestError, PolicyError
from metricshub_apikey.files.reading import read
from metricshub_apikey.files.text import decode
from metricshub_apikey.formats.nearest import did_you_mean
from metricshub_apikey.formats.toml_lines import Key, line_of
from metricshub_apikey.formats.toml_value import Value
from metricshub_apikey.formats.yaml_items import Field
from metricshub_apikey.formats.yaml_items import items as yaml_items
from metricshub_apikey.keys.alias import check_alias, stored
from metricshub_apikey.keys.durations import parse_duration
from metricshub_apikey.keys.expiry import on_the_wall, parse_date_time
from metricshub_apikey.keys.metadata import MAX_DESCRIPTION, Labels, Metadata
from metricshub_apikey.pkcs12.bag import fold

STANDARD_INPUT = "-"
MAX_SIZE = 16 * 1024 * 1024
MAX_ITEMS = 100_000
NEVER = "never"

KINDS = {
    type(None): "nothing",
    bool: "true or false",
    int: "a number",
    float: "a number",
    datetime: "a date",
    date: "a date",
    time: "a time",
    str: "a text",
    list: "a list",
    dict: "a mapping",
}


class Wanted(NamedTuple):
    """
    A key that there should be.

    Attributes:
        alias: In lower case.
        expires_on: Local date time; None where the list names none.
        expires_in: A length of time as typed, such as `90d`; None where the list names none.
        no_expiry: Whether the list says that the key never ends.
        metadata: The fields that the list names, as `Metadata` has them.
        suspended: Whether the key is suspended; None where the list does not say.
        refused: Why a new key cannot have the alias; None where it can.
    """

    alias: str
    expires_on: datetime | None = None
    expires_in: str | None = None
    no_expiry: bool = False
    metadata: Mapping[str, Any] = MappingProxyType({})
    suspended: bool | None = None
    refused: ManifestError | None = None


class _PlacedError(ManifestError):
    """An error that does not know its file yet."""

    def __init__(self, place: int | Key, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.place = place


def read_manifest(path: str, *, stdin: BinaryIO, zone: tzinfo) -> tuple[Wanted, ...]:
    """
    Return the keys in a list, in its order.

    Args:
        path: A file: TOML if its name ends in `.toml`, else YAML; `-` is standard input, YAML.
        stdin: Standard input.
        zone: The server's, for times that are not local.

    Raises:
        ManifestError: It cannot be read or used; the message names the line and the field.
    """
    name = "standard input" if path == STANDARD_INPUT else path
    text = decode(_data(path, name, stdin), name, ManifestError)
    items = _toml_items if path.lower().endswith(".toml") else yaml_items

    def told(fault: _PlacedError) -> ManifestError:
        line = fault.place if isinstance(fault.place, int) else line_of(text, fault.place)
        return ManifestError(f"{name}, line {line}: {fault.message}", hint=fault.hint)

    try:
        return _wanted(items(text, name), zone, told)
    except _PlacedError as fault:
        raise told(fault) from None


def _data(path: str, name: str, stdin: BinaryIO) -> bytes:
    try:
        if path == STANDARD_INPUT:
            data = stdin.read(MAX_SIZE + 1)
            if len(data) > MAX_SIZE:
                raise ManifestError(f"{name} is larger than the limit of {MAX_SIZE:,} bytes.")
            return data
        snapshot = read(path, MAX_SIZE)
    except KeystoreError as error:
        raise ManifestError(error.message) from error
    except OSError as error:
        raise ManifestError(f"{name} cannot be read: {error.strerror}.") from error
    if snapshot is None:
        raise ManifestError(f"{name} does not exist.")
    return snapshot.data


def _wanted(
    items: Iterator[Field], zone: tzinfo, told: Callable[[_PlacedError], ManifestError]
) -> tuple[Wanted, ...]:
    found: dict[str, Wanted] = {}
    for number, item in enumerate(items):
        if number == MAX_ITEMS:
            raise _PlacedError(item.place, f"a list has at most {MAX_ITEMS:,} keys.")
        one = _one(item, zone, told)
        name = stored(one.alias)
        if name in found:
            raise _PlacedError(item.place, f"'{one.alias}' is in the list twice.")
        found[name] = one
    return tuple(found.values())


def _one(item: Field, zone: tzinfo, told: Callable[[_PlacedError], ManifestError]) -> Wanted:
    fields = {"alias": item} if isinstance(item.value, str) else item.value
    if not isinstance(fields, dict):
        raise _PlacedError(item.place, f"expected a key, not {KINDS[type(fields)]}.")
    for name, field in fields.items():
        if name not in READERS:
            raise _unknown(name, field.place)
    if "alias" not in fields:
        raise _PlacedError(item.place, "this key has no alias.")
    typed = str(_read("alias", fields["alias"], "", zone))
    alias = fold(typed)
    if "expires_on" in fields and "expires_in" in fields:
        place = fields["expires_in"].place
        raise _PlacedError(place, f"'{alias}' has both expires_on and expires_in; use one.")
    found: dict[str, Any] = {
        name: _read(name, field, f" of '{alias}'", zone)
        for name, field in fields.items()
        if name != "alias"
    }
    return Wanted(
        alias,
        found.get("expires_on"),
        found.get("expires_in"),
        no_expiry="expires_on" in found and found["expires_on"] is None,
        metadata={name: value for name, value in found.items() if name in Metadata._fields},
        suspended=found.get("suspended"),
        refused=_refused(typed, fields["alias"].place, told),
    )


def _refused(
    alias: str, place: int | Key, told: Callable[[_PlacedError], ManifestError]
) -> ManifestError | None:
    """Return why a new key cannot have that *alias*; one that is there may have any."""
    try:
        check_alias(alias)
    except InvalidArgumentError as error:
        return told(_PlacedError(place, f"alias: {error.message}"))
    return None


def _unknown(name: str, place: int | Key) -> _PlacedError:
    hint = did_you_mean(name, READERS)
    return _PlacedError(place, f"{name[:40]!r} is not a field of a key.", hint)


def _read(name: str, field: Field, whose: str, zone: tzinfo) -> object:
    """Return what `Wanted` has for a field."""
    try:
        given = (field.value, zone) if name == "expires_on" else (field.value,)
        value: Any = READERS[name](*given)
        if name in Metadata._fields:
            Metadata(**{name: value}).check()
    except InvalidArgumentError as error:
        raise _PlacedError(field.place, f"{name}{whose}: {error.message}", error.hint) from None
    return value


def _text(value: object, where: str = "") -> str:
    if not isinstance(value, str):
        quotes = "" if isinstance(value, list | dict | None) else "; put it in quotes"
        raise InvalidArgumentError(f"{where}expected a text, not {KINDS[type(value)]}{quotes}.")
    if len(value) > MAX_DESCRIPTION:
        raise InvalidArgumentError(f"{where}a text has at most {MAX_DESCRIPTION:,} characters.")
    return value


def _expires_on(value: object, zone: tzinfo) -> datetime | None:
    if value is None or value == NEVER:
        return None
    if isinstance(value, datetime):
        try:
            return on_the_wall(value, zone) if value.tzinfo else value.replace(microsecond=0)
        except (ValueError, OverflowError):
            raise InvalidArgumentError(f"'{value}' is not a date time here.") from None
    typed = value.isoformat() if isinstance(value, date) else _text(value)
    return parse_date_time(typed, zone)


def _expires_in(value: object) -> str:
    typed = _text(value)
    parse_duration(typed)
    return typed


def _roles(value: object) -> tuple[str, ...]:
    if not value and isinstance(value, str | None):
        return ()
    members = value if isinstance(value, list) else [value]
    return tuple(sorted({_text(member) for member in members}))


def _optional(value: object) -> str | None:
    return None if value is None else _text(value) or None


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgumentError(f"expected true or false, not {KINDS[type(value)]}.")
    return value


def _labels(value: object) -> Labels:
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"expected names with texts, not {KINDS[type(value)]}.")
    return tuple(sorted((_text(name), _text(text, f"{name}: ")) for name, text in value.items()))


READERS: dict[str, Callable[..., object]] = {
    "alias": _text,
    "expires_on": _expires_on,
    "expires_in": _expires_in,
    "roles": _roles,
    "service_account": _optional,
    "description": _optional,
    "labels": _labels,
    "suspended": _flag,
}


def _toml_items(text: str, name: str) -> Iterator[Field]:
    try:
        top = Value.read(text, name).table()
    except PolicyError as error:
        raise ManifestError(error.message) from None
    for key in top:
        if key != "keys":
            raise _PlacedError((key,), f"{key[:40]!r} is not known here; all keys are in 'keys'.")
    found = top["keys"].value if top else None
    if not isinstance(found, list):
        raise _PlacedError(("keys",), "there is no list of keys; `keys = []` is an empty one.")
    for number, item in enumerate(found):
        place = ("keys", number)
        if isinstance(item, dict):
            fields = {key: Field(value, (*place, key)) for key, value in item.items()}
            yield Field(fields, place)
        else:
            yield Field(item, place)
