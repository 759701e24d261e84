"""Rosters in SQL. Every method is one transaction, and blocks.

A roster grows by `UPDATE rosters SET length = length + 1 … WHERE length = expected`: of two who append
at once, one finds that it is not so any more. What an entry says was checked before (`pools.py`).
"""

from __future__ import annotations

import sqlalchemy as sa

from localmem_hub.access_changes import count_change
from localmem_hub.access_store import take
from localmem_hub.database import failures, insert_missing, reading
from localmem_hub.errors import CommitError, LengthError
from localmem_hub.postgres import tell
from localmem_hub.seams import RosterMark
from localmem_hub.signals import RosterGrew, encode
from localmem_hub.tables import pools, roster_entries, rosters
from localmem_protocol.access import room_name


class SqlRosters:
    """A `RosterStore` in SQL."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._reading = reading(engine)

    def mark(self, pool: str) -> RosterMark | None:
        """As `RosterStore` says."""
        query = sa.select(rosters.c.length, rosters.c.head).where(rosters.c.pool == pool)
        with failures("cannot read a roster"), self._reading.begin() as connection:
            row = connection.execute(query).first()
        return None if row is None else RosterMark(row.length, bytes(row.head))

    def read(self, pool: str, start: int, bytes_max: int) -> list[bytes]:
        """As `RosterStore` says."""
        position, data = roster_entries.c.position, roster_entries.c.bytes
        here = sa.and_(roster_entries.c.pool == pool, position >= start)
        with failures("cannot read a roster"), self._reading.begin() as connection:
            sizes = connection.execute(
                sa.select(position, sa.func.length(data).label("size"))
                .where(here)
                .order_by(position)
            )
            last, total = start, 0
            for row in sizes.all():
                total += row.size
                if total > bytes_max and row.position > start:
                    break
                last = row.position
            found = connection.scalars(
                sa.select(data).where(here, position <= last).order_by(position)
            )
            return [bytes(entry) for entry in found]

    def found(
        self,
        pool: str,
        entry: bytes,
        mark: RosterMark,
        recovery: str,
        invitation: str | None,
        now_ms: int,
    ) -> bool:
        """As `RosterStore` says."""
        with failures("cannot make a pool"), self._engine.begin() as connection:
            here = sa.select(rosters.c.pool).where(rosters.c.pool == pool)
            if connection.scalar(here) is not None:
                return False
            if invitation is not None:
                take(connection, invitation, now_ms)
            made = insert_missing(
                connection,
                rosters,
                pool=pool,
                length=mark.length,
                head=mark.head,
                recovery=recovery,
                created_ms=now_ms,
            )
            if not made:  # by another process, just now
                connection.rollback()
                return False
            _add(connection, pool, entry, mark)
            _make_room(connection, pool, 1, now_ms)
        return True

    def append(self, pool: str, entry: bytes, mark: RosterMark, epoch: int, now_ms: int) -> None:
        """As `RosterStore` says."""
        here = rosters.c.pool == pool
        with failures("cannot store a roster entry"), self._engine.begin() as connection:
            grown = connection.scalar(
                sa.update(rosters)
                .where(here, rosters.c.length == mark.length - 1)
                .values(length=mark.length, head=mark.head)
                .returning(rosters.c.length)
            )
            if grown is None:
                length = connection.scalar(sa.select(rosters.c.length).where(here))
                if length is None:
                    raise CommitError(f"there is no pool {pool}")
                raise LengthError(length)
            _add(connection, pool, entry, mark)
            _make_room(connection, pool, epoch, now_ms)
            count_change(connection)
            tell(connection, encode([RosterGrew(pool)]))

    def recovered(self, recovery: str, limit: int) -> list[str]:
        """As `RosterStore` says."""
        query = (
            sa.select(rosters.c.pool)
            .where(rosters.c.recovery == recovery)
            .order_by(rosters.c.created_ms, rosters.c.pool)
            .limit(limit)
        )
        with failures("cannot look for pools"), self._reading.begin() as connection:
            return list(connection.scalars(query))


def _add(connection: sa.Connection, pool: str, entry: bytes, mark: RosterMark) -> None:
    connection.execute(
        sa.insert(roster_entries).values(pool=pool, position=mark.length - 1, bytes=entry)
    )


def _make_room(connection: sa.Connection, pool: str, epoch: int, now_ms: int) -> None:
    """Each epoch has updates of its own, under the name of its room."""
    room = room_name(pool, epoch)
    if connection.scalar(sa.select(pools.c.pool).where(pools.c.pool == room)) is None:
        insert_missing(connection, pools, pool=room, head=0, epoch=epoch, created_ms=now_ms)
