"""What may be changed of a key: its expiry and what it carries; never the key itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple

from metricshub_apikey.errors import InvalidArgumentError

from .api_key import ApiKey
from .metadata import Labels, Metadata, check_label


class Changes(NamedTuple):
    """
    What is to become of a key; the default changes nothing.

    Attributes:
        expires_on: Local date time of the server; None leaves the expiry.
        no_expiry: The key never ends.
        add_roles: Roles to give it.
        remove_roles: Roles to take away.
        labels: Labels to set, values by name.
        remove_labels: Names of labels to take away.
        service_account: Whom a service sees; an empty text takes it away, None leaves it.
        description: What the key is for; an empty text takes it away, None leaves it.
    """

    expires_on: datetime | None = None
    no_expiry: bool = False
    add_roles: Collection[str] = ()
    remove_roles: Collection[str] = ()
    labels: Mapping[str, str] = {}
    remove_labels: Collection[str] = ()
    service_account: str | None = None
    description: str | None = None

    @property
    def names_something(self) -> bool:
        """Whether anything is to be changed at all."""
        return self != Changes()

    def check(self) -> None:
        """Refuse changes that contradict each other; raises InvalidArgumentError."""
        for name in self.remove_labels:
            check_label(name, "")
        both = {*self.add_roles} & {*self.remove_roles}
        both |= self.labels.keys() & {*self.remove_labels}
        if both:
            raise InvalidArgumentError(f"'{min(both)}' cannot be both added and removed.")
        if self.no_expiry and self.expires_on is not None:
            raise InvalidArgumentError("A key that never expires has no expiry.")

    def apply(self, key: ApiKey) -> ApiKey:
        """
        Return *key* as it should be.

        Raises:
            InvalidArgumentError: The expiry of a key that cannot be read is to be changed.
        """
        if self.no_expiry and key.unreadable is not None:
            raise unchangeable(key)
        ends = self.expires_on if self.expires_on or self.no_expiry else key.expires_on
        return key._replace(expires_on=ends, metadata=self._revised(key.metadata))

    def _revised(self, metadata: Metadata) -> Metadata:
        kept = {name: held for name, held in metadata.labels if name not in self.remove_labels}
        account, purpose = self.service_account, self.description
        return metadata._replace(
            roles=tuple(sorted({*metadata.roles, *self.add_roles} - {*self.remove_roles})),
            labels=sorted_labels({**kept, **self.labels}),
            service_account=metadata.service_account if account is None else account or None,
            description=metadata.description if purpose is None else purpose or None,
        )


def sorted_labels(labels: Mapping[str, str]) -> Labels:
    """Return labels as metadata holds them."""
    return tuple(sorted(labels.items()))


def unchangeable(key: ApiKey) -> InvalidArgumentError:
    """Return the error for an expiry that cannot be changed, as its entry cannot be read."""
    return InvalidArgumentError(f"The expiry of '{key.alias}' cannot be changed: {key.unreadable}.")
