"""Where the gateway listens, and what it says where it cannot."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from conftest import AS_ORDINARY_USER, COMMAND, Run
from metricshub_apikey import ApiKeys
from metricshub_apikey.errors import InvalidArgumentError, ServeError
from metricshub_apikey.http.listener import Listen, load_certificate, opened, tls_context
from metricshub_apikey.keystore.keystore import Keystore
from proxies import certificate
from servers import exchange, forwarded, received, running

UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")

AS_SERVICE = f"import encodings.idna, metricshub_apikey.gateway.server\n{AS_ORDINARY_USER}"
"""The command as an ordinary user runs it, with the gateway imported before."""


def fails(run: Run, *options: str | Path, code: int = 1, command: Sequence[str] = COMMAND) -> str:
    """Run `apikey serve`, which must fail with one line of an error, and return that line."""
    done = run("serve", *options, command=command)
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith("Error: ")]
    assert (done.returncode, done.stdout, len(errors)) == (code, "", 1), done.stderr
    extra = [line for line in lines if not line.startswith(("Error: ", "Hint: ", "Usage: ", "Try"))]
    assert [line for line in extra if line and "No roles are defined" not in line] == []
    return errors[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bind", "0.0.0.0:0"], "in clear"),
        (["--bind", "[::]:0"], "in clear"),
        (["--bind", "192.0.2.1"], "in clear"),
        (["--bind", "example.com:80"], "in clear"),
        (["--bind", "127.1:80"], "in clear"),
        (["--bind", ":80"], "not HOST:PORT"),
        (["--bind", "127.0.0.1:"], "not HOST:PORT"),
        (["--bind", "127.0.0.1:65536"], "not HOST:PORT"),
        (["--bind", "127.0.0.1:-1"], "not HOST:PORT"),
        (["--bind", "127.0.0.1:\N{SUPERSCRIPT TWO}"], "not HOST:PORT"),
        (["--bind", "[]:80"], "not HOST:PORT"),
        (["--trusted-proxies", "10.0.0.0/33"], "--trusted-proxies"),
        (["--trusted-proxies", "proxy.example.com"], "--trusted-proxies"),
        (["--trusted-proxies", "127.0.0.1,"], "--trusted-proxies"),
        (["--trusted-proxies", ""], "--trusted-proxies"),
        (["--tls-cert", "cert.pem"], "go together"),
        (["--tls-key", "key.pem"], "go together"),
        (["--workers", "0"], "--workers"),
        (["--workers", "many"], "--workers"),
        (["--state-failure", "open"], "--state-failure"),
        (["--state", "http://localhost"], "URL"),
    ],
)
def test_wrong_usage(run: Run, keystore: Path, options: list[str], message: str) -> None:
    """What cannot be meant ends with exit code 2, before anything listens."""
    assert message in fails(run, "--keystore", keystore, *options, code=2)


def test_a_port_that_is_in_use(run: Run) -> None:
    """Who else listens there keeps it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"127.0.0.1:{port}: Address already in use" in fails(
            run, "--bind", f"127.0.0.1:{port}"
        )


@pytest.mark.skipif(
    UNPRIVILEGED.exists() and UNPRIVILEGED.read_text().strip() == "0",
    reason="no port is privileged",
)
def test_a_port_that_needs_rights(run: Run, public: Path) -> None:
    """An ordinary user is told that the port is not for them."""
    command = [sys.executable, "-c", AS_SERVICE] if os.geteuid() == 0 else COMMAND
    options = ["--keystore", str(public / "keystore.p12"), "--bind", "127.0.0.1:1"]
    assert "127.0.0.1:1: Permission denied" in fails(run, *options, command=command)


@pytest.mark.parametrize("host", ["unknown.invalid", f"{'x' * 70}.example.com"])
def test_a_host_that_is_unknown(run: Run, host: str) -> None:
    """A name that leads nowhere is an error, however it is wrong."""
    assert host in fails(run, "--bind", f"{host}:1", "--insecure")


def test_certificates_that_cannot_be_used(run: Run, tmp_path: Path) -> None:
    """Missing, mixed up, of another key, with a password: one line that names both files."""
    (tmp_path / "other").mkdir()
    cert, key = certificate(tmp_path)
    other = certificate(tmp_path / "other").key
    locked = tmp_path / "locked.key"
    loaded = load_pem_private_key(key.read_bytes(), None)
    locked.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    missing = tmp_path / "missing.pem"
    for one, two in [(missing, key), (cert, missing), (key, cert), (cert, other), (cert, locked)]:
        error = fails(run, "--tls-cert", one, "--tls-key", two)
        assert str(one) in error
        assert str(two) in error


def test_a_certificate_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    """OpenSSL would already have taken the certificate when it finds that the key is another's."""
    (tmp_path / "other").mkdir()
    good, other = certificate(tmp_path), certificate(tmp_path / "other")
    context = tls_context(Listen(tls_cert=str(good.certificate), tls_key=str(good.key)))
    assert context is not None
    with pytest.raises(ServeError):
        load_certificate(context, Listen(tls_cert=str(other.certificate), tls_key=str(good.key)))

    trusting = ssl.create_default_context(cafile=str(good.certificate))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server, server_hostname="localhost")
    server = context.wrap_bio(to_server, to_client, server_side=True)
    done: set[ssl.SSLObject] = set()
    for one in (client, server) * 3:
        try:
            one.do_handshake()
            done.add(one)
        except ssl.SSLWantReadError:
            pass
    assert done == {client, server}


def test_the_trusted_networks() -> None:
    """One host is a network; bits beyond the mask do no harm."""
    listen = Listen(trusted=("10.1.2.3/8", " 192.0.2.7", "::1"))
    assert [str(one) for one in listen.networks] == ["10.0.0.0/8", "192.0.2.7/32", "::1/128"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_tls(host: str) -> None:
    """Nothing leaves the machine."""
    Listen(host).check()
    with pytest.raises(InvalidArgumentError):
        Listen("::ffff:192.0.2.1").check()


def test_a_unix_socket(keystore: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Any user of the machine can ask there; the file is gone when the server is."""
    path = tmp_path / "gateway.sock"
    command = [*COMMAND, "serve", "--unix", str(path)]
    key = ApiKeys(Keystore(keystore)).create("client").secret.reveal()
    said = "".join(f"{name}: {value}\r\n" for name, value in forwarded(key).items())
    with running(command, environment=environment) as server:
        server.wait_for_line(f"answers at unix:{path}")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(f"GET /auth HTTP/1.0\r\n{said}\r\n".encode())
            assert received(client).startswith(b"HTTP/1.1 200 OK")
        assert path.stat().st_mode & 0o777 == 0o666
    assert server.process.returncode == 0
    assert not path.exists()


def test_the_socket_of_a_killed_server_is_replaced(
    keystore: Path, environment: dict[str, str], tmp_path: Path, run: Run
) -> None:
    """That of a living one is not, even while it does not answer."""
    path = tmp_path / "gateway.sock"
    command = [*COMMAND, "serve", "--keystore", str(keystore), "--unix", str(path)]
    with running(command, environment=environment) as first:
        first.wait_for_line("answers at")
        first.send(signal.SIGSTOP)
        assert "Another process listens" in fails(run, "--unix", path)
        first.send(signal.SIGCONT)
        assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    assert path.exists()
    with running(command, environment=environment) as second:
        second.wait_for_line("answers at")
    assert not path.exists()


def test_the_socket_of_the_next_server_stays(tmp_path: Path) -> None:
    """A server that ends late does not remove the file of the one that came after it."""
    path = tmp_path / "gateway.sock"
    listen = Listen(unix=str(path))
    with ExitStack() as first:
        first.enter_context(opened(listen)).close()
        with opened(listen):
            first.close()
            assert path.exists()
    assert not path.exists()


@pytest.mark.parametrize("name", ["file", "missing/socket", "x" * 120])
def test_no_place_for_a_socket(run: Run, tmp_path: Path, name: str) -> None:
    """A file that is something else stays; a path that cannot be is an error."""
    (tmp_path / "file").write_text("precious")
    assert name in fails(run, "--unix", tmp_path / name)
    assert (tmp_path / "file").read_text() == "precious"


def test_ipv6(keystore: Path, environment: dict[str, str]) -> None:
    """The address is written as in a URL."""
    key = ApiKeys(Keystore(keystore)).create("client").secret.reveal()
    said = "".join(f"{name}: {value}\r\n" for name, value in forwarded(key).items())
    with running([*COMMAND, "serve", "--bind", "[::1]:0"], environment=environment) as server:
        port = int(server.wait_for_line(r"answers at http://\[::1\]:(\d+)/auth")[1])
        sent = f"GET /auth HTTP/1.1\r\n{said}\r\n".encode()
        assert exchange(port, sent, host="::1").startswith(b"HTTP/1.1 200 OK")


def test_keystores_and_policies_that_cannot_be_read(run: Run, keystore: Path) -> None:
    """What is there must be good when the gateway starts; a keystore may come later."""
    registry = ApiKeys(Keystore(keystore))
    registry.create("client")
    good = keystore.read_bytes()
    password = keystore.with_name("password")
    password.write_text("wrong\n")
    password.chmod(0o600)
    assert "password is wrong" in fails(run, "--password-file", password)
    keystore.write_bytes(good[:-20])
    assert str(keystore) in fails(run)
    keystore.write_bytes(good)
    policy = keystore.with_name("apikey.toml")
    policy.write_text("[rate_limit]\nrequests_per_minute = 0\n")
    assert f"{policy}, line 2" in fails(run)
    assert "nowhere" in fails(run, "--policy", "nowhere.toml")


def test_errors_in_json(run: Run, keystore: Path) -> None:
    """Whoever asks for JSON gets it, whatever is wrong."""
    keystore.parent.mkdir()
    keystore.write_text("no keystore")
    failed = run("serve", "-o", "json")
    wrong = run("serve", "-o", "json", "--bind", "0.0.0.0:0")
    assert json.loads(failed.stderr)["error"]["code"] == "not-a-keystore"
    assert "in clear" in json.loads(wrong.stderr)["error"]["message"]
    assert (failed.returncode, wrong.returncode) == (1, 2)
