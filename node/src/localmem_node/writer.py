"""The writing half of the engine: stamps drafts, appends events, and says what became of them.

This device's sequence and clock never go back, whatever was evicted before a restart: the store
keeps the marks that they reached (`EventStore.marks`).
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np

from localmem_node.catalogue import Rows
from localmem_node.errors import PinsFull, StoreError, StoreFailed
from localmem_node.store.event_store import EventStore
from localmem_node.store.reports import Appended
from localmem_protocol.clock import HybridClock, latest_reading, reading_ms
from localmem_protocol.errors import EventError
from localmem_protocol.events import Draft, Event, stamp
from localmem_protocol.limits import DRIFT_MS_MAX, MARK_MAX
from localmem_protocol.seams import Clock

OWN_SEQUENCE_MAX: Final = MARK_MAX // 2
"""How far an event that comes from elsewhere in this device's name may move its sequence: as many
numbers are left to count on with."""


@dataclass(frozen=True, slots=True)
class Write:
    """One request: own drafts to be stamped, or events from elsewhere."""

    drafts: Sequence[Draft] = ()
    events: Sequence[Event] = ()


@dataclass(slots=True)
class Written:
    """What a group of requests did to the store: events with their ordinals, and who left."""

    events: list[tuple[int, Event]] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    evicted: list[int] = field(default_factory=list)
    moved: list[tuple[int, int]] = field(default_factory=list)

    def follow(self, appended: Appended) -> None:
        """Take note of what making room did."""
        self.evicted += appended.evicted
        self.moved += appended.moved


def final_ordinals(moved: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Where each event is now that was at an ordinal before any of these moves."""
    origin: dict[int, int] = {}
    for old, new in moved:
        origin[new] = origin.pop(old, old)
    return {first: last for last, first in origin.items()}


Outcome = Event | EventError | None
"""What became of a draft or event: recorded, impossible to keep, or not needed (there already, or
forgotten).
"""


class Writer:
    """Not thread-safe: runs inside the group commit's one place."""

    def __init__(self, store: EventStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.last_sequence = store.marks.sequence
        self._hybrid = HybridClock(store.marks.clock)

    def see(self, event: Event) -> None:
        """Let an event that is in the store move sequence and clock forward."""
        if event.device == self._store.device:
            self.last_sequence = max(self.last_sequence, event.sequence)
            self._hybrid.last = max(self._hybrid.last, event.clock)
        else:
            self._hybrid.witness(event.clock, self._clock.now_ms())

    def resume(self, rows: Rows) -> None:
        """Like `see`, for the events of a checkpoint."""
        own = rows.devices == np.uint64(int(self._store.device, 16))
        self.last_sequence = max(self.last_sequence, int(rows.sequences[own].max(initial=0)))
        self._hybrid.last = max(self._hybrid.last, int(rows.clocks[own].max(initial=0)))
        latest = latest_reading(self._clock.now_ms())
        witnessed = rows.clocks[~own & (rows.clocks <= np.uint64(latest))]
        self._hybrid.last = max(self._hybrid.last, int(witnessed.max(initial=0)))

    def apply(self, request: Write, written: Written, live: Container[str]) -> list[Outcome]:
        """Append what a request asks for; nothing is durable yet. `live`: ids that are there.

        Raises StoreFailed.
        """
        outcomes: list[Outcome] = [self._record(draft, written) for draft in request.drafts]
        for event in request.events:
            known = event.id in live or event.id in written.ids
            unwanted = known or event.id in self._store.forgotten
            outcomes.append(None if unwanted else self._take(event, written))
        return outcomes

    def _take(self, event: Event, written: Written) -> Outcome:
        """An event from elsewhere. One of this device's own, out of a file or back from the hub
        after a restore, moves its marks; but not to where nothing sensible could follow.
        """
        if event.device == self._store.device:
            latest_ms = max(reading_ms(self._hybrid.last), self._clock.now_ms() + DRIFT_MS_MAX)
            if reading_ms(event.clock) > latest_ms:
                return EventError("clock", "is ahead of this device's own by more than a day")
            if event.sequence > max(self.last_sequence, OWN_SEQUENCE_MAX):
                return EventError("sequence", "leaves this device no numbers to go on with")
        outcome = self._append(event, written)
        if isinstance(outcome, EventError) and outcome.field == "pinned":  # then without its pin
            outcome = self._append(msgspec.structs.replace(event, pinned=False), written)
        return outcome

    def _record(self, draft: Draft, written: Written) -> Outcome:
        reading = self._hybrid.tick(self._clock.now_ms())
        # Taken before the append: whatever interrupts it, the number is not used twice.
        self.last_sequence += 1
        event = stamp(draft, device=self._store.device, clock=reading, sequence=self.last_sequence)
        outcome = self._append(event, written)
        if isinstance(outcome, EventError):
            self.last_sequence -= 1
        return outcome

    def _append(self, event: Event, written: Written) -> Outcome:
        try:
            appended = self._store.append([event])
        except StoreFailed:
            raise
        except PinsFull as error:
            return EventError("pinned", str(error))
        except StoreError as error:
            return EventError("snippet", str(error))
        self.see(event)
        written.ids.add(event.id)
        written.events.append((appended.ordinals[0], event))
        written.follow(appended)
        return event
