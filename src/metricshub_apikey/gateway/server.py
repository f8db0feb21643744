"""The gateway on uvicorn, in one process or in several."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator

import uvicorn

from metricshub_apikey.errors import ServeError

from .application import Gateway
from .listener import (
    BACKLOG,
    Listen,
    accept_from_now_on,
    cannot_listen,
    load_certificate,
    opened,
    tls_context,
)
from .log import Log
from .protocol import BoundedProtocol
from .service import Service, Settings

KEEP_ALIVE_SECONDS = 75
"""Longer than proxies keep an idle connection: it is theirs to close."""

DRAIN_SECONDS = 10


def serve(settings: Settings, listen: Listen) -> None:
    """
    Answer proxies until SIGTERM or SIGINT; then finish what is under way, and return.

    Args:
        settings: What to decide by.
        listen: Where, checked.

    Raises:
        ServeError: It cannot listen there, or the certificate cannot be used.
        MissingExtraError: A package for the state is not installed.
        ApiKeyError: Keystore or policy are there, but cannot be read.
    """
    if sys.platform != "win32":  # until the server can do it: nothing is read yet
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    service = Service(settings)
    service.keyring.check()
    _log_errors(service.log)
    context = tls_context(listen)
    with opened(listen) as listener:
        if listen.workers == 1:
            _run(_Server(service, settings, listen, context), listener)
        else:
            _run_several(service.log, settings, listen, context, listener)
    service.log.close()


def _run(server: _Server, listener: socket.socket) -> None:
    try:
        server.run(sockets=[listener])
    except SystemExit as error:
        raise ServeError("The gateway cannot start; its log says why.") from error


def _run_several(
    log: Log,
    settings: Settings,
    listen: Listen,
    context: ssl.SSLContext | None,
    listener: socket.socket,
) -> None:
    """Do the same in several processes; no thread may run in this one when they are forked."""

    def report(sentence: str) -> None:
        log.say(sentence)
        log.close()

    def work(parent: int) -> None:
        service = Service(settings)  # what is in force is what a start finds now
        _log_errors(service.log)
        _reload_certificate(service.log, listen, context)
        _run(_Server(service, settings, listen, context, parent), listener)
        service.log.close()

    if sys.platform != "win32":
        from .workers import Workers

        accept_from_now_on(listener, listen)
        _announce(report, listener, listen, settings)
        Workers(listen.workers, work, report=report, end=listener.close).run()


def _config(gateway: Gateway, context: ssl.SSLContext | None) -> uvicorn.Config:
    config = uvicorn.Config(
        gateway,
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


class _Server(uvicorn.Server):
    """A server that ends well when it is asked to, and reads its files anew on SIGHUP."""

    def __init__(
        self,
        service: Service,
        settings: Settings,
        listen: Listen,
        context: ssl.SSLContext | None,
        parent: int | None = None,
    ) -> None:
        super().__init__(_config(Gateway(service, listen.networks), context))
        self._service = service
        self._settings = settings
        self._listen = listen
        self._parent = parent
        self._reload_wanted = False
        self._reloading: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Read the files, then listen, then say so; raises ServeError."""
        listener = (sockets or [])[0]
        try:
            await super().startup(sockets)
        except OSError as error:
            raise cannot_listen(self._listen, error) from error
        if self._parent is None and self.started:
            _announce(self._service.log.say, listener, self._listen, self._settings)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do as uvicorn does, but do not die of the signal once everything is done."""
        numbers = [signal.SIGINT, signal.SIGTERM]
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
        _reload_certificate(self._service.log, self._listen, self.config.ssl)
        self._reload_wanted = True
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.get_running_loop().create_task(self._read_anew())

    async def _read_anew(self) -> None:
        """Read the files; once more if that was asked for meanwhile, however often."""
        while self._reload_wanted:
            self._reload_wanted = False
            await self._service.reload()


def _reload_certificate(log: Log, listen: Listen, context: ssl.SSLContext | None) -> None:
    try:
        if context is not None:
            load_certificate(context, listen)
    except ServeError as error:
        log.say(f"The old certificate stays: {error.message}")


def _announce(
    say: Callable[[str], None], listener: socket.socket, listen: Listen, settings: Settings
) -> None:
    """Say where it listens; the port may be one that was free."""
    if listen.unix is not None:
        place = f"unix:{listen.unix}"
    else:
        host, port = listener.getsockname()[:2]
        name = f"[{host}]" if ":" in host else host
        place = f"{'https' if listen.tls_cert else 'http'}://{name}:{port}/auth"
    say(f"The gateway for {settings.keystore} answers at {place}.")
    if listen.workers > 1 and settings.limits and settings.state is None:
        say(
            f"Each of the {listen.workers} workers counts the requests of a key for itself; "
            "--state lets them count together."
        )


class _ToLog(logging.Handler):
    """Passes on what uvicorn says."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, with the traceback of a bug."""
        self._log.say(self.format(record))


def _log_errors(log: Log) -> None:
    for name in ("uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        logger.handlers = [_ToLog(log)]
        logger.propagate = False
