"""Running the application under uvicorn: one process, one port, an orderly end."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.applications import Starlette

from localmem_hub.errors import ListenError
from localmem_hub.heads import PatientProtocol
from localmem_hub.limits import DRAIN_SECONDS, KEEP_ALIVE_SECONDS, WEBSOCKET_BYTES_MAX
from localmem_hub.wire import WireProtocol

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

SWITCH_SECONDS: Final = 0.0005
"""How long the writer's thread may keep the event loop waiting for the interpreter, each time that it
came back from the system; Python's own 5 ms is as long as a commit."""

GARBAGE_OBJECTS: Final = 20_000
"""New objects before circles among them are looked for. Rooms make many that stay, and Python's own
700 has it look at them again and again."""


class HubServer(uvicorn.Server):
    """A uvicorn server that says when it listens, and stops the hub before its connections."""

    def __init__(self, app: Starlette, announce: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=PatientProtocol,
                ws=WireProtocol,
                log_config=None,
                access_log=False,  # the endpoint has a line per connection, without query strings
                server_header=False,
                ws_max_size=WEBSOCKET_BYTES_MAX,
                ws_per_message_deflate=False,  # sealed batches do not shrink
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=int(DRAIN_SECONDS),
            )
        )
        self._app = app
        self._announce = announce

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """End in order on SIGTERM and SIGINT; uvicorn's own raises them again afterwards."""
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let nobody in, stop the hub, then do the rest."""
        for server in self.servers:
            server.close()
        await self._app.state.hub.stop()
        await super().shutdown(sockets)


def run(app: Starlette, host: str, port: int, announce: Callable[[str, int], None]) -> None:
    """Serve until SIGTERM or SIGINT; `announce(url, port)` once it listens. Raises ListenError."""
    listener = listen(host, port)
    address, bound = listener.getsockname()[:2]
    name = f"[{address}]" if ":" in address else address
    server = HubServer(app, lambda: announce(f"ws://{name}:{bound}", bound))
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # its lines hold query strings
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, 20, 50)
    asyncio.run(server.serve([listener]))


def listen(host: str, port: int) -> socket.socket:
    """A bound socket on the first address of a host. Raises ListenError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # Not create_server(): it names no protocol, and then asyncio leaves Nagle's delays on.
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ListenError(f"cannot listen on {host} port {port}: {error}") from None
    return listener
