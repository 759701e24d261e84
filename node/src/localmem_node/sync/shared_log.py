"""The event log as one pool may see it: own events that its rule lets in, and everything else as it is.

Implements `localmem_protocol.session.EventLog` and `agent.Source` over the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from localmem_node.sync.sharing import Rule
from localmem_protocol.events import Event
from localmem_protocol.lineage import Reach
from localmem_protocol.session import EventLog
from localmem_protocol.tombstones import TombstoneKey

PAGE_EVENTS: Final = 256
"""Events that are looked through at once."""


class Source(EventLog, Protocol):
    """An event log that says when there is something new."""

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback`, from any thread, after own events were recorded; returns the end."""
        ...

    @property
    def erasing_due(self) -> bool:
        """Whether what was forgotten is hidden, and not yet out of the file."""
        ...

    def finish_erasing(self) -> bool:
        """Write the file anew without it; whether there was anything. Takes a while."""
        ...


class SharedLog:
    """For one thread at a time, but for `rule`, which may be set from any."""

    def __init__(self, source: Source, rule: Rule) -> None:
        self._source = source
        self._rule = rule
        self._private: tuple[int, int] = (0, 0)  # between these sequences nothing is shared

    @property
    def rule(self) -> Rule:
        """What is shared."""
        return self._rule

    @rule.setter
    def rule(self, rule: Rule) -> None:
        self._rule = rule
        self._private = (0, 0)

    @property
    def device(self) -> str:
        """This device's id."""
        return self._source.device

    @property
    def reach(self) -> Reach:
        """As the log's."""
        return self._source.reach

    def has_reached(self, reach: Reach) -> bool:
        """As the log's."""
        return self._source.has_reached(reach)

    def insert(self, events: Sequence[Event]) -> object:
        """Keep events from elsewhere."""
        return self._source.insert(events)

    def own_events(self, after: int, limit: int) -> list[Event]:
        """This device's shared events with a sequence above `after`, ascending, at most `limit`."""
        rule, (first, last) = self._rule, self._private
        begin = last if first <= after <= last else after
        shared: list[Event] = []
        while len(shared) < limit:
            page = self._source.own_events(begin, PAGE_EVENTS)
            full = len(page) == PAGE_EVENTS
            if full and page[0].sequence != page[-1].sequence:
                # Copies of a machine give one sequence to several events: the rest may be to come.
                page = [event for event in page if event.sequence != page[-1].sequence]
            shared += [event for event in page if rule.covers(event.project)]
            if page:
                begin = page[-1].sequence
            if not full:
                break
        if not shared and rule is self._rule:
            # A device that records a lot and shares little would look through it at each event.
            self._private = (min(first, after) if first <= after <= last else after, begin)
        return shared[:limit]

    def at(self, device: str, sequence: int, clock: int | None = None) -> list[Event]:
        """As the log's."""
        return self._source.at(device, sequence, clock)

    def shares(self, event: Event) -> bool:
        """Whether an own event may be told to this pool now."""
        return self._rule.covers(event.project)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """As the log's."""
        return self._source.subscribe(callback)

    def honour(self, key: TombstoneKey) -> None:
        """As the log's."""
        self._source.honour(key)

    def forget(self, tombstones: Sequence[bytes], key: TombstoneKey) -> Sequence[Event]:
        """As the log's."""
        return self._source.forget(tombstones, key)

    def forgets_mark(self, tombstone: bytes, key: TombstoneKey) -> bool:
        """As the log's."""
        return self._source.forgets_mark(tombstone, key)

    def forgets(self, event_id: str) -> bool:
        """As the log's."""
        return self._source.forgets(event_id)

    @property
    def erasing_due(self) -> bool:
        """As the log's."""
        return self._source.erasing_due

    def finish_erasing(self) -> bool:
        """As the log's."""
        return self._source.finish_erasing()
