"""How frames reach a hub: the `Transport` seam, and WebSocket behind it.

`http_transport` has the other way, `choosing` which is taken.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol
from urllib.parse import SplitResult, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from localmem_node.config import HubSettings
from localmem_node.errors import ConfigError, SyncError
from localmem_protocol.errors import RefusedError
from localmem_protocol.frames import PROTOCOL, is_permanent
from localmem_protocol.limits import FRAME_BYTES_MAX

CONNECT_S: Final = 10.0
MASK_BYTES: Final = 4
"""RFC 6455, 5.3: what a client sends is masked."""


class Connection(Protocol):
    """An open connection, or what stands for one over single requests."""

    @property
    def sent(self) -> int:
        """Bytes of what was sent, headers of messages or requests included."""
        ...

    @property
    def received(self) -> int:
        """Bytes of what came, counted the same way."""
        ...

    async def send(self, frame: bytes) -> None:
        """Send a frame. Raises SyncError when the connection is gone."""
        ...

    async def receive(self) -> bytes:
        """The next frame. Raises SyncError, RefusedError when the hub closed with a code, and
        FrameError for what is no answer. Nothing more is read before the next call."""
        ...

    async def settle(self, *, ask: bool) -> None:
        """Return when what was sent is answered, and the answers are taken, as far as it can be told
        here; with `ask`, when the hub was also asked for news. At once where it speaks by itself."""
        ...


class Transport(Protocol):
    """A way to reach a hub."""

    def connect(self, device: str) -> AbstractAsyncContextManager[Connection]:
        """Connect as this device. Raises SyncError, RefusedError."""
        ...


class WebSocketConnection:
    """A `Connection` over WebSocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.sent = 0
        self.received = 0

    async def send(self, frame: bytes) -> None:
        """As `Connection` says."""
        try:
            await self._socket.send(frame)
        except ConnectionClosed as error:
            raise _lost(error) from None
        self.sent += _header_bytes(len(frame)) + MASK_BYTES + len(frame)

    async def receive(self) -> bytes:
        """As `Connection` says."""
        try:
            frame = await self._socket.recv(decode=False)
        except ConnectionClosed as error:
            raise _lost(error) from None
        self.received += _header_bytes(len(frame)) + len(frame)
        return frame

    async def settle(self, *, ask: bool) -> None:
        """As `Connection` says: acknowledgements and news come by themselves."""


class WebSocketTransport:
    """A `Transport` to `ws://` or `wss://` (or `http://`, `https://`) hubs."""

    def __init__(self, hub: HubSettings) -> None:
        """Raises ConfigError for a URL that is none."""
        self._url = sync_url(hub.url, hub.pool)
        self._token = hub.token

    @asynccontextmanager
    async def connect(self, device: str) -> AsyncIterator[Connection]:
        """As `Transport` says."""
        opening = connect(
            self._url,
            subprotocols=[Subprotocol(PROTOCOL)],
            additional_headers={
                "Authorization": f"Bearer {self._token}",
                "X-Localmem-Device": device,
            },
            compression=None,  # what is sent is compressed and sealed already
            max_size=FRAME_BYTES_MAX,
            open_timeout=CONNECT_S,
            user_agent_header=None,
        )
        try:
            socket = await opening
        except InvalidStatus as error:
            status = error.response.status_code
            raise SyncError(f"the hub answered HTTP {status}; is {self._url} a hub?") from None
        except (OSError, InvalidHandshake, ConnectionClosed, EOFError) as error:
            reason = str(error) or type(error).__name__
            raise SyncError(f"the hub cannot be reached at {self._url}: {reason}") from None
        try:
            yield WebSocketConnection(socket)
        finally:
            await socket.close()


def http_url(url: str, pool: str) -> str:
    """The HTTP address of a pool at a hub. Raises ConfigError as `sync_url` does."""
    return "http" + sync_url(url, pool).removeprefix("ws")


def sync_url(url: str, pool: str) -> str:
    """The WebSocket address of a pool at a hub. Raises ConfigError naming hub.url or hub.pool."""
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    plain = url.isprintable() and not parts.query and not parts.fragment
    if scheme is None or not parts.hostname or not plain or not _has_port(parts):
        raise ConfigError(f"hub.url: must be like wss://hub.example.org, not {url[:80]!r}")
    if parts.username or parts.password:
        raise ConfigError("hub.url: holds a password; the token goes into hub.token_file")
    if not pool or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in pool):
        raise ConfigError("hub.pool: must be letters, digits, '-', '_' and '.'")
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}/v1/sync/{pool}"


def _has_port(parts: SplitResult) -> bool:
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


def _lost(error: ConnectionClosed) -> Exception:
    close = error.rcvd
    if close is not None and 4400 <= close.code < 4600:
        return RefusedError(close.code, is_permanent(close.code), close.reason)
    return SyncError("the connection to the hub was lost")


def _header_bytes(size: int) -> int:
    """RFC 6455, 5.2: 2 bytes, and 2 or 8 more for a longer length."""
    return 2 if size < 126 else 4 if size < 65536 else 10
