"""API keys under a given policy, at a given time, for tests of what a policy does."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from typing import Any

from metricshub_apikey import ApiKeys, Policy
from metricshub_apikey.keystore.keystore import Keystore


class RuledKeys(ApiKeys):
    """The API keys of a keystore, whose policy and clock a test may change."""

    def __init__(
        self,
        keystore: str | os.PathLike[str] | Keystore,
        policy: Policy,
        **options: Any,  # noqa: ANN401 - those of ApiKeys
    ) -> None:
        super().__init__(keystore, **options)
        self.policy = policy

    def _policy(self, policy: Policy | None) -> Policy:
        return self.policy if policy is None else policy

    def at(self, clock: Callable[[], datetime]) -> None:
        """Move to another time."""
        self._clock = clock
