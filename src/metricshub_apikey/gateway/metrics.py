"""What the gateway counts, in the text format of Prometheus."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from metricshub_apikey.formats.prometheus import NO_LABELS, Metric, lines

from .keyring import Keyring


class Metrics:
    """The decisions so far, by their reason."""

    def __init__(self, keyring: Keyring) -> None:
        """Start at zero; *keyring* has the keys in force."""
        self._keyring = keyring
        self.decisions: Counter[str] = Counter()

    def text(self, now: float | None = None) -> str:
        """Return all of it, as it is at *now*, seconds since 1970."""
        metrics = self._metrics(time.time() if now is None else now)
        return "".join(f"{line}\n" for line in lines(metrics))

    def _metrics(self, now: float) -> Iterator[Metric]:
        yield Metric(
            "apikey_decisions_total",
            "Decisions on requests, by result.",
            [({"result": reason}, count) for reason, count in sorted(self.decisions.items())],
            "counter",
        )
        yield Metric(
            "apikey_reload_failed",
            "Whether the files as they are now could not be read.",
            [(NO_LABELS, int(self._keyring.failure is not None))],
        )
        snapshot = self._keyring.snapshot
        if snapshot is None:
            return
        wall = snapshot.clock.wall(now)
        expired = sum(one.expires <= wall for one in snapshot.credentials.values())
        states = {
            "valid": len(snapshot.credentials) - expired,
            "expired": expired,
            "unreadable": snapshot.unreadable,
        }
        yield Metric(
            "apikey_reload_age_seconds",
            "How long ago the keys in force were read.",
            [(NO_LABELS, now - snapshot.loaded)],
        )
        yield Metric(
            "apikey_keys",
            "API keys by state.",
            [({"state": state}, count) for state, count in states.items()],
        )
