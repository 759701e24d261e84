"""The sync journal: a session's state in SQLite, so that a crash repeats work and loses none.

It holds sealed batches only, as the hub does; the events themselves are in the ring. One file serves
one device in one pool; found with another's state it starts anew, since nothing in it is needed to
find an event again. Beside them it holds the tombstones that the hub may not have yet, the newest signed
head of each client id of others, by which a hub that shows less is found out, and what is known of
references: keyed hashes.

What is compacted away is in no byte of its files: SQLite overwrites it, and the log is emptied.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Final

from localmem_node.errors import SyncError
from localmem_node.files import private_directory
from localmem_protocol.limits import CLIENTS_MAX
from localmem_protocol.lineage import Reach
from localmem_protocol.session import Saved

VERSION: Final = 3

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

_OUTBOX: Final = """
CREATE TABLE outbox (seq INTEGER PRIMARY KEY, tombstone BLOB NOT NULL UNIQUE) STRICT
"""

_HEADS: Final = """
CREATE TABLE IF NOT EXISTS heads (client INTEGER PRIMARY KEY, device TEXT NOT NULL, head BLOB NOT NULL)
STRICT
"""

_RUN: Final = "ALTER TABLE state ADD COLUMN run BLOB NOT NULL DEFAULT x''"

_MARKS: Final = """
CREATE TABLE IF NOT EXISTS marks (name BLOB PRIMARY KEY, mark BLOB NOT NULL) STRICT, WITHOUT ROWID
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
            client, watermark, position, run, clock, head = self._connection.execute(
                "SELECT client, watermark, position, run, acknowledged, head FROM state"
            ).fetchone()
            updates = self._column("SELECT bytes FROM updates ORDER BY seq")
            outbox = self._column("SELECT tombstone FROM outbox ORDER BY seq")
            heads = self._connection.execute(
                "SELECT client, device, head FROM heads ORDER BY client LIMIT ?", (CLIENTS_MAX,)
            ).fetchall()
            marks = dict(self._connection.execute("SELECT name, mark FROM marks"))
        reach = Reach(position, run)
        kept = {number: (device, signed) for number, device, signed in heads}
        return Saved(client, watermark, reach, (clock, head), updates, outbox, kept, marks)

    def reset(self, client: int) -> None:
        """A new incarnation: drop everything but this client id, the outbox and the heads."""
        with self._transaction() as connection:
            self._clear(connection, client)

    def save(self, update: bytes | None, watermark: int, reach: Reach) -> None:
        """Append an update, and keep both marks."""
        with self._transaction() as connection:
            if update is not None:
                connection.execute("INSERT INTO updates (bytes) VALUES (?)", (update,))
            connection.execute(
                "UPDATE state SET watermark = ?, position = ?, run = ?",
                (watermark, reach.position, reach.run),
            )

    def compact(self, document: bytes) -> None:
        """Put one update in the place of all, of which nothing stays in the files."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM updates")
            connection.execute("INSERT INTO updates (bytes) VALUES (?)", (document,))
        with self._lock, self._reported():
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def queue(self, tombstones: Sequence[bytes]) -> None:
        """Put tombstones into the outbox."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO outbox (tombstone) VALUES (?)", [(t,) for t in tombstones]
            )

    def delivered(self, tombstones: Sequence[bytes]) -> None:
        """Take tombstones out of the outbox."""
        with self._transaction() as connection:
            connection.executemany(
                "DELETE FROM outbox WHERE tombstone = ?", [(t,) for t in tombstones]
            )

    def remember(self, marks: Mapping[bytes, bytes], *, instead: bool = False) -> None:
        """Keep marks of references, beside or instead of those that there are."""
        with self._transaction() as connection:
            if instead:
                connection.execute("DELETE FROM marks")
            connection.executemany("INSERT OR REPLACE INTO marks VALUES (?, ?)", marks.items())

    def acknowledge(self, clock: int, head: bytes) -> None:
        """Keep what the hub confirmed last."""
        with self._transaction() as connection:
            connection.execute("UPDATE state SET acknowledged = ?, head = ?", (clock, head))

    def keep_heads(self, heads: Mapping[int, tuple[str, bytes]]) -> None:
        """Put these in the place of what was kept of the same client ids."""
        rows = [(client, device, signed) for client, (device, signed) in heads.items()]
        with self._transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO heads VALUES (?, ?, ?)", rows)

    def rewind(self) -> None:
        """Have the next session look at every own event again, whether it is in the document."""
        with self._transaction() as connection:
            connection.execute("UPDATE state SET watermark = 0")

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            self._connection.close()

    def _prepare(self) -> None:
        connection = self._connection
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in range(VERSION + 1):
            raise SyncError(
                f"{self._path} is of version {version}, this release reads {VERSION}; "
                "update localmem, or remove the file: it is filled again from the hub"
            )
        with self._transaction() as transaction:
            if version == 0:
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    transaction.execute(statement)
            transaction.execute(_HEADS)
            if version < 2:
                transaction.execute(_OUTBOX)
            if version < VERSION:
                transaction.execute(_RUN)
                transaction.execute(f"PRAGMA user_version = {VERSION}")
            transaction.execute(_MARKS)
            row = transaction.execute("SELECT device, pool FROM state").fetchone()
            if row != (self._device, self._pool):
                transaction.execute("DELETE FROM outbox")
                transaction.execute("DELETE FROM heads")
                self._clear(transaction, 0)
        if version == 1:  # which did not overwrite what it deleted
            connection.execute("VACUUM")

    def _column(self, query: str) -> tuple[bytes, ...]:
        return tuple(value for (value,) in self._connection.execute(query))

    def _clear(self, connection: sqlite3.Connection, client: int) -> None:
        connection.execute("DELETE FROM updates")
        connection.execute("DELETE FROM marks")
        connection.execute(
            "INSERT OR REPLACE INTO state VALUES (1, ?, ?, ?, 0, 0, 0, x'', x'')",
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
                "it may be removed: it is filled again from the hub; what was forgotten here and "
                "waits for the hub has to be forgotten again"
            ) from None
