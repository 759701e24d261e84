"""Damage at rest costs what it touches, is counted, and nothing else."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from localmem_node.store.blocks import frames, parse_block
from localmem_node.store.event_store import EventStore
from localmem_node.store.layout import BLOCK_HEADER_BYTES, Geometry
from localmem_node.store.opening import open_event_store
from support.events import event
from support.fault_disk import FaultDisk
from support.seeded import SeededRandom
from support.store_keys import FixedKeyStore

SMALL = 16384
LARGE = 1024 * 1024


def opened(image: bytes | FaultDisk, seed: int = 1, size: int = SMALL) -> EventStore:
    random = SeededRandom(seed)
    disk = FaultDisk(random, image) if isinstance(image, bytes) else image
    return open_event_store(Path("ring"), FixedKeyStore(), random, size=size, disk=disk)


def filled(size: int, count: int, *, closed: bool) -> tuple[bytes, EventStore]:
    """The image of a store that has wrapped, and the store."""
    random = SeededRandom(5)
    disk = FaultDisk(random)
    store = opened(disk, size=size)
    for number in range(1, count):
        length = random.choice([10, 100, 100, 1500])
        ordinals = store.append(
            [event(number, snippet=random.token_bytes(length // 2).hex())]
        ).ordinals
        if size >= LARGE and number % 3 == 0:
            vector = np.full(384, 384**-0.5, np.float32)
            store.vectors.append([(ordinals[0], vector)])
        if number % 4 == 0:
            store.commit()
    store.commit()
    if closed:
        store.close()
    return bytes(disk.medium), store


def touched(image: bytes, size: int) -> dict[int, set[int]]:
    """For each physical block of the ring: the ordinals of the records with bytes in it."""
    geometry = Geometry.of(size)
    block_size = geometry.block_size
    capacity = block_size - BLOCK_HEADER_BYTES
    raw = [image[geometry.offset(n) :][:block_size] for n in range(geometry.blocks)]
    raw.append(image[block_size:][:block_size])  # the open block; both slots of a closed store
    parsed = [block for block in (parse_block(piece, block_size) for piece in raw) if block]
    parsed.sort(key=lambda block: block.number)
    found: dict[int, set[int]] = {n: set() for n in range(geometry.blocks)}
    for frame in frames([(block.number, block) for block in parsed], block_size):
        number, offset = divmod(frame.position, block_size)
        end = offset - BLOCK_HEADER_BYTES + 4 + len(frame.body)
        for block in range(number, number + (end + capacity - 1) // capacity):
            if block != parsed[-1].number:  # the open block lies in the slots
                found[block % geometry.blocks].add(frame.ordinal)
    return found


@pytest.mark.parametrize(("size", "count"), [(SMALL, 150), (LARGE, 2500)])
def test_a_flipped_bit_in_a_block_loses_only_the_records_in_it_and_counts_them(
    size: int, count: int
) -> None:
    image, _ = filled(size, count, closed=True)
    intact = dict(opened(image).scan())
    assert len(intact) < count - 1  # it has wrapped
    geometry = Geometry.of(size)
    records = touched(image, size)
    random = SeededRandom(9)
    step = max(1, geometry.blocks // 16)
    for block in range(0, geometry.blocks, step):
        damaged = bytearray(image)
        at = geometry.offset(block) + random.below(geometry.block_size)
        damaged[at] ^= 1 << random.below(8)
        store = opened(bytes(damaged))
        lost = intact.keys() - dict(store.scan()).keys()
        assert lost <= records[block]
        assert lost >= records[block] & intact.keys()
        assert all(found == intact[ordinal] for ordinal, found in store.scan())
        if lost:
            assert len(lost) <= store.stats().damaged <= len(records[block])


def test_every_bit_of_a_slot_may_flip_in_a_closed_store_and_nothing_is_lost() -> None:
    image, _ = filled(SMALL, 60, closed=True)
    intact = dict(opened(image).scan())
    for at in range(0, 2048, 7):
        damaged = bytearray(image)
        damaged[at] ^= 0x10
        store = opened(bytes(damaged))
        assert dict(store.scan()) == intact
        assert store.stats().damaged == 0
        store.append([event(999)])
        store.close()


def test_damage_to_the_newest_slot_of_a_killed_store_costs_the_open_block_at_most() -> None:
    random = SeededRandom(2)
    disk = FaultDisk(random)
    store = opened(disk)
    store.append([event(1)])
    store.commit()
    store.append([event(number) for number in range(2, 60)])  # one commit, many blocks
    store.commit()
    image = bytes(disk.medium)
    for slot in (0, 1):
        damaged = bytearray(image)
        damaged[slot * 1024 + 80] ^= 1
        found = [ordinal for ordinal, _ in opened(bytes(damaged)).scan()]
        assert found == list(range(1, len(found) + 1))
        assert len(found) >= 55


def test_damage_to_both_open_blocks_is_counted_and_the_ring_is_intact() -> None:
    image, _ = filled(SMALL, 60, closed=True)
    intact = dict(opened(image).scan())
    damaged = bytearray(image)
    for slot in (0, 1):
        damaged[slot * 1024 + 512 + 40] ^= 1
    found = opened(bytes(damaged))
    remaining = dict(found.scan())
    lost = intact.keys() - remaining.keys()
    assert lost
    assert lost == set(range(min(lost), max(intact) + 1))
    assert found.stats().damaged == len(lost)
    assert found.append([event(999)]).ordinals[0] == max(intact) + 1


def test_a_checkpoint_that_outlived_lost_records_keeps_their_ordinals_from_being_reused() -> None:
    random = SeededRandom(2)
    disk = FaultDisk(random)
    store = opened(disk, size=LARGE)
    store.append([event(1), event(2)])
    store.commit()
    store.append([event(3)])
    assert store.write_checkpoint(b"knows 3")
    damaged = bytearray(disk.medium)
    damaged[80 if store.file.ring._slots._newest == 0 else 8192 + 80] ^= 1
    again = opened(bytes(damaged))
    assert dict(again.scan()) == {1: event(1), 2: event(2)}
    assert again.append([event(4)]).ordinals == [4]
    again.commit()
    assert again.read_checkpoint() is None, "it is of a past that did not last"


def test_an_altered_record_under_a_correct_checksum_is_not_believed() -> None:
    image, _ = filled(SMALL, 40, closed=True)
    intact = dict(opened(image).scan())
    geometry = Geometry.of(SMALL)
    block = bytearray(image[geometry.offset(3) :][:512])
    block[200] ^= 1
    block[:4] = zlib.crc32(block[4:]).to_bytes(4, "little")
    forged = bytearray(image)
    forged[geometry.offset(3) : geometry.offset(3) + 512] = block
    store = opened(bytes(forged))
    lost = intact.keys() - dict(store.scan()).keys()
    assert len(lost) == 1
    assert store.stats().damaged == 1


def test_blocks_swapped_or_replayed_from_an_earlier_lap_are_not_believed() -> None:
    geometry = Geometry.of(SMALL)
    image, _ = filled(SMALL, 150, closed=True)
    intact = dict(opened(image).scan())
    first, second = geometry.offset(4), geometry.offset(9)
    swapped = bytearray(image)
    swapped[first : first + 512] = image[second : second + 512]
    swapped[second : second + 512] = image[first : first + 512]
    found = dict(opened(bytes(swapped)).scan())
    assert found.items() < intact.items()
    older, _ = filled(SMALL, 100, closed=True)
    replayed = bytearray(image)
    replayed[first : first + 512] = older[first : first + 512]
    assert dict(opened(bytes(replayed)).scan()).items() < intact.items()


def test_a_file_cut_short_opens_with_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    with open_event_store(path, FixedKeyStore(), SeededRandom(1), size=SMALL) as store:
        store.append([event(number) for number in range(1, 150)])
        intact = dict(store.scan())
    data = path.read_bytes()
    path.write_bytes(data[: SMALL // 2])
    with open_event_store(path, FixedKeyStore(), SeededRandom(2)) as store:
        remaining = dict(store.scan())
        assert 0 < len(remaining) < len(intact)
        assert remaining.items() < intact.items()
        assert store.stats().damaged >= len(intact) - len(remaining)
        ordinals = store.append([event(number) for number in range(200, 260)]).ordinals
        store.commit()
        assert all(store.get(ordinal) for ordinal in ordinals)


def test_a_record_that_rots_while_the_store_is_open_is_reported_and_skipped() -> None:
    random = SeededRandom(1)
    disk = FaultDisk(random)
    store = opened(disk)
    store.append([event(number) for number in range(1, 40)])
    store.commit()
    geometry = Geometry.of(SMALL)
    disk.pwrite(geometry.offset(1) + 100, b"\xff" * 300)
    found = dict(store.scan())
    assert 0 < 39 - len(found) <= 6
    assert store.stats().damaged == 39 - len(found)
    assert all(found[ordinal] == event(ordinal) for ordinal in found)


def test_a_medium_that_cannot_be_read_costs_only_what_is_there() -> None:
    image, _ = filled(SMALL, 150, closed=True)
    intact = dict(opened(image).scan())
    geometry = Geometry.of(SMALL)
    bad = geometry.offset(5)

    class BadSector(FaultDisk):
        def pread(self, offset: int, size: int) -> bytes:
            if offset <= bad < offset + size:
                raise OSError(5, "Input/output error")
            return super().pread(offset, size)

    found = dict(opened(BadSector(SeededRandom(1), image)).scan())
    assert intact.keys() - found.keys() == touched(image, SMALL)[5] & intact.keys()


@pytest.mark.parametrize("extra", [1, 5, 60])
def test_a_checkpoint_of_a_branch_that_was_lost_is_not_believed_later(extra: int) -> None:
    random = SeededRandom(extra)
    disk = FaultDisk(random)
    store = opened(disk, size=LARGE)
    store.append([event(number) for number in range(1, 101)])
    store.commit()
    store.append([event(number) for number in range(101, 101 + extra)])
    assert store.write_checkpoint(b"of the lost branch")
    damaged = bytearray(disk.medium)
    newest = store.file.ring._slots._newest
    damaged[newest * 8192 + 4096 + 40] ^= 1  # its open block
    disk = FaultDisk(random, bytes(damaged))
    second = opened(disk)
    kept = {one.sequence for _, one in second.scan()}
    assert len(kept) > 50
    new = [event(number) for number in range(1000, 1080)]
    second.append(new)
    second.commit()
    third = opened(FaultDisk(random, bytes(disk.medium)), seed=9)
    assert {one.sequence for _, one in third.scan()} == kept | {one.sequence for one in new}
    assert third.verify() == 0


def test_damage_to_the_newest_slot_costs_no_block_that_was_finished_and_is_whole() -> None:
    random = SeededRandom(4)
    disk = FaultDisk(random)
    with opened(disk, size=LARGE) as store:
        store.append([event(1)])
    disk = FaultDisk(random, bytes(disk.medium))
    store = opened(disk, seed=2)
    store.append([event(number, snippet=random.token_bytes(100).hex()) for number in range(2, 200)])
    store.commit()  # the first of this session, and its last
    damaged = bytearray(disk.medium)
    newest = store.file.ring._slots._newest
    damaged[newest * 8192 + 4096 + 40] ^= 1
    again = opened(bytes(damaged), seed=3)
    found = {one.sequence for _, one in again.scan()}
    in_blocks = store.file.ring._slots.durable.head
    assert in_blocks > 3
    assert len(found) > 199 * (in_blocks - 1) // (in_blocks + 1)
    assert found == set(range(1, max(found) + 1))
