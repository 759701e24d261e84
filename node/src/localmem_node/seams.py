"""The seams of a node: what can be swapped, and what each must hold.

`Clock` and `Random` are in `localmem_protocol.seams`. Above these: the engine, the sync agent.
Below: onnxruntime, numpy, the operating system, a hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt


class Encoder(Protocol):
    """Texts to unit vectors, the same for the same fingerprint."""

    @property
    def fingerprint(self) -> str:
        """Names model, revision and quantisation; stored beside every vector."""
        ...

    @property
    def dimensions(self) -> int:
        """Components of a vector."""
        ...

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """One row per text, L2-normalised: (len(texts), dimensions)."""
        ...


class VectorIndex(Protocol):
    """Nearest unit vectors by inner product. Slots are small integers that the engine hands out."""

    def put(self, slot: int, vector: npt.NDArray[np.float32]) -> None:
        """Add or replace the vector of a slot."""
        ...

    def reserve(self, slots: int) -> None:
        """Slots below this one are about to be used."""
        ...

    def put_many(self, slots: npt.NDArray[np.int64], vectors: npt.NDArray[np.float32]) -> None:
        """Add or replace the vectors of slots, a row each, in this order."""
        ...

    def vector(self, slot: int) -> npt.NDArray[np.float32] | None:
        """The vector of a slot, if it has one."""
        ...

    def remove(self, slot: int) -> None:
        """Forget a slot; unknown slots are ignored."""
        ...

    def scores_of(
        self, vectors: npt.NDArray[np.float32], slots: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Inner products with these slots (0 where a slot has no vector): (vectors, slots)."""
        ...

    def search(
        self,
        vector: npt.NDArray[np.float32],
        k: int,
        allowed: npt.NDArray[np.bool_] | None = None,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The k best slots and their inner products, best first, ties by lower slot.

        `allowed` names the slots that may be found; those beyond its end may not. An approximate
        index may miss some of the k.
        """
        ...

    def catch_up(self, count: int) -> bool:
        """Do what was put off, for at most `count` vectors; whether more waits."""
        ...

    def __len__(self) -> int: ...


class KeyStore(Protocol):
    """Where the key that wraps the store's own key is kept."""

    @property
    def location(self) -> str:
        """For people: where the key is."""
        ...

    def get(self, salt: bytes) -> bytes:
        """The 32-byte wrapping key. `salt` is the store's, 16 bytes.

        Raises KeyUnavailable when it is not there.
        """
        ...

    def create(self, salt: bytes) -> bytes:
        """A new wrapping key, kept where `get` finds it. Raises KeyUnavailable."""
        ...

    def discard(self, salt: bytes) -> None:
        """Nothing is sealed under the key of this salt any more."""
        ...


class Disk(Protocol):
    """The file operations that the ring stands on; the fault model replaces them."""

    def pread(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes at `offset` (fewer only at the end of the file)."""
        ...

    def pwrite(self, offset: int, data: bytes) -> None:
        """Write all of `data`; raises OSError, and then any part of it may be on disk."""
        ...

    def sync(self) -> None:
        """Return once everything written is on the medium; raises OSError."""
        ...

    def size(self) -> int:
        """Bytes in the file."""
        ...

    def close(self) -> None:
        """Give the file back."""
        ...
