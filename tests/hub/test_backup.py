"""Backups of a hub that runs, and what is void after it was put back to one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shlex
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.postgres_server import PostgresServer, find_binaries
from localmem_hub import backup as backups
from localmem_hub.authentication import SESSIONS
from localmem_hub.backup import make_backup, put_back, void_in_place
from localmem_hub.database import open_engine, prepare
from localmem_hub.errors import (
    ConfigError,
    DamageError,
    InUseError,
    MigrationError,
    StoreError,
    TokenError,
)
from localmem_hub.store import SqlStore
from localmem_hub.system import SystemClock, SystemRandom
from localmem_protocol.frames import Close, Update
from localmem_protocol.updates import decode_update
from support.hub_process import HubProcess, running_hub
from support.sync_client import RawClient, append, close_code, dial

ONE, TWO = "000000000000000a", "000000000000000b"
DOCUMENT = Path(__file__).parents[2] / "docs" / "backup.md"
NOW = 1_760_000_000_000


def command(hub: HubProcess, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the command line beside a hub, on its database."""
    ran = subprocess.run(
        [sys.executable, "-m", "localmem_hub", *arguments, "--json", "--db", hub.database_url],
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, json.loads(ran.stdout)


def contents(file: Path) -> list[bytes]:
    """The batches in a database of one client id, in order."""
    store = SqlStore(open_engine(f"sqlite:///{file}"))
    try:
        stored = store.load("team")
    finally:
        store.close()
    found: list[bytes] = []
    for update in [stored.snapshot, *stored.rows]:
        for run in decode_update(update).items.values() if update else ():
            found += [one for item in run for one in item.contents or ()]
    return found


async def test_a_backup_under_load_is_one_state_with_all_that_was_acknowledged(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    with running_hub(tmp_path) as hub:
        raw = await RawClient.join(hub.url, "team", ONE, hub.token("team", ONE))
        confirmed = 0
        done, moved = asyncio.Event(), asyncio.Event()

        async def write() -> None:
            nonlocal confirmed
            while not done.is_set():
                for _ in range(4):
                    await raw.write(b"batch %d" % raw.clock)
                await raw.acknowledged(raw.clock)
                confirmed = raw.clock
                moved.set()

        async def reached(clock: int) -> None:
            while confirmed < clock:
                moved.clear()
                await moved.wait()

        writing = asyncio.create_task(write())
        async with asyncio.timeout(60):
            for number in range(5):
                await reached(20 * number)
                before = confirmed
                copy = folder / "hub.db"  # the same name: replaced whole
                await asyncio.to_thread(make_backup, hub.database_url, copy)
                held = contents(copy)
                assert held == [b"batch %d" % clock for clock in range(len(held))]
                assert before <= len(held)
            code, said = await asyncio.to_thread(command, hub, "backup", str(folder / "hub.db"))
            done.set()
            await writing
        assert code == 0
        assert (said["pools"], said["bytes"]) == (1, (folder / "hub.db").stat().st_size)
    for path in folder.iterdir():  # those of the test's own look at it as well
        assert path.name.startswith("hub.db")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_after_a_restore_what_was_given_out_is_void_and_new_tokens_open(
    tmp_path: Path,
) -> None:
    copy = tmp_path / "copy"
    with running_hub(tmp_path) as hub:
        token = hub.token("team", ONE)
        with hub.store() as store:
            store.access.invite(1, 1, SystemRandom(), SystemClock().now_ms())
            secret = store.access.secret(SESSIONS, SystemRandom())
        raw = await RawClient.join(hub.url, "team", ONE, token)
        await raw.write(b"kept")
        await raw.acknowledged(1)
        make_backup(hub.database_url, copy)
        assert (
            secret in hub.database.read_bytes() + hub.database.with_name("hub.db-wal").read_bytes()
        )
        assert secret not in copy.read_bytes()
        await raw.write(b"lost")
        await raw.acknowledged(2)
        with pytest.raises(InUseError):
            put_back(hub.database_url, copy, NOW)
        with pytest.raises(InUseError):
            void_in_place(hub.database_url, NOW)
        assert contents(hub.database) == [b"kept", b"lost"]
        await raw.socket.close()
        hub.kill()  # what its log holds belongs to the database that is kept
        code, said = command(hub, "restore", str(copy))
        assert code == 0
        assert (said["tokens_voided"], said["invitations_voided"]) == (1, 1)
        assert contents(Path(said["kept"])) == [b"kept", b"lost"]
        assert contents(hub.database) == contents(copy) == [b"kept"]
        assert stat.S_IMODE(hub.database.stat().st_mode) == 0o600
        hub.start()
        async with asyncio.timeout(60):
            assert await close_code(await dial(hub.url, "team", ONE, token)) == Close.BAD_TOKEN
            with hub.store() as store:
                assert store.access.secret(SESSIONS, SystemRandom()) != secret
            again = await RawClient.join(
                hub.url, "team", ONE, hub.token("team", ONE), client=raw.client
            )
            assert (again.client, again.clock) == (raw.client, 1)
            await again.write(b"lost")  # each refills its own array…
            await again.acknowledged(2)
            await again.socket.close()
            for content in (b"lost", b"another"):  # …and nobody that of another
                other = await RawClient.join(hub.url, "team", TWO, hub.token("team", TWO))
                await other.send(Update(append(ONE, raw.client, 1, content)))
                assert await close_code(other.socket) == Close.REFUSED_UPDATE
        with contextlib.closing(sqlite3.connect(hub.database)) as connection:
            assert connection.execute("SELECT count(*) FROM invitations").fetchone() == (0,)


def made(path: Path) -> SqlStore:
    """The store of a new database with a token."""
    engine = open_engine(f"sqlite:///{path}")
    prepare(engine)
    store = SqlStore(engine)
    store.tokens.create("team", ONE, "writer", SystemRandom(), 1)
    return store


def test_a_restore_that_cannot_be_changes_nothing(tmp_path: Path) -> None:
    database = tmp_path / "home" / "hub.db"
    store = made(database)
    url = f"sqlite:///{database}"
    good, torn = tmp_path / "good", tmp_path / "torn"
    make_backup(url, good)
    store.close()
    before = database.read_bytes()
    data = bytearray(good.read_bytes())
    for page in range(1, len(data) // 4096):
        data[4096 * page : 4096 * page + 64] = bytes(64)
    torn.write_bytes(data)
    foreign, newer, text = tmp_path / "foreign", tmp_path / "newer", tmp_path / "text"
    with contextlib.closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE notes (text)")
    newer.write_bytes(good.read_bytes())
    with contextlib.closing(sqlite3.connect(newer)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'r9999'")
    text.write_text("no database\n" * 1000)
    for file, error in (
        (torn, DamageError),
        (foreign, DamageError),
        (newer, MigrationError),
        (text, StoreError),
        (tmp_path / "missing", ConfigError),
        (database, ConfigError),
    ):
        with pytest.raises(error):
            put_back(url, file, NOW)
        assert [path.name for path in database.parent.iterdir()] == ["hub.db"]
        assert database.read_bytes() == before


def test_a_database_that_is_broken_is_put_back_and_kept_as_it_was(tmp_path: Path) -> None:
    database, copy = tmp_path / "hub.db", tmp_path / "copy"
    made(database).close()
    make_backup(f"sqlite:///{database}", copy)
    database.write_bytes(b"broken" * 1000)
    (tmp_path / "hub.db-wal").write_bytes(b"a log")
    voided, kept = put_back(f"sqlite:///{database}", copy, NOW)
    assert voided.tokens == 1
    assert kept is not None
    assert kept.read_bytes() == b"broken" * 1000
    assert kept.with_name(kept.name + "-wal").read_bytes() == b"a log"
    assert not (tmp_path / "hub.db-wal").exists()
    assert put_back(f"sqlite:///{tmp_path / 'new' / 'hub.db'}", copy, NOW)[1] is None


@pytest.mark.parametrize("ending", ["", "-wal"])
def test_a_backup_does_not_replace_the_database(tmp_path: Path, ending: str) -> None:
    made(tmp_path / "hub.db").close()
    with pytest.raises(ConfigError, match="the database itself"):
        make_backup(f"sqlite:///{tmp_path / 'hub.db'}", tmp_path / f"hub.db{ending}")
    for wrong in (tmp_path, tmp_path / "hub.db" / "below"):
        with pytest.raises(ConfigError, match="folder"):
            make_backup(f"sqlite:///{tmp_path / 'hub.db'}", wrong)
    with pytest.raises(ConfigError, match="there is no"):
        make_backup(f"sqlite:///{tmp_path / 'none.db'}", tmp_path / "copy")


def test_a_backup_that_fails_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path / "hub.db").close()
    copy = tmp_path / "copies" / "copy"
    copy.parent.mkdir()
    make_backup(f"sqlite:///{tmp_path / 'hub.db'}", copy)
    before = copy.read_bytes()

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device", str(copy))

    monkeypatch.setattr(backups, "_sync", full)
    with pytest.raises(StoreError, match="No space left"):
        make_backup(f"sqlite:///{tmp_path / 'hub.db'}", copy)
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]
    assert copy.read_bytes() == before


def test_only_a_file_is_copied_here(postgres: PostgresServer) -> None:
    with pytest.raises(ConfigError, match=r"docs/backup\.md"):
        make_backup(postgres.url("any"), Path("copy"))


def test_a_server_that_may_lose_what_it_committed_is_named(postgres: PostgresServer) -> None:
    store = SqlStore(open_engine(postgres.prepared()))
    try:
        assert store.weaknesses() == ["fsync"]  # the tests' own
    finally:
        store.close()


def documented(section: str) -> list[str]:
    """The commands of a section of docs/backup.md."""
    _, _, rest = DOCUMENT.read_text().partition(f"\n## {section}\n")
    blocks = re.findall(r"```sh\n(.*?)```", rest.partition("\n## ")[0], re.DOTALL)
    return "".join(blocks).splitlines()


def run_documented(line: str, changed: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command of the document with these parts of it replaced."""
    for said, meant in changed.items():
        line = line.replace(said, meant)
    line = line.replace("localmem-hub ", f"{sys.executable} -m localmem_hub ", 1)
    return subprocess.run(shlex.split(line), capture_output=True, text=True, check=False)


def test_the_commands_for_sqlite_work_as_they_are_documented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup, restore = documented("SQLite")
    database = tmp_path / "hub.db"
    monkeypatch.setenv("LOCALMEM_HUB_DATABASE", f"sqlite:///{database}")
    store = made(database)
    there = {"/var/backups/localmem-hub.db": str(tmp_path / "copy")}
    assert run_documented(backup, there).returncode == 0
    assert "in use" in run_documented(restore, there).stderr
    store.close()
    ran = run_documented(restore, there)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "1 device tokens and 0 invitations are void" in ran.stdout


def test_the_commands_for_postgresql_work_as_they_are_documented(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    dump, put, void = documented("PostgreSQL")
    url, empty = postgres.prepared(), postgres.database()
    store = SqlStore(open_engine(url))
    token = store.tokens.create("team", ONE, "writer", SystemRandom(), 1)
    binaries = find_binaries()
    assert binaries is not None
    there = {
        "/var/backups/localmem-hub.dump": str(tmp_path / "copy"),
        "postgresql+psycopg://hub@db.example.com/restored": empty,
        "postgresql://hub@db.example.com/restored": empty.replace("+psycopg", ""),
        "postgresql://hub@db.example.com/hub": url.replace("+psycopg", ""),
        "pg_": f"{binaries}/pg_",
    }
    for line in (dump, put):
        ran = run_documented(line, there)
        assert (ran.returncode, ran.stderr) == (0, "")
    restored = SqlStore(open_engine(empty))
    assert restored.tokens.check(token.text, "team", ONE, NOW).device == ONE
    assert "in use" in run_documented(void, there).stderr
    restored.close()
    assert run_documented(void, there).returncode == 0
    restored = SqlStore(open_engine(empty))
    with pytest.raises(TokenError, match="revoked"):
        restored.tokens.check(token.text, "team", ONE, NOW)
    assert store.tokens.check(token.text, "team", ONE, NOW).device == ONE
    restored.close()
    store.close()
