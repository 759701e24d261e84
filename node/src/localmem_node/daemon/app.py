"""The HTTP interface over an engine, the same on the Unix socket and on loopback.

    POST /v1/record {"events": […], "folder"?}         {"recorded": […], "failed": […]}
    POST /v1/query  {"query", "k"?, "explain"?, …}     {"events": […], "took_ms"}
    POST /v1/recent {"k"?, …}                          {"events": […], "took_ms"}
    POST /v1/timeline {"id"?, "k"?, …}                 {"events": […]}
    POST /v1/export {"cursor"?, "ids"?, …}             {"device", "events": […], "cursor"}
    POST /v1/import {"events": […]}                    {"new", "known", "too_old", "refused", …}
    GET  /v1/status                                    what there is
    POST /v1/stop                                      {"stopping": true}
    GET  /healthz                                      {"ok": true}, without a token
    GET  /openapi.json                                 all of this, described

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

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from typing import Any, Final, Protocol, runtime_checkable

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from localmem_node import __version__, service
from localmem_node.daemon import openapi
from localmem_node.daemon.worker import Worker
from localmem_node.engine import Engine
from localmem_node.errors import NodeError, QueryError
from localmem_node.problems import problem, problem_json
from localmem_protocol.errors import EventError, ProtocolError
from localmem_protocol.seams import Clock

logger = logging.getLogger(__name__)

WRITE_THREADS: Final = 4

QUERY_PATH: Final = "/v1/query"

JSON: Final = "application/json"

INLINE_EVENTS_MAX: Final = 150_000
"""Events up to which a search takes the event loop no longer than some milliseconds."""

INLINE_CHARACTERS_MAX: Final = 300
"""Length up to which a question is encoded in some 10 ms."""

_HTTP_CODES: Final = {404: "not_found", 405: "method_not_allowed"}


def _number(text: str) -> float:
    """A number with a point or an exponent: a whole one is the same as without, as JSON has it."""
    value = float(text)
    return int(value) if value.is_integer() else value


_DECODER: Final = msgspec.json.Decoder(float_hook=_number)


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


@runtime_checkable
class Ending(Protocol):
    """A service with requests that end only when they are told to."""

    def ending(self) -> None:
        """The daemon is about to wait for the requests under way."""
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
            Route(QUERY_PATH, self.query, methods=["POST"]),
            Route("/v1/record", self.record, methods=["POST"]),
            Route("/v1/recent", self.recent, methods=["POST"]),
            Route("/v1/timeline", self.timeline, methods=["POST"]),
            Route("/v1/export", self.export, methods=["POST"]),
            Route("/v1/import", self.import_events, methods=["POST"]),
            Route("/v1/status", self.status, methods=["GET"]),
            Route("/v1/stop", self.stop, methods=["POST"]),
            Route("/healthz", self.health, methods=["GET"]),
            *openapi.routes(),
        ]

    def close(self) -> None:
        """Wait for what is under way."""
        for worker in (self._queries, *self._writes):
            worker.close()

    async def query(self, request: Request) -> Response:
        """POST /v1/query."""
        return Response(await self.answer(await request.body()), media_type=JSON)

    async def answer(self, body: bytes) -> bytes:
        """A query, from body to body."""
        fields = parse_body(body, service.QUERY_FIELDS)
        text = fields.get("query", "")
        short = isinstance(text, str) and len(text) <= INLINE_CHARACTERS_MAX
        small = short and len(self._engine) <= INLINE_EVENTS_MAX
        # A model may take many seconds to load, and the watchdog counts them.
        inline = small and self._engine.is_warm and not self._under_way
        work = self._timed(lambda: service.query(self._engine, fields))
        return work() if inline else await self._run(self._queries, work)

    async def record(self, request: Request) -> Response:
        """POST /v1/record."""
        fields = await read_body(request, ("events", "folder"))
        events, folder = fields.get("events"), fields.get("folder")
        return await self._respond(
            lambda: service.record(self._engine, events, folder), next(self._turns)
        )

    async def recent(self, request: Request) -> Response:
        """POST /v1/recent."""
        fields = await read_body(request, service.RECENT_FIELDS)
        work = self._timed(lambda: service.recent(self._engine, fields))
        return Response(await self._run(self._queries, work), media_type=JSON)

    async def timeline(self, request: Request) -> Response:
        """POST /v1/timeline."""
        fields = await read_body(request, service.TIMELINE_FIELDS)
        return await self._respond(lambda: service.timeline(self._engine, fields), self._queries)

    async def export(self, request: Request) -> Response:
        """POST /v1/export."""
        fields = await read_body(request, service.EXPORT_FIELDS)
        return await self._respond(  # not in the thread of the queries, which go first
            lambda: service.export_page(self._engine, fields), next(self._turns)
        )

    async def import_events(self, request: Request) -> Response:
        """POST /v1/import."""
        fields = await read_body(request, ("events",))
        return await self._respond(
            lambda: service.import_events(self._engine, fields.get("events")), next(self._turns)
        )

    async def status(self, request: Request) -> Response:
        """GET /v1/status."""
        daemon = {
            "version": __version__,
            "uptime_s": round(self._clock.monotonic_s() - self._started_s, 1),
        }
        services = {one.name: one.status() for one in self._services}
        return await self._respond(
            lambda: self._engine.status() | {"daemon": daemon, "services": services}, self._queries
        )

    async def stop(self, request: Request) -> Response:
        """POST /v1/stop: answers, then everything under way is finished."""
        self._stop()
        return json_response({"stopping": True})

    async def health(self, request: Request) -> Response:
        """GET /healthz."""
        return json_response({"ok": True})

    def _timed(self, work: Callable[[], dict[str, Any]]) -> Callable[[], bytes]:
        began = self._clock.monotonic_s()

        def timed() -> bytes:
            answer = work()
            answer["took_ms"] = round(1000 * (self._clock.monotonic_s() - began), 3)
            return msgspec.json.encode(answer)

        return timed

    async def _run(self, worker: Worker, work: Callable[[], bytes]) -> bytes:
        self._under_way += 1
        try:
            return await worker.run(work)
        finally:
            self._under_way -= 1

    async def _respond(self, work: Callable[[], dict[str, Any]], worker: Worker) -> Response:
        return Response(
            await self._run(worker, lambda: msgspec.json.encode(work())), media_type=JSON
        )


class Direct:
    """ASGI: queries go straight to the handler, all else to `app`.

    Routing, its middleware and a request object take longer than reading and writing the messages
    themselves. Answers and errors are the same on either way.
    """

    def __init__(self, app: ASGIApp, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        self._app, self._answer = app, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] != QUERY_PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body, complete = bytearray(), False
        while not complete:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            complete = not message.get("more_body", False)
        status, failed = 200, None
        try:
            data = await self._answer(bytes(body))
        except (NodeError, ProtocolError) as error:
            status, data = _failure("POST", QUERY_PATH, error)
        except Exception as error:
            failed = error
            status, data = _failure("POST", QUERY_PATH, error)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": data})
        if failed is not None:
            raise failed  # for the server's log


def create_app(
    engine: Engine,
    clock: Clock,
    *,
    stop: Callable[[], None],
    routes: Sequence[BaseRoute] = (),
    services: Sequence[Service] = (),
) -> ASGIApp:
    """The application, without the guard; `stop` is called when a client asks for the end.

    Services start before the first request and stop after the last.
    """
    handlers = Handlers(engine, clock, services, stop)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            # In a thread: the watchdog takes a loop that waits for one that hangs.
            stack.push_async_callback(asyncio.to_thread, handlers.close)
            for one in services:
                await one.start()
                stack.push_async_callback(one.stop)
            yield

    app = Starlette(
        routes=[*handlers.routes(), *routes],
        lifespan=lifespan,
        exception_handlers={
            HTTPException: _on_http_error,
            NodeError: _on_error,
            ProtocolError: _on_error,
            Exception: _on_error,
        },
    )
    return Direct(app, handlers.answer)


def json_response(value: object, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(value), status, media_type=JSON)


async def read_body(request: Request, known: Sequence[str]) -> dict[str, Any]:
    """The JSON object of a request. Raises EventError naming what is wrong."""
    return parse_body(await request.body(), known)


def parse_body(body: bytes, known: Sequence[str]) -> dict[str, Any]:
    """The JSON object that a body is. Raises EventError, and QueryError for an unknown field."""
    try:
        fields = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EventError("", f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise EventError("", "the body is not a JSON object")
    unknown = service.unknown_field(fields, known)
    if unknown is not None:
        raise QueryError(str(unknown)[:40], f"unknown field; known: {', '.join(known)}")
    return fields


def _failure(method: str, path: str, error: Exception) -> tuple[int, bytes]:
    status, body = problem(error)
    if status >= 500 and isinstance(error, NodeError):  # others are logged by the server
        logger.error("%s %s: %s", method, path, error)
    return status, msgspec.json.encode(body)


def _on_error(request: Request, error: Exception) -> Response:
    status, data = _failure(request.method, request.url.path, error)
    return Response(data, status, media_type=JSON)


def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(error.status_code, "bad_request")
    answer = json_response(problem_json(code, error.detail), error.status_code)
    answer.headers.update(error.headers or {})
    return answer
