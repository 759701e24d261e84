"""Running the application under uvicorn: one process, one port, an orderly end.

With a certificate it speaks TLS, and looks at the files of that again on SIGHUP.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

import uvicorn
from starlette.applications import Starlette

from localmem_hub.errors import ConfigError, ListenError
from localmem_hub.heads import PatientProtocol
from localmem_hub.limits import (
    GOODBYE_SECONDS,
    KEEP_ALIVE_SECONDS,
    STOP_SECONDS,
    STOP_STEPS,
)
from localmem_hub.tls import Certificate
from localmem_hub.wire import WireProtocol

log: Final = logging.getLogger(__name__)
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

SWITCH_SECONDS: Final = 0.0005
"""How long the writer's thread may keep the event loop waiting for the interpreter, each time that it
came back from the system; Python's own 5 ms is as long as a commit."""

GARBAGE_OBJECTS: Final = 20_000
"""New objects before circles among them are looked for. Rooms make many that stay, and Python's own
700 has it look at them again and again."""


class Beside(uvicorn.Server):
    """A second application, on a listener of its own, for as long as the hub runs."""

    def __init__(self, app: Starlette, listener: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=PatientProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._listener = listener

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are the hub's."""
        yield

    async def attend(self) -> None:
        """Serve until `should_exit`."""
        await self.serve([self._listener])


class HubServer(uvicorn.Server):
    """A uvicorn server that says when it listens, and stops the hub before its connections."""

    def __init__(
        self,
        app: Starlette,
        announce: Callable[[], None],
        certificate: Certificate | None = None,
        beside: Beside | None = None,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=PatientProtocol,
                ws=WireProtocol,
                log_config=None,
                access_log=False,  # the endpoint has a line per connection, without query strings
                server_header=False,
                proxy_headers=False,  # it would believe whoever connects from loopback
                ws_per_message_deflate=False,  # sealed batches do not shrink
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=stop_seconds / STOP_STEPS,  # type: ignore[arg-type]  # it may
            )
        )
        if certificate is not None:
            self.config.load()
            self.config.ssl = certificate.context
        self._app = app
        self._announce = announce
        self._beside = beside
        self._serving_beside: asyncio.Task[None] | None = None
        self._certificate = certificate
        self._stop_seconds = stop_seconds

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """End in order on SIGTERM and SIGINT; uvicorn's own raises them again afterwards."""
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: stop in order, or be ended when that takes too long.

        A thread that waits for a database which does not answer would keep the process for ever. What it
        was to store is acknowledged to nobody.
        """
        if not self.should_exit:
            watchdog = threading.Timer(self._stop_seconds, _end)
            watchdog.daemon = True
            watchdog.start()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        if self._certificate is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._renew)
        await super().startup(sockets)
        if self.started:
            if self._beside is not None:
                self._serving_beside = asyncio.create_task(self._beside.attend())
            self._announce()

    def _renew(self) -> None:
        assert self._certificate is not None
        try:
            self._certificate.reload()
        except ConfigError as error:
            log.error("the certificate stays as it was: %s", error)
        else:
            log.info("the certificate was read again")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let nobody in, stop the hub, then do the rest."""
        for server in self.servers:
            server.close()
        await self._app.state.hub.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._stop_seconds / STOP_STEPS):
                await asyncio.gather(self._goodbyes(), self._end_beside())
        self._app.state.hub.connections.shutdown()
        await super().shutdown(sockets)

    async def _end_beside(self) -> None:
        if self._beside is not None and self._serving_beside is not None:
            self._beside.should_exit = True
            await self._serving_beside

    async def _goodbyes(self) -> None:
        """Wait for those who were told why it ends to say that they heard it.

        A socket that is closed while something unread is on it takes back what was sent last.
        """
        while self._app.state.hub.connections.ending:  # noqa: ASYNC110  # it is over soon
            await asyncio.sleep(GOODBYE_SECONDS)


def run(
    app: Starlette,
    host: str,
    port: int,
    announce: Callable[[str, int], None],
    certificate: Certificate | None = None,
    beside: Beside | None = None,
    stop_seconds: float = STOP_SECONDS,
) -> None:
    """Serve until SIGTERM or SIGINT; `announce(url, port)` once it listens. Raises ListenError.

    After a signal the process has `stop_seconds`, or ends with exit code 1.
    """
    listener = listen(host, port)
    address, bound = listener.getsockname()[:2]
    name = f"[{address}]" if ":" in address else address
    scheme = "ws" if certificate is None else "wss"
    url = f"{scheme}://{name}:{bound}"
    server = HubServer(app, lambda: announce(url, bound), certificate, beside, stop_seconds)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # its lines hold query strings
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, 20, 50)
    asyncio.run(server.serve([listener]))


def _end() -> None:
    log.error("stopping took too long; what was not stored by now was not acknowledged")
    logging.shutdown()
    os._exit(1)


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
