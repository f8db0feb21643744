"""`apikey serve` as a whole: the real command, asked over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import shutil
import signal
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from pathlib import Path

import pytest

from conftest import COMMAND, Run
from fields import fields
from metricshub_apikey import ApiKeys
from metricshub_apikey.gateway.keyring import Keyring
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.keystore.keystore import Keystore
from proxies import certificate
from servers import (
    Gateway,
    ask,
    exchange,
    forwarded,
    free_port,
    listens,
    running,
    serving,
    wait_until,
)
from stock import Stock

ROUNDS = 7
JAVA_ROUNDS = 25
MANY = 2_000
REQUESTS = 16_000
GROWTH = 5 << 10
"""How much memory, in KiB, that many requests may take."""

POLICY = """
[roles.reader]
allow = ["GET /**"]
[roles.writer]
allow = ["POST /**"]
[rate_limit]
requests_per_minute = 1000000
burst_per_second = 1000000
"""

BLOCKED = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"uvicorn", "httptools", "uvloop", "redis"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from metricshub_apikey.__main__ import main
main()
"""
"""The command where nothing of the extra is installed."""


@pytest.fixture
def key(registry: ApiKeys) -> str:
    """Return a key that reads."""
    return made(registry, "client", "reader")


def made(registry: ApiKeys, alias: str, *roles: str) -> str:
    """Return a new key."""
    key = registry.create(alias, **fields(Metadata(roles=roles))).secret.reveal()
    assert key is not None
    return key


def status(gateway: Gateway, key: str | None, method: str = "GET") -> int:
    """Return the answer to one request."""
    return ask(gateway.port, headers=forwarded(key, method=method)).status


def unharmed(gateway: Gateway, *keys: str) -> None:
    """Check that the log has neither a traceback nor a key."""
    assert "Traceback" not in gateway.server.text
    assert not [key for key in keys if key in gateway.server.text]


class Load:
    """Clients that ask all the time, one connection each, until the gateway is gone."""

    def __init__(self, port: int, key: str, clients: int = 4) -> None:
        """Begin."""
        self.statuses: Counter[int] = Counter()
        self.failures: list[str] = []
        self._port = port
        self._headers = forwarded(key)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        """Ask; a connection may end only where the gateway said so, and fail only when opened."""
        while not self._stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
            try:
                connection.connect()
                connection.auto_open = 0
                self._ask(connection)
            except ConnectionError:
                return
            finally:
                connection.close()

    def _ask(self, connection: http.client.HTTPConnection) -> None:
        for number in count():
            if self._stop.is_set():
                return
            try:
                connection.request("GET", "/auth", headers=self._headers)
                answer = connection.getresponse()
                answer.read()
            except (ConnectionError, http.client.HTTPException) as error:
                if number:
                    self.failures.append(repr(error))
                return
            self.statuses[answer.status] += 1
            if answer.will_close:
                return

    def end(self) -> None:
        """Wait until all of them have ended."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def loaded(gateway: Gateway, key: str) -> Iterator[Load]:
    """Ask all the time, until the block ends."""
    load = Load(gateway.port, key)
    try:
        wait_until(lambda: sum(load.statuses.values()) > 20, "requests are answered")
        yield load
    finally:
        load.end()


def test_a_key_passes_until_it_is_revoked(
    keystore: Path, run: Run, environment: dict[str, str]
) -> None:
    """A key is let through, and refused from the first request after its revocation."""
    key = run("create", "nightly", "-q").stdout.strip()
    with serving(keystore, environment=environment) as gateway:
        accepted = ask(gateway.port, headers=forwarded(key))
        run("revoke", "nightly")
        refused = ask(gateway.port, headers=forwarded(key))
    assert (accepted.status, accepted.headers["x-apikey-alias"]) == (200, "nightly")
    assert (refused.status, refused.headers["www-authenticate"].split(",")[1].strip()) == (
        401,
        'error="invalid_token"',
    )
    assert key not in gateway.server.text


def test_every_change_is_in_force_at_the_next_request(
    keystore: Path, registry: ApiKeys, key: str, environment: dict[str, str]
) -> None:
    """Created, edited, revoked, another policy: dozens of changes in a row, each at once."""
    policy = keystore.with_name("apikey.toml")
    policy.write_text(POLICY)
    reader = Metadata(roles=("reader",))
    with serving(keystore, environment=environment) as gateway:
        for number in range(ROUNDS):
            alias = f"key-{number}"
            first = made(registry, alias, "reader")
            assert (status(gateway, first), status(gateway, first, "POST")) == (200, 403)
            registry.edit(alias, add_roles=("writer",), remove_roles=("reader",))
            assert (status(gateway, first), status(gateway, first, "POST")) == (403, 200)
            registry.edit(alias, add_roles=("reader",), remove_roles=("writer",))
            assert status(gateway, first) == 200
            second = registry.create(f"{alias}.next", **fields(reader)).secret.reveal() or ""
            registry.revoke(alias)
            assert (status(gateway, first), status(gateway, second)) == (401, 200)
            policy.write_text(POLICY.replace('"GET /**"', '"PUT /**"'))
            assert status(gateway, second) == 403
            policy.write_text(POLICY)
            assert status(gateway, second) == 200
            registry.revoke(f"{alias}.next")
            assert status(gateway, second) == 401
        assert status(gateway, key) == 200
        unharmed(gateway, key)


def test_a_rotated_key(
    keystore: Path, registry: ApiKeys, run: Run, key: str, environment: dict[str, str]
) -> None:
    """Both keys pass while the rotation is pending, and only the new one when it is finished."""
    with serving(keystore, environment=environment) as gateway:
        new = run("rotate", "client", "--overlap", "1d", "-q").stdout.strip()
        assert (status(gateway, key), status(gateway, new)) == (200, 200)
        assert run("rotate", "client", "--finish").returncode == 0
        assert (status(gateway, key), status(gateway, new)) == (401, 200)
        registry.revoke("client")
        assert status(gateway, new) == 401
        unharmed(gateway, key, new)


def test_beside_a_java_writer(
    keystore: Path, registry: ApiKeys, key: str, environment: dict[str, str], stock: Stock
) -> None:
    """
    It empties the file before it writes it, while requests go on: no answer is wrong.

    What it has finished is in force at the next request.
    """
    with serving(keystore, "--no-limits", environment=environment) as gateway:
        with loaded(gateway, key) as known, loaded(gateway, "unknown") as unknown:
            for number in range(JAVA_ROUNDS):
                alias, secret = f"java-{number}", f"3f2b1c4d-8e5f-4a2b-bc15-{number:012}"
                stock.ask("create", keystore, alias, secret)
                assert status(gateway, secret) == 200
                stock.ask("revoke", keystore, alias)
                assert status(gateway, secret) == 401
        assert set(known.statuses) == {200}
        assert set(unknown.statuses) == {401}
        assert known.failures + unknown.failures == []
        unharmed(gateway, key)
    assert registry.aliases() == ("client",)


def test_a_reading_that_has_just_ended(keystore: Path, registry: ApiKeys) -> None:
    """It may have begun before the last change: a request in that very moment needs another one."""
    made(registry, "first")
    keyring = Keyring(Keystore(keystore), None, report=lambda _: None)

    async def follow() -> str | None:
        await keyring.follow()
        key = made(registry, "second")
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ended.set_result(None)
        keyring._reading = ended
        await keyring.follow()
        found = keyring.find(key.encode())
        return None if found is None else found.identity.alias

    assert asyncio.run(follow()) == "second"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_well_under_load(
    keystore: Path, run: Run, key: str, environment: dict[str, str], number: int
) -> None:
    """What was asked is answered, and when the key was last used is written down."""
    with serving(keystore, "--no-limits", environment=environment) as gateway:
        with loaded(gateway, key) as load:
            assert gateway.server.stop(number) == 0
        assert load.failures == []
        assert set(load.statuses) == {200}
        unharmed(gateway, key)
    shown = json.loads(run("show", "client", "-o", "json").stdout)
    assert datetime.fromisoformat(shown["last_used_at"]).year >= 2026


def test_requests_on_their_way_are_answered_when_it_ends(
    keystore: Path, key: str, environment: dict[str, str]
) -> None:
    """A client that has not noticed yet is answered, and told that it was the last time."""
    with serving(keystore, environment=environment) as gateway:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/auth", headers=forwarded(key))
            connection.getresponse().read()
            gateway.server.send(signal.SIGTERM)
            wait_until(lambda: not listens(gateway.port), "it listens no more")
            connection.request("GET", "/auth", headers=forwarded(key))
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("connection")) == (200, "close")
        assert gateway.server.process.wait(10) == 0


def test_it_reads_its_files_anew_under_load(
    keystore: Path, key: str, environment: dict[str, str]
) -> None:
    """No request fails meanwhile, and what cannot be read leaves the old in force."""
    policy = keystore.with_name("apikey.toml")
    policy.write_text(POLICY)
    good = keystore.read_bytes()
    with serving(keystore, environment=environment) as gateway:
        with loaded(gateway, key) as load:
            for _ in range(20):
                gateway.server.send(signal.SIGHUP)
                time.sleep(0.01)
            policy.write_text("[rate_limit]\nrequests_per_minute = 0\n")
            gateway.server.send(signal.SIGHUP)
            gateway.server.wait_for_line("Not read: .*apikey.toml, line 2")
            policy.write_text(POLICY)
            keystore.write_bytes(good[:-9])
            gateway.server.send(signal.SIGHUP)
            gateway.server.wait_for_line("Not read: .*keystore")
            keystore.write_bytes(good)
        assert load.failures == []
        assert set(load.statuses) == {200}
        unharmed(gateway, key)


def test_roles_that_vanish(keystore: Path, key: str, environment: dict[str, str]) -> None:
    """A policy that loses its roles opens no door, until somebody says that it is meant."""
    policy = keystore.with_name("apikey.toml")
    policy.write_text(POLICY)
    with serving(keystore, environment=environment) as gateway:
        assert status(gateway, key, "POST") == 403
        policy.write_text("")
        assert status(gateway, key, "POST") == 403
        gateway.server.send(signal.SIGHUP)
        gateway.server.wait_for_line("Everything was read anew.")
        assert status(gateway, key, "POST") == 200


def test_tls(tmp_path: Path, keystore: Path, key: str, environment: dict[str, str]) -> None:
    """A new certificate is used after SIGHUP, one that cannot be used is not."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = certificate(tmp_path / "one"), certificate(tmp_path / "two")
    options = ["--tls-cert", str(one.certificate), "--tls-key", str(one.key)]

    def told(trusted: Path) -> int:
        context = ssl.create_default_context(cafile=str(trusted))
        connection = http.client.HTTPSConnection("127.0.0.1", gateway.port, context=context)
        with contextlib.closing(connection):
            connection.request("GET", "/auth", headers=forwarded(key))
            return connection.getresponse().status

    first = tmp_path / "first.pem"
    shutil.copy(one.certificate, first)
    with serving(keystore, *options, environment=environment) as gateway:
        assert f"https://127.0.0.1:{gateway.port}/auth" in gateway.server.text
        assert told(first) == 200
        exchange(gateway.port, b"GET /auth HTTP/1.1\r\n\r\n")
        shutil.copy(two.certificate, one.certificate)
        gateway.server.send(signal.SIGHUP)
        gateway.server.wait_for_line("The old certificate stays: .* do not fit together")
        assert told(first) == 200
        shutil.copy(two.key, one.key)
        gateway.server.send(signal.SIGHUP)
        wait_until(lambda: gateway.server.text.count("read anew") > 1, "it is read anew")
        assert told(two.certificate) == 200
        unharmed(gateway, key)


def test_memory_stays_as_it_is(keystore: Path, key: str, environment: dict[str, str]) -> None:
    """Tokens, paths and peers that were never seen before leave nothing behind."""
    numbers = count()
    good = "".join(f"{name}: {value}\r\n" for name, value in forwarded(key).items())

    def send(requests: int) -> None:
        for peer in range(requests // 1_000):
            lines = [
                f"GET /envoy/{number} HTTP/1.1\r\nAuthorization: Bearer token-{number}\r\n\r\n"
                f"GET /auth HTTP/1.1\r\n{good}\r\n"
                for number in (next(numbers) for _ in range(500))
            ]
            with socket.create_connection(
                ("127.0.0.1", gateway.port), 10, (f"127.0.{peer}.2", 0)
            ) as client:
                client.sendall("".join(lines).encode())
                client.shutdown(socket.SHUT_WR)
                while client.recv(65_536):
                    pass

    with serving(keystore, "--no-limits", environment=environment) as gateway:
        send(REQUESTS // 8)
        before = memory(gateway.pid)
        send(REQUESTS)
        assert memory(gateway.pid) - before < GROWTH
        assert f'result="accepted"}} {REQUESTS * 9 // 16}' in ask(gateway.port, "/metrics").body


def memory(pid: int) -> int:
    """Return how much memory a process has, in KiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def test_more_connections_than_it_can_open(
    keystore: Path, key: str, environment: dict[str, str]
) -> None:
    """It goes on with those that it has, and with the others when there is room again."""
    command = ["sh", "-c", 'ulimit -n 60; exec "$@"', "sh", *COMMAND]
    with serving(keystore, environment=environment, command=command) as gateway:
        clients = [socket.create_connection(("127.0.0.1", gateway.port), 10) for _ in range(100)]
        time.sleep(0.2)
        for client in clients:
            client.close()
        wait_until(lambda: answers(gateway, key), "it is asked again")
        assert "Traceback" not in gateway.server.text


def answers(gateway: Gateway, key: str) -> bool:
    """Return whether the gateway takes a connection, and accepts a key."""
    with contextlib.suppress(ConnectionError, http.client.HTTPException):
        return status(gateway, key) == 200
    return False


def test_only_trusted_proxies_may_ask(
    keystore: Path, key: str, environment: dict[str, str]
) -> None:
    """Another address is told so; IPv4 stays IPv4 where the socket speaks both."""
    named = ["--insecure", "--trusted-proxies", "127.0.0.2,127.0.1.0/24"]
    for bind in ("0.0.0.0:0", "[::]:0"):
        options = ["--bind", bind, *named]
        with serving(keystore, *options, environment=environment) as gateway:
            found = {peer: asked_from(peer, gateway.port, key) for peer in PEERS}
            assert found == PEERS
            unharmed(gateway, key)


PEERS = {"127.0.0.1": 403, "127.0.0.2": 200, "127.0.0.3": 403, "127.0.1.9": 200}
"""Who asks, and what is answered."""


def asked_from(peer: str, port: int, key: str) -> int:
    """Return the answer to a request that comes from another address of this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, 10, source_address=(peer, 0))
    with contextlib.closing(connection):
        connection.request("GET", "/auth", headers=forwarded(key))
        return connection.getresponse().status


def test_what_else_it_answers(keystore: Path, key: str, environment: dict[str, str]) -> None:
    """Health and metrics; no other path; HEAD and POST ask as GET does."""
    with serving(keystore, environment=environment) as gateway:
        port = gateway.port
        assert ask(port, "/healthz").body == "Keys in force: 1.\n"
        assert [ask(port, path).status for path in ("/", "/authx", "/Auth", "/x")] == [404] * 4
        for method in ("HEAD", "POST", "PUT", "PROPFIND"):
            assert ask(port, headers=forwarded(key), method=method).status == 200
            assert ask(port, headers=forwarded(None), method=method).status == 401
        assert ask(port, headers=forwarded(None), method="HEAD").body == ""
        metrics = ask(port, "/metrics").body
        assert 'apikey_decisions_total{result="accepted"} 4' in metrics
        assert 'apikey_keys{state="valid"} 1' in metrics
        unharmed(gateway, key)


def test_a_keystore_that_comes_later(
    keystore: Path, registry: ApiKeys, environment: dict[str, str]
) -> None:
    """Until it is there nobody passes, and the health check says so."""
    with serving(keystore, environment=environment) as gateway:
        assert status(gateway, "any") == 503
        assert ask(gateway.port, "/healthz").status == 503
        key = made(registry, "client")
        wait_until(lambda: ask(gateway.port, "/healthz").status == 200, "the keystore is read")
        assert status(gateway, key) == 200
        unharmed(gateway, key)


def test_log_lines_in_json(keystore: Path, key: str, environment: dict[str, str]) -> None:
    """Every line is a document, also that of a request that is none."""
    with serving(keystore, "-o", "json", "--log-all", environment=environment) as gateway:
        assert [status(gateway, one) for one in (key, "unknown")] == [200, 401]
        exchange(gateway.port, b"rubbish\r\n\r\n")
    lines = [json.loads(line) for line in gateway.server.lines]
    decisions = [(line["decision"], line["alias"]) for line in lines if "decision" in line]
    assert decisions == [(200, "client"), (401, None)]
    assert "Invalid HTTP request received." in [line.get("message") for line in lines]
    unharmed(gateway, key)


def test_it_listens_when_it_is_ready(environment: dict[str, str], run: Run, tmp_path: Path) -> None:
    """With many keys the first connection that succeeds is answered well, at once."""
    manifest = tmp_path / "keys.yaml"
    manifest.write_text("".join(f"- key-{number}\n" for number in range(MANY)))
    folder = tmp_path / "keys"
    assert run("apply", manifest, "--out-dir", folder).returncode == 0
    key = (folder / f"key-{MANY - 1}").read_text().strip()
    port = free_port()
    command = [*COMMAND, "serve", "--bind", f"127.0.0.1:{port}"]
    with running(command, port=port, environment=environment):
        assert ask(port, headers=forwarded(key)).headers["x-apikey-alias"] == f"key-{MANY - 1}"
        assert ask(port, "/healthz").body == f"Keys in force: {MANY}.\n"


def test_without_the_extra(run: Run, keystore: Path) -> None:
    """It says what to install; everything else works."""
    command = [sys.executable, "-c", BLOCKED]
    done = run("serve", command=command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: The extra 'gateway' of apikey is not installed.\nHint: ")
    assert "[gateway]" in done.stderr
    assert run("create", "client", "-q", command=command).returncode == 0
    for words in (["list", "--long"], ["show", "client"], ["check"], ["log"], ["serve", "--help"]):
        assert run(*words, command=command).returncode == 0, words
    assert keystore.exists()


def test_help(run: Run) -> None:
    """Every option is explained, and what its signals do."""
    shown = run("serve", "--help").stdout
    wanted = ["--bind", "--unix", "--tls-cert", "--tls-key", "--insecure", "--trusted-proxies"]
    wanted += ["--state", "--state-failure", "--no-limits", "--log-all", "--workers", "--policy"]
    assert [word for word in [*wanted, "SIGHUP", "SIGTERM"] if word not in shown] == []
