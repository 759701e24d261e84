"""Backups of a hub on SQLite, and what has to happen when any hub is put back to an older state.

A backup is one consistent state, taken while hubs go on (https://www.sqlite.org/backup.html): one file for
its owner alone, without the secret of session tokens, under its name only once it is whole and on disk. Restoring wants the hub stopped, and keeps
what was there under another name.

A hub that is put back does not know what was revoked since, and who used up which invitation. So whatever
lets anybody in is void afterwards (`void_access`): device tokens, session tokens and challenges, which a new
secret ends, invitations, mailboxes. Devices that a roster names prove their key again, by themselves.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from localmem_hub.authentication import SESSIONS
from localmem_hub.database import failures, open_engine, prepare, sync_folder
from localmem_hub.errors import ConfigError, DamageError, InUseError, StoreError
from localmem_hub.postgres import others_connected
from localmem_hub.tables import (
    invitations,
    mailbox_messages,
    mailboxes,
    secrets,
    spent_challenges,
    tokens,
)

COMPANIONS: Final = ("", "-wal", "-shm", "-journal")
"""What SQLite's files are called, beside the database's own name. The database goes first: its log
must never be found beside another one."""

_LOCK_BYTES: Final = (0x4000_0000, 512)
"""Where SQLite locks a database: whoever has it open holds a part of them
(https://www.sqlite.org/src/file/src/os.h)."""


@dataclass(frozen=True)
class Backup:
    """A backup that was made: where, how large, of which revision of the tables, of how many pools."""

    path: Path
    bytes: int
    revision: str
    pools: int


@dataclass(frozen=True)
class Voided:
    """How many device tokens and invitations were good until then."""

    tokens: int
    invitations: int


def make_backup(url: str, destination: Path) -> Backup:
    """Copy a database that may be in use. A backup of that name is replaced, once there is another.

    Raises ConfigError and StoreError.
    """
    database = _file_of(url)
    if not database.exists():
        raise ConfigError(f"database: there is no {database}")
    if destination.is_dir():
        raise ConfigError("destination: a folder; name the file that the backup is to be")
    if not destination.parent.is_dir():
        raise ConfigError(f"destination: there is no folder {destination.parent}")
    if any(_same(destination, _companion(database, ending)) for ending in COMPANIONS):
        raise ConfigError("destination: that is the database itself")
    with _failures("cannot make a backup"), _beside(destination) as made:
        revision, pools = _copy(database, made)
        size = made.stat().st_size
        os.replace(made, destination)
        sync_folder(destination.parent)
    return Backup(destination, size, revision, pools)


def put_back(url: str, backup: Path, now_ms: int) -> tuple[Voided, Path | None]:
    """Put a backup in the place of the database, bring it to this release, and void access.

    Returns where the database of before is now, if there was one. Raises InUseError while a hub runs,
    ConfigError and StoreError; then nothing has changed.
    """
    database = _file_of(url)
    if not backup.is_file():
        raise ConfigError(f"file: there is no {backup}")
    if _same(backup, database):
        raise ConfigError("file: that is the database itself; leave FILE out if it was put back")
    with _failures("cannot restore"), unused(database):
        database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _beside(database) as made:
            _copy(backup, made)
            voided = _void_file(made, now_ms)
            kept = _set_aside(database, now_ms)
            os.replace(made, database)
            sync_folder(database.parent)
    return voided, kept


def void_in_place(url: str, now_ms: int) -> Voided:
    """The same for a database that was put back by other means. Raises as `put_back` does."""
    if sa.make_url(url).get_backend_name() == "sqlite":
        with unused(_file_of(url)):
            pass  # its lock ends with the first descriptor that SQLite closes
    engine = open_engine(url)
    try:
        prepare(engine, migrate=True)
        with failures("cannot look for hubs"), engine.connect() as connection:
            if others_connected(connection):
                raise InUseError
        return void_access(engine, now_ms)
    finally:
        engine.dispose()


def void_access(engine: sa.Engine, now_ms: int) -> Voided:
    """End whatever lets anybody in. No hub may be running: it would go on with the old secret."""
    with failures("cannot void what was given out"), engine.begin() as connection:
        ended = connection.execute(
            sa.update(tokens).where(tokens.c.revoked_ms.is_(None)).values(revoked_ms=now_ms)
        )
        usable = sa.and_(invitations.c.uses_left > 0, invitations.c.expires_ms >= now_ms)
        open_ = connection.scalar(sa.select(sa.func.count()).select_from(invitations).where(usable))
        connection.execute(sa.delete(secrets).where(secrets.c.name == SESSIONS))
        for table in (invitations, spent_challenges, mailbox_messages, mailboxes):
            connection.execute(sa.delete(table))
    return Voided(ended.rowcount, open_ or 0)


@contextmanager
def unused(database: Path) -> Iterator[None]:
    """While nobody has a SQLite database open, and until the end nobody can. Raises InUseError."""
    try:
        descriptor = os.open(database, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    try:
        try:
            first, size = _LOCK_BYTES
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, size, first)
        except BlockingIOError:
            raise InUseError from None
        yield
    finally:
        os.close(descriptor)


def _file_of(url: str) -> Path:
    try:
        parsed = sa.make_url(url)
    except ArgumentError as error:
        raise ConfigError(f"database: {error}") from None
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise ConfigError("database: only a SQLite file is copied here; see docs/backup.md")
    return Path(parsed.database)


def _companion(database: Path, ending: str) -> Path:
    return database.with_name(database.name + ending)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return one.absolute() == other.absolute()


def _copy(source: Path, target: Path) -> tuple[str, int]:
    """Copy one state, and look whether it is sound; its revision, and how many pools are in it."""
    # It is not made if it is missing, and a log that a crash left behind is read.
    given = f"{source.absolute().as_uri()}?mode=rw"
    with (
        closing(sqlite3.connect(given, uri=True, timeout=10)) as one,
        closing(sqlite3.connect(target)) as other,
    ):
        one.backup(other)
        try:
            other.execute("PRAGMA journal_mode=DELETE")  # so that it is one file
            (found,) = other.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            found = str(error)
        if found != "ok":
            raise DamageError(f"{source} is damaged: {found}")
        try:
            (revision,) = other.execute("SELECT version_num FROM alembic_version").fetchone()
            (pools,) = other.execute("SELECT count(*) FROM pools").fetchone()
            # Whoever reads a backup must not be able to make session tokens. A restore ends them anyway.
            other.execute("PRAGMA secure_delete=ON")
            with other:
                other.execute("DELETE FROM secrets WHERE name = ?", (SESSIONS,))
        except (sqlite3.Error, TypeError):
            raise DamageError(f"{source} is not the database of a hub") from None
    _sync(target)
    return revision, pools


def _void_file(path: Path, now_ms: int) -> Voided:
    engine = open_engine(f"sqlite:///{path}")
    try:
        prepare(engine, migrate=True)
        voided = void_access(engine, now_ms)
    finally:
        engine.dispose()  # its log is in the database then, and gone
    _sync(path)
    return voided


def _set_aside(database: Path, now_ms: int) -> Path | None:
    """Give the database of before, and all that belongs to it, another name."""
    at = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    kept = database.with_name(f"{database.name}.before-{at}")
    there = database.exists()
    for ending in COMPANIONS:
        with suppress(FileNotFoundError):
            os.rename(_companion(database, ending), _companion(kept, ending))
    sync_folder(database.parent)  # a log must not come back beside what takes its place
    return kept if there else None


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A private file in the same folder, which is gone afterwards unless it was renamed."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    made = Path(name)
    try:
        yield made
    finally:
        for ending in COMPANIONS:
            _companion(made, ending).unlink(missing_ok=True)


@contextmanager
def _failures(doing: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{doing}: {error}") from None
    except OSError as error:
        raise StoreError(f"{doing}: {error.strerror}: {error.filename or ''}") from None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
