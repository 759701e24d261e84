"""Group commit: callers that wait for the disk at the same time share one sync.

Whoever gets the writer's place takes everything that has queued up by then, applies it and syncs
once; the others find their work done. A lone caller pays for nothing (DeWitt et al., 1984).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Generic, TypeVar

from localmem_node.errors import NodeError

Request = TypeVar("Request")
Result = TypeVar("Result")


class GroupCommit(Generic[Request, Result]):
    """Runs `apply` on queued requests, one group at a time; results come in the same order.

    When `apply` raises, every caller of that group gets the error.
    """

    def __init__(self, apply: Callable[[Sequence[Request]], Sequence[Result]]) -> None:
        self._apply = apply
        self._writer = Lock()
        self._queue_lock = Lock()
        self._queue: list[_Pending[Request, Result]] = []

    def submit(self, request: Request) -> Result:
        """The result of a request, once it is on disk."""
        pending = _Pending[Request, Result](request)
        with self._queue_lock:
            self._queue.append(pending)
        with self._writer:
            if not pending.done:
                self._run()
        if pending.error is not None:
            raise pending.error
        return pending.result[0]

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """The writer's place, for work that is not acknowledged to anybody."""
        with self._writer:
            yield

    def _run(self) -> None:
        with self._queue_lock:
            group, self._queue = self._queue, []
        try:
            results = self._apply([pending.request for pending in group])
            for pending, result in zip(group, results, strict=True):
                pending.result = [result]
        except BaseException as error:
            # Ctrl-C stops the thread it was meant for; the others learn that they were not served.
            shared = (
                error if isinstance(error, Exception) else NodeError("the write was interrupted")
            )
            for pending in group:
                pending.error = shared
            raise
        finally:
            for pending in group:
                pending.done = True


class _Pending(Generic[Request, Result]):
    def __init__(self, request: Request) -> None:
        self.request = request
        self.done = False
        self.result: list[Result] = []
        self.error: BaseException | None = None
