"""The durable half of a simulated device: what a crash leaves alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from localmem_protocol.clock import HybridClock
from localmem_protocol.events import Event, parse_draft, stamp
from localmem_protocol.session import Saved


class MemoryLog:
    """An event log in memory: an `EventLog` whose content survives simulated crashes."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.position = 0
        self.events: dict[str, Event] = {}
        self._clock = HybridClock()
        self._sequence = 0

    def record(self, snippet: str, now_ms: int) -> Event:
        """An event that happens here now."""
        draft = parse_draft({"timestamp": now_ms, "snippet": snippet, "kind": "note"})
        self._sequence += 1
        event = stamp(
            draft, device=self.device, clock=self._clock.tick(now_ms), sequence=self._sequence
        )
        self._keep(event)
        return event

    def insert(self, events: Sequence[Event]) -> None:
        """Keep events from elsewhere, and sort what comes later after them."""
        for event in events:
            self._keep(event)
            self._clock.witness(event.clock, event.timestamp)
            if event.device == self.device:
                self._sequence = max(self._sequence, event.sequence)

    def _keep(self, event: Event) -> None:
        self.position += event.id not in self.events
        self.events[event.id] = event

    def own_events(self, after: int, limit: int) -> list[Event]:
        """As `EventLog` says."""
        own = (e for e in self.events.values() if e.device == self.device and e.sequence > after)
        return sorted(own, key=lambda event: event.sequence)[:limit]

    def ordered(self) -> list[Event]:
        """Everything, in the order that is the same everywhere."""
        return sorted(self.events.values(), key=lambda event: event.order)


class MemoryJournal:
    """A journal in memory: a `Journal` whose content survives simulated crashes."""

    def __init__(self) -> None:
        self.saved = Saved()

    def load(self) -> Saved:
        """As `Journal` says."""
        return self.saved

    def reset(self, client: int) -> None:
        """As `Journal` says."""
        self.saved = Saved(client)

    def save(self, update: bytes | None, watermark: int, position: int) -> None:
        """As `Journal` says."""
        updates = self.saved.updates if update is None else (*self.saved.updates, update)
        self.saved = replace(self.saved, updates=updates, watermark=watermark, position=position)

    def compact(self, document: bytes) -> None:
        """As `Journal` says."""
        self.saved = replace(self.saved, updates=(document,))

    def acknowledge(self, clock: int, head: bytes) -> None:
        """As `Journal` says."""
        self.saved = replace(self.saved, acknowledged=(clock, head))
