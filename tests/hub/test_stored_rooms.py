"""Rooms on disk that nobody uses cost nothing: no statement of a hub looks at all of them, but the one
that finds past epochs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from localmem_hub.app import Policy, create_app
from localmem_hub.database import open_engine, prepare
from localmem_hub.seams import Batch
from localmem_hub.store import SqlStore
from localmem_hub.system import SystemClock, SystemRandom
from localmem_hub.tables import pools, tokens, updates
from localmem_protocol.room import Row
from support.sync_client import append

ONE = f"{1:016x}"
OF_PAST_EPOCHS = ("pools.dropped_ms", "epochs_read", "SELECT rosters.pool")
"""In the statements that look for past epochs once an hour: in the rows of rooms, not what they hold.
The first may be under way when the hub ends."""


def fill(engine: sa.Engine, rooms: int) -> None:
    names = [f"room-{number}" for number in range(rooms)]
    values: dict[sa.Table, list[dict[str, Any]]] = {
        pools: [{"pool": name, "head": 1, "epoch": 1, "created_ms": 1} for name in names],
        updates: [
            {"pool": name, "seq": 1, "device": "", "bytes": b"\x00\x00", "received_ms": 1}
            for name in names
        ],
        tokens: [
            {"id": name, "pool": name, "secret_hash": b"", "role": "writer", "created_ms": 1}
            for name in names
        ],
    }
    with engine.begin() as connection:
        for table, rows in values.items():
            connection.execute(sa.insert(table), rows)


async def statements_of_a_life(folder: Path, rooms: int) -> list[tuple[str, list[str]]]:
    """What a hub executes from its start over one device's visit to its end, and how."""
    engine = open_engine(f"sqlite:///{folder / 'hub.db'}")
    prepare(engine)
    fill(engine, rooms)
    seen: list[tuple[str, list[str]]] = []

    def note(_: Any, cursor: Any, statement: str, parameters: Any, *__: Any) -> None:
        if statement.startswith("EXPLAIN") or not statement.startswith(("SELECT", "UPDATE", "DEL")):
            return
        if any(name in statement for name in OF_PAST_EPOCHS):
            return
        planned = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        seen.append((statement, [row[3] for row in planned.fetchall()]))

    event.listen(engine, "before_cursor_execute", note)
    store = SqlStore(engine)
    token = store.tokens.create("visited", ONE, "writer", SystemRandom(), 1)
    app = create_app(store, SystemClock(), SystemRandom(), Policy(plain_workers=1))
    async with app.router.lifespan_context(app):
        identity = store.tokens.check(token.text, "visited", ONE, 1)
        store.tokens.note(identity, 1)
        assert store.tokens.revoked([token.id, "nobody"]) == {"nobody"}
        store.load("visited")
        store.commit([Batch("visited", 0, [Row(ONE, append(ONE, 1, 0, b"x"))])], 1)
        store.rows_after("visited", 0)
        await asyncio.sleep(0)
        assert len(app.state.hub.rooms) == 0
    store.close()
    return seen


async def test_a_hub_with_many_rooms_does_at_its_start_what_one_with_few_does(
    tmp_path: Path,
) -> None:
    few, many = tmp_path / "few", tmp_path / "many"
    few.mkdir()
    many.mkdir()
    with_few = await statements_of_a_life(few, 2)
    with_many = await statements_of_a_life(many, 2000)
    assert sorted(with_few) == sorted(with_many)
    assert len(with_many) > 5
    for statement, plan in with_many:
        for step in plan:
            if any(f"SCAN {table}" in step for table in ("pools", "updates", "tokens", "clients")):
                pytest.fail(f"looks at every row: {statement} ({step})")
