"""What the options that describe a key make of its metadata."""

from __future__ import annotations

from collections.abc import Callable

from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.keys.metadata import Metadata, check_label, parse_labels


def new_metadata(
    roles: tuple[str, ...],
    service_account: str | None,
    description: str | None,
    labels: tuple[str, ...],
) -> Metadata:
    """Return the metadata that the options of `create` ask for."""
    return Metadata(
        roles=tuple(sorted(set(roles))),
        service_account=service_account or None,
        description=description or None,
        labels=parse_labels(labels),
    )


def revision(
    added_roles: tuple[str, ...],
    removed_roles: tuple[str, ...],
    labels: tuple[str, ...],
    removed_labels: tuple[str, ...],
    service_account: str | None,
    description: str | None,
) -> Callable[[Metadata], Metadata]:
    """Return what the options of `edit` make of a key's metadata."""
    new_labels = dict(parse_labels(labels))
    for name in removed_labels:
        check_label(name, "")
    both = {*added_roles} & {*removed_roles} | new_labels.keys() & {*removed_labels}
    if both:
        raise InvalidArgumentError(f"'{min(both)}' cannot be both added and removed.")

    def revise(metadata: Metadata) -> Metadata:
        kept = {name: value for name, value in metadata.labels if name not in removed_labels}
        roles = {*metadata.roles, *added_roles} - set(removed_roles)
        account, purpose = metadata.service_account, metadata.description
        return metadata._replace(
            roles=tuple(sorted(roles)),
            labels=tuple(sorted({**kept, **new_labels}.items())),
            service_account=account if service_account is None else service_account or None,
            description=purpose if description is None else description or None,
        )

    return revise
