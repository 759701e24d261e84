"""Whoever may not enter a pool learns nothing of it, not even that it is there."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from websockets.exceptions import ConnectionClosed

from localmem_hub import authentication
from localmem_hub.app import Policy
from localmem_hub.limits import REFUSAL_SECONDS
from localmem_hub.system import SystemRandom
from localmem_hub.tokens import new_token
from localmem_protocol.access import room_name
from localmem_protocol.exchange import CONTENT_TYPE, Body, Mark, encode_body
from localmem_protocol.frames import Close
from localmem_protocol.roster import RECOVERY, Roster
from support.plain_client import PlainClient
from support.pool_members import ONE, THREE, TWO, Team
from support.served_hub import START_MS, ServedHub, serving
from support.sync_client import dial

TEAM, OWN, NOTES = "team", "own", "notes"
MISSING = "ab" * 16


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[ServedHub]:
    async with serving(tmp_path, policy=Policy(open=True, plain_workers=1)) as served:
        yield served


@pytest.fixture
async def theirs(hub: ServedHub) -> Team:
    """A pool with a roster, in which no stranger is, with something in it."""
    team = Team(1)
    team.admit(THREE)  # so that the roster is in memory
    await team.found_at(hub, None)
    token(hub, TEAM)
    token(hub, NOTES, "plain")
    return team


def token(hub: ServedHub, pool: str, kind: Any = "sealed") -> str:
    return hub.store.tokens.create(pool, None, "writer", SystemRandom(), START_MS, kind=kind).text


async def strangers(hub: ServedHub) -> dict[str, str]:
    """What somebody may send who is in other pools, or in none."""
    other = Team(2)
    await other.found_at(hub, None)
    revoked = token(hub, OWN)
    hub.store.tokens.revoke(revoked.split("_")[1], START_MS)
    return {
        "nothing": "",
        "nonsense": "nonsense",
        "an unknown token": new_token(SystemRandom()).text,
        "a token of another pool": token(hub, OWN),
        "a revoked token": revoked,
        "a token of a plain room": token(hub, "plain", "plain"),
        "a member of another pool": await other.token(hub, ONE),
    }


def whole(answer: httpx2.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    """Everything that is in an answer but the time of day."""
    headers = [(name, value) for name, value in answer.headers.items() if name != "date"]
    return answer.status_code, headers, answer.content


async def answers(hub: ServedHub, pool: str, room: str, secret: str) -> list[Any]:
    """What a stranger is told about a pool and a room, in every way to ask."""
    headers = {"X-Localmem-Device": TWO, "Content-Type": CONTENT_TYPE}
    headers["If-None-Match"] = f'"{Mark(0, True).text}"'
    headers |= {"Authorization": f"Bearer {secret}"} if secret else {}
    body = encode_body(Body((), ""))
    found: list[Any] = []
    for method, path in (
        ("GET", f"/v1/sync/{room}"),
        ("POST", f"/v1/sync/{room}"),
        ("GET", f"/v1/sync/{room}/updates"),
        ("GET", f"/v1/sync/{room}/updates?wait=1"),
        ("GET", f"/v1/pools/{pool}/roster"),
        ("POST", f"/v1/pools/{pool}/roster"),
        ("POST", f"/v1/pools/{pool}/epochs/1/read"),
    ):
        sent = body if method == "POST" else None
        answer = await hub.ask(method, path, headers=headers, content=sent)
        assert answer.status_code in (400, 401)
        found.append(whole(answer))
    found.append(await closed(await dial(hub.url, room, TWO, secret or None)))
    found.append(await closed((await PlainClient.dial(hub.url, room, secret)).socket))
    return found


async def closed(socket: Any) -> tuple[list[bytes], int, str]:
    """All that a connection says before it is closed, and how."""
    said = []
    try:
        while True:
            said.append(await socket.recv())
    except ConnectionClosed:
        return said, socket.close_code, socket.close_reason


async def test_a_pool_that_is_there_and_one_that_is_not_answer_alike(
    hub: ServedHub, theirs: Team
) -> None:
    for who, secret in (await strangers(hub)).items():
        missing = await answers(hub, MISSING, room_name(MISSING, 1), secret)
        assert await answers(hub, theirs.pool, room_name(theirs.pool, 1), secret) == missing, who
        assert missing[-2][1] == Close.BAD_TOKEN
        missing = await answers(hub, "nobody", "nobody", secret)
        for there in (TEAM, NOTES):
            assert await answers(hub, there, there, secret) == missing, who


async def test_the_same_is_looked_up_for_both(hub: ServedHub, theirs: Team) -> None:
    """So that the time says nothing either."""
    looked: list[str] = []
    engine = hub.store.inner._engine
    secrets = await strangers(hub)

    def note(_c: Any, _u: Any, statement: str, *_: Any) -> None:
        if statement != "BEGIN" and "access_changes" not in statement:  # all the time
            looked.append(statement)

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        for who, secret in secrets.items():
            seen = []
            for pool, room in (
                (theirs.pool, room_name(theirs.pool, 1)),
                (MISSING, room_name(MISSING, 1)),
                (TEAM, TEAM),
                ("nobody", "nobody"),
            ):
                looked.clear()
                await answers(hub, pool, room, secret)
                seen.append(sorted(looked))
            assert seen[0] == seen[1] == seen[2] == seen[3], who
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize("device", [ONE, TWO, RECOVERY])
async def test_a_wrong_proof_is_answered_alike_and_after_the_same_time(
    hub: ServedHub, theirs: Team, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """Though the roster of a pool that is there takes its time to be loaded."""
    slept: list[float] = []
    get = hub.hub.rosters.get

    async def slowly(pool: str) -> Roster | None:
        found = await get(pool)
        hub.clock.ms += 3 if found is None else 1030
        return found

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        hub.clock.ms += round(seconds * 1000)

    monkeypatch.setattr(hub.hub.rosters, "get", slowly)
    monkeypatch.setattr(authentication, "sleep", sleep)
    found = []
    for pool in (theirs.pool, MISSING):
        asked = await hub.ask("POST", "/v1/auth", json={"pool": pool, "device": device})
        assert asked.status_code == 200
        wrong = base64.b64encode(bytes(64)).decode()
        body = {"challenge": asked.json()["challenge"], "signature": wrong, "origin": hub.origin}
        began_ms = hub.clock.ms
        answer = await hub.ask("POST", "/v1/auth/proof", json=body)
        found.append(whole(answer))
        assert (hub.clock.ms - began_ms) % (REFUSAL_SECONDS * 1000) == 0
    assert found[0] == found[1]
    assert (found[0][0], len(slept)) == (401, 2)


async def test_a_made_up_pool_needs_an_invitation_and_says_nothing_else(tmp_path: Path) -> None:
    async with serving(tmp_path) as hub:
        bodies = []
        for seed, invitation in ((3, None), (4, None), (3, "lmi_" + "0" * 32), (4, "lmi_x")):
            entry = base64.b64encode(Team(seed).entries[0]).decode()
            answer = await hub.ask(
                "POST", "/v1/pools", json={"entry": entry, "invitation": invitation}
            )
            assert answer.status_code == 403
            bodies.append(whole(answer))
        assert bodies[0] == bodies[1]
        assert bodies[2] == bodies[3]
