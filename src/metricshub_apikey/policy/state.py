"""
Where gateways keep the state that they share: the URL of a Redis or Valkey server.

    redis://[user:password@]host:port/0           one server; rediss:// is the same over TLS
    unix:///run/redis.sock
    redis+sentinel://host:26379,host2:26379/name  the master that these Sentinels name
    redis+cluster://host:6379,host2:6379          a Cluster

With `rediss` in place of `redis` the last two use TLS, too; `?ca=FILE` names the authority that
signed the server's certificate. User, password and path may be percent-encoded.

    >>> parse("redis://:secret@cache.example/1").hosts
    (('cache.example', 6379),)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.secret import Secret

ENVIRONMENT_VARIABLE = "METRICSHUB_APIKEY_STATE"
PORTS = {"": 6379, "sentinel": 26379, "cluster": 6379}
DATABASE = "[0-9]{0,4}"
MASTER = "[A-Za-z0-9._-]+"
FORMS = "Use redis://HOST:PORT, rediss://, unix://, redis+sentinel:// or redis+cluster://."


class Address(NamedTuple):
    """
    Where the state is.

    Attributes:
        kind: Empty for one server; `sentinel` or `cluster`.
        hosts: Names and ports; none where it is a socket.
        path: What follows them: the number of the database, the master's name, or a socket.
        tls: Whether connections are encrypted.
        ca: The file with the authority's certificate; None for those of the system.
        user: The user's name; None where there is none.
        password: Never shown.
    """

    kind: str
    hosts: tuple[tuple[str, int], ...]
    path: str
    tls: bool = False
    ca: str | None = None
    user: str | None = None
    password: Secret | None = None

    def __repr__(self) -> str:
        """Show where it is, and not who asks."""
        return f"Address(kind={self.kind!r}, hosts={self.hosts}, path={self.path!r})"

    def __str__(self) -> str:
        """Return it for messages: where the servers are."""
        return ", ".join(f"{host}:{port}" for host, port in self.hosts) or self.path


def parse(url: str, place: str = "state") -> Address:
    """
    Return what a URL says.

    Args:
        url: One of the forms above.
        place: Where it stands, for the error.

    Raises:
        InvalidArgumentError: It has none of the forms. The message shows nothing of it, for there
            may be a password in it.
    """
    try:
        scheme, location, path, query, rest = urlsplit(url)
        server, _, kind = scheme.partition("+")
        login, _, names = location.rpartition("@")
        user, _, password = login.partition(":")
        hosts = tuple(_host(name, PORTS[kind]) for name in names.split(",") if name)
        options = dict(parse_qsl(query, strict_parsing=bool(query)))
        ca = options.pop("ca", None)
    except (ValueError, KeyError):
        raise _bad_url(place) from None
    path = unquote(path if server == "unix" else path.strip("/"))
    tls = server == "rediss"
    odd = rest or options or (ca and not tls) or not (url.isprintable() and path.isprintable())
    if odd or not _fits(server, kind, hosts, path):
        raise _bad_url(place)
    return Address(kind, hosts, path, tls, ca, unquote(user) or None, _secret(password))


def _secret(quoted: str) -> Secret | None:
    return Secret(unquote(quoted)) if quoted else None


def _host(name: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{name}")
    if not parts.hostname or " " in name:
        raise ValueError
    return parts.hostname, parts.port or port


def _fits(server: str, kind: str, hosts: tuple[tuple[str, int], ...], path: str) -> bool:
    """Return whether the parts make sense together; else one of them may be of a password."""
    if server == "unix":
        return not kind and not hosts and bool(path)
    if server not in ("redis", "rediss") or not hosts:
        return False
    if kind == "sentinel":
        return re.fullmatch(MASTER, path) is not None
    if kind == "cluster":
        return not path
    return len(hosts) == 1 and re.fullmatch(DATABASE, path) is not None


def _bad_url(place: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"The URL in {place} cannot be used.", hint=FORMS)


def find_state(
    option: str | None, policy: Address | None, environ: Mapping[str, str]
) -> Address | None:
    """
    Return where the state is: the first of these that says it; None where none does.

    Args:
        option: The URL on the command line, where all users of the machine can read it.
        policy: What the policy file says.
        environ: The environment variables.

    Raises:
        InvalidArgumentError: The URL cannot be used, or the option has a password in it.
    """
    if option is None:
        from_environment = environ.get(ENVIRONMENT_VARIABLE)
        return parse(from_environment, ENVIRONMENT_VARIABLE) if from_environment else policy
    address = parse(option, "--state")
    if address.password is not None:
        raise InvalidArgumentError(
            "Everybody on this machine can read the password in --state.",
            hint=f"Give the URL in the environment variable {ENVIRONMENT_VARIABLE}.",
        )
    return address
