"""uvicorn, with bounds, ending well, and reading files anew on SIGHUP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from types import FrameType
from typing import NamedTuple

import uvicorn

from metricshub_apikey.errors import ServeError

from .asgi import Application
from .listener import BACKLOG, Listen, cannot_listen, load_certificate
from .protocol import BoundedProtocol, StreamingProtocol, check_uvicorn

KEEP_ALIVE_SECONDS = 75
"""Longer than proxies keep an idle connection: it is theirs to close."""

DRAIN_SECONDS = 10


def _config(
    application: Application, context: ssl.SSLContext | None, *, streaming: bool = False
) -> uvicorn.Config:
    check_uvicorn()
    config = uvicorn.Config(
        application,
        http=StreamingProtocol if streaming else BoundedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        backlog=BACKLOG,
    )
    config.load()
    config.ssl = context
    return config


class Side(NamedTuple):
    """An application on a listener beside the main one, in the same process."""

    application: Application
    listener: socket.socket


class Server(uvicorn.Server):
    """A server that ends well when it is asked to, and reads its files anew on SIGHUP."""

    def __init__(  # noqa: PLR0913 - all but three by name
        self,
        application: Application,
        listen: Listen,
        context: ssl.SSLContext | None,
        *,
        say: Callable[[str], None],
        announce: Callable[[socket.socket], None],
        reload: Callable[[], Awaitable[None]],
        parent: int | None = None,
        side: Side | None = None,
    ) -> None:
        """
        Serve *application*.

        Args:
            application: Any ASGI application with a lifespan.
            listen: Where the listener is, for errors, and where the certificate is.
            context: What TLS needs; None serves in clear.
            say: Takes what the log should say, a sentence.
            announce: Called with the listener once clients can connect, unless there is a parent.
            reload: Reads everything anew, on SIGHUP.
            parent: A pipe that is at its end when the parent process has ended.
            side: Another application on a listener of its own; with it *application* passes
                bodies on, so they have no bound.
        """
        super().__init__(_config(application, context, streaming=side is not None))
        self._side = side
        self._listen = listen
        self._say = say
        self._announce = announce
        self._reload_files = reload
        self._parent = parent
        self._reload_wanted = False
        self._reloading: asyncio.Task[None] | None = None

    def serve_on(self, listener: socket.socket) -> None:
        """Serve until SIGTERM or SIGINT; raises ServeError where it cannot start."""
        try:
            self.run(sockets=[listener])
        except SystemExit as error:
            raise ServeError("The server cannot start; its log says why.") from error

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Read the files, then listen, then say so; raises ServeError."""
        listener = (sockets or [])[0]
        try:
            await super().startup(sockets)
            if self._side is not None and self.started:
                await self._listen_aside(self._side)
        except OSError as error:
            raise cannot_listen(self._listen, error) from error
        if self._parent is None and self.started:
            self._announce(listener)

    async def _listen_aside(self, side: Side) -> None:
        """Let the other application answer, in clear, on its own listener."""
        config = _config(side.application, None)
        made = partial(
            BoundedProtocol,
            config=config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        loop = asyncio.get_running_loop()
        self.servers.append(await loop.create_server(made, sock=side.listener, backlog=BACKLOG))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Like uvicorn's, but do not die of the signal once everything is done."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        if sys.platform == "win32":  # Ctrl-Break, a closed console, a logoff, a shutdown
            numbers.append(signal.SIGBREAK)
        old = {number: signal.signal(number, self.handle_exit) for number in numbers}
        loop = asyncio.get_running_loop()
        if sys.platform != "win32":
            loop.add_signal_handler(signal.SIGHUP, self._reload)
        if self._parent is not None:
            loop.add_reader(self._parent, self._end_without_parent)
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """
        End; a second Ctrl-C does not wait for what is under way, except in a worker.

        A worker hears of one Ctrl-C twice, from the terminal and from its parent.
        """
        if self._parent is None:
            super().handle_exit(sig, frame)
        else:
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Close the connections of slow clients every second, too."""
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for connection in [*self.server_state.connections]:
                if isinstance(connection, BoundedProtocol):
                    connection.expire(now)
        return await super().on_tick(counter)

    def _end_without_parent(self) -> None:
        asyncio.get_running_loop().remove_reader(self._parent or 0)
        self.should_exit = True

    def _reload(self) -> None:
        reload_certificate(self._say, self._listen, self.config.ssl)
        self._reload_wanted = True
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.get_running_loop().create_task(self._read_anew())

    async def _read_anew(self) -> None:
        """Read the files; once more if that was asked for meanwhile, however often."""
        while self._reload_wanted:
            self._reload_wanted = False
            await self._reload_files()


def reload_certificate(
    say: Callable[[str], None], listen: Listen, context: ssl.SSLContext | None
) -> None:
    """Read the certificate anew; where it cannot be used the old one stays, and *say* is told."""
    try:
        if context is not None:
            load_certificate(context, listen)
    except ServeError as error:
        say(f"The old certificate stays: {error.message}")


class _Says(logging.Handler):
    """Passes on what uvicorn says."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, with the traceback of a bug."""
        self._say(self.format(record))


def log_errors(say: Callable[[str], None]) -> None:
    """Let *say* take what uvicorn and asyncio warn of."""
    for name in ("uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        logger.handlers = [_Says(say)]
        logger.propagate = False
