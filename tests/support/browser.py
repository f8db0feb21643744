"""Debian's Chromium, driven by Playwright, without anything fetched from elsewhere."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conftest import missing

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Run a browser until the block ends."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        missing("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def axe() -> str:
    """Return axe-core, which npm has put where AXE_CORE says, or into the usual folders."""
    places = [os.environ.get("AXE_CORE", ""), "/usr/share/javascript/axe-core/axe.min.js"]
    here = Path(__file__).resolve().parents[2]
    places += [str(here / "node_modules" / "axe-core" / "axe.min.js")]
    for place in filter(None, places):
        if os.path.isfile(place):
            return Path(place).read_text("utf-8")
    return missing("axe-core is not installed: npm install --no-save axe-core")
