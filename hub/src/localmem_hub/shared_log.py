"""A pool's log that several replicas append to: what each has to know before it may.

Inside the committing transaction the rows of all its pools are locked, in sorted order, so that two
replicas never wait for each other in a circle. Whoever has the lock sees what the others stored, and
nobody stores more until it is done: so a batch that was checked against an older state is checked
against the newest before it gets its numbers. This is for PostgreSQL alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import sqlalchemy as sa

from localmem_hub.errors import CommitError, StaleError
from localmem_hub.limits import COMPACT_ROWS
from localmem_hub.numbering import numbered
from localmem_hub.seams import Batch, CatchUp, Missed
from localmem_hub.tables import clients, pools, updates
from localmem_protocol.room import Row

# One statement each, however many rows: many small ones would wait for each other's answers.
_ADVANCE: Final = sa.text(
    "UPDATE pools SET head = head + moving.count, tag = moving.tag FROM unnest("
    "CAST(:pool AS varchar[]), CAST(:after AS bigint[]), CAST(:count AS bigint[]), "
    "CAST(:tag AS varchar[])) AS moving(pool, after, count, tag) "
    "WHERE pools.pool = moving.pool AND pools.head = moving.after"
)
_INSERT: Final = sa.text(
    "INSERT INTO updates (pool, seq, device, bytes, received_ms, tag) SELECT * FROM unnest("
    "CAST(:pool AS varchar[]), CAST(:seq AS bigint[]), CAST(:device AS varchar[]), "
    "CAST(:bytes AS bytea[]), CAST(:received_ms AS bigint[]), CAST(:tag AS varchar[]))"
)


@dataclass(frozen=True)
class Settled:
    """Batches as they may be stored, the pools of the others, and pool -> the tag of its newest row."""

    batches: list[Batch]
    refused: set[str]
    tags: dict[str, str]


def settle(connection: sa.Connection, batches: Sequence[Batch], catch_up: CatchUp) -> Settled:
    """Lock the pools of these batches; what may be stored of them now.

    What is registered already, by whoever wrote last without hearing so, is not registered again.
    Raises CommitError when there is no such pool.
    """
    writing = sorted(batch.pool for batch in batches if batch.rows or batch.clients)
    places = _lock(connection, writing)
    heads = {pool: head for pool, (head, _) in places.items()}
    registering = [batch.pool for batch in batches if batch.clients]
    known = registered(connection, registering)
    for batch in batches:
        if (batch.rows or batch.clients) and batch.pool not in heads:
            raise CommitError(f"there is no pool {batch.pool}")
    behind = [
        (batch.pool, batch.head, heads[batch.pool])
        for batch in batches
        if batch.pool in heads and (batch.pool in known or batch.head != heads[batch.pool])
    ]
    missed = read_missed(connection, behind)
    holding = catch_up(missed) if missed else set()
    refused = {one.pool for one in missed} - holding
    settled: list[Batch] = []
    for batch in batches:
        here = known.get(batch.pool, {})
        if any(here.get(c, device) != device for c, device in batch.clients.items()):
            refused.add(batch.pool)
        if batch.pool not in refused:
            new = {c: device for c, device in batch.clients.items() if c not in here}
            head = heads.get(batch.pool, batch.head)
            settled.append(replace(batch, head=head, clients=new))
    return Settled(settled, refused, {pool: tag for pool, (_, tag) in places.items()})


def append_all(connection: sa.Connection, settled: Settled, now_ms: int) -> None:
    """Number and store the rows of batches whose pools are locked, all in two statements.

    Raises StaleError for a pool that is not where its batch says; nobody can have moved it.
    """
    moving = [batch for batch in settled.batches if batch.rows]
    if not moving:
        return
    rows_of = [numbered(batch, settled.tags[batch.pool], now_ms) for batch in moving]
    places = {
        "pool": [batch.pool for batch in moving],
        "after": [batch.head for batch in moving],
        "count": [len(batch.rows) for batch in moving],
        "tag": [rows[-1]["tag"] for rows in rows_of],
    }
    rows = [row for some in rows_of for row in some]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    moved = connection.execute(_ADVANCE, places).rowcount
    if moved != len(moving):
        raise StaleError("a pool was written to while it was locked")
    connection.execute(_INSERT, columns)


def read_missed(connection: sa.Connection, behind: Sequence[tuple[str, int, int]]) -> list[Missed]:
    """What was stored of each pool after a row, up to another: (pool, after, head)."""
    if not behind:
        return []
    rows: dict[str, list[Row]] = {pool: [] for pool, _, _ in behind}
    near = [one for one in behind if 0 < one[2] - one[1] <= COMPACT_ROWS]
    if near:
        ranges = sa.or_(
            *(
                sa.and_(updates.c.pool == pool, updates.c.seq > after, updates.c.seq <= head)
                for pool, after, head in near
            )
        )
        query = sa.select(updates.c.pool, updates.c.device, updates.c.bytes).where(ranges)
        for row in connection.execute(query.order_by(updates.c.pool, updates.c.seq)):
            rows[row.pool].append(Row(row.device, row.bytes))
    clients_of = registered(connection, list(rows))
    return [
        Missed(
            pool,
            after,
            head,
            rows[pool] if len(rows[pool]) == head - after else None,  # a snapshot took their place
            clients_of.get(pool, {}),
        )
        for pool, after, head in behind
    ]


def registered(connection: sa.Connection, names: Sequence[str]) -> dict[str, dict[int, str]]:
    """pool -> client id -> device, of these pools."""
    found: dict[str, dict[int, str]] = {}
    if names:
        query = sa.select(clients.c.pool, clients.c.client, clients.c.device)
        for row in connection.execute(query.where(clients.c.pool.in_(names))):
            found.setdefault(row.pool, {})[row.client] = row.device
    return found


def _lock(connection: sa.Connection, names: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Have these pools for oneself until the transaction ends; their newest rows' numbers and tags.

    Weaker than FOR UPDATE, so that a snapshot, whose foreign key looks at the same row, need not wait.
    """
    if not names:
        return {}
    query = sa.select(pools.c.pool, pools.c.head, pools.c.tag).where(pools.c.pool.in_(names))
    locked = query.order_by(pools.c.pool).with_for_update(key_share=True)
    return {row.pool: (row.head, row.tag) for row in connection.execute(locked)}
