"""The store from outside: what goes in comes out, wraps, and is there after reopening."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.errors import ConfigError, StoreError
from localmem_node.store.event_store import EventStore
from localmem_node.store.opening import open_event_store
from localmem_node.store.reports import Marks
from localmem_protocol.events import Event, stamp
from localmem_protocol.lineage import Reach
from support.events import DEVICE, draft, event, events
from support.fault_disk import FaultDisk
from support.seeded import SeededRandom
from support.store_keys import FixedKeyStore

MIB = 1024 * 1024
SECRET = "correct horse battery staple, nobody else knows"


def open_store(path: Path, seed: int = 1, **options: int) -> EventStore:
    return open_event_store(path, FixedKeyStore(), SeededRandom(seed), **options)  # type: ignore[arg-type]


def units(count: int, seed: int = 1, dimensions: int = 384) -> npt.NDArray[np.float32]:
    rows = np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)
    normed: npt.NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return normed


@pytest.mark.parametrize("size", [8192, 10240, 100_001, MIB, 3 * MIB + 777])
def test_events_come_back_after_reopening_and_wrapping(tmp_path: Path, size: int) -> None:
    path = tmp_path / "ring.localmem"
    kept: dict[int, Event] = {}
    number = 0
    for life in range(5):
        with open_store(path, life, size=size) as store:
            assert dict(store.scan()) == kept
            for _ in range(60):
                number += 1
                offered = event(number, snippet=f"{number}" * 40)
                ordinals, evicted, _ = store.append([offered])
                kept[ordinals[0]] = offered
                for ordinal in evicted:
                    assert kept.pop(ordinal)
                    assert store.get(ordinal) is None
                if number % 3 == 0:
                    store.commit()
            assert dict(store.scan()) == kept
            assert all(store.get(ordinal) == offered for ordinal, offered in kept.items())
    assert path.stat().st_size == size


def test_a_ten_kibibyte_store_holds_dozens_of_events_committed_one_by_one(tmp_path: Path) -> None:
    with open_store(tmp_path / "ring", size=10 * 1024) as store:
        for number in range(1, 300):
            store.append([event(number)])
            store.commit()
        assert store.stats().events >= 48
        assert store.stats().newest_ordinal == 299


def test_a_four_gibibyte_store_is_made_and_used(tmp_path: Path) -> None:
    random = SeededRandom(1)

    class Sparse(FaultDisk):
        """Keeps only what is not zero of a large file."""

        def __init__(self) -> None:
            super().__init__(random)
            self.pages: dict[int, bytes] = {}
            self.end = 0

        def pwrite(self, offset: int, data: bytes) -> None:
            self.end = max(self.end, offset + len(data))
            if len(data) > 1:
                assert offset % 4096 == 0
                for start in range(0, len(data), 4096):
                    page = data[start : start + 4096].ljust(4096, b"\0")
                    self.pages[(offset + start) // 4096] = page

        def pread(self, offset: int, size: int) -> bytes:
            first, last = offset // 4096, (offset + size - 1) // 4096
            whole = b"".join(self.pages.get(p, bytes(4096)) for p in range(first, last + 1))
            return whole[offset - first * 4096 :][:size]

        def sync(self) -> None:
            return

        def size(self) -> int:
            return self.end

    disk = Sparse()
    size = 4 * 1024 * MIB
    offered = [event(number) for number in range(1, 400)]
    with open_event_store(Path("r"), FixedKeyStore(), random, size=size, disk=disk) as store:
        store.append(offered)
        assert store.write_checkpoint(b"index")
    with open_event_store(Path("r"), FixedKeyStore(), random, disk=disk) as store:
        assert [found for _, found in store.scan()] == offered
        assert store.read_checkpoint() == (399, b"index")
        assert store.stats().size_bytes == size


@pytest.mark.parametrize("size", [0, 100, 8191, 2**40 + 1])
def test_a_size_that_cannot_work_is_refused_and_leaves_nothing(tmp_path: Path, size: int) -> None:
    with pytest.raises(ConfigError, match=f"store size: {size} bytes"):
        open_store(tmp_path / "ring", size=size)
    assert [path.name for path in tmp_path.iterdir()] == ["ring.lock"]


def test_an_existing_store_keeps_its_size_and_its_device(tmp_path: Path) -> None:
    with open_store(tmp_path / "ring", 1, size=10240) as store:
        device = store.device
        assert len(bytes.fromhex(device)) == 8
    with open_store(tmp_path / "ring", 2, size=MIB) as store:
        assert store.stats().size_bytes == 10240
        assert store.device == device


def test_ordinals_only_grow_and_are_never_given_twice(tmp_path: Path) -> None:
    seen: list[int] = []
    for life in range(4):
        with open_store(tmp_path / "ring", life, size=8192) as store:
            for number in range(1, 100):
                seen.extend(store.append([event(number)]).ordinals)
    assert seen == sorted(set(seen))


def test_an_event_is_readable_before_it_is_committed(tmp_path: Path) -> None:
    with open_store(tmp_path / "ring", size=100_000) as store:
        offered = [event(number, snippet="x" * number * 50) for number in range(1, 40)]
        ordinals = store.append(offered).ordinals
        assert [store.get(ordinal) for ordinal in ordinals] == offered


def test_what_was_appended_is_committed_when_the_store_is_closed(tmp_path: Path) -> None:
    store = open_store(tmp_path / "ring", size=10240)
    store.append([event(1)])
    store.close()
    store.close()
    with pytest.raises(StoreError, match="is closed"):
        store.append([event(2)])
    with pytest.raises(StoreError, match="is closed"):
        store.get(1)
    with open_store(tmp_path / "ring") as store:
        assert store.get(1) == event(1)


def test_an_event_that_the_ring_cannot_hold_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    with open_store(tmp_path / "ring", size=10240) as store:
        store.append([event(1)])
        noise = SeededRandom(1).token_bytes(20_000).hex()
        with pytest.raises(StoreError, match="make the store larger"):
            store.append([event(2), event(3, snippet=noise)])
        assert dict(store.scan()) == {1: event(1)}
        assert store.append([event(4)]).ordinals == [2]


def test_the_longest_event_that_fits_is_kept_whatever_lies_before_it(tmp_path: Path) -> None:
    for before in range(1, 12):
        with open_store(tmp_path / f"ring{before}", size=8192) as store:
            store.append([event(number) for number in range(1, before + 1)])
            noise = SeededRandom(1).token_bytes(2600).hex()
            for length in range(len(noise), 0, -1):
                long = event(99, snippet=noise[:length])
                try:
                    ordinal = store.append([long]).ordinals[0]
                except StoreError:
                    continue
                break
            store.commit()
            assert store.get(ordinal) == long
            assert 1800 < length < 4000
        with open_store(tmp_path / f"ring{before}") as store:
            assert store.get(ordinal) == long


def test_an_event_that_could_not_be_read_back_is_refused(tmp_path: Path) -> None:
    with open_store(tmp_path / "ring", size=10240) as store:
        unstamped = event(1)
        for name, value in {
            "id": "short",
            "kind": "unknown",
            "sequence": -1,
            "device": "not hex",
            "snippet": "\ud800",
            "timestamp": -5,
        }.items():
            wrong = Event(
                **{**{f: getattr(unstamped, f) for f in Event.__struct_fields__}, name: value}
            )
            with pytest.raises(StoreError, match="cannot be stored"):
                store.append([wrong])
        assert store.stats().events == 0


@given(st.lists(events(), min_size=1, max_size=8))
def test_any_event_that_a_device_can_record_round_trips(drawn: list[Event]) -> None:
    random = SeededRandom(1)
    disk = FaultDisk(random)
    with open_event_store(Path("r"), FixedKeyStore(), random, size=100_000, disk=disk) as store:
        ordinals = store.append(drawn).ordinals
        assert [store.get(ordinal) for ordinal in ordinals] == drawn
    with open_event_store(Path("r"), FixedKeyStore(), random, disk=disk) as store:
        newest = {found.id: found for found in drawn}
        assert {found.id: found for _, found in store.scan()} == newest


def test_of_a_repeated_event_the_newest_record_counts_after_reopening(tmp_path: Path) -> None:
    plain, pinned = (
        stamp(draft(pinned=pin), device=DEVICE, clock=5 << 16, sequence=1) for pin in (False, True)
    )
    assert plain.id == pinned.id
    with open_store(tmp_path / "ring", size=10240) as store:
        store.append([plain, event(7), pinned])
    with open_store(tmp_path / "ring") as store:
        assert dict(store.scan()) == {2: event(7), 3: pinned}
        assert store.get(1) is None
        assert store.stats().damaged == 0


def test_marks_outlive_the_events_that_set_them(tmp_path: Path) -> None:
    with open_store(tmp_path / "ring", size=8192) as store:
        assert store.marks == Marks(0, 0)
        own = stamp(draft(), device=store.device, clock=7 << 40, sequence=41)
        store.append([own])
        foreign = [
            stamp(draft(snippet=f"{n}" * 30), device=DEVICE, clock=2**62 + n, sequence=1000 + n)
            for n in range(1, 200)
        ]
        evicted = store.append(foreign).evicted
        assert 1 in evicted
    with open_store(tmp_path / "ring") as store:
        assert store.marks == Marks(41, 7 << 40)


def test_each_opening_that_writes_is_a_run_of_its_own(tmp_path: Path) -> None:
    path, copy = tmp_path / "ring", tmp_path / "copy"
    reaches: list[Reach] = []
    for number in range(1, 4):
        with open_store(path, number, size=8192) as store:
            before = store.reach
            assert before.run == (reaches[-1].run if reaches else b"")
            store.append([event(number)])
            assert store.reach == before  # till it is durable
            store.commit()
            assert store.reach.run not in {reach.run for reach in [before, *reaches]}
            reaches.append(store.reach)
        if number == 2:
            copy.write_bytes(path.read_bytes())
        with open_store(path) as store:  # only reads
            assert all(map(store.has_reached, reaches))
    with open_store(copy, 77) as store:
        store.append([event(number) for number in range(10, 20)])
        store.commit()
        assert [*map(store.has_reached, reaches)] == [True, True, False]


def test_vectors_come_back_as_unit_vectors_close_to_what_was_given(tmp_path: Path) -> None:
    given_vectors = units(55)
    with open_store(tmp_path / "ring", size=MIB) as store:
        assert store.geometry.keeps_vectors
        ordinals = store.append([event(number) for number in range(1, 56)]).ordinals
        store.vectors.append(list(zip(ordinals, given_vectors, strict=True)))
    with open_store(tmp_path / "ring") as store:
        found = dict(store.vectors.by_event())
    assert list(found) == ordinals
    for ordinal, vector in zip(ordinals, given_vectors, strict=True):
        assert found[ordinal].dtype == np.float32
        assert float(np.linalg.norm(found[ordinal])) == pytest.approx(1, abs=1e-5)
        assert float(found[ordinal] @ vector) > 0.9995


def test_vectors_leave_with_their_events_and_later_ones_count(tmp_path: Path) -> None:
    with open_store(tmp_path / "ring", size=MIB) as store:
        first, second = units(2)
        one, two = store.append([event(1), event(2)]).ordinals
        store.vectors.append([(one, first), (two, first), (999, first)])
        store.vectors.append([(two, second)])
        assert float(dict(store.vectors.by_event())[two] @ second) > 0.999
        evicted: list[int] = []
        number = 2
        while one not in evicted:
            number += 1
            ordinals, left, _ = store.append([event(number, snippet=f"{number} " * 2000)])
            evicted += left
            evicted += store.vectors.append([(ordinals[0], first)]).evicted
        live = {ordinal for ordinal, _ in store.scan()}
        assert {ordinal for ordinal, _ in store.vectors.by_event()} <= live
        assert store.vectors.append([(one, first)]) == ([], [], [])
        assert one not in dict(store.vectors.by_event())


def test_vectors_of_another_encoder_are_told_apart(tmp_path: Path) -> None:
    with open_store(tmp_path / "ring", size=MIB) as store:
        old, new = units(2)
        one, two = store.append([event(1), event(2)]).ordinals
        store.vectors.append([(one, old), (two, old)], encoder="model 1")
        store.vectors.append([(one, new)], encoder="model 2")
        assert list(dict(store.vectors.by_event(encoder="model 1"))) == [one, two]
        assert list(dict(store.vectors.by_event(encoder="model 2"))) == [one]
        assert list(dict(store.vectors.by_event(encoder="model 3"))) == []


def test_a_small_store_leaves_vectors_out(tmp_path: Path) -> None:
    with open_store(tmp_path / "ring", size=10240) as store:
        ordinal = store.append([event(1)]).ordinals[0]
        assert not store.geometry.keeps_vectors
        assert store.vectors.append([(ordinal, units(1)[0])]) == ([], [], [])
        assert list(store.vectors.by_event()) == []
        assert store.get(ordinal) == event(1)


def test_vectors_that_are_none_are_refused(tmp_path: Path) -> None:
    with open_store(tmp_path / "ring", size=MIB) as store:
        one, two = store.append([event(1), event(2)]).ordinals
        good = units(1)[0]
        for wrong in (good * 2, good * np.float32("nan"), np.zeros(384, np.float32)):
            with pytest.raises(StoreError, match="not a unit vector"):
                store.vectors.append([(one, wrong)])
        with pytest.raises(StoreError, match="different shapes"):
            store.vectors.append([(one, good), (two, units(1, dimensions=8)[0])])
        assert list(store.vectors.by_event()) == []


def test_a_checkpoint_comes_back_with_the_ordinal_it_knows(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    with open_store(path, size=MIB) as store:
        assert store.read_checkpoint() is None
        store.append([event(1), event(2)])
        assert store.write_checkpoint(b"first")
        store.append([event(3)])
        assert store.write_checkpoint(b"second")
        store.append([event(4)])
        assert not store.write_checkpoint(bytes(MIB // 8))
        assert store.read_checkpoint() == (3, b"second")
    with open_store(path) as store:
        assert store.read_checkpoint() == (3, b"second")
        assert store.write_checkpoint(b"third")
    data = bytearray(path.read_bytes())
    third = data.rindex(b"LMIX", 0, MIB - MIB // 8)
    data[third + 60] ^= 1
    path.write_bytes(data)
    with open_store(path) as store:
        assert store.read_checkpoint() == (3, b"second")
        assert store.stats().events == 4


def test_a_small_store_has_no_room_for_a_checkpoint(tmp_path: Path) -> None:
    with open_store(tmp_path / "ring", size=10240) as store:
        assert not store.write_checkpoint(b"")
        assert store.read_checkpoint() is None


def test_nothing_readable_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    with open_store(path, size=MIB) as store:
        for number in range(1, 50):
            store.append(
                [event(number, snippet=f"{SECRET} {number}", filePath="very/secret/path.py")]
            )
            store.commit()
        store.write_checkpoint(SECRET.encode() * 20)
        device = store.device
    data = path.read_bytes()
    for piece in (SECRET[:12], "nobody else", "secret/path", DEVICE):
        assert piece.encode() not in data
    assert bytes.fromhex(DEVICE) not in data
    assert data.count(bytes.fromhex(device)) == 2  # the two headers


def test_derived_keys_depend_on_purpose_and_store(tmp_path: Path) -> None:
    with (
        open_store(tmp_path / "a", 1, size=8192) as a,
        open_store(tmp_path / "b", 2, size=8192) as b,
    ):
        key = a.derive_key("sync")
        assert len(key) == 32
        assert key not in (a.derive_key("other"), b.derive_key("sync"))
    with open_store(tmp_path / "a", 3) as again:
        assert again.derive_key("sync") == key


def test_no_sealing_is_repeated_when_a_store_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    with open_store(path, 1, size=10240) as store:
        store.append([event(1)])
    before = path.read_bytes()
    with open_store(path, 2) as store:
        assert store.get(1) == event(1)
    assert path.read_bytes() == before  # reading alone writes nothing
    with open_store(path, 3) as store:
        store.append([event(2)])
        assert dict(store.scan()) == {1: event(1), 2: event(2)}
    with open_store(path, 4) as store:
        assert dict(store.scan()) == {1: event(1), 2: event(2)}


def test_readers_see_whole_events_while_a_writer_wraps_the_ring(tmp_path: Path) -> None:
    with open_store(tmp_path / "ring", size=8192) as store:
        done = threading.Event()
        wrong: list[object] = []
        reads = 0

        def read() -> None:
            nonlocal reads
            while not done.is_set():
                for ordinal, found in store.scan():
                    reads += 1
                    if found != event(ordinal):
                        wrong.append((ordinal, found))

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(1, 130):
            store.append([event(number)])
            if number % 5 == 0:
                store.commit()
        done.set()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert reads > 0
        assert store.stats().damaged == 0


def test_many_events_without_a_commit_stay_within_bounds(tmp_path: Path) -> None:
    with open_store(tmp_path / "ring", size=8 * MIB) as store:
        noise = SeededRandom(1)
        for number in range(1, 300):
            store.append([event(number, snippet=noise.token_bytes(16_000).hex())])
        stats = store.stats()
        assert stats.used_bytes <= stats.size_bytes
        found = [found.sequence for _, found in store.scan()]
        assert found == list(range(300 - len(found), 300))
        assert len(found) > 100


def test_every_vector_stays_with_its_own_event_while_others_are_copied_forward(
    tmp_path: Path,
) -> None:
    chance = np.random.default_rng(7)
    with open_store(tmp_path / "ring", size=MIB) as store:
        store.set_keep(lambda ordinal, size: bool(chance.random() < 0.3))
        directions = np.eye(32, dtype=np.float32)
        for number in range(1, 4000):
            appended = store.append([event(number, snippet=chance.bytes(200).hex())])
            if number % 3 == 0:  # of the last events, as they lie now
                recent = store.ordinals()[-3:]
                events = [store.get(ordinal) for ordinal in recent]
                store.vectors.append(
                    [
                        (ordinal, directions[one.sequence % 32])
                        for ordinal, one in zip(recent, events, strict=True)
                        if one is not None
                    ]
                )
            assert all(store.get(new) for _, new in appended.moved)
        found = {ordinal: one.sequence for ordinal, one in store.scan()}
        vectors = dict(store.vectors.by_event())
        assert store.stats().copied_bytes > MIB // 8
        assert len(vectors) > 500
        assert all(float(v @ directions[found[o] % 32]) > 0.99 for o, v in vectors.items())
