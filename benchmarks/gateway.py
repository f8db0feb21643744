"""
Measure the gateway: against an application that only says hello, and against what Java does.

    .venv.test/bin/python benchmarks/gateway.py           writes gateway.md, in three minutes
    .venv.test/bin/python benchmarks/gateway.py --quick   shorter rounds, only prints

It needs wrk, nginx and redis-server. The server has one core and the load another.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC
from pathlib import Path
from typing import NamedTuple

from metricshub_apikey.secret import Secret

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parent / name) for name in ("tests", "tests/support", "src")]

from prepare import write_keys  # noqa: E402
from report import Row, Section, at_least, at_most, ratios  # noqa: E402

from metricshub_apikey import ApiKeys  # noqa: E402
from metricshub_apikey.gateway.clock import ServerClock  # noqa: E402
from metricshub_apikey.gateway.credential import Credential  # noqa: E402
from metricshub_apikey.gateway.keyring import Keyring, Snapshot  # noqa: E402
from metricshub_apikey.keys.api_key import ApiKey  # noqa: E402
from metricshub_apikey.keystore.keystore import Keystore  # noqa: E402
from metricshub_apikey.policy.rules import STOCK  # noqa: E402
from servers import free_port, program, running  # noqa: E402
from stock import Stock  # noqa: E402

SERVER_CORE, LOAD_CORE = 0, 1
CONNECTIONS = 32
KEYS = 1_000
JAVA_KEYS = 100

POLICY = """
[rate_limit]
requests_per_minute = 10000
burst_per_second = 1000
"""

HELLO = "hello:app"

LOAD = """
local keys, next = {}, 0
for line in io.lines("FILE") do keys[#keys + 1] = line end
request = function()
  next = next % #keys + 1
  return wrk.format("GET", nil, {
    ["Authorization"] = "Bearer " .. keys[next],
    ["X-Forwarded-Method"] = "GET",
    ["X-Forwarded-Uri"] = "/api/v1/hosts",
  })
end
"""

DELAY = "delay = function() return math.random(0, 2 * MILLISECONDS) end"

NGINX = """
worker_processes 1; daemon off; pid PLACE/nginx.pid; error_log stderr warn;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path PLACE/b; proxy_temp_path PLACE/p; fastcgi_temp_path PLACE/f;
    uwsgi_temp_path PLACE/u; scgi_temp_path PLACE/s;
    keepalive_requests 1000000;
    upstream apikey_gateway { server 127.0.0.1:GATEWAY; keepalive 64; keepalive_requests 1000000; }
    upstream service { server 127.0.0.1:SERVICE; keepalive 64; keepalive_requests 1000000; }
    server {
        listen 127.0.0.1:PLAIN;
        location / {
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
    }
    server {
        listen 127.0.0.1:CHECKED;
        include CONFIGURATION;
        location / { proxy_pass http://service; }
    }
}
"""


class Load(NamedTuple):
    """What wrk measured: requests per second, and the 99th percentile of the time in ms."""

    rate: float
    p99: float


def pinned(core: int, *command: str) -> list[str]:
    """Return a command that runs on one core."""
    return ["taskset", "-c", str(core), *command]


def press(port: int, script: Path, seconds: float, connections: int = CONNECTIONS) -> Load:
    """Ask the server at *port* as often as it answers."""
    command = [
        *pinned(LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}", "--latency"),
        *("-s", str(script), f"http://127.0.0.1:{port}/auth"),
    ]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(text)
    rate = re.search(r"Requests/sec: +([\d.]+)", text)
    p99 = re.search(r"99% +([\d.]+)(us|ms|s)", text)
    assert rate is not None
    assert p99 is not None
    return Load(float(rate[1]), float(p99[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]])


class Place:
    """A folder with keystores, and the servers that work on them."""

    def __init__(self, folder: Path, seconds: float) -> None:
        """Make the keystores."""
        self.folder = folder
        self.seconds = seconds
        self.keys = self._keystore("many", KEYS)
        self._keystore("java", JAVA_KEYS)
        self.script = self._script("load.lua", LOAD.replace("FILE", str(folder / "many.keys")))
        self.environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(HERE.parent / "src")}

    def file(self, name: str) -> Path:
        """Return the path of a keystore."""
        return self.folder / name / "keystore.p12"

    def _keystore(self, name: str, count: int) -> list[str]:
        path = self.file(name)
        write_keys(path, count)
        (path.parent / "apikey.toml").write_text(POLICY)
        keys = [key.secret.reveal() or "" for key in ApiKeys(Keystore(path)).list()]
        (self.folder / f"{name}.keys").write_text("\n".join(keys))
        return keys

    def _script(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def press(self, port: int) -> Load:
        """Ask the server at *port* with all keys in turn, as often as it answers."""
        return press(port, self.script, self.seconds)

    def press_half(self, port: int, rate: float) -> Load:
        """Ask the server at *port* half as often as it can answer."""
        connections = 64
        delay = DELAY.replace("MILLISECONDS", str(round(1000 * connections / (rate / 2))))
        script = self._script("half.lua", f"{self.script.read_text()}\n{delay}")
        return press(port, script, self.seconds, connections)

    @contextlib.contextmanager
    def hello(self) -> Iterator[int]:
        """Run the application that says hello, on the same server as the gateway."""
        port = free_port()
        options = ["--port", str(port), "--http", "httptools", "--loop", "uvloop", "--ws", "none"]
        quiet = ["--no-access-log", "--no-server-header", "--no-date-header", "--lifespan", "off"]
        command = [sys.executable, "-m", "uvicorn", HELLO, "--app-dir", str(HERE)]
        alone = pinned(SERVER_CORE, *command, *options, *quiet, "--no-proxy-headers")
        with running(alone, port=port, environment=self.environment):
            yield port

    @contextlib.contextmanager
    def gateway(self, *options: str, core: int = SERVER_CORE) -> Iterator[int]:
        """Run `apikey serve` on the keystore with many keys."""
        port = free_port()
        command = [sys.executable, "-m", "metricshub_apikey", "serve", *options]
        where = ["--keystore", str(self.file("many")), "--bind", f"127.0.0.1:{port}"]
        alone = pinned(core, *command, *where)
        with running(alone, port=port, environment=self.environment):
            yield port

    @contextlib.contextmanager
    def redis(self) -> Iterator[str]:
        """Run a Redis server, and return its URL."""
        port = free_port()
        command = [program("redis-server"), "--port", str(port), "--save", "", "--appendonly", "no"]
        with running(pinned(LOAD_CORE, *command), port=port):
            yield f"redis://127.0.0.1:{port}"

    @contextlib.contextmanager
    def nginx(self, gateway: int, service: int) -> Iterator[tuple[int, int]]:
        """Run nginx in front of *service*; return its ports without and with the gateway."""
        ports = {"PLAIN": free_port(), "CHECKED": free_port(), "GATEWAY": gateway}
        text = NGINX.replace("PLACE", str(self.folder)).replace("SERVICE", str(service))
        text = text.replace("CONFIGURATION", str(HERE.parent / "docs/gateway/nginx-apikey.conf"))
        for name, port in ports.items():
            text = text.replace(name, str(port))
        configuration = self._script("nginx.conf", text)
        command = [program("nginx"), "-c", str(configuration), "-p", str(self.folder)]
        with running(pinned(SERVER_CORE, *command), port=ports["CHECKED"]):
            yield ports["PLAIN"], ports["CHECKED"]


def rounds(place: Place, ports: Sequence[int], count: int) -> list[list[Load]]:
    """Ask all servers once, then all again, and so on; return what each could do."""
    for port in ports:
        place.press(port)
    found = [[place.press(port) for port in ports] for _ in range(count)]
    return [list(loads) for loads in zip(*found, strict=True)]


def rates(loads: Sequence[Load]) -> list[float]:
    """Return the requests per second."""
    return [load.rate for load in loads]


def requests(place: Place, count: int) -> Section:
    """Compare the gateway in its three forms with hello."""
    with contextlib.ExitStack() as stack:
        state = stack.enter_context(place.redis())
        servers = [
            place.hello(),
            place.gateway("--no-limits"),
            place.gateway(),
            place.gateway("--state", state),
        ]
        ports = [stack.enter_context(server) for server in servers]
        hello, bare, memory, redis = rounds(place, ports, count)
        half = statistics.median(rates(memory))
        late = [place.press_half(ports[2], half).p99 for _ in range(count)]
    rows = [
        Row("hello, requests/s", rates(hello)),
        Row("without limits, requests/s", rates(bare)),
        Row("without limits / hello", ratios(rates(bare), rates(hello)), at_least(0.8)),
        Row("limits in memory / hello", ratios(rates(memory), rates(hello)), at_least(0.7)),
        Row("limits in Redis / hello", ratios(rates(redis), rates(hello)), at_least(0.25)),
        Row("limits in memory, at half load: p99, ms", late, at_most(5)),
    ]
    text = (
        f"{KEYS:,} keys in turn over {CONNECTIONS} connections. Hello is the least that an ASGI "
        "application can do on the same server, uvicorn with httptools and uvloop, on one core."
    )
    return Section("Requests per second on one core", text, rows)


def behind_nginx(place: Place, count: int) -> Section:
    """Compare nginx in front of a service with and without the gateway."""
    asked = place.gateway(core=LOAD_CORE)
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(server) for server in (asked, place.hello())]
        plain, checked = stack.enter_context(place.nginx(*ports))
        without, with_gateway = rounds(place, [plain, checked], count)
    rows = [
        Row("nginx alone, requests/s", rates(without)),
        Row("nginx with the gateway, requests/s", rates(with_gateway)),
        Row("with / without", ratios(rates(with_gateway), rates(without)), at_least(0.5)),
    ]
    text = (
        "nginx and the service, which says hello, share one core; the gateway has the other, "
        "together with the load."
    )
    return Section("Behind nginx", text, rows)


def lookups(count: int) -> Section:
    """Compare looking a token up among few keys and among many."""
    few, many = (_keyring(number) for number in (10, 100_000))
    found = [(_lookup(*few), _lookup(*many)) for _ in range(count)]
    rows = [
        Row("among 10 keys, µs", [one for one, _ in found]),
        Row("among 100,000 keys, µs", [other for _, other in found]),
        Row("many / few", ratios([b for _, b in found], [a for a, _ in found]), at_most(1.5)),
    ]
    text = "The SHA-256 of the token, the look-up, and the comparison; every tenth key in turn."
    return Section("Looking a key up", text, rows)


def _keyring(count: int) -> tuple[Keyring, list[bytes]]:
    tokens = [f"key-{number:032d}" for number in range(count)]
    keys = [ApiKey(f"a{n}", Secret(token), None, None) for n, token in enumerate(tokens)]
    prepared = [Credential(key, (key.secret.reveal() or "").encode(), STOCK) for key in keys]
    keyring = Keyring(Keystore("none.p12"), None, report=print)
    credentials = {one.digest: one for one in prepared}
    clock = ServerClock(UTC)
    keyring.snapshot = Snapshot(
        credentials, frozenset(), STOCK, lambda _: False, lambda _: None, 0, 0.0, clock
    )
    return keyring, [one.token for one in prepared][:: max(1, count // 1_000)]


def _lookup(keyring: Keyring, tokens: Sequence[bytes]) -> float:
    times = 200_000
    chosen = list(itertools.islice(itertools.cycle(tokens), times))
    start = time.perf_counter()
    for token in chosen:
        keyring.find(token)
    return (time.perf_counter() - start) / times * 1e6


def java(place: Place, count: int) -> Section:
    """Compare a decision with what a stock-like server does for each request."""
    with Stock(place.folder / "classes") as stock, place.gateway() as port:
        for _ in range(3):
            stock.ask("apikeys", place.file("java"))
        found = []
        for _ in range(count):
            start = time.perf_counter()
            stock.ask("apikeys", place.file("java"))
            found.append((time.perf_counter() - start, 1 / place.press(port).rate))
    rows = [
        Row("Java, ms for a request", [java * 1e3 for java, _ in found]),
        Row("the gateway, ms for a request", [ours * 1e3 for _, ours in found]),
        Row("Java / the gateway", [java / ours for java, ours in found]),
    ]
    text = (
        f"With {JAVA_KEYS} keys. A stock-like server loads the keystore for each request, and "
        "derives a key for each entry; the JVM is warm."
    )
    return Section("What a request costs a stock-like Java server", text, rows)


def main() -> None:
    """Measure everything, and write or print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    count, seconds = (3, 1.0) if quick else (7, 2.0)
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), seconds)
        sections = [
            requests(place, count),
            behind_nginx(place, count),
            lookups(count),
            java(place, count),
        ]
    text = "\n".join(map(str, sections))
    if quick:
        print(text)
    else:
        (HERE / "gateway.md").write_text(f"# The gateway, measured\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
