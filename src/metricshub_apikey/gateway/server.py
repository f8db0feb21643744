"""`apikey serve`: the gateway as a server of its own, in one process or in several."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from metricshub_apikey.http.asgi import Application, Receive, Scope, Send
from metricshub_apikey.http.listener import Listen, accept_from_now_on, opened, tls_context
from metricshub_apikey.http.server import Server, Side, log_errors, reload_certificate

from .application import Gateway, live
from .log import Log
from .service import Service, Settings

if TYPE_CHECKING:
    from .proxy import Upstream


class Front(NamedTuple):
    """
    The gateway as a reverse proxy of its own.

    Attributes:
        upstream: The service behind it.
        ask: Where questions are answered instead, with `/healthz` and `/metrics`.
    """

    upstream: Upstream
    ask: Listen


def serve(settings: Settings, listen: Listen, front: Front | None = None) -> None:
    """
    Answer proxies, or with *front* be one, until SIGTERM or SIGINT.

    What is under way then is finished before it returns.

    Args:
        settings: What to decide by.
        listen: Where, checked.
        front: What stands behind; None where other proxies ask.

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
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(opened(listen))
        aside = stack.enter_context(opened(front.ask)) if front else None
        work = Work(settings, listen, context, front, aside)
        if listen.workers == 1:
            _server(service, work).serve_on(listener)
        else:
            _run_several(service.log, work, listener)
    service.log.close()


class Work(NamedTuple):
    """What each process needs to know."""

    settings: Settings
    listen: Listen
    context: ssl.SSLContext | None
    front: Front | None
    aside: socket.socket | None


def _server(service: Service, work: Work, parent: int | None = None) -> Server:
    listen = work.listen
    application: Application = Gateway(service, listen.networks)
    side = None
    if work.front is not None and work.aside is not None:
        side = Side(Gateway(service, work.front.ask.networks), work.aside)
        application = _reverse_proxy(service, work.front.upstream)
    return Server(
        application,
        listen,
        work.context,
        say=service.log.say,
        announce=partial(_announce, service.log.say, work),
        reload=service.reload,
        parent=parent,
        side=side,
    )


def _reverse_proxy(service: Service, upstream: Upstream) -> Application:
    """Return the service behind the gateway's decisions, as one application."""
    from .middleware import ApiKeyMiddleware
    from .proxy import ReverseProxy

    proxy = ReverseProxy(upstream, service.log.say)
    protected = ApiKeyMiddleware.around(proxy, service)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(service, receive, send, proxy.close)
        else:
            await protected(scope, receive, send)

    return application


def _run_several(log: Log, work: Work, listener: socket.socket) -> None:
    """Do the same in several processes; no thread may run in this one when they are forked."""

    def report(sentence: str) -> None:
        log.say(sentence)
        log.close()

    def be_worker(parent: int) -> None:
        service = Service(work.settings)  # what is in force is what a start finds now
        log_errors(service.log.say)
        reload_certificate(service.log.say, work.listen, work.context)
        _server(service, work, parent).serve_on(listener)
        service.log.close()

    if sys.platform != "win32":
        from metricshub_apikey.http.workers import Workers

        accept_from_now_on(listener, work.listen)
        if work.aside is not None and work.front is not None:
            accept_from_now_on(work.aside, work.front.ask)
        _announce(report, work, listener)
        end = partial(_close_all, [one for one in (listener, work.aside) if one is not None])
        Workers(work.listen.workers, be_worker, report=report, end=end).run()


def _close_all(listeners: Sequence[socket.socket]) -> None:
    for one in listeners:
        one.close()


def _announce(say: Callable[[str], None], work: Work, listener: socket.socket) -> None:
    """Say where it listens; the ports may be some that were free."""
    listen, settings = work.listen, work.settings
    if work.front is None or work.aside is None:
        place = _place(listen, listener) + ("" if listen.unix else "/auth")
        say(f"The gateway for {settings.keystore} answers at {place}.")
    else:
        behind = f"{_place(listen, listener)} passes on to {work.front.upstream.url}"
        asked = f"{_place(work.front.ask, work.aside)}/auth"
        say(f"The gateway for {settings.keystore} at {behind}, and answers at {asked}.")
    if listen.workers > 1 and settings.limits and settings.state is None:
        say(
            f"Each of the {listen.workers} workers counts the requests of a key for itself; "
            "--state lets them count together."
        )


def _place(listen: Listen, listener: socket.socket) -> str:
    if listen.unix is not None:
        return f"unix:{listen.unix}"
    host, port = listener.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return f"{'https' if listen.tls_cert else 'http'}://{name}:{port}"
