"""A real hub answers single requests: after the commit, from the log alone, and strictly."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest

from localmem_hub.limits import COMPACT_ROWS
from localmem_protocol.envelope import batch_hash
from localmem_protocol.exchange import Body, encode_body
from localmem_protocol.frames import (
    CAPABILITIES,
    NEEDED,
    PROTOCOL,
    Ack,
    Close,
    Hello,
    Notice,
    Resume,
    Step1,
    Step2,
    Update,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.limits import EXCHANGE_BYTES_MAX
from localmem_protocol.updates import decode_update
from support.http_client import HttpClient
from support.hub_process import HubProcess, running_hub
from support.hub_store import ObservedStore, open_store
from support.served import POOL, Served, serving
from support.sync_client import RawClient, append, close_code, dial

ONE, TWO = (f"{number:016x}" for number in (1, 2))


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


def device(hub: HubProcess, pool: str, name: str, token: str | None = None) -> HttpClient:
    return HttpClient(hub.http_url, pool, name, token or hub.token(pool, name))


def contents(frame: object) -> list[bytes]:
    assert isinstance(frame, Update | Step2)
    items = decode_update(frame.update).items
    return [c for run in items.values() for item in run for c in item.contents or ()]


async def test_a_request_is_answered_when_it_is_stored(served: Served) -> None:
    async with asyncio.timeout(60), served.device(ONE) as one:
        await one.greet()
        served.store.gate.clear()
        while not served.store.entered.empty():
            served.store.entered.get()
        writing = asyncio.create_task(one.write(b"first"))
        await asyncio.to_thread(served.store.entered.get, True, 20)
        assert not writing.done()
        served.store.gate.set()
        assert (await writing).status == 200
        served.store.failing.add(POOL)
        answer = await one.write(b"lost")
        assert (answer.status, answer.code) == (503, Close.STORE_FAILED)
    assert len(served.store.load(POOL).rows) == 1


async def test_an_idle_poll_reads_no_document_and_is_small(served: Served) -> None:
    async with asyncio.timeout(60), served.device(ONE) as one:
        await one.greet()
        await one.write(b"something")
        loads, commits = len(served.store.loads), len(served.store.commits)
        served.hub.rooms._live.clear()  # as after a while
        for _ in range(20):
            answer = await one.poll()
            assert (answer.status, answer.content) == (304, b"")
            assert answer.headers["ETag"] == f'"{one.position}"'
        assert (len(served.store.loads), len(served.store.commits)) == (loads, commits)
        assert len(served.hub.rooms) == 0


async def test_news_are_read_from_the_log_without_the_document(served: Served) -> None:
    async with asyncio.timeout(60), served.device(ONE) as one, served.device(TWO) as two:
        await one.greet()
        await two.greet()
        loads = len(served.store.loads)
        await two.write(b"a", b"b")
        await two.write(b"c")
        served.hub.rooms._live.clear()
        loads = len(served.store.loads)
        answer = await one.poll()
        assert contents(answer.the(Update)) == [b"a", b"b", b"c"]
        assert (await one.poll(answer.position)).status == 304
        assert len(served.store.loads) == loads


async def test_a_room_stays_for_the_next_request(served: Served) -> None:
    async with asyncio.timeout(60), served.device(ONE) as one:
        await one.greet()
        for number in range(5):
            await one.write(b"%d" % number)
        assert served.store.loads == [POOL]


async def test_a_poll_may_wait_and_is_woken_by_what_another_writes(served: Served) -> None:
    async with asyncio.timeout(60), served.device(ONE) as one, served.device(TWO) as two:
        await one.greet()
        await two.greet()
        waiting = asyncio.create_task(one.poll(wait=25))
        while not served.hub.watchers._waiting:  # noqa: ASYNC110  the request is under way
            await asyncio.sleep(0.01)
        await two.write(b"news")
        answer = await waiting
        assert contents(answer.the(Update)) == [b"news"]
        assert (await one.poll(answer.position, wait=0)).status == 304


async def test_who_waits_is_let_go_by_its_own_request_and_by_the_end(served: Served) -> None:
    async with asyncio.timeout(60), served.device(ONE) as one:
        await one.greet()
        for end, said in ((lambda: one.write(b"own"), {304}), (served.hub.stop, {304, 503})):
            waiting = asyncio.create_task(one.poll(wait=25))
            while not served.hub.watchers._waiting:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await end()
            answer = await waiting
            assert answer.status in said
            assert answer.status == 304 or b'"code":4504' in answer.content


async def test_a_hub_says_how_long_it_lets_wait(served: Served) -> None:
    async with served.device(ONE) as one:
        answer = await one.post(Hello(PROTOCOL, CAPABILITIES, ONE, 0))
        assert answer.headers["X-Localmem-Wait"] == "25"


async def test_a_lost_answer_costs_a_greeting_and_nothing_else(hub: HubProcess) -> None:
    async with asyncio.timeout(60), device(hub, "lost", ONE) as one:
        await one.greet()
        assert one.resume is not None
        update = one.update(b"once")
        assert (await one.post(one.resume, update)).the(Ack) == Ack(one.client, 1)
        stale = Resume(one.client, 0, bytes(16))
        again = await one.post(stale, update)
        assert (again.status, again.code) == (409, Close.GAP)
        before = one.client
        await one.greet()
        assert (one.client, one.clock) == (before, 1)
        again = await one.post(one.resume, update)  # sent again all the same
        assert again.the(Ack) == Ack(one.client, 1)
    assert hub.query("SELECT count(*) FROM updates WHERE pool = 'lost'") == [(1,)]


async def test_two_requests_of_one_device_at_once_cut_nobody(hub: HubProcess) -> None:
    token = hub.token("both", ONE)
    async with asyncio.timeout(60), device(hub, "both", ONE, token) as one:
        raw = await RawClient.join(hub.url, "both", ONE, token)
        one.client = raw.client
        await one.greet()
        assert one.resume is not None
        both = await asyncio.gather(*(one.post(one.resume, Step1(b"\x00")) for _ in range(8)))
        assert {answer.status for answer in both} == {200}
        await raw.write(b"still connected")
        await raw.acknowledged(1)
        await one.greet()
        assert one.client == raw.client
        await one.write(b"under the same client id")
        assert await close_code(raw.socket) == Close.REPLACED


async def test_a_websocket_hears_what_a_request_wrote_and_the_other_way_round(
    hub: HubProcess,
) -> None:
    async with asyncio.timeout(60), device(hub, "mixed", ONE) as one:
        raw = await RawClient.join(hub.url, "mixed", TWO, hub.token("mixed", TWO))
        await raw.synchronise()
        await one.greet()
        await one.write(b"by request")
        assert contents(await raw.next()) == [b"by request"]
        await raw.write(b"by message")
        await raw.acknowledged(1)
        answer = await one.poll()
        assert contents(answer.the(Update)) == [b"by message"]
        await raw.socket.close()


async def test_everything_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub:
        confirmed = 0
        token = hub.token(POOL, ONE)
        client = 0
        for life in range(5):
            async with asyncio.timeout(60), device(hub, POOL, ONE, token) as one:
                one.client = client
                await one.greet()
                assert one.clock >= confirmed
                client = one.client
                killing = asyncio.create_task(asyncio.to_thread(hub.kill)) if life == 4 else None
                try:
                    for number in range(20):
                        await one.write(b"%d" % number)
                        confirmed = one.clock
                        if life < 4 and number == 3 * life + 2:
                            killing = asyncio.create_task(asyncio.to_thread(hub.kill))
                except httpx2.TransportError:
                    pass
                assert killing is not None
                await killing
            hub.start()
        with hub.store() as store:
            kept = [c for row in store.load(POOL).updates for c in contents(Update(row))]
        assert len(kept) >= confirmed > 10


async def test_a_position_that_compaction_passed_asks_for_a_greeting(served: Served) -> None:
    async with asyncio.timeout(60), served.device(ONE) as one, served.device(TWO) as two:
        await one.greet()
        await two.greet()
        for _ in range(COMPACT_ROWS // 256):
            assert one.resume is not None
            updates = [one.update(b"x") for _ in range(256)]
            await one.post(one.resume, *updates, position=one.position)
        await asyncio.to_thread(served.store.compacted.acquire)
        answer = await two.poll()
        assert (answer.status, answer.code) == (409, Close.GAP)
        await two.greet()
        assert (await two.poll()).status == 304


async def test_a_long_way_behind_is_told_in_parts(served: Served) -> None:
    async with asyncio.timeout(60), served.device(ONE) as one, served.device(TWO) as two:
        await one.greet()
        await two.greet()
        for number in range(5):
            await one.write(bytes([number]) * 1_000_000)
        seen: list[bytes] = []
        position = two.position
        while (answer := await two.poll(position)).status == 200:
            assert len(answer.content) < 2_200_000
            seen += contents(answer.the(Update))
            position = answer.position
        assert [content[0] for content in seen] == [0, 1, 2, 3, 4]


async def test_another_process_on_the_same_database_may_answer_any_request(
    tmp_path: Path,
) -> None:
    store = open_store(tmp_path, POOL)
    served = [Served(ObservedStore(store)) for _ in range(2)]
    running = [await one.start() for one in served]
    try:
        async with asyncio.timeout(60), served[0].device(ONE) as one, served[0].device(TWO) as two:
            for turn, client in enumerate([one, two] * 6):
                client.url = f"http://127.0.0.1:{served[turn // 2 % 2].port}"
                if client.resume is None:
                    await client.greet()
                answer = await client.write(b"%d" % turn)
                if answer.status == 409:  # registered at the other process
                    await client.greet()
                    assert (await client.write(b"%d" % turn)).status == 200
            both = [contents(Update(row)) for row in store.load(POOL).rows]
            assert sorted(int(c) for found in both for c in found) == list(range(12))
    finally:
        for each, task in zip(served, running, strict=True):
            each.server.should_exit = True
            await task
        store.close()


async def test_wrong_requests_are_told_what_is_wrong(hub: HubProcess) -> None:
    async with asyncio.timeout(60), device(hub, "wrong", ONE) as one:
        await one.greet()
        assert one.resume is not None
        resume = one.resume
        hello = encode_body(Body((encode_frame(Hello(PROTOCOL, CAPABILITIES, ONE, 0)),)))

        async def refused(content: bytes, **headers: str) -> tuple[int, int]:
            answer = await one.send(content, **headers)
            return answer.status, answer.code

        assert await refused(hello, Content_Type="text/plain") == (415, Close.BAD_FRAME)
        bomb = gzip.compress(bytes(64 * 2**20))
        assert await refused(bomb, Content_Encoding="gzip") == (415, Close.BAD_FRAME)
        assert await refused(b"\xff" * 40) == (400, Close.BAD_FRAME)
        assert await refused(b"") == (400, Close.BAD_FRAME)
        assert await refused(encode_body(Body())) == (400, Close.BAD_FRAME)
        assert await refused(hello, Authorization="Bearer lmt_a_b") == (401, Close.BAD_TOKEN)
        assert await refused(hello, X_Localmem_Device=TWO) == (401, Close.BAD_TOKEN)
        other = encode_body(Body((encode_frame(Hello(PROTOCOL, CAPABILITIES, TWO, 0)),)))
        assert await refused(other) == (400, Close.BAD_FRAME)
        future = encode_body(Body((encode_frame(Hello("localmem.sync.v9", (), ONE, 0)),)))
        assert await refused(future) == (400, Close.BAD_FRAME)
        answer = await one.post(resume, Update(append(TWO, one.client, 0, b"forged")))
        assert (answer.status, answer.code) == (422, Close.REFUSED_UPDATE)
        answer = await one.post(resume, Update(append(ONE, one.client, 5, b"gap")))
        assert (answer.status, answer.code) == (409, Close.GAP)
        for tag, status in (("nonsense", 409), ("7.r", 409), ("999.w", 409)):
            polled = await one.poll(tag)
            assert (polled.status, polled.code) == (status, Close.GAP)
        plain = await one.http.get(one.path + "/updates", headers=one.headers)
        assert plain.status_code == 400
        assert (await one.http.get(one.path + "/updates?wait=x", headers=one.headers)).is_error
        assert (await one.write(b"undisturbed")).status == 200


async def test_unknown_capabilities_mean_nothing(hub: HubProcess) -> None:
    async with device(hub, "capable", ONE) as one:
        names = (*(f"future-{number}" for number in range(50)), *NEEDED)
        answer = await one.post(Hello(PROTOCOL, names, ONE, 0))
        assert isinstance(answer.the(Welcome), Welcome)
    raw = await dial(hub.url, "capable", TWO, hub.token("capable", TWO))
    await raw.send(encode_frame(Hello(PROTOCOL, names, TWO, 0)))
    assert await raw.recv()
    await raw.close()


async def test_an_unknown_protocol_is_refused_by_its_name_on_a_websocket_too(
    hub: HubProcess,
) -> None:
    raw = await dial(hub.url, "future", ONE, hub.token("future", ONE))
    await raw.send(encode_frame(Hello("localmem.sync.v9", (), ONE, 0)))
    data = await raw.recv()
    assert isinstance(data, bytes)
    assert b"speaks localmem.sync.v1" in data
    assert await close_code(raw) == Close.BAD_FRAME


async def test_a_reader_hears_and_may_not_write(hub: HubProcess) -> None:
    token = hub.token("reading", ONE, "reader")
    async with asyncio.timeout(60), device(hub, "reading", ONE, token) as one:
        await one.greet()
        assert one.position == "0.r."
        assert (await one.poll()).status == 304
        answer = await one.write(b"no")
        assert (answer.status, answer.code) == (403, Close.READ_ONLY)


@pytest.mark.parametrize("where", ["POST", "GET", "introduction", "websocket"])
async def test_a_token_in_the_url_is_refused(hub: HubProcess, where: str) -> None:
    token = hub.token("query", ONE)
    async with asyncio.timeout(60), device(hub, "query", ONE, token) as one:
        if where == "websocket":
            socket_ = await dial(hub.url, f"query?access={token}", ONE, token)
            assert await close_code(socket_) == Close.BAD_TOKEN
        else:
            path = one.path + ("/updates" if where == "GET" else "")
            method = "POST" if where == "POST" else "GET"
            answer = await one.http.request(method, f"{path}?t={token}", headers=one.headers)
            assert answer.status_code == 401
            assert "revoke" in answer.json()["error"]["message"]
    assert token not in hub.log.read_text()


def request_bytes(one: HttpClient, *lines: str) -> bytes:
    head = [f"POST /v1/sync/{one.pool} HTTP/1.1", "Host: hub", "Connection: close", *lines]
    head += [f"{name}: {value}" for name, value in one.headers.items()]
    return "\r\n".join([*head, "Content-Type: application/octet-stream", "", ""]).encode()


def talk(url: str, data: bytes, *, more: bool = False) -> bytes:
    """Send bytes, say no more (unless there may be more), and read what comes."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        raw.sendall(data)
        if not more:
            raw.shutdown(socket.SHUT_WR)
        received = b""
        while part := raw.recv(65536):
            received += part
        return received


async def test_half_a_request_changes_nothing(hub: HubProcess) -> None:
    async with asyncio.timeout(60), device(hub, "half", ONE) as one:
        await one.greet()
        assert isinstance(one.resume, Resume)
        body = encode_body(
            Body((encode_frame(one.resume), encode_frame(one.update(b"never complete"))))
        )
        head = request_bytes(one, f"Content-Length: {len(body)}")
        for cut in (1, len(body) // 2, len(body) - 1):
            answer = await asyncio.to_thread(talk, one.url, head + body[:cut])
            assert not answer.startswith(b"HTTP/1.1 200")
        assert hub.query("SELECT count(*) FROM updates WHERE pool = 'half'") == [(0,)]
        answer = await asyncio.to_thread(talk, one.url, head + body, more=True)
        assert answer.startswith(b"HTTP/1.1 200")


async def test_a_body_over_the_limit_is_refused_before_it_is_read(hub: HubProcess) -> None:
    async with asyncio.timeout(60), device(hub, "large", ONE) as one:
        head = request_bytes(one, f"Content-Length: {EXCHANGE_BYTES_MAX + 1}")
        answer = await asyncio.to_thread(talk, one.url, head)
        assert answer.startswith(b"HTTP/1.1 413")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == Close.TOO_LARGE

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(EXCHANGE_BYTES_MAX // 65536 + 2):
                yield bytes(65536)

        headers = one.headers | {"Content-Type": "application/octet-stream"}
        try:
            chunked = await one.http.post(one.path, content=endless(), headers=headers)
        except httpx2.TransportError:
            pass  # it hung up in the middle, which is as good
        else:
            assert chunked.status_code == 413
    assert hub.running


async def test_answers_say_who_is_there_and_one_that_waits_comes_when_that_matters(
    served: Served,
) -> None:
    async with asyncio.timeout(60), served.device(ONE) as one, served.device(TWO) as two:
        await one.greet()
        assert one.resume is not None
        answer = await one.post(one.resume, position=one.position)
        assert answer.headers["X-Localmem-Notices"] == "listening=0"
        assert "X-Localmem-Notices" not in (await one.poll()).headers
        waiting = asyncio.create_task(one.poll(wait=25))
        await somebody_waits(served)
        await two.greet()
        answer = await waiting
        assert (answer.status, answer.headers["X-Localmem-Notices"]) == (304, "listening=1")
        waiting = asyncio.create_task(one.poll(wait=25))
        await somebody_waits(served)
        assert two.resume is not None
        asked = await two.post(two.resume, Notice("waiting", 30), position=two.position)
        assert asked.headers["X-Localmem-Notices"] == "listening=1"
        answer = await waiting
        assert answer.status == 304
        assert answer.headers["X-Localmem-Notices"].startswith("listening=1 waiting=")


async def test_requests_and_connections_know_of_each_other(hub: HubProcess) -> None:
    token = hub.token("both", TWO)
    async with asyncio.timeout(60), device(hub, "both", ONE) as one:
        await one.greet()
        two = await dial(hub.url, "both", TWO, token)
        await two.send(encode_frame(Hello(PROTOCOL, CAPABILITIES, TWO, 0)))
        frames = [decode_frame(await two.recv(decode=False)) for _ in range(3)]
        assert [type(frame) for frame in frames[:2]] == [Welcome, Step1]
        assert frames[2] == Notice("listening", 1)
        assert one.resume is not None
        answer = await one.post(one.resume, Notice("waiting", 30), position=one.position)
        assert answer.headers["X-Localmem-Notices"] == "listening=1"
        assert decode_frame(await two.recv(decode=False)) == Notice("waiting", 30)
        await two.close()


async def somebody_waits(served: Served) -> None:
    """Until a request waits at the hub."""
    while not served.hub.watchers._waiting:  # noqa: ASYNC110  the request is under way
        await asyncio.sleep(0.01)


async def test_a_restored_hub_is_noticed_at_the_first_request_although_it_has_as_many_rows(
    tmp_path: Path,
) -> None:
    with running_hub(tmp_path) as hub:
        async with device(hub, "restored", ONE) as one, device(hub, "restored", TWO) as two:
            await one.greet()
            await one.write(b"before the backup")
            hub.stop()
            backup = hub.database.read_bytes()
            hub.start()
            one.url = two.url = hub.http_url
            await one.write(b"lost")
            assert (await one.poll()).status == 304
            hub.stop()
            hub.database.write_bytes(backup)
            hub.start()
            one.url = two.url = hub.http_url
            lost = await one.poll()
            assert (lost.status, lost.code) == (409, Close.GAP)
            await two.greet()
            await two.write(b"instead of it")
            assert hub.query("SELECT head FROM pools") == [(2,)]
            for answer in (await one.poll(), await one.poll(wait=20)):
                assert (answer.status, answer.code) == (409, Close.GAP)
            assert one.resume is not None
            answer = await one.post(Resume(one.client, 1, sealed_head(b"before the backup")))
            assert answer.status == 200
            answer = await one.post(one.resume, position=one.position)
            assert (answer.status, answer.code) == (409, Close.GAP)
            assert (await two.poll()).status == 304
            two.position = two.position.replace("2.", "1.", 1)
            assert (await two.poll()).status == 409


def sealed_head(content: bytes) -> bytes:
    return batch_hash(content)
