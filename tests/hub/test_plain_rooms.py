"""Plain rooms of a real hub: what is refused, with which code, and that nobody else notices."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from pycrdt import Doc, Text

from localmem_hub.limits import COMPACT_ROWS
from localmem_hub.plain.limits import (
    AWARENESS_CLIENTS_PER_CONNECTION,
    GAPS_MAX,
    MESSAGE_BYTES_MAX,
)
from localmem_hub.plain.messages import NO_STATE, Presence
from localmem_hub.seams import Batch
from localmem_protocol.frames import Close
from localmem_protocol.limits import OUTGOING_BYTES_MAX
from localmem_protocol.room import Row
from support.hostile_yjs import erase, letter, nested, quarrel
from support.hub_process import HubProcess, running_hub
from support.plain_client import PlainClient, stored
from support.sync_client import close_code, dial

ONE = f"{1:016x}"
EMBED_THAT_IS_NO_JSON = bytes.fromhex("01010500050101740568656c6c6f00")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with running_hub(tmp_path_factory.mktemp("hub"), "--plain") as running:
        yield running


def shown(document: bytes) -> str:
    doc: Doc[Text] = Doc()
    doc.apply_update(document)
    return str(doc.get("text", type=Text))


async def test_what_is_passed_on_is_stored_before(hub: HubProcess) -> None:
    token = hub.token("durable", kind="plain")
    one = await PlainClient.join(hub.url, "durable", token, client=1)
    two = await PlainClient.join(hub.url, "durable", token, client=2)
    sent = await one.write()
    assert await two.update() == sent
    assert hub.query("SELECT device, bytes FROM updates WHERE pool = 'durable'") == [
        (token.split("_")[1], sent)
    ]
    for client in (one, two):
        await client.leave()


async def test_a_change_that_is_known_is_neither_stored_nor_passed_on_again(
    hub: HubProcess,
) -> None:
    token = hub.token("again", kind="plain")
    one = await PlainClient.join(hub.url, "again", token, client=1)
    two = await PlainClient.join(hub.url, "again", token, client=2)
    sent = await one.write("a")
    assert await two.update() == sent
    await one.send(sent, offline=True)
    await one.send(sent)
    last = await one.write("b")
    assert await two.update() == last
    assert hub.query("SELECT COUNT(*) FROM updates WHERE pool = 'again'") == [(2,)]
    for client in (one, two):
        await client.leave()


@pytest.mark.parametrize(
    ("name", "before", "update"),
    [
        ("no update", [], b"\xff\xff\xff"),
        ("text", [], b"not an update at all"),
        ("an endless run", [], bytes([1, 1, 5, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 0])),
        ("on its own future", [], bytes([1, 1, 5, 0, 0x84, 5, 3, 1, 120, 0])),
        ("deep", [], b"\x01\x01\x05\x00\x08\x01\x01t\x01" + b"\x75\x01" * 5000 + b"\x7e\x00"),
        ("an embed that is no JSON", [], EMBED_THAT_IS_NO_JSON),
        ("what ends the process", [nested(5, 200_000)], erase(5, 0)),
        ("what takes for ever", [], quarrel(150_000)),
    ],
)
async def test_what_the_library_does_not_survive_costs_its_sender_alone(
    hub: HubProcess, name: str, before: list[bytes], update: bytes
) -> None:
    room = name.replace(" ", "-")
    token, bad_token = hub.token(room, kind="plain"), hub.token(room, kind="plain")
    async with asyncio.timeout(100):
        bad = await PlainClient.join(hub.url, room, bad_token, client=5)
        other = await PlainClient.join(hub.url, room, token, client=7)
        for harmless in before:
            await bad.send(harmless)
            assert await other.update() == harmless
        first = await other.write("1")
        assert await bad.update() == first
        await bad.send(update)
        await other.write("2")
        assert await bad.closed() == Close.REFUSED_UPDATE
        late = await PlainClient.dial(hub.url, room, token)
        assert shown(await late.synchronise()) == "12"
        third = await other.write("3")
        assert await late.update() == third
        for client in (late, other):
            await client.leave()
    quarantined = hub.query(f"SELECT device, bytes FROM quarantine WHERE pool = '{room}'")
    assert quarantined == [(bad_token.split("_")[1], update)]
    assert hub.running


async def test_what_lacks_something_is_asked_for_again_and_never_stored(hub: HubProcess) -> None:
    token = hub.token("gaps", kind="plain")
    one = await PlainClient.join(hub.url, "gaps", token, client=1)
    two = await PlainClient.join(hub.url, "gaps", token, client=2)
    assert await one.asked() == b"\x00"
    await one.send(letter(1, 3))  # its own past is missing
    assert await one.asked() == b"\x00"
    await one.send(b"\x01\x01\x01\x00\x84\x09\x04\x01x\x00")  # another's is
    assert await one.asked() == b"\x00"
    await one.send(erase(1, 0))  # what is deleted is
    assert await one.asked() == b"\x00"
    sent = await one.write("fits")
    assert await two.update() == sent
    assert shown(await stored(hub.url, "gaps", token)) == "fits"
    for _ in range(GAPS_MAX):
        await one.send(letter(1, 30))
    assert await one.closed() == Close.GAP
    assert hub.query("SELECT COUNT(*) FROM updates WHERE pool = 'gaps'") == [(1,)]
    assert hub.query("SELECT COUNT(*) FROM quarantine WHERE pool = 'gaps'") == [(0,)]
    await two.leave()


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"", Close.BAD_FRAME),
        ("text", Close.BAD_FRAME),
        (b"\x07", Close.BAD_FRAME),
        (b"\x00\x03\x00", Close.BAD_FRAME),
        (b"\x00\x00\x05\x01", Close.BAD_FRAME),
        (b"\x00\x00\x01\xff", Close.BAD_FRAME),  # a state vector that is none
        (b"\x02\x00", Close.BAD_FRAME),  # auth, which only hubs say
        (b"\x01\x03\xff\xff\xff", Close.BAD_FRAME),
        (b"\x03\x00", Close.BAD_FRAME),
        (bytes(MESSAGE_BYTES_MAX + 1), Close.TOO_LARGE),
    ],
)
async def test_what_is_no_message_closes_its_connection_alone(
    hub: HubProcess, message: str | bytes, code: int
) -> None:
    token = hub.token("messages", kind="plain")
    bad = await PlainClient.join(hub.url, "messages", token, client=1)
    other = await PlainClient.join(hub.url, "messages", token, client=2)
    await bad.socket.send(message)
    assert await bad.closed() == code
    await other.show(Presence(2, 1, '"here"'))
    assert await other.presence() == (Presence(2, 1, '"here"'),)
    await other.leave()


async def test_awareness_is_bounded_relayed_and_ends_with_its_connection(hub: HubProcess) -> None:
    token = hub.token("aware", kind="plain")
    one = await PlainClient.join(hub.url, "aware", token)
    two = await PlainClient.join(hub.url, "aware", token)
    await one.show(*(Presence(client, 1, "{}") for client in range(100)))
    states = await two.presence()
    assert len(states) == AWARENESS_CLIENTS_PER_CONNECTION
    assert len(await one.presence()) == len(states)  # its own hears of it, too
    await two.show(states[0])  # an echo, which takes nothing over
    await two.show(Presence(500, 1, "{}"))
    assert await two.presence() == (Presence(500, 1, "{}"),)
    await one.leave()
    ended = await two.presence()
    assert {state.client for state in ended} == {state.client for state in states}
    assert {state.state for state in ended} == {NO_STATE}
    await two.show(Presence(0, 1, "{}"))  # a late echo does not bring it back
    await two.socket.send(b"\x03")
    assert await two.presence() == (Presence(500, 1, "{}"),)
    await two.leave()


async def test_a_token_opens_rooms_of_its_own_kind_alone(hub: HubProcess) -> None:
    plain, sealed = hub.token("kinds", kind="plain"), hub.token("kinds-sealed", ONE)
    assert await close_code(await dial(hub.url, "kinds", ONE, plain)) == Close.BAD_TOKEN
    for room in ("kinds", "kinds-sealed"):
        client = await PlainClient.dial(hub.url, room, sealed)
        assert await client.closed() == Close.BAD_TOKEN
        assert client.denied
    assert hub.query("SELECT device FROM tokens WHERE pool = 'kinds'") == [(None,)]


async def test_a_slow_reader_is_dropped_while_the_others_go_on(hub: HubProcess) -> None:
    token = hub.token("slow", kind="plain")
    slow = await PlainClient.join(hub.url, "slow", token, queue=1)
    writer = await PlainClient.join(hub.url, "slow", token, client=1)
    reader = await PlainClient.join(hub.url, "slow", token)
    megabyte = "x" * 1024 * 1024
    async with asyncio.timeout(60):
        for _ in range(2 * OUTGOING_BYTES_MAX // len(megabyte) + 8):
            await writer.write(megabyte)
            await reader.update()
            # Or the document would be too large one day.
            await writer.send(erase(1, writer.clock - len(megabyte), len(megabyte)))
            await reader.update()
        assert await slow.closed() in (Close.SLOW, 1006)
    for client in (writer, reader):
        await client.leave()


async def test_rows_become_a_snapshot_that_loads(tmp_path: Path) -> None:
    with running_hub(tmp_path, "--plain") as hub:
        token = hub.token("compact", kind="plain")
        with hub.store() as store:
            rows = [Row("elsewhere", letter(9, clock)) for clock in range(COMPACT_ROWS)]
            store.commit([Batch("compact", 0, rows)], 1)
        one = await PlainClient.join(hub.url, "compact", token, client=1)
        await one.write()
        async with asyncio.timeout(60):
            while not hub.query("SELECT 1 FROM snapshots"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert hub.query("SELECT COUNT(*) FROM updates")[0][0] <= 1
        await one.leave()
        assert len(shown(await stored(hub.url, "compact", token))) == COMPACT_ROWS + 1


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


async def test_workers_end_with_their_hub_however_that_ends(tmp_path: Path) -> None:
    with running_hub(tmp_path, "--plain") as hub:
        token = hub.token("end", kind="plain")
        client = await PlainClient.join(hub.url, "end", token)
        (worker,) = children(hub.pid)
        await client.leave()
        assert hub.stop() == 0
        assert not alive(worker)
        hub.start()
        client = await PlainClient.join(hub.url, "end", token, client=1)
        (worker,) = children(hub.pid)
        await client.send(quarrel(300_000))  # the library is busy, and reads no end of anything
        hub.kill()
        async with asyncio.timeout(5):
            while alive(worker):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_worker_that_is_killed_costs_nobody_anything(hub: HubProcess) -> None:
    token = hub.token("killed", kind="plain")
    one = await PlainClient.join(hub.url, "killed", token, client=1)
    two = await PlainClient.join(hub.url, "killed", token)
    await one.write("a")
    await two.update()
    for worker in children(hub.pid):
        os.kill(worker, signal.SIGKILL)
    await one.write("b")
    await two.update()
    assert shown(await stored(hub.url, "killed", token)) == "ab"
    for client in (one, two):
        await client.leave()


async def test_idle_rooms_leave_memory(hub: HubProcess) -> None:
    """Seen from outside: another process writes, which a room in memory would not know."""
    token = hub.token("idle", kind="plain")
    one = await PlainClient.join(hub.url, "idle", token, client=1)
    await one.write("a")
    await one.leave()
    assert shown(await stored(hub.url, "idle", token)) == "a"
    with hub.store() as store:
        store.commit([Batch("idle", 1, [Row("elsewhere", letter(2, 0, "b"))])], 1)
    assert sorted(shown(await stored(hub.url, "idle", token))) == ["a", "b"]


async def test_what_another_process_stores_meanwhile_is_passed_on(hub: HubProcess) -> None:
    token = hub.token("others", kind="plain")
    one = await PlainClient.join(hub.url, "others", token, client=1)
    two = await PlainClient.join(hub.url, "others", token)
    mine = await one.write("a")
    assert await two.update() == mine
    theirs = letter(9, 0, "z")
    with hub.store() as store:
        store.commit([Batch("others", 1, [Row("elsewhere", theirs)])], 1)
    again = await one.write("b")
    assert [await two.update(), await two.update()] == [theirs, again]
    assert sorted(shown(await stored(hub.url, "others", token))) == ["a", "b", "z"]
    for client in (one, two):
        await client.leave()


async def test_a_hub_has_no_plain_rooms_unless_told(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub:
        token = hub.token("off", kind="plain")
        with pytest.raises(Exception, match="403"):
            await PlainClient.dial(hub.url, "off", token)
        assert children(hub.pid) == []


def test_no_token_gets_into_the_log(hub: HubProcess) -> None:
    """Of all the tests above, which run before it."""
    log = hub.log.read_text()
    assert "closed room=" in log
    assert "lmt_" not in log
    assert "token=?" not in log
