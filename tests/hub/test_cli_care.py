"""The commands that keep a database in order, beside a hub that serves and without one."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.postgres_server import PostgresServer
from localmem_hub import cli, doctor
from localmem_hub.database import open_engine, prepare
from localmem_hub.doctor import checks
from localmem_hub.seams import Batch
from localmem_hub.settings import Settings
from localmem_hub.store import SqlStore
from localmem_hub.system import SystemClock
from localmem_protocol.room import Quarantined, Row
from localmem_protocol.simulation import SeededRandom
from support.hub_process import HubProcess, running_hub
from support.hub_store import put_team
from support.pool_members import ONE, TWO, Team
from support.served_hub import HandClock
from support.sync_client import RawClient, append

Run = Callable[..., tuple[int, str]]

REFUSED = bytes(range(200))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'hub.db'}"


@pytest.fixture
def run(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line; its exit code and what it printed."""
    for name in list(os.environ):
        if name.startswith("LOCALMEM_HUB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LOCALMEM_HUB_DATABASE", url)
    monkeypatch.setenv("LOCALMEM_HUB_PORT", "0")

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["localmem-hub", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, capsys.readouterr().out

    return call


def put(url: str) -> SqlStore:
    """A store with two rooms, in each a refused update, and a plain room; in "a" three rows as well."""
    engine = open_engine(url)
    prepare(engine, migrate=True)
    store = SqlStore(engine)
    for number, name in enumerate(("a", "b")):
        store.tokens.create(name, ONE, "writer", SeededRandom(number), 1)
    store.tokens.create("notes", None, "writer", SeededRandom(7), 1, kind="plain")
    rows = [Row(ONE, append(ONE, 1, clock, b"row %d" % clock)) for clock in range(3)]
    store.commit([Batch("a", 0, rows, {1: ONE}, [Quarantined(ONE, REFUSED, "a gap")])], 1000)
    store.commit([Batch("b", 0, (), {}, [Quarantined(TWO, b"x", "no update")])], 2000)
    store.commit([Batch("notes", 0, [Row("t", b"\x00\x00")])], 3000)
    return store


def test_what_was_refused_is_listed_shown_and_let_go(run: Run, url: str, tmp_path: Path) -> None:
    put(url).close()
    first, second = json.loads(run("quarantine", "list", "--json")[1])["quarantine"]
    assert first == {
        "id": 1, "pool": "a", "device": ONE, "reason": "a gap", "size": 200, "at_ms": 1000,
    }  # fmt: skip
    assert (second["pool"], second["device"], second["size"]) == ("b", TWO, 1)
    (line,) = run("quarantine", "list", "--pool", "a")[1].splitlines()
    assert line == f"1  a  200 bytes from {ONE}  1970-01-01 00:00 UTC  a gap"
    shown = json.loads(run("quarantine", "show", "1", "--json")[1])
    assert base64.b64decode(shown["bytes"]) == REFUSED
    assert run("quarantine", "show", "1")[1].splitlines()[-1] == REFUSED.hex()
    file = tmp_path / "refused"
    assert run("quarantine", "show", "1", "--output", str(file))[0] == 0
    assert file.read_bytes() == REFUSED
    assert run("quarantine", "show", "1", "--output", str(file))[0] == 2  # nothing is overwritten
    assert run("quarantine", "drop", "1") == (0, "1 dropped\n")
    left = json.loads(run("quarantine", "list", "--json")[1])["quarantine"]
    assert [one["id"] for one in left] == [2]
    assert run("quarantine", "drop", "--pool", "a") == (0, "0 dropped\n")
    assert json.loads(run("quarantine", "drop", "--all", "--json")[1])["dropped"] == 1
    assert run("quarantine", "list")[1] == ""


def test_rooms_are_compacted_but_plain_ones(run: Run, url: str) -> None:
    store = put(url)
    before = store.load("a")
    code, out = run("compact", "--all", "--json")
    told = json.loads(out)
    assert (code, told["failed"]) == (0, 0)
    states = {one["room"]: one["state"] for one in told["rooms"]}
    assert states == {"a": "compacted", "b": "nothing to do", "notes": "plain"}
    after = store.load("a")
    assert (after.head, after.rows, after.clients) == (before.head, [], before.clients)
    assert after.snapshot is not None
    assert b"row 2" in after.snapshot
    assert store.load("notes").rows == [b"\x00\x00"]
    assert run("compact", "a") == (0, "a  nothing to do\n")
    store.close()


def test_a_room_that_does_not_load_keeps_its_rows_and_ends_with_1(run: Run, url: str) -> None:
    store = put(url)
    store.commit([Batch("b", 0, [Row(ONE, b"no update")])], 1)
    code, out = run("compact", "a", "b")
    assert code == 1
    first, second = out.splitlines()
    assert first == "a  compacted"
    assert second.startswith("b  failed: pool b does not load")
    assert store.load("b").rows == [b"no update"]
    store.close()


async def test_a_hub_goes_on_while_its_rooms_are_compacted(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub:
        async with asyncio.timeout(60):
            raw = await RawClient.join(hub.url, "team", ONE, hub.token("team", ONE))
            for clock in range(1, 4):
                await raw.write(b"before")
                await raw.acknowledged(clock)
            assert await command(hub, "compact", "team") == (0, "team  compacted\n")
            assert hub.query("SELECT count(*) FROM updates") == [(0,)]
            await raw.write(b"after")
            await raw.acknowledged(4)
            code, out = await command(hub, "doctor")
            assert code == 0, out
            assert f"a hub serves on 127.0.0.1 port {hub.url.rpartition(':')[2]}" in out
            await raw.socket.close()
        hub.kill()
        hub.start()
        async with asyncio.timeout(60):
            again = await RawClient.join(
                hub.url, "team", ONE, hub.token("team", ONE), client=raw.client
            )
            update = await again.synchronise()
            assert (again.clock, update.count(b"before"), update.count(b"after")) == (4, 3, 1)
            await again.socket.close()


async def command(hub: HubProcess, *arguments: str) -> tuple[int, str]:
    """What another process of `localmem-hub` prints, on the database of a hub that runs."""
    told = {"LOCALMEM_HUB_DATABASE": hub.database_url, "LOCALMEM_HUB_PORT": hub.url.split(":")[-1]}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "localmem_hub", *arguments),
        env=os.environ | told,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


def test_one_replica_compacts_at_a_time(run: Run, postgres: PostgresServer) -> None:
    database = postgres.database()
    store = put(database)
    hold = store.hold("a")
    assert hold is not None
    assert run("compact", "a", "--database", database) == (0, "a  busy\n")
    hold.release()
    assert run("compact", "a", "--database", database) == (0, "a  compacted\n")
    store.close()


def test_devices_with_tokens_are_shown_and_shut_out(run: Run, url: str) -> None:
    store = put(url)
    second = store.tokens.create("a", ONE, "reader", SeededRandom(9), 1)
    listed = json.loads(run("device", "list", "a", "--json")[1])
    assert listed["epoch"] is None
    (one,) = listed["devices"]
    assert (one["device"], one["role"], one["tokens"], one["seen"]) == (ONE, "writer", 2, "never")
    shown = json.loads(run("device", "show", "a", ONE, "--json")[1])
    assert shown["quarantined"] == [1]
    assert {token["role"] for token in shown["tokens"]} == {"writer", "reader"}
    assert "refused updates: 1" in run("device", "show", "a", ONE)[1]
    revoked = json.loads(run("device", "revoke", "a", ONE, "--json")[1])["revoked"]
    assert len(revoked) == 2
    assert second.id in revoked
    assert all(record.revoked_ms for record in store.tokens.list("a"))
    assert store.tokens.list("b")[0].revoked_ms is None
    assert run("device", "revoke", "a", ONE) == (0, "0 tokens revoked\n")
    assert run("device", "list", "a")[1] == f"{ONE}  revoked  0 tokens  seen never\n"
    assert run("device", "show", "a", TWO)[0] == 2
    store.close()


def test_a_device_of_a_roster_is_not_the_hubs_to_remove(run: Run, url: str) -> None:
    team = Team()
    put_team(Path(url.removeprefix("sqlite:///")).parent, team)
    shown = json.loads(run("device", "show", team.pool, ONE, "--json")[1])
    assert (shown["role"], shown["tokens"], shown["quarantined"]) == ("owner", [], [1])
    assert run("device", "revoke", team.pool, ONE)[0] == 2


def found(url: str, clock: HandClock | SystemClock | None = None, **more: object) -> dict[str, str]:
    """The checks that fail: name -> what is said, advice included."""
    settings = Settings(database=url, **({"port": 0} | more))  # type: ignore[arg-type]
    told = list(checks(settings, clock or SystemClock(), full=True))
    assert all(bool(one.advice) != one.ok for one in told)
    return {one.name: f"{one.detail}; {one.advice}" for one in told if not one.ok}


def test_the_doctor_finds_nothing_where_all_is_well_and_makes_nothing(
    run: Run, tmp_path: Path
) -> None:
    code, out = run("doctor", "--json")
    assert (code, json.loads(out)["problems"]) == (0, 0)
    assert not (tmp_path / "hub.db").exists()
    assert run("migrate")[0] == 0
    code, out = run("doctor")
    assert (code, out.splitlines()[-1]) == (0, "all is well")
    names = [line.split()[1] for line in out.splitlines()[:-1]]
    assert names == [
        "release:", "settings:", "permissions:", "database:", "migrations:", "disk:",
        "durability:", "integrity:", "clock:", "quarantine:", "port:",
    ]  # fmt: skip


def test_the_doctor_says_what_to_do(run: Run, url: str, tmp_path: Path) -> None:
    put(url).close()
    file = tmp_path / "hub.db"
    assert list(found(url)) == ["quarantine"]
    assert "localmem-hub quarantine list" in run("doctor")[1]
    assert run("doctor")[0] == 1
    run("quarantine", "drop", "--all")
    assert "this machine's clock" in found(url, _early(file))["clock"]
    assert "must stay so" in found(url, disk_free_mb=10**9)["disk"]
    assert "metrics" in found(url, metrics="70000")["settings"]
    assert "origin" in found(url, host="0.0.0.0")["settings"]
    file.chmod(0o644)
    assert f"chmod 600 {file}" in found(url)["permissions"]
    file.chmod(0o600)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'r0001'")
    assert "localmem-hub migrate" in found(url)["migrations"]
    file.write_bytes(b"no database" * 1000)
    assert "file is not a database" in found(url)["database"]


def _early(file: Path) -> HandClock:
    """A clock that is behind what is stored."""
    clock = HandClock()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE pools SET created_ms = ?", (clock.ms + 120_000,))
    return clock


def test_the_doctor_sees_a_file_that_is_damaged(url: str, tmp_path: Path) -> None:
    store = put(url)
    store.commit([Batch("b", 0, [Row(ONE, bytes(200_000))])], 1)
    store.erase(None)
    store.close()
    file = tmp_path / "hub.db"
    damaged = bytearray(file.read_bytes())
    for page in range(20, len(damaged) // 4096):
        damaged[page * 4096 : page * 4096 + 8] = b"\xff" * 8
    file.write_bytes(damaged)
    assert set(found(url)) & {"integrity", "database"}


def test_the_doctor_knows_who_has_the_port(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ASK_SECONDS", 0.1)
    put(url).close()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        taken.setblocking(False)
        port = taken.getsockname()[1]
        # Nobody answers: the question is put to a socket that is never read.
        assert f"port {port}" in found(url, port=port)["port"]


def test_the_doctor_looks_at_postgresql_too(postgres: PostgresServer) -> None:
    database = postgres.prepared()
    # A server of tests does without the disk, and that is what is found.
    assert list(found(database)) == ["durability"]
    assert "apart from the database's" in found(database, HandClock())["clock"]
    away = database.replace("postgresql+psycopg://", "postgresql+psycopg://nobody_else@", 1)
    missing = f"{away.partition('?')[0]}_gone?{away.partition('?')[2]}"
    assert "database" in found(missing)
