"""A disk without room: nothing is acknowledged that is not stored, and who reads is served."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from websockets.exceptions import ConnectionClosed

from localmem_hub import headroom
from localmem_hub.app import Policy
from localmem_hub.database import open_engine
from localmem_hub.errors import FullError
from localmem_hub.seams import Batch
from localmem_hub.store import SqlStore
from localmem_hub.system import SystemRandom
from localmem_protocol.frames import CAPABILITIES, PROTOCOL, Ack, Close, Hello, Refusal
from localmem_protocol.room import Row
from support.http_client import HttpClient
from support.plain_client import PlainClient, stored
from support.served_hub import ServedHub, serving
from support.sync_client import RawClient, close_code, dial

POOL = "team"
ONE, TWO, THREE = (f"{number:016x}" for number in (1, 2, 3))
ROOMY = 1_000_000


class Disk:
    """The room that a database may take, in pages."""

    def __init__(self, store: SqlStore) -> None:
        self._engine, self._log = store._engine, store._sqlite
        self._pages = ROOMY
        event.listen(self._engine, "connect", self._limit)

    def full(self) -> None:
        """Nothing more than there is; connections are made anew."""
        with self._engine.connect() as connection:
            self._pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one() + 4
        self._anew()

    def nothing(self) -> None:
        """Not even for what changes in place, as where the write-ahead log cannot grow."""

        def refuse(_: object, statement: str, __: object, ___: object) -> None:
            if statement.startswith(("INSERT", "UPDATE", "DELETE")):
                raise _full()

        def refuse_all(*_: object) -> None:
            raise _full()

        event.listen(self._engine, "do_execute", refuse)
        if self._log is not None:
            setattr(self._log, "commit", refuse_all)  # noqa: B010  mypy would not have it otherwise

    def roomy(self) -> None:
        """As much as anybody needs."""
        self._pages = ROOMY
        self._anew()

    def _anew(self) -> None:
        self._engine.dispose()
        if self._log is not None:
            self._log.close()

    def _limit(self, connection: Any, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {self._pages}")


def _full() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


@pytest.fixture
async def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ServedHub]:
    monkeypatch.setattr(headroom, "PROBE_SECONDS", 0.02)
    async with serving(tmp_path, policy=Policy(plain_workers=1)) as made:
        yield made


def token(hub: ServedHub, device: str | None, pool: str = POOL) -> str:
    return hub.store.tokens.create(pool, device, "writer", SystemRandom(), 1).text


async def fill(raw: RawClient) -> int:
    """Write until the hub says no; the clock that it confirmed."""
    confirmed = raw.clock
    try:
        while True:
            await raw.write(bytes(30_000))
            frame = await raw.next()
            if isinstance(frame, Ack):
                confirmed = frame.clock
    except ConnectionClosed:
        return confirmed


async def failing(hub: ServedHub) -> object:
    return (await hub.ask("GET", "/readyz")).json().get("failing")


async def test_a_full_disk_refuses_updates_for_now_and_serves_who_reads(hub: ServedHub) -> None:
    async with asyncio.timeout(60):
        texts = {device: token(hub, device) for device in (ONE, TWO, THREE)}
        raw = await RawClient.join(hub.url, POOL, ONE, texts[ONE])
        await raw.write(b"stored")
        await raw.acknowledged(1)
        two = await RawClient.join(hub.url, POOL, TWO, texts[TWO])
        await two.socket.close()
        disk = Disk(hub.store.inner)
        disk.full()
        confirmed = await fill(raw)
        assert raw.socket.close_code == Close.STORE_FAILED
        assert await failing(hub) == ["disk"]
        assert (await hub.ask("GET", "/healthz")).status_code == 200

        reader = await RawClient.join(hub.url, POOL, TWO, texts[TWO], client=two.client)
        assert b"stored" in await reader.synchronise()
        commits = len(hub.store.commits)
        again = await RawClient.join(hub.url, POOL, ONE, texts[ONE], client=raw.client)
        assert again.clock == confirmed
        await again.write(b"refused")
        refusal = await again.next()
        assert isinstance(refusal, Refusal)
        assert (refusal.code, refusal.permanent) == (Close.STORE_FAILED, False)
        assert await close_code(again.socket) == Close.STORE_FAILED
        # Whoever needs a client id has to wait, too: it would have to be stored.
        fresh = RawClient(await dial(hub.url, POOL, THREE, texts[THREE]), THREE)
        await fresh.send(Hello(PROTOCOL, CAPABILITIES, THREE, 0))
        assert await close_code(fresh.socket) == Close.STORE_FAILED
        assert b"stored" in await reader.synchronise()  # nobody else was sent away
        assert len(hub.store.commits) == commits

        disk.roomy()
        while await failing(hub) is not None:  # noqa: ASYNC110  it is looked at from outside
            await asyncio.sleep(0.01)
        again = await RawClient.join(hub.url, POOL, ONE, texts[ONE], client=raw.client)
        await again.write(b"there is room again")
        await again.acknowledged(confirmed + 1)
        await again.socket.close()
        await reader.socket.close()


async def test_a_defect_while_it_is_looked_for_room_does_not_refuse_updates_for_good(
    hub: ServedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def defect() -> None:
        loop.call_soon_threadsafe(failed.set)
        raise RuntimeError("a defect")

    async with asyncio.timeout(60):
        with monkeypatch.context() as broken:
            broken.setattr(hub.store, "try_room", defect)
            hub.hub.headroom.ran_out()
            await failed.wait()
        while hub.hub.headroom.full:  # noqa: ASYNC110  it is looked at from outside
            await asyncio.sleep(0.01)


async def test_requests_are_answered_alike(hub: ServedHub) -> None:
    async with (
        asyncio.timeout(60),
        HttpClient(hub.origin, POOL, ONE, token(hub, ONE)) as one,
        HttpClient(hub.origin, POOL, TWO, token(hub, TWO)) as two,
    ):
        await one.greet()
        await two.greet()
        await one.write(b"stored")
        Disk(hub.store.inner).full()
        while (refused := await one.write(bytes(30_000))).status == 200:
            pass
        assert (refused.status, refused.code) == (503, Close.STORE_FAILED)
        refused = await two.write(b"refused")
        assert (refused.status, refused.code) == (503, Close.STORE_FAILED)
        read = await two.poll()
        assert read.status == 200
        assert b"stored" in read.content


async def test_a_token_that_was_never_used_waits_for_room_and_others_do_not(
    hub: ServedHub,
) -> None:
    async with asyncio.timeout(60):
        text, unbound = token(hub, ONE), token(hub, None)
        raw = await RawClient.join(hub.url, POOL, ONE, text)
        disk = Disk(hub.store.inner)
        disk.full()
        await fill(raw)
        disk.nothing()
        hub.clock.ms += 120_000  # the use of a token is to be noted again
        again = await RawClient.join(hub.url, POOL, ONE, text, client=raw.client)
        await again.socket.close()
        socket = await dial(hub.url, POOL, TWO, unbound)
        assert await close_code(socket) == Close.STORE_FAILED


async def test_plain_rooms_serve_who_reads_as_well(hub: ServedHub) -> None:
    async with asyncio.timeout(60):
        text = hub.store.tokens.create(
            "notes", None, "writer", SystemRandom(), 1, kind="plain"
        ).text
        writer = await PlainClient.join(hub.url, "notes", text, client=1)
        await writer.write()
        await stored(hub.url, "notes", text)
        Disk(hub.store.inner).full()
        with contextlib.suppress(ConnectionClosed):
            while True:
                await writer.write("y" * 30_000)
                await writer.synchronise()
        assert await writer.closed() == Close.STORE_FAILED
        reader = await PlainClient.join(hub.url, "notes", text, client=2)
        writer = await PlainClient.join(hub.url, "notes", text, client=3)
        await writer.write()
        assert await writer.closed() == Close.STORE_FAILED
        await reader.synchronise()  # is still there
        await reader.socket.close()


def test_either_database_says_that_it_is_full(prepared_url: str) -> None:
    """SQLite by a bound of its pages; PostgreSQL by the error that it has for a full disk."""
    store = SqlStore(open_engine(prepared_url))
    store.tokens.create(POOL, None, "writer", SystemRandom(), 1)
    if store.shared:
        with store._engine.begin() as connection:
            connection.exec_driver_sql(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "RAISE disk_full; END $$"
            )
            for table in ("updates", "secrets"):
                connection.exec_driver_sql(
                    f"CREATE TRIGGER refuse BEFORE INSERT ON {table} "
                    "FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
                )
    else:
        Disk(store).full()
    with pytest.raises(FullError):
        store.commit([Batch(POOL, 0, [Row(ONE, bytes(1_000_000))])], 1)
    with pytest.raises(FullError):
        store.try_room()
    assert store.load(POOL).rows == []
    store.close()
