"""The engine's checkpoint: the catalogue's rows and the dumped index.

It is help, not truth: without one, or with one that does not parse, both are rebuilt from the
events.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import zstandard

from localmem_node.attributes import LABELS, Columns
from localmem_node.catalogue import Rows
from localmem_node.errors import DamagedIndex
from localmem_node.retrieval.slots import SLOTS_MAX
from localmem_protocol.events import KINDS

VERSION: Final = 3
PLAIN_BYTES_MAX: Final = 1 << 31
_LEVEL: Final = 1  # it is made while writers wait

_COLUMNS: Final = ("<i8", "<i8", "<u8", "<u8", "<u8", "<i8", "u1", *("<i4" for _ in LABELS))
_CONTRADICTION: Final = "the saved index contradicts itself; it is rebuilt"


class Checkpoint(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """See the module. `columns` are those of `Rows`, then of its `Columns`, little-endian; `names`
    those of each label; `retention` is the policy's.

    `encoders` are fingerprints: of the one in use, and of those whose place it is taking.
    """

    version: int
    columns: list[bytes]
    names: list[list[str]]
    retention: bytes
    index: bytes
    encoders: list[str] = []

    def rows(self) -> Rows:
        """The rows of the catalogue. Raises DamagedIndex when they contradict each other."""
        columns: list[npt.NDArray[Any]] = []
        for column, kind in zip(self.columns, _COLUMNS, strict=False):
            whole = len(column) // np.dtype(kind).itemsize * np.dtype(kind).itemsize
            columns.append(np.frombuffer(column[:whole], kind))
        if len(columns) != len(_COLUMNS) or len({len(column) for column in columns}) != 1:
            raise DamagedIndex(_CONTRADICTION)
        slots, ordinals, clocks, devices, sequences, timestamps, kinds, *labels = columns
        about = Columns(timestamps, kinds, np.array(labels, np.int32), self.names)
        rows = Rows(slots, ordinals, clocks, devices, sequences, about)
        events = len(slots)
        sound = (
            0 <= int(slots.min(initial=0)) <= int(slots.max(initial=0)) < SLOTS_MAX
            and int(ordinals.min(initial=1)) >= 1
            and len(np.unique(slots)) == len(np.unique(ordinals)) == events
            and int(kinds.max(initial=0)) < len(KINDS)
            and len(self.names) == len(LABELS)
            and all(map(_fits, labels, self.names))
        )
        if not sound:
            raise DamagedIndex(_CONTRADICTION)
        return rows


def make_checkpoint(
    rows: Rows, index: bytes, retention: bytes = b"", encoders: Sequence[str] = ()
) -> bytes:
    """The bytes of a checkpoint."""
    arrays: tuple[npt.NDArray[Any], ...] = (
        rows.slots, rows.ordinals, rows.clocks, rows.devices, rows.sequences,
        rows.about.timestamps, rows.about.kinds, *rows.about.labels
    )  # fmt: skip
    columns = [array.astype(kind).tobytes() for array, kind in zip(arrays, _COLUMNS, strict=True)]
    checkpoint = Checkpoint(VERSION, columns, rows.about.names, retention, index, [*encoders])
    return zstandard.compress(msgspec.msgpack.encode(checkpoint), _LEVEL)


def _fits(numbers: npt.NDArray[np.int32], names: list[str]) -> bool:
    """Whether a column of labels names nothing but what is there, and no name stands twice."""
    within = int(numbers.min(initial=-1)) >= -1 and int(numbers.max(initial=-1)) < len(names)
    return within and len(set(names)) == len(names)


def read_checkpoint(payload: bytes) -> Checkpoint:
    """The inverse. Raises DamagedIndex for what is no checkpoint of this version."""
    try:
        size = zstandard.frame_content_size(payload)
        if not 0 <= size <= PLAIN_BYTES_MAX:
            raise DamagedIndex("the saved index is too large; it is rebuilt")
        plain = zstandard.decompress(payload)
        checkpoint = msgspec.msgpack.decode(plain, type=Checkpoint)
    except (zstandard.ZstdError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedIndex(f"the saved index does not parse ({error}); it is rebuilt") from None
    if checkpoint.version != VERSION:
        raise DamagedIndex("the saved index is of another version; it is rebuilt")
    return checkpoint
