"""Who watches what is recorded, over HTTP.

    POST /v1/watch  {"after"?, "heartbeat_s"?, …}   JSON objects, a line each, until either side ends

The first line is {"watching": {"complete", "after"}}; then come {"event"}, {"heartbeat": true} in quiet times,
and {"error"} as the last line when the daemon ends it. Nothing is queued for a reader: each has a
place in what arrived lately, and one that falls behind it, or takes nothing for a while, is let go.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send

from localmem_node.config import Settings
from localmem_node.daemon.app import Service, read_body
from localmem_node.daemon.worker import Worker
from localmem_node.engine import Engine
from localmem_node.errors import TooManyWatches, WatchTooSlow
from localmem_node.problems import problem, problem_json
from localmem_node.results import event_json
from localmem_node.watch import WATCH_FIELDS, Watch, parse_watch
from localmem_protocol.seams import Clock, Random

logger = logging.getLogger(__name__)

PATH: Final = "/v1/watch"
LINES: Final = "application/x-ndjson"

WATCHES_MAX: Final = 64
"""At a time: each holds a connection. A user has a few editors."""

SEND_S: Final = 30.0
"""How long a reader may leave what it was sent; the system's buffers hold some hundred events."""


class Watches:
    """Implements `Service` and `Ending`."""

    name = "watch"

    def __init__(self, engine: Engine, *, send_s: float = SEND_S) -> None:
        self._engine, self._send_s = engine, send_s
        self._worker = Worker("localmem-watch")
        self._wakers: set[asyncio.Event] = set()
        self._unsubscribe: Callable[[], None] | None = None
        self._ending = False
        self._let_go = 0

    async def start(self) -> None:
        """Begin to hear of what arrives."""
        loop = asyncio.get_running_loop()
        self._unsubscribe = self._engine.arrivals.subscribe(
            lambda: loop.call_soon_threadsafe(self._wake)
        )

    def ending(self) -> None:
        """Say goodbye to everybody: the daemon waits for requests under way."""
        self._ending = True
        self._wake()

    async def stop(self) -> None:
        """End."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        await asyncio.to_thread(self._worker.close)

    def status(self) -> dict[str, Any]:
        """Who watches now, and how many were let go because they did not read."""
        return {"watching": len(self._wakers), "let_go": self._let_go}

    async def watch(self, request: Request) -> Response:
        """POST /v1/watch."""
        selection, after, heartbeat_s = parse_watch(await read_body(request, WATCH_FIELDS))
        if len(self._wakers) >= WATCHES_MAX:
            raise TooManyWatches(f"{WATCHES_MAX} programs watch already; end one")
        waker = asyncio.Event()
        self._wakers.add(waker)  # counted from here on, and heard of before the place is taken
        try:
            watch = await self._worker.run(lambda: Watch(self._engine, selection, after))
        except BaseException:
            self._wakers.discard(waker)
            raise
        return _Lines(
            self._lines(watch, waker, heartbeat_s),
            ended=lambda: self._wakers.discard(waker),
            let_go=self._count_let_go,
            send_s=self._send_s,
        )

    async def _lines(
        self, watch: Watch, waker: asyncio.Event, heartbeat_s: float
    ) -> AsyncIterator[bytes]:
        yield _line({"watching": {"complete": watch.complete, "after": watch.after}})
        while not self._ending:
            waker.clear()
            try:
                data, more = await self._worker.run(lambda: _taken(watch))
            except WatchTooSlow as error:
                self._count_let_go()
                yield _line(problem(error)[1])
                return
            if data:
                yield data
            if more:
                continue
            try:
                async with asyncio.timeout(heartbeat_s):
                    await waker.wait()
            except TimeoutError:
                yield _line({"heartbeat": True})
        yield _line(problem_json("stopping", "the daemon ends; watch again"))

    def _count_let_go(self) -> None:
        self._let_go += 1

    def _wake(self) -> None:
        for waker in self._wakers:
            waker.set()


class _Lines(StreamingResponse):
    """A stream that ends with its reader, and with one that takes nothing."""

    def __init__(
        self,
        lines: AsyncIterator[bytes],
        *,
        ended: Callable[[], None],
        let_go: Callable[[], None],
        send_s: float,
    ) -> None:
        super().__init__(lines, media_type=LINES)
        self._ended, self._let_go, self._send_s = ended, let_go, send_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until either side ends it."""

        async def bounded(message: Message) -> None:
            async with asyncio.timeout(self._send_s):
                await send(message)

        try:
            await super().__call__(scope, receive, bounded)
        except* TimeoutError:
            self._let_go()
            logger.info("one who watched and did not read was let go")
        finally:
            self._ended()


def _taken(watch: Watch) -> tuple[bytes, bool]:
    events, more = watch.take()
    return b"".join(_line({"event": event_json(one)}) for one in events), more


def _line(value: object) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def extend(
    settings: Settings, engine: Engine, clock: Clock, random: Random
) -> tuple[Sequence[BaseRoute], Sequence[Service]]:
    """An `Extension`."""
    watches = Watches(engine)
    return [Route(PATH, watches.watch, methods=["POST"])], [watches]
