"""The HTTP interface over an engine, the same on the Unix socket and on loopback.

    POST /v1/record {"events": […], "folder"?}         {"recorded": […], "failed": […]}
    POST /v1/query  {"query", "k"?, "explain"?, …}     {"events": […], "took_ms"}
    POST /v1/recent {"k"?, …}                          {"events": […], "took_ms"}
    POST /v1/export {"cursor"?, "ids"?, …}             {"device", "events": […], "cursor"}
    POST /v1/import {"events": […]}                    {"new", "known", "too_old", "refused", …}
    GET  /v1/status                                    what there is
    POST /v1/stop                                      {"stopping": true}
    GET  /healthz                                      {"ok": true}, without a token

"…" stands for what narrows a call: "project", "file", "kind", "tool", "device", "session", "since",
"before" (`selection.Selection`).

Engine work runs off the event loop: queries in one thread of their own, which is all that two cores
and one encoder have use for; writes in a few, so that their syncs can be shared. One exception: a
short question to a store of ordinary size, when nothing else is going on, is answered where it
arrived: nobody waits for the loop in these few milliseconds, and the way to a thread and back costs
0.2 ms (two runs of 2,000 queries, asked either way by turns: a median of 1.51 times the encoder's
time with it, 1.41 without).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from typing import Any, Final, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from localmem_node import __version__, service
from localmem_node.daemon.worker import Worker
from localmem_node.engine import Engine
from localmem_node.errors import NodeError, QueryError
from localmem_node.problems import problem, problem_json
from localmem_protocol.errors import EventError, ProtocolError
from localmem_protocol.seams import Clock

logger = logging.getLogger(__name__)

WRITE_THREADS: Final = 4

INLINE_EVENTS_MAX: Final = 20_000
"""Events up to which a search takes the event loop no longer than a millisecond or two."""

INLINE_CHARACTERS_MAX: Final = 300
"""Length up to which a question is encoded in some 10 ms."""

_HTTP_CODES: Final = {404: "not_found", 405: "method_not_allowed"}


class Service(Protocol):
    """Something that runs beside the requests for as long as the daemon does."""

    @property
    def name(self) -> str:
        """Its key in the status."""
        ...

    async def start(self) -> None:
        """Begin; returns at once."""
        ...

    async def stop(self) -> None:
        """End, and leave nothing behind."""
        ...

    def status(self) -> dict[str, Any]:
        """How it is, for people and for JSON."""
        ...


class Handlers:
    """The routes, bound to what they work on."""

    def __init__(
        self, engine: Engine, clock: Clock, services: Sequence[Service], stop: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._services = services
        self._stop = stop
        self._started_s = clock.monotonic_s()
        self._queries = Worker("localmem-query")
        self._writes = [Worker(f"localmem-write-{number}") for number in range(WRITE_THREADS)]
        self._turns = cycle(self._writes)
        self._under_way = 0

    def routes(self) -> list[BaseRoute]:
        """Every route of the module's table."""
        return [
            Route("/v1/query", self.query, methods=["POST"]),
            Route("/v1/record", self.record, methods=["POST"]),
            Route("/v1/recent", self.recent, methods=["POST"]),
            Route("/v1/export", self.export, methods=["POST"]),
            Route("/v1/import", self.import_events, methods=["POST"]),
            Route("/v1/status", self.status, methods=["GET"]),
            Route("/v1/stop", self.stop, methods=["POST"]),
            Route("/healthz", self.health, methods=["GET"]),
        ]

    def close(self) -> None:
        """Wait for what is under way."""
        for worker in (self._queries, *self._writes):
            worker.close()

    async def query(self, request: Request) -> Response:
        """POST /v1/query."""
        fields = await read_body(request, service.QUERY_FIELDS)
        text = fields.get("query", "")
        short = isinstance(text, str) and len(text) <= INLINE_CHARACTERS_MAX
        inline = short and not self._under_way and len(self._engine) <= INLINE_EVENTS_MAX
        return await self._timed(
            None if inline else self._queries,
            lambda: service.query(self._engine, fields),
        )

    async def record(self, request: Request) -> Response:
        """POST /v1/record."""
        fields = await read_body(request, ("events", "folder"))
        events, folder = fields.get("events"), fields.get("folder")
        return await self._run(
            next(self._turns),
            lambda: msgspec.json.encode(service.record(self._engine, events, folder)),
        )

    async def recent(self, request: Request) -> Response:
        """POST /v1/recent."""
        fields = await read_body(request, service.RECENT_FIELDS)
        return await self._timed(self._queries, lambda: service.recent(self._engine, fields))

    async def export(self, request: Request) -> Response:
        """POST /v1/export."""
        fields = await read_body(request, service.EXPORT_FIELDS)
        return await self._run(  # not in the thread of the queries, which go first
            next(self._turns),
            lambda: msgspec.json.encode(service.export_page(self._engine, fields)),
        )

    async def import_events(self, request: Request) -> Response:
        """POST /v1/import."""
        fields = await read_body(request, ("events",))
        return await self._run(
            next(self._turns),
            lambda: msgspec.json.encode(service.import_events(self._engine, fields.get("events"))),
        )

    async def status(self, request: Request) -> Response:
        """GET /v1/status."""
        daemon = {
            "version": __version__,
            "uptime_s": round(self._clock.monotonic_s() - self._started_s, 1),
        }
        services = {one.name: one.status() for one in self._services}
        return await self._run(
            self._queries,
            lambda: msgspec.json.encode(
                self._engine.status() | {"daemon": daemon, "services": services}
            ),
        )

    async def stop(self, request: Request) -> Response:
        """POST /v1/stop: answers, then everything under way is finished."""
        self._stop()
        return json_response({"stopping": True})

    async def health(self, request: Request) -> Response:
        """GET /healthz."""
        return json_response({"ok": True})

    async def _timed(self, worker: Worker | None, work: Callable[[], dict[str, Any]]) -> Response:
        began = self._clock.monotonic_s()

        def timed() -> bytes:
            answer = work()
            answer["took_ms"] = round(1000 * (self._clock.monotonic_s() - began), 3)
            return msgspec.json.encode(answer)

        if worker is None:
            return Response(timed(), media_type="application/json")
        return await self._run(worker, timed)

    async def _run(self, worker: Worker, work: Callable[[], bytes]) -> Response:
        self._under_way += 1
        try:
            return Response(await worker.run(work), media_type="application/json")
        finally:
            self._under_way -= 1


def create_app(
    engine: Engine,
    clock: Clock,
    *,
    stop: Callable[[], None],
    routes: Sequence[BaseRoute] = (),
    services: Sequence[Service] = (),
) -> Starlette:
    """The application, without the guard; `stop` is called when a client asks for the end.

    Services start before the first request and stop after the last.
    """
    handlers = Handlers(engine, clock, services, stop)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.callback(handlers.close)
            for one in services:
                await one.start()
                stack.push_async_callback(one.stop)
            yield

    return Starlette(
        routes=[*handlers.routes(), *routes],
        lifespan=lifespan,
        exception_handlers={
            HTTPException: _on_http_error,
            NodeError: _on_error,
            ProtocolError: _on_error,
            Exception: _on_error,
        },
    )


def json_response(value: object, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def read_body(request: Request, known: Sequence[str]) -> dict[str, Any]:
    """The JSON object of a request. Raises EventError naming what is wrong."""
    try:
        fields = msgspec.json.decode(await request.body())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EventError("", f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise EventError("", "the body is not a JSON object")
    unknown = service.unknown_field(fields, known)
    if unknown is not None:
        raise QueryError(str(unknown)[:40], f"unknown field; known: {', '.join(known)}")
    return fields


def _on_error(request: Request, error: Exception) -> Response:
    status, body = problem(error)
    if status >= 500 and isinstance(error, NodeError):  # others are logged by the server
        logger.error("%s %s: %s", request.method, request.url.path, error)
    return json_response(body, status)


def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(error.status_code, "bad_request")
    return json_response(problem_json(code, error.detail), error.status_code)
