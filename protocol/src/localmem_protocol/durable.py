"""What a device keeps on its disk for synchronisation: the event log, and the journal of a session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from localmem_protocol.events import Event
from localmem_protocol.tombstones import TombstoneKey


class EventLog(Protocol):
    """Where events are kept for good (the node's ring)."""

    @property
    def device(self) -> str:
        """This device's id, 16 hex digits."""
        ...

    @property
    def position(self) -> int:
        """How many events were ever kept here; never less, unless an older copy was restored."""
        ...

    def insert(self, events: Sequence[Event]) -> object:
        """Keep events from elsewhere, durably; those that are there already are left out."""
        ...

    def own_events(self, after: int, limit: int) -> list[Event]:
        """This device's events with a sequence above `after`, ascending, at most `limit`."""
        ...

    def honour(self, key: TombstoneKey) -> None:
        """From now on, what was forgotten under this key is not taken in."""
        ...

    def forget(self, tombstones: Sequence[bytes], key: TombstoneKey) -> object:
        """Forget the events that these stand for, durably, whether they are here or come later."""
        ...

    def forgets(self, event_id: str) -> bool:
        """Whether an event was forgotten, by its id or by a tombstone."""
        ...


@dataclass(frozen=True)
class Saved:
    """What a journal holds of an earlier run.

    `watermark` is the highest own sequence that is in the document; `position` that of the event
    log when this was saved; `acknowledged` the clock that the hub confirmed last, with the hash of
    the batch before it; `outbox` the tombstones that the hub may not have yet.
    """

    client: int = 0
    watermark: int = 0
    position: int = 0
    acknowledged: tuple[int, bytes] = (0, b"")
    updates: Sequence[bytes] = ()
    outbox: Sequence[bytes] = ()


class Journal(Protocol):
    """Where a session keeps its state. Every call is durable, and atomic, when it returns."""

    def load(self) -> Saved:
        """What was saved last."""
        ...

    def reset(self, client: int) -> None:
        """A new incarnation: drop everything but this client id and the outbox."""
        ...

    def save(self, update: bytes | None, watermark: int, position: int) -> None:
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

    def acknowledge(self, clock: int, head: bytes) -> None:
        """The hub has everything before `clock`; `head` is the hash of the batch before it."""
        ...
