"""The reading half of the engine: what answers a query, what is newest, what this device wrote.

Ordinals come from the live state, under its lock; events are read from the store without it. What a
search needs no vector for is done beside the encoding of the query. What a writer copies forward in
between has moved: then everything is asked once more in the writer's place, where both agree.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from localmem_node.background import BackgroundEncoder
from localmem_node.beside import Beside
from localmem_node.commit_pipeline import CommitPipeline
from localmem_node.event_cache import EventCache
from localmem_node.live_state import LiveState
from localmem_node.results import RECENT_MAX, Found, check_k, check_query
from localmem_node.retrieval.index import Prepared
from localmem_node.seams import Encoder
from localmem_node.selection import Selection
from localmem_node.store.event_store import EventStore
from localmem_node.timings import Timings
from localmem_protocol.events import Event, Order

logger = logging.getLogger(__name__)

BEGINNING_CHARACTERS: Final = 300
END_CHARACTERS: Final = 500
"""Of a long query its ends are encoded: an encoder takes some 1,000 characters, and what is asked
stands before what was pasted, or after it."""


def ends_of(query: str) -> str:
    """What is encoded of a query."""
    if len(query) <= BEGINNING_CHARACTERS + END_CHARACTERS:
        return query
    return f"{query[:BEGINNING_CHARACTERS]}\n{query[-END_CHARACTERS:]}"


class Place(NamedTuple):
    """Where an event is that was found, and what `results.Found` says of it."""

    ordinal: int
    score: float = 0.0
    evidence: tuple[tuple[str, float], ...] = ()
    duplicates: int = 0


Places = list[Place]


class Reader:
    """Thread-safe."""

    def __init__(
        self,
        store: EventStore,
        encoder: Encoder,
        live: LiveState,
        cache: EventCache,
        pipeline: CommitPipeline,
        background: BackgroundEncoder,
        timings: Timings,
        *,
        now: Callable[[], datetime],
    ) -> None:
        """`now` is what a question means by today."""
        self._store, self._encoder = store, encoder
        self._live, self._cache, self._pipeline = live, cache, pipeline
        self._background, self._timings, self._now = background, timings, now
        self.is_warm = False
        """Whether the encoder was asked before, so that it need not be loaded."""
        self._beside = Beside("localmem-search")

    def query_recent(
        self,
        k: int,
        query: str,
        selection: Selection,
        *,
        counted: bool = True,
        explain: bool = False,
    ) -> list[Found]:
        """The k events among those meant that answer a query best, best first. Raises QueryError.

        They count as an answer unless it is said that they do not; with `explain` each has its
        evidence. A query about nothing that is here finds nothing.
        """
        k, query = check_k(k), check_query(query)
        if not len(self._live):
            return []
        with self._timings.measured("query"), self._background.yielding():
            now = self._now()
            search = partial(self._search, query, selection, now, explain)
            beside = self._beside.begin(partial(self._prepare, query, k, selection, now))
            with self._timings.measured("encode"):
                vector = self._query_vector(query)
            with self._timings.measured("search"):
                prepared: Prepared | None = beside.result()
                wanted = k
                while True:
                    places, found = self._found(partial(search, vector, wanted, prepared))
                    if len(found) >= k or len(places) < wanted:
                        break
                    # Some left the ring between the search and the reading.
                    wanted, prepared = wanted + k - len(found), None
            if counted:
                self._live.answered([one.event.id for one in found[:k]])
            return found[:k]

    def recent(self, k: int, selection: Selection) -> list[Found]:
        """The k newest events that are meant, by `Event.order`, newest first. Raises QueryError."""
        k = check_k(k, RECENT_MAX)

        def newest() -> Places:
            with self._live.lock:
                return [Place(ordinal) for ordinal in self._live.catalogue.newest(k, selection)]

        return self._found(newest)[1]

    def around(self, event_id: str, older: int, newer: int, selection: Selection) -> list[Event]:
        """An event and its neighbours in time among those meant, oldest first; empty without it."""

        def neighbours() -> Places:
            with self._live.lock:
                near = self._live.catalogue.around(event_id, older, newer, selection)
                return [Place(ordinal) for ordinal in near]

        return [one.event for one in self._found(neighbours)[1]]

    def page(self, after: Order | None, limit: int) -> tuple[list[Event], Order | None]:
        """The live events that follow `after` in the order, at most `limit`, and where to go on.

        None begins, and says that there is no more. A page may lack events that left meanwhile.
        """
        ends: list[Order] = []

        def following() -> Places:
            with self._live.lock:
                places = self._live.catalogue.after(after, limit)
            ends[:] = [order for order, _ in places]
            return [Place(ordinal) for _, ordinal in places]

        found = self._found(following, self._store.get)[1]
        end = ends[-1] if len(ends) == limit else None
        return [one.event for one in found], end

    def own_events(self, after: int, limit: int) -> list[Event]:
        """This device's events with a sequence above `after`, ascending, at most `limit`."""

        def own() -> Places:
            with self._live.lock:
                return [Place(ordinal) for ordinal in self._live.catalogue.own_after(after, limit)]

        return [found.event for found in self._found(own, self._store.get)[1]]

    def at(self, device: str, sequence: int, clock: int | None = None) -> list[Event]:
        """The events of a device at a sequence, and at a clock if one is given."""

        def there() -> Places:
            with self._live.lock:
                ordinals = self._live.catalogue.at(device, sequence, clock)
                return [Place(ordinal) for ordinal in ordinals]

        return [found.event for found in self._found(there, self._store.get)[1]]

    def warm(self) -> None:
        """Load the encoder."""
        self._query_vector("warm up")

    def close(self) -> None:
        """End the thread that searches beside the encoder; questions go on to be answered."""
        self._beside.close()

    def _found(
        self,
        find: Callable[[], Places],
        get: Callable[[int], Event | None] | None = None,
    ) -> tuple[Places, list[Found]]:
        """What `find` gave, and the events that could be read."""
        places = find()
        events = [(get or self._cache.get)(place.ordinal) for place in places]
        if None in events:
            # A writer was copying some forward; once it is done, all is where it is said to be.
            with self._pipeline.exclusive():
                places = find()
                events = [self._store.get(place.ordinal) for place in places]
                pairs = zip(places, events, strict=True)
                self._pipeline.drop(place.ordinal for place, event in pairs if event is None)
        found = [
            Found(event, *place[1:])
            for event, place in zip(events, places, strict=True)
            if event is not None
        ]
        return places, found

    def _prepare(self, query: str, k: int, selection: Selection, now: datetime) -> Prepared:
        with self._live.lock:
            return self._live.index.prepare(
                query, k, among=self._live.catalogue.mask(selection), now=now
            )

    def _search(
        self,
        query: str,
        selection: Selection,
        now: datetime,
        explain: bool,
        vector: npt.NDArray[np.float32] | None,
        k: int,
        prepared: Prepared | None,
    ) -> Places:
        with self._live.lock:
            if prepared is None or not self._live.index.is_current(prepared):
                among = self._live.catalogue.mask(selection)
                prepared = self._live.index.prepare(query, k, among=among, now=now)
            hits = self._live.index.finish(prepared, vector, k, explain=explain, floor=True)
            places = [(self._live.catalogue.ordinal(hit.slot), hit) for hit in hits]
        return [
            Place(ordinal, hit.score, hit.evidence, hit.duplicates)
            for ordinal, hit in places
            if ordinal is not None
        ]

    def _query_vector(self, query: str) -> npt.NDArray[np.float32] | None:
        if self._background.problem:
            return None
        try:
            vector: npt.NDArray[np.float32] = self._encoder.encode([ends_of(query)])[0]
            self.is_warm = True
            return vector
        except Exception as error:
            logger.exception("the encoder does not work; searching by words alone")
            self._background.problem = " ".join(str(error).split()) or type(error).__name__
            return None
