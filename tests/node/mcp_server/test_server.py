"""The MCP server with the client of the official SDK, over stdio and over HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.client import ConnectMode
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.types import TextResourceContents

from localmem_node import __version__
from localmem_node.client import DaemonClient
from localmem_node.mcp_server.scope import CLIENT_HEADER, FOLDER_HEADER
from localmem_node.mcp_server.tools import INSTRUCTIONS, TOOL_NAMES
from support.daemon import daemons_of, environment, open_sockets
from support.events import fields
from support.git_repository import Repository
from support.mcp_pump import COMMAND

MODES: list[ConnectMode] = ["legacy", "auto", "2026-07-28"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonClient]:
    """A client of a daemon for tests that leave it as it was."""
    with DaemonClient(environment(tmp_path_factory.mktemp("shared") / "home")) as client:
        client.ensure_running()
        yield client
        assert client.stop()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[DaemonClient]:
    """A client of a daemon of the test's own."""
    home = tmp_path / "home"
    with DaemonClient(environment(home)) as client:
        client.ensure_running()
        yield client
    for pid in daemons_of(home):
        os.kill(pid, signal.SIGKILL)


@asynccontextmanager
async def over_http(
    daemon: DaemonClient, mode: ConnectMode = "auto", **headers: str
) -> AsyncIterator[Client]:
    """A client of `/mcp` on loopback."""
    state = daemon.running()
    assert state is not None
    headers = {"Authorization": f"Bearer {state.token}", **headers}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as connection:
        url = f"http://127.0.0.1:{state.port}/mcp"
        async with Client(streamable_http_client(url, http_client=connection), mode=mode) as one:
            yield one


@asynccontextmanager
async def over_stdio(
    daemon: DaemonClient, mode: ConnectMode = "auto", cwd: Path | None = None
) -> AsyncIterator[Client]:
    """A client of the pump."""
    command, *arguments = COMMAND
    server = StdioServerParameters(
        command=command, args=arguments, env=daemon.environment, cwd=cwd or "/"
    )
    async with Client(server, mode=mode) as one:
        yield one


WAYS: dict[str, Callable[..., AbstractAsyncContextManager[Client]]] = {
    "http": over_http,
    "stdio": over_stdio,
}
both_ways = pytest.mark.parametrize("way", WAYS)


def text_of(result: Any) -> str:
    """What a tool said; it says the same in its structured content."""
    (content,) = result.content
    assert result.is_error or result.structured_content["text"] == content.text
    return str(content.text)


@both_ways
@pytest.mark.parametrize("mode", MODES)
async def test_a_client_records_finds_looks_back_and_forgets(
    shared: DaemonClient, way: str, mode: ConnectMode
) -> None:
    async with WAYS[way](shared, mode) as client:
        recorded = await client.call_tool("record_event", {"text": f"gateway {way} {mode}\nmore"})
        (event_id,) = recorded.structured_content["contextIds"]
        found = await client.call_tool("query_recent", {"query": f"gateway {way} {mode}"})
        assert event_id in found.structured_content["contextIds"]
        assert f"{event_id} note, now: gateway {way} {mode}" in text_of(found)
        details = await client.call_tool("query_recent", {"ids": [event_id]})
        assert "\nmore\n" in text_of(details)
        assert event_id in text_of(await client.call_tool("timeline", {"id": event_id}))
        assert "is pinned" in text_of(await client.call_tool("pin", {"id": event_id}))
        uri = f"localmem://event/{event_id}"
        (resource,) = (await client.read_resource(uri)).contents
        assert isinstance(resource, TextResourceContents)
        assert "\nmore\n" in resource.text
        gone = await client.call_tool("forget", {"ids": [event_id]})
        assert gone.structured_content["forgotten"] == [event_id]
        again = await client.call_tool("query_recent", {"ids": [event_id]})
        assert again.is_error
        assert text_of(again) == f"ids: {event_id}: no such event here (any more)"
        with pytest.raises(MCPError, match="no such event here"):
            await client.read_resource(uri)


@both_ways
async def test_tools_and_resources_are_described(shared: DaemonClient, way: str) -> None:
    async with WAYS[way](shared, "legacy") as client:
        assert client.instructions == INSTRUCTIONS
        assert client.server_info is not None
        assert client.server_info.version == __version__
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert list(tools) == list(TOOL_NAMES)
        hints: dict[str, tuple[bool | None, bool | None]] = {}
        for name, tool in tools.items():
            assert tool.title
            assert tool.output_schema is not None
            assert tool.annotations is not None
            assert tool.annotations.open_world_hint is False
            hints[name] = tool.annotations.read_only_hint, tool.annotations.destructive_hint
        assert {name for name, (reads, _) in hints.items() if reads} == {"query_recent", "timeline"}
        assert {name for name, (_, erases) in hints.items() if erases} == {"forget"}
        resources = (await client.list_resources()).resources
        assert [one.uri for one in resources] == ["localmem://recent"]
        templates = (await client.list_resource_templates()).resource_templates
        assert [one.uri_template for one in templates] == [
            "localmem://event/{id}",
            "localmem://project/{id}/recent",
        ]


@both_ways
async def test_wrong_calls_are_errors_of_the_tool_or_of_the_protocol(
    shared: DaemonClient, way: str
) -> None:
    async with WAYS[way](shared) as client:
        wrong = await client.call_tool("query_recent", {"k": 1000})
        assert wrong.is_error
        assert text_of(wrong) == "k: must be a whole number from 1 to 100"
        with pytest.raises(MCPError, match="no tool 'query'; there are query_recent"):
            await client.call_tool("query", {})
        with pytest.raises(MCPError, match="is no resource of localmem"):
            await client.read_resource("file:///etc/passwd")
        with pytest.raises(MCPError, match="Method not found"):
            await client.get_prompt("x")


async def test_a_client_over_http_can_say_where_it_works(
    shared: DaemonClient, tmp_path: Path
) -> None:
    Repository(tmp_path)
    (other,) = shared.record([fields(snippet="elsewhere entirely")])["recorded"]
    told = {FOLDER_HEADER: str(tmp_path), CLIENT_HEADER: "cursor"}
    async with over_http(shared, **told) as client:
        recorded = await client.call_tool("record_event", {"text": "here"})
        (here,) = recorded.structured_content["contextIds"]
        found = await client.call_tool("query_recent", {})
        assert found.structured_content["contextIds"] == [here]
    event = shared.recent(1)["events"][0]
    assert event["tool"] == "cursor"
    shared.forget({"ids": [here, other["id"]]})


@both_ways
async def test_calls_run_beside_each_other(shared: DaemonClient, way: str) -> None:
    async with WAYS[way](shared) as client, WAYS[way](shared) as other:
        texts = [f"note number {number}" for number in range(30)]
        results = await asyncio.gather(
            *(
                one.call_tool("record_event", {"text": text})
                for one, text in zip([client, other] * 15, texts, strict=True)
            ),
            *(client.call_tool("query_recent", {"query": text}) for text in texts),
        )
        ids = [result.structured_content["contextIds"][0] for result in results[:30]]
        assert len(set(ids)) == 30
        await other.call_tool("forget", {"ids": ids})


async def test_a_client_goes_on_after_its_daemon_was_killed(own: DaemonClient) -> None:
    async with over_stdio(own) as client:
        await client.call_tool("record_event", {"text": "before"})
        state = own.running()
        assert state is not None
        os.kill(state.pid, signal.SIGKILL)
        assert "before" in text_of(await client.call_tool("query_recent", {}))
        assert "forget" in [tool.name for tool in (await client.list_tools()).tools]
    own.close()
    after = own.running()
    assert after is not None
    assert after.pid != state.pid


def exchange(daemon: DaemonClient, method: str, body: bytes, **headers: str) -> tuple[int, bytes]:
    """(status, body) over loopback."""
    state = daemon.running()
    assert state is not None
    connection = http.client.HTTPConnection("127.0.0.1", state.port, timeout=60)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    common = {
        "Authorization": f"Bearer {state.token}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }
    try:
        connection.request(method, "/mcp", body, common | named)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


def test_the_guard_stands_before_it(shared: DaemonClient) -> None:
    assert exchange(shared, "POST", PING)[0] == 200
    assert exchange(shared, "POST", PING, Authorization="Bearer no")[0] == 401
    assert exchange(shared, "POST", PING, Origin="https://example.org")[0] == 403
    assert exchange(shared, "POST", PING, Host="example.org")[0] == 403


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_there_are_no_streams_and_no_sessions(shared: DaemonClient, method: str) -> None:
    status, body = exchange(shared, method, b"", Accept="text/event-stream")
    assert status == 405
    assert json.loads(body)["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, -32700),
        (b"\xff", 400, -32700),
        (b"[]", 400, -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"no/such"}', 200, -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":[]}}', 200, -32602),
    ],
)
def test_bad_messages_over_http_are_json_rpc_errors(
    shared: DaemonClient, body: bytes, status: int, code: int
) -> None:
    answer = exchange(shared, "POST", body)
    assert answer[0] == status
    assert json.loads(answer[1])["error"]["code"] == code


def test_a_message_that_is_too_large_is_refused(shared: DaemonClient) -> None:
    assert exchange(shared, "POST", b" " * (4 * 1024 * 1024) + PING)[0] == 413


def test_a_listener_is_told_that_there_is_nothing_to_listen_to(shared: DaemonClient) -> None:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"_meta": meta, "notifications": {"toolsListChanged": True}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}
    status, answer = exchange(
        shared,
        "POST",
        json.dumps(body).encode(),
        MCP_Protocol_Version="2026-07-28",
        Mcp_Method="subscriptions/listen",
    )
    assert (status, json.loads(answer)["error"]["code"]) == (404, -32601)


async def test_a_daemon_stops_at_once_whoever_is_connected(own: DaemonClient) -> None:
    state = own.running()
    assert state is not None
    async with over_http(own, "legacy") as first, over_stdio(own) as second:
        await asyncio.gather(first.list_tools(), second.list_tools())
        assert await asyncio.to_thread(own.stop)
    log = own.settings.log_path.read_text()
    assert "stopped" in log
    assert "graceful shutdown exceeded" not in log  # what it says when it has to give up on some
    assert "ERROR" not in log


def test_connections_that_are_gone_leave_nothing(own: DaemonClient) -> None:
    exchange(own, "POST", PING)
    state = own.running()
    assert state is not None
    own.status()
    before = open_sockets(state.pid)
    for _ in range(20):
        exchange(own, "POST", PING)
        exchange(own, "GET", b"")
    own.status()  # the loop has seen the ends of those before
    assert open_sockets(state.pid) == before


def test_a_daemon_that_nobody_asks_over_mcp_does_not_load_the_sdk(own: DaemonClient) -> None:
    own.record([fields()])
    assert own.status()["services"]["mcp"] == {"loaded": False, "requests": 0}
    exchange(own, "GET", b"")
    assert own.status()["services"]["mcp"]["loaded"] is False
    exchange(own, "POST", PING)
    assert own.status()["services"]["mcp"] == {"loaded": True, "requests": 1}


def test_neither_the_daemon_nor_the_pump_imports_the_sdk() -> None:
    script = (
        "import sys, localmem_node.daemon.extensions as e; e.load_extensions();"
        "import localmem_node.mcp_server.shim, localmem_node.mcp_server.calls;"
        "print([name for name in ('mcp', 'mcp_types', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout == b"[]\n"
