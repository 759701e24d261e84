"""Following what becomes durable here: who watches gets each event once, from a place on.

The place is the last event that was seen. As long as `Arrivals` knows it, what follows is exact. After
a restart of the daemon, or a long absence, what comes after it in `Event.order` is told instead: every
later event of this device, and of others those that were recorded later, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from localmem_node.arrivals import Passed
from localmem_node.errors import QueryError, WatchTooSlow
from localmem_node.selection import FILTERS, Selection, check_ids, parse_selection
from localmem_protocol.events import Event, Order

if TYPE_CHECKING:  # who watches a daemon needs none
    from localmem_node.engine import Engine

WATCH_FIELDS: Final = ("after", "heartbeat_s", *FILTERS)

HEARTBEAT_S: Final = 15
HEARTBEAT_S_MAX: Final = 60
"""Seconds of quiet after which a heartbeat is sent. Whoever hears nothing for three has lost it."""

TAKEN_MAX: Final = 64
"""Events that are read at once: some milliseconds, and 4 MiB of the largest ones."""


class Watch:
    """One who watches. Not thread-safe: one `take` after the other."""

    def __init__(self, engine: Engine, selection: Selection, after: str | None = None) -> None:
        self._engine, self._selection = engine, selection
        self._begun, last = engine.arrivals.end()
        self._place = self._begun
        self._past: Order | None = None
        self.complete = True
        """Whether nothing that came after `after` is left out for sure."""
        self.after = after or last or next((one.event.id for one in engine.recent(1)), None)
        """Where to go on if nothing is told before the end; None where nothing is known."""
        if after is None:
            return
        place = engine.arrivals.place_after(after)
        if place is not None:
            self._place = place
            return
        anchor = engine.around(after, 0, 0)
        self._past = anchor[0].order if anchor else None
        self.complete = bool(anchor) and engine.is_alone

    def take(self) -> tuple[list[Event], bool]:
        """What is to be told next, and whether there may be more at once. Raises WatchTooSlow."""
        if self._past is not None:
            events, self._past = self._engine.page(self._past, TAKEN_MAX)
            # What arrived since it began is told in its turn.
            return [one for one in events if self._wants(one) and not self._is_new(one)], True
        try:
            ids = self._engine.arrivals.since(self._place, TAKEN_MAX)
        except Passed:
            raise WatchTooSlow("events came faster than they were read; watch again") from None
        self._place += len(ids)
        events = [event for one in ids for event in self._engine.around(one, 0, 0)]
        return [one for one in events if self._wants(one)], len(ids) == TAKEN_MAX

    def _wants(self, event: Event) -> bool:
        return self._selection.takes(event)

    def _is_new(self, event: Event) -> bool:
        place = self._engine.arrivals.place_after(event.id)
        return place is not None and place > self._begun


def parse_watch(fields: Mapping[str, Any]) -> tuple[Selection, str | None, int]:
    """(what is meant, the last event that was seen, seconds of quiet). Raises QueryError."""
    heartbeat_s = fields.get("heartbeat_s", HEARTBEAT_S)
    whole = isinstance(heartbeat_s, int) and not isinstance(heartbeat_s, bool)
    if not whole or not 1 <= heartbeat_s <= HEARTBEAT_S_MAX:
        raise QueryError("heartbeat_s", f"must be a whole number from 1 to {HEARTBEAT_S_MAX}")
    after = check_id("after", fields.get("after"))
    return parse_selection(fields), after, heartbeat_s


def check_id(name: str, value: object) -> str | None:
    """The id of an event, or None. Raises QueryError naming the field."""
    if value is None:
        return None
    try:
        return check_ids([value])[0]
    except QueryError:
        raise QueryError(name, "is not the id of an event") from None
