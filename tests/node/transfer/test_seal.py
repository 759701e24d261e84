"""Sealing: what went in comes out, and nothing else ever does."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.errors import (
    ConfigError,
    DamagedExport,
    KeyUnavailable,
    WrongExportVersion,
    WrongPassphrase,
)
from localmem_node.transfer.seal import (
    CHUNK_BYTES,
    HEADER_BYTES,
    MAGIC,
    TAG_BYTES,
    Sealer,
    Unsealer,
    open_key,
)
from support.exports import PASSPHRASE, chunks, sealed
from support.seeded import SeededRandom

TEXT = SeededRandom(5).token_bytes(3 * CHUNK_BYTES + 100)
SEALED = sealed(TEXT)


def unsealed(data: bytes, passphrase: str = PASSPHRASE) -> bytes:
    stream = io.BytesIO(data)
    key = open_key(passphrase, stream.read(HEADER_BYTES))
    with io.BufferedReader(Unsealer(stream, key), CHUNK_BYTES) as reader:
        return reader.read()


@pytest.mark.parametrize(
    "size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, len(TEXT)]
)
def test_what_was_sealed_comes_back(size: int) -> None:
    data = sealed(TEXT[:size])
    assert unsealed(data) == TEXT[:size]
    whole = max(1, -(-size // CHUNK_BYTES))
    assert len(data) == HEADER_BYTES + size + whole * TAG_BYTES
    assert TEXT[: min(size, 32)] not in data[HEADER_BYTES:] or not size


@given(st.lists(st.integers(0, 3000)))
def test_it_does_not_matter_in_which_pieces_it_is_written(sizes: list[int]) -> None:
    text = TEXT[: sum(sizes)]
    written: list[bytes] = []
    sealer = Sealer(written.append, bytes(32))
    start = 0
    for size in sizes:
        sealer.write(text[start : start + size])
        start += size
    sealer.finish()
    stream = io.BytesIO(b"".join(written))
    assert io.BufferedReader(Unsealer(stream, bytes(32))).read() == text


def test_two_seals_of_one_text_share_nothing() -> None:
    one, other = chunks(SEALED), chunks(sealed(TEXT, seed=1))
    assert all(ours != theirs for ours, theirs in zip(one, other, strict=True))


def test_a_wrong_passphrase_is_told_from_damage() -> None:
    with pytest.raises(WrongPassphrase, match="does not open"):
        unsealed(SEALED, "correct horsf")
    with pytest.raises(ConfigError, match="passphrase"):
        unsealed(SEALED, "")


@given(st.integers(0, len(SEALED) - 1), st.integers(0, 7))
def test_no_flipped_bit_goes_unnoticed(at: int, bit: int) -> None:
    data = bytearray(SEALED)
    data[at] ^= 1 << bit
    with pytest.raises((DamagedExport, WrongExportVersion)):
        unsealed(bytes(data))


@given(st.integers(0, len(SEALED) - 1))
def test_no_cut_goes_unnoticed(size: int) -> None:
    with pytest.raises(DamagedExport):
        unsealed(SEALED[:size])


@given(st.data())
def test_no_chunk_can_be_dropped_doubled_moved_or_brought_from_elsewhere(
    data: st.DataObject,
) -> None:
    parts = chunks(SEALED)
    assert len(parts) == 5
    alike = chunks(sealed(TEXT, seed=1))
    first = data.draw(st.integers(1, 4))
    what = data.draw(st.sampled_from(["drop", "double", "swap", "replace", "append"]))
    if what == "drop":
        del parts[first]
    elif what == "double":
        parts.insert(first, parts[first])
    elif what == "swap":
        second = data.draw(st.integers(1, 4).filter(lambda other: other != first))
        parts[first], parts[second] = parts[second], parts[first]
    elif what == "replace":
        parts[first] = alike[first]
    else:
        parts.append(data.draw(st.binary(min_size=1, max_size=100)))
    with pytest.raises(DamagedExport):
        unsealed(b"".join(parts))


def test_a_chunk_says_where_it_is_and_what_may_have_happened() -> None:
    with pytest.raises(DamagedExport, match=r"chunk 3 .* cut off"):
        unsealed(b"".join(chunks(SEALED)[:4]))
    parts = chunks(SEALED)
    parts[2] = bytes(len(parts[2]))
    with pytest.raises(DamagedExport, match=r"chunk 2 .* out of place$"):
        unsealed(b"".join(parts))


def test_what_comes_before_a_damaged_chunk_is_handed_out_but_never_the_end() -> None:
    parts = chunks(SEALED)
    parts[3] = bytes(len(parts[3]))
    stream = io.BytesIO(b"".join(parts))
    reader = io.BufferedReader(Unsealer(stream, open_key(PASSPHRASE, stream.read(HEADER_BYTES))))
    assert reader.read(2 * CHUNK_BYTES) == TEXT[: 2 * CHUNK_BYTES]
    with pytest.raises(DamagedExport):
        reader.read(1)


def forged(**changes: int) -> bytes:
    """A header whose checksum fits and whose cost or version is another."""
    numbers = {"version": 1, "memory": 32, "passes": 1, "lanes": 1} | changes
    content = struct.pack("<16sIIII16s32s", MAGIC, *numbers.values(), bytes(16), bytes(32))
    return content + struct.pack("<I", zlib.crc32(content))


@pytest.mark.parametrize(
    "changes",
    [{"memory": 2**32 - 1}, {"passes": 2**31}, {"lanes": 0}, {"passes": 0}, {"memory": 1, "lanes": 8}],
)  # fmt: skip
def test_a_header_cannot_ask_for_an_impossible_cost(changes: dict[str, int]) -> None:
    with pytest.raises(KeyUnavailable, match="impossible"):
        open_key(PASSPHRASE, forged(**changes))


def test_another_version_is_named() -> None:
    with pytest.raises(WrongExportVersion, match="version 2"):
        open_key(PASSPHRASE, forged(version=2))


def test_memory_does_not_grow_with_the_text() -> None:
    class Sink:
        size = 0

        def write(self, data: bytes) -> None:
            self.size += len(data)

    piece = TEXT[: 2 * CHUNK_BYTES]
    sink = Sink()
    sealer = Sealer(sink.write, bytes(32))
    tracemalloc.start()
    try:
        for _ in range(200):
            sealer.write(piece)
        sealer.finish()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sink.size > 200 * len(piece)
    assert peak < 8 * len(piece)
