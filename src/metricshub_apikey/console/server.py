"""`apikey console`: the console as a server of its own, and the links it prints."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from typing import Self

from metricshub_apikey.http.listener import Listen, opened, tls_context
from metricshub_apikey.http.server import Server, log_errors

from .application import Console, Settings

REDIRECT = (
    '<!doctype html><meta charset="utf-8"><title>API keys</title>'
    '<meta name="referrer" content="no-referrer"><meta http-equiv="refresh" content="0;url={link}">'
)


def serve(
    settings: Settings,
    listen: Listen,
    *,
    say: Callable[[str], None],
    show: Callable[[list[str]], None],
    open_browser: Callable[[str], None] | None = None,
    ssh: str | None = None,
) -> None:
    """
    Serve until SIGTERM or SIGINT.

    Args:
        settings: What for.
        listen: Where, checked.
        say: Takes a sentence for the log.
        show: Takes lines for the person at the terminal.
        open_browser: Opens a file in a browser; None does not.
        ssh: `user@host` as the person at the other end of SSH writes it; None without SSH.

    Raises:
        ServeError: It cannot listen there, or the certificate cannot be used.
    """
    console = Console(settings)
    log_errors(say)
    context = tls_context(listen)
    links = _Links(console, settings, show)

    def announce(listener: socket.socket) -> None:
        links.begin(_origin(settings, listen, listener), listener.getsockname()[1], ssh)
        if settings.how != "link":
            say(f"The console for {settings.files.keystore} answers at {links.origin}/.")
        elif open_browser is not None:
            links.open_with(open_browser)

    with opened(listen) as listener, links:
        Server(
            console, listen, context, say=say, announce=announce, reload=console.reload
        ).serve_on(listener)


def _origin(settings: Settings, listen: Listen, listener: socket.socket) -> str:
    if settings.place.public is not None:
        return settings.place.public
    host, port = listener.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return f"{'https' if listen.tls_cert else 'http'}://{name}:{port}"


class _Links:
    """Prints links, each with a ticket of its own: one at the start, one for each Enter."""

    def __init__(
        self, console: Console, settings: Settings, show: Callable[[list[str]], None]
    ) -> None:
        self._console = console
        self._wanted = settings.how == "link"
        self._show = show
        self._redirect: str | None = None
        self.origin = ""

    def begin(self, origin: str, port: int, ssh: str | None) -> None:
        """Print the first link, and wait for Enter."""
        self.origin = origin
        if not self._wanted:
            return
        lines = [self.link(), "It works once, for a minute. Enter prints another one, Ctrl-C ends."]
        if ssh is not None:
            lines.insert(0, f"On your own machine: ssh -N -L {port}:127.0.0.1:{port} {ssh}")
        self._show(lines)
        if sys.stdin is not None and sys.stdin.isatty():
            self._listen_for_enter()

    def link(self) -> str:
        """Return a new link."""
        return f"{self.origin}/#{self._console.sessions.new_ticket()}"

    def open_with(self, open_browser: Callable[[str], None]) -> None:
        """
        Open a new link in a browser.

        It is led there by a file that only this user can read: a browser's arguments are for all
        users of the machine to see.
        """
        descriptor, path = tempfile.mkstemp(".html", "apikey-")
        self._redirect = path
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(REDIRECT.format(link=self.link()))
        open_browser(path)

    def _listen_for_enter(self) -> None:
        loop = asyncio.get_running_loop()

        def read() -> None:
            if not os.read(sys.stdin.fileno(), 4_096):
                loop.remove_reader(sys.stdin.fileno())
                return
            self._show([self.link()])

        with contextlib.suppress(NotImplementedError, PermissionError):  # Windows, a file
            loop.add_reader(sys.stdin.fileno(), read)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._redirect is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._redirect)
