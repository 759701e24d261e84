"""One plain room in use: who is in it, what waits for the next turn, and what a turn leads to.

A room lives on the event loop and never waits. What its clients send is gathered; a turn takes all of
it, has it applied and stored elsewhere (`rooms.py`), and only then says what came of it:

    receive() ─▶ queue ─▶ take() ─▶ [worker: apply] ─▶ [store: commit] ─▶ conclude() ─▶ sinks

So nobody learns from the hub what the hub could forget. Presence alone is passed on at once: it is
never stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from localmem_hub.headroom import FULL
from localmem_hub.live import Sink
from localmem_hub.moment import Moment
from localmem_hub.plain.awareness import Awareness
from localmem_hub.plain.calls import FITS, GAP, TOO_LARGE, Verdict
from localmem_hub.plain.limits import (
    GAPS_MAX,
    GATHERED_FRAMES_MAX,
    TURN_BYTES_MAX,
)
from localmem_hub.plain.messages import (
    Changes,
    Presences,
    Query,
    Step1,
    changes,
    decode,
    denied,
    presences,
    step1,
    step2,
)
from localmem_protocol.errors import FrameError
from localmem_protocol.frames import Close
from localmem_protocol.room import Quarantined

NOTHING: Final = b"\x00\x00"


@dataclass(slots=True)
class Guest:
    """A connection in a room. `sender` is its token's id; `synced` once it was sent what it lacked."""

    sink: Sink
    sender: str
    writer: bool
    synced: bool = False
    gaps: int = 0
    frames: int = 0  # gathered, as `bytes` are
    bytes: int = 0


@dataclass(frozen=True)
class Written:
    """An update that a connection sent."""

    connection: int
    sender: str
    update: bytes


@dataclass(frozen=True)
class Work:
    """What one turn is about. `entered` are connections that have not been greeted."""

    written: Sequence[Written]
    asked: Mapping[int, bytes]  # connection -> its state vector
    entered: Sequence[int]

    @property
    def updates(self) -> list[bytes]:
        """What was sent, in order."""
        return [one.update for one in self.written]


@dataclass
class Outcome:
    """What a turn came to, before anybody is told. `rows` hold what is new; `answers` one per
    state vector, None for one that does not parse."""

    verdicts: list[Verdict] = field(default_factory=list)
    rows: list[bytes] = field(default_factory=list)
    answers: list[bytes | None] = field(default_factory=list)
    state: bytes = b""


class PlainRoom:
    """One room. `head` is the number of its newest stored row, `version` that of its document in a
    worker, 0 for none."""

    __slots__ = (
        "_asked",
        "_awareness",
        "_entered",
        "_guests",
        "_taken",
        "_written",
        "busy",
        "discarded",
        "full",
        "head",
        "loaded",
        "name",
        "rows_uncompacted",
        "version",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.head = 0
        self.version = 0
        self.loaded = False
        self.rows_uncompacted = 0
        self.busy = False
        self.discarded = False
        self.full = False  # there is no room to store anything
        self._guests: dict[int, Guest] = {}
        self._awareness = Awareness()
        self._written: list[Written] = []
        self._asked: dict[int, bytes] = {}
        self._entered: list[int] = []
        self._taken = Moment()

    @property
    def guests(self) -> int:
        """Connections in the room."""
        return len(self._guests)

    @property
    def waiting(self) -> bool:
        """Whether there is something for a turn."""
        return bool(self._written or self._asked or self._entered)

    @property
    def idle(self) -> bool:
        """Nobody is here and nothing is to be stored: the room can be forgotten."""
        return not self._guests and not self._written and not self.busy

    def join(self, connection: int, sink: Sink, sender: str, *, writer: bool) -> None:
        """Take in a connection; it is greeted in the next turn."""
        self._guests[connection] = Guest(sink, sender, writer)
        self._entered.append(connection)

    def leave(self, connection: int) -> None:
        """The connection is gone, and with it who was there through it. What it wrote is stored."""
        self._guests.pop(connection, None)
        self._asked.pop(connection, None)
        if connection in self._entered:
            self._entered.remove(connection)
        if ended := self._awareness.leave(connection):
            self._tell(presences(ended))

    async def ready(self, connection: int) -> None:
        """Wait while this connection has as much in the next turn as it may have."""
        while not self.hears(connection):
            await self._taken.wait()

    def hears(self, connection: int) -> bool:
        """Whether it is not so."""
        guest = self._guests.get(connection)
        if guest is None or self.discarded:
            return True
        return guest.frames < GATHERED_FRAMES_MAX and guest.bytes < TURN_BYTES_MAX

    def receive(self, connection: int, data: bytes) -> None:
        """Take one message."""
        guest = self._guests.get(connection)
        if guest is None or self.discarded:
            return
        try:
            message = decode(data)
        except FrameError as error:
            self._drop(connection, Close.BAD_FRAME, str(error))
            return
        guest.frames += 1
        guest.bytes += len(data)
        match message:
            case Step1(vector):
                self._asked[connection] = vector
            case Changes(update):
                self._write(connection, guest, update)
            case Presences(states):
                # To all, its sender too: a client that hears nothing for 30 s connects again.
                if news := self._awareness.apply(connection, states):
                    self._tell(presences(news))
            case Query():
                guest.sink.send(presences(self._awareness.states))

    def take(self) -> Work:
        """What the next turn is about; those who wait may send more."""
        size, count = 0, 0
        for count, one in enumerate(self._written, 1):  # noqa: B007
            size += len(one.update)
            if size > TURN_BYTES_MAX:
                break
        written, self._written = self._written[:count], self._written[count:]
        asked, self._asked = ({}, self._asked) if self._written else (self._asked, {})
        entered, self._entered = self._entered, []
        for guest in self._guests.values():
            guest.frames = guest.bytes = 0
        self._taken.has_come()
        return Work(written, asked, entered)

    @staticmethod
    def refused(work: Work, outcome: Outcome) -> list[Quarantined]:
        """What of it goes into quarantine: all that no client makes."""
        return [
            Quarantined(one.sender, one.update, verdict)
            for one, verdict in zip(work.written, outcome.verdicts, strict=True)
            if verdict not in (FITS, GAP, TOO_LARGE)
        ]

    @staticmethod
    def author(work: Work, outcome: Outcome) -> str:
        """Whom the rows of a turn are from: the first of those whose updates fit."""
        for one, verdict in zip(work.written, outcome.verdicts, strict=True):
            if verdict == FITS:
                return one.sender
        return ""

    def conclude(self, work: Work, outcome: Outcome) -> None:
        """It is stored: tell everybody what came of it."""
        self.head += len(outcome.rows)
        self.rows_uncompacted += len(outcome.rows)
        fitting = {
            one.connection
            for one, verdict in zip(work.written, outcome.verdicts, strict=True)
            if verdict == FITS
        }
        alone = next(iter(fitting)) if len(fitting) == 1 else None
        for row in outcome.rows:
            self.spread(row, but=alone)
        for connection, answer in zip(work.asked, outcome.answers, strict=True):
            self._answer(connection, answer)
        for connection in work.entered:
            self._greet(connection, outcome.state)
        for one, verdict in zip(work.written, outcome.verdicts, strict=True):
            self._judge(one.connection, verdict, outcome.state)

    def spread(self, update: bytes, *, but: int | None = None) -> None:
        """Pass a stored update on to everybody who was sent what was before it."""
        message = changes(update)
        for connection, guest in self._guests.items():
            if guest.synced and connection != but:
                guest.sink.send(message)

    def discard(self, code: int, reason: str) -> None:
        """Everybody out; whoever comes back gets another room."""
        self.discarded = True
        self._taken.has_come()
        for guest in self._guests.values():
            guest.sink.drop(code, reason)

    def _write(self, connection: int, guest: Guest, update: bytes) -> None:
        if update == NOTHING:  # what a client without changes answers
            return
        if not guest.writer:
            guest.sink.send(denied("this token may only read"))
            self._drop(connection, Close.READ_ONLY, "this token may only read")
            return
        if self.full:
            self._drop(connection, Close.STORE_FAILED, FULL)
            return
        self._written.append(Written(connection, guest.sender, update))

    def _answer(self, connection: int, answer: bytes | None) -> None:
        guest = self._guests.get(connection)
        if guest is None:
            return
        if answer is None:
            self._drop(connection, Close.BAD_FRAME, "a state vector that does not parse")
            return
        guest.synced = True
        guest.sink.send(step2(answer))

    def _greet(self, connection: int, state: bytes) -> None:
        guest = self._guests.get(connection)
        if guest is None:
            return
        if guest.writer:  # a reader would answer with what it may not write
            guest.sink.send(step1(state))
        if states := self._awareness.states:
            guest.sink.send(presences(states))

    def _judge(self, connection: int, verdict: Verdict, state: bytes) -> None:
        guest = self._guests.get(connection)
        if guest is None:
            return
        if verdict == FITS:
            guest.gaps = 0
        elif verdict == GAP:
            guest.gaps += 1
            if guest.gaps < GAPS_MAX:
                guest.sink.send(step1(state))  # its answer brings what is missing
            else:
                self._drop(connection, Close.GAP, "something before this is missing; connect again")
        elif verdict == TOO_LARGE:
            self._drop(connection, Close.TOO_LARGE, "the document would be too large")
        else:
            self._drop(connection, Close.REFUSED_UPDATE, verdict)

    def _drop(self, connection: int, code: int, reason: str) -> None:
        guest = self._guests.get(connection)
        if guest is not None:
            guest.sink.drop(code, reason[:120])
            self.leave(connection)

    def _tell(self, message: bytes) -> None:
        for guest in self._guests.values():
            guest.sink.send(message)
