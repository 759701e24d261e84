"""The tables: made from nothing, brought to this release, and never taken over from others."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from bench.postgres_server import PostgresServer
from localmem_hub import database
from localmem_hub.database import open_engine, prepare
from localmem_hub.errors import ConfigError, MigrationError, StoreError, TokenError
from localmem_hub.store import SqlStore
from localmem_hub.tables import metadata, updates
from localmem_hub.token_store import SqlTokens
from localmem_hub.tokens import new_token
from localmem_protocol.simulation import SeededRandom

NEXT_REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "0005"


def upgrade():
    op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True))
"""


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def test_the_migrations_make_the_tables_that_the_code_uses(database_url: str) -> None:
    engine = open_engine(database_url)
    assert prepare(engine, migrate=True)
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        looking = sa.inspect(connection)
        indexes = {
            i["name"] for name in looking.get_table_names() for i in looking.get_indexes(name)
        }
        assert {"ix_tokens_pool", "ix_rosters_recovery", "ix_mailboxes_expires_ms"} <= indexes
    engine.dispose()


def test_migrating_again_changes_nothing(database_url: str) -> None:
    engine = open_engine(database_url)
    assert prepare(engine, migrate=True)
    assert not prepare(engine, migrate=True)
    assert not prepare(engine)
    engine.dispose()


def test_four_processes_may_make_the_tables_at_once(database_url: str) -> None:
    engines = [open_engine(database_url) for _ in range(4)]
    made: list[bool] = []
    threads = [
        threading.Thread(target=lambda e=e: made.append(prepare(e, migrate=True))) for e in engines
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False, False, False, True]
    for engine in engines:
        engine.dispose()


def test_an_older_database_waits_for_the_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(url(tmp_path / "hub.db"))
    prepare(engine)
    newer = tmp_path / "newer 100%"
    shutil.copytree(database.MIGRATIONS, newer)
    (newer / "versions" / "r9999_notes.py").write_text(NEXT_REVISION)
    monkeypatch.setattr(database, "MIGRATIONS", newer)
    with pytest.raises(MigrationError, match=r"at revision 0005, .* needs 9999; .*hub migrate"):
        prepare(engine)
    assert "notes" not in sa.inspect(engine).get_table_names()
    assert prepare(engine, migrate=True)
    assert "notes" in sa.inspect(engine).get_table_names()
    assert not prepare(engine)
    engine.dispose()


def test_a_database_of_0_1_keeps_its_pools_and_tokens(tmp_path: Path) -> None:
    engine = open_engine(url(tmp_path / "hub.db"))
    with engine.begin() as connection:
        command.upgrade(database._config(connection), "0001")
    tokens = SqlTokens(engine)
    token = new_token(SeededRandom(1))
    with engine.begin() as connection:
        # As that release did: in its own tables.
        connection.exec_driver_sql("INSERT INTO pools VALUES ('team', 0, 1, 1)")
        connection.exec_driver_sql(
            "INSERT INTO tokens VALUES (?, 'team', NULL, ?, 'writer', 1, NULL, NULL)",
            (token.id, token.secret_hash),
        )
        connection.execute(
            updates.insert().values(pool="team", seq=1, device="", bytes=b"x", received_ms=1)
        )
    with pytest.raises(MigrationError, match="at revision 0001, this release needs 0005"):
        prepare(engine)
    assert prepare(engine, migrate=True)
    assert tokens.check(token.text, "team", None, 2).role == "writer"
    with pytest.raises(TokenError):
        tokens.check(token.text, "team", None, 2, kind="plain")
    store = SqlStore(engine)
    assert [(one.pool, one.bytes) for one in store.pools.list()] == [("team", 1)]
    assert len(store.access.secret("session", SeededRandom(1))) == 32
    engine.dispose()


def test_a_new_database_of_postgresql_waits_for_the_word(postgres: PostgresServer) -> None:
    engine = open_engine(postgres.database())
    with pytest.raises(MigrationError, match="run `localmem-hub migrate`"):
        prepare(engine)
    assert prepare(engine, migrate=True)
    assert not prepare(engine)
    engine.dispose()


def test_a_migration_can_be_taken_back(database_url: str) -> None:
    engine = open_engine(database_url)
    prepare(engine, migrate=True)
    with engine.begin() as connection:
        command.downgrade(database._config(connection), "0001")
    assert "rosters" not in sa.inspect(engine).get_table_names()
    assert prepare(engine, migrate=True)
    with engine.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_a_database_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    engine = open_engine(url(tmp_path / "hub.db"))
    prepare(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    for migrate in (False, True):
        with pytest.raises(MigrationError, match="newer release"):
            prepare(engine, migrate=migrate)
    engine.dispose()


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (id INTEGER)")
    connection.close()
    engine = open_engine(url(path))
    for migrate in (False, True):
        with pytest.raises(MigrationError, match="other tables"):
            prepare(engine, migrate=migrate)
    with engine.begin() as connection_:
        found = connection_.exec_driver_sql("SELECT name FROM sqlite_master").scalars().all()
    assert found == ["theirs"]
    engine.dispose()


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"not a database, but a text of some length" * 100)
    before = path.read_bytes()
    engine = open_engine(url(path))
    with pytest.raises(StoreError, match="not a database"):
        prepare(engine, migrate=True)
    assert path.read_bytes() == before
    engine.dispose()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises((StoreError, ConfigError), match="cannot open the database"):
        open_engine(url(tmp_path / "file" / "hub.db"))
