"""Single requests below the agent: against real hubs, and against servers that are none."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import threading
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

import localmem_protocol.session
from localmem_node.config import HubSettings
from localmem_node.demo.wire import Wire
from localmem_node.errors import ConfigError, SyncError
from localmem_node.sync.choosing import AutomaticTransport, open_transport
from localmem_node.sync.http_transport import HttpConnection, HttpTransport
from localmem_node.sync.transport import Connection, Transport, WebSocketConnection
from localmem_node.system import SystemClock, SystemRandom
from localmem_protocol.errors import RefusedError
from localmem_protocol.frames import CAPABILITIES, NEEDED, Close, Step2, encode_frame
from localmem_protocol.session import UNACKNOWLEDGED_MAX, Session
from support.hub_process import running_hub
from support.served import POOL, serving
from support.sync_node import ONE, THREE, TWO, Node, settled
from support.waiting import WAIT_S, until


async def test_devices_of_both_transports_converge_although_the_hub_is_killed(
    tmp_path: Path,
) -> None:
    with running_hub(tmp_path) as hub:
        nodes = [
            Node(ONE, hub.token(POOL)),
            Node(TWO, hub.token(POOL)),
            Node(THREE, hub.token(POOL), "websocket"),
        ]
        for life in range(3):
            async with contextlib.AsyncExitStack() as stack:
                agents = [
                    await stack.enter_async_context(node.running(hub.http_url)) for node in nodes
                ]
                await settled(*agents)
                for number in range(30):
                    for node in nodes:
                        node.log.happen(f"{node.log.device} {life} {number}")
                    await asyncio.sleep(0)
                if life < 2:
                    hub.kill()
                    for agent in agents:
                        await agent.sync_now(WAIT_S)
                else:
                    await settled(*agents)
                    await settled(*agents)
                    await until(lambda: all(len(node.log.events) == 270 for node in nodes))
            if life < 2:
                hub.start()
        first = nodes[0].log.ordered()
        assert all(node.log.ordered() == first for node in nodes)
        assert hub.query("SELECT count(*) FROM quarantine") == [(0,)]


async def test_to_sync_now_brings_what_others_have(tmp_path: Path) -> None:
    async with serving(tmp_path, wait_seconds=0) as hub:
        one, two = Node(ONE, hub.token(ONE)), Node(TWO, hub.token(TWO))
        async with one.running(hub.url) as agent, two.running(hub.url) as other:
            await settled(agent, other)
            for number in range(5):
                event = one.log.happen(f"{number}")
                await settled(agent)
                await settled(other)
                assert event.id in two.log.events


async def test_a_hub_that_lets_requests_wait_tells_news_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as hub:
        one, two = Node(ONE, hub.token(ONE)), Node(TWO, hub.token(TWO))
        async with one.running(hub.url) as agent, two.running(hub.url) as other:
            await settled(agent, other)
            for number in range(10):
                await until(lambda: bool(hub.hub.watchers._waiting))
                event = one.log.happen(f"{number}")
                await until(lambda event=event: event.id in two.log.events)  # type: ignore[misc]


async def test_what_is_counted_is_what_the_wire_carries(tmp_path: Path) -> None:
    async with serving(tmp_path, wait_seconds=0) as hub:
        wire = Wire("127.0.0.1", hub.port)
        try:
            node = Node(ONE, hub.token(ONE))
            async with node.running(f"http://127.0.0.1:{wire.port}") as agent:
                await settled(agent)
                for number in range(5):
                    node.log.happen("x" * 7**number)
                    await settled(agent)
                status = agent.status()
                assert status["bytes_sent"] + status["bytes_received"] == wire.bytes
        finally:
            wire.close()


async def test_an_idle_question_is_small(tmp_path: Path) -> None:
    async with serving(tmp_path, wait_seconds=0) as hub:
        node = Node(ONE, hub.token(ONE))
        async with node.running(hub.url) as agent:
            await settled(agent)
            before = agent.status()
            await settled(agent)
            after = agent.status()
            # A pool's real name is 30 characters longer, and a hub's perhaps as much.
            assert 0 < after["bytes_sent"] - before["bytes_sent"] <= 240
            assert 0 < after["bytes_received"] - before["bytes_received"] <= 100


async def test_an_idle_websocket_says_nothing_and_costs_little_to_open(tmp_path: Path) -> None:
    async with serving(tmp_path) as hub:
        wire = Wire("127.0.0.1", hub.port)
        try:
            node = Node(ONE, hub.token(ONE), "websocket")
            node.log.happen("something to compare")
            async with node.running(f"http://127.0.0.1:{wire.port}") as agent:
                await settled(agent)
            wire.bytes = 0
            async with node.running(f"http://127.0.0.1:{wire.port}") as agent:
                await settled(agent)
                opened, counted = wire.bytes, agent.status()
                for _ in range(100):
                    await settled(agent)
                assert agent.status()["bytes_sent"] == counted["bytes_sent"]
                assert agent.status()["bytes_received"] == counted["bytes_received"]
            # Even a line that breaks three times a day stays under 4 KB.
            assert opened <= 4096 // 4
        finally:
            wire.close()


@pytest.mark.parametrize("way", ["http", "websocket"])
async def test_so_many_batches_are_under_way_and_no_more(tmp_path: Path, way: str) -> None:
    async with serving(tmp_path) as hub:
        node = Node(ONE, hub.token(ONE), way)
        async with node.running(hub.url) as agent:
            await settled(agent)
            hub.store.gate.clear()
            most = 0
            for number in range(4 * UNACKNOWLEDGED_MAX):
                node.log.happen("x" * 60_000 + str(number))
                await asyncio.sleep(0.005)
                most = max(most, agent.status()["unacknowledged"])
            assert 0 < most <= UNACKNOWLEDGED_MAX
            hub.store.gate.set()
            await settled(agent)
            assert agent.status()["unacknowledged"] == 0


async def test_offline_nothing_gathers_in_the_agent(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub:
        node = Node(ONE, hub.token(POOL))
        async with node.running(hub.http_url) as agent:
            await settled(agent)
            hub.kill()
            assert not (await agent.sync_now(WAIT_S))["settled"]
            clock = agent.status()["unacknowledged"]
            tracemalloc.start()
            try:
                before = tracemalloc.take_snapshot()
                for number in range(5000):
                    node.log.happen(f"offline {number} " + "x" * 500)
                    if number % 100 == 0:
                        await asyncio.sleep(0)
                await agent.sync_now(0.2)
                after = tracemalloc.take_snapshot()
            finally:
                tracemalloc.stop()
            parts = ("localmem_node/sync/*", "asyncio/*", "localmem_protocol/session.py")
            ours = [tracemalloc.Filter(True, f"*/{part}") for part in parts]
            grown = sum(
                one.size_diff
                for one in after.filter_traces(ours).compare_to(
                    before.filter_traces(ours), "filename"
                )
            )
            assert grown < 200_000  # of 2.5 MB that were recorded
            assert agent.status()["unacknowledged"] == clock
        hub.start()
        async with node.running(hub.http_url) as agent:
            await settled(agent)


class Stub:
    """A connection whose hub says the same again and again."""

    def __init__(self) -> None:
        self.sent = self.received = 0
        self.reads = 0

    async def send(self, frame: bytes) -> None: ...

    async def receive(self) -> bytes:
        self.reads += 1
        return encode_frame(Step2(b"\x00\x00"))

    async def settle(self, *, ask: bool) -> None: ...


async def test_nothing_is_read_while_what_came_is_being_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stub, hold, held = Stub(), threading.Event(), threading.Event()

    class Stubbed:
        @asynccontextmanager
        async def connect(self, device: str) -> AsyncIterator[Connection]:
            yield stub

    def busy(session: Session, data: bytes) -> Sequence[bytes]:
        held.set()
        hold.wait(WAIT_S)
        return []

    monkeypatch.setattr(Session, "receive", busy)
    async with Node(ONE, "").running("ws://unused", Stubbed()) as agent:
        await asyncio.to_thread(held.wait, WAIT_S)
        for _ in range(100):
            await asyncio.sleep(0)
        assert stub.reads == 1
        assert agent.status()["state"] == "greeting"
        hold.set()


@pytest.mark.parametrize("way", ["http", "websocket"])
async def test_a_hub_of_another_protocol_is_named_on_both_transports(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(localmem_protocol.session, "PROTOCOL", "localmem.sync.v9")
    async with serving(tmp_path) as hub:
        node = Node(ONE, hub.token(ONE), way)
        async with node.running(hub.url) as agent:
            status = await agent.sync_now(WAIT_S)
            assert "this hub speaks localmem.sync.v1" in status["error"]
            assert str(Close.BAD_FRAME) in status["error"]


@pytest.mark.parametrize("way", ["http", "websocket"])
@pytest.mark.parametrize("side", ["room", "session"])
@pytest.mark.parametrize("needed", NEEDED)
async def test_a_hub_or_device_that_lacks_what_is_needed_is_told_so_and_not_asked_again(
    tmp_path: Path, way: str, side: str, needed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = tuple(name for name in CAPABILITIES if name != needed)
    monkeypatch.setattr(f"localmem_protocol.{side}.CAPABILITIES", fewer)
    async with serving(tmp_path) as hub:
        node = Node(ONE, hub.token(ONE), way)
        node.log.happen("stays here")
        async with node.running(hub.url) as agent:
            status = await agent.sync_now(WAIT_S)
            who = "this hub" if side == "room" else "this device"
            assert f"{who} lacks the capability {needed!r}" in status["error"]
            assert not status["settled"]
            assert (str(Close.CAPABILITY) in status["error"]) == (side == "session")


@pytest.mark.parametrize("way", ["http", "websocket"])
async def test_capabilities_that_are_not_known_are_ignored_on_both_transports(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localmem_protocol.session.CAPABILITIES", (*NEEDED, "teleport"))
    monkeypatch.setattr("localmem_protocol.room.CAPABILITIES", (*NEEDED, "telepathy"))
    async with serving(tmp_path) as hub:
        node = Node(ONE, hub.token(ONE), way)
        node.log.happen("all the same")
        async with node.running(hub.url) as agent:
            await settled(agent)


async def test_a_token_that_is_revoked_is_noticed_by_the_next_question(tmp_path: Path) -> None:
    async with serving(tmp_path, wait_seconds=0) as hub:
        node = Node(ONE, hub.token(ONE))
        async with node.running(hub.url) as agent:
            await settled(agent)
            hub.store.tokens.revoke(node.token.split("_")[1], 2)
            status = await agent.sync_now(WAIT_S)
            assert "4401" in status["error"]


async def connected(transport: Transport) -> type[Connection]:
    async with transport.connect(ONE) as connection:
        return type(connection)


async def test_the_hub_says_which_transport_and_the_settings_have_the_last_word(
    tmp_path: Path,
) -> None:
    clock, random = SystemClock(), SystemRandom()

    def choose(url: str, way: str, token: str) -> Transport:
        return open_transport(
            HubSettings(url, token, POOL, bytes(32), transport=way), clock, random
        )

    (tmp_path / "plain").mkdir()
    async with serving(tmp_path) as both, serving(tmp_path / "plain", websocket=False) as plain:
        token, other = both.token(ONE), plain.token(ONE)
        assert await connected(choose(both.url, "auto", token)) is WebSocketConnection
        assert await connected(choose(plain.url, "auto", other)) is HttpConnection
        assert await connected(choose(both.url, "http", token)) is HttpConnection
        assert await connected(choose(both.url, "websocket", token)) is WebSocketConnection
        with pytest.raises(SyncError):
            await connected(choose(plain.url, "websocket", other))
        ws = both.url.replace("http", "ws", 1)
        assert await connected(choose(ws, "auto", token)) is WebSocketConnection
        with pytest.raises(ConfigError, match=r"hub\.transport"):
            choose(ws, "http", token)
        with pytest.raises(RefusedError, match="4401"):
            await connected(choose(both.url, "auto", "lmt_a_b"))


class Refusing:
    """A way that lets no WebSocket through."""

    def connect(self, device: str) -> AbstractAsyncContextManager[Connection]:
        raise SyncError("a proxy in between answers HTTP 403")


async def test_a_way_without_websocket_is_gone_by_single_requests(tmp_path: Path) -> None:
    async with serving(tmp_path) as hub:
        node = Node(ONE, hub.token(ONE))
        http = HttpTransport(node.settings(hub.url), SystemClock(), SystemRandom())
        async with node.running(hub.url, AutomaticTransport(Refusing(), http)) as agent:
            node.log.happen("through all the same")
            await settled(agent)


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """A server that says this to everybody; its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


def page(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (page("502 Bad Gateway", b"<html>"), "HTTP 502; is"),
        (page("200 OK", b"hello"), "over the limit"),
        (page("302 Found", b"", "Location: http://example.org/"), "HTTP 302; is"),
        (page("200 OK", gzip.compress(bytes(10**7)), "Content-Encoding: gzip"), "Content-Encoding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
         + (b"100000\r\n" + bytes(2**20) + b"\r\n") * 9, "more than"),
        (page("400 Bad Request", b'{"error": {"code": 4400, "message": "no"}}'), "4400"),
        (page("400 Bad Request", b'{"error": {"code": 99, "message": "no"}}'), "HTTP 400; is"),
        (page("400 Bad Request", b'{"error": ["code"]}'), "HTTP 400; is"),
        (b"nonsense\r\n\r\n", "cannot be reached"),
        (b"", "cannot be reached"),
    ],
)  # fmt: skip
async def test_what_no_hub_answers_is_said_in_one_line(answer: bytes, said: str) -> None:
    async with answering(answer) as url:
        node = Node(ONE, "lmt_a_b")
        async with node.running(url) as agent:
            status = await agent.sync_now(WAIT_S)
            assert said in status["error"]
            assert "\n" not in status["error"]
            assert status["bytes_received"] < 9 * 2**20


async def test_an_agent_that_waits_at_the_hub_stops_and_sends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localmem_node.sync.http_transport.WAIT_S_MAX", 600)
    async with serving(tmp_path, wait_seconds=600) as hub:
        node = Node(ONE, hub.token(ONE))
        async with asyncio.timeout(60):  # less than the hub would hold it
            async with node.running(hub.url) as agent:
                await settled(agent)
                await until(lambda: bool(hub.hub.watchers._waiting))
                node.log.happen("at once")
                await until(lambda: len(hub.store.inner.load(POOL).rows) == 1)
                await until(lambda: bool(hub.hub.watchers._waiting))


async def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://proxy.example.org")
    async with Node(ONE, "lmt_a_b").running("http://hub.example.org") as agent:
        status = await agent.sync_now(WAIT_S)
        assert "proxy of the environment cannot be used" in status["error"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "https://hub:port", "wss://hub:0"])
def test_a_port_that_is_none_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(ConfigError, match=r"hub\.url"):
        open_transport(HubSettings(url, "t", POOL, bytes(32)), SystemClock(), SystemRandom())
