"""What an operator does with pools: look at them, and remove one with everything in it.

A pool with a roster has a room, and thus a row in `pools`, per epoch. One without is a row by itself,
opened by device tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from localmem_hub.access_changes import count_change
from localmem_hub.database import failures, reading
from localmem_hub.errors import ConfigError, DamageError
from localmem_hub.postgres import tell
from localmem_hub.records import PoolRecord
from localmem_hub.seams import Kind
from localmem_hub.signals import PoolRemoved, encode
from localmem_hub.tables import (
    clients,
    epochs_read,
    pools,
    quarantine,
    roster_entries,
    rosters,
    snapshots,
    tokens,
    updates,
)
from localmem_protocol.access import is_pool_id, parse_room
from localmem_protocol.errors import ProtocolError
from localmem_protocol.roster import Roster

_OF_ROOMS = (updates, snapshots, clients, tokens, quarantine, pools)


class PoolAdmin:
    """The operator's view of the pools in a database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._reading = reading(engine)

    def list(self) -> list[PoolRecord]:
        """Every pool, oldest first."""
        with failures("cannot list pools"), self._reading.begin() as connection:
            sizes: dict[str, int] = {}
            for table in (updates, snapshots):
                total = sa.func.sum(sa.func.length(table.c.bytes))
                for row in connection.execute(sa.select(table.c.pool, total).group_by("pool")):
                    sizes[row[0]] = sizes.get(row[0], 0) + int(row[1])
            rooms = connection.execute(sa.select(pools)).all()
            lengths = {
                row.pool: (row.length, row.created_ms)
                for row in connection.execute(sa.select(rosters)).all()
            }
        found: dict[str, PoolRecord] = {
            pool: PoolRecord(pool, length, 0, 0, created_ms)
            for pool, (length, created_ms) in lengths.items()
        }
        for room in rooms:
            place = parse_room(room.pool)
            name = place[0] if place is not None and place[0] in lengths else room.pool
            one = found.get(name) or PoolRecord(name, 0, 0, 0, room.created_ms, room.kind)
            size = one.bytes + sizes.get(room.pool, 0)
            epoch = max(one.epoch, room.epoch)
            found[name] = PoolRecord(name, one.entries, epoch, size, one.created_ms, one.kind)
        return sorted(found.values(), key=lambda one: (one.created_ms, one.pool))

    def rooms(self, names: Sequence[str] | None = None) -> dict[str, Kind]:
        """The rooms of these names and of the pools of these ids, or all; and of which kind they are.

        Raises ConfigError for one that is not there.
        """
        query = sa.select(pools.c.pool, pools.c.kind).order_by(pools.c.pool)
        with failures("cannot list rooms"), self._reading.begin() as connection:
            found: dict[str, Kind] = {row.pool: row.kind for row in connection.execute(query)}
        if names is None:
            return found
        chosen: dict[str, Kind] = {}
        for name in names:
            mine = [room for room in found if room == name or _pool_of(room) == name]
            if not mine:
                raise ConfigError(f"room: there is no {name[:64]!r}; see `localmem-hub pool list`")
            chosen |= {room: found[room] for room in mine}
        return chosen

    def roster(self, pool: str) -> Roster | None:
        """A pool's roster, every signature checked; None if it has none. Raises DamageError."""
        query = (
            sa.select(roster_entries.c.bytes)
            .where(roster_entries.c.pool == pool)
            .order_by(roster_entries.c.position)
        )
        with failures("cannot read a roster"), self._reading.begin() as connection:
            entries = [bytes(entry) for entry in connection.scalars(query)]
        try:
            return Roster.load(entries, pool_id=pool) if entries else None
        except ProtocolError as error:
            raise DamageError(f"the roster of pool {pool} does not load ({error})") from None

    def remove(self, pool: str) -> bool:
        """Remove a pool, and everything that is stored of it; False if there is none."""
        with failures("cannot remove the pool"), self._engine.begin() as connection:
            names = [pool]
            if is_pool_id(pool):
                rooms = sa.select(pools.c.pool).where(pools.c.pool.startswith(f"{pool}."))
                names += connection.scalars(rooms)
            mine = sa.select(pools.c.pool).where(pools.c.pool.in_(names)).order_by(pools.c.pool)
            connection.execute(mine.with_for_update())  # no replica writes to it any more
            gone = 0
            for table in _OF_ROOMS:  # the row in `pools` is the last
                gone = connection.execute(sa.delete(table).where(table.c.pool.in_(names))).rowcount
            connection.execute(sa.delete(epochs_read).where(epochs_read.c.pool == pool))
            connection.execute(sa.delete(roster_entries).where(roster_entries.c.pool == pool))
            listed = connection.execute(sa.delete(rosters).where(rosters.c.pool == pool)).rowcount
            count_change(connection)
            tell(connection, encode([PoolRemoved(name) for name in dict.fromkeys(names)]))
        return gone + listed > 0


def _pool_of(room: str) -> str | None:
    place = parse_room(room)
    return None if place is None else place[0]
