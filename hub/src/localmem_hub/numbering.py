"""The numbers and tags of rows that are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from localmem_hub.errors import CommitError, StaleError
from localmem_hub.seams import Batch
from localmem_protocol.exchange import follow

Columns = dict[str, object]
"""A row of a table, by the names of its columns."""


def number(
    batches: Sequence[Batch], places: Mapping[str, tuple[int, str]], now_ms: int
) -> tuple[list[Columns], list[Columns]]:
    """What becomes of the pools of these batches, and the rows of them all.

    `places` are the numbers and tags of those pools' newest rows, which nobody else can change now.
    Raises CommitError for a pool that is not there, and StaleError.
    """
    moved: list[Columns] = []
    rows: list[Columns] = []
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
    return moved, rows


def numbered(batch: Batch, tag: str, now_ms: int) -> list[Columns]:
    """The rows of a batch as they are stored, after one that has this tag."""
    tags = accumulate((row.update for row in batch.rows), follow, initial=tag)
    next(tags)  # that of the row before
    return [
        {
            "pool": batch.pool,
            "seq": seq,
            "device": row.device,
            "bytes": row.update,
            "received_ms": now_ms,
            "tag": tag,
        }
        for seq, (row, tag) in enumerate(zip(batch.rows, tags, strict=True), start=batch.head + 1)
    ]
