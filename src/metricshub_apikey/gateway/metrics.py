"""What the gateway counts, in the text format of Prometheus."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from .keyring import Keyring


class Metrics:
    """The decisions so far, by their reason."""

    def __init__(self, keyring: Keyring) -> None:
        """Start at zero; *keyring* has the keys in force."""
        self._keyring = keyring
        self.decisions: Counter[str] = Counter()

    def text(self, now: float | None = None) -> str:
        """Return all of it, as it is at *now*, seconds since 1970."""
        return "".join(f"{line}\n" for line in self._lines(time.time() if now is None else now))

    def _lines(self, now: float) -> Iterator[str]:
        yield "# HELP apikey_decisions_total Decisions on requests, by result."
        yield "# TYPE apikey_decisions_total counter"
        for reason, count in sorted(self.decisions.items()):
            yield f'apikey_decisions_total{{result="{reason}"}} {count}'
        yield "# HELP apikey_reload_failed Whether the files as they are now could not be read."
        yield "# TYPE apikey_reload_failed gauge"
        yield f"apikey_reload_failed {int(self._keyring.failure is not None)}"
        snapshot = self._keyring.snapshot
        if snapshot is None:
            return
        wall = snapshot.clock.wall(now)
        expired = sum(one.expires <= wall for one in snapshot.credentials.values())
        yield "# HELP apikey_reload_age_seconds How long ago the keys in force were read."
        yield "# TYPE apikey_reload_age_seconds gauge"
        yield f"apikey_reload_age_seconds {now - snapshot.loaded:.0f}"
        yield "# HELP apikey_keys API keys by state."
        yield "# TYPE apikey_keys gauge"
        yield f'apikey_keys{{state="valid"}} {len(snapshot.credentials) - expired}'
        yield f'apikey_keys{{state="expired"}} {expired}'
        yield f'apikey_keys{{state="unreadable"}} {snapshot.unreadable}'
