"""What an operator should know about a hub before anybody complains, each with what to do about it.

Nothing is changed, and no database is made. A hub may be serving meanwhile.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import ssl
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from localmem_hub import __version__
from localmem_hub.blobs.address import Address, is_blob_url
from localmem_hub.database import (
    describe,
    failures,
    free_bytes,
    newest_revision,
    open_engine,
    reading,
    revision,
)
from localmem_hub.errors import ConfigError, HubError, ListenError
from localmem_hub.server import listen
from localmem_hub.settings import Settings
from localmem_hub.tables import pools, quarantine, tokens
from localmem_protocol.seams import Clock

CLOCKS_APART_MS: Final = 1000
"""What replicas, and their database, may differ by: sessions and revocations are timed by it."""

FUTURE_MS: Final = 60_000
"""How far what is stored may be in the future before this clock is taken to be wrong."""

ASK_SECONDS: Final = 3.0
_FULL: Final = 2  # PRAGMA synchronous
_SERVER_SETTINGS: Final = ("fsync", "full_page_writes")


@dataclass(frozen=True)
class Check:
    """One finding. `advice` is empty when all is well."""

    name: str
    ok: bool
    detail: str
    advice: str = ""


def checks(settings: Settings, clock: Clock, *, full: bool = False) -> Iterator[Check]:
    """Every check, as it is made; with `full` the whole database is read."""
    python = f"localmem-hub {__version__}, Python {platform.python_version()}, {sys.platform}"
    yield Check("release", True, python)
    yield _settings(settings)
    yield from _database(settings, clock, full=full)
    yield _port(settings)


def _settings(settings: Settings) -> Check:
    try:
        origins = sorted(settings.origins)
        metrics = settings.metrics_address
    except ConfigError as error:
        return Check("settings", False, str(error), "correct the setting that is named")
    if settings.host in ("0.0.0.0", "::") and not settings.origin:  # noqa: S104
        detail = f"listens on {settings.host}, and no origin is set"
        return Check("settings", False, detail, "set `origin` to the address that devices dial")
    found = f"devices dial {', '.join(origins) or 'nothing that is named'}"
    return Check("settings", True, found + (f"; metrics on {metrics[0]}" if metrics else ""))


def _database(settings: Settings, clock: Clock, *, full: bool) -> Iterator[Check]:
    if is_blob_url(settings.database):
        yield from _blobs(settings)
        return
    try:
        url = sa.make_url(settings.database)
        if url.get_backend_name() == "sqlite":
            file = Path(url.database or "")
            if not file.is_file():
                detail = f"there is no {file} yet: `localmem-hub serve` makes it"
                yield Check("database", True, detail)
                return
            yield _permissions(file)
        engine = open_engine(settings.database)
    except (HubError, ArgumentError) as error:
        yield Check("database", False, str(error), "correct the setting `database`")
        return
    try:
        yield from _opened(engine, settings, clock, full=full)
    except (HubError, SQLAlchemyError) as error:
        said = describe(error) if isinstance(error, SQLAlchemyError) else str(error)
        advice = "start it, or correct `database`; a file that is damaged comes from a backup"
        yield Check("database", False, said, advice)
    finally:
        engine.dispose()


def _blobs(settings: Settings) -> Iterator[Check]:
    from localmem_hub.blobs.connecting import open_container
    from localmem_hub.blobs.examining import lost_logs
    from localmem_hub.blobs.opening import is_current
    from localmem_hub.blobs.quarantine import BlobQuarantine

    account, connection = settings.storage_account, settings.storage_connection
    try:
        container = open_container(
            Address.parse(settings.database, account=account, connection=connection)
        )
    except HubError as error:
        yield Check("database", False, str(error), "correct the setting that is named")
        return
    try:
        current = is_current(container)
        yield Check("database", True, settings.database)
        advice = "run: localmem-hub migrate"
        detail = "the container is this release's" if current else "not of this release"
        yield Check("migrations", current, detail, "" if current else advice)
        lost = lost_logs(container)
        detail = f"the log of {len(lost)} rooms is gone: {', '.join(lost[:3])}"
        advice = "restore the blobs, or see docs/azure-storage.md; devices bring what it lacks"
        yield (
            Check("integrity", False, detail, advice)
            if lost
            else Check("integrity", True, "every room has its log")
        )
        yield _refused(len(BlobQuarantine(container).list()))
    except HubError as error:
        advice = "correct `storage_account` or `storage_connection`, the role, or the clock"
        yield Check("database", False, str(error), advice)
    finally:
        container.close()


def _opened(engine: sa.Engine, settings: Settings, clock: Clock, *, full: bool) -> Iterator[Check]:
    shown = engine.url.render_as_string(hide_password=True)
    with failures("the database does not answer"), reading(engine).connect() as connection:
        current = revision(connection)
        yield Check("database", True, shown)
        yield _migrations(current)
        if engine.dialect.name == "sqlite":
            yield _disk(engine, settings)
            yield _durable_sqlite(connection)
            yield _integrity(connection, full=full)
        else:
            yield _durable_postgres(connection)
        if current == newest_revision():
            yield _clock(connection, clock)
            yield _quarantine(connection)


def _permissions(file: Path) -> Check:
    found = file.stat()
    folder = file.resolve().parent.stat()
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.geteuid() or not os.access(file, os.R_OK | os.W_OK):
        detail = f"{file} belongs to uid {found.st_uid}; this is uid {os.geteuid()}"
        return Check("permissions", False, detail, "run this, and the hub, as the file's owner")
    if mode & 0o077:
        advice = f"chmod 600 {file}: tokens' hashes, and plain rooms, are for the hub alone"
        return Check("permissions", False, f"{file} is open to others ({mode:o})", advice)
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        advice = f"chmod o-w {file.parent}"
        return Check("permissions", False, f"anybody may write in {file.parent}", advice)
    return Check("permissions", True, f"{file} is its owner's alone")


def _migrations(current: str | None) -> Check:
    newest = newest_revision()
    if current == newest:
        return Check("migrations", True, f"at {newest}")
    detail = f"at {current or 'none'}, this release needs {newest}"
    advice = "back the database up, and run: localmem-hub migrate"
    return Check("migrations", False, detail, advice)


def _disk(engine: sa.Engine, settings: Settings) -> Check:
    free = (free_bytes(engine) or 0) // 1_000_000
    detail = f"{free:,} MB are free, of which {settings.disk_free_mb} must stay so"
    if free >= settings.disk_free_mb:
        return Check("disk", True, detail)
    advice = "make room, or move the database; a full disk refuses updates, and loses none"
    return Check("disk", False, detail, advice)


def _durable_sqlite(connection: sa.Connection) -> Check:
    journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
    synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
    if journal == "wal" and synchronous >= _FULL:
        return Check("durability", True, "a commit waits for the disk (WAL, synchronous=FULL)")
    detail = f"journal_mode={journal}, synchronous={synchronous}"
    return Check("durability", False, detail, "put the database on a local disk, not a network's")


def _durable_postgres(connection: sa.Connection) -> Check:
    found = {
        name: connection.exec_driver_sql(f"SHOW {name}").scalar_one()
        for name in (*_SERVER_SETTINGS, "synchronous_commit")
    }
    if connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar_one():
        return Check("durability", False, "this is a standby", "name the primary in `database`")
    off = [name for name in _SERVER_SETTINGS if found[name] != "on"]
    said = ", ".join(f"{name}={value}" for name, value in found.items())
    if off:
        advice = f"turn {' and '.join(off)} on in postgresql.conf: a power cut costs data else"
        return Check("durability", False, said, advice)
    return Check("durability", True, f"a commit waits for the disk ({said})")


def _integrity(connection: sa.Connection, *, full: bool) -> Check:
    pragma = "integrity_check" if full else "quick_check"
    found = connection.exec_driver_sql(f"PRAGMA {pragma}(5)").scalars().all()
    orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(5)
    if list(found) == ["ok"] and not orphans:
        return Check("integrity", True, f"{pragma} finds nothing")
    detail = "; ".join(map(str, found[:2])) if list(found) != ["ok"] else "rows without their pool"
    advice = "stop the hub and restore the newest backup; devices bring what it lacks"
    return Check("integrity", False, detail, advice)


def _clock(connection: sa.Connection, clock: Clock) -> Check:
    now_ms = clock.now_ms()
    if connection.dialect.name == "postgresql":
        theirs = connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp()) * 1000")
        apart = abs(int(theirs.scalar_one()) - now_ms)
        if apart > CLOCKS_APART_MS:
            detail = f"{apart / 1000:.1f} s apart from the database's"
            return Check("clock", False, detail, "run NTP on both machines")
    newest = max(
        connection.scalar(sa.select(sa.func.max(column))) or 0
        for column in (pools.c.created_ms, tokens.c.created_ms, tokens.c.last_seen_ms)
    )
    if newest > now_ms + FUTURE_MS:
        detail = f"{(newest - now_ms) / 1000:.0f} s behind what is stored"
        return Check("clock", False, detail, "set this machine's clock: run NTP")
    return Check("clock", True, "agrees with what is stored")


def _quarantine(connection: sa.Connection) -> Check:
    return _refused(connection.scalar(sa.select(sa.func.count()).select_from(quarantine)) or 0)


def _refused(count: int) -> Check:
    if not count:
        return Check("quarantine", True, "no update was refused")
    advice = "see who sent what: localmem-hub quarantine list; then: localmem-hub quarantine drop"
    return Check("quarantine", False, f"{count} updates were refused", advice)


def _port(settings: Settings) -> Check:
    place = f"{settings.host} port {settings.port}"
    try:
        listen(settings.host, settings.port).close()
    except ListenError as error:
        said = _answer(settings) if settings.port else None
        if said is None:
            advice = "end what has the port, or set another `host` and `port`"
            return Check("port", False, str(error), advice)
        if said:
            advice = "see the checks above, and the hub's log"
            return Check("port", False, f"a hub on {place} is not ready: {said}", advice)
        return Check("port", True, f"a hub serves on {place}, and is ready")
    return Check("port", True, f"{place} is free: no hub serves there now")


def _answer(settings: Settings) -> str | None:
    """What fails at the hub that is there, "" for nothing; None if no hub answers."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    asked = http.client.HTTPConnection(host, settings.port, timeout=ASK_SECONDS)
    if settings.tls_cert:
        # Its certificate is for the name that devices dial, and nothing is told to it.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        asked = http.client.HTTPSConnection(
            host, settings.port, timeout=ASK_SECONDS, context=context
        )
    try:
        asked.request("GET", "/readyz")
        found = json.loads(asked.getresponse().read(4096))
        return ", ".join(found["failing"]) if found["status"] == "unready" else ""
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
    finally:
        asked.close()
