"""Own events that are in no batch yet: which they are, since when, and when they go.

They are in the event log, so nothing is lost by waiting. `batching` says how long; here is what it has
to know: when the first and the last of them came, as far as was seen, and who would see a batch
arrive. Before a hub has said anything about that, somebody might. What waited for a connection does not
wait longer on it: how old that is, nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from localmem_protocol.batching import Audience, Batching, Unsent
from localmem_protocol.durable import EventLog
from localmem_protocol.events import Event
from localmem_protocol.frames import Notice
from localmem_protocol.limits import BATCH_EVENTS_MAX
from localmem_protocol.presence import LISTENING, WAITING, WAITING_S
from localmem_protocol.references import Reference
from localmem_protocol.tombstones import TombstoneKey
from localmem_protocol.trimming import whole_sequences

_NEVER: Final = float("-inf")


class Pending:
    """`watermark` is the highest own sequence that is in the document, or need not be; `due_s` when
    what waits is to go, None if nothing does, and `gathered` how much that is. Moments are those of `Clock.monotonic_s`.
    """

    def __init__(
        self, log: EventLog, batching: Batching, watermark: int, key: TombstoneKey
    ) -> None:
        self.watermark = watermark
        self.due_s: float | None = None
        self.gathered = 0
        self._log = log
        self._batching = batching
        self._key = key
        self._present: set[str] = set()  # own events above the watermark that the document has
        self._referred: set[bytes] = set()  # …and the marks of those that it refers to
        self._listening: int | None = None  # as the hub said last
        self._ask_s = 0.0  # for so long from the next look on, nothing waits
        self._until_s = _NEVER  # until then nothing waits
        self._flowing = False  # all that is there goes, in as many batches as it takes
        self._seen = 0  # the newest sequence that was looked at
        self._oldest_s = self._newest_s = 0.0

    def __bool__(self) -> bool:
        return bool(self._log.own_events(self.watermark, 1))

    @property
    def alone(self) -> bool:
        """Whether the hub says that nobody else is there."""
        return self._listening == 0

    def begin(self, watermark: int = 0) -> None:
        """Another document, which has nothing of ours above this."""
        self.watermark = watermark
        self._present.clear()
        self._referred.clear()

    def connected(self) -> None:
        """A connection begins: who is there is not known any more."""
        self._listening, self.due_s = None, None

    def heard(self, notice: Notice) -> None:
        """The hub says who is there, or who waits; other notices mean nothing here."""
        if notice.kind == LISTENING:
            self._listening = notice.value
        elif notice.kind == WAITING:
            self.hurry(min(notice.value, WAITING_S))

    def hurry(self, seconds: float = 0.0) -> None:
        """All that is there goes as soon as it can, and all that comes in the next seconds."""
        self._flowing = True
        self._ask_s = max(self._ask_s, seconds)

    def note(self, events: Iterable[Event]) -> None:
        """The document has these."""
        self._present.update(
            event.id
            for event in events
            if event.device == self._log.device and event.sequence > self.watermark
        )

    def refer(self, reference: Reference, mark: bytes) -> None:
        """The document has a reference to an event, for which this tombstone would stand."""
        if reference.device == self._log.device and reference.sequence > self.watermark:
            self._referred.add(mark)

    def take(self, now_s: float, *, at_once: bool) -> tuple[list[Event], list[Event]]:
        """What is to go now, if it is time or `at_once`, as far as a batch has room: all of it, and
        those that the document lacks. The watermark is then behind them."""
        if self._ask_s:
            self._until_s, self._ask_s = max(self._until_s, now_s + self._ask_s), 0.0
        events = whole_sequences(self._log.own_events(self.watermark, BATCH_EVENTS_MAX + 1))
        fresh = [event for event in events if not self._is_present(event)]
        if events and not at_once and not self._is_time(fresh, now_s):
            return [], []
        self._flowing, self.due_s = bool(events), None
        if events:
            self.watermark = events[-1].sequence
        self._present.difference_update(event.id for event in events)
        return events, fresh

    def _is_present(self, event: Event) -> bool:
        if event.id in self._present:
            return True
        return bool(self._referred) and self._key.of(event.id) in self._referred

    def _is_time(self, fresh: list[Event], now_s: float) -> bool:
        """Whether these are to go; notes when they came, and when they are due."""
        if fresh and (self._seen <= self.watermark or self._seen != fresh[-1].sequence):
            if self._seen <= self.watermark:
                self._oldest_s = now_s
            self._newest_s, self._seen = now_s, fresh[-1].sequence
        if self._flowing:
            return True
        size = sum(len(event.snippet.encode()) for event in fresh)
        unsent = Unsent(len(fresh), size, self._oldest_s, self._newest_s)
        self.gathered = len(fresh)
        self.due_s = self._batching.due_s(unsent, self._audience(now_s))
        return self.due_s is None or self.due_s <= now_s

    def _audience(self, now_s: float) -> Audience:
        if now_s < self._until_s:
            return Audience.WAITING
        return Audience.NOBODY if self._listening == 0 else Audience.LISTENING
