"""What `Memory.watch` gives where there is no daemon: events as the engine has made them durable."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from threading import Event as Flag
from typing import Any

from localmem_node.engine import Engine
from localmem_node.watch import Watch, parse_watch
from localmem_node.watchings import Watching
from localmem_protocol.events import Event


class EngineWatching(Watching):
    """Of an engine in this process."""

    def __init__(self, engine: Engine, fields: Mapping[str, Any]) -> None:
        """Raises QueryError."""
        super().__init__()
        selection, after, _ = parse_watch(fields)
        self._waiting: deque[Event] = deque()
        self._woken = Flag()
        self._unsubscribe = engine.arrivals.subscribe(self._woken.set)
        self._watch = Watch(engine, selection, after)

    @property
    def complete(self) -> bool:
        """Whether nothing was left out for sure."""
        return self._watch.complete

    def __next__(self) -> Event:
        while not self._waiting:
            if self._closed.is_set():
                raise StopIteration
            self._woken.clear()
            events, more = self._watch.take()
            self._waiting.extend(events)
            if not events and not more and not self._closed.is_set():
                self._woken.wait()
        return self._waiting.popleft()

    def close(self) -> None:
        """End it."""
        self._unsubscribe()
        self._closed.set()
        self._woken.set()
