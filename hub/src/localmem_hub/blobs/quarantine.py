"""Updates that were refused, on blobs: kept for an operator, within bounds."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Sequence
from secrets import randbelow
from urllib.parse import quote, unquote

from localmem_hub.blobs import names
from localmem_hub.blobs.container import Container, Listed
from localmem_hub.limits import QUARANTINE_BYTES_MAX, QUARANTINE_ROWS_MAX
from localmem_hub.records import QuarantineRecord
from localmem_protocol.room import Quarantined

REASON_MAX = 500


class BlobQuarantine:
    """What rooms refused, and the operator's view of it."""

    def __init__(self, container: Container) -> None:
        self._container = container

    def add(self, room: str, refused: Sequence[Quarantined], now_ms: int) -> None:
        """Keep what was refused, and let the oldest go when there is too much of it."""
        if not refused:
            return
        first = now_ms * 1000 + randbelow(1000 - QUARANTINE_ROWS_MAX)
        for number, one in enumerate(refused[-QUARANTINE_ROWS_MAX:], start=first):
            told = {"device": one.device, "reason": quote(one.reason[:REASON_MAX], safe=" ,:()")}
            name = f"{names.quarantine(room)}{number:020d}"
            self._container.create(name, one.update, told | {"at_ms": str(now_ms)})
        size = 0
        kept = sorted(self._container.names(names.quarantine(room)), key=lambda one: one.name)
        for count, blob in enumerate(reversed(kept)):
            size += blob.size
            if count and (count >= QUARANTINE_ROWS_MAX or size > QUARANTINE_BYTES_MAX):
                self._container.delete(blob.name)

    def list(self, pool: str | None = None) -> list[QuarantineRecord]:
        """Every refused update, or those of one pool, oldest first."""
        return sorted((_record(one) for one in self._all(pool)), key=lambda one: one.id)

    def get(self, number: int) -> tuple[QuarantineRecord, bytes] | None:
        """One of them, and its bytes."""
        for one in self._all(None):
            if _record(one).id == number:
                blob = self._container.read(one.name)
                return None if blob is None else (_record(one), blob.data)
        return None

    def drop(self, numbers: Sequence[int]) -> int:
        """Let these go; how many were there."""
        wanted = set(numbers)
        return self._drop([one for one in self._all(None) if _record(one).id in wanted])

    def drop_all(self, pool: str | None = None) -> int:
        """Let all go, or those of one pool; how many there were."""
        return self._drop(list(self._all(pool)))

    def _drop(self, blobs: builtins.list[Listed]) -> int:
        for one in blobs:
            self._container.delete(one.name)
        return len(blobs)

    def _all(self, pool: str | None) -> Iterator[Listed]:
        prefix = names.QUARANTINE if pool is None else names.quarantine(pool)
        return self._container.names(prefix, metadata=True)


def _record(one: Listed) -> QuarantineRecord:
    _, room, number = one.name.split("/")
    told = one.metadata
    return QuarantineRecord(
        int(number),
        names.room_of(room),
        told.get("device", ""),
        unquote(told.get("reason", "")),
        one.size,
        int(told.get("at_ms", "0")),
    )
