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

from localmem_node.catalogue import Rows
from localmem_node.errors import DamagedIndex

VERSION: Final = 2
PLAIN_BYTES_MAX: Final = 1 << 31
_LEVEL: Final = 1  # it is made while writers wait

_COLUMNS: Final = ("<i8", "<i8", "<u8", "<u8", "<u8", "<i4")


class Checkpoint(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """See the module. `columns` are those of `Rows`, little-endian; `retention` is the policy's.

    `encoders` are fingerprints: of the one in use, and of those whose place it is taking.
    """

    version: int
    columns: list[bytes]
    names: list[str]
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
            raise DamagedIndex("the saved index contradicts itself; it is rebuilt")
        rows = Rows(
            columns[0], columns[1], columns[2], columns[3], columns[4], columns[5], self.names
        )
        events = len(rows.slots)
        sound = (
            int(rows.slots.min(initial=0)) >= 0
            and int(rows.ordinals.min(initial=1)) >= 1
            and len(np.unique(rows.slots)) == len(np.unique(rows.ordinals)) == events
            and int(rows.projects.min(initial=0)) >= -1
            and int(rows.projects.max(initial=-1)) < len(self.names)
            and len(set(self.names)) == len(self.names)
        )
        if not sound:
            raise DamagedIndex("the saved index contradicts itself; it is rebuilt")
        return rows


def make_checkpoint(
    rows: Rows, index: bytes, retention: bytes = b"", encoders: Sequence[str] = ()
) -> bytes:
    """The bytes of a checkpoint."""
    arrays: tuple[npt.NDArray[Any], ...] = (
        rows.slots, rows.ordinals, rows.clocks, rows.devices, rows.sequences, rows.projects
    )  # fmt: skip
    columns = [array.astype(kind).tobytes() for array, kind in zip(arrays, _COLUMNS, strict=True)]
    checkpoint = Checkpoint(VERSION, columns, rows.names, retention, index, [*encoders])
    return zstandard.compress(msgspec.msgpack.encode(checkpoint), _LEVEL)


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
