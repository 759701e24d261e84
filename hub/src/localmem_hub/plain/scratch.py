"""The documents of a worker, and what is done to them. No I/O, and no trust in the library.

An update is examined before it is applied (`structs.py`) and looked for afterwards: what the library
says has changed must reach every clock that the updates reach. That change, and not what was sent,
is what is stored and passed on: one update for all that came in a turn.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from pycrdt import Doc, Text, TransactionEvent

from localmem_hub.plain.calls import (
    FITS,
    GAP,
    TOO_LARGE,
    Answer,
    Call,
    Compact,
    Done,
    Failed,
    Forget,
    Load,
    Missing,
    Turn,
    Turned,
    Verdict,
)
from localmem_hub.plain.limits import DOCUMENT_BYTES_MAX, HELD_BYTES_MAX
from localmem_hub.plain.structs import Examined, decode_vector, examine
from localmem_protocol.errors import UpdateError

NOTHING = b"\x00\x00"


class LostError(Exception):
    """The library did not do what it was asked to."""


class Held:
    """One document in memory. `size` is about its encoded bytes."""

    __slots__ = ("_changes", "doc", "size", "vector", "version")

    def __init__(self, version: int, updates: Sequence[bytes]) -> None:
        self.version = version
        self.doc: Doc[Text] = Doc()
        self._changes: list[bytes] = []
        if updates:
            with self.doc.transaction():
                for update in updates:
                    self.doc.apply_update(update)
        self.size = sum(map(len, updates))
        self.vector = decode_vector(self.doc.get_state())
        self.doc.observe(self._changed)

    def apply(self, updates: Sequence[bytes]) -> bytes:
        """What all of them come to; the vector is the caller's. Raises whatever the library does."""
        self._changes.clear()
        if updates:
            with self.doc.transaction():
                for update in updates:
                    self.doc.apply_update(update)
        changes = [change for change in self._changes if change != NOTHING]
        if len(changes) > 1:
            raise LostError("one transaction ended as several")
        self.size += sum(map(len, changes))
        return changes[0] if changes else b""

    def weigh(self) -> int:
        """Its size, measured."""
        self.size = len(self.doc.get_update())
        return self.size

    def _changed(self, event: TransactionEvent) -> None:
        self._changes.append(event.update)


class Scratch:
    """Every document that a worker holds."""

    def __init__(self, held_bytes_max: int = HELD_BYTES_MAX) -> None:
        self._held: OrderedDict[str, Held] = OrderedDict()  # the one used last is the last
        self._held_bytes_max = held_bytes_max

    def size(self, room: str) -> int:
        """Encoded bytes of a document, 0 if it is not here."""
        held = self._held.get(room)
        return held.size if held else 0

    def handle(self, call: Call) -> Answer:
        """Do as asked. What the library raises, a panic included, is Failed."""
        try:
            match call:
                case Load():
                    return self._load(call)
                case Turn():
                    return self._turn(call)
                case Compact(updates):
                    return Done(compacted(updates))
                case Forget(room):
                    self._held.pop(room, None)
                    return Done()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # pyo3's PanicException is no Exception
            if not isinstance(call, Compact):
                self._held.pop(call.room, None)
            return Failed(type(error).__name__)

    def _load(self, call: Load) -> Answer:
        self._held.pop(call.room, None)
        self._held[call.room] = Held(call.version, call.updates)
        self._make_room()
        return Done()

    def _turn(self, call: Turn) -> Answer:
        held = self._held.get(call.room)
        if held is None or held.version != call.base:
            return Missing()
        self._held.move_to_end(call.room)
        verdicts, fitting, ends = self._judge(held, call.updates)
        merged = held.apply(fitting)
        reached: Examined = examine(merged, {}) if merged else Examined()
        for client, end in ends.items():
            if reached.ends.get(client) != end:
                raise LostError("the library left something out")
        held.version = call.version
        answers = [_answer(held, vector) for vector in call.vectors]
        state = held.doc.get_state() if call.state or GAP in verdicts else b""
        self._make_room()
        return Turned(verdicts, merged, answers, state)

    def _judge(
        self, held: Held, updates: Sequence[bytes]
    ) -> tuple[list[Verdict], list[bytes], dict[int, int]]:
        """A verdict each, those that fit, and how far they bring each client that they bring on."""
        verdicts: list[Verdict] = []
        fitting: list[bytes] = []
        ends: dict[int, int] = {}
        coming = 0
        for update in updates:
            try:
                found = examine(update, held.vector)
            except UpdateError as error:
                verdicts.append(str(error))
                continue
            if not found.fits(held.vector):
                verdicts.append(GAP)
                continue
            if held.size + coming + len(update) > DOCUMENT_BYTES_MAX:
                coming = len(update) + sum(map(len, fitting))
                if held.weigh() + coming > DOCUMENT_BYTES_MAX:
                    coming -= len(update)
                    verdicts.append(TOO_LARGE)
                    continue
            else:
                coming += len(update)
            verdicts.append(FITS)
            fitting.append(update)
            for client, end in found.ends.items():
                if end > held.vector.get(client, 0):
                    held.vector[client] = ends[client] = end
        return verdicts, fitting, ends

    def _make_room(self) -> None:
        total = sum(held.size for held in self._held.values())
        while total > self._held_bytes_max and len(self._held) > 1:
            _, held = self._held.popitem(last=False)
            total -= held.size


def compacted(updates: Sequence[bytes]) -> bytes:
    """One update for all of these, deleted content left out, which loads again to the same.

    Raises LostError, and whatever the library does.
    """
    whole = Held(0, updates)
    snapshot = whole.doc.get_update()
    if Held(0, [snapshot]).vector != whole.vector:
        raise LostError("a snapshot that lacks something")
    return snapshot


def _answer(held: Held, vector: bytes) -> bytes | None:
    """What somebody with this state vector lacks."""
    try:
        decode_vector(vector)
    except UpdateError:
        return None
    return held.doc.get_update(vector)
