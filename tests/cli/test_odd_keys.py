"""A key that cannot be shown, and an error of the operating system that has no file name."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from metricshub_apikey import ApiKeys
from metricshub_apikey.cli.main import run
from metricshub_apikey.keys import document
from metricshub_apikey.keystore.keystore import Keystore


def no_such_time(*_: object) -> tuple[datetime, datetime]:
    """Fail as the C library of Windows does for a year after 3000."""
    raise OSError(22, "Invalid argument")


def test_one_odd_key_hides_no_other(
    keystore: Path,
    registry: ApiKeys,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The list in JSON has every key; the odd one says that it cannot be shown."""
    registry.create("fine")
    registry.create("odd", expires_on=datetime(3500, 1, 1))
    monkeypatch.setattr(document, "instants", no_such_time)
    assert run(["--keystore", str(keystore), "list", "-o", "json"]) == 0
    fine, odd = json.loads(capfd.readouterr().out)["keys"]
    assert (fine["alias"], fine["unreadable"]) == ("fine", None)
    assert (odd["alias"], odd["unreadable"]) == ("odd", "apikey cannot show it: OSError")
    assert fine.keys() == odd.keys()


def test_not_every_failure_is_that_of_standard_output(
    keystore: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An OSError without a file name that does not come from printing is a bug, and is seen."""
    monkeypatch.setattr(Keystore, "read", no_such_time)
    with pytest.raises(OSError, match="Invalid argument"):
        run(["--keystore", str(keystore), "list"])
