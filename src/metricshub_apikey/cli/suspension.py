"""What `suspend` and `resume` show."""

from __future__ import annotations

from collections.abc import Sequence

from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.alias import meant, spellings, stored
from metricshub_apikey.keys.api_key import ApiKey

from .result import Document, Result


class Suspension(Result):
    """
    Keys that are suspended now, or no longer.

    Attributes:
        aliases: As they were given, each once.
        also: The old keys of their rotations, which went along.
    """

    def __init__(
        self, aliases: Sequence[str], done: Sequence[ApiKey], *, keystore: str, suspended: bool
    ) -> None:
        self.aliases = [*{stored(alias): alias for alias in reversed(aliases)}.values()][::-1]
        self.keystore = keystore
        self.suspended = suspended
        named = {name for alias in aliases for name in spellings(alias)}
        changed = {key.alias for key in done}
        self.also = [key.alias for key in done if key.alias not in named]
        self.unchanged = [alias for alias in self.aliases if meant(alias, changed) is None]

    @property
    def _done(self) -> str:
        return "suspended" if self.suspended else "resumed"

    def document(self) -> Document:
        """Return the aliases as they were given, and the old keys that went along."""
        also = {f"also_{self._done}": self.also, "unchanged": self.unchanged}
        return {"keystore": self.keystore, self._done: self.aliases, **also}

    def notes(self) -> list[str]:
        """Return which old keys went along, and which keys were like that already."""
        state = "suspended already" if self.suspended else "not suspended"
        told = [f"The API key '{alias}' is {state}." for alias in self.unchanged]
        return told + [f"The old key '{alias}' has been {self._done}, too." for alias in self.also]

    def lines(self) -> list[str]:
        """Return a sentence for each key that was named."""
        changed = (alias for alias in self.aliases if alias not in self.unchanged)
        return [f"API key '{escape(alias)}' has been {self._done}." for alias in changed]
