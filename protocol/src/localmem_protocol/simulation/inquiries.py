"""What devices ask a hub about its roster, over the same lines as everything else.

A question and its answer are single messages: each takes its own time, may be lost, be doubled, or be
overtaken; whoever hears nothing gives up after a while. A question that arrives twice is answered twice,
and the second answer is for nobody.

    ("read", start)             ("roster", start, entries, length of all, hash of the last)
    ("append", length, entry)   ("appended", whether it is there)
                                ("removed",), ("refused", why)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from localmem_protocol.simulation.clock import MS, SECOND, Timeline
from localmem_protocol.simulation.network import BYTES_PER_MS, GIVE_UP_US, Line, Taps

ASK = "roster"
"""The kind of these messages, in the traffic."""

pack = msgspec.msgpack.encode


def unpack(data: bytes) -> list[Any]:
    """A question or an answer."""
    return msgspec.msgpack.decode(data, type=list[Any])


class Inquiry:
    """One question. `heard` gets the answer, or None when there is none; once."""

    def __init__(
        self,
        timeline: Timeline,
        line: Line,
        taps: Taps,
        ask: Callable[[bytes], bytes | None],
        heard: Callable[[bytes | None], None],
    ) -> None:
        self._timeline, self._line, self._taps = timeline, line, taps
        self._ask, self._heard = ask, heard
        self._open = True

    def send(self, data: bytes) -> None:
        """Ask."""
        self._timeline.after(GIVE_UP_US, lambda: self._end(None))
        self._carry("up", data, self._arrived)

    def _arrived(self, data: bytes) -> None:
        answer = self._ask(data)
        if answer is not None:
            self._carry("down", answer, self._end)

    def _end(self, answer: bytes | None) -> None:
        if self._open:
            self._open = False
            self._heard(answer)

    def _carry(self, way: str, data: bytes, deliver: Callable[[bytes], None]) -> None:
        line, stream = self._line, self._line.stream
        self._taps.message(line, way, data)
        if not line.up:
            return
        if stream.strikes(line.loss):
            self._taps.fault("loss")
            return
        delay = line.latency.draw(stream) + line.delay_us + len(data) * MS // BYTES_PER_MS
        if stream.strikes(line.reorder):
            self._taps.fault("reorder")
            delay += stream.below(3 * SECOND)
        self._timeline.after(delay, lambda: deliver(data) if line.up else None)
        if stream.strikes(line.duplication):
            self._taps.fault("duplication")
            again = delay + stream.below(2 * SECOND)
            self._timeline.after(again, lambda: deliver(data) if line.up else None)
