"""Pinning, forgetting, resizing and new keys, on an engine that goes on being used."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from localmem_node.engine import Engine
from localmem_node.errors import ConfigError, NodeError, QueryError, StoreError, WrongKey
from localmem_node.selection import Selection
from localmem_node.store import rewrite as rewriting
from localmem_node.store.opening import open_event_store, recover_event_store
from localmem_node.system import SystemRandom
from localmem_protocol.errors import EventError
from localmem_protocol.events import Event
from support.events import draft, event
from support.hashing_encoder import HashingEncoder
from support.node import MIB, NOW_MS, StandingClock
from support.store_keys import FixedKeyStore

OTHER = "ffeeddccbbaa9988"


def open_node(path: Path, *, size: int = 2 * MIB, word: str = "right") -> Engine:
    keystore = FixedKeyStore(word)
    store = open_event_store(path, keystore, SystemRandom(), size=size)
    return Engine(
        store, HashingEncoder(), StandingClock(), keystore=keystore, random=SystemRandom()
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.localmem"


@pytest.fixture
def node(path: Path) -> Iterator[Engine]:
    engine = open_node(path)
    yield engine
    engine.close()


def record(engine: Engine, count: int, **changes: object) -> list[Event]:
    drafts = [
        draft(snippet=f"number{n} of many words", timestamp=NOW_MS + n, **changes)
        for n in range(count)
    ]
    return [
        one for start in range(0, count, 50) for one in engine.record(drafts[start : start + 50])
    ]


def newest(engine: Engine) -> list[Event]:
    return [found.event for found in engine.recent(1000)]


def pin_all(engine: Engine, events: list[Event]) -> None:
    for one in events:
        engine.maintenance.pin(one.id, pinned=True)


def found(engine: Engine, query: str, k: int = 3) -> list[str]:
    return [one.event.snippet for one in engine.query_recent(k, query)]


def test_a_pinned_event_is_found_after_the_ring_has_wrapped_many_times(path: Path) -> None:
    engine = open_node(path, size=24 * 1024)
    kept = engine.record([draft(snippet="the keystone of it all")])[0]
    assert engine.maintenance.pin(kept.id, pinned=True).pinned
    record(engine, 1000)
    assert 30 < len(engine) < 300
    assert found(engine, "keystone", 1) == ["the keystone of it all"]
    engine.close()
    engine = open_node(path)
    assert found(engine, "keystone", 1) == ["the keystone of it all"]
    assert not engine.maintenance.pin(kept.id, pinned=False).pinned
    record(engine, 1000)
    assert kept.id not in [one.id for one in newest(engine)]
    engine.close()


def test_a_pinned_event_keeps_its_vector_in_every_round(path: Path) -> None:
    engine = open_node(path, size=MIB)
    kept = engine.record([draft(snippet="the keystone of it all", pinned=True)])[0]
    engine.drain()
    for _ in range(18):
        record(engine, 400)
        engine.drain()
    assert engine.status()["store"]["copied_bytes"] > 0
    engine.close()
    engine = open_node(path)
    assert engine.status()["encoder"]["waiting"] == 0
    [best] = engine.query_recent(1, "the keystone of it all")
    assert best.event == kept
    engine.close()


def test_pinning_twice_or_what_is_not_there(node: Engine) -> None:
    [one] = record(node, 1)
    assert node.maintenance.pin(one.id, pinned=False) == one
    assert node.maintenance.pin(one.id, pinned=True) == msgspec.structs.replace(one, pinned=True)
    assert node.maintenance.pin(one.id, pinned=True).pinned
    assert len(node) == 1
    with pytest.raises(QueryError, match="not an event that is here"):
        node.maintenance.pin(event(5).id, pinned=True)


def test_more_than_the_ring_can_pin_is_refused_and_nothing_is_lost(path: Path) -> None:
    engine = open_node(path, size=24 * 1024)
    events = record(engine, 120)
    with pytest.raises(EventError, match="may be pinned in this store; unpin some") as refused:
        pin_all(engine, events)
    assert refused.value.field == "pinned"
    pinned = sum(one.pinned for one in newest(engine))
    assert 20 < pinned < 120
    with pytest.raises(EventError, match="may be pinned"):
        engine.record([draft(snippet="one more to keep", pinned=True)])
    assert {one.id for one in newest(engine)} == {one.id for one in events}
    record(engine, 500)
    assert {one.id for one in newest(engine)} >= {one.id for one in events[:pinned]}
    engine.close()


def test_a_pin_of_another_device_is_dropped_where_no_more_can_be_pinned(path: Path) -> None:
    engine = open_node(path, size=24 * 1024)
    offered = [event(n, OTHER, snippet=f"{n} " * 60, pinned=True) for n in range(200)]
    new = [one for start in range(0, 200, 10) for one in engine.insert(offered[start : start + 10])]
    assert len(new) == 200
    here = newest(engine)
    assert 10 < sum(one.pinned for one in here) < len(here)
    engine.close()


def test_what_is_forgotten_is_found_by_nothing_and_never_comes_back(path: Path) -> None:
    engine = open_node(path)
    secret = engine.insert([event(1, OTHER, snippet="the hidden treasure map")])[0]
    others = record(engine, 30)
    engine.drain()
    assert engine.maintenance.forget([secret.id]) == 1
    for _ in range(2):
        assert "the hidden treasure map" not in found(engine, "hidden treasure map", 50)
        assert [one.id for one in newest(engine)][::-1] == [one.id for one in others]
        assert engine.insert([secret]) == []
        assert len(engine) == 30
        engine.close()
        engine = open_node(path)
        assert engine.status()["encoder"]["waiting"] == 0
    engine.close()


def test_an_event_that_is_not_here_yet_can_be_forgotten(node: Engine) -> None:
    coming = event(1, OTHER)
    assert node.maintenance.forget([coming.id]) == 0
    assert node.insert([coming]) == []


def test_a_selection_says_which_events_are_meant(node: Engine) -> None:
    a = node.record([draft(snippet="one", filePath="src/a.py", project="p")])[0]
    b = node.record([draft(snippet="two", filePath="/home/x/src/b.py", timestamp=NOW_MS - 5)])[0]
    c = node.record([draft(snippet="three", kind="prompt", filePath=None, selectionRange=None)])[0]
    meant = node.maintenance.select
    assert meant(Selection(project="p")) == [a]
    assert meant(Selection(file="a.py")) == [a]
    assert meant(Selection(file="src")) == [a]
    assert meant(Selection(file="/home/x")) == [b]
    assert meant(Selection(file="x/src/b.py")) == [b]
    assert meant(Selection(file="/src")) == []
    assert meant(Selection(before=NOW_MS)) == [b]
    assert meant(Selection(kind=("prompt",))) == [c]
    assert meant(Selection(ids=(a.id, c.id, event(9).id))) == [a, c]
    assert meant(Selection(ids=(a.id,), project="q")) == []
    with pytest.raises(QueryError, match="selection: is empty"):
        meant(Selection())


@pytest.mark.parametrize("size", [8 * MIB, 40 * 1024])
def test_another_size_keeps_what_fits_and_everything_goes_on(path: Path, size: int) -> None:
    engine = open_node(path)
    events = record(engine, 300)
    keep = engine.maintenance.pin(events[0].id, pinned=True)
    engine.drain()
    engine.maintenance.resize(size)
    here = {one.id for one in newest(engine)}
    assert keep.id in here
    assert here - {keep.id} == {one.id for one in events[-(len(here) - 1) :]}
    assert len(here) == (300 if size > MIB else len(here)) > 50
    more = record(engine, 5)
    assert found(engine, "number299", 1) == ["number299 of many words"]
    assert path.stat().st_size == size
    engine.close()
    engine = open_node(path)
    assert {one.id for one in newest(engine)} >= {one.id for one in more}
    assert engine.own_events(0, 1000)[-1] == more[-1]
    engine.close()


def test_a_size_too_small_for_what_is_pinned_is_refused(node: Engine) -> None:
    for one in record(node, 60):
        node.maintenance.pin(one.id, pinned=True)
    with pytest.raises(ConfigError, match=r"are pinned, the longest of \d+; unpin some"):
        node.maintenance.resize(10 * 1024)
    assert len(node) == 60


def test_new_keys_seal_everything_while_events_are_recorded_and_found(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewriting, "CHUNK_EVENTS", 4)
    engine = open_node(path)
    record(engine, 200)
    engine.drain()
    recorded: list[Event] = []
    failures: list[Exception] = []
    stop = threading.Event()

    def use() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                recorded.extend(engine.record([draft(snippet=f"beside {number}")]))
                assert found(engine, "number7", 1) == ["number7 of many words"]
                assert len(engine.own_events(0, 100)) == 100
            except Exception as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        engine.maintenance.rotate()
    engine.maintenance.rotate(FixedKeyStore("another"))
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(recorded) > 3
    everything = [one.id for one in newest(engine)]
    assert {one.id for one in recorded} <= set(everything)
    assert len(everything) == 200 + len(recorded)
    engine.drain()
    engine.close()
    with pytest.raises(WrongKey):
        open_node(path)
    engine = open_node(path, word="another")
    assert [one.id for one in newest(engine)] == everything
    assert engine.status()["encoder"]["waiting"] == 0
    engine.close()


def test_a_second_work_on_the_whole_store_is_refused_while_one_runs(
    node: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(node, 20)
    entered, go_on = threading.Event(), threading.Event()
    real = rewriting.Rewrite.copy

    def slow(rewrite: rewriting.Rewrite) -> bool:
        entered.set()
        assert go_on.wait(60)
        return real(rewrite)

    monkeypatch.setattr(rewriting.Rewrite, "copy", slow)
    worker = threading.Thread(target=node.maintenance.rotate)
    worker.start()
    assert entered.wait(60)
    assert node.status()["maintenance"]["work"] == "rotate"
    with pytest.raises(StoreError, match="being rewritten"):
        node.maintenance.resize(4 * MIB)
    hidden = newest(node)[0]
    forgetting = threading.Thread(target=node.maintenance.forget, args=([hidden.id],))
    forgetting.start()
    while hidden.id in [one.id for one in newest(node)]:
        time.sleep(0.01)
    go_on.set()
    worker.join()
    forgetting.join()
    assert node.insert([hidden]) == []
    assert not node.maintenance.finish_erasing(), "the second rewriting has erased it"
    assert node.status()["maintenance"] is None
    node.maintenance.resize(4 * MIB)


def test_what_a_crash_left_to_erase_is_erased_at_the_next_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_node(path)
    events = record(engine, 20)

    def refuse(*_: object, **__: object) -> None:
        raise StoreError("no room for a second file")

    with monkeypatch.context() as patch:
        patch.setattr("localmem_node.maintenance.Rewrite", refuse)
        with pytest.raises(StoreError, match="no room"):
            engine.maintenance.forget([events[3].id])
        assert events[3].id not in [one.id for one in newest(engine)]
    engine.close()
    engine = open_node(path)
    assert len(engine) == 19
    assert engine.maintenance.finish_erasing()
    assert not engine.maintenance.finish_erasing()
    assert len(engine) == 19
    assert engine.insert([events[3]]) == []
    engine.close()


def test_an_engine_without_its_key_store_says_why_it_cannot_rewrite(path: Path) -> None:
    store = open_event_store(path, FixedKeyStore(), SystemRandom(), size=MIB)
    engine = Engine(store, HashingEncoder(), StandingClock())
    with pytest.raises(NodeError, match="without its key store"):
        engine.maintenance.rotate()
    engine.close()


def test_a_recovery_code_opens_the_store_until_there_is_a_newer_one(path: Path) -> None:
    engine = open_node(path)
    events = record(engine, 10)
    old = engine.maintenance.export_recovery()
    code = engine.maintenance.export_recovery()
    engine.maintenance.rotate()
    engine.maintenance.resize(3 * MIB)
    engine.close()
    lost = FixedKeyStore("the new passphrase")
    with pytest.raises(WrongKey, match="recovery code does not open"):
        recover_event_store(path, old, lost, SystemRandom())
    slip = ("B" if code[0] == "A" else "A") + code[1:]
    with pytest.raises(ConfigError, match="recovery code: is not one"):
        recover_event_store(path, slip, lost, SystemRandom())
    recover_event_store(path, f" {code.lower()} \n", lost, SystemRandom()).close()
    engine = open_node(path, word="the new passphrase")
    assert [one.id for one in newest(engine)][::-1] == [one.id for one in events]
    engine.close()


def test_events_that_are_found_damaged_are_not_looked_for_any_more(path: Path) -> None:
    engine = open_node(path)
    events = record(engine, 200)
    engine.close()
    image = bytearray(path.read_bytes())
    image[16384 + 4096 : 16384 + 2 * 4096] = bytes(4096)  # the second block of the ring
    path.write_bytes(image)
    engine = open_node(path)
    assert len(engine) == 200, "a checkpoint was there: nothing was read yet"
    said = engine.maintenance.verify()
    assert said["damaged_blocks"] == 1
    left = [one.id for one in newest(engine)]
    assert len(engine) == len(left)
    # Vectors may lie among the events, and count as records.
    assert 5 < 200 - len(left) <= sum(place["records"] for place in said["damaged"])
    assert set(left) < {one.id for one in events}
    times = {one.id: one.timestamp for one in events}
    lost = sorted(times[one.id] for one in events if one.id not in left)
    assert said["damaged"][0]["after"] <= lost[0]
    assert said["damaged"][-1]["before"] > lost[-1]
    assert engine.maintenance.verify()["damaged_blocks"] == 1
    engine.close()


@pytest.mark.parametrize("size", [10 * 1024, MIB])
def test_everything_in_a_full_store_can_be_forgotten_at_once(path: Path, size: int) -> None:
    engine = open_node(path, size=size)
    while not engine.evicted:
        record(engine, 50)
    events = newest(engine)
    everything = [found.event.id for found in engine.recent(1000)]
    while len(engine):
        assert engine.maintenance.forget(everything) == len(everything)
        everything = [found.event.id for found in engine.recent(1000)]
    engine.close()
    engine = open_node(path)
    assert len(engine) == 0
    assert not engine.maintenance.finish_erasing()
    assert len(engine.insert([event(1, OTHER)])) == 1
    if size == MIB:  # the smallest stores do not remember so many
        assert engine.insert(events[:50]) == []
    engine.close()


def test_vectors_of_pinned_events_cannot_drive_each_other_around_the_ring(path: Path) -> None:
    engine = open_node(path, size=MIB)
    pinned = 0
    try:
        while True:
            [one] = engine.record([draft(snippet=f"p{pinned}", timestamp=NOW_MS + pinned)])
            engine.maintenance.pin(one.id, pinned=True)
            pinned += 1
            if pinned % 50 == 0:
                engine.drain()
    except EventError as error:
        assert "may be pinned" in str(error)  # noqa: PT017 - the loop ends no other way
    engine.drain()
    assert pinned > 300
    before = engine.status()["store"]["copied_bytes"]
    record(engine, 3000)
    engine.drain()
    copied = engine.status()["store"]["copied_bytes"] - before
    assert copied < 20 * MIB
    engine.close()
    engine = open_node(path)
    assert engine.status()["encoder"]["waiting"] == 0
    assert sum(one.pinned for one in engine.maintenance.select(Selection(kind=("edit",)))) == pinned
    engine.close()


def test_a_pin_too_long_for_the_new_size_is_refused(path: Path) -> None:
    engine = open_node(path, size=8 * MIB)
    noise = "".join(f"{n * 2654435761 % 2**32:08x}" for n in range(1500))
    [long] = engine.record([draft(snippet=noise)])
    engine.maintenance.pin(long.id, pinned=True)
    with pytest.raises(ConfigError, match="the longest of"):
        engine.maintenance.resize(MIB)
    assert newest(engine)[0].pinned
    engine.close()


def test_a_selection_finds_what_is_copied_forward_meanwhile(
    node: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = record(node, 50)
    real = node._store.named

    def meanwhile() -> tuple[list[int], list[str]]:
        found = real()
        for one in events[:20]:
            if not node._store.get(node._live.ordinal_of(one.id) or 0).pinned:  # type: ignore[union-attr]
                node.maintenance.pin(one.id, pinned=True)
        return found

    monkeypatch.setattr(node._store, "named", meanwhile)
    assert len(node.maintenance.select(Selection(kind=("edit",)))) == 50


def test_after_a_restart_the_oldest_is_still_the_next_to_leave(path: Path) -> None:
    engine = open_node(path, size=24 * 1024)
    while engine.next_to_leave() is None:
        record(engine, 20)
    record(engine, 200)
    leaving = engine.next_to_leave()
    engine.close()
    engine = open_node(path)
    assert engine.next_to_leave() == leaving
    engine.close()


def test_an_engine_whose_disk_failed_can_be_closed_and_opened_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_node(path)
    events = record(engine, 5)

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("localmem_node.store.disk.sync_data", refuse)
        with pytest.raises(StoreError, match="a write failed"):
            record(engine, 1)
        engine.close()
    engine = open_node(path)
    assert {one.id for one in newest(engine)} >= {one.id for one in events}
    engine.close()
