"""What the fuzzer has found so far, given again to the function it fuzzes (tests/fuzz)."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz import fuzz_store
from metricshub_apikey.pkcs12 import der
from places import PROJECT

SEEDS = sorted((PROJECT / "tests/fuzz/seeds").iterdir())


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_seeds(seed: Path) -> None:
    """Each input is read, or refused with one of the project's errors."""
    fuzz_store.run_one_input(seed.read_bytes())


def test_the_seeds_are_few() -> None:
    """They are small enough to live in the repository, and reach every place of a file."""
    assert 10 <= len(SEEDS) <= 60
    assert sum(seed.stat().st_size for seed in SEEDS) <= 100_000
    places = {
        seed.read_bytes()[0] % len(fuzz_store.PLACES) for seed in SEEDS if seed.stat().st_size
    }
    assert places == set(range(len(fuzz_store.PLACES)))


def test_the_fuzzer_gets_behind_the_mac() -> None:
    """A good secret is really decrypted: otherwise the fuzzer would see nothing but refusals."""
    secret = der.sequence(der.integer(0), der.sequence(), der.octets(b"key__2030-01-01T00:00"))
    file = fuzz_store.around_plaintext(secret)
    fuzz_store.read_and_write(file)
    assert fuzz_store.values_of(file) == [b"key__2030-01-01T00:00"]


def test_the_fuzzer_notices_bugs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other exception escapes, and ends the fuzzing."""

    def bug(bag: object) -> None:
        raise ZeroDivisionError(bag)

    monkeypatch.setattr(fuzz_store, "look_at", bug)
    good = next(seed for seed in SEEDS if fuzz_store.is_read(seed.read_bytes()))
    with pytest.raises(ZeroDivisionError):
        fuzz_store.run_one_input(good.read_bytes())
