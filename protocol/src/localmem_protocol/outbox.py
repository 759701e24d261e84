"""Tombstones that the hub may not have yet: they wait here, as they do in the journal."""

from __future__ import annotations

from collections.abc import Sequence

from localmem_protocol.durable import Journal
from localmem_protocol.replica import Replica


class Outbox:
    """In the order in which they came; what a journal held of them begins it."""

    def __init__(self, journal: Journal, waiting: Sequence[bytes]) -> None:
        self._journal = journal
        self._waiting = dict.fromkeys(waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, tombstones: Sequence[bytes]) -> None:
        """These have to be told, whatever happens to this process."""
        self._journal.queue(tombstones)
        self._waiting |= dict.fromkeys(tombstones)

    def unsealed(self, replica: Replica) -> list[bytes]:
        """Those that are in no batch."""
        at = replica.segments.tombstone_at
        return [tombstone for tombstone in self._waiting if at(tombstone) is None]

    def settle(self, replica: Replica, acknowledged: int) -> None:
        """Drop those that the hub has: in another's batch, or in an own one before that clock."""
        there = [one for one in self._waiting if _is_at_hub(one, replica, acknowledged)]
        if there:
            self._journal.delivered(there)
            for tombstone in there:
                del self._waiting[tombstone]


def _is_at_hub(tombstone: bytes, replica: Replica, acknowledged: int) -> bool:
    place = replica.segments.tombstone_at(tombstone)
    if place is None:
        return False
    return place[0] != replica.client or place[1] < acknowledged
