"""Sessions as a user sees them: each file in `transcripts/` is typed and compared line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Run
from transcripts import replay, steps

FOLDER = Path(__file__).parent / "transcripts"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_transcript(run: Run, path: Path) -> None:
    """Every line, stream and exit code is as it is written."""
    replay(path, run)


def test_a_wrong_transcript_fails(run: Run, tmp_path: Path) -> None:
    """A line, a stream or an exit code that differs is noticed."""
    for wrong in ("No keys found.", "! No API keys found.", "No API keys found.\n? 1", ""):
        path = tmp_path / "wrong.txt"
        path.write_text(f"$ apikey list\n{wrong}\n")
        assert len([*steps(path)]) == 1
        with pytest.raises(AssertionError):
            replay(path, run)
