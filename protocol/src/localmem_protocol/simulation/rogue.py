"""A connection with a good token and bad intentions.

It says hello as it should, then sends one hostile thing, and comes again later: noise, altered
copies of what others sent, others' updates in its own name, gaps, absurd clocks, deletions of what
is not its own, batches that nobody can open. A hub must refuse and keep aside what breaks a rule,
and nobody else may notice anything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from localmem_protocol.errors import ProtocolError
from localmem_protocol.frames import (
    CAPABILITIES,
    PROTOCOL,
    Hello,
    Step1,
    Update,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.limits import CLOCK_MAX
from localmem_protocol.simulation.clock import SECOND, Timeline
from localmem_protocol.simulation.network import Link
from localmem_protocol.simulation.streams import SeededRandom
from localmem_protocol.updates import Item, encode_update
from localmem_protocol.updates import Update as Structs

ROGUE: Final = "f" * 16
"""The device id of its token."""

SEEN_MAX: Final = 64
"""Frames of others that it remembers."""


class Ground(Protocol):
    """What a rogue needs of the world."""

    timeline: Timeline

    def connect_rogue(self, rogue: Rogue) -> Link:
        """A connection that begins now."""
        ...

    def struck(self, fault: str) -> None:
        """A fault struck."""
        ...

    def note(self, who: str, what: str) -> None:
        """A line for the trace."""
        ...


class Rogue:
    """One hostile device. `seen` are frames of others."""

    def __init__(self, ground: Ground, stream: SeededRandom, victims: tuple[str, ...]) -> None:
        self.seen: deque[bytes] = deque(maxlen=SEEN_MAX)
        self._ground, self._stream, self._victims = ground, stream, victims
        self._link: Link | None = None
        self._client = 0
        self._clock = 0
        self._attacks: tuple[Callable[[], bytes], ...] = (
            self._noise,
            self._altered,
            self._replayed,
            self._altered,
            self._anothers_array,
            self._gap,
            self._end_of_time,
            self._deletion,
            self._unreadable,
            self._unreadable,
            self._another,
            self._bad_vector,
        )

    def strike(self) -> None:
        """Connect, unless it is connected."""
        if self._link is None:
            self._client = 0
            self._link = self._ground.connect_rogue(self)
            self._ground.timeline.after(60 * SECOND, self._leave)

    def opened(self) -> None:
        """As `DeviceEnd` says."""
        assert self._link is not None
        if self._stream.strikes(100):
            self._send(self._noise())  # before any hello
            return
        self._link.send_up(encode_frame(Hello(PROTOCOL, CAPABILITIES, ROGUE, self._client)))

    def received(self, data: bytes) -> None:
        """As `DeviceEnd` says."""
        try:
            frame = decode_frame(data)
        except ProtocolError:
            return
        if isinstance(frame, Welcome) and self._link is not None and not self._client:
            self._client, self._clock = frame.client, frame.clock
            for _ in range(self._stream.between(1, 3)):
                self._send(self._stream.pick(self._attacks)())

    def closed(self, code: int | None) -> None:
        """As `DeviceEnd` says."""
        self._link = None

    def _leave(self) -> None:
        if self._link is not None:
            link, self._link = self._link, None
            link.hang_up()

    def _send(self, data: bytes) -> None:
        if self._link is not None:
            self._ground.struck("poison")
            self._ground.note("rogue", f"sends {len(data)} bytes")
            self._link.send_up(data)

    def _noise(self) -> bytes:
        return self._stream.token_bytes(self._stream.between(0, 60))

    def _replayed(self) -> bytes:
        return self._stream.pick(self.seen) if self.seen else self._noise()

    def _altered(self) -> bytes:
        data = bytearray(self._replayed())
        for _ in range(self._stream.between(1, 4) if data else 0):
            data[self._stream.below(len(data))] = self._stream.below(256)
        return bytes(data)

    def _update(self, item: Item, deletes: dict[int, list[tuple[int, int]]] | None = None) -> bytes:
        return encode_frame(Update(encode_update(Structs({self._client: [item]}, deletes or {}))))

    def _sealed(self) -> bytes:
        return bytes([self._stream.below(256)]) + self._stream.token_bytes(self._stream.below(200))

    def _anothers_array(self) -> bytes:
        victim = self._stream.pick(self._victims)
        return self._update(Item(self._clock, 1, (self._sealed(),), root=victim))

    def _gap(self) -> bytes:
        return self._update(Item(self._clock + 3, 1, (self._sealed(),), root=ROGUE))

    def _end_of_time(self) -> bytes:
        return self._update(Item(CLOCK_MAX - 2, 2, None, root=ROGUE))

    def _deletion(self) -> bytes:
        client = self._stream.between(1, 4)
        return encode_frame(
            Update(encode_update(Structs({}, {client: [(0, self._stream.between(1, 5))]})))
        )

    def _unreadable(self) -> bytes:
        """Allowed by every rule: the hub cannot tell, and the receivers count it."""
        item = Item(self._clock, 1, (self._sealed(),), root=ROGUE)
        if self._clock:
            item = Item(self._clock, 1, (self._sealed(),), origin=(self._client, self._clock - 1))
        data = self._update(item)
        self._clock += 1
        return data

    def _another(self) -> bytes:
        victim = self._stream.pick(self._victims)
        return encode_frame(Hello(PROTOCOL, CAPABILITIES, victim, self._stream.below(5)))

    def _bad_vector(self) -> bytes:
        return encode_frame(Step1(self._stream.token_bytes(self._stream.below(9))))
