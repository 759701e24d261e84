"""Storing updates on SQLite, on a connection of its own and by the driver's own calls.

It is what a hub does all day, each time for a few rows, and SQLAlchemy takes several times as long for
such a transaction as SQLite does. Everything else goes through SQLAlchemy, and so does this where what
was refused is to be kept as well (`store.py`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Final, cast

import sqlalchemy as sa

from localmem_hub.numbering import number
from localmem_hub.seams import Batch

_PLACES: Final = "SELECT pool, head, tag FROM pools WHERE pool IN (SELECT value FROM json_each(?))"
_MOVE: Final = "UPDATE pools SET head = :head, tag = :tag WHERE pool = :pool"
_INSERT: Final = (
    "INSERT INTO updates (pool, seq, device, bytes, received_ms, tag) "
    "VALUES (:pool, :seq, :device, :bytes, :received_ms, :tag)"
)
_REGISTER: Final = "INSERT INTO clients (pool, client, device) VALUES (?, ?, ?)"


class SqliteLog:
    """The log of an engine's database. One transaction at a time."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection: sa.PoolProxiedConnection | None = None
        self._one = Lock()

    def commit(self, batches: Sequence[Batch], now_ms: int) -> None:
        """As `UpdateLog` says, without `catch_up` and for batches with nothing that was refused.

        Raises sqlite3.Error, CommitError and StaleError.
        """
        writing = [batch for batch in batches if batch.rows]
        with self._one, self._transaction() as cursor:
            names = json.dumps([batch.pool for batch in writing])
            places = cursor.execute(_PLACES, (names,))
            moved, rows = number(writing, {one: (head, tag) for one, head, tag in places}, now_ms)
            cursor.executemany(_MOVE, moved)
            cursor.executemany(_INSERT, rows)
            for batch in batches:
                if batch.clients:
                    clients = [(batch.pool, *client) for client in batch.clients.items()]
                    cursor.executemany(_REGISTER, clients)

    def close(self) -> None:
        """Give the connection back."""
        with self._one:
            self._drop()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        if self._connection is None:
            self._connection = self._engine.raw_connection()
            self._connection.detach()  # it stays with us
        cursor = cast(sqlite3.Cursor, self._connection.cursor())
        try:
            cursor.execute("BEGIN IMMEDIATE")
            yield cursor
            cursor.execute("COMMIT")
        except BaseException:
            self._drop()  # whatever state it is in; the transaction ends with it
            raise

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()
