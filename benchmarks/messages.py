"""
What it costs to read a message of MCP: microseconds per body of 2 KB, and per filtered list.

    python benchmarks/messages.py
"""

from __future__ import annotations

import json
import timeit
from collections.abc import Callable

from metricshub_apikey.gateway.mcp import filtered, read
from metricshub_apikey.policy.access import Access, refusal
from metricshub_apikey.policy.permission import normalise
from metricshub_apikey.policy.rules import Mcp

ROUNDS = 5
REPEATS = 5_000


def body(size: int) -> bytes:
    """Return a call of a tool whose body has about *size* bytes."""
    hosts = [f"host-{number:04}.example.com" for number in range(size // 28 - 4)]
    params = {"name": "GetHostDetails", "arguments": {"hostname": hosts, "poolSize": 60}}
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
    return json.dumps(message).encode()


def tools(count: int) -> bytes:
    """Return the answer of a server that has *count* tools."""
    one = {"description": "Looks at hosts. " * 8, "inputSchema": {"type": "object"}}
    listed = [{"name": f"Tool{number}", **one} for number in range(count)]
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": listed}}).encode()


def measure(what: str, step: Callable[[], object]) -> None:
    """Print the best of a few rounds."""
    best = min(timeit.repeat(step, number=REPEATS, repeat=ROUNDS)) / REPEATS
    print(f"{what:45} {best * 1e6:7.2f} µs")


def main() -> None:
    """Measure each step."""
    headers = [(b"content-type", b"application/json")]
    small, large, answer = body(2_048), body(65_536), tools(15)
    role = Access(["* /mcp", "GET /api/**"], tools=["List*", "Get*", "CheckProtocol"])
    is_mcp = Mcp().all.covers
    path = normalise("/api/v1/hosts/7")
    measure(f"read a body of {len(small):,} bytes", lambda: read(small, headers, "POST"))
    measure("decide about its tool", lambda: refusal([role], "POST", "/mcp", tool="GetHostDetails"))
    measure("see that another path is not MCP", lambda: is_mcp(path))
    measure("decide about another path", lambda: refusal([role], "GET", path))
    measure(
        f"filter a list of 15 tools, {len(answer):,} bytes", lambda: filtered(answer, role.may_call)
    )
    measure(f"read a body of {len(large):,} bytes", lambda: read(large, headers, "POST"))


if __name__ == "__main__":
    main()
