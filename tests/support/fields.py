"""Metadata as the keyword arguments of `ApiKeys.create`."""

from __future__ import annotations

from typing import TypedDict

from metricshub_apikey.keys.metadata import Metadata


class Fields(TypedDict):
    """What `create` takes besides the alias and the expiry."""

    roles: tuple[str, ...]
    service_account: str | None
    description: str | None
    labels: dict[str, str]


def fields(metadata: Metadata) -> Fields:
    """Return what *metadata* says, by name."""
    return Fields(
        roles=metadata.roles,
        service_account=metadata.service_account,
        description=metadata.description,
        labels=dict(metadata.labels),
    )
