"""The sync journal: a session's state in SQLite, so that a crash repeats work and loses none.

It holds sealed batches only, as the hub does; the events themselves are in the ring. One file serves
one device in one pool; found with another's state it starts anew, since nothing in it is needed to
find an event again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Final

from localmem_node.errors import SyncError
from localmem_node.files import private_directory
from localmem_protocol.session import Saved

VERSION: Final = 1

_SCHEMA: Final = """
CREATE TABLE state (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    device TEXT NOT NULL,
    pool TEXT NOT NULL,
    client INTEGER NOT NULL,
    watermark INTEGER NOT NULL,
    position INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL,
    head BLOB NOT NULL
) STRICT;
CREATE TABLE updates (seq INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
"""


class SqliteJournal:
    """Implements `localmem_protocol.session.Journal`. Thread-safe; raises SyncError."""

    def __init__(self, path: Path, device: str, pool: str) -> None:
        """Open or make the file, mode 0600, for this device and pool."""
        self._path = path
        self._device = device
        self._pool = pool
        self._lock = Lock()
        private_directory(path.parent)
        with self._reported():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._prepare()

    def load(self) -> Saved:
        """What was saved last."""
        with self._lock, self._reported():
            client, watermark, position, clock, head = self._connection.execute(
                "SELECT client, watermark, position, acknowledged, head FROM state"
            ).fetchone()
            rows = self._connection.execute("SELECT bytes FROM updates ORDER BY seq").fetchall()
        return Saved(client, watermark, position, (clock, head), tuple(data for (data,) in rows))

    def reset(self, client: int) -> None:
        """A new incarnation: forget everything but this client id."""
        with self._transaction() as connection:
            self._clear(connection, client)

    def save(self, update: bytes | None, watermark: int, position: int) -> None:
        """Append an update, and keep both marks."""
        with self._transaction() as connection:
            if update is not None:
                connection.execute("INSERT INTO updates (bytes) VALUES (?)", (update,))
            connection.execute(
                "UPDATE state SET watermark = ?, position = ?", (watermark, position)
            )

    def compact(self, document: bytes) -> None:
        """Put one update in the place of all."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM updates")
            connection.execute("INSERT INTO updates (bytes) VALUES (?)", (document,))

    def acknowledge(self, clock: int, head: bytes) -> None:
        """Keep what the hub confirmed last."""
        with self._transaction() as connection:
            connection.execute("UPDATE state SET acknowledged = ?, head = ?", (clock, head))

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            self._connection.close()

    def _prepare(self) -> None:
        connection = self._connection
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise SyncError(
                f"{self._path} is of version {version}, this release reads {VERSION}; "
                "update localmem, or remove the file: it is filled again from the hub"
            )
        with self._transaction() as transaction:
            if version == 0:
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    transaction.execute(statement)
                transaction.execute(f"PRAGMA user_version = {VERSION}")
            row = transaction.execute("SELECT device, pool FROM state").fetchone()
            if row != (self._device, self._pool):
                self._clear(transaction, 0)

    def _clear(self, connection: sqlite3.Connection, client: int) -> None:
        connection.execute("DELETE FROM updates")
        connection.execute(
            "INSERT OR REPLACE INTO state VALUES (1, ?, ?, ?, 0, 0, 0, x'')",
            (self._device, self._pool, client),
        )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._reported():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise SyncError(
                f"the sync journal {self._path} cannot be used ({error}); "
                "it may be removed: it is filled again from the hub"
            ) from None
