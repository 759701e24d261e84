"""What other devices forgot, on an engine: it leaves, it never comes, and many cost one rewriting."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from localmem_node.engine import Engine
from localmem_node.store.opening import open_event_store
from localmem_node.system import SystemRandom
from localmem_protocol.envelope import PoolKey
from localmem_protocol.tombstones import TombstoneKey
from support.events import draft, event
from support.hashing_encoder import HashingEncoder
from support.node import MIB, NOW_MS, StandingClock
from support.store_keys import FixedKeyStore

OTHER = "ffeeddccbbaa9988"
KEY = TombstoneKey(PoolKey("team", 1, bytes(32)))


def open_node(path: Path) -> Engine:
    keystore = FixedKeyStore("right")
    store = open_event_store(path, keystore, SystemRandom(), size=2 * MIB)
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


def texts(engine: Engine) -> list[str]:
    return sorted(found.event.snippet for found in engine.recent(1000))


def test_what_is_here_leaves_and_what_is_not_never_comes(path: Path) -> None:
    engine = open_node(path)
    engine.honour(KEY)
    here, coming = event(1, OTHER, snippet="here"), event(2, OTHER, snippet="coming")
    engine.insert([here, event(3, OTHER, snippet="stays")])
    assert engine.forget([KEY.of(here.id), KEY.of(coming.id)], KEY) == [here]
    for _ in range(3):
        assert texts(engine) == ["stays"]
        assert engine.insert([coming, here]) == []
        assert engine.forgets(coming.id)
        assert engine.forgets(here.id)
        assert engine.finish_erasing() in (True, False)
        engine.close()
        engine = open_node(path)
        engine.honour(KEY)
    engine.close()


def test_a_tombstone_means_nothing_under_another_key(node: Engine) -> None:
    node.honour(KEY)
    other = TombstoneKey(PoolKey("other", 1, bytes(32)))
    one = event(1, OTHER)
    node.forget([other.of(one.id)], KEY)
    assert not node.forgets(one.id)
    assert node.insert([one]) == [one]
    node.honour(other)
    assert node.forgets(one.id), "known by then"


def test_five_hundred_tombstones_cost_one_rewriting(path: Path) -> None:
    engine = open_node(path)
    offered = [event(number, OTHER, snippet=f"text {number}") for number in range(1, 601)]
    for start in range(0, 600, 100):
        engine.insert(offered[start : start + 100])
    inode = path.stat().st_ino
    for one in offered[:500]:
        assert engine.forget([KEY.of(one.id)], KEY) == [one]
    assert path.stat().st_ino == inode
    assert engine.erasing_due
    assert len(engine) == 100
    assert engine.finish_erasing()
    assert path.stat().st_ino != inode
    assert not engine.erasing_due
    assert not engine.finish_erasing()
    assert not engine.status()["store"]["erasing"]
    assert all(engine.forgets(one.id) for one in offered[:500])
    engine.close()


def test_what_was_not_here_needs_no_rewriting(node: Engine) -> None:
    node.forget([KEY.of(event(9, OTHER).id)], KEY)
    assert not node.erasing_due


def test_who_listens_hears_before_anything_is_forgotten_and_may_refuse(node: Engine) -> None:
    [one] = node.record([draft(snippet="one", timestamp=NOW_MS)])
    heard: list[list[str]] = []

    def listen(ids: Sequence[str]) -> None:
        assert texts(node) == ["one"]
        heard.append(list(ids))

    def refuse(ids: Sequence[str]) -> None:
        raise OSError("no")

    stop = node.maintenance.before_forgetting(refuse)
    with pytest.raises(OSError, match="no"):
        node.maintenance.forget([one.id])
    assert texts(node) == ["one"]
    stop()
    node.maintenance.before_forgetting(listen)
    assert node.maintenance.forget([one.id, one.id]) == 1
    assert heard == [[one.id]]
    node.forget([KEY.of(event(5).id)], KEY)
    assert len(heard) == 1, "what others forgot is no news to them"


def test_an_event_that_is_recorded_while_it_is_forgotten_elsewhere_does_not_stay(
    node: Engine,
) -> None:
    """Inserting and forgetting race; whoever is first, it is gone."""
    node.honour(KEY)
    offered = [event(number, OTHER, snippet=f"text {number}") for number in range(1, 200)]
    inserting = threading.Thread(target=lambda: [node.insert([one]) for one in offered])
    inserting.start()
    for one in offered:
        node.forget([KEY.of(one.id)], KEY)
    inserting.join()
    assert texts(node) == []
