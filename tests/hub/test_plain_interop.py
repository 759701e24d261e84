"""Standard Yjs clients, as they come from npm and PyPI, meet in plain rooms of a real hub."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pycrdt import Awareness, Doc, Provider, Text
from pycrdt import Channel as _Channel
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bench.ports import free_port
from localmem_protocol.frames import Close
from support.hub_process import HubProcess, running_hub
from support.yjs_clients import YjsClients, yjs_clients


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with running_hub(tmp_path_factory.mktemp("hub"), "--plain") as running:
        yield running


@pytest.fixture
async def clients(hub: HubProcess, tmp_path: Path) -> AsyncIterator[YjsClients]:
    async with yjs_clients(hub.url, tmp_path) as running:
        yield running


async def test_what_one_types_the_other_reads(hub: HubProcess, clients: YjsClients) -> None:
    token = hub.token("typing", kind="plain")
    for tab in ("a", "b"):
        await clients.open(tab, "typing", token)
    await clients.do("type", tab="a", text="hello")
    await clients.do("text", tab="b", text="hello")
    await clients.do("type", tab="b", text=" world")
    await clients.do("text", tab="a", text="hello world")
    await clients.open("late", "typing", token)
    await clients.do("text", tab="late", text="hello world")
    await clients.do("same", tabs=["a", "b", "late"])


async def test_what_was_written_offline_reaches_everybody(
    hub: HubProcess, clients: YjsClients
) -> None:
    token = hub.token("offline", kind="plain")
    await clients.open("b", "offline", token)
    await clients.do("synced", tab="b")
    await clients.open("a", "offline", token, connect=False)
    await clients.do("type", tab="a", text="away")  # never connected yet
    await clients.do("connect", tab="a")
    await clients.do("text", tab="b", text="away")
    await clients.do("disconnect", tab="a")
    await clients.do("type", tab="a", text=" again")
    await clients.do("erase", tab="a", length=1)
    await clients.do("type", tab="b", text="!")
    await clients.do("connect", tab="a")
    await clients.do("same", tabs=["a", "b"])
    for tab in ("a", "b"):
        assert "way" in str(base64.b64decode((await clients.do("state", tab=tab))["update"]))


async def test_clients_see_who_is_there_and_who_left(hub: HubProcess, clients: YjsClients) -> None:
    token = hub.token("presence", kind="plain")
    for tab in ("a", "b"):
        await clients.open(tab, "presence", token)
        await clients.do("present", tab=tab, name=tab)
    for tab in ("a", "b"):
        await clients.do("who", tab=tab, names=["a", "b"])
    await clients.open("late", "presence", token)
    await clients.do("who", tab="late", names=["a", "b"])
    await clients.do("disconnect", tab="b")
    await clients.do("who", tab="a", names=["a"])
    await clients.do("connect", tab="b")
    await clients.do("present", tab="b", name="b again")
    await clients.do("who", tab="a", names=["a", "b again"])
    await clients.do("leave", tab="b")
    await clients.do("who", tab="late", names=["a"])
    await clients.do("leave", tab="a")
    await clients.do("leave", tab="late")
    assert hub.query("SELECT COUNT(*) FROM updates WHERE pool = 'presence'") == [(0,)]


async def test_two_tabs_of_one_browser_are_two_clients(
    hub: HubProcess, clients: YjsClients
) -> None:
    token = hub.token("tabs", kind="plain")
    for tab in ("one", "two"):
        await clients.open(tab, "tabs", token, broadcast=True)  # they hear each other, too
        await clients.do("present", tab=tab, name=tab)
    await clients.open("other", "tabs", token)
    await clients.do("type", tab="one", text="1")
    await clients.do("text", tab="other", text="1")
    await clients.do("type", tab="two", text="2")
    await clients.do("text", tab="other", text="12")
    await clients.do("who", tab="other", names=["one", "two"])
    await clients.do("leave", tab="one")
    await clients.do("who", tab="other", names=["two"])
    await clients.do("same", tabs=["two", "other"])


async def test_clients_come_back_to_a_hub_that_was_killed(tmp_path: Path) -> None:
    with running_hub(tmp_path, "--plain", "--port", str(free_port())) as hub:
        token = hub.token("restart", kind="plain")
        folder = tmp_path / "clients"
        folder.mkdir()
        async with yjs_clients(hub.url, folder) as clients:
            for tab in ("a", "b"):
                await clients.open(tab, "restart", token)
            await clients.do("type", tab="a", text="before")
            await clients.do("text", tab="b", text="before")  # seen by others is durable
            hub.kill()
            await clients.do("type", tab="b", text=" meanwhile")
            await clients.do("leave", tab="a")
            hub.start()
            await clients.open("new", "restart", token)
            await clients.do("text", tab="new", text="before meanwhile")
            await clients.do("same", tabs=["b", "new"])
            await clients.do("leave", tab="b")
            await clients.do("leave", tab="new")
        assert hub.stop() == 0
        assert token.split("_")[2] not in hub.log.read_text()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_random_changes_of_every_type_converge(
    hub: HubProcess, clients: YjsClients, seed: int
) -> None:
    token = hub.token(f"random-{seed}", kind="plain")
    tabs = [f"tab {number}" for number in range(4)]
    for tab in tabs:
        await clients.open(tab, f"random-{seed}", token)
    played = await clients.do("play", tabs=tabs, seed=seed, steps=300)
    assert played["structs"] > 50
    await clients.open("late", f"random-{seed}", token)
    await clients.do("same", tabs=[tabs[0], "late"])


async def test_a_reader_reads_and_is_shown_the_door_when_it_writes(
    hub: HubProcess, clients: YjsClients
) -> None:
    await clients.open("writer", "read-only", hub.token("read-only", kind="plain"))
    reader = hub.token("read-only", role="reader", kind="plain")
    await clients.open("reader", "read-only", reader)
    await clients.do("type", tab="writer", text="mine")
    await clients.do("text", tab="reader", text="mine")
    await clients.do("type", tab="reader", text=", yours")
    assert (await clients.do("closed", tab="reader"))["code"] == Close.READ_ONLY
    await clients.do("type", tab="writer", text=" alone")
    await clients.do("text", tab="writer", text="mine alone")
    await clients.open("late", "read-only", reader)
    await clients.do("text", tab="late", text="mine alone")


async def test_rooms_that_are_not_there_and_forbidden_ones_are_refused_alike(
    hub: HubProcess, clients: YjsClients
) -> None:
    token = hub.token("allowed", kind="plain")
    hub.token("forbidden", kind="plain")
    for room in ("forbidden", "missing", "a/b", "%00", "r" * 300):
        await clients.open(room, room, token)
        assert (await clients.do("closed", tab=room))["code"] == Close.BAD_TOKEN


class Channel(_Channel):
    """What a provider of pycrdt talks through."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    @property
    def path(self) -> str:
        return ""

    async def __anext__(self) -> bytes:
        try:
            return await self.recv()
        except ConnectionClosed:
            raise StopAsyncIteration from None

    async def send(self, message: bytes) -> None:
        await self._socket.send(message)

    async def recv(self) -> bytes:
        while True:
            data = await self._socket.recv()
            assert isinstance(data, bytes)
            if data[0] == 0:  # the provider has no ear for awareness
                return data


async def shows(text: Text, expected: str) -> None:
    async with asyncio.timeout(60):
        while str(text) != expected:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_providers_of_pycrdt_and_of_npm_meet(hub: HubProcess, clients: YjsClients) -> None:
    token = hub.token("languages", kind="plain")
    await clients.open("js", "languages", token)
    await clients.do("type", tab="js", text="from js")
    doc: Doc[Text] = Doc()
    text = doc.get("text", type=Text)
    headers = {"Authorization": f"Bearer {token}"}
    address = f"{hub.url}/v1/yjs/languages"
    async with (
        connect(address, additional_headers=headers, proxy=None) as socket,
        Provider(doc, Channel(socket)),
    ):
        await shows(text, "from js")
        text += " and python"
        await clients.do("text", tab="js", text="from js and python")
    text += ", offline"
    async with (
        connect(address, additional_headers=headers, proxy=None) as socket,
        Provider(doc, Channel(socket)),
    ):
        await clients.do("text", tab="js", text="from js and python, offline")
        awareness = Awareness(doc)
        awareness.set_local_state({"user": "python"})
        update = awareness.encode_awareness_update([doc.client_id])
        await socket.send(bytes((1, len(update))) + update)
        await clients.do("who", tab="js", names=["python"])
    await clients.do("who", tab="js", names=[])
