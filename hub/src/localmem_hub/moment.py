"""Something that happens again and again, and can be waited for. There are some in every room."""

from __future__ import annotations

import asyncio


class Moment:
    """While nobody waits it is one small object; an `asyncio.Event` has a queue for those who may come.

    Belongs to one event loop.
    """

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next: asyncio.Future[None] | None = None

    def has_come(self) -> None:
        """Whoever waits for it goes on."""
        waiting, self._next = self._next, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def wait(self) -> None:
        """Wait until it comes, from now on."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._next)  # there may be others
