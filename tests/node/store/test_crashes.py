"""What was acknowledged survives: power cuts, torn and reordered sectors, full and failing disks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from localmem_node.errors import PinsFull, StoreError, StoreFailed
from localmem_node.store.event_store import EventStore
from localmem_node.store.opening import open_event_store
from localmem_node.store.records import encode_event
from localmem_node.store.ring import RECORD_OVERHEAD
from localmem_protocol.events import Event
from support.events import event
from support.fault_disk import Fault, FaultDisk, KilledError, PowerCutError
from support.seeded import SeededRandom
from support.store_keys import FixedKeyStore

CASES = 1200
SHARDS = 6
SIZES = (8192, 10240, 10240, 24 * 1024, 100_000, 1024 * 1024)
FAULTS: tuple[Fault, ...] = ("cut", "cut", "cut midway", "kill", "kill", "EIO", "ENOSPC")
LENGTHS = (5, 60, 60, 200, 200, 700, 3000)


def opened(disk: FaultDisk, random: SeededRandom, size: int = 10240) -> EventStore:
    return open_event_store(Path("ring"), FixedKeyStore(), random, size=size, disk=disk)


@dataclass
class World:
    """What a store has acknowledged through several lives, and everything it may hold.

    Events go by their number, which is their sequence: their ordinals change when they are copied
    forward. `generosity` is the chance that an event at the tail earns another round.
    """

    random: SeededRandom
    size: int
    generosity: float = 0.0
    number: int = 0
    at: dict[int, int] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)
    uncommitted: set[int] = field(default_factory=set)
    possible: dict[int, Event] = field(default_factory=dict)
    in_flight: list[Event] = field(default_factory=list)
    checkpoints: list[bytes] = field(default_factory=list)

    def draw(self, count: int) -> list[Event]:
        """Events that do not compress away; one of ten alone is pinned."""
        drawn: list[Event] = []
        for _ in range(count):
            self.number += 1
            noise = self.random.token_bytes(self.random.choice(LENGTHS) // 2).hex()
            pinned = count == 1 and self.random.chance(0.1)
            snippet = f"{self.number} {noise}"
            drawn.append(event(self.number, snippet=snippet, pinned=pinned))
        return drawn

    def append(self, store: EventStore, drawn: list[Event]) -> None:
        """Append, and take in what that did."""
        self.in_flight = drawn
        self.possible |= {one.sequence: one for one in drawn}
        try:
            ordinals, evicted, moved = store.append(drawn)
        except PinsFull:
            self.in_flight = []
            return
        self.at |= {o: one.sequence for o, one in zip(ordinals, drawn, strict=True)}
        for old, new in moved:
            self.at[new] = self.at.pop(old)
        for ordinal in evicted:
            gone = self.at.pop(ordinal)
            assert not self.possible[gone].pinned
            self.acknowledged.discard(gone)
            self.uncommitted.discard(gone)
        self.uncommitted |= {one.sequence for one in drawn} & set(self.at.values())
        self.in_flight = []

    def live(self, disk: FaultDisk) -> None:
        """Append and commit, until done or until something fails."""
        store = opened(disk, self.random, self.size)
        store.set_keep(lambda ordinal, size: self.random.chance(self.generosity))
        for _ in range(1 + self.random.below(14)):
            self.append(store, self.draw(self.random.choice([1, 1, 1, 2, 5, 12])))
            if self.random.chance(0.8):
                store.commit()
                self.acknowledge()
            if self.random.chance(0.1):
                payload = self.random.token_bytes(self.random.below(9000))
                self.checkpoints.append(payload)
                if store.write_checkpoint(payload):
                    self.acknowledge()
                    self.checkpoints = [payload]
                else:
                    self.checkpoints.pop()
            if self.random.chance(0.1):
                assert store.verify() == 0
        if self.random.chance(0.5):
            store.close()
            self.acknowledge()

    def acknowledge(self) -> None:
        """A commit returned."""
        self.acknowledged |= self.uncommitted
        self.uncommitted.clear()

    def check(self, disk: FaultDisk) -> None:
        """Open what is left; from here on, what it shows counts as acknowledged."""
        store = opened(disk, self.random, self.size)
        found = {one.sequence: one for _, one in store.scan()}
        missing = self.acknowledged - found.keys()
        # To make room for what was on its way in, the oldest may have left, and nothing pinned.
        assert not any(self.possible[number].pinned for number in missing)
        if not self.generosity:
            kept = [one for one in self.possible.values() if one.pinned]  # copied forward first
            room = sum(map(ring_bytes, [*self.in_flight, *kept])) + 3 * store.geometry.block_size
            gone = [ring_bytes(self.possible[number]) for number in missing]
            # The last one leaves whole, wherever it ends.
            assert sum(gone) <= room + max(gone, default=0), f"gone: {sorted(missing)}"
        assert not missing or self.in_flight, f"acknowledged and gone: {sorted(missing)}"
        for number, present in found.items():
            assert present == self.possible[number]
        assert store.verify() == 0
        assert store.stats().damaged == 0
        checkpoint = store.read_checkpoint()
        if checkpoint is not None:
            assert checkpoint[1] in self.checkpoints
            self.checkpoints = [checkpoint[1]]
        else:
            assert len(self.checkpoints) <= 1, "a checkpoint is gone"
            self.checkpoints = []
        self.at = {ordinal: one.sequence for ordinal, one in store.scan()}
        self.acknowledged, self.possible, self.uncommitted = set(found), found, set()
        self.in_flight = []


def ring_bytes(one: Event) -> int:
    return len(encode_event(one, one.device)) + RECORD_OVERHEAD


def after_a_life(world: World, disk: FaultDisk) -> FaultDisk:
    """One life of a store up to its end, whatever that is; the disk that the next one finds."""
    try:
        world.live(disk)
    except PowerCutError:
        return FaultDisk(world.random, disk.after_power_cut())
    except KilledError:
        disk.plan.clear()
        return disk
    except StoreFailed:
        pass
    except StoreError as error:
        assert "cannot sync" in str(error)  # noqa: PT017 - any other StoreError is a bug
    disk.plan.clear()
    if world.random.chance(0.5):
        return FaultDisk(world.random, disk.after_power_cut())
    return disk  # only the process is gone


def run(seed: int) -> None:
    random = SeededRandom(seed)
    world = World(random, random.choice(SIZES), random.choice([0, 0, 0.2, 0.5]))
    disk = FaultDisk(random)
    opened(disk, random, world.size).close()
    for _ in range(1 + random.below(4)):
        disk.operations = 0
        disk.plan = {1 + random.below(30): random.choice(FAULTS)}
        disk = after_a_life(world, disk)
        world.check(disk)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_acknowledged_events_survive_seeded_failures(shard: int) -> None:
    for seed in range(shard, CASES, SHARDS):
        try:
            run(seed)
        except (AssertionError, StoreError) as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error


def test_a_power_cut_between_any_two_writes_loses_nothing_acknowledged() -> None:
    cut = 1
    while True:
        random = SeededRandom(cut)
        world = World(random, 10240, 0.2)
        disk = FaultDisk(random)
        opened(disk, random).close()
        disk.operations, disk.plan = 0, {cut: "cut"}
        try:
            store = opened(disk, random)
            store.set_keep(lambda ordinal, size: ordinal % 5 == 0)
            for number in range(60):
                world.append(store, world.draw(1 + number % 3))
                store.commit()
                world.acknowledge()
        except PowerCutError:
            world.check(FaultDisk(random, disk.after_power_cut()))
            cut += 1
            continue
        break
    assert cut > 100


def test_what_a_commit_returned_for_is_on_the_medium_and_not_just_written() -> None:
    random = SeededRandom(7)
    disk = FaultDisk(random)
    store = opened(disk, random)
    kept: dict[int, Event] = {}
    for number in range(1, 120):
        offered = event(number)
        ordinals, evicted, moved = store.append([offered])
        kept[ordinals[0]] = offered
        for ordinal in evicted:
            kept.pop(ordinal)
        assert not moved
        store.commit()
        synced = opened(FaultDisk(random, bytes(disk.medium)), random)
        assert dict(synced.scan()) == kept


def test_no_commit_writes_over_a_sector_that_was_acknowledged() -> None:
    random = SeededRandom(11)
    disk = FaultDisk(random)
    store = opened(disk, random, 1024 * 1024)
    for number in range(1, 200):
        store.append([event(number)])
        before = bytes(disk.medium)
        disk.writes.clear()
        store.commit()
        # What was on the medium before this commit must still open if all its writes are garbage.
        image = bytearray(before)
        for offset, size in disk.writes:
            image[offset : offset + size] = random.token_bytes(size)
        survivor = opened(FaultDisk(random, bytes(image)), random)
        assert len(dict(survivor.scan())) >= number - 1


@pytest.mark.parametrize("fault", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("operation", [1, 2, 3, 4])
def test_after_a_failed_write_or_sync_nothing_is_acknowledged(fault: Fault, operation: int) -> None:
    random = SeededRandom(operation)
    disk = FaultDisk(random)
    store = opened(disk, random)
    store.append([event(1)])
    store.commit()
    disk.operations, disk.plan = 0, {operation: fault}
    store.append([event(number) for number in range(2, 20)])  # enough to finish a block
    with pytest.raises(StoreFailed, match="a write failed"):
        store.commit()
    with pytest.raises(StoreFailed):
        store.commit()
    with pytest.raises(StoreFailed):
        store.append([event(20)])
    assert store.get(1) == event(1)
    store.close()
    again = opened(disk, random)
    assert again.get(1) == event(1)
    again.append([event(21)])
    again.commit()


def test_a_failed_sync_at_open_is_an_error_and_the_next_open_succeeds() -> None:
    random = SeededRandom(1)
    disk = FaultDisk(random)
    opened(disk, random).close()
    disk.operations, disk.plan = 0, {1: "EIO"}
    with pytest.raises(StoreError, match="cannot sync"):
        opened(disk, random)
    assert opened(disk, random).stats().events == 0


def test_a_disk_too_small_for_the_store_is_an_error() -> None:
    random = SeededRandom(1)
    with pytest.raises(StoreError, match="cannot create a store of 10240 bytes"):
        opened(FaultDisk(random, capacity=5000), random)
