"""The server of the official SDK around `calls`: its types, and which thread does what.

Importing this costs what the SDK costs (`python -m bench mcp` prints it), so nothing imports it
before somebody asks over MCP.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError

from localmem_node import __version__
from localmem_node.errors import NodeError, QueryError
from localmem_node.mcp_server.calls import Answer, Calls
from localmem_node.mcp_server.greeting import RESOURCES_JSON, TEMPLATES_JSON, TOOLS_JSON
from localmem_node.mcp_server.scope import Caller, parse_caller
from localmem_node.mcp_server.tools import (
    INSTRUCTIONS,
    MIME,
    NAME,
    TOOLS,
    ToolName,
)
from localmem_node.problems import one_line
from localmem_protocol.errors import ProtocolError

_Result = TypeVar("_Result")
_Context = ServerRequestContext[Any, Any]

BODY_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes of a message; the longest that is right has one snippet, each character escaped."""

logger = logging.getLogger(__name__)


class Threads(Protocol):
    """Where the engine's work is done, off the event loop."""

    async def run(self, tool: ToolName | None, work: Callable[[], _Result]) -> _Result:
        """What `work` returns; `tool` is None for resources. Raises what it raises."""
        ...


def make_manager(calls: Calls, threads: Threads) -> StreamableHTTPSessionManager:
    """What serves `/mcp`: an answer to each request, and no session between them.

    Host, Origin and token are the guard's affair.
    """
    # It says of every request that it ended.
    logging.getLogger("mcp").setLevel(logging.WARNING)
    return StreamableHTTPSessionManager(
        make_server(calls, threads),
        json_response=True,
        stateless=True,
        max_request_body_size=BODY_BYTES_MAX,
    )


def make_server(calls: Calls, threads: Threads) -> Server[Any]:
    """The server: tools and resources."""
    handlers = _Handlers(calls, threads)
    server: Server[Any] = Server(
        NAME,
        version=__version__,
        title=NAME,
        instructions=INSTRUCTIONS,
        get_tool_input_schema=_SCHEMAS.get,
        on_list_tools=handlers.list_tools,
        on_call_tool=handlers.call_tool,
        on_list_resources=handlers.list_resources,
        on_list_resource_templates=handlers.list_templates,
        on_read_resource=handlers.read_resource,
    )
    server.middleware.clear()  # traces of every call, for collectors that a daemon does not have
    return server


_SCHEMAS: Final[Mapping[str, Mapping[str, Any]]] = {tool.name: tool.input_schema for tool in TOOLS}

_NAMES: Final[Mapping[str, ToolName]] = {tool.name: tool.name for tool in TOOLS}

_TOOLS: Final = types.ListToolsResult.model_validate({"tools": TOOLS_JSON})
_RESOURCES: Final = types.ListResourcesResult.model_validate({"resources": RESOURCES_JSON})
_TEMPLATES: Final = types.ListResourceTemplatesResult.model_validate(
    {"resourceTemplates": TEMPLATES_JSON}
)


class _Handlers:
    def __init__(self, calls: Calls, threads: Threads) -> None:
        self._calls, self._threads = calls, threads

    async def list_tools(self, context: _Context, params: object) -> types.ListToolsResult:
        return _TOOLS

    async def list_resources(self, context: _Context, params: object) -> types.ListResourcesResult:
        return _RESOURCES

    async def list_templates(
        self, context: _Context, params: object
    ) -> types.ListResourceTemplatesResult:
        return _TEMPLATES

    async def call_tool(
        self, context: _Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        name = _NAMES.get(params.name)
        if name is None:
            known = ", ".join(_NAMES)
            raise MCPError(types.INVALID_PARAMS, f"no tool {params.name[:40]!r}; there are {known}")
        caller = _caller(context)
        try:
            answer = await self._threads.run(
                name, lambda: self._calls.call(name, params.arguments, caller)
            )
        except (NodeError, ProtocolError) as error:
            return _failed(one_line(str(error)))
        except Exception:
            logger.exception("tool %s", name)
            return _failed("internal error; the daemon's log has more: localmem doctor")
        return _succeeded(answer)

    async def read_resource(
        self, context: _Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        uri, caller = str(params.uri), _caller(context)
        try:
            text = await self._threads.run(None, lambda: self._calls.read(uri, caller))
        except QueryError as error:
            raise MCPError(types.INVALID_PARAMS, one_line(str(error)), {"uri": uri}) from None
        except (NodeError, ProtocolError) as error:
            raise MCPError(types.INTERNAL_ERROR, one_line(str(error))) from None
        contents = types.TextResourceContents(uri=uri, mime_type=MIME, text=text)
        return types.ReadResourceResult(contents=[contents])


def _caller(context: _Context) -> Caller:
    request = context.request
    return Caller() if request is None else parse_caller(request.headers)


def _succeeded(answer: Answer) -> types.CallToolResult:
    return types.CallToolResult(
        content=[types.TextContent(text=answer.text)], structured_content=answer.structured
    )


def _failed(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)
