"""
The page and its API with 10,000 keys: a list, a 304, a keystroke, memory.

    python benchmarks/console.py [KEYS]

A browser is used where Playwright and Chromium are there.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from statistics import median

from metricshub_apikey.keys import entries
from metricshub_apikey.keys.expiry import Moment
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.pkcs12.store import Store
from metricshub_apikey.policy.rules import Policy
from metricshub_apikey.registry.api_keys import utc_now
from metricshub_apikey.registry.issuing import Issuer

COMMAND = [sys.executable, "-m", "metricshub_apikey"]


def fill(path: Path, count: int) -> None:
    """Make a keystore with that many keys, in one write."""
    issuer = Issuer(Moment(utc_now(), UTC), Policy(), "root@bench", os.urandom)

    def add(store: Store) -> None:
        for number in range(count):
            roles = (f"role{number % 7}",)
            key = issuer.new_key(f"key-{number:05}", None, Metadata(roles=roles))
            store.adopt(entries.new_bag(store, key, os.urandom))

    Keystore(path).update(add, create=True)


def timed(step: Callable[[], object], times: int = 5) -> float:
    """Return the median of several runs, in milliseconds."""
    measured = []
    for _ in range(times):
        start = time.perf_counter()
        step()
        measured.append(1e3 * (time.perf_counter() - start))
    return median(measured)


def page(link: str) -> None:
    """Print how long the page takes in a browser, signed in by *link*."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--headless", "--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        tab = browser.new_page()
        tab.add_init_script(
            "const real = fetch; window.fetch = async (...all) => { const a = await real(...all);"
            " if (String(all[0]).startsWith('/v1/keys')) window.answered ??= performance.now();"
            " return a; };"
        )
        tab.goto(link)
        tab.wait_for_selector("tbody tr", timeout=60_000)
        since = tab.evaluate("performance.now() - window.answered")
        stroke = tab.evaluate(
            "async () => { const box = document.querySelector(\"[data-k='filter|q']\");"
            " const all = []; for (const text of ['k', 'ke', 'key-0', 'key-01', 'key-012']) {"
            " const start = performance.now(); box.value = text;"
            " box.dispatchEvent(new Event('input')); document.body.offsetHeight;"
            " all.push(performance.now() - start); } return Math.max(...all); }"
        )
        print(f"rows seen after the answer: {since:.0f} ms; slowest keystroke: {stroke:.0f} ms")
        browser.close()


def main() -> None:
    """Print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "security" / "metricshub-keystore.p12"
        fill(path, count)
        command = [*COMMAND, "console", "--keystore", str(path)]
        start = time.perf_counter()
        console = subprocess.Popen(
            command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        assert console.stdout is not None
        link = console.stdout.readline().strip()
        print(f"start to link: {1e3 * (time.perf_counter() - start):.0f} ms")
        listed = timed(
            lambda: subprocess.run(
                [*COMMAND, "path", "--keystore", str(path)], check=True, capture_output=True
            )
        )
        print(f"beside it, `apikey path`: {listed:.0f} ms")
        origin, _, ticket = link.partition("/#")
        connection = http.client.HTTPConnection(origin.removeprefix("http://"))

        def ask(
            method: str, target: str, body: object = None, **headers: str
        ) -> http.client.HTTPResponse:
            sent = None if body is None else json.dumps(body)
            connection.request(
                method, target, sent, {"Content-Type": "application/json", **headers}
            )
            return connection.getresponse()

        token = json.loads(ask("POST", "/v1/sessions", {"ticket": ticket}).read())["token"]
        bearer = {"Authorization": f"Bearer {token}"}
        begun = time.perf_counter()
        answer = ask("GET", "/v1/keys", **bearer)
        size = len(answer.read())
        print(
            f"first list, with reading the file: {1e3 * (time.perf_counter() - begun):.0f} ms, "
            f"{size:,} bytes"
        )
        print(f"list: {timed(lambda: ask('GET', '/v1/keys', **bearer).read()):.0f} ms")
        known = {**bearer, "If-None-Match": answer.headers["ETag"]}
        print(f"304: {timed(lambda: ask('GET', '/v1/keys', **known).read(), 50):.2f} ms")
        status = Path(f"/proc/{console.pid}/status").read_text()
        print(
            "memory:",
            next(
                line.split(":")[1].strip()
                for line in status.splitlines()
                if line.startswith("VmHWM")
            ),
        )
        try:
            console.terminate()
            console.wait()
            console = subprocess.Popen(
                command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
            )
            assert console.stdout is not None
            page(console.stdout.readline().strip())
        finally:
            console.terminate()
            console.wait()


if __name__ == "__main__":
    main()
