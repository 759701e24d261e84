"""The engine's checkpoint: what goes in comes out, and nothing else parses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.attributes import LABELS, Columns
from localmem_node.catalogue import Catalogue, Rows
from localmem_node.checkpoint import VERSION, Checkpoint, make_checkpoint, read_checkpoint
from localmem_node.errors import DamagedIndex
from localmem_node.retrieval.slots import SLOTS_MAX
from localmem_node.selection import Selection
from localmem_protocol.events import KINDS

NAMES = [["a", "b"], [], ["x"], ["/src/a.py", "b.py", "c"]]
Row = tuple[int, ...]

_row = st.tuples(
    st.integers(0, 2**23),
    st.integers(1, 2**63 - 1),
    st.integers(0, 2**63),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**63),
    st.integers(0, 2**47 - 1),
    st.integers(0, len(KINDS) - 1),
    *(st.integers(-1, len(names) - 1) for names in NAMES),
)
_rows = st.lists(_row, max_size=20, unique_by=(lambda row: row[0], lambda row: row[1]))


def rows_of(found: Sequence[Row], names: list[list[str]] = NAMES) -> Rows:
    def column(at: int, kind: Any) -> Any:
        return np.array([row[at] for row in found], kind)

    labels = np.array([column(7 + at, np.int32) for at in range(len(LABELS))], np.int32)
    about = Columns(column(5, np.int64), column(6, np.uint8), labels, names)
    order = [column(at, np.uint64) for at in (2, 3, 4)]
    return Rows(column(0, np.int64), column(1, np.int64), order[0], order[1], order[2], about)


def row(slot: int, ordinal: int, kind: int = 0, labels: Sequence[int] = (-1, -1, -1, -1)) -> Row:
    return (slot, ordinal, 0, 0, 0, 0, kind, *labels)


@given(_rows, st.binary(), st.binary())
def test_a_checkpoint_round_trips(found: list[Row], index: bytes, retention: bytes) -> None:
    checkpoint = read_checkpoint(make_checkpoint(rows_of(found), index, retention))
    rows = checkpoint.rows()
    about = rows.about
    columns = (rows.slots, rows.ordinals, rows.clocks, rows.devices, rows.sequences,
               about.timestamps, about.kinds, *about.labels)  # fmt: skip
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == found
    assert (about.names, checkpoint.index, checkpoint.retention) == (NAMES, index, retention)


@pytest.mark.parametrize(
    ("found", "names"),
    [
        ([row(5, 1), row(5, 2)], NAMES),
        ([row(5, 1), row(6, 1)], NAMES),
        ([row(-1, 1)], NAMES),
        ([row(SLOTS_MAX, 1)], NAMES),
        ([row(1, 0)], NAMES),
        ([row(1, 1, kind=len(KINDS))], NAMES),
        ([row(1, 1, kind=255)], NAMES),
        ([row(1, 1, labels=(2, -1, -1, -1))], NAMES),
        ([row(1, 1, labels=(-2, -1, -1, -1))], NAMES),
        ([row(1, 1, labels=(-1, 0, -1, -1))], NAMES),
        ([row(1, 1, labels=(-1, -1, -1, 3))], NAMES),
        ([row(1, 1)], [["a", "a"], [], [], []]),
        ([row(1, 1)], [[], [], [], ["p", "p"]]),
        ([row(1, 1)], [[], [], []]),
        ([row(1, 1)], [[], [], [], [], []]),
    ],
)
def test_rows_that_cannot_be_are_refused(found: list[Row], names: list[list[str]]) -> None:
    with pytest.raises(DamagedIndex, match="contradicts itself"):
        read_checkpoint(make_checkpoint(rows_of(found, names), b"")).rows()


def test_one_of_another_version_is_refused() -> None:
    older = Checkpoint(VERSION - 1, [], [], b"", b"")
    with pytest.raises(DamagedIndex, match="another version"):
        read_checkpoint(zstandard.compress(msgspec.msgpack.encode(older)))


@given(st.binary(max_size=100))
def test_other_bytes_are_refused(payload: bytes) -> None:
    with pytest.raises(DamagedIndex):
        read_checkpoint(payload)


@given(st.data())
def test_altered_bytes_are_refused_or_differ_in_what_they_hold(data: st.DataObject) -> None:
    payload = bytearray(make_checkpoint(rows_of([row(n, n + 1) for n in range(5)]), b"i"))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] ^= data.draw(st.integers(1, 255))
    try:
        checkpoint = read_checkpoint(bytes(payload))
        rows = checkpoint.rows()
    except DamagedIndex:
        return
    assert isinstance(checkpoint.index, bytes)
    assert len(restored(rows)) == len(rows.slots)


_few_rows = _rows.map(lambda rows: [(row[0] % 2**10, *row[1:]) for row in rows]).filter(
    lambda rows: len({row[0] for row in rows}) == len(rows)
)
_columns = st.lists(st.binary(max_size=40), min_size=9, max_size=13)
_names = st.lists(st.lists(st.sampled_from(["a", "b", ""]), max_size=3), max_size=5)


@given(_columns, _names, st.data())
def test_whatever_columns_say_they_are_refused_or_make_a_catalogue(
    columns: list[bytes], names: list[list[str]], data: st.DataObject
) -> None:
    sound = read_checkpoint(make_checkpoint(rows_of(data.draw(_few_rows)), b""))
    count = len(sound.rows().slots)
    for at in range(len(columns)):
        if at < len(sound.columns) and data.draw(st.booleans()):
            columns[at] = sound.columns[at]
        elif data.draw(st.booleans()):
            columns[at] = (columns[at] * 20 * count)[: 8 * count]
    chosen = data.draw(st.sampled_from([names, sound.names]))
    checkpoint = Checkpoint(VERSION, columns, chosen, b"", b"")
    try:
        rows = checkpoint.rows()
    except DamagedIndex:
        return
    assert len(restored(rows)) == len(rows.slots)


def restored(rows: Rows) -> Catalogue:
    """The catalogue of rows, which answers, and empties."""
    ids = [str(number) for number in range(len(rows.slots))]
    catalogue = Catalogue.restore("0" * 16, rows, ids)
    for selection in (Selection(file="a"), Selection(project="b", kind=("edit",), since=5)):
        mask = catalogue.mask(selection)
        assert mask is not None
        assert int(mask.sum()) == len(catalogue.newest(100, selection))
    for ordinal in rows.ordinals.tolist():
        catalogue.remove(ordinal)
    assert catalogue.rows().about.names == [[], [], [], []]
    return Catalogue.restore("0" * 16, rows, ids)
