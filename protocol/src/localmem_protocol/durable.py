"""What a device keeps on its disk for synchronisation: the event log, and the journal of a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from localmem_protocol.events import Event
from localmem_protocol.lineage import NOWHERE, Reach
from localmem_protocol.tombstones import TombstoneKey


class EventLog(Protocol):
    """Where events are kept for good (the node's ring)."""

    @property
    def device(self) -> str:
        """This device's id, 16 hex digits."""
        ...

    @property
    def reach(self) -> Reach:
        """How far it has got."""
        ...

    def has_reached(self, reach: Reach) -> bool:
        """Whether it has been there; not if an older copy was put in its place since."""
        ...

    def insert(self, events: Sequence[Event]) -> object:
        """Keep events from elsewhere, durably; those that are there already are left out."""
        ...

    def own_events(self, after: int, limit: int) -> list[Event]:
        """This device's events with a sequence above `after`, ascending, at most `limit`."""
        ...

    def at(self, device: str, sequence: int, clock: int | None = None) -> list[Event]:
        """The events of a device at a sequence, and at a clock if one is given: copies of a machine
        give one sequence to several."""
        ...

    def shares(self, event: Event) -> bool:
        """Whether an own event may be told to those who ask for it."""
        ...

    def honour(self, key: TombstoneKey) -> None:
        """From now on, what was forgotten under this key is not taken in."""
        ...

    def forget(self, tombstones: Sequence[bytes], key: TombstoneKey) -> Sequence[Event]:
        """Forget the events that these stand for, durably, whether they are here or come later; those
        that were here."""
        ...

    def forgets_mark(self, tombstone: bytes, key: TombstoneKey) -> bool:
        """Whether the event that a tombstone stands for was forgotten by it."""
        ...

    def forgets(self, event_id: str) -> bool:
        """Whether an event was forgotten, by its id or by a tombstone."""
        ...


@dataclass(frozen=True)
class Saved:
    """What a journal holds of an earlier run.

    `watermark` is the highest own sequence that is in the document; `reach` how far the event log
    had got when this was saved; `acknowledged` the clock that the hub confirmed last, with the hash of
    the batch before it; `outbox` the tombstones that the hub may not have yet; `heads` the newest
    signed head of each client id of others, as bytes, with the device whose it is; `marks` what is
    known of the document's references, mark by name (`Referenced`).
    """

    client: int = 0
    watermark: int = 0
    reach: Reach = NOWHERE
    acknowledged: tuple[int, bytes] = (0, b"")
    updates: Sequence[bytes] = ()
    outbox: Sequence[bytes] = ()
    heads: Mapping[int, tuple[str, bytes]] = field(default_factory=dict)
    marks: Mapping[bytes, bytes] = field(default_factory=dict)


class Journal(Protocol):
    """Where a session keeps its state. Every call is durable, and atomic, when it returns."""

    def load(self) -> Saved:
        """What was saved last."""
        ...

    def reset(self, client: int) -> None:
        """A new incarnation: drop everything but this client id, the outbox and the heads."""
        ...

    def save(self, update: bytes | None, watermark: int, reach: Reach) -> None:
        """Append an update of the document (if any), and keep both marks."""
        ...

    def compact(self, document: bytes) -> None:
        """Put this one update in the place of all that were saved, of which nothing stays."""
        ...

    def queue(self, tombstones: Sequence[bytes]) -> None:
        """Put tombstones into the outbox; those that are there already stay."""
        ...

    def delivered(self, tombstones: Sequence[bytes]) -> None:
        """Take tombstones out of the outbox."""
        ...

    def remember(self, marks: Mapping[bytes, bytes], *, instead: bool = False) -> None:
        """Keep marks of references, beside or `instead` of those that there are."""
        ...

    def acknowledge(self, clock: int, head: bytes) -> None:
        """The hub has everything before `clock`; `head` is the hash of the batch before it."""
        ...

    def keep_heads(self, heads: Mapping[int, tuple[str, bytes]]) -> None:
        """Put these in the place of what was kept of the same client ids."""
        ...
