"""What lasts of a device, in memory: an event log that tells its subscribers, and a journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from localmem_protocol.events import Event
from localmem_protocol.simulation import MemoryJournal, MemoryLog
from localmem_protocol.tombstones import TombstoneKey


class Log(MemoryLog):
    """A memory log that tells its subscriber."""

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self._callbacks: list[Callable[[], None]] = []

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    erasing_due = False
    rewritten = 0

    def forget(self, tombstones: Sequence[bytes], key: TombstoneKey) -> list[Event]:
        gone = super().forget(tombstones, key)
        self.erasing_due = self.erasing_due or bool(gone)
        return gone

    def finish_erasing(self) -> bool:
        due, self.erasing_due = self.erasing_due, False
        self.rewritten += due
        return due

    def happen(self, text: str) -> Event:
        event = self.record(text, 1_760_000_000_000 + self.position)
        for callback in self._callbacks:
            callback()
        return event


class Journal(MemoryJournal):
    def close(self) -> None:
        self.closed = True
