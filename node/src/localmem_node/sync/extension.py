"""What sync adds to the daemon: its agent, and a route to ask it.

POST /v1/sync {"wait_s"?}      the agent's status, once everything is exchanged or time is up
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from localmem_node.config import HubSettings, Settings
from localmem_node.daemon.app import Service, json_response
from localmem_node.engine import Engine
from localmem_node.errors import ConfigError, QueryError
from localmem_protocol.seams import Clock, Random

if TYPE_CHECKING:
    from localmem_node.sync.agent import SyncAgent

WAIT_MAX_S: Final = 300.0
EPOCH: Final = 1
NOT_SET_UP: Final = "no hub is set up; run: localmem sync setup --hub URL --pool NAME"


class Question(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /v1/sync."""

    wait_s: float = 30.0


def extend(
    settings: Settings, engine: Engine, clock: Clock, random: Random
) -> tuple[Sequence[BaseRoute], Sequence[Service]]:
    """An `Extension`: the agent runs if a hub is set up. Raises ConfigError."""
    agent = None if settings.hub is None else _agent(settings, settings.hub, engine, clock, random)

    async def sync(request: Request) -> Response:
        if agent is None:
            raise ConfigError(NOT_SET_UP)
        try:
            question = msgspec.json.decode(await request.body() or b"{}", type=Question)
        except msgspec.DecodeError as error:
            raise QueryError("body", str(error)) from None
        if not 0 <= question.wait_s <= WAIT_MAX_S:
            raise QueryError("wait_s", f"must be from 0 to {WAIT_MAX_S:.0f} seconds")
        return json_response(await agent.sync_now(question.wait_s))

    return [Route("/v1/sync", sync, methods=["POST"])], [agent] if agent else []


def _agent(
    settings: Settings, hub: HubSettings, engine: Engine, clock: Clock, random: Random
) -> SyncAgent:
    # Imported here: together they take 5 MiB, which a daemon without a hub can do without.
    from localmem_node.sync.agent import SyncAgent
    from localmem_node.sync.journal import SqliteJournal
    from localmem_node.sync.transport import WebSocketTransport
    from localmem_protocol.envelope import PoolKey

    path = settings.state_dir / "sync.sqlite"
    return SyncAgent(
        PoolKey(hub.pool, EPOCH, hub.pool_key),
        engine,
        lambda: SqliteJournal(path, engine.device, hub.pool),
        WebSocketTransport(hub),
        clock,
        random,
        hub=hub,
    )
