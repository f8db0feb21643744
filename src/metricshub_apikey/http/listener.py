"""Where the gateway listens: a port or a Unix socket, in clear or with a certificate."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from metricshub_apikey.errors import InvalidArgumentError, ServeError

Network = IPv4Network | IPv6Network

HOST = "127.0.0.1"
PORT = 8484
BACKLOG = 2_048
LOOPBACK = ("127.0.0.0/8", "::1/128")
EVERYBODY = 0o666
"""The rights of a socket file: any user of this machine can connect to a port, too."""

TLS_FAILURE = "they do not fit together, are no PEM files, or the key has a password"


@dataclass(frozen=True)
class Listen:
    """
    Where to listen.

    Attributes:
        host: A name or an address.
        port: 0 for any that is free.
        unix: The path of a Unix socket, instead of host and port.
        tls_cert: A file with the certificate, and those that vouch for it.
        tls_key: A file with its private key.
        insecure: Keys may cross a network in clear.
        trusted: The networks whose proxies may ask.
        workers: How many processes.
    """

    host: str = HOST
    port: int = PORT
    unix: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    insecure: bool = False
    trusted: tuple[str, ...] = LOOPBACK
    workers: int = 1

    @property
    def networks(self) -> list[Network]:
        """The trusted networks; raises InvalidArgumentError if one is not a network."""
        try:
            return [ip_network(text.strip(), strict=False) for text in self.trusted]
        except ValueError as error:
            raise InvalidArgumentError(f"--trusted-proxies: {error}.") from None

    def check(self) -> None:
        """Refuse what cannot be, or would send keys in clear; raises InvalidArgumentError."""
        _ = self.networks
        if self.workers > 1 and sys.platform == "win32":
            raise InvalidArgumentError("On Windows there is one worker.")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InvalidArgumentError("--tls-cert and --tls-key go together.")
        local = self.unix is not None or _is_loopback(self.host)
        if not (local or self.tls_cert or self.insecure):
            raise InvalidArgumentError(
                f"Keys would cross the network to {self.host} in clear; "
                "give --tls-cert and --tls-key, or --insecure."
            )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def tls_context(listen: Listen) -> ssl.SSLContext | None:
    """Return what TLS needs, if it is asked for; raises ServeError."""
    if listen.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_certificate(context, listen)
    return context


def load_certificate(context: ssl.SSLContext, listen: Listen) -> None:
    """
    Read the certificate for connections made from now on.

    Raises:
        ServeError: It cannot be used; the context stays as it was.
    """
    if listen.tls_cert is None:
        return
    try:
        for one in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), context):  # a failure half changes one
            one.load_cert_chain(listen.tls_cert, listen.tls_key, password="")  # does not ask for it
    except OSError as error:
        why = f"{error.strerror}" if not isinstance(error, ssl.SSLError) else TLS_FAILURE
        raise ServeError(
            f"The certificate {listen.tls_cert} and its key {listen.tls_key} cannot be used: {why}."
        ) from error


@contextlib.contextmanager
def opened(listen: Listen) -> Iterator[socket.socket]:
    """Bind a socket, and close it at the end; raises ServeError."""
    if listen.unix is None:
        with _bound(listen) as listener:
            yield listener
        return
    with _bound_unix(listen, listen.unix) as listener:
        mine = _identity(listen.unix)
        try:
            yield listener
        finally:
            with contextlib.suppress(OSError):
                if mine == _identity(listen.unix):  # another server may have come
                    os.unlink(listen.unix)


def _identity(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns


def accept_from_now_on(listener: socket.socket, listen: Listen) -> None:
    """Let clients connect; raises ServeError."""
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        raise cannot_listen(listen, error) from error


def cannot_listen(listen: Listen, error: OSError) -> ServeError:
    """Return the error that says why nothing can listen there."""
    place = f"{listen.host}:{listen.port}" if listen.unix is None else listen.unix
    return ServeError(f"Nothing can listen at {place}: {error.strerror or error}.")


def _bound(listen: Listen) -> socket.socket:
    try:
        found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM)
        family, kind, _, _, address = found[0]
        listener = socket.socket(family, kind)
        if sys.platform == "win32":  # or another program could take the same port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except UnicodeError:
        raise ServeError(f"'{listen.host}' is not the name of a host.") from None
    except OSError as error:
        raise cannot_listen(listen, error) from error
    return listener


def _bound_unix(listen: Listen, path: str) -> socket.socket:
    if sys.platform == "win32":
        raise ServeError("There are no Unix sockets on Windows.")
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        os.chmod(path, EVERYBODY)
        listener.listen()  # or another server would take the file for a stale one
    except OSError as error:
        listener.close()
        raise cannot_listen(listen, error) from error
    return listener


def _remove_stale(path: str) -> None:
    """Remove the socket file that a killed server left; raises ServeError for anything else."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ServeError(f"{path} is there, and is not a socket.")
        if _is_stale(path):
            os.unlink(path)
            return
    except FileNotFoundError:
        return
    except OSError as error:
        raise ServeError(f"{path} cannot be used: {error.strerror or error}.") from error
    raise ServeError(f"Another process listens at {path}.")


def _is_stale(path: str) -> bool:
    if sys.platform == "win32":
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)  # a server that accepts nothing is one, too
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
    return False
