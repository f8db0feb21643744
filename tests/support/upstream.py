"""
A service behind a proxy, in a process of its own: it says what it was asked, and streams events.

    python upstream.py CERTIFICATE KEY

It listens in clear and with TLS, and writes a line for each request, in the order they came. A path
with `/events` in it is answered by a stream, one with `/status/403` by that status.
"""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

OWN_LIMITS = ("RateLimit", "RateLimit-Policy", "X-RateLimit-Limit", "X-RateLimit-Reset")

STREAM_SECONDS = 30
EVENT_SECONDS = 0.05

connections = count(1)
writing = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """Answers one connection's requests, whatever their method, with what they were."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Count the connection."""
        self.number = next(connections)
        super().setup()

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Return the answer for any method."""
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self) -> None:
        """Say what was asked."""
        asked = {
            "connection": self.number,
            "line": self.requestline,
            "headers": list(self.headers.items()),
            "body": len(self.read_body()),
        }
        text = json.dumps(asked)
        with writing:
            print(text, flush=True)
        target = self.requestline.split(" ")[1].partition("?")[0]
        status = re.search(r"/status/(\d{3})", target)
        if "/events" in target:
            self.stream()
        else:
            self.send(int(status[1]) if status else 200, text.encode())

    def read_body(self) -> bytes:
        """Return the request's body, of a length that was told or in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def send(self, status: int, body: bytes) -> None:
        """Answer with a whole body."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        for name in OWN_LIMITS if "/limited" in self.path else ():
            self.send_header(name, "of the service")
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)

    def stream(self) -> None:
        """Send small events until nobody listens any more."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        deadline = time.monotonic() + STREAM_SECONDS
        with contextlib.suppress(OSError):
            while time.monotonic() < deadline:
                self.wfile.write(b"data: tick\n\n")
                time.sleep(EVENT_SECONDS)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the lines are for the requests."""


class Server(ThreadingHTTPServer):
    """Listens on a free port of this machine."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of connections that break."""


def main(certificate: str, key: str) -> None:
    """Serve until the process is ended."""
    plain, secure = Server(), Server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    print(f"listening on {plain.server_port} and {secure.server_port}", flush=True)
    threading.Thread(target=secure.serve_forever, daemon=True).start()
    plain.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
