"""Our writer beside a stock-like Java writer that takes no lock, with the window widened."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

from metricshub_apikey import ApiKeys
from metricshub_apikey.errors import KeystoreBusyError
from metricshub_apikey.files.lease import Lease, Writer
from metricshub_apikey.keystore.keystore import Keystore
from stock import Stock

KEY = "3f2b1c4d-8e5f-4a2b-bc15-0ba0f60b15f3"
PAUSE = 0.02
"""Seconds between two writes of the Java program."""

Span = tuple[float, float]


def no_lease(lease: Lease) -> Writer:
    """Stand for `Lease.take` where there are no leases."""
    del lease
    return Writer.UNKNOWN


def no_exchange(one: str, other: str) -> bool:
    """Stand for `kernel.exchange` where there is no such step."""
    del one, other
    return False


class JavaStorm:
    """
    Two writers of one keystore.

    Attributes:
        java: When the Java program made each of its keys.
        ours: When we made each of ours.
    """

    def __init__(self, stock: Stock, keystore: Path, *, rounds: int, widened: float) -> None:
        """
        Make the keystore.

        Args:
            stock: The Java program.
            keystore: The file.
            rounds: How many keys the Java program makes.
            widened: Seconds between our comparison and our exchange.
        """
        self._stock = stock
        self._keystore = keystore
        self._rounds = rounds
        self._done = threading.Event()
        self._registry = ApiKeys(Keystore(keystore, before_commit=lambda: time.sleep(widened)))
        self.java: dict[str, Span] = {}
        self.ours: dict[str, Span] = {}
        stock.ask("new", keystore)

    def _write_like_java(self) -> None:
        try:
            for number in range(self._rounds):
                alias, start = f"java-{number}", time.monotonic()
                self._stock.ask("create", self._keystore, alias, f"{KEY}-{number}")
                self.java[alias] = (start, time.monotonic())
                time.sleep(PAUSE)
        finally:
            self._done.set()

    def run(self) -> None:
        """Let both write until the Java program has made all its keys."""
        java = threading.Thread(target=self._write_like_java)
        java.start()
        number = 0
        while not self._done.is_set():
            alias, start = f"ours-{number}", time.monotonic()
            with suppress(KeystoreBusyError):
                self._registry.create(alias)
                self.ours[alias] = (start, time.monotonic())
            number += 1
        java.join()

    def check(self) -> None:
        """
        Check that no finished write is lost.

        A Java program that has read the file before our change, and stores it afterwards, replaces
        our change; so ours must be there unless the Java program was at work at the same time.
        """
        there = set(self._registry.aliases())
        assert len(self.java) == self._rounds
        assert [alias for alias in self.java if alias not in there] == []
        gone = [span for alias, span in self.ours.items() if alias not in there]
        spans = list(self.java.values())
        assert all(any(s < end and start < e for s, e in spans) for start, end in gone)
        assert self.ours
        left = [one.name for one in self._keystore.parent.iterdir() if one.suffix == ".tmp"]
        assert left == []
