"""Replacing a pool's rows by one snapshot, which is checked before it takes their place.

Applying updates proves little: a CRDT library keeps what it cannot place aside, and a snapshot
leaves that out. So a snapshot must itself load, within the protocol's bounds, and reach every clock
that the rows reach; otherwise the rows stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from localmem_hub.errors import DamageError, SnapshotError
from localmem_hub.seams import Store, Stored
from localmem_protocol.errors import ProtocolError
from localmem_protocol.room import Room
from localmem_protocol.seams import Random
from localmem_protocol.shared_room import SharedRoom
from localmem_protocol.updates import decode_update


def build_room(
    pool: str, stored: Stored, random: Random | None = None, *, shared: bool = False
) -> Room:
    """The room of what is stored; to be joined if there is something to draw client ids from.

    It is for one of several replicas if `shared`. Raises DamageError.
    """
    kind = SharedRoom if shared else Room
    try:
        return kind(stored.updates, stored.clients, random=random)
    except ProtocolError as error:
        raise DamageError(
            f"pool {pool} does not load ({error}); restore the database from a backup"
        ) from None


def make_snapshot(store: Store, pool: str) -> tuple[int, bytes] | None:
    """What `SnapshotStore.compact` takes: the newest row's number and the snapshot up to it.

    None if there is nothing to gain. Raises DamageError when the pool does not load, and
    SnapshotError when its snapshot would not stand for all of it.
    """
    stored = store.load(pool)
    if not stored.rows:
        return None
    snapshot = build_room(pool, stored).snapshot()
    try:
        reached = _clocks([snapshot])
        Room([snapshot], stored.clients)
    except ProtocolError as error:
        raise SnapshotError(
            f"pool {pool} keeps its rows: no snapshot of it loads ({error})"
        ) from None
    if reached != _clocks(stored.updates):
        raise SnapshotError(f"pool {pool} keeps its rows: a snapshot would lose some of them")
    return stored.head, snapshot


def compact_room(store: Store, pool: str) -> Literal["compacted", "nothing to do", "busy"]:
    """Compact one sealed room now, unless another process is about it. Raises StoreError."""
    hold = store.hold(pool)
    if hold is None:
        return "busy"
    try:
        made = make_snapshot(store, pool)
        done = made is not None and store.compact(pool, *made)
    finally:
        hold.release()
    return "compacted" if done else "nothing to do"


def holds_deletes(rows: Iterable[bytes]) -> bool:
    """Whether rows delete anything: then they, or a snapshot before them, may hold it still."""
    return any(decode_update(row, stored=True).deletes for row in rows)


def _clocks(updates: Iterable[bytes]) -> dict[int, int]:
    """client -> the clock after the last item in these updates."""
    ends: dict[int, int] = {}
    for data in updates:
        for client, run in decode_update(data, stored=True).items.items():
            ends[client] = max(ends.get(client, 0), run[-1].end)
    return ends
