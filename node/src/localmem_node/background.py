"""The thread that gives events their vectors, after they were acknowledged, and then does idle work.

Newest first: what was just recorded is what will be asked for, and in a full ring the oldest are
about to leave. Queries go first: while one is being answered the thread waits, for a while at most,
so that a stream of queries does not starve it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Condition, Thread
from typing import Final

import numpy as np
import numpy.typing as npt

from localmem_node.errors import NodeError
from localmem_node.seams import Encoder

logger = logging.getLogger(__name__)

BATCH_TEXTS: Final = 4
"""Texts encoded at once: some 60 ms, the longest that a query may find the other core busy."""

COURTESY_S: Final = 0.25
"""The longest that one batch waits for queries."""

REST_S: Final = 0.02
"""Between the first event of a queue and its encoding, which takes every core for some milliseconds:
whoever recorded it gets the answer first, and the next ones may come along."""

IDLE_PAUSE_S: Final = 0.002
"""Between two steps of idle work, which are about as long: others get the lock that a step takes."""

Vectors = Sequence[tuple[int, npt.NDArray[np.float32]]]


class BackgroundEncoder:
    """Takes ordinals, fetches their texts, encodes, and hands the vectors back.

    `text_of` returns None for an event that is gone; `keep` is called with at most BATCH_TEXTS
    vectors and whether they are the last for now. An encoder that raises stops the encoding: the
    events stay searchable by words, and `problem` says why. `idle` does a small step of other work
    when nothing is queued, and says whether there is more.
    """

    def __init__(
        self,
        encoder: Encoder,
        text_of: Callable[[int], str | None],
        keep: Callable[[Vectors, bool], None],
        idle: Callable[[], bool] = lambda: False,
    ) -> None:
        self._encoder = encoder
        self._idle = idle
        self._has_idle_work = True  # until it says otherwise; each batch may make some
        self._text_of = text_of
        self._keep = keep
        self._changed = Condition()
        self._pending: dict[int, None] = {}  # as an ordered set: the newest last
        self._queries = 0
        self._waits_for_queries = False
        self._busy = 0
        self._is_fresh = False  # whether what is queued has just begun to be
        self._drains = 0
        self._closing = False
        self.problem: str | None = None
        self._thread = Thread(target=self._run, name="localmem-encoder", daemon=True)

    def start(self, ordinals: Iterable[int]) -> None:
        """Begin, with events that were left without a vector, oldest first."""
        self._pending.update(dict.fromkeys(ordinals))
        self._thread.start()

    def push(self, ordinals: Iterable[int]) -> None:
        """Queue events, oldest first."""
        with self._changed:
            was_empty = not self._pending
            self._pending.update(dict.fromkeys(ordinals))
            self._is_fresh = self._is_fresh or (was_empty and bool(self._pending))
            self._changed.notify_all()

    def forget(self, ordinals: Iterable[int]) -> None:
        """Events that are gone; without this a ring that wraps faster than it is encoded would queue
        them for ever.
        """
        with self._changed:
            for ordinal in ordinals:
                self._pending.pop(ordinal, None)
            self._changed.notify_all()  # `drain` may have waited for them

    @property
    def pending(self) -> int:
        """Events that wait for their vector."""
        with self._changed:
            return len(self._pending) + self._busy

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do, idle work neither."""
        return not self.pending and not self._has_idle_work

    @contextmanager
    def yielding(self) -> Iterator[None]:
        """While inside, a query is being answered."""
        with self._changed:
            self._queries += 1
        try:
            yield
        finally:
            with self._changed:
                self._queries -= 1
                if not self._queries and self._waits_for_queries:
                    self._changed.notify_all()  # only then: waking a thread costs 0.02 ms

    def drain(self) -> None:
        """Return when nothing is queued. Raises NodeError if the encoder does not work."""
        with self._changed:
            self._drains += 1
            self._changed.notify_all()  # somebody waits: no rest
            self._changed.wait_for(
                lambda: self._closing or self.problem or not (self._pending or self._busy)
            )
            self._drains -= 1
            if self.problem:
                raise NodeError(f"the encoder does not work: {self.problem}")

    def close(self) -> None:
        """Stop after the batch under way."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            if not batch:
                self._has_idle_work = self._did_idle_work()
                continue
            self._has_idle_work = True
            try:
                self._encode(batch)
            except Exception as error:
                logger.exception("encoding stopped; search goes on by words alone")
                with self._changed:
                    self.problem = " ".join(str(error).split()) or type(error).__name__
            with self._changed:
                self._busy = 0
                self._changed.notify_all()

    def _did_idle_work(self) -> bool:
        try:
            return self._idle()
        except Exception:
            logger.exception("idle work stopped")
            return False

    def _next(self) -> list[int] | None:
        """The next batch; empty for idle work, None when closing."""
        with self._changed:
            while True:
                self._changed.wait_for(
                    lambda: self._closing or (self._pending and not self.problem),
                    IDLE_PAUSE_S if self._has_idle_work else None,
                )
                if self._is_fresh:
                    self._changed.wait_for(lambda: self._closing or self._drains, REST_S)
                    self._is_fresh = False
                self._waits_for_queries = True
                self._changed.wait_for(lambda: self._closing or not self._queries, COURTESY_S)
                self._waits_for_queries = False
                if self._closing:
                    return None
                if self._has_idle_work and (self.problem or not self._pending):
                    return []
                if self.problem:
                    continue
                count = min(BATCH_TEXTS, len(self._pending))
                self._busy = count
                if count:  # what was pending may have been forgotten meanwhile
                    return [self._pending.popitem()[0] for _ in range(count)][::-1]

    def _encode(self, batch: Sequence[int]) -> None:
        texts = {ordinal: self._text_of(ordinal) for ordinal in batch}
        present = {ordinal: text for ordinal, text in texts.items() if text is not None}
        vectors = self._encoder.encode(list(present.values())) if present else ()
        with self._changed:
            last = not self._pending
        self._keep(list(zip(present, vectors, strict=True)), last)
