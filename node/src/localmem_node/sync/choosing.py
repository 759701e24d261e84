"""Which transport reaches a hub: as the settings say, else as the hub says."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from localmem_node.config import HubSettings
from localmem_node.errors import ConfigError, SyncError
from localmem_node.sync.transport import Connection, Transport, WebSocketTransport
from localmem_protocol.seams import Clock, Random

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

logger = logging.getLogger(__name__)


class Introducing(Transport, Protocol):
    """A transport that can ask the hub how else it may be reached."""

    async def introduce(self, device: str) -> dict[str, Any]:
        """What the hub says of itself. Raises SyncError, RefusedError."""
        ...


def open_transport(hub: HubSettings, clock: Clock, random: Random) -> Transport:
    """The transport for these settings. Raises ConfigError.

    `ws://` and `wss://` are WebSocket; with `http://` and `https://` the hub is asked.
    """
    plain = urlsplit(hub.url).scheme in ("http", "https")
    websocket = WebSocketTransport(hub)
    if hub.transport == "websocket" or (hub.transport == "auto" and not plain):
        return websocket
    if not plain:
        raise ConfigError("hub.transport: http needs a hub.url that begins with https://")
    from localmem_node.sync.http_transport import HttpTransport  # 2 MiB that not all need

    http = HttpTransport(hub, clock, random)
    return http if hub.transport == "http" else AutomaticTransport(websocket, http)


class AutomaticTransport:
    """WebSocket where the hub has it and the way there lets it through, else single requests."""

    def __init__(self, websocket: Transport, http: Introducing) -> None:
        self._websocket = websocket
        self._http = http

    def connect(self, device: str) -> AbstractAsyncContextManager[Connection]:
        """As `Transport` says."""
        return self._connect(device)

    @asynccontextmanager
    async def _connect(self, device: str) -> AsyncIterator[Connection]:
        introduction = await self._http.introduce(device)
        # A hub that names none is older than the choice.
        names = introduction.get("transports", ["websocket"])
        async with AsyncExitStack() as stack:
            if "websocket" in names:
                try:
                    reached = await stack.enter_async_context(self._websocket.connect(device))
                except SyncError as error:
                    if "http" not in names:
                        raise
                    logger.info("no WebSocket to the hub, single requests instead: %s", error)
                    reached = await stack.enter_async_context(self._http.connect(device))
            else:
                reached = await stack.enter_async_context(self._http.connect(device))
            yield reached
