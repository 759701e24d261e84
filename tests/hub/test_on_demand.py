"""A hub that is put together at the first request, by a host that announces neither start nor end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

import localmem_hub.on_demand
from localmem_hub.app import Policy, create_app
from localmem_hub.errors import CommitError, HubError
from localmem_hub.limits import COMPACT_ROWS, MAILBOX_MS
from localmem_hub.on_demand import OnDemand
from localmem_hub.seams import Batch
from localmem_hub.system import SystemRandom
from localmem_protocol.frames import Close
from localmem_protocol.room import Row
from support.hub_store import ObservedStore, open_store
from support.served_hub import HandClock
from support.sync_client import append

ONE = f"{1:016x}"


def asking(hub: OnDemand) -> httpx2.AsyncClient:
    """Requests to it; this transport knows no lifespan."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=hub), base_url="http://hub")


async def test_the_first_request_makes_the_hub_and_many_at_once_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    make = localmem_hub.on_demand.make_app

    def counted(environment: dict[str, str]) -> object:
        made.append(environment)
        return make(environment)

    monkeypatch.setattr("localmem_hub.on_demand.make_app", counted)
    hub = OnDemand({"LOCALMEM_HUB_DATABASE": f"sqlite:///{tmp_path / 'hub.db'}"})
    assert not (tmp_path / "hub.db").exists()
    async with asking(hub) as client:
        answers = await asyncio.gather(*(client.get("/readyz") for _ in range(10)))
        assert [answer.status_code for answer in answers] == [200] * 10
        assert (await client.get("/openapi.json")).status_code == 200
    assert len(made) == 1


async def test_a_request_that_is_given_up_leaves_the_hub_to_the_others(tmp_path: Path) -> None:
    hub = OnDemand({"LOCALMEM_HUB_DATABASE": f"sqlite:///{tmp_path / 'hub.db'}"})
    async with asking(hub) as client:
        first = asyncio.create_task(client.get("/readyz"))
        second = asyncio.create_task(client.get("/readyz"))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).status_code == 200


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "http", "port"),
        ("PLAIN_ENABLED", "true", "plain rooms"),
        ("AUDIT", "/var/log/audit", "audit"),
        ("DATABASE", "mysql://there", "database"),
        ("TRUSTED_PROXIES", "10.0.0.0/8", "client_header"),
    ],
)
async def test_a_hub_that_cannot_be_made_says_so_and_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, value: str, said: str
) -> None:
    environment = {"LOCALMEM_HUB_DATABASE": f"sqlite:///{tmp_path / 'hub.db'}"}
    environment[f"LOCALMEM_HUB_{name}"] = value
    hub = OnDemand(environment)
    async with asking(hub) as client:
        answer = await client.get("/v1/sync/team/updates")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert answer.json()["error"]["code"] == Close.STORE_FAILED
        assert said not in answer.text  # it is for whoever reads the log
        assert any(said in record.getMessage() for record in caplog.records)
        with pytest.raises(HubError):
            await hub.care()
        other = await client.post("/v1/auth")
        assert isinstance(other.json()["error"]["code"], str)
        del environment[f"LOCALMEM_HUB_{name}"]
        environment["LOCALMEM_HUB_DATABASE"] = f"sqlite:///{tmp_path / 'hub.db'}"
        assert (await client.get("/readyz")).status_code == 200


async def test_a_timer_may_be_what_makes_it(tmp_path: Path) -> None:
    hub = OnDemand({"LOCALMEM_HUB_DATABASE": f"sqlite:///{tmp_path / 'hub.db'}"})
    assert await hub.care() == []


async def test_to_care_is_to_sweep_and_to_compact(tmp_path: Path) -> None:
    store, clock = ObservedStore(open_store(tmp_path, "large", "small")), HandClock()
    updates = [append(ONE, 1, number, b"%d" % number) for number in range(COMPACT_ROWS)]
    rows = [Row(ONE, update) for update in updates]
    store.commit([Batch("large", 0, rows, {1: ONE}), Batch("small", 0, rows[:9], {1: ONE})], 1)
    app = create_app(store, clock, policy=Policy(websocket=False, recurring=False))
    number = store.mailboxes.open(b"1" * 32, clock.ms + MAILBOX_MS, SystemRandom(), clock.ms)
    assert number is not None
    clock.ms += MAILBOX_MS + 1
    assert await app.state.hub.care() == []
    assert (store.load("large").rows, len(store.load("small").rows)) == ([], 9)
    assert store.overgrown(1) == ["small"]
    assert store.mailboxes.open(b"1" * 32, clock.ms + MAILBOX_MS, SystemRandom(), clock.ms)
    assert await app.state.hub.care() == []  # there is no harm in twice
    await app.state.hub.stop()
    store.close()


async def test_what_cannot_be_seen_to_is_named_and_keeps_nothing_else_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ObservedStore(open_store(tmp_path, "team"))
    app = create_app(store, HandClock(), policy=Policy(websocket=False, recurring=False))

    def away(now_ms: int) -> None:
        raise CommitError("the storage is busy")

    monkeypatch.setattr(store.mailboxes, "sweep", away)
    assert await app.state.hub.care() == ["mailboxes"]
    store.close()


async def test_a_hub_that_does_nothing_by_itself_has_no_tasks_that_recur(tmp_path: Path) -> None:
    store = ObservedStore(open_store(tmp_path, "team"))
    app = create_app(store, HandClock(), policy=Policy(websocket=False, recurring=False))
    hub = app.state.hub
    hub.start()
    assert hub._recurring == []
    await hub.stop()
    await hub.stop()
    store.close()


def test_what_a_host_imports_to_see_what_there_is_brings_little_along() -> None:
    script = "import localmem_hub.on_demand, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"sqlalchemy", "starlette", "pycrdt", "cryptography", "azure"} & set(loaded)


def test_the_application_brings_no_database_along() -> None:
    script = "import localmem_hub.app, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"sqlalchemy", "alembic", "localmem_hub.plain.rooms"} & set(loaded)
