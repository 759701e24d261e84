"""`Memory`: the library's face, the same two calls with a daemon and without.

with Memory() as memory:
    memory.record_event({"timestamp": …, "filePath": "a.py", "selectionRange": [1, 3], …})
    for found in memory.query_recent(5, "where is the retry limit"):
        print(found.score, found.event.snippet)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, Unpack

import msgspec

from localmem_node.asked import (
    context_fields,
    query_fields,
    recent_fields,
    timeline_fields,
    watch_fields,
)
from localmem_node.client import ANSWER_S, DaemonClient
from localmem_node.config import load_settings
from localmem_node.project import current_folder
from localmem_node.results import (
    BUDGET_DEFAULT,
    K_DEFAULT,
    Context,
    Found,
    parse_event,
    parse_found,
)
from localmem_node.selection import Filters, Scope, check_filters, check_ids, parse_selection
from localmem_node.system import SystemClock
from localmem_node.watchings import DaemonWatching, Watching
from localmem_protocol.errors import EventError
from localmem_protocol.events import Draft, Event, parse_draft
from localmem_protocol.seams import Clock

if TYPE_CHECKING:
    from localmem_node.delivered import Delivered
    from localmem_node.engine import Engine
    from localmem_node.transfer.importing import Imported


class Backend(Protocol):
    """What a `Memory` stands on."""

    def record(self, draft: Draft) -> Event:
        """Keep one event."""
        ...

    def query(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What answers a query best, as JSON."""
        ...

    def recent(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What is newest, as JSON."""
        ...

    def timeline(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Events in order, as JSON."""
        ...

    def context(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """A block for a model, as JSON."""
        ...

    def watch(self, fields: Mapping[str, Any]) -> Watching:
        """Events as they become durable."""
        ...

    def status(self) -> dict[str, Any]:
        """What there is, as JSON."""
        ...

    def pin(self, event_id: str, pinned: bool) -> Event:
        """Pin an event, or let it go."""
        ...

    def forget(self, ids: Sequence[str]) -> int:
        """Forget events; how many were there."""
        ...

    def export_page(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The next part of everything, as JSON."""
        ...

    def import_events(self, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Keep events that were exported, as JSON."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class Memory:
    """Remembers editor events. Thread-safe; use it as a context manager, or `close` it.

    `Memory()` talks to this user's daemon, which is started if there is none, so that any number of
    programs share one memory. `Memory.embedded()` opens a store in this process, alone.
    """

    def __init__(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = ANSWER_S,
        backend: Backend | None = None,
    ) -> None:
        """`environment` replaces os.environ; `timeout_s` is how long the daemon may take to answer,
        after which a call raises DaemonTimeout. Raises ConfigError.
        """
        self.backend = backend or DaemonBackend(DaemonClient(environment, answer_s=timeout_s))

    @classmethod
    def embedded(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        passphrase: str | None = None,
        key_file: str | os.PathLike[str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """A memory without a daemon, over the store at `path` (the settings' own by default).

        `passphrase` or `key_file` replace what the settings say of the key. Raises StoreBusy when a
        daemon or another program has the store, WrongKey, and other StoreError and ConfigError.
        """
        from localmem_node.delivered import PURPOSE, Delivered, delivered_path
        from localmem_node.opening import open_engine

        settings = load_settings(os.environ if environment is None else environment)
        if path is not None:
            settings = replace(settings, store_path=Path(path).absolute())
        if passphrase is not None or key_file is not None:
            file = Path(key_file) if key_file is not None else None
            settings = replace(settings, passphrase=passphrase, key_file=file)
        clock = SystemClock()
        engine = open_engine(settings, clock=clock)
        if path is None and settings.hub is not None:
            from localmem_node.sync.outbox import tell_when_forgetting

            tell_when_forgetting(settings, settings.hub, engine)
        from localmem_node.sync.pool_files import POOLS

        if path is None and any((settings.state_dir / POOLS).glob("*/pool.json")):
            from localmem_node.sync.outbox import tell_pools_when_forgetting

            tell_pools_when_forgetting(settings, engine)
        delivered = Delivered(delivered_path(settings.store_path), engine.derive_key(PURPOSE))
        return cls(backend=EngineBackend(engine, delivered, clock))

    def record_event(self, event: Mapping[str, Any] | Draft) -> Event:
        """Remember an event: a mapping with the JSON names, or a `Draft`. Durable on return.

        A relative filePath is relative to the current folder. Raises EventError naming the field
        that is missing, wrong or denied (a file that git ignores is), and StoreError.
        """
        draft = event if isinstance(event, Draft) else parse_draft(event)
        return self.backend.record(draft)

    def query_recent(
        self, k: int, query: str, *, explain: bool = False, **filters: Unpack[Filters]
    ) -> list[Found]:
        """The k events, at most 100, that answer `query` best, best first.

        Within a project, a file or folder, of a kind, a tool, a device, a session, or from `since`
        to just `before` (ms since 1970), if that is said; `kind` and `tool` may be lists. With
        `explain` each has its evidence. Raises QueryError naming what is wrong.
        """
        fields = query_fields(k, query, explain, filters)
        return [parse_found(one) for one in self.backend.query(fields)["events"]]

    def recent(self, k: int, **filters: Unpack[Filters]) -> list[Found]:
        """The k newest events, at most 1000, newest first; their score is 0. Filters as above."""
        fields = recent_fields(k, filters)
        return [parse_found(one) for one in self.backend.recent(fields)["events"]]

    def timeline(
        self, event_id: str | None = None, *, k: int = K_DEFAULT, **filters: Unpack[Filters]
    ) -> list[Event]:
        """k events in order, oldest first: around the one with this id, or else the newest.

        At most 1000. Filters as above. Raises QueryError, also for an id that is not here.
        """
        fields = timeline_fields(event_id, k, filters)
        return [parse_event(one) for one in self.backend.timeline(fields)["events"]]

    def watch(self, *, after: str | None = None, **filters: Unpack[Filters]) -> Watching:
        """Events as they become durable, from here and from other devices, until it is closed.

        `after` is the id of the last event that was seen: what came after it is told first. Filters
        as above. Raises QueryError.
        """
        return self.backend.watch(watch_fields(after, filters))

    def status(self) -> dict[str, Any]:
        """What there is, for people and for JSON."""
        return self.backend.status()

    def context(
        self,
        query: str,
        *,
        budget_tokens: int = BUDGET_DEFAULT,
        session: str | None = None,
        reset: bool = False,
        **filters: Unpack[Scope],
    ) -> Context:
        """What answers `query` as a block of text for a model, within a budget; see
        docs/context-block.md. Empty when nothing is relevant.

        A `session` that is named is not given the same again, until `reset`. Raises QueryError.
        """
        fields = context_fields(query, budget_tokens, session, reset, filters)
        answer = self.backend.context(fields)
        return Context(answer["text"], tuple(answer["contextIds"]), answer["tokens"])

    def pin(self, event_id: str, *, pinned: bool = True) -> Event:
        """Keep an event whatever else is evicted, or let it go again; durable on return.

        Raises QueryError for an id that is not here, EventError when no more can be pinned.
        """
        return self.backend.pin(event_id, pinned)

    def forget(self, ids: Sequence[str]) -> int:
        """Forget events for good; how many were here. Raises QueryError, StoreError."""
        return self.backend.forget(ids)

    def export_events(
        self,
        **filters: Unpack[Filters],
    ) -> Iterator[Event]:
        """Every event that is there now, in `Event.order`; narrowed like a query. Raises QueryError."""
        from localmem_node.transfer.exporting import fetch_events

        selection = parse_selection(check_filters(filters))
        for _, events in fetch_events(self.backend.export_page, selection):
            yield from map(parse_event, events)

    def import_events(self, events: Iterable[Event]) -> Imported:
        """Keep events of another memory as they are, each at most once. Durable on return.

        Those that are refused are reported by their number, from 1. Raises StoreError.
        """
        from localmem_node.transfer.importing import send

        return send(enumerate(events, 1), self.backend.import_events)

    def close(self) -> None:
        """Give everything back. A daemon goes on."""
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class DaemonBackend:
    """A `Memory` at the daemon."""

    def __init__(self, client: DaemonClient) -> None:
        self._client = client

    def record(self, draft: Draft) -> Event:
        """Keep one event. Raises EventError, DaemonError."""
        answer = self._client.record([msgspec.to_builtins(draft)], current_folder())
        for failure in answer["failed"]:
            raise EventError(failure["field"], failure["message"])
        return parse_event(answer["recorded"][0])

    def query(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What answers a query best."""
        return self._client.query(**fields)

    def recent(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What is newest."""
        return self._client.recent(**fields)

    def timeline(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Events in order."""
        return self._client.timeline(fields)

    def context(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """A block for a model."""
        return self._client.context(fields)

    def watch(self, fields: Mapping[str, Any]) -> Watching:
        """Events as they become durable."""
        return DaemonWatching(self._client, fields)

    def status(self) -> dict[str, Any]:
        """What there is."""
        return self._client.status()

    def pin(self, event_id: str, pinned: bool) -> Event:
        """Pin an event, or let it go."""
        return parse_event(self._client.pin(event_id, pinned=pinned)["event"])

    def forget(self, ids: Sequence[str]) -> int:
        """Forget events."""
        return int(self._client.forget({"ids": list(ids)})["count"])

    def export_page(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The next part of everything."""
        return self._client.export_page(fields)

    def import_events(self, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Keep events that were exported."""
        return self._client.import_events(events)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class EngineBackend:
    """A `Memory` with an engine of its own."""

    def __init__(self, engine: Engine, delivered: Delivered, clock: Clock) -> None:
        self.engine, self._delivered, self._clock = engine, delivered, clock

    def record(self, draft: Draft) -> Event:
        """Keep one event."""
        return self.engine.record([draft], current_folder())[0]

    def query(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What answers a query best."""
        from localmem_node import service

        return service.query(self.engine, fields)

    def recent(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What is newest."""
        from localmem_node import service

        return service.recent(self.engine, fields)

    def timeline(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Events in order."""
        from localmem_node import service

        return service.timeline(self.engine, fields)

    def watch(self, fields: Mapping[str, Any]) -> Watching:
        """Events as they become durable."""
        from localmem_node.engine_watching import EngineWatching

        return EngineWatching(self.engine, fields)

    def status(self) -> dict[str, Any]:
        """What there is."""
        return self.engine.status()

    def context(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """A block for a model."""
        from localmem_node import service

        return service.context(self.engine, self._delivered, fields, self._clock.now_ms())

    def pin(self, event_id: str, pinned: bool) -> Event:
        """Pin an event, or let it go."""
        return self.engine.maintenance.pin(event_id, pinned=pinned)

    def forget(self, ids: Sequence[str]) -> int:
        """Forget events."""
        return self.engine.maintenance.forget(check_ids(list(ids)))

    def export_page(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The next part of everything."""
        from localmem_node import service

        answer: dict[str, Any] = msgspec.to_builtins(service.export_page(self.engine, fields))
        return answer

    def import_events(self, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Keep events that were exported."""
        from localmem_node import service

        return service.import_events(self.engine, events)

    def close(self) -> None:
        """Close the store."""
        self.engine.close()
