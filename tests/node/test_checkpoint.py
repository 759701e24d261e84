"""The engine's checkpoint: what goes in comes out, and nothing else parses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.catalogue import Rows
from localmem_node.checkpoint import make_checkpoint, read_checkpoint
from localmem_node.errors import DamagedIndex

NAMES = ["a", "b"]

_row = st.tuples(
    st.integers(0, 2**23),
    st.integers(1, 2**63 - 1),
    st.integers(0, 2**63),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**63),
    st.integers(-1, 1),
)
_rows = st.lists(_row, max_size=20, unique_by=(lambda row: row[0], lambda row: row[1]))


def rows_of(found: Sequence[tuple[int, int, int, int, int, int]]) -> Rows:
    kinds = (np.int64, np.int64, np.uint64, np.uint64, np.uint64, np.int32)
    columns = [np.array([row[at] for row in found], kind) for at, kind in enumerate(kinds)]
    return Rows(*columns, names=NAMES)  # type: ignore[misc,arg-type]


@given(_rows, st.binary(), st.binary())
def test_a_checkpoint_round_trips(
    found: list[tuple[int, int, int, int, int, int]], index: bytes, retention: bytes
) -> None:
    checkpoint = read_checkpoint(make_checkpoint(rows_of(found), index, retention))
    rows = checkpoint.rows()
    assert list(zip(*(column.tolist() for column in rows[:-1]), strict=True)) == found
    assert (rows.names, checkpoint.index, checkpoint.retention) == (NAMES, index, retention)


@pytest.mark.parametrize(
    "found",
    [
        [(5, 1, 0, 0, 0, 0), (5, 2, 0, 0, 0, 0)],
        [(5, 1, 0, 0, 0, 0), (6, 1, 0, 0, 0, 0)],
        [(-1, 1, 0, 0, 0, 0)],
        [(1, 0, 0, 0, 0, 0)],
        [(1, 1, 0, 0, 0, 2)],
        [(1, 1, 0, 0, 0, -2)],
    ],
)
def test_rows_that_cannot_be_are_refused(found: list[tuple[int, int, int, int, int, int]]) -> None:
    with pytest.raises(DamagedIndex, match="contradicts itself"):
        read_checkpoint(make_checkpoint(rows_of(found), b"")).rows()


@given(st.binary(max_size=100))
def test_other_bytes_are_refused(payload: bytes) -> None:
    with pytest.raises(DamagedIndex):
        read_checkpoint(payload)


@given(st.data())
def test_altered_bytes_are_refused_or_differ_in_what_they_hold(data: st.DataObject) -> None:
    payload = bytearray(make_checkpoint(rows_of([(n, n + 1, n, n, n, 0) for n in range(5)]), b"i"))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] ^= data.draw(st.integers(1, 255))
    try:
        checkpoint = read_checkpoint(bytes(payload))
        checkpoint.rows()
    except DamagedIndex:
        return
    assert isinstance(checkpoint.index, bytes)
