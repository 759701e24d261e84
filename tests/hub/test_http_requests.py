"""What the plain endpoints do with requests that are none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from localmem_hub import http_requests
from localmem_hub.app import Policy
from support.pool_members import ONE, Team, proof
from support.seeded import SeededRandom
from support.served_hub import ServedHub, error_of, serving


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[ServedHub]:
    async with serving(tmp_path, policy=Policy(open=True)) as served:
        yield served


def mutations(body: bytes, random: SeededRandom, count: int) -> list[bytes]:
    """A body with bytes changed, cut out and doubled."""
    made: list[bytes] = []
    for _ in range(count):
        changed = bytearray(body)
        for _ in range(1 + random.below(4)):
            at = random.below(len(changed))
            match random.below(4):
                case 0:
                    changed[at] = random.below(256)
                case 1:
                    del changed[at : at + 1 + random.below(20)]
                case 2:
                    changed[at:at] = changed[at : at + 1 + random.below(20)]
                case _:
                    changed[at:at] = random.choice(
                        [b"[", b"{", b"\\ud800", b"1e999", b'"', b"null"]
                    )
            changed = changed or bytearray(b"x")
        made.append(bytes(changed))
    return made


async def test_no_mutated_body_is_the_hubs_mistake(hub: ServedHub) -> None:
    team, random = Team(), SeededRandom(1)
    await team.found_at(hub, None)
    team.rotate()
    answer = await hub.ask("POST", "/v1/auth", json={"pool": team.pool, "device": ONE})
    challenge = answer.json()["challenge"]
    signed = proof(challenge, team.sign(challenge, hub.origin, ONE), hub.origin)
    token = await team.token(hub)
    bodies: dict[str, Any] = {
        "/v1/auth": {"pool": team.pool, "device": ONE},
        "/v1/auth/proof": signed,
        "/v1/pools": {"entry": team.change(0)["entry"], "invitation": None},
        team.path: team.change(),
    }
    statuses: set[int] = set()
    for path, body in bodies.items():
        for content in mutations(json.dumps(body).encode(), random, 60):
            hub.clock.ms += 6000 if path == "/v1/pools" else 500
            answer = await hub.ask("POST", path, content=content, token=token)
            statuses.add(answer.status_code)
            if answer.is_error:
                error_of(answer)
    assert statuses <= {200, 201, 400, 401, 403, 409, 422}
    assert {400, 422} <= statuses
    assert (await hub.ask("GET", team.path, token=token)).status_code == 200


async def speak(hub: ServedHub, data: bytes) -> bytes:
    """Send bytes, and read until the hub is done."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(hub.origin.rpartition(":")[2]))
    writer.write(data)
    answer = await reader.readuntil(b"}}")
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_body_that_does_not_come_is_not_waited_for(
    hub: ServedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_requests, "BODY_SECONDS", 0.01)
    head = b"POST /v1/auth HTTP/1.1\r\nHost: hub\r\nContent-Length: 50\r\n\r\n"
    assert b"408" in (await speak(hub, head + b"{")).splitlines()[0]


async def test_an_announced_body_over_the_bound_is_not_read(hub: ServedHub) -> None:
    for length in (b"4097", b"99999999999", b"9" * 19):
        head = b"POST /v1/auth HTTP/1.1\r\nHost: hub\r\nContent-Length: " + length + b"\r\n\r\n"
        assert b"413" in (await speak(hub, head)).splitlines()[0]


async def test_a_stopped_hub_says_try_again(hub: ServedHub) -> None:
    await hub.hub.stop()
    answer = await hub.ask("POST", "/v1/mailboxes")
    assert error_of(answer) == (503, "stopping", None)
    assert answer.headers["retry-after"] == "1"
    answer = await hub.ask("GET", "/readyz")
    assert (answer.status_code, answer.json()["failing"]) == (503, ["stopping"])


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_other_methods_are_told_so(hub: ServedHub, method: str) -> None:
    assert (await hub.ask(method, "/v1/auth")).status_code == 405
    assert (await hub.ask(method, "/v1/pools")).status_code == 405
