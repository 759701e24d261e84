"""What the server says of itself, as JSON: the answers that need no engine, and no SDK. Pure.

The SDK's server is built from the same. The pump gives these answers itself when the daemon is not
there yet: Codex leaves out the tools of a server that has not said which it has within a second of
its start, and a daemon that has to start first may take longer. Only in the versions that begin with
a handshake, which is what editors speak; a test compares every answer with the SDK's.
"""

from __future__ import annotations

from typing import Any, Final

from localmem_node import __version__
from localmem_node.mcp_server.messages import Message, stated_version
from localmem_node.mcp_server.tools import (
    INSTRUCTIONS,
    MIME,
    NAME,
    RESOURCES,
    TEMPLATES,
    TOOLS,
)

VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Those with a handshake; who asks for another one is answered with the last."""

TOOLS_JSON: Final[list[dict[str, Any]]] = [
    {
        "name": tool.name,
        "title": tool.title,
        "description": tool.description,
        "inputSchema": tool.input_schema,
        "outputSchema": tool.output_schema,
        "annotations": tool.hints,
    }
    for tool in TOOLS
]
RESOURCES_JSON: Final[list[dict[str, Any]]] = [
    {"uri": one.uri, "name": one.name, "description": one.description, "mimeType": MIME}
    for one in RESOURCES
]
TEMPLATES_JSON: Final[list[dict[str, Any]]] = [
    {"uriTemplate": one.uri, "name": one.name, "description": one.description, "mimeType": MIME}
    for one in TEMPLATES
]

_LISTS: Final[dict[str, dict[str, Any]]] = {
    "ping": {},
    "tools/list": {"tools": TOOLS_JSON},
    "resources/list": {"resources": RESOURCES_JSON},
    "resources/templates/list": {"resourceTemplates": TEMPLATES_JSON},
}


def greeting(message: Message) -> dict[str, Any] | None:
    """The result of a request that needs no engine; None for every other one."""
    if message.id is None or stated_version(message) is not None:
        return None
    if message.method == "initialize":
        return _initialized(message.params.get("protocolVersion"))
    return _LISTS.get(message.method or "")


def _initialized(wanted: object) -> dict[str, Any] | None:
    if not isinstance(wanted, str):
        return None  # the SDK says what is wrong with it
    return {
        "protocolVersion": wanted if wanted in VERSIONS else VERSIONS[-1],
        "capabilities": {
            "resources": {"subscribe": False, "listChanged": False},
            "tools": {"listChanged": False},
        },
        "serverInfo": {"name": NAME, "title": NAME, "version": __version__},
        "instructions": INSTRUCTIONS,
    }
