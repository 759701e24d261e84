"""Updates and snapshots in SQL. Every method is one transaction, and blocks.

A pool's updates are numbered from the head that is read, and locked, inside the transaction that
stores them, and pools are taken in sorted order: numbers have no gaps, and no reader can see a
number whose predecessor commits later. That head also tells whether another process wrote meanwhile; such a commit is given up whole, but by replicas that say how
they catch up (`shared_log.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from localmem_hub.access_store import SqlAccess
from localmem_hub.database import (
    empty_log,
    failures,
    free_bytes,
    insert_missing,
    newest_revision,
    reading,
    revision,
)
from localmem_hub.epoch_store import SqlEpochs
from localmem_hub.errors import CommitError, StaleError
from localmem_hub.limits import (
    COMPACT_ROWS,
    POOLS_ASKED_MAX,
    PROBE_BYTES,
    QUARANTINE_BYTES_MAX,
    QUARANTINE_ROWS_MAX,
)
from localmem_hub.mailbox_store import SqlMailboxes
from localmem_hub.pool_admin import PoolAdmin
from localmem_hub.postgres import (
    AdvisoryHold,
    NoHold,
    lock_for_transaction,
    lock_key,
    renew,
    weaknesses,
)
from localmem_hub.quarantine_admin import QuarantineAdmin
from localmem_hub.roster_store import SqlRosters
from localmem_hub.seams import Batch, CatchUp, Hold, Missed, Stored
from localmem_hub.shared_log import append_all, numbered, read_missed, settle
from localmem_hub.tables import clients as client_ids
from localmem_hub.tables import pools, quarantine, secrets, snapshots, updates
from localmem_hub.token_store import SqlTokens
from localmem_protocol.exchange import News, NumberedRow
from localmem_protocol.limits import STEP_BYTES

_PROBE: Final = "probe"
# Made once, and as text: to build them and to look them up costs more than what they do.
_PLACES: Final = (
    sa.select(pools.c.pool, pools.c.head, pools.c.tag)
    .where(pools.c.pool.in_(sa.bindparam("names", expanding=True)))
    .order_by(pools.c.pool)
    .with_for_update()  # SQLite's transaction has the lock already
)
_MOVE: Final = sa.text("UPDATE pools SET head = :head, tag = :tag WHERE pool = :pool")
_INSERT: Final = sa.text(
    "INSERT INTO updates (pool, seq, device, bytes, received_ms, tag) "
    "VALUES (:pool, :seq, :device, :bytes, :received_ms, :tag)"
)


class SqlStore:
    """A hub's store on a SQLAlchemy engine whose tables `database.prepare` has made."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._reading = reading(engine)
        self.tokens = SqlTokens(engine)
        self.rosters = SqlRosters(engine)
        self.access = SqlAccess(engine)
        self.epochs = SqlEpochs(engine)
        self.mailboxes = SqlMailboxes(engine)
        self.pools = PoolAdmin(engine)
        self.quarantine = QuarantineAdmin(engine)

    def commit(
        self, batches: Sequence[Batch], now_ms: int, catch_up: CatchUp | None = None
    ) -> set[str]:
        """As `UpdateLog` says."""
        refused: set[str] = set()
        batches = sorted(batches, key=lambda batch: batch.pool)
        with failures("cannot store updates"), self._engine.begin() as connection:
            if catch_up is not None:
                settled = settle(connection, batches, catch_up)
                batches, refused = settled.batches, settled.refused
                append_all(connection, settled, now_ms)
            else:
                _append(connection, [batch for batch in batches if batch.rows], now_ms)
            for batch in batches:
                _register(connection, batch)
                _quarantine(connection, batch, now_ms)
        return refused

    def missed(self, pool: str, head: int, clients: int) -> Missed | None:
        """As `UpdateLog` says."""
        count = sa.select(sa.func.count()).where(client_ids.c.pool == pool).scalar_subquery()
        query = sa.select(pools.c.head, count.label("clients")).where(pools.c.pool == pool)
        with failures(f"cannot look at pool {pool}"), self._reading.begin() as connection:
            row = connection.execute(query).first()
            if row is None or (row.head == head and row.clients <= clients):
                return None
            return read_missed(connection, [(pool, head, row.head)])[0]

    def heads(self, names: Sequence[str]) -> dict[str, int]:
        """As `UpdateLog` says."""
        found: dict[str, int] = {}
        columns = sa.select(pools.c.pool, pools.c.head)
        with failures("cannot look at pools"), self._reading.begin() as connection:
            for first in range(0, len(names), POOLS_ASKED_MAX):
                some = names[first : first + POOLS_ASKED_MAX]
                query = columns.where(pools.c.pool.in_(some))
                found |= {row.pool: row.head for row in connection.execute(query)}
        return found

    def load(self, pool: str) -> Stored:
        """As `UpdateLog` says."""
        newest = sa.select(sa.func.coalesce(sa.func.max(snapshots.c.seq), 0)).where(
            snapshots.c.pool == pool
        )
        # One statement sees one state, whatever the isolation: rows never vanish under it.
        everything = sa.union_all(
            sa.select(sa.literal(0).label("kind"), snapshots.c.seq, snapshots.c.bytes).where(
                snapshots.c.pool == pool, snapshots.c.seq == newest.scalar_subquery()
            ),
            sa.select(sa.literal(1).label("kind"), updates.c.seq, updates.c.bytes).where(
                updates.c.pool == pool, updates.c.seq > newest.scalar_subquery()
            ),
        ).order_by("kind", "seq")
        registered = sa.select(client_ids.c.client, client_ids.c.device).where(
            client_ids.c.pool == pool
        )
        with failures(f"cannot load pool {pool}"), self._reading.begin() as connection:
            found = connection.execute(everything).all()
            owners = {row.client: row.device for row in connection.execute(registered)}
        snapshot = found[0].bytes if found and found[0].kind == 0 else None
        return Stored(
            head=found[-1].seq if found else 0,
            snapshot=snapshot,
            rows=[row.bytes for row in found if row.kind == 1],
            clients=owners,
        )

    def head(self, pool: str) -> int:
        """As `UpdateLog` says."""
        query = sa.select(pools.c.head).where(pools.c.pool == pool)
        with failures(f"cannot look at pool {pool}"), self._reading.begin() as connection:
            return connection.scalar(query) or 0

    def place(self, pool: str, known: tuple[int, str] | None = None) -> tuple[int, str]:
        """As `UpdateLog` says."""
        query = sa.select(pools.c.head, pools.c.tag).where(pools.c.pool == pool)
        with failures(f"cannot look at pool {pool}"), self._reading.begin() as connection:
            row = connection.execute(query).first()
        return (0, "") if row is None else (row.head, row.tag)

    def tag(self, pool: str, number: int) -> str | None:
        """As `UpdateLog` says."""
        with failures(f"cannot look at pool {pool}"), self._reading.begin() as connection:
            return _tag_of(connection, pool, number)

    def sizes(self, room: str, pool: str) -> tuple[int, int]:
        """As `UpdateLog` says."""
        found: dict[str, int] = {}
        with failures(f"cannot measure pool {pool}"), self._reading.begin() as connection:
            names = [room]
            if room != pool:
                # A range, since LIKE uses no index everywhere: "/" comes after ".".
                mine = sa.and_(pools.c.pool >= f"{pool}.", pools.c.pool < f"{pool}/")
                names = list(connection.scalars(sa.select(pools.c.pool).where(mine)))
            for table in (updates, snapshots):
                size = sa.func.sum(sa.func.length(table.c.bytes))
                query = sa.select(table.c.pool, size).where(table.c.pool.in_(names))
                for name, bytes_ in connection.execute(query.group_by(table.c.pool)):
                    found[name] = found.get(name, 0) + int(bytes_)
        return found.get(room, 0), sum(found.values())

    def rows_after(
        self, pool: str, number: int, last: int | None = None, *, tag: str | None = None
    ) -> News | None:
        """As `UpdateLog` says."""
        here = sa.and_(updates.c.pool == pool, updates.c.seq > number)
        if last is not None:
            here = sa.and_(here, updates.c.seq <= last)
        sizes = sa.select(updates.c.seq, sa.func.length(updates.c.bytes).label("length")).where(
            here
        )
        with failures(f"cannot read pool {pool}"), self._reading.begin() as connection:
            if tag is not None and _tag_of(connection, pool, number) != tag:
                return None
            found = connection.execute(sizes.order_by(updates.c.seq).limit(COMPACT_ROWS)).all()
            if not found:
                head = connection.scalar(sa.select(pools.c.head).where(pools.c.pool == pool))
                return News() if number == (head or 0) or number == last else None
            if found[0].seq != number + 1:
                return None  # a snapshot took their place
            end, size = found[0].seq, found[0].length
            for seq, length in found[1:]:
                size += length
                if size > STEP_BYTES:
                    break
                end = seq
            query = sa.select(updates.c.seq, updates.c.device, updates.c.bytes).where(
                here, updates.c.seq <= end
            )
            rows = connection.execute(query.order_by(updates.c.seq)).all()
        if len(rows) != end - number:
            return None  # …just now
        return News(
            [NumberedRow(*row) for row in rows],
            more=found[-1].seq > end or len(found) == COMPACT_ROWS,
        )

    def renew(self) -> None:
        """As `Store` says."""
        renew(self._engine)

    def weaknesses(self) -> list[str]:
        """Settings of the database by which it may lose what it has committed."""
        with failures("cannot look at the database"), self._reading.begin() as connection:
            return weaknesses(connection)

    @property
    def url(self) -> sa.URL:
        """Where it is."""
        return self._engine.url

    @property
    def shared(self) -> bool:
        """As `Store` says."""
        return self._engine.dialect.name == "postgresql"

    def hold(self, pool: str) -> Hold | None:
        """As `SnapshotStore` says."""
        if not self.shared:
            return NoHold()
        with failures(f"cannot compact pool {pool}"):
            return AdvisoryHold.take(self._engine, lock_key("compact", pool))

    def overgrown(self, rows: int) -> list[str]:
        """As `SnapshotStore` says."""
        counted = sa.select(updates.c.pool).join(pools).where(pools.c.kind == "sealed")
        query = counted.group_by(updates.c.pool).having(sa.func.count() >= rows)
        with failures("cannot look for rooms to compact"), self._reading.begin() as connection:
            return list(connection.scalars(query.order_by(updates.c.pool)))

    def compact(self, pool: str, head: int, snapshot: bytes) -> bool:
        """As `SnapshotStore` says."""
        with failures(f"cannot compact pool {pool}"), self._engine.begin() as connection:
            lock_for_transaction(connection, lock_key("snapshot", pool))
            newest = connection.scalar(
                sa.select(sa.func.max(snapshots.c.seq)).where(snapshots.c.pool == pool)
            )
            if newest is not None and newest >= head:
                return False
            known = connection.scalar(sa.select(pools.c.head).where(pools.c.pool == pool))
            if known is None or known < head:
                return False  # it was dropped meanwhile, and does not come back
            connection.execute(sa.delete(snapshots).where(snapshots.c.pool == pool))
            tag = _tag_of(connection, pool, head) or ""
            connection.execute(
                sa.insert(snapshots).values(pool=pool, seq=head, bytes=snapshot, tag=tag)
            )
            connection.execute(
                sa.delete(updates).where(updates.c.pool == pool, updates.c.seq <= head)
            )
        return True

    def erase(self, pool: str | None) -> bool:
        """As `SnapshotStore` says.

        SQLite overwrites what is deleted (`secure_delete`); the write-ahead log, which may hold it
        still, is emptied. PostgreSQL lets go of deleted rows when it vacuums, and overwrites them when
        it needs their place; its log ends as its operator arranged (docs/threats.md).
        """
        with failures("cannot erase what was deleted"):
            if pool is not None:
                with self._engine.begin() as connection:
                    connection.execute(sa.delete(quarantine).where(quarantine.c.pool == pool))
            return empty_log(self._engine)

    def ping(self) -> None:
        """As `Store` says."""
        with failures("the database does not answer"), self._reading.begin() as connection:
            connection.execute(sa.select(pools.c.head).limit(1)).first()

    def current(self) -> bool:
        """As `Store` says."""
        with failures("the database does not answer"), self._reading.begin() as connection:
            return revision(connection) == newest_revision()

    def free_bytes(self) -> int | None:
        """As `Store` says."""
        return free_bytes(self._engine)

    def try_room(self) -> None:
        """As `Store` says. Two transactions: what is taken back in one may never reach the disk."""
        gone = sa.delete(secrets).where(secrets.c.name == _PROBE)
        filling = hashlib.shake_256().digest(PROBE_BYTES)  # PostgreSQL compresses what is regular
        with failures("cannot store anything"):
            with self._engine.begin() as connection:
                connection.execute(gone)
                insert_missing(connection, secrets, name=_PROBE, bytes=filling)
            with self._engine.begin() as connection:
                connection.execute(gone)

    def close(self) -> None:
        """As `Store` says."""
        self._engine.dispose()


def _register(connection: sa.Connection, batch: Batch) -> None:
    if batch.clients:
        connection.execute(
            sa.insert(client_ids),
            [
                {"pool": batch.pool, "client": client, "device": device}
                for client, device in batch.clients.items()
            ],
        )


def _append(connection: sa.Connection, batches: Sequence[Batch], now_ms: int) -> None:
    """Number and store the rows of all batches, in as few statements as pools allow."""
    places: dict[str, tuple[int, str]] = {}
    for first in range(0, len(batches), POOLS_ASKED_MAX):
        some = [batch.pool for batch in batches[first : first + POOLS_ASKED_MAX]]
        for pool, head, tag in connection.execute(_PLACES, {"names": some}):
            places[pool] = (head, tag)
    moved: list[dict[str, object]] = []
    rows: list[dict[str, object]] = []
    for batch in batches:
        if batch.pool not in places:
            raise CommitError(f"there is no pool {batch.pool}")
        head, tag = places[batch.pool]
        if head != batch.head:
            raise StaleError(
                f"another process wrote to pool {batch.pool}; run one hub per database"
            )
        new = numbered(batch, tag, now_ms)
        moved.append({"pool": batch.pool, "head": new[-1]["seq"], "tag": new[-1]["tag"]})
        rows += new
    if rows:
        connection.execute(_MOVE, moved)
        connection.execute(_INSERT, rows)


def _tag_of(connection: sa.Connection, pool: str, number: int) -> str | None:
    if number == 0:
        return ""
    for table, place in (
        (pools, pools.c.head),
        (updates, updates.c.seq),
        (snapshots, snapshots.c.seq),
    ):
        query = sa.select(table.c.tag).where(table.c.pool == pool, place == number)
        tag = connection.scalar(query)
        if tag is not None:
            return str(tag)
    return None


def _quarantine(connection: sa.Connection, batch: Batch, now_ms: int) -> None:
    """Keep what was refused, and let the oldest go when there is too much of it."""
    if not batch.quarantined:
        return
    connection.execute(
        sa.insert(quarantine),
        [
            {
                "pool": batch.pool,
                "device": refused.device,
                "bytes": refused.update,
                "reason": refused.reason[:500],
                "at_ms": now_ms,
            }
            for refused in batch.quarantined[-QUARANTINE_ROWS_MAX:]
        ],
    )
    here = quarantine.c.pool == batch.pool
    size = 0
    kept = connection.execute(
        sa.select(quarantine.c.id, sa.func.length(quarantine.c.bytes).label("size"))
        .where(here)
        .order_by(quarantine.c.id.desc())
    )
    for count, row in enumerate(kept.all()):
        size += row.size
        if count and (count >= QUARANTINE_ROWS_MAX or size > QUARANTINE_BYTES_MAX):
            connection.execute(sa.delete(quarantine).where(here, quarantine.c.id <= row.id))
            break
