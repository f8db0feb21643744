"""A real MCP server behind the gateway and each of the proxies, and a real client before them."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

import proxies
from fields import fields
from metricshub_apikey.keys.metadata import Metadata
from places import PROJECT
from proxies import METRICSHUB, SERVICE, Proxy, Stage

PROXIES: dict[str, Callable[[Path, Stage, int], AbstractContextManager[Proxy]]] = {
    "nginx": proxies.nginx,
    "caddy": proxies.caddy,
    "envoy": proxies.envoy,
    "upstream": lambda _, stage, __: proxies.front(stage),
}
SECONDS = 10.0


class Caller:
    """
    An MCP client with a key.

    Attributes:
        statuses: Of all answers it has got.
    """

    def __init__(self, proxy: Proxy, key: str) -> None:
        """Use *key* at *proxy*."""
        self.statuses: list[int] = []
        self._proxy = proxy
        self._key = key
        scheme = "https" if proxy.trusted else "http"
        self._address = f"{scheme}://127.0.0.1:{proxy.port}"

    def http(
        self,
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
    ) -> httpx2.AsyncClient:
        """Return an HTTP client that notes what is answered."""

        async def note(response: httpx2.Response) -> None:
            self.statuses.append(response.status_code)

        trusted = self._proxy.trusted
        return httpx2.AsyncClient(
            headers={**(headers or {}), "Authorization": f"Bearer {self._key}"},
            timeout=SECONDS if timeout is None else timeout,
            auth=auth,
            verify=True if trusted is None else ssl.create_default_context(cafile=str(trusted)),
            event_hooks={"response": [note]},
        )

    @asynccontextmanager
    async def by_stream(self) -> AsyncIterator[Client]:
        """Talk over one stream of events, as with MetricsHub."""
        transport = sse_client(
            f"{self._address}/sse", headers={"Host": METRICSHUB}, httpx_client_factory=self.http
        )
        async with Client(transport, mode="legacy", read_timeout_seconds=SECONDS) as client:
            yield client

    @asynccontextmanager
    async def by_request(self) -> AsyncIterator[Client]:
        """Talk over streamable HTTP."""
        async with self.http({"Host": SERVICE}) as http:
            transport = streamable_http_client(f"{self._address}/mcp", http_client=http)
            async with Client(transport, read_timeout_seconds=SECONDS) as client:
                yield client


async def works(client: Client) -> None:
    """List the tools, and call one."""
    tools = await client.list_tools()
    assert [tool.name for tool in tools.tools] == ["count_hosts"]
    result = await client.call_tool("count_hosts", {"site": "Lyon"})
    content: Any = result.content[0]
    assert content.text == "4 hosts at Lyon"


def run(story: Callable[[], Awaitable[None]]) -> None:
    """Run a story to its end, within a time."""

    async def limited() -> None:
        await asyncio.wait_for(story(), 3 * SECONDS)

    asyncio.run(limited())


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Return the gateway and the MCP server."""
    folder = tmp_path_factory.mktemp("stage")
    with proxies.staged(folder, PROJECT / "tests/support/mcp_server.py") as stage:
        yield stage


@pytest.fixture(scope="module", params=PROXIES)
def proxy(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """Return each proxy at work, one after the other."""
    name: str = request.param
    with PROXIES[name](stage.folder / name, stage, stage.gateway.port) as proxy:
        yield proxy


def create(stage: Stage, proxy: Proxy, name: str, role: str = "agent") -> Caller:
    """Return a client with a new key that may use MCP."""
    key = stage.registry.create(f"{name}-{proxy.port}", **fields(Metadata(roles=(role,))))
    return Caller(proxy, key.secret.reveal() or "")


def test_a_key_with_the_role_calls_tools(stage: Stage, proxy: Proxy) -> None:
    """Over either transport; the stream stays open when the gateway reads its files anew."""
    caller = create(stage, proxy, "agent")
    create(stage, proxy, "other")

    async def story() -> None:
        async with caller.by_request() as client:
            await works(client)
        async with caller.by_stream() as client:
            await works(client)
            stage.gateway.server.send(signal.SIGHUP)
            stage.registry.revoke(f"other-{proxy.port}")
            await works(client)

    run(story)
    assert set(caller.statuses) <= {200, 202}


def test_a_key_that_may_call_some_tools(
    stage: Stage, proxy: Proxy, request: pytest.FixtureRequest
) -> None:
    """
    Envoy shows the body, and the call is decided; `--upstream` also filters what is listed.

    The other proxies are refused as a whole.
    """
    caller = create(stage, proxy, "looker", "looker")
    sentence = rf"The API key 'looker-{proxy.port}' may not call the tool 'delete_hosts'"

    async def allowed() -> None:
        async with caller.by_request() as client:
            await works(client)
            with pytest.raises(Exception, match=sentence):
                await client.call_tool("delete_hosts", {"site": "Lyon"})
        assert set(caller.statuses) <= {200, 202, 403}

    async def refused() -> None:
        with pytest.raises(Exception):  # noqa: B017, PT011
            async with caller.by_request() as client:
                await client.list_tools()
        assert set(caller.statuses) == {403}

    async def filtered() -> None:
        for talk in (caller.by_request, caller.by_stream):
            async with talk() as client:
                assert [one.name for one in (await client.list_tools()).tools] == ["count_hosts"]
                with pytest.raises(Exception, match=sentence):
                    await client.call_tool("delete_hosts", {"site": "Lyon"})

    stories = {"envoy": allowed, "upstream": filtered}
    run(stories.get(request.node.callspec.params["proxy"], refused))


def test_a_key_without_the_role_calls_none(stage: Stage, proxy: Proxy) -> None:
    """It gets 403 before there is any session."""
    caller = Caller(proxy, stage.keys["reader"])

    async def story() -> None:
        with pytest.raises(Exception):  # noqa: B017, PT011
            async with caller.by_request():
                pass
        with pytest.raises(Exception):  # noqa: B017, PT011
            async with caller.by_stream():
                pass

    run(story)
    assert set(caller.statuses) == {403}
    assert len(caller.statuses) >= 2


def test_a_revoked_key_is_refused_in_the_middle(stage: Stage, proxy: Proxy) -> None:
    """The next request of a client that was at work gets 401, also while its stream is open."""
    caller, streaming = create(stage, proxy, "doomed"), create(stage, proxy, "streaming")

    async def story() -> None:
        async with caller.by_request() as client, streaming.by_stream() as other:
            await works(client)
            await works(other)
            stage.registry.revoke(f"doomed-{proxy.port}", f"streaming-{proxy.port}")
            assert 401 not in caller.statuses + streaming.statuses
            with pytest.raises(Exception):  # noqa: B017, PT011
                await client.call_tool("count_hosts", {"site": "Lyon"})
            assert caller.statuses[-1] == 401
            waiting = asyncio.create_task(other.list_tools())
            while 401 not in streaming.statuses:
                await asyncio.sleep(0.01)
            waiting.cancel()

    run(story)
