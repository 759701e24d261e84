"""Opening the hub's database, and bringing its tables to this release.

SQLite runs with a write-ahead log and a disk sync per commit (`synchronous=FULL`): what a commit
returned from survives the power going. A transaction that will write says so when it begins, so
that it waits for its turn instead of failing half-way (https://www.sqlite.org/lang_transaction.html).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from localmem_hub.errors import CommitError, ConfigError, MigrationError, StoreError
from localmem_hub.limits import BUSY_MS

MIGRATIONS: Final = Path(__file__).with_name("migrations")
READING: Final = "localmem_reading"
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
        sqlite = parsed.get_backend_name() == "sqlite"
        if sqlite:
            if parsed.database in (None, "", ":memory:"):
                raise ConfigError("database: a hub keeps its data; give sqlite:///PATH")
            _make_private(Path(parsed.database or ""))
        engine = sa.create_engine(parsed, hide_parameters=True)
    except (SQLAlchemyError, ImportError) as error:
        raise ConfigError(f"database: {error}; use sqlite:///PATH") from None
    except OSError as error:
        raise StoreError(f"cannot open the database: {error}") from None
    if sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


@contextmanager
def failures(doing: str) -> Iterator[None]:
    """Turn what the database raises into CommitError."""
    try:
        yield
    except SQLAlchemyError as error:
        raise CommitError(f"{doing}: {describe(error)}") from None


def describe(error: SQLAlchemyError) -> str:
    """What the database said, without statements or values."""
    cause = getattr(error, "orig", None)
    return f"{type(error).__name__}: {cause}" if cause else type(error).__name__


def prepare(engine: sa.Engine, *, migrate: bool = False) -> bool:
    """Make sure that the tables are those of this release; whether anything was done.

    A new SQLite file gets its tables at once; anything else only when `migrate` says so. Raises
    MigrationError, which says what to do, and StoreError when the database does not answer.
    """
    script = ScriptDirectory.from_config(_config())
    newest = script.get_current_head()
    try:
        with engine.begin() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
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
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # `_begin_sqlite` begins, not Python's module
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    reading = connection.get_execution_options().get(READING)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
