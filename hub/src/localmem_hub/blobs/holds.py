"""Who compacts a room: the holder of the lease of a blob beside its log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from localmem_hub.blobs.container import Container

LEASE_SECONDS: Final = 60
"""Longer than a compaction takes, and as long as the next one waits for a process that died."""


@dataclass(frozen=True)
class BlobHold:
    """A lease. Should it end before the work is done, then two processes do the same work, and one of
    them finds in the end that it was done (`switching.py`)."""

    container: Container
    name: str
    lease: str

    @classmethod
    def take(cls, container: Container, name: str) -> BlobHold | None:
        """The lease of this blob; None while another process has it."""
        lease = container.lease(name, LEASE_SECONDS)
        return None if lease is None else cls(container, name, lease)

    def release(self) -> None:
        """As `Hold` says."""
        self.container.release(self.name, self.lease)
