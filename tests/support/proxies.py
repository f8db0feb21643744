"""
The proxies at work, with what stands behind them: a gateway, and an upstream that it protects.

The configurations are the files in docs/gateway, with other addresses.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import os
import socket
import ssl
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from conftest import COMMAND
from fields import fields
from metricshub_apikey import ApiKeys, Policy
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.keystore.keystore import Keystore
from places import PROJECT
from ruled import RuledKeys
from servers import Gateway, Server, ask, free_port, program, running, serving, wait_until

DOCS = PROJECT / "docs" / "gateway"
UPSTREAM = Path(__file__).with_name("upstream.py")

METRICSHUB = "metricshub.example.com"
SERVICE = "app.example.com"

POLICY = """
[roles.reader]
allow = ["GET /public/**"]
[roles.writer]
allow = ["* /**"]
tools = ["*"]
[roles.agent]
allow = ["* /mcp", "GET /sse", "POST /mcp/message"]
tools = ["*"]
[roles.looker]
allow = ["* /mcp", "GET /sse", "POST /mcp/message"]
tools = ["count_*"]
[rate_limit]
requests_per_minute = 30
burst_per_second = 30
"""

OPEN_POLICY = """
[keys]
require_expiry = false
"""
"""A policy without roles: every key may do everything."""

KEYS = {
    "reader": ("reader",),
    "writer": ("writer",),
    "busy": ("writer",),
    "bent": ("writer",),
    "named": ("writer",),
    "doomed": ("writer",),
    "nobody": (),
}
"""The aliases of the keys, and their roles."""

NGINX = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include conf.d/*.conf;
}}
"""
"""What a distribution's own nginx.conf has."""


CADDY = """{
	admin off
	auto_https off
	default_bind 127.0.0.1
}
"""


class Certificate(NamedTuple):
    """The files of a certificate and its key."""

    certificate: Path
    key: Path


def certificate(folder: Path) -> Certificate:
    """Make a certificate that vouches for itself, for this machine and the examples' names."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    hosts = [x509.DNSName(one) for one in ("localhost", "metricshub", METRICSHUB, SERVICE)]
    here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([*hosts, here]), critical=False)
    )
    made = Certificate(folder / "certificate.pem", folder / "certificate.key")
    made.certificate.write_bytes(
        builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    made.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return made


def documented(name: str, changes: Mapping[str, str]) -> str:
    """Return a file of docs/gateway with other addresses; each of the old ones must be in it."""
    text = (DOCS / name).read_text("utf-8")
    for old, new in changes.items():
        assert old in text, f"{name} does not say {old}"
        text = text.replace(old, new)
    return text


def environment() -> dict[str, str]:
    """Return what of this process's environment the servers get."""
    kept = ("PATH", "HOME", "TMPDIR")
    return {name: os.environ[name] for name in os.environ if name in kept or name[:3] == "COV"}


@dataclass(frozen=True)
class Stage:
    """
    What stands behind a proxy.

    Attributes:
        folder: Everything's files.
        keystore: The gateway's.
        keys: By alias.
        gateway: At work, under `POLICY`.
        upstream: The service, for its lines.
        plain: Its port without TLS.
        secure: Its port with TLS.
        files: Certificate and key of the upstream, and of the proxy.
    """

    folder: Path
    keystore: Path
    keys: Mapping[str, str]
    gateway: Gateway
    upstream: Server
    plain: int
    secure: int
    files: Certificate
    _seen: list[int] = field(default_factory=lambda: [1])

    @property
    def registry(self) -> ApiKeys:
        """The keys."""
        return ApiKeys(Keystore(self.keystore))

    def received(self) -> list[dict[str, Any]]:
        """Return the requests that have reached the upstream since this was last asked."""
        mark = f"/mark/{len(self.upstream.lines)}"
        ask(self.plain, mark)
        wait_until(lambda: any(mark in line for line in [*self.upstream.lines]), "the mark")
        lines = [*self.upstream.lines]
        end = next(at for at, line in enumerate(lines) if mark in line)
        new, self._seen[0] = lines[self._seen[0] : end], end + 1
        return [json.loads(line) for line in new]


@contextlib.contextmanager
def staged(
    folder: Path, upstream_program: Path = UPSTREAM, policy: str = POLICY
) -> Iterator[Stage]:
    """Run a gateway under *policy*, and an upstream, until the block ends."""
    keystore = folder / "security" / "metricshub-keystore.p12"
    keystore.parent.mkdir()
    keystore.with_name("apikey.toml").write_text(policy)
    registry = RuledKeys(Keystore(keystore), Policy.none())
    made = {
        alias: registry.create(alias, **fields(Metadata(roles=roles)))
        for alias, roles in KEYS.items()
    }
    keys = {alias: one.secret.reveal() or "" for alias, one in made.items()}
    files = certificate(folder)
    with (
        running([sys.executable, str(upstream_program), *map(str, files)]) as upstream,
        serving(keystore, environment=environment()) as gateway,
    ):
        ports = upstream.wait_for_line(r"^listening on (\d+) and (\d+)$")
        yield Stage(folder, keystore, keys, gateway, upstream, int(ports[1]), int(ports[2]), files)


class Reply(NamedTuple):
    """What a proxy answered; status 0 if it hung up without a word."""

    status: int
    headers: http.client.HTTPMessage
    body: str

    @property
    def asked(self) -> dict[str, Any]:
        """What the upstream was asked, as it said itself."""
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass(frozen=True)
class Proxy:
    """
    A proxy at work.

    Attributes:
        server: Its process.
        port: Where it listens for both sites.
        trusted: Its certificate; None where it does not speak TLS.
    """

    server: Server
    port: int
    trusted: Path | None = None

    def connect(self) -> socket.socket:
        """Open a connection to it."""
        connection = socket.create_connection(("127.0.0.1", self.port), 10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.trusted is None:
            return connection
        context = ssl.create_default_context(cafile=str(self.trusted))
        return context.wrap_socket(connection, server_hostname=SERVICE)

    def send(self, head: bytes, body: bytes = b"", method: str = "GET") -> Reply:
        """Send these bytes, and return the answer to the request that they are."""
        with contextlib.suppress(OSError, http.client.HTTPException), self.connect() as connection:
            connection.sendall(head + body)
            answer = http.client.HTTPResponse(connection, method=method)
            answer.begin()
            return Reply(answer.status, answer.headers, answer.read().decode("latin-1"))
        return Reply(0, http.client.HTTPMessage(), "")

    def ask(
        self,
        target: str | bytes = "/api/hosts",
        key: str | None = None,
        *,
        host: str = SERVICE,
        method: str = "GET",
        headers: Sequence[str] = (),
        body: bytes = b"",
        version: str = "HTTP/1.1",
    ) -> Reply:
        """Make one request, its target sent as it is."""
        path = target.encode("latin-1") if isinstance(target, str) else target
        said = [f"Host: {host}"]
        if not any(line.startswith("Connection:") for line in headers):
            said.append("Connection: close")
        if key is not None:
            said.append(f"Authorization: Bearer {key}")
        if body:
            said.append(f"Content-Length: {len(body)}")
        lines = "".join(f"{line}\r\n" for line in [*said, *headers])
        first = method.encode() + b" " + path + b" " + version.encode()
        return self.send(first + b"\r\n" + lines.encode() + b"\r\n", body, method)

    def open_stream(self, target: str, key: str, host: str = SERVICE) -> socket.socket:
        """Begin a request, and return its connection."""
        connection = self.connect()
        head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\r\n"
        connection.sendall(head.encode())
        return connection


@contextlib.contextmanager
def without_keystore(folder: Path) -> Iterator[tuple[Gateway, Path]]:
    """Run another gateway, without roles and limits, whose keystore is not there yet."""
    keystore = folder / "metricshub-keystore.p12"
    keystore.with_name("apikey.toml").write_text(OPEN_POLICY)
    with serving(keystore, "--no-limits", environment=environment()) as gateway:
        yield gateway, keystore


@contextlib.contextmanager
def nginx(
    folder: Path, stage: Stage, gateway: int, more: Mapping[str, str] | None = None
) -> Iterator[Proxy]:
    """Run nginx until the block ends."""
    port = free_port()
    changes = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "/etc/ssl/certs/example.com.pem": str(stage.files.certificate),
        "/etc/ssl/private/example.com.key": str(stage.files.key),
        "127.0.0.1:8484": f"127.0.0.1:{gateway}",
        "127.0.0.1:31888": f"127.0.0.1:{stage.secure}",
        "127.0.0.1:8080": f"127.0.0.1:{stage.plain}",
        **{old: new for old, new in (more or {}).items() if "apikey_gateway/" not in old},
    }
    (folder / "conf.d").mkdir(parents=True)
    (folder / "snippets").mkdir()
    user = "" if os.geteuid() else "user root;"
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, user=user))
    (folder / "conf.d" / "apikey.conf").write_text(documented("nginx.conf", changes))
    snippet = documented("nginx-apikey.conf", {})
    for old, new in (more or {}).items():
        snippet = snippet.replace(old, new)
    (folder / "snippets" / "apikey.conf").write_text(snippet)
    command = [
        program("nginx"),
        "-p",
        str(folder),
        "-e",
        "stderr",
        "-c",
        str(folder / "nginx.conf"),
    ]
    with running(command, port=port) as server:
        yield Proxy(server, port, stage.files.certificate)


@contextlib.contextmanager
def caddy(
    folder: Path, stage: Stage, gateway: int, more: Mapping[str, str] | None = None
) -> Iterator[Proxy]:
    """Run Caddy until the block ends: in clear, for its certificates come from the internet."""
    port = free_port()
    changes = {
        f"\n{METRICSHUB} {{": f"\nhttp://{METRICSHUB}:{port} {{",
        f"\n{SERVICE} {{": f"\nhttp://{SERVICE}:{port} {{",
        "127.0.0.1:8484": f"127.0.0.1:{gateway}",
        "127.0.0.1:31888": f"127.0.0.1:{stage.secure}",
        "127.0.0.1:8080": f"127.0.0.1:{stage.plain}",
        **(more or {}),
    }
    folder.mkdir(exist_ok=True)
    file = folder / "Caddyfile"
    file.write_text(CADDY + documented("Caddyfile", changes))
    command = [program("caddy"), "run", "--config", str(file), "--adapter", "caddyfile"]
    own = {**environment(), "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    with running(command, port=port, environment=own) as server:
        yield Proxy(server, port)


@contextlib.contextmanager
def envoy(
    folder: Path, stage: Stage, gateway: int, more: Mapping[str, str] | None = None
) -> Iterator[Proxy]:
    """Run Envoy until the block ends."""
    port = free_port()
    changes = {
        "address: 0.0.0.0, port_value: 443}": f"address: 127.0.0.1, port_value: {port}}}",
        "/etc/ssl/certs/example.com.pem": str(stage.files.certificate),
        "/etc/ssl/private/example.com.key": str(stage.files.key),
        "port_value: 8484": f"port_value: {gateway}",
        "port_value: 31888": f"port_value: {stage.secure}",
        "port_value: 8080": f"port_value: {stage.plain}",
        **(more or {}),
    }
    folder.mkdir(exist_ok=True)
    file = folder / "envoy.yaml"
    file.write_text(documented("envoy.yaml", changes))
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    command = [program("envoy"), "-c", str(file), *options]
    with running(command, port=port) as server:
        yield Proxy(server, port, stage.files.certificate)


@contextlib.contextmanager
def front(stage: Stage, *options: str, ask_port: int = 0) -> Iterator[Proxy]:
    """
    Run `apikey serve --upstream` until the block ends.

    Args:
        stage: What stands behind, and the keystore.
        options: Instead of those for the service with TLS, which is given the key.
        ask_port: Where questions are answered; 0 for any port that is free.
    """
    port = free_port()
    trusted = ("--upstream-ca", str(stage.files.certificate), "--pass-authorization")
    given = options or ("--upstream", f"https://127.0.0.1:{stage.secure}", *trusted)
    where = ["--keystore", str(stage.keystore), "--ask-bind", f"127.0.0.1:{ask_port}"]
    command = [*COMMAND, "serve", "--bind", f"127.0.0.1:{port}", *where, *given]
    with running(command, port=port, environment=environment()) as server:
        yield Proxy(server, port)
