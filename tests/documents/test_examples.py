"""The examples in the docstrings, run as they stand there."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

MODULES = [
    "",
    ".secret",
    ".pkcs12.der",
    ".pkcs12.store",
    ".keystore.keystore",
    ".keys.expiry",
    ".registry.api_keys",
]


@pytest.mark.parametrize("module", MODULES)
def test_the_example_runs(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that opens with an example tells the truth."""
    monkeypatch.chdir(tmp_path)

    failed, tried = doctest.testmod(importlib.import_module(f"metricshub_apikey{module}"))

    assert tried > 0
    assert failed == 0
