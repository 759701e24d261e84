"""Access by key: who gets a token, and for how long it is one."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from localmem_hub.app import Policy, create_app
from localmem_hub.authentication import ASKING
from localmem_hub.errors import TokenError
from localmem_hub.limits import CHALLENGE_MS, SESSION_MS
from localmem_hub.rate_limits import address_of
from localmem_hub.session_tokens import Mint
from localmem_protocol.access import proof_data
from localmem_protocol.roster import RECOVERY, Roster, leave
from localmem_protocol.simulation import SeededRandom
from support.pool_members import NOW, ONE, THREE, TWO, Team, proof
from support.served_hub import START_MS, ServedHub, error_of, serving

HUB = "https://hub.example.com"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[ServedHub]:
    async with serving(tmp_path, policy=Policy(open=True, origins=frozenset({HUB}))) as served:
        yield served


@pytest.fixture
async def team(hub: ServedHub) -> Team:
    """A pool of two at the hub."""
    made = Team()
    made.admit(TWO)
    await made.found_at(hub, None)
    return made


async def challenge_for(hub: ServedHub, pool: str, device: str = ONE) -> str:
    answer = await hub.ask("POST", "/v1/auth", json={"pool": pool, "device": device})
    assert answer.json()["expires_in_s"] == 60
    challenge: str = answer.json()["challenge"]
    return challenge


async def test_a_device_that_signs_gets_a_token_that_opens_the_roster(
    hub: ServedHub, team: Team
) -> None:
    for device, role in ((ONE, "owner"), (TWO, "member"), (RECOVERY, "recovery")):
        answer = await team.prove(hub, device)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        told = answer.json()
        token = told.pop("token")
        assert told == {"role": role, "length": 2, "expires_in_s": 3600}
        answer = await hub.ask("GET", team.path, token=token)
        assert answer.status_code == 200


async def test_a_challenge_is_given_for_anything_and_says_nothing(hub: ServedHub) -> None:
    known, unknown = Team(1), Team(2)
    await known.found_at(hub, None)
    answers = [
        await hub.ask("POST", "/v1/auth", json={"pool": team.pool, "device": device})
        for team in (known, unknown)
        for device in (ONE, THREE, RECOVERY)
    ]
    said = [(a.status_code, set(a.json()), len(a.json()["challenge"])) for a in answers]
    assert said[:3] == said[3:]
    refusals = [await known.prove(hub, THREE), await unknown.prove(hub, ONE)]
    assert len({(answer.status_code, answer.text) for answer in refusals}) == 1
    assert error_of(refusals[0]) == (401, "proof", None)


async def test_nobody_signs_for_another(hub: ServedHub, team: Team) -> None:
    challenge = await challenge_for(hub, team.pool, TWO)
    for keys, purpose in ((ONE, "hub access 1"), (RECOVERY, "hub access 1"), (TWO, "pairing 1")):
        data = proof_data(challenge, hub.origin, team.pool, TWO)
        signature = team.keys[keys].sign(purpose, data)
        answer = await hub.ask(
            "POST", "/v1/auth/proof", json=proof(challenge, signature, hub.origin)
        )
        assert error_of(answer) == (401, "proof", None)


async def test_a_challenge_is_answered_once(hub: ServedHub, team: Team) -> None:
    challenge = await challenge_for(hub, team.pool)
    body = proof(challenge, team.sign(challenge, hub.origin, ONE), hub.origin)
    assert (await hub.ask("POST", "/v1/auth/proof", json=body)).status_code == 200
    answer = await hub.ask("POST", "/v1/auth/proof", json=body)
    assert error_of(answer) == (401, "challenge", "challenge")
    assert "answered before" in answer.text


async def test_a_wrong_answer_does_not_use_a_challenge_up(hub: ServedHub, team: Team) -> None:
    challenge = await challenge_for(hub, team.pool)
    wrong = proof(challenge, bytes(64), hub.origin)
    assert (await hub.ask("POST", "/v1/auth/proof", json=wrong)).status_code == 401
    right = proof(challenge, team.sign(challenge, hub.origin, ONE), hub.origin)
    assert (await hub.ask("POST", "/v1/auth/proof", json=right)).status_code == 200


async def test_a_challenge_expires_and_what_was_spent_is_forgotten(
    hub: ServedHub, team: Team
) -> None:
    spent = "SELECT count(*) FROM spent_challenges"
    with hub.store.inner._engine.begin() as connection:
        assert connection.exec_driver_sql(spent).scalar_one() > 0
    challenge = await challenge_for(hub, team.pool)
    body = proof(challenge, team.sign(challenge, hub.origin, ONE), hub.origin)
    hub.clock.ms += CHALLENGE_MS
    answer = await hub.ask("POST", "/v1/auth/proof", json=body)
    assert error_of(answer) == (401, "challenge", "challenge")
    assert "expired" in answer.text
    hub.clock.ms += 1
    await team.token(hub)
    with hub.store.inner._engine.begin() as connection:
        assert connection.exec_driver_sql(spent).scalar_one() == 1


async def test_a_proof_names_the_hub_as_it_was_dialled(hub: ServedHub, team: Team) -> None:
    port = hub.origin.rpartition(":")[2]
    for origin in (HUB, f"http://localhost:{port}", "http://[::1]:1"):
        assert (await team.prove(hub, origin=origin)).status_code == 200
    for origin in ("https://evil.example", f"{HUB}:443", HUB.upper(), "http://localhost.evil", ""):
        challenge = await challenge_for(hub, team.pool)
        signature = team.sign(challenge, origin, ONE)
        answer = await hub.ask("POST", "/v1/auth/proof", json=proof(challenge, signature, origin))
        assert error_of(answer) == (403, "origin", "origin")
    challenge = await challenge_for(hub, team.pool)  # signed for a hub that passes it on
    signature = team.sign(challenge, "https://evil.example", ONE)
    answer = await hub.ask("POST", "/v1/auth/proof", json=proof(challenge, signature, HUB))
    assert error_of(answer) == (401, "proof", None)


async def test_an_altered_challenge_is_none(hub: ServedHub, team: Team) -> None:
    challenge = await challenge_for(hub, team.pool)
    body = base64.urlsafe_b64decode(challenge[4:] + "==")
    foreign = Mint(b"another hub's").challenge(team.pool, ONE, SeededRandom(1), START_MS)
    token = await team.token(hub)
    altered = [challenge[:-4] + "AAAA", challenge[:4] + "AAAA" + challenge[8:], challenge[:-8]]
    altered += [
        "",
        "lmc_",
        "lmc_é",
        "lmc_====",
        f"lmc_{token[4:]}",
        foreign,
        "lms_" + challenge[4:],
    ]
    for at in range(0, len(body), 7):
        bent = bytes([*body[:at], body[at] ^ 1, *body[at + 1 :]])
        altered.append("lmc_" + base64.urlsafe_b64encode(bent).decode().rstrip("="))
    for one in altered:
        hub.clock.ms += 200  # the address may ask again
        signature = team.sign(one, hub.origin, ONE)
        answer = await hub.ask("POST", "/v1/auth/proof", json=proof(one, signature, hub.origin))
        assert error_of(answer) == (401, "challenge", "challenge"), one


async def test_a_token_expires_and_an_altered_one_is_none(hub: ServedHub, team: Team) -> None:
    token = await team.token(hub)
    foreign = Mint(b"another hub's").grant(team.pool, ONE, "owner", 1, START_MS)
    for wrong in ("-", "lms_", token[:-2], "lmt_" + token[4:], token + "A", foreign, "lms_" * 500):
        assert error_of(await hub.ask("GET", team.path, token=wrong)) == (401, "token", None)
    hub.clock.ms += SESSION_MS - 1
    assert (await hub.ask("GET", team.path, token=token)).status_code == 200
    hub.clock.ms += 1
    answer = await hub.ask("GET", team.path, token=token)
    assert error_of(answer) == (401, "token", None)
    assert "expired" in answer.text
    assert (await hub.ask("GET", team.path, token=await team.token(hub))).status_code == 200


async def test_a_removed_device_is_told_so_and_its_token_is_none(
    hub: ServedHub, team: Team
) -> None:
    token = await team.token(hub, TWO)
    assert (await hub.ask("GET", team.path, token=token)).status_code == 200
    team.remove(TWO)
    await team.post(hub)
    assert error_of(await hub.ask("GET", team.path, token=token)) == (401, "token", None)
    answer = await team.prove(hub, TWO)
    assert error_of(answer) == (403, "removed", None)
    team.admit(TWO, "reader")
    await team.post(hub)
    answer = await team.prove(hub, TWO)
    assert answer.json()["role"] == "reader"


async def test_who_leaves_does_so_by_an_entry_of_its_own(hub: ServedHub, team: Team) -> None:
    token = await team.token(hub, TWO)
    team.take(leave(team.roster, team.author(TWO), NOW))
    answer = await hub.ask("POST", team.path, json=team.change(), token=token)
    assert (answer.status_code, answer.json()) == (200, {"length": 3})
    answer = await hub.ask("POST", team.path, json=team.change(), token=token)
    assert error_of(answer) == (401, "token", None)


async def test_a_hub_that_was_restored_from_an_older_state_voids_its_tokens(
    hub: ServedHub, team: Team
) -> None:
    team.admit(THREE)
    await team.post(hub)
    token = await team.token(hub)
    with hub.store.inner._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM roster_entries WHERE position = 2")
        head = Roster.load(team.entries[:2]).head
        connection.exec_driver_sql("UPDATE rosters SET length = 2, head = ?", (head,))
    app = create_app(hub.store, hub.clock, policy=Policy(open=True))
    restored = app.state.hub.authentication
    with pytest.raises(TokenError, match="restored"):
        await restored.identify(token, f"{team.pool}.1", ONE)


async def test_every_process_of_a_hub_knows_what_another_one_said(
    hub: ServedHub, team: Team
) -> None:
    token = await team.token(hub)
    challenge = await challenge_for(hub, team.pool)
    another = create_app(hub.store, hub.clock).state.hub
    identity = await another.authentication.identify(token, f"{team.pool}.1", ONE)
    assert (identity.device, identity.role, identity.roster) == (ONE, "writer", team.pool)
    body = proof(challenge, team.sign(challenge, hub.origin, ONE), hub.origin)
    assert (await hub.ask("POST", "/v1/auth/proof", json=body)).status_code == 200
    assert not hub.store.access.spend(
        another.authentication._mint.open_challenge(challenge, START_MS).nonce.hex(), 1, 0
    )


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/auth", {"pool": "team", "device": ONE}, "pool"),
        ("/v1/auth", {"pool": "' OR '1'='1' --", "device": ONE}, "pool"),
        ("/v1/auth", {"pool": "", "device": ONE}, "pool"),
        ("/v1/auth", {"pool": "0" * 32, "device": "../../etc"}, "device"),
        ("/v1/auth", {"pool": "0" * 32, "device": "x" * 17}, "device"),
        ("/v1/auth", {"pool": "0" * 32, "device": 1}, "device"),
        ("/v1/auth", {"pool": "0" * 32}, None),
        ("/v1/auth", {"pool": "0" * 32, "device": ONE, "role": "owner"}, None),
        ("/v1/auth", [], None),
        ("/v1/auth/proof", {"challenge": "x", "signature": "AA==", "origin": HUB}, "signature"),
        ("/v1/auth/proof", {"challenge": "x", "signature": "!", "origin": HUB}, "signature"),
        ("/v1/auth/proof", {"challenge": "x" * 513, "signature": "", "origin": HUB}, "challenge"),
    ],
)
async def test_a_wrong_field_is_named(
    hub: ServedHub, path: str, body: Any, field: str | None
) -> None:
    answer = await hub.ask("POST", path, json=body)
    status, _, named = error_of(answer)
    assert (status, named) == (400, field)


@pytest.mark.parametrize("path", ["/v1/auth", "/v1/auth/proof"])
async def test_bodies_are_bounded_and_must_be_json(hub: ServedHub, path: str) -> None:
    for content in (b"", b"\xff", b"{", b"[" * 4000, b'{"pool": NaN}'):
        answer = await hub.ask("POST", path, content=content)
        assert error_of(answer) == (400, "body", None)
    for content in (b"[" * 2**20, b" " * 4097):
        answer = await hub.ask("POST", path, content=content)
        assert error_of(answer) == (413, "too_large", None)


async def test_an_address_may_only_try_so_often(hub: ServedHub) -> None:
    body = {"pool": "0" * 32, "device": ONE}
    for _ in range(ASKING.burst):
        assert (await hub.ask("POST", "/v1/auth", json=body)).status_code == 200
    assert error_of(await hub.ask("POST", "/v1/auth", json=body)) == (429, "too_many", None)
    assert (await hub.ask("GET", "/healthz")).status_code == 200


def test_what_counts_as_one_address() -> None:
    assert address_of("192.0.2.1") != address_of("192.0.2.2")
    assert address_of("::ffff:192.0.2.1") == address_of("192.0.2.1")
    assert address_of("2001:db8::1%eth0") == address_of("2001:db8::2:1")
    assert address_of("2001:db8::1") != address_of("2001:db8:0:1::1")
    assert address_of("x" * 1000) == "x" * 64
