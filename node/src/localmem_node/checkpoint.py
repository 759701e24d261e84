"""The engine's checkpoint: the dumped index, and which event each of its slots holds.

`slots` and `ordinals` are parallel columns of little-endian int64. It is help, not truth: without
one, or with one that does not parse, the index is rebuilt from the events.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
import zstandard

from localmem_node.errors import DamagedIndex

VERSION: Final = 1
PLAIN_BYTES_MAX: Final = 1 << 30
_LEVEL: Final = 1  # 3.9 times smaller in 27 ms for 10,000 events; level 3 gains 5 % more


class Checkpoint(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """See the module."""

    version: int
    slots: bytes
    ordinals: bytes
    index: bytes

    def places(self) -> dict[int, int]:
        """Ordinal to slot. Raises DamagedIndex when it contradicts itself."""
        slots, ordinals = (np.frombuffer(column, "<i8") for column in (self.slots, self.ordinals))
        places = dict(zip(ordinals.tolist(), slots.tolist(), strict=False))
        if not len(slots) == len(ordinals) == len(places) == len(set(places.values())):
            raise DamagedIndex("the saved index contradicts itself; it is rebuilt")
        return places


def make_checkpoint(places: dict[int, int], index: bytes) -> bytes:
    """The bytes of a checkpoint; `places` maps ordinal to slot."""
    slots = np.fromiter(places.values(), "<i8", len(places)).tobytes()
    ordinals = np.fromiter(places, "<i8", len(places)).tobytes()
    plain = msgspec.msgpack.encode(Checkpoint(VERSION, slots, ordinals, index))
    return zstandard.compress(plain, _LEVEL)


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
    if checkpoint.version != VERSION or len(checkpoint.slots) % 8 or len(checkpoint.ordinals) % 8:
        raise DamagedIndex("the saved index is of another version; it is rebuilt")
    return checkpoint
