"""Reading all of a ring from the medium, to find what is damaged before somebody asks for it."""

from __future__ import annotations

from typing import Final

from localmem_node.store.blocks import parse_block
from localmem_node.store.directory import EVENT, FORGOTTEN, PINNED, VECTORS
from localmem_node.store.ring import Ring

BLOCKS_AT_ONCE: Final = 256
"""1 MiB, in a millisecond or two."""


def verify(ring: Ring) -> int:
    """Read every finished block; the records that are damaged are lost from here on.

    Returns the damaged blocks. May run beside readers and the writer. Raises StoreError when the ring
    is closed meanwhile.
    """
    geometry, damaged = ring.geometry, 0
    size = geometry.block_size
    number = ring.tail
    while number < ring.durable_head:
        number = max(number, ring.tail)
        run = min(
            BLOCKS_AT_ONCE, ring.durable_head - number, geometry.blocks - number % geometry.blocks
        )
        raw = memoryview(ring.read_medium(geometry.offset(number), run * size))
        for index in range(run):
            block = parse_block(raw[index * size : (index + 1) * size], size)
            if block is None or block.number != number + index:
                damaged += _look(ring, number + index)
        number += run
    ring.trust_map()
    return damaged


def _look(ring: Ring, number: int) -> bool:
    """Read the records of a block that did not read well; whether the block still counts."""
    suspects = ring.touching(number)
    if suspects is None:
        return False
    for ordinal, kind in suspects:
        kinds = (EVENT, VECTORS, FORGOTTEN) if kind is None else (kind & ~PINNED,)
        for one in kinds:
            ring.read(ordinal, one)
    return True
