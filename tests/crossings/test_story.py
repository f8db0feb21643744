"""The whole story of a key under the strict policy, behind a real nginx."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from conftest import Run
from proxies import Proxy, nginx, staged
from servers import Server, free_port, serving

QUOTA = 20


def statuses(proxy: Proxy, *keys: str) -> list[int]:
    """Return the answers to a request with each of the keys."""
    return [proxy.ask("/api/hosts", key).status for key in keys]


def document(run: Run, *words: str) -> dict[str, str]:
    """Return what a command prints in JSON, of the one key that there is."""
    done = run(*words, "-o", "json")
    found = json.loads(done.stdout)
    one: dict[str, str] = found["keys"][0] if "keys" in found else found
    return one


def arguments() -> str:
    """Return the arguments and the environments of all processes."""
    said = []
    for name in ("cmdline", "environ"):
        for path in Path("/proc").glob(f"[0-9]*/{name}"):
            try:
                said.append(path.read_bytes().decode("latin-1"))
            except OSError:  # it has ended, or is somebody else's
                continue
    return "\n".join(said)


def check_record(run: Run) -> None:
    """Check that `apikey log` tells what was done, in its order."""
    lines = [line.split() for line in run("log", "ci").stdout.splitlines()]
    done = [what for _, _, what, *_ in lines if what in ("create", "rotate", "revoke")]
    assert done == ["create", "rotate", "revoke"]


def test_the_story_of_a_key(
    tmp_path: Path, keystore: Path, environment: dict[str, str], run: Run
) -> None:
    """Created, used, refused, limited, seen, rotated, revoked: the log tells it all."""
    port = free_port()
    logs: list[Server] = []
    for folder in (keystore.parent, tmp_path / "stage"):
        folder.mkdir()

    @contextmanager
    def gateway() -> Iterator[None]:
        with serving(keystore, "--bind", f"127.0.0.1:{port}", environment=environment) as one:
            logs.append(one.server)
            yield
        assert one.server.process.returncode == 0

    assert run("policy", "init", "--template", "strict").returncode == 0
    policy = keystore.with_name("apikey.toml")
    rules = policy.read_text().replace(
        "requests_per_minute = 1000", f"requests_per_minute = {QUOTA}"
    )
    policy.write_text(rules)
    assert run("create", "ci").returncode == 1  # the policy wants a role
    old = run("create", "ci", "--role", "read-only", "--expires-in", "90d", "-q").stdout.strip()
    assert old.startswith("metricshub_")
    ends = datetime.fromisoformat(document(run, "show", "ci")["expires_on"])
    assert abs(ends.astimezone(UTC) - datetime.now(UTC) - timedelta(days=90)) < timedelta(hours=2)
    assert document(run, "list", "--long")["last_used_at"] is None

    with staged(tmp_path / "stage") as stage, nginx(tmp_path / "nginx", stage, port) as proxy:
        logs += [proxy.server, stage.upstream]
        with gateway():
            began = datetime.now(UTC)
            assert proxy.ask("/api/hosts", old).asked["line"].startswith("GET /api/hosts")
            assert proxy.ask("/api/hosts", old, method="DELETE").status == 403
            assert set(statuses(proxy, *[old] * (QUOTA - 1))) == {200}
            refused = proxy.ask("/api/hosts", old)
            assert refused.status == 429
            assert 1 <= int(refused.headers["Retry-After"]) <= 60
            assert f"q={QUOTA};w=60" in refused.headers["RateLimit-Policy"]
            assert refused.headers["RateLimit"].startswith('"minute";r=0;t=')
        assert statuses(proxy, old)[0] >= 500  # nobody decides, so nobody passes

        used = datetime.fromisoformat(document(run, "list", "--long")["last_used_at"])
        assert used >= began - timedelta(minutes=1)
        assert f"{used:%Y-%m-%d}" in run("list", "--long").stdout
        with gateway():
            new = run("rotate", "ci", "--overlap", "7d", "-q").stdout.strip()
            assert statuses(proxy, old, new) == [200, 200]
            assert old not in arguments()
            assert new not in arguments()
            assert run("rotate", "ci", "--finish").returncode == 0
            assert statuses(proxy, old, new) == [401, 200]
            assert run("revoke", "ci").returncode == 0
            assert statuses(proxy, old, new) == [401, 401]

    check_record(run)
    told = "\n".join(log.text for log in logs)
    for reason in ("not-permitted", "over-limit", "removed"):
        assert f"reason={reason} alias=ci" in told
    kept = b"".join(path.read_bytes() for path in keystore.parent.iterdir() if path != keystore)
    for key in (old, new):
        assert key not in told
        assert key.encode() not in kept
