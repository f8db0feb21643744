"""`apikey serve`: the gateway as a server of its own, in one process or in several."""

from __future__ import annotations

import signal
import socket
import ssl
import sys
from collections.abc import Callable
from functools import partial

from metricshub_apikey.http.listener import Listen, accept_from_now_on, opened, tls_context
from metricshub_apikey.http.server import Server, log_errors, reload_certificate

from .application import Gateway
from .log import Log
from .service import Service, Settings


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
    policy = service.keyring.check()
    for remark in policy.remarks():
        service.log.say(remark)
    if listen.workers > 1:
        service.log.close()  # no thread may run when workers are forked
    log_errors(service.log.say)
    context = tls_context(listen)
    with opened(listen) as listener:
        if listen.workers == 1:
            _server(service, settings, listen, context).serve_on(listener)
        else:
            _run_several(service.log, settings, listen, context, listener)
    service.log.close()


def _server(
    service: Service,
    settings: Settings,
    listen: Listen,
    context: ssl.SSLContext | None,
    parent: int | None = None,
) -> Server:
    return Server(
        Gateway(service, listen.networks),
        listen,
        context,
        say=service.log.say,
        announce=partial(_announce, service.log.say, listen, settings),
        reload=service.reload,
        parent=parent,
    )


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
        log_errors(service.log.say)
        reload_certificate(service.log.say, listen, context)
        _server(service, settings, listen, context, parent).serve_on(listener)
        service.log.close()

    if sys.platform != "win32":
        from metricshub_apikey.http.workers import Workers

        accept_from_now_on(listener, listen)
        _announce(report, listen, settings, listener)
        Workers(listen.workers, work, report=report, end=listener.close).run()


def _announce(
    say: Callable[[str], None], listen: Listen, settings: Settings, listener: socket.socket
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
