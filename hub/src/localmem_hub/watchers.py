"""Who waits for a pool to change: requests that were told nothing is new yet."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Watchers:
    """Requests that wait, by pool. All methods belong to one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[asyncio.Event, str]] = {}  # pool -> event -> device
        self._heads: dict[str, int] = {}  # what was said of those that somebody waits for
        self._closed = False

    async def wait(self, pool: str, device: str, seconds: float) -> bool:
        """Until the pool changed (maybe), the device was released, or time is up; whether to go on
        waiting makes sense."""
        if self._closed:
            return False
        event = asyncio.Event()
        here = self._waiting.setdefault(pool, {})
        here[event] = device
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await event.wait()
            return event in here and not self._closed
        finally:
            here.pop(event, None)
            if not here and self._waiting.get(pool) is here:
                del self._waiting[pool]
                self._heads.pop(pool, None)

    def changed(self, pool: str) -> None:
        """Something new is stored: everybody looks."""
        for event in self._waiting.get(pool, ()):
            event.set()

    def roster_changed(self, pool: str) -> None:
        """The roster of a pool did: everybody in a room of its epochs looks."""
        for room in self._rooms_of(pool):
            self.changed(room)

    def follows(self, pool: str) -> bool:
        """Whether somebody waits in a room of a pool's epochs."""
        return bool(self._rooms_of(pool))

    def _rooms_of(self, pool: str) -> list[str]:
        return [room for room in self._waiting if room.startswith(f"{pool}.")]

    @property
    def pools(self) -> list[str]:
        """The pools that somebody waits for."""
        return list(self._waiting)

    def looked(self, pool: str, head: int) -> None:
        """The pool's newest row has this number: whoever waits looks, unless it was so before."""
        if pool in self._waiting and self._heads.get(pool) != head:
            self._heads[pool] = head
            self.changed(pool)

    def wake(self) -> None:
        """Everybody looks."""
        for pool in self._waiting:
            self.changed(pool)

    def release(self, pool: str, device: str) -> None:
        """A device comes with something to say: its own change is no news to it."""
        here = self._waiting.get(pool, {})
        for event in [event for event, waiting in here.items() if waiting == device]:
            del here[event]
            event.set()

    def close(self) -> None:
        """Nobody waits any more."""
        self._closed = True
        self.wake()
