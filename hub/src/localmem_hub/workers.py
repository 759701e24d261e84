"""The threads that wait for the database, so that the event loop never does.

One writes and two read: writes queue up behind each other anyway, and a room that is being loaded
must not keep the others' commits waiting. One more looks at a few rows, where an answer that came
late would let somebody stay who has lost the right to, or have a hub that works taken for one that
does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from localmem_hub.errors import StoppingError

Result = TypeVar("Result")

READERS: Final = 2


class Workers:
    """One writer thread, READERS reader threads and one that looks, started when they are needed."""

    def __init__(self) -> None:
        self._writer = ThreadPoolExecutor(1, "hub-writer")
        self._readers = ThreadPoolExecutor(READERS, "hub-reader")
        self._lookout = ThreadPoolExecutor(1, "hub-lookout")
        self._closed = False

    async def write(self, call: Callable[[], Result]) -> Result:
        """The result of a call that writes; calls run in the order in which they come.

        Raises StoppingError after `close`, as does `read`.
        """
        return await self._run(self._writer, call)

    async def read(self, call: Callable[[], Result]) -> Result:
        """The result of a call that only reads."""
        return await self._run(self._readers, call)

    async def look(self, call: Callable[[], Result]) -> Result:
        """The result of a call that reads a few rows and is not to wait behind others."""
        return await self._run(self._lookout, call)

    def close(self) -> None:
        """Let what runs finish, and start nothing more."""
        self._closed = True
        self._lookout.shutdown(wait=False, cancel_futures=True)
        self._writer.shutdown(wait=False, cancel_futures=True)
        self._readers.shutdown(wait=False, cancel_futures=True)

    async def _run(self, threads: ThreadPoolExecutor, call: Callable[[], Result]) -> Result:
        if self._closed:
            raise StoppingError("the hub is stopping; try again")
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, call)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                # Not this task, but what it had queued was cancelled, by `close`.
                raise StoppingError("the hub is stopping; try again") from None
            raise
