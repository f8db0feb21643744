"""Several processes: they are started, replaced, told, and ended together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from metricshub_apikey import ApiKeys
from metricshub_apikey.activity.database import ActivityLog, path_beside
from metricshub_apikey.keystore.keystore import Keystore
from servers import Gateway, ask, forwarded, running, serving, wait_until

STUBBORN = """
import os, signal, sys, time
from metricshub_apikey.http.workers import Workers

def work(parent):
    signal.signal(signal.SIGHUP, lambda *_: os.write(1, b"hup\\n"))
    print("started", flush=True)
    if sys.argv[1:] == ["fails"]:
        raise ValueError("this worker is of no use")
    os.read(parent, 1)
    print("alone", flush=True)

# A handler that Python runs could come just before `read`, and wait with it; TERM's default cannot.
Workers(2, work, report=lambda text: print(text, flush=True), end=lambda: print("end")).run()
print("done")
"""


def children(pid: int) -> set[int]:
    """Return the processes that a process has started and that are alive."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child) for child in found if is_alive(int(child))}


def is_alive(pid: int) -> bool:
    """Return whether a process is there, and more than a name in a list."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def key(keystore: Path) -> str:
    """Return a key."""
    made = ApiKeys(Keystore(keystore)).create("client").secret.reveal()
    assert made is not None
    return made


@pytest.fixture
def gateway(keystore: Path, environment: dict[str, str], key: str) -> Iterator[Gateway]:
    """Return a gateway of three workers."""
    assert key
    with serving(keystore, "--workers", "3", environment=environment) as gateway:
        wait_until(lambda: len(children(gateway.pid)) == 3, "three workers")
        yield gateway


def test_a_killed_worker_is_replaced(gateway: Gateway, key: str) -> None:
    """The others serve meanwhile, and the log tells of it."""
    assert "each of the 3 workers" in gateway.server.text.lower()
    before = children(gateway.pid)
    os.kill(min(before), signal.SIGKILL)
    assert ask(gateway.port, headers=forwarded(key)).status == 200
    gateway.server.wait_for_line(rf"Worker {min(before)} ended \(-9\); another starts\.")
    wait_until(lambda: len(children(gateway.pid)) == 3, "another worker")
    after = children(gateway.pid)
    assert len(before & after) == 2
    statuses = {ask(gateway.port, headers=forwarded(key)).status for _ in range(20)}
    assert statuses == {200}
    assert gateway.server.stop() == 0
    assert not any(map(is_alive, before | after))


def test_all_workers_read_anew(gateway: Gateway, key: str, keystore: Path) -> None:
    """One signal to the parent is enough, and nobody ends of it, however early it comes."""
    workers = children(gateway.pid)
    gateway.server.send(signal.SIGHUP)
    wait_until(lambda: gateway.server.text.count("Keys in force") >= 3, "all are there")
    said = gateway.server.text.count("Everything was read anew.")
    gateway.server.send(signal.SIGHUP)
    wait_until(
        lambda: gateway.server.text.count("Everything was read anew.") >= said + 3,
        "all of them read their files",
    )
    ApiKeys(Keystore(keystore)).revoke("client")
    statuses = {ask(gateway.port, headers=forwarded(key)).status for _ in range(20)}
    assert statuses == {401}
    assert children(gateway.pid) == workers


def test_workers_end_when_their_parent_is_killed(gateway: Gateway) -> None:
    """Nobody is left to hold the port."""
    workers = children(gateway.pid)
    gateway.server.stop(signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, workers)), "the workers end")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", gateway.port))


def test_interrupted_as_by_a_terminal(gateway: Gateway) -> None:
    """Ctrl-C reaches the parent and its workers at once: all of them end well."""
    workers = children(gateway.pid)
    for pid in (gateway.pid, *workers):
        os.kill(pid, signal.SIGINT)
    assert gateway.server.process.wait(10) == 0
    assert not any(map(is_alive, workers))
    assert "Traceback" not in gateway.server.text


def test_an_interruption_that_is_heard_twice(gateway: Gateway, key: str, keystore: Path) -> None:
    """A worker that hears of Ctrl-C from its parent first ends as well, and loses no last use."""
    workers = children(gateway.pid)
    for _ in range(10):
        assert ask(gateway.port, headers=forwarded(key)).status == 200
    for pid in workers:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGINT):
            os.kill(pid, number)
    os.kill(gateway.pid, signal.SIGINT)
    assert gateway.server.process.wait(10) == 0
    assert "Traceback" not in gateway.server.text
    assert ActivityLog(path_beside(str(keystore))).last_uses()


def test_uses_seen_by_any_worker_are_written_down(
    gateway: Gateway, key: str, keystore: Path
) -> None:
    """They are when the workers end."""
    for _ in range(10):
        assert ask(gateway.port, headers=forwarded(key)).status == 200
    assert gateway.server.stop() == 0
    shown = subprocess.run(
        [sys.executable, "-m", "metricshub_apikey", "show", "client", "-o", "json"],
        env={**os.environ, "METRICSHUB_KEYSTORE": str(keystore)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert '"last_used_at": "20' in shown


def test_signals_at_any_moment(environment: dict[str, str]) -> None:
    """Those that come while workers are started reach every one of them."""
    for delay in (0.0, 0.002, 0.005, 0.01):
        with running([sys.executable, "-c", STUBBORN], environment=environment) as server:
            server.wait_for_line("started")
            time.sleep(delay)
            server.send(signal.SIGHUP)
            server.send(signal.SIGTERM)
            assert server.process.wait(10) == 0
        assert server.lines[-1] == "done"


def test_a_worker_that_cannot_work(environment: dict[str, str]) -> None:
    """The log says why, and the next one starts after a pause, not at once."""
    with running([sys.executable, "-c", STUBBORN, "fails"], environment=environment) as server:
        server.wait_for_line("ValueError: this worker is of no use")
        server.wait_for_line(r"ended \(1\); another starts\.")
        time.sleep(0.3)
        assert server.text.count("started") == 2
        assert server.stop() == 0
