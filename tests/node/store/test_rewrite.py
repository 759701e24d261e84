"""A store in a new file: nothing is lost, nothing old stays, and a crash leaves one or the other."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from localmem_node.errors import ConfigError, PinsFull, StoreError, StoreFailed, WrongKey
from localmem_node.store import rewrite as rewriting
from localmem_node.store.event_store import EventStore
from localmem_node.store.opening import open_event_store
from localmem_node.store.rewrite import Rewrite, rewrite_path
from localmem_node.system import SystemRandom
from localmem_protocol.events import Event
from localmem_protocol.lineage import RUNS_MAX
from support.events import event
from support.seeded import SeededRandom
from support.store_keys import FixedKeyStore

MIB = 1024 * 1024
KEYS = FixedKeyStore()


def open_store(path: Path, *, size: int = MIB, word: str = "right") -> EventStore:
    return open_event_store(path, FixedKeyStore(word), SystemRandom(), size=size)


def fill(store: EventStore, count: int, *, first: int = 1, pinned: tuple[int, ...] = ()) -> None:
    for number in range(first, first + count):
        one = event(number, snippet=f"{number} " * 20, pinned=number in pinned)
        ordinal = store.append([one]).ordinals[0]
        vector = np.random.default_rng(number).standard_normal(16).astype(np.float32)
        store.vectors.append([(ordinal, vector / np.linalg.norm(vector))], encoder="model")
    store.commit()


def events(store: EventStore) -> list[Event]:
    return [one for _, one in store.scan()]


def vectors(store: EventStore) -> dict[str, list[float]]:
    names = {ordinal: one.id for ordinal, one in store.scan()}
    found = store.vectors.by_event(encoder="model")
    return {names[ordinal]: np.round(unit, 4).tolist() for ordinal, unit in found}


def whole(rewrite: Rewrite) -> dict[int, int]:
    while rewrite.copy():
        pass
    ordinals = rewrite.finish()
    rewrite.wipe()
    return ordinals


@pytest.mark.parametrize("size", [MIB, 2 * MIB, 1200 * 1024])
def test_events_vectors_and_marks_are_the_same_in_the_new_file(tmp_path: Path, size: int) -> None:
    path = tmp_path / "ring"
    with open_store(path) as store:
        fill(store, 300, pinned=(7, 70))
        store.file.ring.note(9000, 9000 << 16)
        device, derived = store.device, store.derive_key("sync")
        before, units, places = events(store), vectors(store), dict(store.scan())
        ordinals = whole(Rewrite(store, KEYS, SystemRandom(), size=size))
        assert set(ordinals) == set(places)
        assert {new: places[old] for old, new in ordinals.items()} == dict(store.scan())
        assert min(ordinals.values()) > max(ordinals)
        fill(store, 5, first=301)
    assert path.stat().st_size == size
    assert sorted(os.listdir(tmp_path)) == ["ring", "ring.lock"]
    with open_store(path) as store:
        assert events(store)[:300] == before
        assert len(events(store)) == 305
        assert {name: unit for name, unit in vectors(store).items() if name in units} == units
        assert (store.device, store.derive_key("sync")) == (device, derived)
        assert store.marks == (9000, 9000 << 16)
        assert store.stats().damaged == 0
        assert store.verify() == 0


def test_a_new_file_goes_on_in_the_run_of_the_old_one(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with open_store(tmp_path / "ring") as store:
        fill(store, 5)
        copy.write_bytes((tmp_path / "ring").read_bytes())
        for _ in range(2 * RUNS_MAX):
            whole(Rewrite(store, KEYS, SystemRandom()))
        fill(store, 1, first=6)
        reach = store.reach
    with open_store(tmp_path / "ring") as store:
        assert store.has_reached(reach)
        fill(store, 1, first=7)
        assert store.has_reached(reach)
    with open_store(copy) as store:
        fill(store, 5, first=8)
        for _ in range(2 * RUNS_MAX + 1):
            whole(Rewrite(store, KEYS, SystemRandom()))
        assert store.reach.position > reach.position
        assert not store.has_reached(reach)


def test_the_newest_and_the_pinned_stay_in_a_smaller_file(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    with open_store(path) as store:
        fill(store, 400, pinned=(3, 30))
        ordinals = whole(Rewrite(store, KEYS, SystemRandom(), size=24 * 1024))
        assert sorted(ordinals.values()) == [ordinal for ordinal, _ in store.scan()]
    with open_store(path) as store:
        numbers = [one.sequence for one in events(store)]
        assert {3, 30} <= set(numbers)
        rest = sorted(set(numbers) - {3, 30})
        assert rest == list(range(rest[0], 401))
        assert len(rest) > 50


def test_what_is_recorded_and_pinned_meanwhile_is_in_the_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewriting, "CHUNK_EVENTS", 16)
    path = tmp_path / "ring"
    with open_store(path) as store:
        fill(store, 100)
        rewrite = Rewrite(store, KEYS, SystemRandom())
        number = 100
        rounds = 0
        while rewrite.copy():
            rounds += 1
            number += 1
            fill(store, 1, first=number)
            ordinal, one = next(iter(store.scan()))
            store.replace(ordinal, event(one.sequence, snippet=one.snippet, pinned=True))
        ordinals = rewrite.finish()
        assert rounds > 4
        names = [one.id for one in events(store)]
        assert len(names) == len(set(names)) == len(ordinals) == number
        assert sum(one.pinned for one in events(store)) == rounds
        expected = events(store)
        assert set(vectors(store)) == {one.id for one in expected if not one.pinned}
    with open_store(path) as store:
        assert events(store) == expected


def test_events_evicted_meanwhile_are_not_in_the_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewriting, "CHUNK_EVENTS", 8)
    with open_store(tmp_path / "ring", size=10240) as store:
        fill(store, 100)
        rewrite = Rewrite(store, KEYS, SystemRandom(), size=100_000)
        rewrite.copy()
        fill(store, 30, first=101)
        live = {one.id for one in events(store)}
        rewrite.finish()
        assert {one.id for one in events(store)} == live


def test_a_new_key_is_needed_and_the_old_one_opens_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    with open_store(path) as store:
        fill(store, 20)
        before = events(store)
        whole(Rewrite(store, FixedKeyStore("other"), SystemRandom()))
    with pytest.raises(WrongKey):
        open_store(path)
    with open_store(path, word="other") as store:
        assert events(store) == before


def test_no_ciphertext_of_the_old_file_is_in_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    with open_store(path) as store:
        fill(store, 200)
        store.write_checkpoint(b"payload " * 100)
        store.commit()
        old = path.read_bytes()
        replaced = os.open(path, os.O_RDONLY)
        whole(Rewrite(store, KEYS, SystemRandom()))
        wiped = os.pread(replaced, MIB, 0)
        os.close(replaced)
    new = path.read_bytes()
    pieces = {old[at : at + 16] for at in range(0, MIB, 16)}
    pieces = {piece for piece in pieces if len(set(piece)) > 12}  # sealed, and no number or gap
    assert len(pieces) > 2000
    assert not pieces & {new[at : at + 16] for at in range(MIB - 16)}
    assert wiped == bytes(MIB), "the old file was not overwritten"


def test_what_is_forgotten_is_in_no_byte_of_the_file_and_cannot_come_back(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    with open_store(path) as store:
        fill(store, 60)
        store.write_checkpoint(b"index")
        places = dict(store.scan())
        ring = store.file.ring
        sealed = {}
        for ordinal, one in places.items():
            position = ring.directory.position(ordinal, 1)
            assert position is not None
            body = ring._bodies.at(position, 1)
            assert body is not None
            sealed[one.id] = body
        before = path.read_bytes()
        assert all(body[40:72] in before or len(body) > 400 for body in sealed.values())
        gone = [one.id for one in places.values() if one.sequence % 3 == 0]
        stranger = event(999).id
        store.forgotten.forget([*gone, stranger])
        assert not set(gone) & {one.id for one in events(store)}
        store.commit()
        whole(Rewrite(store, KEYS, SystemRandom()))
        assert not store.forgotten.erasing_due
    image = path.read_bytes()
    assert not any(body[40:72] in image for body in sealed.values())
    assert not any(name.encode() in image for name in gone)
    with open_store(path) as store:
        assert all(name in store.forgotten for name in (*gone, stranger))
        assert not any(one.id in store.forgotten for one in events(store))
        assert len(events(store)) == 40
        assert len(store.forgotten) == 21
        assert not store.forgotten.erasing_due


def test_marks_outlive_many_rounds_of_the_ring_and_the_oldest_go_first(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    with open_store(path, size=24 * 1024) as store:
        store.forgotten.forget([event(5000).id, event(5001).id])
        for number in range(1, 800):
            store.append([event(number)])
            store.commit()
    with open_store(path) as store:
        assert event(5000).id in store.forgotten
        assert store.forgotten.erasing_due
        store.forgotten.forget([event(number).id for number in range(6000, 6200)])
        assert len(store.forgotten) == 202, "none may go while the events may be in the file"
        store.commit()
        whole(Rewrite(store, KEYS, SystemRandom()))
        assert event(5000).id not in store.forgotten
        assert event(6199).id in store.forgotten
        assert 10 < len(store.forgotten) < 202


def _failing(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    def fail(monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(28, "No space left on device")

        target = os if name in ("rename", "link") else rewriting
        monkeypatch.setattr(target, name, refuse)

    return fail


@pytest.mark.parametrize("step", ["create_at", "open_path", "rename"])
def test_a_step_that_fails_leaves_the_old_store_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "ring"
    with open_store(path) as store:
        fill(store, 50)
        before = events(store)
        with monkeypatch.context() as patch:
            _failing(step)(patch)
            with pytest.raises((StoreError, OSError), match=r"No space left|cannot replace"):
                whole(Rewrite(store, KEYS, SystemRandom()))
        assert events(store) == before
        assert not rewrite_path(path).exists()
        fill(store, 1, first=51)
    with open_store(path) as store:
        assert len(events(store)) == 51


class CutError(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", range(1, 9))
def test_a_crash_at_any_step_leaves_one_store_or_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    path = tmp_path / "ring"
    store = open_store(path)
    fill(store, 80)
    store.forgotten.forget([event(1, snippet="1 " * 20).id])
    store.commit()
    before = events(store)
    steps = 0

    def counted(name: str, module: object) -> None:
        real = getattr(module, name)

        def call(*arguments: object, **named: object) -> object:
            nonlocal steps
            steps += 1
            if steps == step:
                raise CutError
            result = real(*arguments, **named)
            steps += 1
            if steps == step:
                raise CutError
            return result

        monkeypatch.setattr(module, name, call)

    counted("create_at", rewriting)
    counted("rename", os)
    counted("sync_directory", rewriting)
    counted("wipe_file", rewriting)
    # A process that ends tidies nothing up.
    monkeypatch.setattr(rewriting, "discard", lambda path: None)
    try:
        whole(Rewrite(store, KEYS, SystemRandom()))
    except CutError:
        assert store._lock is not None
        store._lock.release()
    else:
        store.close()
    monkeypatch.undo()
    with open_store(path) as again:
        assert events(again) == before
        assert event(1, snippet="1 " * 20).id in again.forgotten
        assert again.verify() == 0
    assert sorted(os.listdir(tmp_path)) == ["ring", "ring.lock"]


def test_a_size_that_cannot_work_changes_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path / "ring") as store:
        fill(store, 3)
        with pytest.raises(ConfigError, match="store size"):
            Rewrite(store, KEYS, SystemRandom(), size=100)
        assert len(events(store)) == 3
        assert sorted(os.listdir(tmp_path)) == ["ring", "ring.lock"]


def test_a_rewriting_that_is_given_up_leaves_nothing_beside_the_store(tmp_path: Path) -> None:
    with open_store(tmp_path / "ring") as store:
        fill(store, 30)
        rewrite = Rewrite(store, KEYS, SeededRandom(1))
        rewrite.copy()
        rewrite.abandon()
        assert sorted(os.listdir(tmp_path)) == ["ring", "ring.lock"]
        assert len(events(store)) == 30


def test_the_vectors_of_an_event_that_came_after_the_last_look_are_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(tmp_path / "ring") as store:
        fill(store, 30)
        rewrite = Rewrite(store, KEYS, SystemRandom())
        real = store.vectors.ordinals

        def meanwhile(after: int = 0) -> list[int]:
            if len(events(store)) == 30:
                fill(store, 1, first=31)
            return real(after)

        monkeypatch.setattr(store.vectors, "ordinals", meanwhile)
        whole(rewrite)
        assert len(events(store)) == len(vectors(store)) == 31


@pytest.mark.parametrize("step", ["sync_directory", "wipe_file"])
def test_once_the_new_file_has_its_name_it_is_the_store_whatever_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "ring"
    with open_store(path) as store:
        fill(store, 50)
        before = events(store)
        image = path.read_bytes()
        replaced = os.open(path, os.O_RDONLY)
        with monkeypatch.context() as patch:
            _failing(step)(patch)
            rewrite = Rewrite(store, KEYS, SystemRandom())
            whole(rewrite)
        assert rewrite.durable == (step == "wipe_file")
        assert os.pread(replaced, MIB, 0) == image, "after a power cut this may be the store"
        os.close(replaced)
        assert events(store) == before
        if step == "sync_directory":  # after a power cut the old file may be back
            with pytest.raises(StoreFailed):
                store.append([event(51)])
        else:
            fill(store, 1, first=51)
    with open_store(path) as store:
        assert events(store)[:50] == before
        assert len(events(store)) == 50 + (step == "wipe_file")
    assert sorted(os.listdir(tmp_path)) == ["ring", "ring.lock"]


def test_a_pin_that_moved_while_it_was_copied_keeps_its_pin(tmp_path: Path) -> None:
    with open_store(tmp_path / "ring", size=24 * 1024) as store:
        with pytest.raises(PinsFull):
            fill(store, 1000, pinned=tuple(range(1001)))
        pinned = sum(one.pinned for one in events(store))
        rewrite = Rewrite(store, KEYS, SystemRandom())
        while rewrite.copy():
            pass
        fill(store, 150, first=1000)  # all of them are copied forward once more
        rewrite.finish()
        assert sum(one.pinned for one in events(store)) == pinned


def test_failures_leave_no_descriptor_open_and_no_key_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Noting(FixedKeyStore):
        made: ClassVar[list[bytes]] = []

        def create(self, salt: bytes) -> bytes:
            self.made.append(salt)
            return super().create(salt)

        def discard(self, salt: bytes) -> None:
            self.made.remove(salt)

    keys = Noting()
    path = tmp_path / "ring"
    with open_event_store(path, keys, SystemRandom(), size=MIB) as store:
        fill(store, 10)
        before = len(os.listdir("/proc/self/fd"))
        for step in ("create_at", "open_path", "rename", "rename"):
            with monkeypatch.context() as patch:
                _failing(step)(patch)
                with pytest.raises((StoreError, OSError)):
                    whole(Rewrite(store, keys, SystemRandom()))
        assert len(os.listdir("/proc/self/fd")) == before
    assert len(keys.made) <= 2  # the store's, and one whose file was never opened
