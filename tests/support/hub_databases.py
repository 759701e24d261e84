"""What stores are tested on: SQLite always, PostgreSQL and Azure's blobs where they are installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from bench.postgres_server import MISSING, PostgresServer, find_binaries, running_postgres
from localmem_hub import blobs
from localmem_hub.blobs.store import BlobStore
from localmem_hub.database import open_engine, prepare
from localmem_hub.store import SqlStore
from localmem_protocol.simulation import SeededRandom
from support.azurite import new_container
from support.missing import missing

OpenStore = Callable[..., SqlStore]
"""Opens a store on one new database with these pools; called again, one more on the same."""

AnyStore = SqlStore | BlobStore
OpenAnyStore = Callable[..., AnyStore]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests that end none."""
    if find_binaries() is None:
        missing(MISSING)
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database without tables, on each engine."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'hub.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.database()


@pytest.fixture(params=["sqlite", "postgresql"])
def prepared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database with the hub's tables, on each engine."""
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        return server.prepared()
    url = f"sqlite:///{tmp_path / 'hub.db'}"
    engine = open_engine(url)
    prepare(engine)
    engine.dispose()
    return url


@pytest.fixture
def open_stores(prepared_url: str) -> Iterator[OpenStore]:
    """What opens stores on each engine; they are closed afterwards."""
    opened: list[SqlStore] = []

    def open_one(*pools: str) -> SqlStore:
        store = SqlStore(open_engine(prepared_url))
        opened.append(store)
        for number, pool in enumerate(pools):
            store.tokens.create(pool, None, "writer", SeededRandom(number), 1)
        return store

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture(params=["sqlite", "postgresql", "azure"])
def open_any_stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenAnyStore]:
    """The same on a container of blobs as well."""
    opened: list[AnyStore] = []
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'hub.db'}"
        prepared = open_engine(url)
        prepare(prepared)
        prepared.dispose()
    elif request.param == "postgresql":
        url = request.getfixturevalue("postgres").prepared()
    else:
        address = new_container(request.getfixturevalue("azurite"))

    def open_one(*pools: str) -> AnyStore:
        store: AnyStore
        if request.param == "azure":
            store = blobs.open_store(address, migrate=True)
        else:
            store = SqlStore(open_engine(url))
        for number, pool in enumerate(pools):
            store.tokens.create(pool, None, "writer", SeededRandom(number), 1)
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


def is_sqlite(store: SqlStore) -> bool:
    """Whether a store is on SQLite."""
    return engine_of(store).dialect.name == "sqlite"


def engine_of(store: SqlStore) -> sa.Engine:
    """The engine below a store."""
    return store._engine
