"""The durable half of a simulated device: what a crash leaves alone."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import replace

from localmem_protocol.clock import HybridClock
from localmem_protocol.events import Draft, Event, parse_draft, stamp
from localmem_protocol.lineage import Lineage, Reach
from localmem_protocol.session import Saved
from localmem_protocol.tombstones import TombstoneKey


class MemoryLog:
    """An event log in memory: an `EventLog` whose content survives simulated crashes."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.position = 0
        self.lineage = Lineage()
        self.events: dict[str, Event] = {}
        self._tombstones: set[bytes] = set()
        self._keys: list[TombstoneKey] = []
        self._clock = HybridClock()
        self._sequence = 0
        self._own: list[tuple[int, str]] = []  # (sequence, id), ascending
        self._at: dict[tuple[str, int], list[str]] = {}  # ids by device and sequence

    def record(self, snippet: str, now_ms: int) -> Event:
        """An event that happens here now."""
        return self.keep(parse_draft({"timestamp": now_ms, "snippet": snippet, "kind": "note"}))

    def keep(self, draft: Draft) -> Event:
        """An event that happens here at the time of its draft."""
        event = stamp(
            draft,
            device=self.device,
            clock=self._clock.tick(draft.timestamp),
            sequence=self._sequence + 1,
        )
        self._keep(event)
        return event

    def insert(self, events: Sequence[Event]) -> None:
        """Keep events from elsewhere, and sort what comes later after them."""
        for event in events:
            if not self.forgets(event.id):
                self._keep(event)
            self._clock.witness(event.clock, event.timestamp)

    def begin(self, mark: bytes) -> None:
        """A process opens it."""
        self.lineage = self.lineage.begun(self.position, mark)

    @property
    def reach(self) -> Reach:
        """As `EventLog` says."""
        return self.lineage.reach(self.position)

    def has_reached(self, reach: Reach) -> bool:
        """As `EventLog` says."""
        return self.lineage.has_reached(reach, self.position)

    def honour(self, key: TombstoneKey) -> None:
        """As `EventLog` says."""
        if key not in self._keys:
            self._keys.append(key)

    def forget(self, tombstones: Sequence[bytes], key: TombstoneKey) -> list[Event]:
        """As `EventLog` says."""
        self.honour(key)
        self._tombstones.update(tombstones)
        gone = [self.events.pop(name) for name in [*self.events] if self.forgets(name)]
        self._own = [own for own in self._own if own[1] in self.events]
        return gone

    def forgets_mark(self, tombstone: bytes, key: TombstoneKey) -> bool:
        """As `EventLog` says."""
        return tombstone in self._tombstones

    def forgets(self, event_id: str) -> bool:
        """As `EventLog` says."""
        if not self._tombstones:
            return False
        return any(key.of(event_id) in self._tombstones for key in self._keys)

    def _keep(self, event: Event) -> None:
        if event.id in self.events:
            return
        self.position += 1
        self.events[event.id] = event
        self._at.setdefault((event.device, event.sequence), []).append(event.id)
        if event.device == self.device:
            self._sequence = max(self._sequence, event.sequence)
            insort(self._own, (event.sequence, event.id))

    def own_events(self, after: int, limit: int) -> list[Event]:
        """As `EventLog` says."""
        first = bisect_right(self._own, after, key=lambda own: own[0])
        return [self.events[name] for _, name in self._own[first : first + limit]]

    def at(self, device: str, sequence: int, clock: int | None = None) -> list[Event]:
        """As `EventLog` says."""
        names = self._at.get((device, sequence), [])
        here = [self.events[name] for name in names if name in self.events]
        return [event for event in here if clock in (None, event.clock)]

    def shares(self, event: Event) -> bool:
        """As `EventLog` says."""
        return True

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
        self.saved = Saved(client, outbox=self.saved.outbox, heads=self.saved.heads)

    def save(self, update: bytes | None, watermark: int, reach: Reach) -> None:
        """As `Journal` says."""
        updates = self.saved.updates if update is None else (*self.saved.updates, update)
        self.saved = replace(self.saved, updates=updates, watermark=watermark, reach=reach)

    def compact(self, document: bytes) -> None:
        """As `Journal` says."""
        self.saved = replace(self.saved, updates=(document,))

    def remember(self, marks: Mapping[bytes, bytes], *, instead: bool = False) -> None:
        """As `Journal` says."""
        kept = {} if instead else self.saved.marks
        self.saved = replace(self.saved, marks={**kept, **marks})

    def acknowledge(self, clock: int, head: bytes) -> None:
        """As `Journal` says."""
        self.saved = replace(self.saved, acknowledged=(clock, head))

    def queue(self, tombstones: Sequence[bytes]) -> None:
        """As `Journal` says."""
        self.saved = replace(
            self.saved, outbox=tuple(dict.fromkeys((*self.saved.outbox, *tombstones)))
        )

    def delivered(self, tombstones: Sequence[bytes]) -> None:
        """As `Journal` says."""
        left = tuple(one for one in self.saved.outbox if one not in set(tombstones))
        self.saved = replace(self.saved, outbox=left)

    def keep_heads(self, heads: Mapping[int, tuple[str, bytes]]) -> None:
        """As `Journal` says."""
        self.saved = replace(self.saved, heads={**self.saved.heads, **heads})
