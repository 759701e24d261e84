"""The two slots at the start of a ring file: header and open block, written to the older one.

So the last acknowledged state stays whole in one slot while the other is being written.
"""

from __future__ import annotations

from dataclasses import replace

from localmem_node.seams import Disk
from localmem_node.store.layout import Identity, State, finish_header, pack_header
from localmem_node.store.vault import Vault


class Slots:
    """`durable` is the newest state on the medium, `durable_open` the open block that goes with it."""

    def __init__(
        self,
        disk: Disk,
        identity: Identity,
        vault: Vault,
        *,
        newest: int,
        generation: int,
        durable: State,
        durable_open: bytes,
    ) -> None:
        """`newest` is the slot, 0 or 1, that is not to be written next."""
        self._disk, self._identity, self._vault = disk, identity, vault
        self._newest, self._generation = newest, generation
        self.durable, self.durable_open = durable, durable_open

    def write(self, state: State, packed: bytes) -> None:
        """Write to the older slot and sync; then it is the newer. Raises OSError."""
        state = replace(state, generation=self._generation + 1)
        target = 1 - self._newest
        offset = target * self._identity.geometry.slot_bytes
        self._disk.pwrite(offset, pack_slot(self._identity, state, packed, self._vault))
        self._disk.sync()
        self._generation, self._newest = state.generation, target
        self.durable, self.durable_open = state, packed

    def repeat(self) -> None:
        """Write the durable state to the other slot as well. Raises OSError."""
        self.write(self.durable, self.durable_open)


def pack_slot(identity: Identity, state: State, packed: bytes, vault: Vault) -> bytes:
    """The bytes of a slot: the header, zeros to the end of its block, the open block."""
    tagged = pack_header(identity, state)
    header = finish_header(tagged, vault.tag(tagged))
    return header.ljust(identity.geometry.block_size, b"\0") + packed
