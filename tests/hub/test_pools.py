"""Pools and their rosters over HTTP: who makes one, who reads it, and which entry is next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from localmem_hub import pools
from localmem_hub.app import Policy
from localmem_hub.errors import CommitError
from localmem_hub.limits import DAY_MS, ENTRY_BODY_BYTES
from localmem_hub.pools import FOUNDING, fingerprint_of
from localmem_hub.rosters import Rosters
from localmem_hub.seams import RosterMark
from localmem_hub.system import SystemRandom
from localmem_hub.workers import Workers
from localmem_protocol.entries import sign_entry
from localmem_protocol.keys import DeviceKeys
from localmem_protocol.roster import RECOVERY, Roster, encode_entry, found, recover, rotate
from localmem_protocol.simulation import SeededRandom
from support.hub_store import open_store
from support.pool_members import NOW, ONE, THREE, TWO, Team, text
from support.served_hub import START_MS, ServedHub, error_of, serving


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[ServedHub]:
    async with serving(tmp_path) as served:
        yield served


def invitation(hub: ServedHub, uses: int = 1, days: int = 1) -> str:
    return hub.store.inner.access.invite(uses, days, SystemRandom(), hub.clock.ms)


@pytest.fixture
async def team(hub: ServedHub) -> Team:
    """A pool at the hub: ONE its owner, TWO a member."""
    made = Team()
    made.admit(TWO)
    await made.found_at(hub, invitation(hub))
    return made


async def make(hub: ServedHub, team: Team, code: str | None) -> tuple[int, str, str | None] | int:
    hub.clock.ms += 6000  # the address may ask again
    body = {"entry": text(team.entries[0]), "invitation": code}
    answer = await hub.ask("POST", "/v1/pools", json=body)
    return error_of(answer) if answer.is_error else answer.status_code


NOT_ADMITTED = (403, "admission", "invitation")


async def test_a_pool_is_made_by_invitation_and_each_is_used_up(hub: ServedHub) -> None:
    one, two, three, four = (Team(seed) for seed in range(1, 5))
    code = invitation(hub, uses=2)
    assert await make(hub, one, None) == NOT_ADMITTED
    for wrong in ("", "lmi_", code[:-1], code + "0", code.upper(), "lmi_é", "' OR 1=1 --"):
        assert await make(hub, one, wrong) == NOT_ADMITTED
    assert await make(hub, one, code) == 201
    assert await make(hub, two, code) == 201
    assert await make(hub, three, code) == NOT_ADMITTED
    for again in (code, None, "nonsense"):  # the answer may have been lost
        assert await make(hub, one, again) == 200
    late = invitation(hub)
    hub.clock.ms += DAY_MS
    assert await make(hub, four, late) == NOT_ADMITTED
    assert {team.pool for team in (one, two)} == {one.pool for one in hub.store.inner.pools.list()}


async def test_only_the_hash_of_an_invitation_is_kept(hub: ServedHub, tmp_path: Path) -> None:
    code = invitation(hub)
    kept = b"".join(path.read_bytes() for path in list(tmp_path.iterdir()))  # noqa: ASYNC240
    assert code[4:].encode() not in kept
    assert bytes.fromhex(code[4:]) not in kept


async def test_an_open_hub_makes_pools_for_anybody_but_not_without_end(tmp_path: Path) -> None:
    async with serving(tmp_path, policy=Policy(open=True)) as hub:
        for seed in range(FOUNDING.burst):
            await Team(seed).found_at(hub, None)
        body = {"entry": text(Team(99).entries[0])}
        answer = await hub.ask("POST", "/v1/pools", json=body)
        assert error_of(answer) == (429, "too_many", None)


async def test_what_is_no_first_entry_makes_no_pool(hub: ServedHub) -> None:
    code, team = invitation(hub), Team()
    first, second = team.entries[0], team.admit(TWO)
    bent = [
        bytes([*first[:at], first[at] ^ 1, *first[at + 1 :]]) for at in range(0, len(first), 40)
    ]
    for entry in (b"", b"\x00", second, first + b"\x00", first[:-1], bytes(1000), *bent):
        hub.clock.ms += 6000
        body = {"entry": text(entry), "invitation": code}
        refused = error_of(await hub.ask("POST", "/v1/pools", json=body))
        assert refused in ((422, "roster", "entry"), (422, "conflict", "entry"))
    assert await make(hub, team, code) == 201


async def read(hub: ServedHub, team: Team, token: str, start: int = 0) -> list[str]:
    answer = await hub.ask("GET", f"{team.path}?from={start}", token=token)
    assert answer.status_code == 200
    told = answer.json()
    assert (told["length"], told["head"]) == (len(team.entries), team.roster.head.hex())
    assert answer.headers["etag"] == f'"{told["head"]}"'
    entries: list[str] = told["entries"]
    return entries


async def test_a_roster_is_read_from_any_place(hub: ServedHub, team: Team) -> None:
    token = await team.token(hub, TWO)
    encoded = [text(entry) for entry in team.entries]
    for start in range(4):
        assert await read(hub, team, token, start) == encoded[start:]
    headers = {"If-None-Match": f'"{team.roster.head.hex()}"'}
    answer = await hub.ask("GET", team.path, token=token, headers=headers)
    assert (answer.status_code, answer.content) == (304, b"")
    team.admit(THREE)
    await team.post(hub)
    answer = await hub.ask("GET", f"{team.path}?from=2", token=token, headers=headers)
    assert (answer.status_code, len(answer.json()["entries"])) == (200, 1)
    for wrong in ("-1", "x", "4097", "1e3", "9" * 400):
        answer = await hub.ask("GET", f"{team.path}?from={wrong}", token=token)
        assert error_of(answer) == (400, "query", "from")


async def test_a_long_roster_comes_in_parts(
    hub: ServedHub, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await team.token(hub)
    team.admit(THREE)
    await team.post(hub)
    size = len(team.entries[0])
    for most, parts in ((1, [1, 1, 1]), (size + len(team.entries[1]), [2, 1])):
        monkeypatch.setattr(pools, "ROSTER_PAGE_BYTES", most)
        got: list[str] = []
        lengths: list[int] = []
        while len(got) < len(team.entries):
            news = await read(hub, team, token, len(got))
            got += news
            lengths.append(len(news))
        assert (got, lengths) == ([text(entry) for entry in team.entries], parts)


async def test_an_entry_is_taken_at_the_end_and_again_when_the_answer_was_lost(
    hub: ServedHub, team: Team
) -> None:
    team.admit(THREE)
    await team.post(hub)
    await team.post(hub)
    await team.post(hub, 1)  # long ago
    team.rotate()
    await team.post(hub)
    token = await team.token(hub)
    assert await read(hub, team, token) == [text(entry) for entry in team.entries]


async def test_another_entry_at_a_place_that_is_taken_is_told_the_length(
    hub: ServedHub, team: Team
) -> None:
    token = await team.token(hub)
    other = {"expected": 2, "entry": text(encode_entry(team.admitting(THREE, "reader")))}
    team.admit(THREE)
    await team.post(hub)
    for body in (other, other | {"expected": 1}, team.change() | {"expected": 7}):
        answer = await hub.ask("POST", team.path, json=body, token=token)
        assert error_of(answer) == (409, "length", "expected")
        assert answer.json()["length"] == 3


async def test_of_two_entries_at_once_exactly_one_is_taken(hub: ServedHub, team: Team) -> None:
    token = await team.token(hub)
    entries = [encode_entry(team.admitting(THREE, role)) for role in ("member", "reader", "owner")]
    bodies = [{"expected": 2, "entry": text(entry)} for entry in entries]
    answers = await asyncio.gather(
        *(hub.ask("POST", team.path, json=body, token=token) for body in bodies)
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
    (taken,) = [entry for entry, a in zip(entries, answers, strict=True) if a.status_code == 200]
    assert hub.store.rosters.read(team.pool, 2, 2**20) == [taken]


async def test_of_two_processes_that_append_at_once_one_learns_of_the_other(
    hub: ServedHub, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one stores its entry after this one has checked the length."""
    store = hub.store.rosters
    other, mine = team.admitting(THREE, "reader"), encode_entry(team.admitting(THREE))
    append = store.append

    def late(pool: str, entry: bytes, mark: RosterMark, epoch: int, now_ms: int) -> None:
        monkeypatch.undo()
        after = Roster.load([*team.entries, encode_entry(other)])
        append(pool, encode_entry(other), RosterMark(after.length, after.head), epoch, now_ms)
        append(pool, entry, mark, epoch, now_ms)

    token = await team.token(hub)
    monkeypatch.setattr(store, "append", late)
    body = {"expected": 2, "entry": text(mine)}
    answer = await hub.ask("POST", team.path, json=body, token=token)
    assert error_of(answer) == (409, "length", "expected")
    assert answer.json()["length"] == 3
    team.take(other)
    assert await read(hub, team, token, 2) == [text(team.entries[2])]


async def test_an_entry_whose_answer_got_lost_was_taken(
    hub: ServedHub, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = hub.store.rosters.append

    def stored_and_gone(*arguments: Any) -> None:
        append(*arguments)
        raise CommitError("the database went away")

    token = await team.token(hub)
    team.admit(THREE)
    with monkeypatch.context() as patch:
        patch.setattr(hub.store.rosters, "append", stored_and_gone)
        answer = await hub.ask("POST", team.path, json=team.change(), token=token)
        assert error_of(answer) == (503, "store", None)
    answer = await hub.ask("POST", team.path, json=team.change(), token=token)
    assert (answer.status_code, answer.json()) == (200, {"length": 3})
    assert (await team.prove(hub, THREE)).status_code == 200


async def test_what_the_roster_does_not_allow_is_not_stored(hub: ServedHub, team: Team) -> None:
    stranger = Team(2)
    team.admit(THREE, "reader")
    await team.post(hub)
    token = await team.token(hub, TWO)
    turned = rotate(team.roster, team.author(), team.random, NOW)
    forged = [
        encode_entry(sign_entry(msgspec.structs.replace(turned, author=author), team.keys[signer]))
        for author, signer in ((TWO, TWO), (THREE, THREE), (ONE, TWO), (RECOVERY, ONE))
    ]
    foreign = stranger.admit(TWO)
    stranger.admit(THREE)
    genesis = stranger.entries[0]
    bent = bytearray(team.rotate())
    bent[-1] ^= 1
    for entry in (foreign, stranger.entries[2], genesis, bytes(bent), b"", *forged):
        body = {"expected": 3, "entry": text(entry)}
        answer = await hub.ask("POST", team.path, json=body, token=token)
        assert answer.status_code == 422
        assert error_of(answer)[2] == "entry"
    assert hub.store.rosters.mark(team.pool) == RosterMark(3, Roster.load(team.entries[:3]).head)
    await team.post(hub)


async def test_a_missing_pool_and_a_foreign_one_look_the_same(hub: ServedHub, team: Team) -> None:
    other = Team(2)
    await other.found_at(hub, invitation(hub))
    missing = Team(3)
    mine = await team.token(hub)
    for token in (None, "-", mine):
        for method, body in (("GET", None), ("POST", other.change(0) | {"expected": 1})):
            answers = [
                await hub.ask(method, of.path, json=body, token=token) for of in (other, missing)
            ]
            assert error_of(answers[0]) == (401, "token", None)
            assert answers[0].text == answers[1].text
    assert (await other.prove(hub, TWO)).text == (await missing.prove(hub, TWO)).text


@pytest.mark.parametrize(
    "name", ["team", "' OR '1'='1", "%27%3B--", "..%2F..%2Fetc", "%00", "a" * 5000, "é", "*"]
)
async def test_names_that_are_no_pool_are_no_pool(hub: ServedHub, team: Team, name: str) -> None:
    token = await team.token(hub)
    answer = await hub.ask("GET", f"/v1/pools/{name}/roster", token=token)
    assert answer.status_code in (401, 404)
    assert (await hub.ask("GET", f"/v1/recovery/{name}", token=token)).status_code in (401, 404)
    assert await read(hub, team, token) == [text(entry) for entry in team.entries]


async def test_bodies_are_bounded(hub: ServedHub, team: Team) -> None:
    token = await team.token(hub)
    for path in ("/v1/pools", team.path):
        for content in (b"[" * 2**20, b" " * (ENTRY_BODY_BYTES + 1)):
            answer = await hub.ask("POST", path, content=content, token=token)
            assert error_of(answer) == (413, "too_large", None)
        large: dict[str, object] = {"expected": 2} if path == team.path else {}
        large["entry"] = text(bytes(128 * 1024 + 1))
        answer = await hub.ask("POST", path, json=large, token=token)
        assert error_of(answer) == (400, "body", "entry")


@pytest.mark.parametrize("expected", [0, -1, 4097, 1.5, "1", None, 2**70])
async def test_the_expected_length_is_a_number(
    hub: ServedHub, team: Team, expected: object
) -> None:
    body = {"expected": expected, "entry": ""}
    answer = await hub.ask("POST", team.path, json=body, token=await team.token(hub))
    assert error_of(answer) == (400, "body", "expected")


async def recover_with(hub: ServedHub, team: Team, fingerprint: str, **more: str) -> Any:
    """Ask which pools name a recovery key; the answer."""
    hub.clock.ms += 6000
    pool, device = more.get("pool", ""), more.get("device", RECOVERY)
    answer = await hub.ask("POST", "/v1/auth", json={"pool": pool, "device": device})
    challenge = answer.json()["challenge"]
    signature = text(team.sign(challenge, hub.origin, device, pool))
    headers = {"Authorization": f"Proof {challenge} {signature} {hub.origin}"}
    answer = await hub.ask("GET", f"/v1/recovery/{fingerprint}", headers=headers)
    again = await hub.ask("GET", f"/v1/recovery/{fingerprint}", headers=headers)
    assert error_of(again)[0] == 401
    return answer


async def test_a_recovery_phrase_finds_its_pools_and_admits_a_new_owner(
    hub: ServedHub, team: Team
) -> None:
    second = Team(2)
    second.recovery = second.keys[RECOVERY] = team.recovery
    first = found(second.author(), second.random, NOW, team.recovery.public)
    second.entries = [encode_entry(first)]
    second.roster = Roster.load(second.entries)
    await second.found_at(hub, invitation(hub))
    await Team(3).found_at(hub, invitation(hub))
    answer = await recover_with(hub, team, fingerprint_of(team.recovery.public))
    assert (answer.status_code, set(answer.json()["pools"])) == (200, {team.pool, second.pool})
    token = await team.token(hub, RECOVERY)
    assert len(await read(hub, team, token)) == 2
    fresh = DeviceKeys.generate(SeededRandom(5))
    team.take(
        recover(team.roster, team.recovery, team.random, NOW, device=THREE, keys=fresh.public)
    )
    await team.post(hub, device=RECOVERY)
    team.keys[THREE] = fresh
    assert (await team.prove(hub, THREE)).json()["role"] == "owner"


async def test_pools_are_listed_for_the_holder_of_the_recovery_key_alone(
    hub: ServedHub, team: Team
) -> None:
    mine, other = (fingerprint_of(one.recovery.public) for one in (team, Team(2)))
    answers = [
        await recover_with(hub, Team(2), mine),  # another phrase's key
        await recover_with(hub, team, other),  # that nobody knows
        await recover_with(hub, team, mine, pool=team.pool),  # a challenge for something else
        await recover_with(hub, team, mine, pool=team.pool, device=ONE),
        await recover_with(hub, team, mine[:-1]),
    ]
    assert {error_of(answer) for answer in answers} == {(401, "proof", None)}
    assert len({answer.text for answer in answers}) == 1
    for header in (None, "Proof", "Proof a b c", "Bearer a b c", "Proof a AA== c d"):
        hub.clock.ms += 6000
        headers = {} if header is None else {"Authorization": header}
        answer = await hub.ask("GET", f"/v1/recovery/{mine}", headers=headers)
        assert error_of(answer) == (401, "proof", None)


async def test_rosters_in_memory_are_bounded_and_follow_what_is_stored(tmp_path: Path) -> None:
    store, workers = open_store(tmp_path), Workers()
    told: list[tuple[str, int]] = []
    rosters = Rosters(
        store.rosters, workers, lambda pool, new: told.append((pool, new.length if new else 0)), 1
    )
    teams = [Team(seed) for seed in range(3)]
    for team in teams:
        mark = RosterMark(1, team.roster.head)
        assert store.rosters.found(team.pool, team.entries[0], mark, "00", None, START_MS)
    for team in (*teams, *teams):
        found_roster, _ = await asyncio.gather(rosters.get(team.pool), rosters.get(team.pool))
        assert found_roster is not None
        assert found_roster.tip == team.roster.tip
    assert len(rosters) == 1
    assert len(told) == 6
    last = teams[-1]
    for change in (partial(last.admit, TWO), partial(last.admit, THREE), last.rotate):
        entry = change()
        mark = RosterMark(len(last.entries), last.roster.head)
        store.rosters.append(last.pool, entry, mark, last.roster.epoch, START_MS)
    got = await rosters.get(last.pool)
    assert got is not None
    assert got.tip == last.roster.tip
    assert told[6:] == [(last.pool, 4)]
    assert store.pools.remove(last.pool)
    assert await rosters.get(last.pool) is None
    assert told[7:] == [(last.pool, 0)]
    workers.close()
    store.close()
