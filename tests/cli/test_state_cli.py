"""Last uses that gateways keep on a Redis server, as the command line shows them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis as package

from conftest import Run
from metricshub_apikey.activity.database import ActivityLog, path_beside
from metricshub_apikey.errors import ActivityError
from metricshub_apikey.gateway.redis.record import LAST_USED, RECORDING_SINCE, RedisRecord
from metricshub_apikey.keys.fingerprint import fingerprint
from metricshub_apikey.policy.state import ENVIRONMENT_VARIABLE
from redis_servers import Redis, serving_redis
from servers import ask, forwarded, serving, wait_until

MOMENT = datetime(2027, 3, 1, 12, 30, tzinfo=UTC)

WITHOUT_REDIS = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "redis":
            raise ModuleNotFoundError("No module named 'redis'", name="redis")
sys.meta_path.insert(0, Blocker())
from metricshub_apikey.cli.main import run
sys.exit(run(sys.argv[1:]))
"""
"""The command where the package `redis` is not installed."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """Run one server for all tests here."""
    with serving_redis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture
def client(server: Redis) -> Iterator[package.Redis]:
    """Return a client of that server, on which nothing is kept yet."""
    with server.client() as connected:
        connected.flushall()
        yield connected


@pytest.fixture
def key(run: Run) -> str:
    """Return a new API key."""
    return run("create", "nightly", "-q").stdout.strip()


def listed(run: Run, *options: str) -> Any:  # noqa: ANN401 - JSON
    """Return what `list --long` tells of each key, by its alias."""
    done = run("list", "--long", "-o", "json", *options)
    assert (done.returncode, done.stderr) == (0, "")
    return {one["alias"]: one for one in json.loads(done.stdout)["keys"]}


def use(server: Redis, key: str, moment: datetime = MOMENT) -> None:
    """Record a use, as a gateway does."""
    RedisRecord(server.address).record_uses({fingerprint(key): ("nightly", moment)})


@pytest.mark.usefixtures("client")
def test_what_gateways_saw(
    server: Redis, keystore: Path, key: str, run: Run, environment: dict[str, str]
) -> None:
    """A use at any gateway is known to the command line when that gateway has ended."""
    other = run("create", "weekly", "-q").stdout.strip()
    run("create", "unused")
    began = datetime.now(UTC).replace(second=0, microsecond=0)
    for used in (key, other):
        with serving(keystore, "--state", server.url, environment=environment) as gateway:
            assert ask(gateway.port, headers=forwarded(used)).status == 200
    seen = listed(run, "--state", server.url)
    for alias in ("nightly", "weekly"):
        assert began <= datetime.fromisoformat(seen[alias]["last_used_at"]) <= datetime.now(UTC)
    assert seen["unused"]["last_used_at"] is None
    assert (
        not Path(path_beside(str(keystore))).exists()
        or not ActivityLog(path_beside(str(keystore))).last_uses()
    )


@pytest.mark.usefixtures("client")
def test_who_says_where_it_is(server: Redis, keystore: Path, key: str, run: Run) -> None:
    """The option, the environment and the policy file lead to it; without any, it is unknown."""
    use(server, key)
    told = "2027-03-01T12:30:00Z"
    assert listed(run, "--state", server.url)["nightly"]["last_used_at"] == told
    assert listed(run)["nightly"]["last_used_at"] is None
    environment = {ENVIRONMENT_VARIABLE: server.url}
    done = run("list", "--long", "-o", "json", env=environment)
    assert json.loads(done.stdout)["keys"][0]["last_used_at"] == told
    (keystore.parent / "apikey.toml").write_text(f'state = "{server.url}"\n')
    assert listed(run)["nightly"]["last_used_at"] == told


@pytest.mark.usefixtures("client")
def test_every_command_that_tells_of_uses(server: Redis, key: str, run: Run) -> None:
    """`show`, `verify` and filters of `list` read it; `rotate --finish` asks if anybody came."""
    use(server, key)
    option = ("--state", server.url)
    shown = json.loads(run("show", "nightly", "-o", "json", *option).stdout)
    assert shown["last_used_at"] == "2027-03-01T12:30:00Z"
    verdict = run("verify", "-o", "json", *option, stdin=key)
    assert "2027-03-01T12:30:00Z" in verdict.stdout
    assert run("list", "--unused-for", "1d", "-q", *option).stdout == ""
    for alias, used in (("nightly", True), ("weekly", False)):
        if alias == "weekly":
            run("create", alias)
        new = run("rotate", alias, "-q").stdout.strip()
        if used:
            use(server, new)
        done = run("rotate", alias, "--finish", *option)
        assert done.returncode == 0
        assert ("No use of the new key is recorded" in done.stderr) != used


@pytest.mark.usefixtures("client")
def test_check_knows_keys_that_nobody_uses(server: Redis, key: str, run: Run) -> None:
    """`check` names keys that lay idle by what gateways recorded, until one is used."""

    def idle() -> list[str]:
        done = run("check", "-o", "json", "--state", server.url)
        findings = {one["check"]: one for one in json.loads(done.stdout)["findings"]}
        aliases: list[str] = findings["unused"]["aliases"]
        return aliases

    use(server, key, datetime.now(UTC) - timedelta(days=400))
    assert idle() == ["nightly"]
    use(server, key, datetime.now(UTC))
    assert idle() == []


@pytest.mark.usefixtures("client")
def test_the_last_use_never_goes_back(server: Redis, client: package.Redis) -> None:
    """Gateways flush when they like: the latest use stays, and the first time of recording."""
    one, other = RedisRecord(server.address), RedisRecord(server.address)
    minutes = [MOMENT + timedelta(minutes=number) for number in range(4)]
    one.record_uses({"aa": ("a", minutes[2]), "bb": ("b", minutes[1])})
    other.record_uses({"aa": ("a", minutes[0]), "bb": ("b", minutes[3])})
    one.record_uses({})
    for record in (one, other):
        assert record.last_uses() == {"aa": minutes[2], "bb": minutes[3]}
        assert record.recording_since() == minutes[1]
    assert client.ttl(LAST_USED) == client.ttl(RECORDING_SINCE) == -1


@pytest.mark.usefixtures("client")
def test_nothing_recorded_is_unknown(server: Redis) -> None:
    """An empty server knows of no use, and of no time since when uses are recorded."""
    record = RedisRecord(server.address)
    assert (record.last_uses(), record.recording_since()) == ({}, None)


def check_only_warns(run: Run, state: str, *expected: str) -> None:
    """Check that a list is there all the same, and a warning says that uses are unknown."""
    done = run("list", "--long", "--state", state)
    assert done.returncode == 0
    assert "nightly" in done.stdout
    assert done.stderr.count("\n") == 1
    for text in ("Warning: ", *expected, "When keys were last used is unknown."):
        assert text in done.stderr


@pytest.mark.usefixtures("key")
def test_without_a_server_it_is_unknown(tmp_path: Path, run: Run) -> None:
    """A server that is not there, or hangs, costs a warning and a moment, not the list."""
    with serving_redis(tmp_path) as redis:
        place = f"The state at 127.0.0.1:{redis.port} cannot be read: "
        redis.send(signal.SIGSTOP)
        check_only_warns(run, redis.url, place, "Timeout")
        redis.kill()
        check_only_warns(run, redis.url, place, "Connection refused")
        cluster = f"redis+cluster://127.0.0.1:{redis.port}"
        check_only_warns(run, cluster, place)


@pytest.mark.usefixtures("key")
def test_what_others_wrote_there_is_no_crash(
    server: Redis, client: package.Redis, run: Run
) -> None:
    """Data of other kinds under our names is reported as such."""
    record = RedisRecord(server.address)
    for score in (1e300, float("inf"), -1e12):
        client.zadd(LAST_USED, {b"\xff": score})
        with pytest.raises(ActivityError, match="is damaged"):
            record.last_uses()
    client.set(RECORDING_SINCE, "yesterday")
    with pytest.raises(ActivityError, match="is damaged"):
        record.recording_since()
    client.set(LAST_USED, "text")
    check_only_warns(run, server.url, "cannot be read: WRONGTYPE")


def test_a_gateway_keeps_uses_until_it_can_write(
    tmp_path: Path, key: str, keystore: Path, environment: dict[str, str]
) -> None:
    """Uses that could not be written down are said to be kept; at the end that is tried again."""
    redis = Redis(tmp_path)
    with serving(keystore, "--state", redis.url, environment=environment) as gateway:
        gateway.server.wait_for_line("does not answer")
        assert ask(gateway.port, headers=forwarded(key)).status == 200
        redis.start()
        try:
            gateway.server.wait_for_line("answers again")
            gateway.server.stop()
            with redis.client() as client:
                wait_until(lambda: client.zcard(LAST_USED), "the use is written down")
        finally:
            redis.kill()
    with serving(keystore, "--state", redis.url, environment=environment) as gateway:
        assert ask(gateway.port, headers=forwarded(key)).status == 200
        assert gateway.server.stop() == 0
    assert "The last uses of keys are kept for later" in gateway.server.text


def test_a_record_that_fails_raises_one_error(tmp_path: Path) -> None:
    """Whatever is wrong with the server, writing raises what writing to a database would."""
    redis = Redis(tmp_path)
    with pytest.raises(ActivityError, match=r"The state at 127.*cannot be written"):
        RedisRecord(redis.address).record_uses({"aa": ("a", MOMENT)})


# Without the package


def without_redis(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command where `redis` is not installed."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_REDIS, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.usefixtures("key")
def test_without_the_package(environment: dict[str, str]) -> None:
    """`serve` says what to install, a list only that last uses are unknown; others do not care."""
    option = ("--state", "redis://127.0.0.1")
    missing = "The extra 'redis' of apikey is not installed."
    served = without_redis(environment, "serve", "--bind", "127.0.0.1:0", *option)
    assert (served.returncode, served.stdout) == (1, "")
    assert served.stderr.startswith(f"Error: {missing}\nHint: Install it with: ")
    assert "[redis]'" in served.stderr
    listed = without_redis(environment, "list", "--long", *option)
    assert listed.returncode == 0
    assert "nightly" in listed.stdout
    assert listed.stderr == f"Warning: {missing} When keys were last used is unknown.\n"
    plain = without_redis(environment, "list", *option)
    assert (plain.returncode, plain.stderr) == (0, "")


def test_a_password_is_refused_even_where_no_state_is_read(run: Run) -> None:
    """Whoever else looks at the list of processes has seen it already."""
    done = run("list", "--state", "redis://:secret@127.0.0.1:1")
    assert done.returncode == 2
    assert "Everybody on this machine can read the password in --state." in done.stderr
    assert "secret" not in done.stderr
