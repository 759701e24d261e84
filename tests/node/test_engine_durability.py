"""The engine through crashes and failing disks, and when many write at once."""

from __future__ import annotations

import contextlib
from pathlib import Path
from threading import Event as Flag
from threading import Thread

import pytest

from localmem_node import background
from localmem_node.engine import Engine
from localmem_node.errors import NodeError, StoreFailed
from localmem_node.results import Found
from localmem_node.selection import Selection
from localmem_protocol.events import Event
from support.events import draft, event
from support.fault_disk import Fault, FaultDisk, PowerCutError
from support.hashing_encoder import HashingEncoder
from support.node import (
    MIB,
    StandingClock,
    open_node,
    open_store,
)
from support.seeded import SeededRandom

OTHER = "ffeeddccbbaa9988"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.localmem"


def snippets(engine: Engine, query: str, k: int = 3) -> list[str]:
    return [found.event.snippet for found in engine.query_recent(k, query)]


def newest(engine: Engine, k: int = 1000) -> list[Event]:
    return [found.event for found in engine.recent(k)]


def test_after_a_crash_the_checkpoint_and_what_came_after_it_find_what_a_rebuild_finds(
    path: Path,
) -> None:
    disk = FaultDisk(SeededRandom(1))
    engine = open_node(path, size=MIB, disk=disk)
    for start in range(0, 3000, 100):
        batch = range(start, start + 100)
        engine.record([draft(snippet=f"name_{n} = {n % 17} * width") for n in batch])
    engine.drain()
    engine.close()
    disk = FaultDisk(SeededRandom(2), bytes(disk.medium))
    engine = open_node(path, disk=disk)
    engine.record(  # evicts as well
        [
            draft(snippet=f"late_{n} = width " * 20, session=f"s{n % 3}", filePath=f"d/{n % 7}.py")
            for n in range(100)
        ]
    )
    engine.drain()
    image = bytes(disk.medium)
    kept = newest(engine)
    engine.close()
    answers: list[list[list[Found]]] = []
    for spoil in (False, True):
        store = open_store(path, disk=FaultDisk(SeededRandom(3), image))
        assert store.read_checkpoint() is not None
        if spoil:
            store.write_checkpoint(b"not a checkpoint")
        reopened = Engine(store, HashingEncoder(), StandingClock())
        reopened.drain()
        assert newest(reopened) == kept
        queries = ("name_2990 width", "late_7", "width 16")
        answers.append([reopened.query_recent(10, query) for query in queries])
        narrowed = Selection(session="s1", file="d/2.py")
        answers[-1] += [
            reopened.recent(100, selection=narrowed),
            reopened.query_recent(100, "width", selection=narrowed),
        ]
        assert [found.event for found in answers[-1][-2]] == [
            one for one in kept if narrowed.takes(one)
        ]
        reopened.close()
    assert answers[0] == answers[1]
    assert answers[0][1][0].event.snippet.startswith("late_7 ")
    assert answers[0][-2]
    assert answers[0][-1]


@pytest.mark.parametrize("seed", range(30))
def test_what_was_acknowledged_survives_a_power_cut_anywhere(path: Path, seed: int) -> None:
    random = SeededRandom(seed)
    disk = FaultDisk(random)
    acknowledged: list[Event] = []
    engine = open_node(path, size=256 * 1024, disk=disk, seed=seed)
    disk.plan[disk.operations + 1 + random.below(60)] = random.choice(["cut", "cut midway"])
    with contextlib.suppress(PowerCutError, NodeError):
        for number in range(40):
            acknowledged += engine.record([draft(snippet=f"{seed} {number} {n}") for n in range(2)])
            acknowledged += engine.insert([event(number + 1, OTHER)])
    assert disk.operations >= min(disk.plan)
    after = open_node(path, disk=FaultDisk(random, disk.after_power_cut()), seed=seed + 1000)
    kept = newest(after)
    assert {one.id for one in acknowledged} <= {one.id for one in kept}
    fresh = after.record([draft(snippet="after")])[0]
    assert all(fresh.sequence > one.sequence for one in kept if one.device == after.device)
    after.close()


@pytest.mark.parametrize("fault", ["EIO", "ENOSPC"])
def test_after_a_failed_sync_nothing_is_acknowledged_or_shown(path: Path, fault: Fault) -> None:
    disk = FaultDisk(SeededRandom(5))
    engine = open_node(path, size=256 * 1024, disk=disk)
    kept = engine.record([draft(snippet="anchor")])
    disk.plan = {disk.operations + n: fault for n in range(1, 9)}
    for _ in range(2):
        with pytest.raises(StoreFailed):
            engine.record([draft(snippet="lost")])
    assert newest(engine) == kept
    assert snippets(engine, "anchor") == ["anchor"]
    assert "lost" not in snippets(engine, "lost")
    engine.close()
    again = open_node(path, disk=FaultDisk(SeededRandom(6), disk.after_power_cut()))
    assert kept[0] in newest(again)
    again.close()


def test_waiting_writers_share_one_sync(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(path)
    engine = Engine(store, HashingEncoder(), StandingClock())
    first_under_way, others_wait = Flag(), Flag()
    commits: list[int] = []
    commit = store.commit

    def slow_commit() -> None:
        commits.append(len(commits))
        if len(commits) == 1:
            first_under_way.set()
            assert others_wait.wait(60)
        commit()

    monkeypatch.setattr(store, "commit", slow_commit)
    monkeypatch.setattr(background, "COURTESY_S", 0)
    engine._background._keep = lambda *_: None
    threads = [Thread(target=engine.record, args=([draft(snippet=f"t {n}")],)) for n in range(8)]
    threads[0].start()
    assert first_under_way.wait(60)
    for thread in threads[1:]:
        thread.start()
    commit_queue = engine._pipeline._commits
    while len(commit_queue._queue) < 7:  # all seven have queued before the first sync ends
        pass
    others_wait.set()
    for thread in threads:
        thread.join()
    assert len(commits) == 2
    assert sorted(one.snippet for one in newest(engine)) == [f"t {n}" for n in range(8)]
    engine.close()
