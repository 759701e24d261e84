"""Opening the hub's database, and bringing its tables to this release.

SQLite runs with a write-ahead log and a disk sync per commit (`synchronous=FULL`): what a commit
returned from survives the power going. A transaction that will write says so when it begins, so
that it waits for its turn instead of failing half-way (https://www.sqlite.org/lang_transaction.html).
What is particular about PostgreSQL is in `postgres.py`.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from localmem_hub import postgres
from localmem_hub.errors import (
    CommitError,
    ConfigError,
    DatabaseTimeoutError,
    FullError,
    MigrationError,
    StoreError,
)
from localmem_hub.limits import BUSY_MS

MIGRATIONS: Final = Path(__file__).with_name("migrations")
READING: Final = "localmem_reading"
URLS: Final = "sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE"
_NO_ROOM: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)
"""The second is what quotas, and limits of a file's size, come out as."""
_PRAGMAS: Final = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "fullfsync=ON",  # macOS: past the drive's cache; nothing elsewhere
    "checkpoint_fullfsync=ON",
    "foreign_keys=ON",
    "secure_delete=ON",  # what is deleted is overwritten
    f"busy_timeout={BUSY_MS}",
)


def open_engine(url: str) -> sa.Engine:
    """An engine for a database URL. A new SQLite file is private to its owner (0600).

    Raises ConfigError for a URL that cannot be used, and StoreError when the file cannot.
    """
    try:
        parsed = sa.make_url(url)
        backend, driver = parsed.get_backend_name(), parsed.drivername
        if backend == "sqlite":
            if parsed.database in (None, "", ":memory:"):
                raise ConfigError(f"database: a hub keeps its data; give {URLS}")
            _make_private(Path(parsed.database or ""))
        elif driver != "postgresql+psycopg":
            raise ConfigError(f"database: {driver} is not one that a hub can use; use {URLS}")
        options = {} if backend == "sqlite" else postgres.engine_options()
        engine = sa.create_engine(parsed, hide_parameters=True, **options)
    except ImportError:
        raise ConfigError(
            'database: PostgreSQL needs its driver; pip install "localmem-hub[postgresql]"'
        ) from None
    except SQLAlchemyError as error:
        raise ConfigError(f"database: {error}; use {URLS}") from None
    except OSError as error:
        raise StoreError(f"cannot open the database: {error}") from None
    if backend == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        postgres.watch_connections(engine)
    return engine


@contextmanager
def failures(doing: str) -> Iterator[None]:
    """Turn what the database raises into CommitError, or the kind of it that fits."""
    try:
        yield
    except PoolTimeoutError:
        raise DatabaseTimeoutError(f"{doing}: all connections to the database are busy") from None
    except sqlite3.Error as error:  # by the driver's own calls
        raise _kind(error)(f"{doing}: {type(error).__name__}: {error}") from None
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise _kind(error.orig)(f"{doing}: {describe(error)}") from None
        raise postgres.translate(doing, error, describe(error)) from None
    except SQLAlchemyError as error:
        raise CommitError(f"{doing}: {describe(error)}") from None


def _kind(error: sqlite3.Error) -> type[CommitError]:
    full = getattr(error, "sqlite_errorcode", None) in _NO_ROOM
    return FullError if full else CommitError


def describe(error: SQLAlchemyError) -> str:
    """What the database said, without statements or values."""
    cause = getattr(error, "orig", None)
    # PostgreSQL's second line and those after it name values and statements.
    said = str(cause).strip().partition("\n")[0] if cause else ""
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def reading(engine: sa.Engine) -> sa.Engine:
    """The engine for those who only read; on PostgreSQL each statement for itself, in one round trip."""
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="AUTOCOMMIT")
    return engine.execution_options(**{READING: True})


def insert_missing(connection: sa.Connection, table: sa.Table, **values: object) -> bool:
    """Insert a row unless its key is there, or is being inserted by another process; whether it was."""
    insert = pg_insert if connection.dialect.name == "postgresql" else sqlite_insert
    statement = insert(table).values(**values).on_conflict_do_nothing()
    return connection.execute(statement.returning(*table.primary_key)).first() is not None


def prepare(engine: sa.Engine, *, migrate: bool = False) -> bool:
    """Make sure that the tables are those of this release; whether anything was done.

    A new SQLite file gets its tables at once; anything else only when `migrate` says so. Raises
    MigrationError, which says what to do, and StoreError when the database does not answer.
    """
    script = ScriptDirectory.from_config(_config())
    newest = script.get_current_head()
    try:
        with engine.begin() as connection:
            postgres.lock_for_transaction(connection, postgres.MIGRATING)
            current = revision(connection)
            if current == newest:
                return False
            empty = not set(sa.inspect(connection).get_table_names()) - {"alembic_version"}
            _refuse_foreign(script, current, empty=empty)
            if not migrate and not (empty and engine.dialect.name == "sqlite"):
                raise MigrationError(
                    f"the database is at revision {current or 'none'}, this release needs "
                    f"{newest}; back it up and run `localmem-hub migrate`"
                )
            command.upgrade(_config(connection), "head")
    except SQLAlchemyError as error:
        raise StoreError(f"cannot use the database: {describe(error)}") from None
    return True


def newest_revision() -> str | None:
    """The revision of the tables that this release needs."""
    return _newest_in(MIGRATIONS)


@cache
def _newest_in(folder: Path) -> str | None:
    """Its files do not change while a process runs, and `/readyz` asks often."""
    script = ScriptDirectory(os.fspath(folder))
    return script.get_current_head()


def revision(connection: sa.Connection) -> str | None:
    """The revision of the tables that are there; None without any."""
    return MigrationContext.configure(connection).get_current_revision()


def free_bytes(engine: sa.Engine) -> int | None:
    """Bytes that are free on the disk of the database; None if it is on another machine."""
    if engine.dialect.name != "sqlite":
        return None
    return shutil.disk_usage(Path(engine.url.database or "").resolve().parent).free


def empty_log(engine: sa.Engine) -> bool:
    """Put SQLite's write-ahead log into the database and cut it to nothing; False if it is in use.

    Other databases keep their logs by rules of their own.
    """
    if engine.dialect.name != "sqlite":
        return True
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        found = cursor.fetchone()
        return found is not None and not found[0]
    finally:
        connection.close()


def sync_folder(folder: Path) -> None:
    """See that the names in a folder survive the power going."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_foreign(script: ScriptDirectory, current: str | None, *, empty: bool) -> None:
    if current is None and not empty:
        raise MigrationError("the database holds other tables; give the hub one of its own")
    if current is not None and current not in {r.revision for r in script.walk_revisions()}:
        raise MigrationError(f"the database is at revision {current} of a newer release; upgrade")


def _config(connection: sa.Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", os.fspath(MIGRATIONS).replace("%", "%%"))
    return config


def _make_private(path: Path) -> None:
    """Create the file for its owner alone; SQLite's own companions take over its mode."""
    new = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        sync_folder(path.parent)
    if new:  # SQLite syncs the folder of its file, and not the one that this is in
        with suppress(PermissionError):
            sync_folder(path.parent.parent)


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # `_begin_sqlite` begins, not Python's module
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    reading = connection.get_execution_options().get(READING)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
