"""What keeping a store in order adds to the daemon.

    POST /v1/pin      {"id", "pinned"}                      {"event"}
    POST /v1/forget   {"ids"?, "query"?, "k"?, "dry_run"?, …}
                                                            {"count", "events", "forgotten", "copies"}
    POST /v1/resize   {"size"}                              {"size_bytes", "events", "evicted"}
    POST /v1/rotate   {"passphrase"? "key_file"? "keychain"?}  {"key"}
    POST /v1/recovery                                       {"code"}
    POST /v1/verify                                         {"damaged_blocks", "damaged"}

"…" stands for what narrows it (`selection.Selection`). Work on the whole store runs in a thread of its own; `maintenance` in the status says how far it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from localmem_node.config import Settings
from localmem_node.daemon.app import Service, read_body
from localmem_node.daemon.worker import Worker
from localmem_node.engine import Engine
from localmem_node.errors import NodeError, QueryError
from localmem_node.results import (
    K_DEFAULT,
    RECENT_MAX,
    check_flag,
    check_k,
    check_query,
    event_json,
)
from localmem_node.seams import KeyStore
from localmem_node.selection import SELECTION_FIELDS, check_ids, parse_selection
from localmem_node.store.keys import KeyFileStore, KeyringStore, PassphraseStore
from localmem_protocol.events import Event
from localmem_protocol.seams import Clock, Random

logger = logging.getLogger(__name__)

LISTED_MAX: Final = RECENT_MAX
"""Events that a forgetting shows, all that a question finds among them; the rest is counted."""

FORGET_FIELDS: Final = (*SELECTION_FIELDS, "query", "k", "dry_run")


class Upkeep:
    """Implements `Service`: at the start, what a crash left to erase is erased, and all is read."""

    name = "upkeep"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.worker = Worker("localmem-upkeep")
        self._thread = Thread(target=self._begin, name="localmem-verify", daemon=True)
        self._damaged_blocks: int | None = None

    async def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    async def stop(self) -> None:
        """End, after the work under way."""
        await asyncio.to_thread(self.worker.close)
        if self._thread.ident is not None:  # it was started
            await asyncio.to_thread(self._thread.join)

    def status(self) -> dict[str, Any]:
        """How it is, for people and for JSON; None until all was read."""
        return {"damaged_blocks": self._damaged_blocks}

    def _begin(self) -> None:
        self._engine.warm()
        try:
            if self._engine.maintenance.finish_erasing():
                logger.info("erased what was forgotten before the last end")
        except NodeError as error:
            logger.error("what was forgotten is hidden, and not erased yet: %s", error)
        try:
            self._damaged_blocks = self._engine.maintenance.verify()["damaged_blocks"]
        except NodeError as error:
            logger.error("the store could not be looked through: %s", error)


def extend(
    settings: Settings, engine: Engine, clock: Clock, random: Random
) -> tuple[Sequence[BaseRoute], Sequence[Service]]:
    """An `Extension`."""
    upkeep = Upkeep(engine)

    def route(name: str, known: Sequence[str], call: Callable[..., dict[str, Any]]) -> Route:
        async def answer(request: Request) -> Response:
            fields = await read_body(request, known)
            body = await upkeep.worker.run(lambda: msgspec.json.encode(call(engine, fields)))
            return Response(body, media_type="application/json")

        return Route(f"/v1/{name}", answer, methods=["POST"])

    routes = [
        route("pin", ("id", "pinned"), pin),
        route("forget", FORGET_FIELDS, forget),
        route("resize", ("size",), resize),
        route("rotate", ("passphrase", "key_file", "keychain"), rotate),
        route("recovery", (), lambda engine, fields: recovery(engine)),
        route("verify", (), lambda engine, fields: engine.maintenance.verify()),
    ]
    return routes, [upkeep]


def pin(engine: Engine, fields: dict[str, Any]) -> dict[str, Any]:
    """Pin an event, or let it go. Raises QueryError, EventError."""
    ids = check_ids([fields.get("id")])
    pinned = check_flag("pinned", fields.get("pinned", True))
    return {"event": event_json(engine.maintenance.pin(ids[0], pinned=pinned))}


def forget(engine: Engine, fields: dict[str, Any]) -> dict[str, Any]:
    """Forget the events that are meant, or with `dry_run` only name them. Raises QueryError."""
    dry_run = check_flag("dry_run", fields.get("dry_run", False))
    events = _meant(engine, fields)
    ids = [event.id for event in events]
    if not dry_run:
        # Ids that are not here are marked too, so that they do not arrive later; one that is here
        # and was narrowed out stays.
        wanted = [*ids, *(one for one in fields.get("ids") or () if not engine.holds(one))]
        if wanted:
            engine.maintenance.forget(list(dict.fromkeys(wanted)))
    return {
        "count": len(events),
        "events": [event_json(event) for event in events[:LISTED_MAX]],
        "forgotten": not dry_run,
        "copies": engine.maintenance.copies(),
    }


def resize(engine: Engine, fields: dict[str, Any]) -> dict[str, Any]:
    """Give the store another size in bytes. Raises QueryError, ConfigError, StoreError."""
    size = fields.get("size")
    if isinstance(size, bool) or not isinstance(size, int):
        raise QueryError("size", "must be a whole number of bytes")
    before = len(engine)
    engine.maintenance.resize(size)
    return {"size_bytes": size, "events": len(engine), "evicted": max(0, before - len(engine))}


def rotate(engine: Engine, fields: dict[str, Any]) -> dict[str, Any]:
    """Seal everything under new keys. Raises QueryError, KeyUnavailable, StoreError."""
    engine.maintenance.rotate(_keystore(fields))
    return {"key": engine.status()["store"]["key"]}


def recovery(engine: Engine) -> dict[str, Any]:
    """A new recovery code. Raises KeyUnavailable, StoreError."""
    return {"code": engine.maintenance.export_recovery()}


def _keystore(fields: dict[str, Any]) -> KeyStore | None:
    passphrase, key_file = fields.get("passphrase"), fields.get("key_file")
    given = [name for name in ("passphrase", "key_file", "keychain") if fields.get(name)]
    if len(given) > 1:
        raise QueryError(given[1], f"is given beside {given[0]}; choose one")
    if passphrase is not None:
        if not isinstance(passphrase, str) or not passphrase:
            raise QueryError("passphrase", "must be some text")
        return PassphraseStore(passphrase)
    if key_file is not None:
        if not isinstance(key_file, str) or not key_file.startswith("/"):
            raise QueryError("key_file", "must be the full path of a file")
        return KeyFileStore(Path(key_file))
    return KeyringStore() if fields.get("keychain") else None


def _meant(engine: Engine, fields: dict[str, Any]) -> list[Event]:
    selection, k = parse_selection(fields), check_k(fields.get("k", K_DEFAULT))
    if fields.get("query") is None:
        return engine.maintenance.select(selection)
    text = check_query(fields["query"])
    found = engine.query_recent(k, text, selection=selection)
    return [one.event for one in found]
