"""Rooms of epochs: who comes in by key, who writes, and what a change of the roster does at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from localmem_hub.app import Policy
from localmem_hub.connection import Connection
from localmem_hub.live import LiveRoom
from localmem_hub.seams import RosterMark
from localmem_hub.system import SystemClock, SystemRandom
from localmem_protocol.access import room_name
from localmem_protocol.envelope import PoolKey
from localmem_protocol.exchange import CONTENT_TYPE, Body, Visit, encode_body
from localmem_protocol.frames import (
    CAPABILITIES,
    NEEDED,
    PROTOCOL,
    Ack,
    Close,
    Hello,
    Notice,
    Refusal,
    Step1,
    Update,
    Welcome,
    encode_frame,
)
from localmem_protocol.room import Peer
from localmem_protocol.roster import RECOVERY
from support.http_client import HttpClient
from support.hub_process import HubProcess, running_hub
from support.pool_members import FOUR, ONE, THREE, TWO, Team, text
from support.served_hub import ServedHub, serving
from support.sync_client import RawClient, SyncClient, append, close_code, dial
from support.waiting import until


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[ServedHub]:
    async with serving(tmp_path, policy=Policy(open=True)) as served:
        yield served


@pytest.fixture
async def team(hub: ServedHub) -> Team:
    """ONE is the owner, TWO a member, THREE a reader."""
    made = Team()
    made.admit(TWO)
    made.admit(THREE, "reader")
    await made.found_at(hub, None)
    return made


async def join(hub: ServedHub, team: Team, device: str, epoch: int = 1) -> RawClient:
    """A connection that has read how long the roster is."""
    token = await team.token(hub, device)
    raw = await RawClient.join(hub.url, room_name(team.pool, epoch), device, token)
    assert await raw.next() == Notice("roster", len(team.entries))
    return raw


async def refusal(hub: ServedHub, room: str, device: str, token: str) -> int:
    return await close_code(await dial(hub.url, room, device, token))


async def test_members_sync_by_key_and_learn_how_long_the_roster_is(
    hub: ServedHub, team: Team
) -> None:
    room = PoolKey(room_name(team.pool, 1), 1, team.roster.epoch_key(1, team.keys[ONE], ONE))
    one, two, three = [
        SyncClient(hub.url, room, device, await team.token(hub, device))
        for device in (ONE, TWO, THREE)
    ]
    async with asyncio.timeout(60), one, two, three:
        one.record("from the owner")
        two.record("from a member")
        await one.settle()
        await two.settle()
        for client in (one, two, three):
            await client.receive(2)
            assert client.session.roster_length == 3
        assert (one.session.writer, three.session.writer) == (True, False)


async def test_a_reader_reads_and_writes_nothing(hub: ServedHub, team: Team) -> None:
    async with asyncio.timeout(60):
        one, three = await join(hub, team, ONE), await join(hub, team, THREE)
        await three.synchronise()
        await one.write(b"to be read")
        await one.acknowledged(1)
        assert isinstance(await three.next(), Update)
        await three.write(b"not to be written")
        answer = await three.next()
        assert isinstance(answer, Refusal)
        assert (answer.code, answer.permanent) == (Close.READ_ONLY, True)
        await one.socket.close()


async def test_a_token_opens_the_rooms_of_its_pool_for_its_device(
    hub: ServedHub, team: Team
) -> None:
    other = Team(2)
    await other.found_at(hub, None)
    token, recovery = await team.token(hub), await team.token(hub, RECOVERY)
    room = room_name(team.pool, 1)
    async with asyncio.timeout(60):
        for name in (team.pool, f"{team.pool}.0", f"{team.pool}.2", f"{team.pool}.01", "team"):
            assert await refusal(hub, name, ONE, token) == Close.BAD_TOKEN
        for name in (room_name(other.pool, 1), room_name(Team(3).pool, 1)):
            assert await refusal(hub, name, ONE, token) == Close.BAD_TOKEN
        assert await refusal(hub, room, TWO, token) == Close.BAD_TOKEN
        assert await refusal(hub, room, ONE, token[:-1] + "!") == Close.BAD_TOKEN
        assert await refusal(hub, room, RECOVERY, recovery) == Close.BAD_TOKEN
        assert await refusal(hub, room, ONE, recovery) == Close.BAD_TOKEN
        hub.clock.ms += 3_600_000
        assert await refusal(hub, room, ONE, token) == Close.BAD_TOKEN
    answer = await hub.ask("GET", f"/v1/sync/{room}", token=await team.token(hub, THREE))
    introduced = {"pool": room, "role": "reader", "transports": ["websocket", "http"]}
    assert (answer.status_code, answer.json()) == (200, introduced)
    assert (await hub.ask("GET", f"/v1/sync/{room}", token=token)).status_code == 401


async def test_a_removed_device_is_cut_off_at_once_and_for_good(hub: ServedHub, team: Team) -> None:
    async with asyncio.timeout(60):
        token = await team.token(hub, TWO)
        two = await RawClient.join(hub.url, room_name(team.pool, 1), TWO, token)
        three = await join(hub, team, THREE)
        team.remove(TWO)
        await team.post(hub)
        assert await close_code(two.socket) == Close.BAD_TOKEN
        for epoch in (1, 2):
            room = room_name(team.pool, epoch)
            assert await refusal(hub, room, TWO, token) == Close.BAD_TOKEN
        assert await three.next() == Notice("roster", 4)
        await three.socket.close()


async def test_whose_role_changed_connects_again_and_has_the_new_one(
    hub: ServedHub, team: Team
) -> None:
    async with asyncio.timeout(60):
        one, three = await join(hub, team, ONE), await join(hub, team, THREE)
        team.set_role(THREE, "member")
        await team.post(hub)
        assert await close_code(three.socket) == Close.ROSTER_CHANGED
        assert await one.next() == Notice("roster", 4)
        three = await join(hub, team, THREE)
        await three.write(b"may write now")
        await three.acknowledged(1)
        await one.write(b"was not disturbed")
        await one.acknowledged(1)
        for raw in (one, three):
            await raw.socket.close()


async def test_a_rotation_leaves_the_old_room_to_be_read_and_opens_a_new_one(
    hub: ServedHub, team: Team
) -> None:
    async with asyncio.timeout(60):
        one, three = await join(hub, team, ONE), await join(hub, team, THREE)
        await one.write(b"in the first epoch")
        await one.acknowledged(1)
        team.rotate()
        await team.post(hub)
        assert await close_code(one.socket) == Close.ROSTER_CHANGED
        assert await three.next() == Notice("roster", 4)  # a reader may stay
        old, new = await join(hub, team, ONE, 1), await join(hub, team, ONE, 2)
        assert b"in the first epoch" in await old.synchronise()
        await old.send(Update(append(ONE, old.client, 1, b"too late")))
        answer = await old.next()
        assert isinstance(answer, Refusal)
        assert answer.code == Close.READ_ONLY
        await new.write(b"in the second epoch")
        await new.acknowledged(1)
        assert b"first" not in await new.synchronise()
        for raw in (new, three):
            await raw.socket.close()


async def test_a_device_that_does_not_know_notices_gets_none(hub: ServedHub, team: Team) -> None:
    async with asyncio.timeout(60):
        socket = await dial(hub.url, room_name(team.pool, 1), TWO, await team.token(hub, TWO))
        raw = RawClient(socket, TWO)
        await raw.send(Hello(PROTOCOL, NEEDED, TWO, 0))
        welcome = await raw.next()
        assert isinstance(welcome, Welcome)
        raw.client = welcome.client
        assert isinstance(await raw.next(), Step1)
        team.admit(FOUR)
        await team.post(hub)
        await raw.write(b"undisturbed")
        assert await raw.next() == Ack(raw.client, 1)
        await raw.socket.close()


async def test_what_changed_while_a_device_came_in_is_not_missed(
    hub: ServedHub, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its token was checked, and its room was being loaded, when it was removed."""
    loop, loading, go_on = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    load = hub.store.load

    def slow(pool: str) -> Any:
        loop.call_soon_threadsafe(loading.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(30)
        return load(pool)

    async with asyncio.timeout(60):
        token = await team.token(hub, TWO)
        with monkeypatch.context() as patch:
            patch.setattr(hub.store, "load", slow)
            socket = await dial(hub.url, room_name(team.pool, 1), TWO, token)
            await loading.wait()
            team.remove(TWO)
            await team.post(hub)
            go_on.set()
            assert await close_code(socket) == Close.BAD_TOKEN
        await until(lambda: not hub.hub.endpoint._live)  # its room may still be on its way


async def test_what_waited_when_its_device_was_removed_is_not_stored(
    hub: ServedHub, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def full(live: LiveRoom, connection: int) -> None:
        waiting.set()
        await go_on.wait()

    drop = Connection.drop

    def drop_and_go_on(connection: Connection, code: int, reason: str) -> None:
        go_on.set()
        drop(connection, code, reason)

    async with asyncio.timeout(60):
        two = await join(hub, team, TWO)
        with monkeypatch.context() as patch:
            patch.setattr(LiveRoom, "hears", lambda *_: False)
            patch.setattr(LiveRoom, "ready", full)
            patch.setattr(Connection, "drop", drop_and_go_on)
            await two.write(b"on its way")
            await waiting.wait()
            team.remove(TWO)
            token = await team.token(hub)
            answer = await hub.ask("POST", team.path, json=team.change(), token=token)
            assert answer.status_code == 200
            assert await close_code(two.socket) == Close.BAD_TOKEN
        one = await join(hub, team, ONE)
        assert b"on its way" not in await one.synchronise()
        await one.socket.close()


async def test_a_recheck_hears_of_what_another_process_stored(hub: ServedHub, team: Team) -> None:
    async with asyncio.timeout(60):
        two, three = await join(hub, team, TWO), await join(hub, team, THREE)
        entry = team.remove(TWO)
        mark = RosterMark(team.roster.length, team.roster.head)
        hub.store.rosters.append(team.pool, entry, mark, team.roster.epoch, hub.clock.ms)
        await hub.hub.endpoint.recheck()
        assert await close_code(two.socket) == Close.BAD_TOKEN
        assert await three.next() == Notice("roster", 4)
        assert hub.store.inner.pools.remove(team.pool)
        await hub.hub.endpoint.recheck()
        assert await close_code(three.socket) == Close.BAD_TOKEN
    assert (await team.prove(hub)).status_code == 401


async def test_device_tokens_open_their_pools_as_before(hub: ServedHub, team: Team) -> None:
    token = hub.store.tokens.create("team", TWO, "writer", SystemRandom(), hub.clock.ms).text
    async with asyncio.timeout(60):
        raw = await RawClient.join(hub.url, "team", TWO, token)
        await raw.write(b"without a roster")
        await raw.acknowledged(1)
        assert await refusal(hub, room_name(team.pool, 1), TWO, token) == Close.BAD_TOKEN
        await raw.socket.close()


class DialledHub:
    """A hub in a process of its own, as a device sees it."""

    def __init__(self, process: HubProcess) -> None:
        self.process = process

    @property
    def origin(self) -> str:
        return self.process.url.replace("ws", "http", 1)

    async def ask(self, method: str, path: str, *, token: str = "", **more: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token or '-'}"}
        async with httpx2.AsyncClient(trust_env=False, base_url=self.origin, timeout=60) as client:
            return await client.request(method, path, headers=headers, **more)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[HubProcess]:
    with running_hub(tmp_path) as running:
        yield running


async def test_a_killed_hub_keeps_pool_roster_secret_and_spent_challenges(
    process: HubProcess,
) -> None:
    hub, team = DialledHub(process), Team()
    with process.store() as store:
        code = store.access.invite(1, 1, SystemRandom(), SystemClock().now_ms())
    await team.found_at(hub, code)
    token = await team.token(hub)
    team.admit(TWO)
    await team.post(hub)
    answer = await hub.ask("POST", "/v1/mailboxes")
    box, opener = answer.json()["number"], answer.json()["secret"]
    process.kill()
    process.start()
    body = team.change()
    answer = await hub.ask("POST", team.path, json=body, token=token)  # the answer was lost
    assert (answer.status_code, answer.json()) == (200, {"length": 2})
    assert len(process.query("SELECT * FROM spent_challenges")) == 2
    assert (await hub.ask("GET", f"/v1/mailboxes/{box}/0", token=opener)).status_code == 204
    async with asyncio.timeout(60):
        room, key = room_name(team.pool, 1), team.roster.epoch_key(1, team.keys[TWO], TWO)
        two = SyncClient(process.url, PoolKey(room, 1, key), TWO, await team.token(hub, TWO))
        async with two:
            two.record("after the crash")
            await two.settle()
            assert two.session.roster_length == 2


async def test_a_running_hub_takes_an_invitation_that_was_made_beside_it_once(
    process: HubProcess,
) -> None:
    hub = DialledHub(process)
    with process.store() as store:
        code = store.access.invite(1, 1, SystemRandom(), SystemClock().now_ms())
    bodies = [{"entry": text(Team(seed).entries[0]), "invitation": code} for seed in range(4)]
    answers = await asyncio.gather(*(hub.ask("POST", "/v1/pools", json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [201, 403, 403, 403]


async def requesting(hub: ServedHub, team: Team, device: str, epoch: int = 1) -> HttpClient:
    """A device that comes by single requests."""
    token = await team.token(hub, device)
    return HttpClient(hub.origin, room_name(team.pool, epoch), device, token)


async def test_single_requests_are_let_in_by_key_and_past_epochs_are_read_only(
    hub: ServedHub, team: Team
) -> None:
    async with asyncio.timeout(60), await requesting(hub, team, ONE) as one:
        await one.greet()
        assert (await one.write(b"written")).status == 200
        async with await requesting(hub, team, THREE) as three:
            await three.greet()
            assert (await three.write(b"no")).code == Close.READ_ONLY
        team.rotate()
        await team.post(hub)
        assert (await one.write(b"late")).code == Close.GAP  # its position is a writer's
        await one.greet()
        late = await one.write(b"late")
        assert (late.status, late.code) == (403, Close.READ_ONLY)


async def test_who_is_removed_hears_no_more_by_requests_that_wait(
    hub: ServedHub, team: Team
) -> None:
    async with asyncio.timeout(60), await requesting(hub, team, TWO) as two:
        await two.greet()
        waiting = asyncio.create_task(two.poll(wait=20))
        while not hub.hub.watchers._waiting:  # noqa: ASYNC110  nothing sets an event
            await asyncio.sleep(0.01)
        team.remove(TWO)
        await team.post(hub)
        hub.hub.watchers.changed(room_name(team.pool, 1))
        hub.hub.watchers.release(room_name(team.pool, 1), TWO)
        answer = await waiting
        assert (answer.status, answer.code) == (401, Close.BAD_TOKEN)
        assert (await two.poll()).code == Close.BAD_TOKEN
        assert (await two.write(b"no")).code == Close.BAD_TOKEN


@pytest.mark.parametrize("change", ["remove", "rotate"])
async def test_a_right_that_is_lost_while_the_body_comes_or_is_stored_is_lost(
    hub: ServedHub, team: Team, change: str
) -> None:
    async with asyncio.timeout(60), await requesting(hub, team, TWO) as two:
        await two.greet()
        assert two.resume is not None
        update = two.update(b"too late")
        body = encode_body(Body((encode_frame(two.resume), encode_frame(update)), two.position))
        begun = asyncio.Event()
        changed = asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield body[:10]
            begun.set()
            await changed.wait()
            yield body[10:]

        headers = two.headers | {"Content-Type": CONTENT_TYPE}
        sending = asyncio.create_task(two.http.post(two.path, content=slowly(), headers=headers))
        await begun.wait()
        team.remove(TWO) if change == "remove" else team.rotate()
        await team.post(hub)
        changed.set()
        answer = await sending
        assert answer.status_code in (401, 403, 409)
    assert hub.store.load(room_name(team.pool, 1)).rows == []


async def test_a_request_in_a_room_is_dropped_with_its_right(hub: ServedHub, team: Team) -> None:
    endpoint = hub.hub.endpoint
    headers = Headers(
        {"Authorization": f"Bearer {await team.token(hub, TWO)}", "X-Localmem-Device": TWO}
    )
    asking = HTTPConnection({"type": "http", "headers": headers.raw})
    identity = await endpoint.identify(room_name(team.pool, 1), asking)
    frame = encode_frame(Hello(PROTOCOL, CAPABILITIES, TWO, 0))
    visit = Visit(Peer(endpoint.connections.number(), TWO, transient=True), Body((frame,), ""))
    with endpoint.staying(visit, identity):
        team.remove(TWO)
        await team.post(hub)
        assert visit.closed is not None
        assert visit.closed[0] == Close.BAD_TOKEN


async def test_a_session_token_in_a_url_is_told_to_be_none_of_its_business(
    hub: ServedHub, team: Team
) -> None:
    token = await team.token(hub)
    async with await requesting(hub, team, ONE) as one:
        answer = await one.http.get(f"{one.path}?{token}=1", headers=one.headers)
    assert answer.status_code == 401
    assert token not in answer.text


@contextlib.asynccontextmanager
async def by_requests(
    hub: ServedHub, team: Team, name: str, epoch: int = 1
) -> AsyncIterator[HttpClient]:
    """A device that has been told everything, and polls."""
    token = await team.token(hub, name)
    async with HttpClient(hub.origin, room_name(team.pool, epoch), name, token) as client:
        await client.greet()
        yield client


async def test_a_poll_hears_of_a_grown_roster_and_stays_small_otherwise(
    hub: ServedHub, team: Team
) -> None:
    async with (
        asyncio.timeout(60),
        by_requests(hub, team, ONE) as one,
        by_requests(hub, team, TWO) as two,
    ):
        answer = await two.poll()
        assert (answer.status, answer.content) == (304, b"")
        team.admit(FOUR)
        await team.post(hub)
        answer = await two.poll()
        assert (answer.status, answer.frames) == (200, [Notice("roster", 4)])
        two.position = answer.position
        assert (await two.poll()).status == 304
        assert one.resume is not None
        assert Notice("roster", 4) in (await one.post(one.resume, position=one.position)).frames
        assert (await one.poll()).status == 304


async def test_a_device_that_does_not_know_notices_polls_undisturbed(
    hub: ServedHub, team: Team
) -> None:
    token = await team.token(hub, TWO)
    async with (
        asyncio.timeout(60),
        HttpClient(hub.origin, room_name(team.pool, 1), TWO, token) as two,
    ):
        await two.post(Hello(PROTOCOL, NEEDED, TWO, 0))
        assert two.resume is not None
        await two.post(two.resume, Step1(b"\x00"))
        team.admit(FOUR)
        await team.post(hub)
        assert (await two.poll()).status == 304


async def test_a_waiting_poll_is_woken_by_the_roster(hub: ServedHub, team: Team) -> None:
    async with asyncio.timeout(60), by_requests(hub, team, TWO) as two:
        waiting = asyncio.create_task(two.poll(wait=25))
        while not hub.hub.watchers._waiting:  # noqa: ASYNC110  nothing here would set an event
            await asyncio.sleep(0)
        team.admit(FOUR)
        await team.post(hub)
        answer = await waiting
        assert (answer.status, answer.frames) == (200, [Notice("roster", 4)])


@pytest.mark.parametrize("change", ["remove", "rotate"])
async def test_a_waiting_poll_ends_at_once_when_its_device_loses_a_right(
    hub: ServedHub, team: Team, change: str
) -> None:
    async with asyncio.timeout(60), by_requests(hub, team, TWO) as two:
        waiting = asyncio.create_task(two.poll(wait=25))
        while not hub.hub.watchers._waiting:  # noqa: ASYNC110  nothing here would set an event
            await asyncio.sleep(0)
        if change == "remove":
            team.remove(TWO)
        else:
            team.rotate()
        await team.post(hub)
        answer = await waiting
        code = Close.BAD_TOKEN if change == "remove" else Close.ROSTER_CHANGED
        assert answer.code == code
