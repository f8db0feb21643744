"""
The MCP server behind the middleware, with a tool that lists and one that runs commands.

    python mcp_guarded.py KEYSTORE MARK

Whoever runs a command leaves it in the file MARK.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import uvicorn

from mcp_server import app, server, started, streamable
from metricshub_apikey.gateway import ApiKeyMiddleware


@server.tool(name="ListHosts")
def list_hosts() -> str:
    """List the hosts."""
    return "lyon-1, lyon-2"


@server.tool(name="ExecuteSshCommandline")
def execute(commandline: str) -> str:
    """Run a command on a host."""
    Path(sys.argv[2]).write_text(commandline)
    return "done"


async def main(keystore: str) -> None:
    """Serve until the process is ended."""
    listener = socket.create_server(("127.0.0.1", 0))
    guarded = ApiKeyMiddleware(app, keystore, limits=False)
    config = uvicorn.Config(
        guarded, lifespan="off", log_level="warning", timeout_graceful_shutdown=1
    )
    async with started(streamable):
        print(f"listening on {listener.getsockname()[1]}", flush=True)
        await uvicorn.Server(config).serve([listener])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
