"""The server's side of a WebSocket: ASGI up to the end of the handshake, and less from then on.

ASGI takes one message at a time in and out, by a task for each connection, and nearly all that a hub
does is to tell many connections many small things at one moment. So uvicorn and Starlette do what they
are good at, the handshake, its headers and its route; then the application takes the connection over
(`connection.py`), and its ASGI call is over. A server that can do so offers it in the connection's
scope, as an ASGI extension.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from localmem_hub.connection import Connection

EXTENSION: Final = "localmem.wire"


class Wire(Protocol):
    """A connection that has been accepted, and can be taken over."""

    def hand_over(self, take: Callable[[asyncio.Transport], Connection]) -> Connection:
        """Let the connection that `take` makes have the transport. To be called once, without an await
        after accepting."""
        ...


def wire_of(scope: Mapping[str, Any]) -> Wire:
    """The wire of an ASGI connection. Raises RuntimeError under a server that has none."""
    wire = scope.get("extensions", {}).get(EXTENSION)
    if wire is None:
        raise RuntimeError("WebSockets are served by `localmem-hub serve` alone")
    return cast(Wire, wire)


class WireProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, with that extension."""

    def handle_connect(self, event: Request) -> None:
        """A handshake: say what is offered here."""
        super().handle_connect(event)
        if not self.close_sent:  # it was one, and its task begins after this
            cast("dict[str, object]", self.scope.setdefault("extensions", {}))[EXTENSION] = self

    def start_keepalive(self) -> None:
        """Not here: who takes over sees to that."""

    def hand_over(self, take: Callable[[asyncio.Transport], Connection]) -> Connection:
        """As `Wire` says."""
        connection = take(self.transport)
        self.transport.set_protocol(connection)
        self.connections.discard(self)
        # Or the end of the ASGI call, which comes next, would close the transport.
        self.close_timer = self.loop.call_later(0, _nothing)
        self.scope.get("extensions", {}).pop(EXTENSION, None)
        return connection


def _nothing() -> None:
    """There is nothing to be done."""
