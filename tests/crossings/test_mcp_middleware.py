"""The middleware before a real MCP server, and real clients before it, over both transports."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from conftest import missing
from metricshub_apikey import ApiKeys
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.policy.templates import template
from places import PROJECT
from servers import Server, running

SECONDS = 10.0
PROGRAM = PROJECT / "tests" / "support" / "mcp_guarded.py"
NODE_CLIENT = Path(__file__).with_name("node") / "client.mjs"
NODE_SDK = os.environ.get("APIKEY_NODE_SDK", "/usr/local/lib/apikey-node")
SENTENCE = "The API key '{}' may not call the tool 'ExecuteSshCommandline'."
HOSTS = "lyon-1, lyon-2"


class House(NamedTuple):
    """A guarded server, the keys by role, and the file that a command leaves behind."""

    server: Server
    port: int
    keys: dict[str, str]
    mark: Path


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Return the server behind the middleware, under the strict template."""
    folder = tmp_path_factory.mktemp("house")
    keystore = folder / "keys.p12"
    policy = template("strict").replace("requests_per_minute = 120", "")
    keystore.with_name("apikey.toml").write_text(policy)
    registry = ApiKeys(Keystore(keystore))
    roles = ("read-only", "metrics-writer", "alert-manager", "chat-bot", "full-access")
    made = {role: registry.create(role, roles=(role,)) for role in roles}
    keys = {role: key.secret.reveal() or "" for role, key in made.items()}
    mark = folder / "mark"
    with running([sys.executable, str(PROGRAM), str(keystore), str(mark)]) as server:
        port = int(server.wait_for_line(r"^listening on (\d+)$")[1])
        yield House(server, port, keys, mark)


def http(house: House, role: str, **options: Any) -> httpx2.AsyncClient:  # noqa: ANN401
    """Return an HTTP client with the key of a role."""
    headers = {**(options.pop("headers", None) or {})}
    headers["Authorization"] = f"Bearer {house.keys[role]}"
    options.setdefault("timeout", SECONDS)
    return httpx2.AsyncClient(headers=headers, **options)


@asynccontextmanager
async def by_stream(house: House, role: str) -> AsyncIterator[Client]:
    """Talk over one stream of events, as with MetricsHub."""

    def make(headers: Any = None, timeout: Any = None, auth: Any = None) -> httpx2.AsyncClient:  # noqa: ANN401
        return http(house, role, headers=headers, timeout=timeout, auth=auth)

    transport = sse_client(f"http://127.0.0.1:{house.port}/sse", httpx_client_factory=make)
    async with Client(transport, mode="legacy", read_timeout_seconds=SECONDS) as client:
        yield client


@asynccontextmanager
async def by_request(house: House, role: str) -> AsyncIterator[Client]:
    """Talk over streamable HTTP, in the newest revision."""
    async with http(house, role) as client:
        transport = streamable_http_client(f"http://127.0.0.1:{house.port}/mcp", http_client=client)
        async with Client(transport, read_timeout_seconds=SECONDS) as session:
            yield session


@asynccontextmanager
async def by_legacy_request(house: House, role: str) -> AsyncIterator[Client]:
    """Talk over streamable HTTP with a session, as before 2026."""
    async with http(house, role) as client:
        transport = streamable_http_client(f"http://127.0.0.1:{house.port}/mcp", http_client=client)
        async with Client(transport, mode="legacy", read_timeout_seconds=SECONDS) as session:
            yield session


Transport = Callable[[House, str], AbstractAsyncContextManager[Client]]


@pytest.mark.parametrize("transport", [by_stream, by_request, by_legacy_request])
@pytest.mark.parametrize("role", ["read-only", "chat-bot"])
def test_a_client_that_looks(house: House, transport: Transport, role: str) -> None:
    """It lists hosts, does not see the tool that runs commands, and is refused it in a sentence."""

    async def story() -> None:
        async with transport(house, role) as client:
            tools = await client.list_tools()
            assert [tool.name for tool in tools.tools] == ["ListHosts"]
            hosts: Any = (await client.call_tool("ListHosts", {})).content[0]
            assert hosts.text == HOSTS
            with pytest.raises(Exception, match=r"may not call the tool") as caught:
                await client.call_tool("ExecuteSshCommandline", {"commandline": "id"})
            assert SENTENCE.format(role) in str(caught.value)
            again: Any = (await client.call_tool("ListHosts", {})).content[0]
            assert again.text == HOSTS, "the session goes on"

    asyncio.run(asyncio.wait_for(story(), 3 * SECONDS))
    assert not house.mark.exists()
    assert house.server.wait_for_line(rf"decision=403 reason=tool-not-permitted alias={role} .*")


@pytest.mark.parametrize("transport", [by_stream, by_request])
def test_a_client_that_may_do_everything(house: House, transport: Transport) -> None:
    """An administrator's client sees all tools, and runs a command."""

    async def story() -> None:
        async with transport(house, "full-access") as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert names == {"count_hosts", "ListHosts", "ExecuteSshCommandline"}
            await client.call_tool("ExecuteSshCommandline", {"commandline": "uptime"})

    asyncio.run(asyncio.wait_for(story(), 3 * SECONDS))
    assert house.mark.read_text() == "uptime"
    house.mark.unlink()


@pytest.mark.parametrize("role", ["metrics-writer", "alert-manager"])
def test_a_role_without_mcp(house: House, role: str) -> None:
    """A POST to an MCP path is refused in JSON-RPC, and offers no OAuth."""
    url = f"http://127.0.0.1:{house.port}/mcp"
    call = {"jsonrpc": "2.0", "id": 9, "method": "ping"}
    answer = httpx2.post(url, json=call, headers={"Authorization": f"Bearer {house.keys[role]}"})
    assert (answer.status_code, answer.json()["id"]) == (403, 9)
    assert answer.json()["error"]["message"] == "The API key does not permit this request."
    assert "www-authenticate" not in answer.headers


def test_a_client_without_a_valid_key(house: House) -> None:
    """It gets 401 as JSON-RPC, and where it then looks for OAuth, a sentence with 404."""
    base = f"http://127.0.0.1:{house.port}"
    call = {"jsonrpc": "2.0", "id": "x", "method": "ping"}
    answer = httpx2.post(f"{base}/mcp", json=call, headers={"Authorization": "Bearer none"})
    assert (answer.status_code, answer.json()["id"]) == (401, "x")
    for path in (
        "/.well-known/oauth-protected-resource/mcp",
        "/mcp/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
        "/register",
    ):
        answer = httpx2.get(base + path)
        assert answer.status_code == 404
        assert answer.json()["error_description"].startswith("This server has no OAuth")


@pytest.mark.parametrize(("kind", "path"), [("http", "/mcp"), ("sse", "/sse")])
def test_the_official_client_of_node(house: House, kind: str, path: str) -> None:
    """The npm package @modelcontextprotocol/sdk shows its user the same sentence."""
    if not (Path(NODE_SDK) / "node_modules" / "@modelcontextprotocol").exists():
        missing(f"@modelcontextprotocol/sdk in {NODE_SDK}")
    url = f"http://127.0.0.1:{house.port}{path}"
    command = ["node", str(NODE_CLIENT), kind, url, house.keys["read-only"], NODE_SDK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    seen = json.loads(done.stdout)
    assert (seen["tools"], seen["hosts"]) == (["ListHosts"], HOSTS)
    assert SENTENCE.format("read-only") in seen["refusal"]
    assert not house.mark.exists()
