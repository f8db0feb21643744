"""Connections to Redis or Valkey, for the state that several gateways share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, cast

from metricshub_apikey.errors import MissingExtraError
from metricshub_apikey.policy.state import Address

if TYPE_CHECKING:
    import redis

PREFIX = "apikey:"

SLOTS = 16_384

INTERNALS = ("connect", "disconnect", "is_connected", "read_response", "send_packed_command")
"""
What `_Line` uses of the package's connections.

With them an exchange costs less than half of what the package's own pipelines cost, with one server
and with a Cluster; see `benchmarks/internals.py`.
"""

Command = Sequence[str]
Host = tuple[str, int]


def load_package() -> ModuleType:
    """Return the package `redis`; raises MissingExtraError where it is not installed."""
    try:
        import redis.asyncio.retry
        import redis.backoff
        import redis.crc
        import redis.retry
    except ImportError as error:
        raise MissingExtraError("redis") from error
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
        """
        Return the answers; what the server refused is an exception among them.

        Args:
            commands: Calls of a script with one key.
        """

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
    settings = {"socket_timeout": None, "socket_connect_timeout": timeout}
    if not _knows(package):
        retry = package.asyncio.retry.Retry(package.backoff.NoBackoff(), 0)
        client = _client(package.asyncio, address, settings | {"retry": retry})
        return _Pipelines(client, connected, package.exceptions)

    def line(address: Address) -> _Line:
        retry = package.asyncio.retry.Retry(package.backoff.NoBackoff(), 0)
        client = _client(package.asyncio, address, settings | {"retry": retry})
        return _Line(client, connected, package.exceptions)

    return _Cluster(address, line, package) if address.kind == "cluster" else line(address)


def _knows(package: Any) -> bool:  # noqa: ANN401 - it has no types
    """Return whether the package still has what `_Line` uses, whatever its version."""
    return hasattr(package.asyncio.ConnectionPool, "make_connection") and all(
        hasattr(package.asyncio.Connection, name) for name in INTERNALS
    )


class _Pipelines:
    """The package's own pipelines, to one server or a Cluster, where its internals have changed."""

    def __init__(self, client: Any, connected: Callable[[], None], errors: Any) -> None:  # noqa: ANN401 - they have no types
        self._client = client
        self._connected = connected
        self._errors = errors

    async def open(self) -> None:
        await self._client.ping()
        self._connected()

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        try:
            return await self._exchange(commands)
        except self._errors.ConnectionError:
            await (
                self.open()
            )  # Servers close what was idle for long, and end when they are replaced.
        return await self._exchange(commands)

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        is_cluster = not hasattr(self._client, "connection_pool")
        pipeline = self._client.pipeline(**({} if is_cluster else {"transaction": False}))
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def close(self) -> None:
        await self._client.aclose()


class _Line:
    """One connection to one server, without what makes clients of `redis` slow."""

    def __init__(self, client: Any, connected: Callable[[], None], errors: Any) -> None:  # noqa: ANN401 - they have no types
        self._client = client  # the connection knows its pool, but does not keep it alive
        self._connection = client.connection_pool.make_connection()
        self._connected = connected
        self._errors = errors

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
            except self._errors.ConnectionError:
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
        except self._errors.ResponseError as error:
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
    """The servers of a Cluster, a line to each that has a part of the keys."""

    def __init__(self, address: Address, line: Callable[[Address], _Line], package: Any) -> None:  # noqa: ANN401 - it has no types
        self._address = address
        self._hosts = [*address.hosts]
        self._make_line = line
        self._package = package
        self._lines: dict[Host, _Line] = {}
        self._owners: list[Host] = []

    async def open(self) -> None:
        """Ask who has which part, for another server may have taken over; connect to all."""
        owners: dict[int, Host] = {}
        for first, last, (name, port, *_), *_ in await self._parts():
            host = name.decode() or self._hosts[-1][0], port
            owners.update(dict.fromkeys(range(first, last + 1), host))
        if len(owners) < SLOTS:
            raise self._package.exceptions.ClusterDownError("not all parts have a server")
        self._owners = [owners[slot] for slot in range(SLOTS)]
        self._hosts = [*dict.fromkeys([*self._hosts, *self._owners])]
        for host in self._lines.keys() - set(self._owners):
            await self._lines.pop(host).close()
        for host in set(self._owners):
            await self._line(host).open()

    async def _parts(self) -> Any:  # noqa: ANN401 - as Redis answers
        """Return what the first server says that answers."""
        for attempt in range(len(self._hosts), 0, -1):
            host = self._hosts.pop(0)
            self._hosts.append(host)  # should it hang, it is asked last the next time
            try:
                [answer] = await self._line(host).run([("CLUSTER", "SLOTS")])
                if isinstance(answer, Exception):
                    raise answer
            except Exception:
                if attempt == 1:
                    raise
            else:
                return answer
        return None

    def _line(self, host: Host) -> _Line:
        if host not in self._lines:
            self._lines[host] = self._make_line(self._address._replace(kind="", hosts=(host,)))
        return self._lines[host]

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        routes: dict[Host, list[int]] = {}
        for number, (_, _, _, key, *_) in enumerate(commands):
            owner = self._owners[self._package.crc.key_slot(key.encode())]
            routes.setdefault(owner, []).append(number)
        answers: list[Any] = [None] * len(commands)

        async def send(host: Host, numbers: list[int]) -> None:
            found = await self._line(host).run([commands[number] for number in numbers])
            for number, answer in zip(numbers, found, strict=True):
                answers[number] = answer

        try:
            async with asyncio.TaskGroup() as group:
                for route in routes.items():
                    group.create_task(send(*route))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        for number, answer in enumerate(answers):
            if isinstance(answer, self._package.exceptions.AskError):
                answers[number] = await self._ask_other(answer, commands[number])
        return answers

    async def _ask_other(self, sent: Any, command: Command) -> Any:  # noqa: ANN401 - as Redis answers
        """Run a command where a server has *sent* us: its part has moved, or is moving."""
        host = sent.host, sent.port
        if isinstance(sent, self._package.exceptions.MovedError):
            self._owners[sent.slot_id] = host
        return (await self._line(host).run([("ASKING",), command]))[-1]

    async def close(self) -> None:
        for line in self._lines.values():
            await line.close()


def _packed(command: Command) -> str:
    """Return a command as Redis reads it; all of it is ASCII."""
    return f"*{len(command)}\r\n" + "".join([f"${len(word)}\r\n{word}\r\n" for word in command])


def _client(package: Any, address: Address, settings: dict[str, Any]) -> Any:  # noqa: ANN401 - it has no types
    settings["protocol"] = 2
    if address.tls:
        settings |= {"ssl": True, "ssl_ca_certs": address.ca}
    # Sentinels have users of their own, and must not learn the server's password.
    watchers = dict(settings)
    settings |= {
        "username": address.user,
        "password": address.password and address.password.reveal(),
    }
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
