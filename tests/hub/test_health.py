"""What the hub says of itself to whoever asks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from localmem_hub import health
from localmem_hub.app import Policy
from support.served_hub import ServedHub, serving


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[ServedHub]:
    async with serving(tmp_path) as made:
        yield made


async def ready(hub: ServedHub) -> tuple[int, object]:
    answer = await hub.ask("GET", "/readyz")
    return answer.status_code, answer.json().get("failing")


async def test_a_hub_lives_and_is_ready(hub: ServedHub) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await hub.ask("GET", path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert "server" not in answer.headers
        assert answer.headers["cache-control"] == "no-store"


async def test_a_database_that_is_away_makes_a_hub_unready_but_not_dead(hub: ServedHub) -> None:
    hub.store.failing.add("team")
    answer = await hub.ask("GET", "/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"status": "unready", "failing": ["database"]}
    assert (await hub.ask("GET", "/healthz")).status_code == 200
    hub.store.failing.clear()
    assert await ready(hub) == (200, None)


async def test_a_database_that_says_nothing_is_away_and_is_asked_once(
    hub: ServedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "READY_SECONDS", 0.01)
    asked, answer = [], threading.Event()

    def ping() -> None:
        asked.append(1)
        answer.wait(30)

    monkeypatch.setattr(hub.store, "ping", ping)
    said = await asyncio.gather(*(ready(hub) for _ in range(5)), ready(hub))
    answer.set()
    assert said == [(503, ["database"])] * 6
    assert len(asked) == 1
    monkeypatch.setattr(health, "READY_SECONDS", 10)
    await ready(hub)  # the rest of that look
    assert await ready(hub) == (200, None)


async def test_tables_of_another_release_make_a_hub_unready(hub: ServedHub) -> None:
    with hub.store.inner._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'r9999'")
    assert await ready(hub) == (503, ["migrations"])


async def test_a_disk_with_less_room_than_asked_for_makes_a_hub_unready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, policy=Policy(disk_free_mb=7)) as hub:
        assert (hub.store.free_bytes() or 0) > 0
        monkeypatch.setattr(hub.store, "free_bytes", lambda: 7_000_000)
        assert await ready(hub) == (200, None)
        monkeypatch.setattr(hub.store, "free_bytes", lambda: 6_999_999)
        assert await ready(hub) == (503, ["disk"])
