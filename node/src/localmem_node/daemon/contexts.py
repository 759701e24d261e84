"""What the daemon says to a model.

    POST /v1/context  {"query", "budget_tokens"?, "session"?, "reset"?, …}
                                        {"text", "contextIds", "tokens", "characters", "took_ms"}

"…" stands for what narrows it (`selection.Selection`), without a session: that is who asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from localmem_node import service
from localmem_node.config import Settings
from localmem_node.daemon.app import Service, read_body
from localmem_node.daemon.common import common_of
from localmem_node.daemon.worker import Worker
from localmem_node.delivered import Delivered
from localmem_node.engine import Engine
from localmem_protocol.seams import Clock, Random


class Contexts:
    """Implements `Service`: a thread, so that one session's calls come one after the other."""

    name = "context"

    def __init__(self, engine: Engine, delivered: Delivered, clock: Clock) -> None:
        self._engine, self._delivered, self._clock = engine, delivered, clock
        self._worker = Worker("localmem-context")
        self._blocks = 0

    async def start(self) -> None:
        """Nothing to begin."""

    async def stop(self) -> None:
        """End, after the call under way."""
        await asyncio.to_thread(self._worker.close)

    def status(self) -> dict[str, Any]:
        """How it is, for people and for JSON: blocks that were given, the empty ones left out."""
        return {"blocks": self._blocks}

    async def context(self, request: Request) -> Response:
        """POST /v1/context."""
        fields = await read_body(request, service.CONTEXT_FIELDS)
        body = await self._worker.run(lambda: self._answer(fields))
        return Response(body, media_type="application/json")

    def _answer(self, fields: dict[str, Any]) -> bytes:
        began = self._clock.monotonic_s()
        answer = service.context(self._engine, self._delivered, fields, self._clock.now_ms())
        self._blocks += bool(answer["text"])
        answer["took_ms"] = round(1000 * (self._clock.monotonic_s() - began), 3)
        return msgspec.json.encode(answer)


def extend(
    settings: Settings, engine: Engine, clock: Clock, random: Random
) -> tuple[Sequence[BaseRoute], Sequence[Service]]:
    """An `Extension`."""
    contexts = Contexts(engine, common_of(settings, engine, clock).delivered, clock)
    return [Route("/v1/context", contexts.context, methods=["POST"])], [contexts]
