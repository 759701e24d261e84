"""Requests to servers that are no hubs, or hubs that mean ill."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import pytest

from localmem_node.errors import HubRefused, QueryError, SyncError
from localmem_node.sync import hub_client
from localmem_node.sync.hub_client import Answer, HubClient
from localmem_node.sync.pool_client import PoolClient, pools_of
from localmem_node.sync.rendezvous import Mailbox, Rendezvous
from localmem_node.sync.standing import Identity
from localmem_node.system import SystemClock
from localmem_protocol.limits import ROSTER_BYTES_MAX
from localmem_protocol.pairing import Code, Joiner
from localmem_protocol.roster import RECOVERY
from support.pool_members import ONE, Team
from support.seeded import SeededRandom

Serve = Callable[[socket.socket], None]


@contextmanager
def serving(answer: Serve) -> Iterator[str]:
    """A server of one connection; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def run() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                answer(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(60)
        assert not thread.is_alive()


def body(data: bytes, status: int = 200) -> Serve:
    head = f"HTTP/1.1 {status} x\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    return lambda connection: connection.sendall(head + data)


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nX-Y: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_hub_that_sends_a_byte_now_and_then_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    monkeypatch.setattr(hub_client, "WHOLE_S", 0.2)
    cut = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(start)
        connection.settimeout(0.01)
        while True:
            connection.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                if connection.recv(1) == b"":
                    cut.set()
                    return

    with serving(drip) as url, contextlib.suppress(SyncError):
        HubClient(url).call("GET", "/")
    assert cut.is_set()


def test_json_that_is_too_deep_is_no_answer() -> None:
    deep = b'{"a":' * 20_000
    with pytest.raises(SyncError, match="no JSON object"):
        Answer(200, deep).fields()
    with serving(body(deep, 500)) as url, pytest.raises(HubRefused, match="HTTP 500"):
        HubClient(url).call("GET", "/")


def test_what_a_hub_says_moves_no_cursor_and_stays_on_one_line() -> None:
    said = msgspec.json.encode({"error": {"code": "x", "message": "no\n\x1b[2Jmore\u202e"}})
    with serving(body(said, 400)) as url, pytest.raises(HubRefused) as raised:
        HubClient(url).call("GET", "/")
    assert str(raised.value).isprintable()


class Scripted(HubClient):
    """A hub whose answers to a path's beginning are given."""

    def __init__(self, **answers: object) -> None:
        super().__init__("http://hub.example.org")
        self.answers = answers

    def call(self, method: str, path: str, *_: object, **__: object) -> Answer:
        name = path.split("?")[0].rsplit("/", 1)[-1]
        return Answer(200, msgspec.json.encode(self.answers.get(name, self.answers.get("else"))))


TOKEN = {"token": "lms_x", "role": "owner", "length": 1, "expires_in_s": 3600}


def client(team: Team, **answers: object) -> PoolClient:
    hub = Scripted(auth={"challenge": "c"}, proof=TOKEN, **answers)
    return PoolClient(hub, team.pool, Identity(ONE, team.keys[ONE]), SystemClock())


@pytest.mark.parametrize("token", ["a\r\nX: y", "\u20ac", "", "x" * 2000])
def test_a_token_that_is_none_goes_into_no_header(token: str) -> None:
    team = Team()
    asking = client(team)
    assert isinstance(asking.hub, Scripted)
    asking.hub.answers["proof"] = TOKEN | {"token": token}
    with pytest.raises(SyncError, match="no hub of this release"):
        asking.token()


def test_a_roster_without_end_is_not_gathered() -> None:
    page = {"length": 4096, "head": "0" * 64, "entries": [bytes(ROSTER_BYTES_MAX // 4)]}
    with pytest.raises(SyncError, match="larger roster than there can be"):
        client(Team(), roster=page).shown(0)


@pytest.mark.parametrize("pool", ["../../etc", "", "A" * 32, "0" * 33])
def test_a_recovered_pool_is_named_by_an_id(pool: str) -> None:
    team = Team()
    hub = Scripted(auth={"challenge": "c"}, **{"else": {"pools": ["0" * 32, pool]}})
    with pytest.raises(SyncError, match="whose id is none"):
        pools_of(hub, Identity(RECOVERY, team.recovery))


def pairing(hub: HubClient) -> Rendezvous:
    team, random = Team(), SeededRandom(1)
    side = Joiner(Code.generate(1, random), team.keys[ONE], ONE, "desk", random)
    return Rendezvous(side, Mailbox(hub, 1, "s", host=False), SystemClock())


def test_nobody_agrees_to_somebody_who_was_not_shown() -> None:
    meeting = pairing(Scripted(**{"else": {}}))
    with pytest.raises(QueryError, match="nobody yet"):
        meeting.agree(True)
    meeting.agree(False)
    assert meeting.progress.state == "failed"


async def test_who_waits_for_a_pairing_holds_no_thread_and_hears_of_its_end() -> None:
    meeting = pairing(Scripted(**{"else": {}}))
    polls = [asyncio.create_task(meeting.until_other_than("waiting", 600)) for _ in range(200)]
    assert (await meeting.until_other_than("waiting", 0)).state == "waiting"
    async with asyncio.timeout(60):
        # All threads of the loop's own would be held by those who wait.
        assert await asyncio.to_thread(lambda: meeting.progress.state) == "waiting"
        assert not any(poll.done() for poll in polls)
        await asyncio.to_thread(meeting.cancel)
        assert {(await poll).state for poll in polls} == {"failed"}
    assert (await meeting.until_other_than("waiting", 600)).state == "failed"
    assert not meeting._watchers


def test_a_pairing_that_was_cancelled_does_not_ask_again() -> None:
    meeting = pairing(Scripted(**{"else": {}}))
    meeting.cancel()
    worked = threading.Event()

    def work(one: Rendezvous) -> None:
        worked.set()
        one.listen()

    meeting.start(work)
    assert worked.wait(60)
    meeting._thread.join(60)
    assert meeting.progress.state == "failed"
    assert "nothing was changed" in meeting.progress.problem
