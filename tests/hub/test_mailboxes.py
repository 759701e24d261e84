"""Mailboxes over HTTP: two parties, one guess, bounded, and gone in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from localmem_hub import mailbox_store
from localmem_hub.limits import MAILBOX_MESSAGE_BYTES, MAILBOX_MS
from localmem_hub.mailbox_numbers import free_number
from localmem_hub.mailboxes import JOINING, OPENING
from localmem_protocol.simulation import SeededRandom
from support.served_hub import ServedHub, error_of, serving

ABSENT = (404, "mailbox", None)


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[ServedHub]:
    async with serving(tmp_path) as served:
        yield served


async def open_box(hub: ServedHub) -> tuple[str, str]:
    """The path of a new mailbox, and the opener's secret."""
    answer = await hub.ask("POST", "/v1/mailboxes")
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    assert made["expires_in_s"] == 600
    return f"/v1/mailboxes/{made['number']}", made["secret"]


async def open_and_join(hub: ServedHub) -> tuple[str, str, str]:
    box, opener = await open_box(hub)
    answer = await hub.ask("POST", f"{box}/join")
    assert answer.status_code == 201
    return box, opener, answer.json()["secret"]


async def wait_for(hub: ServedHub, slot: str, secret: str) -> asyncio.Task[httpx2.Response]:
    """A request that waits for a message: the hub has looked for it once."""
    loop, looked, look = asyncio.get_running_loop(), asyncio.Event(), hub.store.mailboxes.get

    def get(number: int, slot: int) -> bytes | None:
        found = look(number, slot)
        loop.call_soon_threadsafe(looked.set)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub.store.mailboxes, "get", get)
        waiting = asyncio.create_task(hub.ask("GET", f"{slot}?wait=25", token=secret))
        await looked.wait()
    return waiting


async def test_two_parties_exchange_messages_and_end_it(hub: ServedHub) -> None:
    box, opener, joiner = await open_and_join(hub)
    said = {0: (opener, b"\x00first"), 1: (joiner, b"second"), 2: (opener, b""), 7: (joiner, b"l")}
    for slot, (secret, data) in said.items():
        assert (await hub.ask("GET", f"{box}/{slot}", token=opener)).status_code == 204
        answer = await hub.ask("PUT", f"{box}/{slot}", token=secret, content=data)
        assert answer.status_code == 204
        for reader in (opener, joiner):
            answer = await hub.ask("GET", f"{box}/{slot}", token=reader)
            assert (answer.status_code, answer.content) == (200, data)
    assert (await hub.ask("DELETE", box, token=joiner)).status_code == 204
    assert error_of(await hub.ask("GET", f"{box}/0", token=opener)) == ABSENT


async def test_whoever_waits_gets_a_message_when_it_comes(hub: ServedHub) -> None:
    box, opener, joiner = await open_and_join(hub)
    waiting = await wait_for(hub, f"{box}/0", joiner)
    await hub.ask("PUT", f"{box}/0", token=opener, content=b"here")
    answer = await waiting
    assert (answer.status_code, answer.content) == (200, b"here")


async def test_what_another_process_brought_is_found_too(hub: ServedHub) -> None:
    box, _, joiner = await open_and_join(hub)
    waiting = await wait_for(hub, f"{box}/0", joiner)
    assert hub.store.mailboxes.put(int(box.rpartition("/")[2]), 0, b"from elsewhere")
    assert (await waiting).content == b"from elsewhere"


async def test_one_request_waits_per_party_and_none_when_it_ends(hub: ServedHub) -> None:
    box, opener, joiner = await open_and_join(hub)
    first = await wait_for(hub, f"{box}/0", joiner)
    second = await wait_for(hub, f"{box}/2", joiner)
    assert (await first).status_code == 204
    await hub.ask("DELETE", box, token=opener)
    assert (await second).status_code == 204
    assert hub.hub.mailboxes._waiting == {}


async def test_a_stopping_hub_lets_nobody_wait(hub: ServedHub) -> None:
    box, _, joiner = await open_and_join(hub)
    waiting = await wait_for(hub, f"{box}/0", joiner)
    hub.hub.mailboxes.stop()
    assert (await waiting).status_code == 204


async def test_there_is_no_third_party_and_no_second_guess(hub: ServedHub) -> None:
    box, opener, joiner = await open_and_join(hub)
    assert error_of(await hub.ask("POST", f"{box}/join")) == ABSENT
    wrong = joiner[:-1] + ("0" if joiner[-1] != "0" else "1")
    for secret in (None, "-", wrong, "é", "' OR 1=1 --", joiner.upper()):
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}".encode()}
        for method, path in (("GET", f"{box}/0"), ("PUT", f"{box}/1"), ("DELETE", box)):
            assert error_of(await hub.ask(method, path, headers=headers)) == ABSENT
    assert (await hub.ask("GET", f"{box}/0", token=opener)).status_code == 204


async def test_without_a_joiner_nobody_passes_for_one(hub: ServedHub) -> None:
    box, _ = await open_box(hub)
    assert error_of(await hub.ask("GET", f"{box}/0")) == ABSENT


async def test_a_slot_is_written_once_and_by_its_party(hub: ServedHub) -> None:
    box, opener, joiner = await open_and_join(hub)
    for secret, slot in ((joiner, 0), (opener, 1)):
        answer = await hub.ask("PUT", f"{box}/{slot}", token=secret, content=b"not mine")
        assert error_of(answer) == (403, "slot", "slot")
    for _ in range(2):  # again, after an answer that was lost
        answer = await hub.ask("PUT", f"{box}/0", token=opener, content=b"once")
        assert answer.status_code == 204
    answer = await hub.ask("PUT", f"{box}/0", token=opener, content=b"twice")
    assert error_of(answer) == (409, "slot", "slot")
    assert (await hub.ask("GET", f"{box}/0", token=joiner)).content == b"once"


@pytest.mark.parametrize("slot", ["8", "-1", "1.5", "0x1", "٣", "9" * 5000, "%00"])
async def test_there_are_eight_slots(hub: ServedHub, slot: str) -> None:
    box, opener = await open_box(hub)
    assert error_of(await hub.ask("PUT", f"{box}/{slot}", token=opener)) == (404, "slot", "slot")


@pytest.mark.parametrize("number", ["0", "-1", "1e1", "9" * 5000, "1'--", "%2e%2e", "2147483648"])
async def test_a_number_that_is_none_is_no_mailbox(hub: ServedHub, number: str) -> None:
    assert error_of(await hub.ask("POST", f"/v1/mailboxes/{number}/join")) == ABSENT
    assert error_of(await hub.ask("GET", f"/v1/mailboxes/{number}/0", token="x")) == ABSENT


async def test_messages_and_bodies_are_bounded(hub: ServedHub) -> None:
    box, opener = await open_box(hub)

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(16):
            yield bytes(64 * 1024)

    most = bytes(MAILBOX_MESSAGE_BYTES)
    for content in (most + b"!", bytes(2**20), parts()):
        answer = await hub.ask("PUT", f"{box}/0", token=opener, content=content)
        assert error_of(answer) == (413, "too_large", None)
    assert (await hub.ask("PUT", f"{box}/0", token=opener, content=most)).status_code == 204
    assert error_of(await hub.ask("POST", "/v1/mailboxes", json={})) == (413, "too_large", None)


@pytest.mark.parametrize("wait", ["26", "-1", "soon", "1.5", "9" * 400, ""])
async def test_waiting_is_bounded(hub: ServedHub, wait: str) -> None:
    box, opener = await open_box(hub)
    answer = await hub.ask("GET", f"{box}/0?wait={wait}", token=opener)
    assert error_of(answer) == (400, "query", "wait")


async def test_a_mailbox_is_over_in_time_and_its_number_free(hub: ServedHub) -> None:
    box, opener, joiner = await open_and_join(hub)
    lonely, _ = await open_box(hub)
    await hub.ask("PUT", f"{box}/0", token=opener, content=b"secret to the last")
    hub.clock.ms += MAILBOX_MS
    for secret in (opener, joiner):
        assert error_of(await hub.ask("GET", f"{box}/0", token=secret)) == ABSENT
    assert error_of(await hub.ask("POST", f"{lonely}/join")) == ABSENT
    await hub.hub.mailboxes.sweep()
    await open_box(hub)
    with hub.store.inner._engine.begin() as connection:
        left = [
            connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
            for table in ("mailboxes", "mailbox_messages")
        ]
    assert left == [1, 0]


async def test_an_address_opens_and_joins_so_many_at_a_time(hub: ServedHub) -> None:
    for _ in range(OPENING.burst):
        await open_box(hub)
    refused = await hub.ask("POST", "/v1/mailboxes")
    assert error_of(refused) == (429, "too_many", None)
    assert refused.headers["retry-after"] == "6"
    hub.clock.ms += 6000
    await open_box(hub)
    for _ in range(JOINING.burst):
        await hub.ask("POST", "/v1/mailboxes/5000/join")
    assert error_of(await hub.ask("POST", "/v1/mailboxes/5000/join")) == (429, "too_many", None)


async def test_there_are_only_so_many_at_a_time(
    hub: ServedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox_store, "MAILBOXES_MAX", 2)
    await open_box(hub)
    box, opener = await open_box(hub)
    refused = await hub.ask("POST", "/v1/mailboxes")
    assert error_of(refused) == (503, "full", None)
    assert refused.headers["retry-after"] == "60"
    await hub.ask("DELETE", box, token=opener)
    await open_box(hub)


def test_numbers_are_short_while_they_can_be_and_never_taken() -> None:
    random, taken = SeededRandom(1), set[int]()
    for count in range(1000):
        number = free_number(taken, random)
        assert 1 <= number <= (99 if count < 50 else 999 if count < 500 else 9999)
        assert number not in taken
        taken.add(number)
