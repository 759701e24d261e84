"""The audit log: what is noted of whom, and that nothing in it lets anybody in."""

from __future__ import annotations

import asyncio
import json
import logging
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from localmem_hub.app import Policy
from localmem_hub.audit import ADMITTED_AGAIN_SECONDS, REFUSING, Audit, line, log, open_audit
from localmem_hub.errors import ConfigError
from localmem_hub.system import SystemRandom
from localmem_hub.tokens import new_token
from localmem_protocol.access import room_name
from localmem_protocol.exchange import Mark
from localmem_protocol.frames import Close
from localmem_protocol.limits import UPDATE_STRUCTS_MAX
from support.hub_process import running_hub
from support.plain_client import PlainClient
from support.pool_members import ONE, THREE, TWO, Team, text
from support.served_hub import START_MS, HandClock, ServedHub, serving
from support.sync_client import RawClient, append, close_code, dial

Noted = Callable[..., list[dict[str, Any]]]
CANARY = "sk-canary-7731"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[ServedHub]:
    async with serving(tmp_path, policy=Policy(plain_workers=1)) as served:
        yield served


@pytest.fixture
def noted(caplog: pytest.LogCaptureFixture) -> Noted:
    """The lines so far of some events, without their times."""
    caplog.set_level(logging.INFO, log.name)

    def read(*events: str) -> list[dict[str, Any]]:
        found = [json.loads(r.getMessage()) for r in caplog.records if r.name == log.name]
        assert all(one.pop("time").endswith("Z") for one in found)
        return [one for one in found if not events or one["event"] in events]

    return read


def token(hub: ServedHub, pool: str, device: str | None = None, kind: Any = "sealed") -> str:
    made = hub.store.tokens.create(pool, device, "writer", SystemRandom(), 1, kind=kind)
    return made.text


async def test_who_came_in_by_token_and_who_did_not_is_noted(hub: ServedHub, noted: Noted) -> None:
    given = token(hub, "team")
    who = {"pool": "team", "device": ONE, "token": given.split("_")[1], "role": "writer"}
    here = {"address": "127.0.0.1", **who}
    async with asyncio.timeout(60):
        one = await RawClient.join(hub.url, "team", ONE, given)
        assert await close_code(await dial(hub.url, "team", TWO, given)) == Close.BAD_TOKEN
        hub.store.tokens.revoke(who["token"], 2)
        assert await close_code(one.socket) == Close.BAD_TOKEN
    assert noted() == [
        {"event": "enrolled", **here},
        {"event": "admitted", "address": "127.0.0.1", "transport": "websocket", **who},
        {
            "event": "refused",
            "address": "127.0.0.1",
            "pool": "team",
            "device": TWO,
            "code": Close.BAD_TOKEN,
            "reason": "this token belongs to another device",
        },
        {"event": "cut_off", **here, "code": Close.BAD_TOKEN, "reason": "this token was revoked"},
    ]


async def test_what_becomes_of_a_pool_and_its_members_is_noted(
    hub: ServedHub, noted: Noted
) -> None:
    team = Team()
    invitation = hub.store.access.invite(1, 7, SystemRandom(), START_MS)
    refused = await hub.ask("POST", "/v1/pools", json={"entry": text(team.entries[0])})
    assert refused.status_code == 403
    await team.found_at(hub, invitation)
    team.admit(TWO)
    await team.post(hub)
    team.admit(THREE, "reader")
    await team.post(hub)
    team.set_role(TWO, "owner")
    await team.post(hub)
    async with asyncio.timeout(60):
        given = await team.token(hub, TWO)
        two = await RawClient.join(hub.url, room_name(team.pool, 1), TWO, given)
        team.remove(TWO)
        await team.post(hub)
        assert await close_code(two.socket) == Close.BAD_TOKEN
    here = {"address": "127.0.0.1", "pool": team.pool}
    by = {**here, "by": ONE}
    changes = ("pool_created", "enrolled", "role_changed", "removed", "rotated")
    (made, *others) = noted(*changes)
    assert made.pop("invitation") not in ("", invitation)
    assert made == {"event": "pool_created", **here}
    assert others == [
        {"event": "enrolled", **by, "device": TWO, "role": "member"},
        {"event": "enrolled", **by, "device": THREE, "role": "reader"},
        {"event": "role_changed", **by, "device": TWO, "role": "owner"},
        {"event": "removed", **by, "device": TWO},
        {"event": "rotated", **by, "epoch": 2},
    ]
    assert {"event": "proved", **here, "device": TWO, "role": "owner"} in noted("proved")
    assert [one["code"] for one in noted("refused")] == ["admission"]
    assert [one["code"] for one in noted("cut_off")] == [Close.BAD_TOKEN]


async def test_plain_rooms_are_noted_as_well(hub: ServedHub, noted: Noted) -> None:
    given = token(hub, "notes", kind="plain")
    async with asyncio.timeout(60):
        one = await PlainClient.join(hub.url, "notes", given)
        other = await PlainClient.dial(hub.url, "other", given)
        assert await close_code(other.socket) == Close.BAD_TOKEN
        await one.leave()
    assert [(one["event"], one["pool"]) for one in noted()] == [
        ("enrolled", "notes"),
        ("admitted", "notes"),
        ("refused", "other"),
    ]


async def test_who_comes_by_single_requests_is_noted_once_an_hour(
    hub: ServedHub, noted: Noted
) -> None:
    given = token(hub, "team", ONE)
    headers = {"X-Localmem-Device": ONE, "If-None-Match": f'"{Mark(0, True).text}"'}

    async def poll() -> None:
        answer = await hub.ask("GET", "/v1/sync/team/updates", token=given, headers=headers)
        assert answer.status_code == 304

    await poll()
    hub.clock.ms += int(ADMITTED_AGAIN_SECONDS * 1000) - 1
    await poll()
    assert [one["transport"] for one in noted("admitted")] == ["http"]
    hub.clock.ms += 1
    await poll()
    assert len(noted("admitted")) == 2


async def test_no_line_holds_a_secret_or_what_devices_say(
    hub: ServedHub, noted: Noted, caplog: pytest.LogCaptureFixture
) -> None:
    given, secret = token(hub, "team"), new_token(SystemRandom()).text
    async with asyncio.timeout(60):
        for pool, text_ in (("team", secret), (secret, given), ("team", f"{given}x")):
            assert await close_code(await dial(hub.url, pool, ONE, text_)) == Close.BAD_TOKEN
        asked = await hub.ask("GET", f"/v1/sync/team?token={secret}")
        assert asked.status_code == 401
        one = await RawClient.join(hub.url, "team", ONE, given)
        await one.write(CANARY.encode())
        await one.acknowledged(1)
        await one.socket.send(append(TWO, one.client, 1, CANARY.encode()))
        assert await close_code(one.socket) == Close.BAD_FRAME
    assert len(noted("refused")) == 4
    said = "\n".join(record.getMessage() for record in caplog.records if record.name == log.name)
    for hidden in (given, secret, given.split("_")[2], secret.split("_")[2], CANARY):
        assert hidden not in said
    assert "(a secret)" in said


def test_a_flood_of_refusals_is_bounded_and_counted(noted: Noted) -> None:
    clock = HandClock()
    audit = Audit(clock)
    for _ in range(REFUSING.burst + 40):
        audit.refused("192.0.2.1", code=4401)
    audit.refused("192.0.2.2", code=4401)
    assert [one.get("left_out") for one in noted()] == [None] * REFUSING.burst + [40]
    clock.ms += int(REFUSING.seconds * 1000)
    audit.refused("192.0.2.1", code=4401)
    assert len(noted()) == REFUSING.burst + 2


def test_a_line_is_one_line_whatever_is_in_it() -> None:
    made = line("refused", START_MS, pool='a"\n{}' + "x" * UPDATE_STRUCTS_MAX, device=None, n=0)
    assert "\n" not in made
    assert len(made) < 400
    assert json.loads(made)["n"] == 0
    assert "device" not in json.loads(made)


def test_a_file_is_private_and_opened_again_when_it_was_moved_away(tmp_path: Path) -> None:
    where = tmp_path / "audit.log"
    end, audit = open_audit(str(where)), Audit(HandClock())
    audit.note("one")
    end()
    end = open_audit(str(where))
    audit.note("two")
    end()
    assert stat.S_IMODE(where.stat().st_mode) == 0o600
    assert [json.loads(text)["event"] for text in where.read_text().splitlines()] == ["one", "two"]
    end = open_audit(str(where))
    where.rename(tmp_path / "audit.log.1")
    audit.note("three")
    end()
    assert json.loads(where.read_text())["event"] == "three"
    audit.note("four")  # nowhere, by the settings of whoever runs these tests
    assert len(where.read_text().splitlines()) == 1


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="audit: cannot write"):
        open_audit(str(tmp_path))


def test_hub_and_command_line_write_into_one_file(tmp_path: Path) -> None:
    where, config = tmp_path / "audit.log", tmp_path / "hub.toml"
    config.write_text(f'database = "sqlite:///{tmp_path}/hub.db"\naudit = "{where}"\n')

    def run(*arguments: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "localmem_hub", *arguments, "--config", str(config)]
        done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    with running_hub(tmp_path, "--config", str(config)) as hub:
        made = run("token", "create", "--pool", "team", "--days", "3")

        async def come() -> None:
            async with asyncio.timeout(60):
                one = await RawClient.join(hub.url, "team", ONE, made["token"])
                await asyncio.to_thread(run, "token", "revoke", made["id"])
                assert await close_code(one.socket) == Close.BAD_TOKEN

        asyncio.run(come())
        run("invite")
        run("pool", "remove", "team", "--yes")
        assert hub.stop() == 0
        assert run("restore", "--yes")["tokens_voided"] == 0
    written = where.read_text()
    assert made["token"].split("_")[2] not in written
    assert sorted(json.loads(one)["event"] for one in written.splitlines()) == [
        "admitted",
        "cut_off",
        "enrolled",
        "invitation_created",
        "pool_removed",
        "restored",
        "token_created",
        "token_revoked",
    ]
    assert not [one for one in hub.log.read_text().splitlines() if one.startswith("{")]
