"""The example application of docs/gateway: FastAPI with the middleware, on uvicorn."""

from __future__ import annotations

import sys
from pathlib import Path

from conftest import Run
from proxies import DOCS
from servers import ask, free_port, running


def test_the_example(keystore: Path, run: Run, environment: dict[str, str]) -> None:
    """It knows whose key it is, and watching over it needs none."""
    key = run("create", "ci", "--service-account", "pipeline", "-q").stdout.strip()
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(DOCS / "fastapi"), "app:app"]
    with running([*command, "--port", str(port)], port=port, environment=environment):
        bearer = {"Authorization": f"Bearer {key}", "X-Apikey-Alias": "root"}
        accepted = ask(port, "/api/me", bearer)
        refused = ask(port, "/api/me")
        healthy = ask(port, "/healthz")
    assert accepted.status == 200
    assert accepted.body == '{"alias":"ci","principal":"pipeline","roles":[]}'
    assert "ratelimit" in accepted.headers
    assert (refused.status, healthy.body) == (401, '{"status":"up"}')
    assert keystore.exists()
