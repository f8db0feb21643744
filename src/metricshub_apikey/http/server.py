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

import uvicorn

from metricshub_apikey.errors import ServeError

from .asgi import Application
from .listener import BACKLOG, Listen, cannot_listen, load_certificate
from .protocol import BoundedProtocol, check_uvicorn

KEEP_ALIVE_SECONDS = 75
"""Longer than proxies keep an idle connection: it is theirs to close."""

DRAIN_SECONDS = 10


def _config(application: Application, context: ssl.SSLContext | None) -> uvicorn.Config:
    check_uvicorn()
    config = uvicorn.Config(
        application,
        http=BoundedProtocol,
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


class Server(uvicorn.Server):
    """A server that ends well when it is asked to, and reads its files anew on SIGHUP."""

    def __init__(
        self,
        application: Application,
        listen: Listen,
        context: ssl.SSLContext | None,
        *,
        say: Callable[[str], None],
        announce: Callable[[socket.socket], None],
        reload: Callable[[], Awaitable[None]],
        parent: int | None = None,
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
        """
        super().__init__(_config(application, context))
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
        except OSError as error:
            raise cannot_listen(self._listen, error) from error
        if self._parent is None and self.started:
            self._announce(listener)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do as uvicorn does, but do not die of the signal once everything is done."""
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
