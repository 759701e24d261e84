"""What lets MCP clients ask the daemon.

    POST /mcp    a JSON-RPC message of the Model Context Protocol, and its answer as JSON

No sessions, no streams: whoever asks for one gets 405, as the protocol has it. So nothing is left of
a client that goes away, nothing is open when the daemon stops, and a client does not notice that
there is another daemon. The SDK is imported, in a thread, by the first message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from localmem_node.config import Settings
from localmem_node.daemon.app import Service, json_response
from localmem_node.daemon.common import common_of
from localmem_node.daemon.worker import Worker
from localmem_node.engine import Engine
from localmem_node.mcp_server.calls import Calls
from localmem_node.mcp_server.tools import ToolName
from localmem_node.problems import problem_json
from localmem_protocol.seams import Clock, Random

PATH: Final = "/mcp"

_Result = TypeVar("_Result")
_QUERIES, _WRITES, _UPKEEP = "query", "write", "upkeep"
_THREADS: Final[dict[ToolName, str]] = {
    "record_event": _WRITES,
    "pin": _WRITES,
    "forget": _UPKEEP,  # writes the whole store anew
}


class Manager(Protocol):
    """The SDK's `StreamableHTTPSessionManager`."""

    def run(self) -> Any:
        """Serve within this context."""
        ...

    async def handle_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        ...


class McpEndpoint:
    """Implements `Service`, and the ASGI application of the route."""

    name = "mcp"

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._workers: dict[str, Worker] = {}
        self._manager: Manager | None = None
        self._loading = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self._requests = 0

    async def start(self) -> None:
        """Nothing to begin."""

    async def stop(self) -> None:
        """End, after the calls under way."""
        self._stopping.set()
        if self._serving is not None:
            await self._serving
        for worker in self._workers.values():
            await asyncio.to_thread(worker.close)

    def status(self) -> dict[str, Any]:
        """How it is, for people and for JSON."""
        return {"loaded": self._manager is not None, "requests": self._requests}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["method"] != "POST":
            body = problem_json("method_not_allowed", "POST a message; there are no streams here")
            response = json_response(body, 405)
            response.headers["allow"] = "POST"
            await response(scope, receive, send)
            return
        self._requests += 1
        manager = self._manager or await self._load()
        await manager.handle_request(scope, receive, send)

    async def run(self, tool: ToolName | None, work: Callable[[], _Result]) -> _Result:
        """Implements `mcp_server.server.Threads`."""
        name = _QUERIES if tool is None else _THREADS.get(tool, _QUERIES)
        worker = self._workers.get(name)
        if worker is None:
            worker = self._workers[name] = Worker(f"localmem-mcp-{name}")
        return await worker.run(work)

    async def _load(self) -> Manager:
        async with self._loading:
            if self._manager is None:
                # Half a second of imports, in which queries go on to be answered.
                manager = await asyncio.to_thread(self._make)
                ready = asyncio.Event()
                self._serving = asyncio.create_task(self._serve(manager, ready))
                await ready.wait()
                self._manager = manager
            return self._manager

    def _make(self) -> Manager:
        from localmem_node.mcp_server.server import make_manager

        return make_manager(self._calls, self)

    async def _serve(self, manager: Manager, ready: asyncio.Event) -> None:
        # Its tasks have to end in the task in which they began.
        async with manager.run():
            ready.set()
            await self._stopping.wait()


def extend(
    settings: Settings, engine: Engine, clock: Clock, random: Random
) -> tuple[Sequence[BaseRoute], Sequence[Service]]:
    """An `Extension`."""
    common = common_of(settings, engine, clock)
    calls = Calls(
        engine,
        clock,
        used=lambda ids: common.usage.asked(ids, clock.now_ms()),
        closed=lambda projects: common.capturing.closed(projects, clock.now_ms()),
    )
    endpoint = McpEndpoint(calls)
    return [Route(PATH, endpoint)], [endpoint]
