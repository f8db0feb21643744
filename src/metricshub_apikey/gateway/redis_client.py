"""Connections to Redis or Valkey, for the state that several gateways share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, cast

from metricshub_apikey.errors import MissingExtraError
from metricshub_apikey.state import Address

if TYPE_CHECKING:
    import redis

PREFIX = "apikey:"

Command = Sequence[str]


def load_package() -> ModuleType:
    """Return the package `redis`; raises MissingExtraError where it is not installed."""
    try:
        import redis.asyncio.retry
        import redis.backoff
        import redis.retry
    except ImportError as error:
        raise MissingExtraError("redis", ("redis",)) from error
    return redis


def connect(address: Address, *, timeout: float) -> redis.Redis:
    """
    Return a client; only one of a Cluster connects at once.

    Args:
        address: Where it is.
        timeout: Seconds to wait for a connection, and for an answer.

    Raises:
        MissingExtraError: The package `redis` is not installed.
    """
    package = load_package()
    retry = package.retry.Retry(package.backoff.NoBackoff(), 0)
    settings = {"retry": retry, "socket_timeout": timeout, "socket_connect_timeout": timeout}
    return cast("redis.Redis", _client(package, address, settings))


class Channel(Protocol):
    """Sends commands from an event loop, many at a time, and returns the answers."""

    async def open(self) -> None:
        """Connect, unless it is connected."""

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers; what the server refused is an exception among them."""

    async def close(self) -> None:
        """Disconnect."""


def channel(address: Address, *, timeout: float, connected: Callable[[], None]) -> Channel:
    """
    Return a channel; nothing is sent yet. How long to wait for answers is for the caller to say.

    Args:
        address: Where it leads.
        timeout: Seconds to wait for a connection.
        connected: Called with each new connection: it may lead to another server than before.

    Raises:
        MissingExtraError: The package `redis` is not installed.
    """
    package = load_package()
    retry = package.asyncio.retry.Retry(package.backoff.NoBackoff(), 0)
    settings = {"retry": retry, "socket_timeout": None, "socket_connect_timeout": timeout}
    client = _client(package.asyncio, address, settings)
    if address.kind == "cluster":
        return _Cluster(client, connected)
    return _Line(client, connected, package.ConnectionError, package.ResponseError)


class _Line:
    """One connection to one server, without what makes clients of `redis` slow."""

    def __init__(
        self,
        client: Any,  # noqa: ANN401 - it has no types
        connected: Callable[[], None],
        lost: type[Exception],
        refused: type[Exception],
    ) -> None:
        self._client = client  # the connection knows its pool, but does not keep it alive
        self._connection = client.connection_pool.make_connection()
        self._connected = connected
        self._lost = lost
        self._refused = refused

    async def open(self) -> None:
        if self._connection.is_connected:
            return
        try:
            await self._connection.connect()
        except BaseException:
            await self._drop()
            raise
        self._connected()

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        data = "".join(map(_packed, commands)).encode()
        if self._connection.is_connected:
            try:
                return await self._exchange(data, len(commands))
            except self._lost:
                pass  # Servers close what was idle for long, and end when they are replaced.
        await self.open()
        return await self._exchange(data, len(commands))

    async def _exchange(self, data: bytes, count: int) -> list[Any]:
        try:
            await self._connection.send_packed_command(data, check_health=False)
            return [await self._answer() for _ in range(count)]
        except BaseException:
            await self._drop()
            raise

    async def _answer(self) -> Any:  # noqa: ANN401 - as Redis answers
        try:
            return await self._connection.read_response()
        except self._refused as error:
            return error

    async def _drop(self) -> None:
        """Close a connection on which answers to something else may still come."""
        await self._connection.disconnect(nowait=True)

    async def close(self) -> None:
        await self._connection.disconnect()
        manager = getattr(self._client.connection_pool, "sentinel_manager", None)
        for client in (self._client, *(manager.sentinels if manager else ())):
            await client.aclose()


class _Cluster:
    """The servers of a Cluster, each with its part of the keys."""

    def __init__(self, client: Any, connected: Callable[[], None]) -> None:  # noqa: ANN401 - it has no types
        self._client = client
        self._connected = connected

    async def open(self) -> None:
        await self._client.aclose()  # another server may have taken over
        await self._client.ping(target_nodes=self._client.PRIMARIES)
        self._connected()

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._client.pipeline()
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def close(self) -> None:
        await self._client.aclose()


def _packed(command: Command) -> str:
    """Return a command as Redis reads it; all of it is ASCII."""
    return f"*{len(command)}\r\n" + "".join([f"${len(word)}\r\n{word}\r\n" for word in command])


def _client(package: Any, address: Address, settings: dict[str, Any]) -> Any:  # noqa: ANN401 - it has no types
    settings["protocol"] = 2
    if address.tls:
        settings |= {"ssl": True, "ssl_ca_certs": address.ca}
    # Sentinels have users of their own, and must not learn the server's password.
    watchers = dict(settings)
    settings |= {"username": address.user, "password": address.password}
    if address.kind == "cluster":
        nodes = [package.cluster.ClusterNode(*host) for host in address.hosts]
        return package.RedisCluster(startup_nodes=nodes, **settings)
    if address.kind == "sentinel":
        known = package.sentinel.Sentinel(address.hosts, sentinel_kwargs=watchers, **settings)
        return known.master_for(address.path)
    if not address.hosts:
        return package.Redis(unix_socket_path=address.path, **settings)
    (host, port), *_ = address.hosts
    return package.Redis(host=host, port=port, db=int(address.path or 0), **settings)


def reason(error: Exception) -> str:
    """Return why something failed; of what was sent, a password perhaps, nothing is repeated."""
    text = str(error).partition(", with args")[0].rstrip(". ")
    return text or (
        "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    )
