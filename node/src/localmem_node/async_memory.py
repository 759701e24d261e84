"""`AsyncMemory`: the library's face for asyncio, with the names and errors of `Memory`.

async with AsyncMemory() as memory:
    await memory.record_event({"timestamp": …, "filePath": "a.py", "selectionRange": [1, 3], …})
    async with await memory.watch() as events:
        async for event in events:
            …
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, Unpack

import msgspec

from localmem_node.asked import (
    context_fields,
    query_fields,
    recent_fields,
    timeline_fields,
    watch_fields,
)
from localmem_node.async_client import AsyncDaemonClient
from localmem_node.client import ANSWER_S
from localmem_node.memory import EngineBackend, Memory
from localmem_node.project import current_folder
from localmem_node.results import (
    BUDGET_DEFAULT,
    K_DEFAULT,
    Context,
    Found,
    parse_event,
    parse_found,
)
from localmem_node.selection import Filters, Scope
from localmem_node.watch import Watch, parse_watch
from localmem_protocol.errors import EventError
from localmem_protocol.events import Draft, Event, parse_draft


class AsyncWatching(Protocol):
    """Events as they become durable, until it is closed. Use it as a context manager."""

    @property
    def complete(self) -> bool:
        """False once events of other devices may have been left out, after an interruption."""
        ...

    def __aiter__(self) -> AsyncIterator[Event]: ...

    async def __anext__(self) -> Event: ...

    async def close(self) -> None:
        """End it: whoever waits for the next event waits no more."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class AsyncBackend(Protocol):
    """What an `AsyncMemory` stands on: as `memory.Backend`."""

    async def record(self, draft: Draft) -> Event:
        """Keep one event."""
        ...

    async def ask(self, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The call `query`, `recent`, `timeline`, `context` or `status`, as JSON."""
        ...

    async def pin(self, event_id: str, pinned: bool) -> Event:
        """Pin an event, or let it go."""
        ...

    async def forget(self, ids: Sequence[str]) -> int:
        """Forget events; how many were there."""
        ...

    async def watch(self, fields: Mapping[str, Any]) -> AsyncWatching:
        """Events as they become durable."""
        ...

    async def close(self) -> None:
        """Give everything back."""
        ...


class AsyncMemory:
    """Remembers editor events, for asyncio. Use it as a context manager, or `close` it.

    A call that is cancelled lets its connection go at once; whether an event that was being recorded
    is kept then is not known.
    """

    def __init__(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = ANSWER_S,
        backend: AsyncBackend | None = None,
    ) -> None:
        """As for `Memory`. Raises ConfigError."""
        self._backend = backend or _AsyncDaemon(AsyncDaemonClient(environment, answer_s=timeout_s))

    @classmethod
    async def embedded(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        passphrase: str | None = None,
        key_file: str | os.PathLike[str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """A memory without a daemon, in this process; its work is done in threads. As for `Memory`."""

        def opened() -> EngineBackend:
            memory = Memory.embedded(
                path, passphrase=passphrase, key_file=key_file, environment=environment
            )
            assert isinstance(memory.backend, EngineBackend)
            return memory.backend

        return cls(backend=_AsyncEngine(await asyncio.to_thread(opened)))

    async def record_event(self, event: Mapping[str, Any] | Draft) -> Event:
        """As `Memory.record_event`."""
        draft = event if isinstance(event, Draft) else parse_draft(event)
        return await self._backend.record(draft)

    async def query_recent(
        self, k: int, query: str, *, explain: bool = False, **filters: Unpack[Filters]
    ) -> list[Found]:
        """As `Memory.query_recent`."""
        answer = await self._backend.ask("query", query_fields(k, query, explain, filters))
        return [parse_found(one) for one in answer["events"]]

    async def recent(self, k: int, **filters: Unpack[Filters]) -> list[Found]:
        """As `Memory.recent`."""
        answer = await self._backend.ask("recent", recent_fields(k, filters))
        return [parse_found(one) for one in answer["events"]]

    async def timeline(
        self, event_id: str | None = None, *, k: int = K_DEFAULT, **filters: Unpack[Filters]
    ) -> list[Event]:
        """As `Memory.timeline`."""
        answer = await self._backend.ask("timeline", timeline_fields(event_id, k, filters))
        return [parse_event(one) for one in answer["events"]]

    async def context(
        self,
        query: str,
        *,
        budget_tokens: int = BUDGET_DEFAULT,
        session: str | None = None,
        reset: bool = False,
        **filters: Unpack[Scope],
    ) -> Context:
        """As `Memory.context`."""
        fields = context_fields(query, budget_tokens, session, reset, filters)
        answer = await self._backend.ask("context", fields)
        return Context(answer["text"], tuple(answer["contextIds"]), answer["tokens"])

    async def pin(self, event_id: str, *, pinned: bool = True) -> Event:
        """As `Memory.pin`."""
        return await self._backend.pin(event_id, pinned)

    async def forget(self, ids: Sequence[str]) -> int:
        """As `Memory.forget`."""
        return await self._backend.forget(ids)

    async def watch(self, *, after: str | None = None, **filters: Unpack[Filters]) -> AsyncWatching:
        """As `Memory.watch`: returns when the daemon tells, or the engine."""
        return await self._backend.watch(watch_fields(after, filters))

    async def status(self) -> dict[str, Any]:
        """As `Memory.status`."""
        return await self._backend.ask("status", {})

    async def close(self) -> None:
        """Give everything back. A daemon goes on."""
        await self._backend.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class _AsyncDaemon:
    """Implements `AsyncBackend`: at the daemon."""

    def __init__(self, client: AsyncDaemonClient) -> None:
        self._client = client

    async def record(self, draft: Draft) -> Event:
        body = {"events": [msgspec.to_builtins(draft)], "folder": current_folder()}
        answer = await self._client.call("POST", "/v1/record", body, repeatable=False)
        for failure in answer["failed"]:
            raise EventError(failure["field"], failure["message"])
        return parse_event(answer["recorded"][0])

    async def ask(self, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        if name == "status":
            return await self._client.call("GET", "/v1/status")
        return await self._client.call("POST", f"/v1/{name}", fields)

    async def pin(self, event_id: str, pinned: bool) -> Event:
        body = {"id": event_id, "pinned": pinned}
        return parse_event((await self._client.call("POST", "/v1/pin", body))["event"])

    async def forget(self, ids: Sequence[str]) -> int:
        answer = await self._client.call("POST", "/v1/forget", {"ids": list(ids)})
        return int(answer["count"])

    async def watch(self, fields: Mapping[str, Any]) -> AsyncWatching:
        return await self._client.watch(fields)

    async def close(self) -> None:
        await self._client.close()


class _AsyncEngine:
    """Implements `AsyncBackend`: with an engine of its own, in threads."""

    def __init__(self, backend: EngineBackend) -> None:
        self._backend = backend

    async def record(self, draft: Draft) -> Event:
        return await asyncio.to_thread(self._backend.record, draft)

    async def ask(self, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        if name == "status":
            return await asyncio.to_thread(self._backend.status)
        answer: dict[str, Any] = await asyncio.to_thread(getattr(self._backend, name), fields)
        return answer

    async def pin(self, event_id: str, pinned: bool) -> Event:
        return await asyncio.to_thread(self._backend.pin, event_id, pinned)

    async def forget(self, ids: Sequence[str]) -> int:
        return await asyncio.to_thread(self._backend.forget, ids)

    async def watch(self, fields: Mapping[str, Any]) -> AsyncWatching:
        return _AsyncEngineWatching(self._backend, fields)

    async def close(self) -> None:
        await asyncio.to_thread(self._backend.close)


class _AsyncEngineWatching(AsyncIterator[Event]):
    """Implements `AsyncWatching`: of an engine in this process."""

    def __init__(self, backend: EngineBackend, fields: Mapping[str, Any]) -> None:
        selection, after, _ = parse_watch(fields)
        loop, self._woken = asyncio.get_running_loop(), asyncio.Event()
        self._unsubscribe = backend.engine.arrivals.subscribe(
            lambda: loop.call_soon_threadsafe(self._woken.set)
        )
        self._watch = Watch(backend.engine, selection, after)
        self._waiting: deque[Event] = deque()
        self._closed = False

    @property
    def complete(self) -> bool:
        return self._watch.complete

    async def __anext__(self) -> Event:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._woken.clear()
            events, more = await asyncio.to_thread(self._watch.take)
            self._waiting.extend(events)
            if not events and not more and not self._closed:
                await self._woken.wait()
        return self._waiting.popleft()

    async def close(self) -> None:
        self._unsubscribe()
        self._closed = True
        self._woken.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
