"""A disk that fails as disks do: `localmem_node.seams.Disk` in memory, seeded.

What was written and not synced is, after a power cut, there or not or garbage, sector by sector,
in any mixture and order. Operations (writes and syncs) are numbered from 1; a plan says which of
them go wrong.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Final, Literal

from support.seeded import SeededRandom

SECTOR: Final = 512

Fault = Literal["cut", "cut midway", "kill", "EIO", "ENOSPC"]


class PowerCutError(BaseException):
    """The machine is off. Not an Exception: no code that is running gets to handle it."""


class KilledError(BaseException):
    """The process is gone; what it wrote is still in the operating system's memory."""


class FaultDisk:
    """`medium` is what a power cut leaves alone; reads see what was written last."""

    def __init__(
        self,
        random: SeededRandom,
        image: bytes = b"",
        plan: Mapping[int, Fault] | None = None,
        capacity: int | None = None,
    ) -> None:
        self.medium = bytearray(image)
        self.plan = dict(plan or {})
        self.operations = 0
        self.writes: list[tuple[int, int]] = []
        self._seen = bytearray(image)
        self._unsynced: list[tuple[int, bytes]] = []
        self._random = random
        self._capacity = capacity

    def pread(self, offset: int, size: int) -> bytes:
        """What was written last."""
        return bytes(self._seen[offset : offset + size])

    def pwrite(self, offset: int, data: bytes) -> None:
        """Write all, or a part and then fail."""
        fault = self._next()
        if fault == "cut":
            raise PowerCutError
        if fault is not None:
            self._take(offset, data[: self._random.below(len(data) + 1)])
            if fault == "cut midway":
                raise PowerCutError
            if fault == "kill":
                raise KilledError
            raise OSError(errno.EIO if fault == "EIO" else errno.ENOSPC, fault)
        self.writes.append((offset, len(data)))
        self._take(offset, data)

    def sync(self) -> None:
        """Make everything written last; or fail, with any part of it lost, as Linux does."""
        fault = self._next()
        if fault in ("cut", "cut midway"):
            raise PowerCutError
        if fault == "kill":
            raise KilledError
        if fault is not None:
            self.medium = bytearray(self.after_power_cut())
            self._seen = bytearray(self.medium)
            self._unsynced.clear()
            raise OSError(errno.EIO if fault == "EIO" else errno.ENOSPC, fault)
        self.medium = bytearray(self._seen)
        self._unsynced.clear()

    def size(self) -> int:
        """Bytes in the file."""
        return len(self._seen)

    def close(self) -> None:
        """Nothing to give back: what was written and not synced stays in memory."""

    def after_power_cut(self) -> bytes:
        """One of the images that the medium may hold if the power fails now."""
        image = bytearray(self.medium.ljust(len(self._seen), b"\0"))
        versions: dict[int, list[bytes]] = {}
        current = bytearray(image)
        for offset, data in self._unsynced:
            current[offset : offset + len(data)] = data
            for sector in range(offset // SECTOR, (offset + len(data) - 1) // SECTOR + 1):
                piece = bytes(current[sector * SECTOR : (sector + 1) * SECTOR])
                versions.setdefault(sector, []).append(piece)
        mood = self._random.choice(["lost", "kept", "mixed", "mixed", "torn"])
        for sector, written in sorted(versions.items()):
            place = slice(sector * SECTOR, (sector + 1) * SECTOR)
            fate = self._random.choice(["lost", "kept", "torn"]) if mood == "mixed" else mood
            if fate == "kept":
                image[place] = self._random.choice(written)
            elif fate == "torn":
                image[place] = self._random.token_bytes(len(image[place]))
        return bytes(image)

    def _next(self) -> Fault | None:
        self.operations += 1
        return self.plan.get(self.operations)

    def _take(self, offset: int, data: bytes) -> None:
        if self._capacity is not None and offset + len(data) > self._capacity:
            raise OSError(errno.ENOSPC, "ENOSPC")
        if not data:
            return
        if len(self._seen) < offset + len(data):
            self._seen.extend(bytes(offset + len(data) - len(self._seen)))
        self._seen[offset : offset + len(data)] = data
        self._unsynced.append((offset, bytes(data)))
