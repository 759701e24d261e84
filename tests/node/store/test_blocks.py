"""Framing, records and the directory: the pure parts of the store."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.errors import ConfigError, StoreError
from localmem_node.store.blocks import Block, OpenBlock, frames, parse_block
from localmem_node.store.directory import EVENT, VECTORS, Directory
from localmem_node.store.layout import (
    DEFAULT_BYTES,
    HEADER_BYTES,
    WRAPPED_BYTES,
    Cost,
    Geometry,
    Identity,
    State,
    finish_header,
    header_version,
    pack_header,
    unpack_header,
)
from localmem_node.store.records import (
    decode_event,
    decode_vectors,
    encode_event,
    encode_vectors,
    encoder_id,
)
from localmem_protocol.lineage import RUNS_MAX, Lineage, Run
from support.events import event

SIZE = 512
OPEN_ID = b"openedby"
BODIES = st.lists(
    st.tuples(st.sampled_from([EVENT, VECTORS]), st.integers(28, 1500)), min_size=1, max_size=30
)


def written(bodies: list[tuple[int, int]]) -> tuple[list[Block], list[tuple[int, int, bytes]]]:
    """The blocks that hold these records, and (ordinal, kind, body) of each."""
    opened = OpenBlock(SIZE, 7, 100, OPEN_ID)
    offered = []
    for index, (kind, length) in enumerate(bodies):
        opened.position()
        body = bytes([index + 1]) * length
        offered.append((opened.next_ordinal, kind, body))
        opened.place(kind, body)
    raw = [piece for _, piece in opened.finished] + [opened.packed()]
    blocks = [parse_block(piece, SIZE) for piece in raw]
    return [block for block in blocks if block is not None], offered


@given(BODIES)
def test_records_of_any_length_come_back_from_the_blocks(bodies: list[tuple[int, int]]) -> None:
    blocks, offered = written(bodies)
    assert [block.number for block in blocks] == list(range(7, 7 + len(blocks)))
    found = list(frames(((block.number, block) for block in blocks), SIZE))
    assert [(frame.ordinal, frame.kind, frame.body) for frame in found] == offered
    assert len({frame.position for frame in found}) == len(found)


@given(BODIES, st.data())
def test_a_missing_block_costs_only_the_records_that_touch_it(
    bodies: list[tuple[int, int]], data: st.DataObject
) -> None:
    blocks, offered = written(bodies)
    gone = data.draw(st.integers(0, len(blocks) - 1))
    holed = [(b.number, None if index == gone else b) for index, b in enumerate(blocks)]
    found = {frame.ordinal: frame.body for frame in frames(holed, SIZE)}
    whole = {f.ordinal: f for f in frames(((b.number, b) for b in blocks), SIZE)}
    for ordinal, _, body in offered:
        first, offset = divmod(whole[ordinal].position, SIZE)
        last = first + (offset - 32 + 4 + len(body) - 1) // (SIZE - 32)
        if first <= blocks[gone].number <= last:
            assert ordinal not in found
        else:
            assert found[ordinal] == body


@given(st.binary(min_size=SIZE, max_size=SIZE), st.integers(0, 2**32 - 1))
def test_arbitrary_bytes_under_a_correct_checksum_never_crash_the_reader(
    raw: bytes, number: int
) -> None:
    sound = zlib.crc32(raw[4:]).to_bytes(4, "little") + raw[4:]
    block = parse_block(sound, SIZE)
    if block is not None:
        list(frames([(number, block), (number + 1, block)], SIZE))


@given(st.integers(0, SIZE * 8 - 1))
def test_any_flipped_bit_in_a_block_shows(bit: int) -> None:
    opened = OpenBlock(SIZE, 7, 100, OPEN_ID)
    opened.position()
    opened.place(EVENT, bytes(100))
    raw = bytearray(opened.packed())
    raw[bit // 8] ^= 1 << bit % 8
    assert parse_block(bytes(raw), SIZE) is None


def state(**changes: int) -> State:
    plain = State(
        generation=5,
        head=1000,
        tail=990,
        first_ordinal=40,
        next_ordinal=77,
        sequence=70,
        clock=2**62,
        used=33,
        open_checksum=2**32 - 1,
        lineage=RUNS,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


RUNS = Lineage(tuple(Run(2**40 + number, b"run %4d" % number) for number in range(RUNS_MAX)))


def identity(size: int = DEFAULT_BYTES) -> Identity:
    return Identity(
        geometry=Geometry.of(size),
        device=b"12345678",
        salt=bytes(range(16)),
        key_mode=2,
        cost=Cost(65536, 3, 4),
        wrapped=bytes(range(WRAPPED_BYTES)),
        recovery_key=bytes(range(100, 132)),
        recovery_sealed=bytes(range(112)),
    )


@pytest.mark.parametrize("size", [8192, 10240, 2**20 - 1, 2**20, DEFAULT_BYTES, 2**32, 2**40])
def test_a_header_round_trips_and_starts_as_documented(size: int) -> None:
    raw = finish_header(pack_header(identity(size), state()), bytes(32))
    assert len(raw) == HEADER_BYTES
    assert raw[:4] == b"LMEM"
    assert int.from_bytes(raw[4:8], "little") == header_version(raw) == 2
    geometry = Geometry.of(size)
    write_pos = int.from_bytes(raw[8:16], "little")
    assert write_pos == geometry.offset(1000) + 32 + 33
    assert write_pos < geometry.index_offset <= size
    assert unpack_header(raw) == (identity(size), state())


@given(st.integers(0, HEADER_BYTES * 8 - 1))
def test_any_flipped_bit_in_a_header_shows(bit: int) -> None:
    raw = bytearray(finish_header(pack_header(identity(), state()), bytes(32)))
    raw[bit // 8] ^= 1 << bit % 8
    assert header_version(bytes(raw)) is None


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES))
def test_arbitrary_headers_are_refused_without_a_crash(raw: bytes) -> None:
    parsed = unpack_header(raw)
    assert parsed is None or parsed[0].geometry.sound()


@pytest.mark.parametrize("size", [8192, 10240, 65537, 2**20 - 1, 2**20, 2**26, 2**32, 2**40])
def test_the_parts_of_a_file_do_not_overlap_and_fill_it(size: int) -> None:
    geometry = Geometry.of(size)
    assert geometry.sound()
    assert geometry.ring_offset == 2 * geometry.slot_bytes
    end = geometry.ring_offset + geometry.blocks * geometry.block_size
    assert end == geometry.index_offset
    assert size - geometry.block_size < geometry.index_offset + geometry.index_bytes <= size
    assert 0 < geometry.slack < geometry.blocks
    if size >= 2**20:
        assert size // 4 - 8192 < geometry.index_bytes <= size // 4
    else:
        assert geometry.index_bytes == 0


def test_a_size_out_of_bounds_names_the_bounds() -> None:
    with pytest.raises(ConfigError, match="8192 to 1099511627776"):
        Geometry.of(8191)


def test_the_own_device_and_the_clock_cost_nearly_nothing() -> None:
    offered = event(1)
    own, foreign = encode_event(offered, offered.device), encode_event(offered, "ff" * 8)
    assert decode_event(own, offered.device) == decode_event(foreign, "ff" * 8) == offered
    assert len(foreign) - len(own) >= 8


@given(st.binary(max_size=200))
def test_bytes_that_are_no_event_are_refused(record: bytes) -> None:
    with pytest.raises(StoreError):
        decode_event(record, "00" * 8)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_vectors_are_refused(record: bytes) -> None:
    try:
        _, ordinals, found = decode_vectors(1000, record)
    except StoreError:
        return
    assert len(ordinals) == len(found)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@given(st.integers(1, 600), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_vectors_keep_their_direction(dimensions: int, count: int, seed: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    record = encode_vectors(5000, encoder_id("m"), list(enumerate(rows, 100)))
    assert len(record) == 10 + count * (4 + dimensions)
    encoder, ordinals, found = decode_vectors(5000, record)
    assert encoder == encoder_id("m")
    assert ordinals.tolist() == list(range(100, 100 + count))
    assert float(np.einsum("ij,ij->i", rows, found).min()) > 0.999


@given(
    st.lists(st.tuples(st.sampled_from([EVENT, VECTORS]), st.integers(0, 2)), max_size=40),
    st.data(),
)
def test_the_directory_agrees_with_a_table(
    entries: list[tuple[int, int]], data: st.DataObject
) -> None:
    directory = Directory(10)
    table: dict[int, tuple[int, int]] = {}
    ordinal = 10
    for index, (kind, skipped) in enumerate(entries):
        ordinal += skipped
        directory.put(ordinal, 100 * index, kind)
        table[ordinal] = (100 * index, kind)
        ordinal += 1
    for lost in data.draw(
        st.lists(st.sampled_from(sorted(table)), max_size=3) if table else st.just([])
    ):
        directory.lose(lost)
        table.pop(lost, None)
    limit = data.draw(st.integers(0, 4200))
    gone = {o for o, (position, _) in table.items() if position < limit}
    expected = [o for o in sorted(gone) if table[o][1] == EVENT]
    assert directory.evict_before(limit) == expected
    remaining = {o: entry for o, entry in table.items() if o not in gone}
    for kind in (EVENT, VECTORS):
        assert directory.ordinals(kind) == [o for o, (_, k) in remaining.items() if k == kind]
    assert directory.events == sum(kind == EVENT for _, kind in remaining.values())
    assert directory.lost == directory.next - directory.first - len(remaining)
    for o in range(ordinal + 3):
        for kind in (EVENT, VECTORS):
            there = o in remaining and remaining[o][1] == kind
            assert directory.position(o, kind) == (remaining[o][0] if there else None)


def test_the_directory_stays_as_small_as_what_is_live() -> None:
    directory = Directory(1)
    for ordinal in range(1, 100_001):
        directory.put(ordinal, ordinal, EVENT)
        if ordinal > 1000:
            directory.evict_before(ordinal - 999)
    assert directory.events == 1000
    assert len(directory._positions) <= 2 * 4096 + 2000
