"""
A real MCP server in a process of its own: streamable HTTP at /mcp, SSE at /sse and /mcp/message.

    python mcp_server.py CERTIFICATE KEY

It listens in clear and with TLS, as MetricsHub does, and asks for no key itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

server = MCPServer("hosts")
ANY_HOST = TransportSecuritySettings(enable_dns_rebinding_protection=False)


@server.tool()
def count_hosts(site: str) -> str:
    """Say how many hosts there are at a site."""
    return f"{len(site)} hosts at {site}"


sse = server.sse_app(message_path="/mcp/message", transport_security=ANY_HOST)
streamable = server.streamable_http_app(transport_security=ANY_HOST)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Choose by the path, as both have an application of their own."""
    if scope["path"] == "/mcp":
        await streamable(scope, receive, send)
    elif scope["path"] == "/mcp/message":  # Starlette would send the client to a path with a slash
        await sse({**scope, "path": "/mcp/message/"}, receive, send)
    else:
        await sse(scope, receive, send)


@contextlib.asynccontextmanager
async def started(application: Starlette) -> AsyncIterator[None]:
    """Run an application's own start and end."""
    async with application.router.lifespan_context(application):
        yield


def configured(certificate: str | None = None, key: str | None = None) -> uvicorn.Config:
    """Return how to serve the applications, whose own start and end are not uvicorn's business."""
    return uvicorn.Config(
        app,
        lifespan="off",
        log_level="warning",
        timeout_graceful_shutdown=1,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )


async def main(certificate: str, key: str) -> None:
    """Serve until the process is ended."""
    plain, secure = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    one = uvicorn.Server(configured())
    other = uvicorn.Server(configured(certificate, key))
    ports = plain.getsockname()[1], secure.getsockname()[1]
    async with started(streamable):
        print(f"listening on {ports[0]} and {ports[1]}", flush=True)
        await asyncio.gather(one.serve([plain]), other.serve([secure]))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
