"""What is particular about PostgreSQL: how its connections are set up, its locks, what its errors mean.

A commit returns when its rows are on disk (`synchronous_commit` is never lower than `on`). Nothing
waits for ever: a statement, a lock and a transaction that its process does not go on with have
bounds, so that a database that is stuck, or a replica that was stopped with a transaction open, costs
the others an error and no more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, DisconnectionError, SQLAlchemyError

from localmem_hub.errors import CommitError, DatabaseTimeoutError, FullError, UnreachableError
from localmem_hub.limits import (
    BUSY_MS,
    CONNECT_SECONDS,
    DATABASE_CONNECTIONS_MAX,
    IDLE_MS,
    STATEMENT_MS,
)

CHANNEL: Final = "localmem"
"""Where replicas tell each other what to look at (`signals.py`)."""

MIGRATING: Final = 0x6C6F636D
"""Key of the advisory lock under which one process makes the tables."""

_OPTIONS: Final = {
    "statement_timeout": STATEMENT_MS,
    "lock_timeout": BUSY_MS,
    "idle_in_transaction_session_timeout": IDLE_MS,
    "tcp_keepalives_idle": 5,
    "tcp_keepalives_interval": 5,
    "tcp_keepalives_count": 3,
}
_TIMED_OUT: Final = {"57014", "55P03"}  # a statement, a lock
_DISK_FULL: Final = "53100"
_UNREACHABLE: Final = ("08", "57P", "53")  # connection, shutdown and start, resources
_WEAK: Final = ("off", "local")
_NEEDED: Final = ("fsync", "full_page_writes")
"""Settings of a server without which a power cut can take, or break, what was committed."""


def connection_options(name: str) -> dict[str, object]:
    """What psycopg's `connect` is told, beside where to."""
    options = " ".join(f"-c {setting}={value}" for setting, value in _OPTIONS.items())
    return {
        "options": options,
        "connect_timeout": CONNECT_SECONDS,
        "application_name": f"localmem-hub {name}",
        "keepalives_idle": 5,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": BUSY_MS,
    }


def engine_options() -> dict[str, object]:
    """What `create_engine` is told."""
    return {
        "connect_args": connection_options("store"),
        "isolation_level": "READ COMMITTED",
        "pool_size": DATABASE_CONNECTIONS_MAX,
        "max_overflow": 0,
        "pool_timeout": BUSY_MS / 1000,
    }


def watch_connections(engine: sa.Engine) -> None:
    """Set every new connection up, and let `renew` replace those that are there."""
    generation = _Generation()
    _GENERATIONS[engine] = generation
    event.listen(engine, "connect", _prepare_connection)
    event.listen(engine, "connect", generation.made)
    event.listen(engine, "checkout", generation.taken)


def renew(engine: sa.Engine) -> None:
    """What ended one connection may have ended the others: make each anew when it is needed next."""
    if (generation := _GENERATIONS.get(engine)) is not None:
        generation.number += 1


class _Generation:
    """Which connections of an engine are from before the last `renew`."""

    def __init__(self) -> None:
        self.number = 0

    def made(self, _: object, record: Any) -> None:
        """A new connection."""
        record.info["generation"] = self.number

    def taken(self, _: object, record: Any, __: object) -> None:
        """One is about to be used; the pool replaces it if this raises."""
        if record.info.get("generation") != self.number:
            raise DisconnectionError


_GENERATIONS: Final[WeakKeyDictionary[sa.Engine, _Generation]] = WeakKeyDictionary()


def _prepare_connection(connection: Any, _: object) -> None:
    """See that a commit waits for the disk, whatever the server's default is."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        if cursor.fetchone()[0] in _WEAK:
            cursor.execute("SET synchronous_commit = on")
    connection.commit()


def weaknesses(connection: sa.Connection) -> list[str]:
    """Settings by which the server may lose what it has committed; a session cannot change them."""
    if connection.dialect.name != "postgresql":
        return []
    settings = {name: connection.exec_driver_sql(f"SHOW {name}").scalar() for name in _NEEDED}
    return [name for name, value in settings.items() if value == "off"]


def others_connected(connection: sa.Connection) -> bool:
    """Whether another process of a hub is connected to this database. Elsewhere False."""
    if connection.dialect.name != "postgresql":
        return False
    query = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name LIKE :names AND pid <> pg_backend_pid()"
    )
    found = connection.scalar(query, {"names": "localmem-hub %"})
    return bool(found)


def translate(doing: str, error: DBAPIError, said: str) -> CommitError:
    """The error of this package for one of psycopg's."""
    state = getattr(error.orig, "sqlstate", None) or ""
    if state in _TIMED_OUT:
        return DatabaseTimeoutError(f"{doing}: the database took too long ({said})")
    if state == _DISK_FULL:
        return FullError(f"{doing}: there is no room on the database's disk ({said})")
    lost = error.connection_invalidated or state.startswith(_UNREACHABLE)
    if lost or (not state and type(error).__name__ == "OperationalError"):
        return UnreachableError(f"{doing}: the database cannot be reached ({said})")
    return CommitError(f"{doing}: {said}")


class NoHold:
    """A `Hold` where there is nobody else."""

    def release(self) -> None:
        """Nothing is held."""


class AdvisoryHold:
    """A `Hold` by an advisory lock of a connection; the lock ends with the connection, if need be."""

    def __init__(self, connection: sa.Connection, key: int) -> None:
        self._connection = connection
        self._key = key

    @classmethod
    def take(cls, engine: sa.Engine, key: int) -> AdvisoryHold | None:
        """The lock, or None while another connection has it."""
        # Without a transaction, which would have to end within IDLE_MS and keep VACUUM waiting.
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            if connection.scalar(sa.select(sa.func.pg_try_advisory_lock(key))):
                return cls(connection, key)
        except BaseException:
            connection.invalidate()
            connection.close()
            raise
        connection.close()
        return None

    def release(self) -> None:
        """As `Hold` says."""
        try:
            self._connection.execute(sa.select(sa.func.pg_advisory_unlock(self._key)))
        except SQLAlchemyError:
            self._connection.invalidate()
        self._connection.close()


def lock_key(*names: str) -> int:
    """The key of an advisory lock for these names: 64 bits, signed."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


def lock_for_transaction(connection: sa.Connection, key: int) -> None:
    """Wait for an advisory lock, which the end of the transaction gives back. Elsewhere nothing."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))


def tell(connection: sa.Connection, payloads: Sequence[str]) -> None:
    """Tell the other replicas something once this transaction commits. Elsewhere nothing."""
    if connection.dialect.name == "postgresql":
        for payload in payloads:
            connection.execute(sa.select(sa.func.pg_notify(CHANNEL, payload)))
