"""A daemon that is killed at any moment keeps what it acknowledged; `bench crash` is the long form."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.acknowledged import NEW_SHARE, compare, edit
from bench.killing import ROOMY_BYTES, TIGHT_BYTES, TIGHT_EVENTS, run
from localmem_node.store.opening import open_event_store
from localmem_protocol.events import Event, parse_draft, stamp
from support.seeded import SeededRandom
from support.store_keys import FixedKeyStore

SEED = 20_261_123
SIZE = 1024 * 1024


def test_thirteen_kills_lose_nothing_of_a_store_with_room() -> None:
    result = run(13, size=ROOMY_BYTES, seed=SEED)
    assert result.sound, result
    assert result.kills >= 13
    assert result.acknowledged > 0 == result.evicted


@pytest.mark.parametrize("eviction", NEW_SHARE)
def test_six_kills_lose_nothing_of_a_ring_that_wraps(eviction: str) -> None:
    result = run(6, size=TIGHT_BYTES, seed=SEED, before=TIGHT_EVENTS, eviction=eviction)
    assert result.sound, result
    assert result.kills >= 6
    assert result.acknowledged > TIGHT_EVENTS
    assert 0 < result.evicted < result.acknowledged


def recorded(count: int) -> dict[int, Event]:
    """Events as one client was told of them."""
    drafts = {number: parse_draft(edit(SEED, 0, number)) for number in range(1, count + 1)}
    return {
        number: stamp(draft, device="00" * 8, clock=number << 16, sequence=number)
        for number, draft in drafts.items()
    }


def kept(path: Path, events: list[Event]) -> None:
    with open_event_store(path, FixedKeyStore(), SeededRandom(0), size=SIZE) as store:
        store.append(events)


def test_an_acknowledged_event_that_is_missing_counts_as_lost(tmp_path: Path) -> None:
    told = recorded(30)
    kept(tmp_path / "whole", list(told.values()))
    assert compare(tmp_path / "whole", FixedKeyStore(), SIZE, SEED, told).sound
    for missing in (1, 15, 30):
        path = tmp_path / f"without {missing}"
        kept(path, [event for number, event in told.items() if number != missing])
        assert compare(path, FixedKeyStore(), SIZE, SEED, told).lost_acknowledged == 1


def test_events_that_a_full_ring_should_still_hold_count_as_lost(tmp_path: Path) -> None:
    told = recorded(4000)
    newest = dict(list(told.items())[-1000:])
    kept(tmp_path / "full", list(told.values()))
    whole = compare(tmp_path / "full", FixedKeyStore(), SIZE, SEED, told)
    assert whole.sound
    assert whole.evicted > 1000
    kept(tmp_path / "half empty", list(newest.values())[600:])
    assert compare(tmp_path / "half empty", FixedKeyStore(), SIZE, SEED, told).lost_acknowledged


def test_by_relevance_an_old_event_may_stay_longer_than_newer_ones_but_not_in_place_of_new_ones(
    tmp_path: Path,
) -> None:
    told = recorded(1000)
    for name, gap, lost in (("old", range(2, 100), 0), ("new", range(900, 950), 50)):
        kept(tmp_path / name, [event for number, event in told.items() if number not in gap])
        found = compare(tmp_path / name, FixedKeyStore(), SIZE, SEED, told, "relevance")
        assert found.lost_acknowledged == lost
        assert found.evicted == (0 if lost else len(gap))
        strict = compare(tmp_path / name, FixedKeyStore(), SIZE, SEED, told)
        assert strict.lost_acknowledged == len(gap)


def test_an_event_that_nobody_sent_counts_as_altered(tmp_path: Path) -> None:
    told = recorded(3)
    for number, changed in enumerate(("someone else's", edit(SEED, 0, 9)["snippet"] + "x")):
        draft = parse_draft(edit(SEED, 0, 9) | {"snippet": changed})
        stranger = stamp(draft, device="00" * 8, clock=9 << 16, sequence=4)
        kept(tmp_path / f"{number}", [*told.values(), stranger])
        assert compare(tmp_path / f"{number}", FixedKeyStore(), SIZE, SEED, told).altered == 1


def test_a_store_that_does_not_open_is_counted_and_its_error_kept(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"x" * SIZE)
    result = compare(tmp_path / "store", FixedKeyStore(), SIZE, SEED, recorded(3))
    assert (result.corrupt_opens, len(result.problems), result.sound) == (1, 1, False)
