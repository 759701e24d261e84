"""Events that were read from the store, kept decrypted for the next who asks."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from localmem_node.live_state import LiveState
from localmem_node.retrieval.index import text_for_encoding
from localmem_node.store.event_store import EventStore
from localmem_protocol.events import Event

CACHED_EVENTS: Final = 1024
"""Events kept decrypted; at most 64 MiB, some 500 KiB as a rule."""


class EventCache:
    """Thread-safe. The least recently used leave first."""

    def __init__(self, store: EventStore, live: LiveState) -> None:
        self._live = live
        self._event = lru_cache(maxsize=CACHED_EVENTS)(store.get)

    def get(self, ordinal: int) -> Event | None:
        """The event at an ordinal. Precondition: it was live a moment ago."""
        return self._event(ordinal)

    def text(self, ordinal: int) -> str | None:
        """What is encoded of an event; None once it is gone."""
        event = self._event(ordinal) if self._live.is_live(ordinal) else None
        return None if event is None else text_for_encoding(event)

    def clear(self) -> None:
        """Keep no event decrypted."""
        self._event.cache_clear()
