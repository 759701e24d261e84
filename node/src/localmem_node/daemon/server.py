"""The daemon's life: lock, store, sockets, requests, and out.

    lock ─▶ engine ─▶ sockets ─▶ daemon.json, hook ─▶ ready ─▶ requests ─▶ stop | SIGTERM | idle
         ◀─ engine.close ◀─ requests finished, services stopped ◀─ both removed ◀────────────┘

After kill -9 only the files are left: the lock is the kernel's, and the next daemon replaces the
rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import uvicorn
from starlette.routing import BaseRoute

from localmem_node import __version__
from localmem_node.config import Settings
from localmem_node.daemon.app import Ending, Service, create_app
from localmem_node.daemon.companion import Companion
from localmem_node.daemon.endpoint import HookEndpoint, read_endpoint, remove_hook, write_hook
from localmem_node.daemon.guard import Guard
from localmem_node.daemon.state import (
    DaemonState,
    daemon_lock_path,
    read_state,
    socket_path,
    state_path,
    write_state,
)
from localmem_node.daemon.watchdog import Watchdog
from localmem_node.engine import Engine
from localmem_node.errors import ConfigError, DaemonError
from localmem_node.files import lock_owner, note_owner, private_directory, try_lock, umask
from localmem_node.heap import trim_heap
from localmem_node.opening import open_engine
from localmem_node.system import SystemClock, SystemRandom
from localmem_protocol.seams import Clock, Random

logger = logging.getLogger(__name__)

LOCK_WAIT_S: Final = 15
"""How long a daemon waits for the one before it to end."""

GRACE_S: Final = 10
"""How long requests under way may take when stopping."""

KEEP_ALIVE_S: Final = 600
"""How long an idle connection is kept; a new one costs a client some 0.2 ms."""

TOKEN_BYTES: Final = 32

PORT_ATTEMPTS: Final = 10
PORT_PAUSE_S: Final = 0.05

Extension = Callable[
    [Settings, Engine, Clock, Random], tuple[Sequence[BaseRoute], Sequence[Service]]
]
"""Adds routes and services to a daemon, once its engine is open."""


class DaemonServer(uvicorn.Server):
    """uvicorn that sleeps until it is told to stop, instead of looking ten times a second."""

    def __init__(
        self,
        config: uvicorn.Config,
        on_started: Callable[[], None],
        on_stopping: Callable[[], None],
    ) -> None:
        """`on_started` is called when requests are accepted, `on_stopping` before they no longer are."""
        super().__init__(config)
        self._on_started, self._on_stopping = on_started, on_stopping
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Finish requests under way, then return from `serve`."""
        self.should_exit = True
        self._stopping.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept, and say so."""
        await super().startup(sockets)
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say so, stop to accept, finish what is under way."""
        self._on_stopping()
        await super().shutdown(sockets)

    async def main_loop(self) -> None:
        """Wait."""
        await self.on_tick(0)
        await self._stopping.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM, SIGINT and SIGHUP stop gracefully, and are not raised again afterwards."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        for number in signals:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)


class Idleness:
    """Knows since when nothing has been asked."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._running = 0
        self._since_s = clock.monotonic_s()

    def on_request(self, change: int) -> None:
        """A request begins (1) or ends (-1)."""
        self._running += change
        self._since_s = self._clock.monotonic_s()

    def remaining_s(self, idle_exit_s: float) -> float:
        """Seconds until it has been idle for that long; 0 or less when it has."""
        if self._running:
            return idle_exit_s
        return self._since_s + idle_exit_s - self._clock.monotonic_s()


def run_daemon(
    settings: Settings,
    *,
    ready: Callable[[], None],
    extensions: Sequence[Extension] = (),
    environment_runtime: str | None = None,
) -> None:
    """Be the daemon until stopped. `ready` is called once, when requests are answered.

    Raises ConfigError, DaemonError, KeyUnavailable and StoreError when it cannot start. The lock is
    given back by the end of the process, so that whoever gets it knows that this one is gone.
    """
    private_directory(settings.runtime_dir)
    clock, random = SystemClock(), SystemRandom()
    _lock(settings, clock)
    engine = open_engine(settings, clock=clock, random=random)
    trim_heap()
    gc.freeze()  # what lives as long as the process need not be looked through again and again
    try:
        path = socket_path(settings, environment_runtime)
        endpoint = _endpoint(settings)
        if endpoint is not None:  # nobody starts another one for an editor that calls by HTTP
            settings = replace(settings, idle_exit_s=0)
        with _listening(path, settings.port, endpoint) as sockets:
            port = sockets[1].getsockname()[1]
            companion = Companion() if endpoint is not None and port == endpoint.port else None
            hook_token = endpoint.token if endpoint else random.token_bytes(TOKEN_BYTES).hex()
            serve = _serve(
                settings,
                engine,
                sockets,
                path,
                hook_token,
                companion,
                ready,
                extensions,
                clock,
                random,
            )
            asyncio.run(serve)
    finally:
        engine.close()


async def _serve(
    settings: Settings,
    engine: Engine,
    sockets: list[socket.socket],
    path: Path,
    hook_token: str,
    companion: Companion | None,
    ready: Callable[[], None],
    extensions: Sequence[Extension],
    clock: Clock,
    random: Random,
) -> None:
    state = DaemonState(
        pid=os.getpid(),
        port=sockets[1].getsockname()[1],
        socket=str(path),
        token=random.token_bytes(TOKEN_BYTES).hex(),
        version=__version__,
    )
    idleness = Idleness(clock)
    added = [extension(settings, engine, clock, random) for extension in extensions]
    services = [service for _, services in added for service in services]
    if companion is not None:
        services.append(companion)
    app = create_app(
        engine,
        clock,
        stop=lambda: server.stop(),
        routes=[route for routes, _ in added for route in routes],
        services=services,
    )
    config = uvicorn.Config(
        Guard(
            app,
            token=state.token,
            hook_token=hook_token,
            on_request=idleness.on_request,
            on_hook=companion.on_hook if companion is not None else None,
        ),
        http="httptools",
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )

    def started() -> None:
        write_state(settings, state)
        write_hook(settings, path, hook_token)
        if companion is not None:
            companion.begin(sockets[1])
        logger.info("ready: pid %d, port %d", state.pid, state.port)
        ready()

    def stopping() -> None:
        for one in services:
            if isinstance(one, Ending):
                one.ending()
        if companion is not None:
            companion.end()
        remove_hook(settings)
        state_path(settings).unlink(missing_ok=True)

    server = DaemonServer(config, started, stopping)
    watch = asyncio.create_task(_watch(server, engine, idleness, settings.idle_exit_s))
    watchdog = Watchdog(asyncio.get_running_loop())
    watchdog.start()
    try:
        await server.serve(sockets)
    finally:
        watchdog.stop()
        watch.cancel()
        stopping()  # it may have failed before that
    logger.info("stopped")


async def _watch(
    server: DaemonServer, engine: Engine, idleness: Idleness, idle_exit_s: float
) -> None:
    """Stop the server after long idleness."""
    while idle_exit_s:
        left = idleness.remaining_s(idle_exit_s)
        encoder = engine.status()["encoder"]
        if left <= 0 and (encoder["problem"] or not encoder["waiting"]):
            logger.info("nothing was asked for %d s", idle_exit_s)
            server.stop()
            return
        await asyncio.sleep(max(left, 0.05))


def _lock(settings: Settings, clock: Clock) -> None:
    """Be the daemon; waits for one that is ending. Raises DaemonError naming the one that is not."""
    path = daemon_lock_path(settings)
    deadline = clock.monotonic_s() + LOCK_WAIT_S
    while (lock := try_lock(path)) is None:
        owner, state = lock_owner(path), read_state(settings)
        serves = state is not None and state.pid == owner
        if serves or clock.monotonic_s() > deadline:
            raise DaemonError(f"process {owner} is the daemon already; stop it: localmem down")
        time.sleep(0.05)
    note_owner(lock)


def _endpoint(settings: Settings) -> HookEndpoint | None:
    """What the editors were told; a file that is not to be used is no reason not to start."""
    try:
        return read_endpoint(settings)
    except ConfigError as error:
        logger.error("%s; HTTP hooks do not reach this daemon", error)
        return None


@contextlib.contextmanager
def _listening(
    path: Path, port: int, endpoint: HookEndpoint | None
) -> Iterator[list[socket.socket]]:
    """The Unix socket and the loopback socket, in this order; the path is removed at the end."""
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Named TCP, so that asyncio sends small answers at once: else each waits 40 ms for the other side.
    loopback = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    with unix, loopback:
        loopback.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind_loopback(loopback, port, endpoint)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()  # of a daemon that was killed: the lock says that none is alive
        try:
            with umask(0o177):
                unix.bind(str(path))
        except OSError as error:
            raise ConfigError(f"{path}: no socket can be made here: {error.strerror}") from None
        try:
            yield [unix, loopback]
        finally:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def _bind_loopback(loopback: socket.socket, port: int, endpoint: HookEndpoint | None) -> None:
    """To the port that is set, or the editors', or any. Raises ConfigError for the first alone."""
    if not port and endpoint is not None:
        if _bound_in_time(loopback, endpoint.port):
            return
        # Whoever has it is not us. The status tells, and everything else works.
        logger.error("port %d of hooks.json is held by another program", endpoint.port)
    try:
        loopback.bind(("127.0.0.1", port))
    except OSError as error:
        raise ConfigError(
            f"daemon.port: {port} cannot be used ({error.strerror}); choose another, or 0"
        ) from None


def _bound_in_time(loopback: socket.socket, port: int) -> bool:
    """Whether the port could be had: the breaker of a daemon that was killed gives it back in a moment."""
    for _ in range(PORT_ATTEMPTS):
        with contextlib.suppress(OSError):
            loopback.bind(("127.0.0.1", port))
            return True
        time.sleep(PORT_PAUSE_S)
    return False
