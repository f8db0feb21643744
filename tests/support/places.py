"""Where things of this project are."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).parents[2]
VECTORS = PROJECT / "tests" / "vectors"
"""Keystores that real JDKs wrote."""
