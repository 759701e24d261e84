"""Epochs that are over, in SQL: who has read them to their end, and how long ago they ended.

Every method is one transaction, and blocks.
"""

from __future__ import annotations

import sqlalchemy as sa

from localmem_hub.database import failures, insert_missing, reading
from localmem_hub.postgres import lock_for_transaction, lock_key, tell
from localmem_hub.records import past_epochs
from localmem_hub.seams import PastEpoch
from localmem_hub.signals import PoolEmptied, encode
from localmem_hub.tables import clients, epochs_read, pools, quarantine, rosters, snapshots, updates
from localmem_protocol.access import parse_room, room_name

_HELD = (updates, snapshots, clients, quarantine)


class SqlEpochs:
    """An `EpochStore` in SQL."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._reading = reading(engine)

    def note_read(self, pool: str, epoch: int, device: str) -> bool:
        """As `EpochStore` says."""
        here = pools.c.pool == room_name(pool, epoch)
        place = {"pool": pool, "epoch": epoch, "device": device}
        with failures("cannot note who has read an epoch"), self._engine.begin() as connection:
            query = sa.select(pools.c.dropped_ms).where(here).with_for_update(read=True)
            room = connection.execute(query).first()
            if room is None or room.dropped_ms is not None:
                return False
            return insert_missing(connection, epochs_read, **place)

    def past(self, pool: str | None = None) -> list[PastEpoch]:
        """As `EpochStore` says."""
        rooms = sa.select(pools.c.pool, pools.c.created_ms, pools.c.dropped_ms)
        read = sa.select(epochs_read)
        if pool is not None:
            rooms = rooms.where(pools.c.pool.startswith(f"{pool}."))
            read = read.where(epochs_read.c.pool == pool)
        readers: dict[tuple[str, int], set[str]] = {}
        began: dict[tuple[str, int], tuple[int, int | None]] = {}
        with failures("cannot look at past epochs"), self._reading.begin() as connection:
            listed = set(connection.scalars(sa.select(rosters.c.pool)))
            for one in connection.execute(rooms):
                place = parse_room(one.pool)
                if place is not None and place[0] in listed:
                    began[place] = (one.created_ms, one.dropped_ms)
            for row in connection.execute(read):
                readers.setdefault((row.pool, row.epoch), set()).add(row.device)
        return past_epochs(began, readers)

    def drop(self, pool: str, epoch: int, now_ms: int) -> bool:
        """As `EpochStore` says."""
        room = room_name(pool, epoch)
        with failures("cannot drop an epoch"), self._engine.begin() as connection:
            lock_for_transaction(connection, lock_key("snapshot", room))  # or one comes after this
            newest = sa.select(pools.c.pool).where(pools.c.pool == room_name(pool, epoch + 1))
            if connection.scalar(newest) is None:
                return False  # it is not over
            dropped = connection.execute(
                sa.update(pools)
                .where(pools.c.pool == room, pools.c.dropped_ms.is_(None))
                .values(head=0, tag="", dropped_ms=now_ms)
            ).rowcount
            if not dropped:
                return False
            for table in _HELD:
                connection.execute(sa.delete(table).where(table.c.pool == room))
            connection.execute(
                sa.delete(epochs_read).where(
                    epochs_read.c.pool == pool, epochs_read.c.epoch == epoch
                )
            )
            tell(connection, encode([PoolEmptied(room)]))
        return True
