"""
What an API key carries besides its secret: who made it, what it is for, what it may do.

It is kept in attributes of the key's PKCS#12 entry, under one private arc, each value a
UTF8String. Java keeps attributes that it does not know when it rewrites a keystore. They are not
encrypted, so nothing secret belongs here. A key made by the stock tool has none of it.

    >>> Metadata(roles=("read-only",), labels=(("env", "production"),)).texts()[2]
    ('read-only',)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.pkcs12.attributes import TextAttributes, Texts

from .expiry import utc_text

ARC = "2.25.35111430387533863834868386397140873212"
"""Made from a random UUID (X.667), so no other program has it; the fields are numbered below it."""

ATTRIBUTES = TextAttributes(ARC)

CREATED_BY, ROLES, SERVICE_ACCOUNT, DESCRIPTION, LABELS, ROTATED_AT = range(1, 7)

ROLE = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}"
LABEL_NAME = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}"
MAX_SERVICE_ACCOUNT = 128
MAX_DESCRIPTION = 1_000
MAX_LABEL_VALUE = 128
MAX_MEMBERS = 32

Labels = tuple[tuple[str, str], ...]


class Metadata(NamedTuple):
    """
    The fields of a key that are not secret; every one may be unknown or empty.

    Attributes:
        created_by: Who made the key: `user@host`.
        roles: What it may do, behind the gateway; in alphabetical order.
        service_account: Whom a service sees; None means the alias.
        description: What it is for.
        labels: Names with values, such as `env` and `production`; in alphabetical order.
        rotated_at: When another key took its alias, in UTC; None for a key in its own place.
    """

    created_by: str | None = None
    roles: tuple[str, ...] = ()
    service_account: str | None = None
    description: str | None = None
    labels: Labels = ()
    rotated_at: datetime | None = None

    @classmethod
    def from_texts(cls, texts: Texts) -> Metadata:
        """Return what the attributes say; what another program put there oddly is left out."""
        pairs = (text.partition("=") for text in texts.get(LABELS, ()))
        return cls(
            created_by=_first(texts, CREATED_BY),
            roles=tuple(sorted(set(texts.get(ROLES, ())))),
            service_account=_first(texts, SERVICE_ACCOUNT),
            description=_first(texts, DESCRIPTION),
            labels=tuple(sorted({name: value for name, equals, value in pairs if equals}.items())),
            rotated_at=_instant(_first(texts, ROTATED_AT)),
        )

    def texts(self) -> Texts:
        """Return the values of the attributes by the number of the field."""
        return {
            CREATED_BY: _one(self.created_by),
            ROLES: self.roles,
            SERVICE_ACCOUNT: _one(self.service_account),
            DESCRIPTION: _one(self.description),
            LABELS: tuple(f"{name}={value}" for name, value in self.labels),
            ROTATED_AT: _one(utc_text(self.rotated_at) if self.rotated_at else None),
        }

    def check(self) -> None:
        """
        Refuse what a key should not have.

        Raises:
            InvalidArgumentError: With the rule that a field breaks.
        """
        for role in self.roles:
            if not re.fullmatch(ROLE, role):
                raise InvalidArgumentError(
                    f"'{role}' is not a role: 1 to 64 letters, digits, dots, colons, hyphens or "
                    "underscores, the first one a letter or digit."
                )
        for name, value in self.labels:
            check_label(name, value)
        _check_text("A service account", self.service_account, MAX_SERVICE_ACCOUNT)
        _check_text("A description", self.description, MAX_DESCRIPTION)
        for what, members in (("roles", self.roles), ("labels", self.labels)):
            if len(members) > MAX_MEMBERS:
                raise InvalidArgumentError(f"A key has at most {MAX_MEMBERS} {what}.")


NOTHING = Metadata()


def _first(texts: Texts, field: int) -> str | None:
    values = texts.get(field)
    return values[0] if values else None


def _one(value: str | None) -> tuple[str, ...]:
    return () if value is None else (value,)


def _instant(text: str | None) -> datetime | None:
    try:
        moment = None if text is None else datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment and moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def check_label(name: str, value: str) -> None:
    """Refuse a label whose name or value breaks a rule; raises InvalidArgumentError."""
    if not re.fullmatch(LABEL_NAME, name):
        raise InvalidArgumentError(
            f"'{name}' is not the name of a label: 1 to 63 letters, digits, dots, slashes, hyphens "
            "or underscores, the first one a letter or digit."
        )
    _check_text(f"The value of the label '{name}'", value, MAX_LABEL_VALUE)


def _check_text(what: str, text: str | None, longest: int) -> None:
    if text is None:
        return
    if len(text) > longest:
        raise InvalidArgumentError(f"{what} has at most {longest:,} characters.")
    if not text.isprintable() or text != text.strip():
        raise InvalidArgumentError(
            f"{what} has no control characters, and no white space at its ends."
        )


def parse_labels(typed: Iterable[str]) -> Labels:
    """
    Return the labels typed as `name=value`; of the same name the last one counts.

    Raises:
        InvalidArgumentError: One has no `=`, or breaks a rule.
    """
    labels = {}
    for text in typed:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidArgumentError(f"'{text}' is not a label; use name=value.")
        check_label(name, value)
        labels[name] = value
    return tuple(sorted(labels.items()))
