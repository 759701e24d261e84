"""What a Yjs update (format V1) holds, and what it builds on, without a CRDT library.

Whether an update can be placed has to be known before it is applied: a library takes one whose
dependencies are missing without an error, keeps it aside, and leaves it out of every snapshot. So
this reads each struct once, with bounds on everything that a length or a depth can blow up, and
keeps per client where it begins, where it ends, and the farthest clock that anything new in it
needs. Layout as in Yjs' `UpdateDecoder.js` and `structs/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from localmem_hub.plain.limits import CLOCK_MAX, DEPTH_MAX, STRUCTS_MAX, VECTOR_CLIENTS_MAX
from localmem_protocol.errors import UpdateError
from localmem_protocol.wire import Reader

_GC: Final = 0
_SKIP: Final = 10
_HAS_ORIGIN: Final = 0x80
_HAS_RIGHT_ORIGIN: Final = 0x40
_HAS_PARENT_KEY: Final = 0x20
_NAMED_TYPES: Final = (3, 5)  # XML element and hook
_TYPES: Final = 6
_TEXT_BYTES: Final = 2**53 - 1  # the update's own size bounds it


@dataclass
class Examined:
    """What an update holds. `ends` is the clock after the last struct of each client."""

    starts: dict[int, int] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    deleted: dict[int, int] = field(default_factory=dict)  # client -> clock after the last delete
    needs: dict[int, int] = field(default_factory=dict)  # client -> clock after the last needed
    holes: bool = False  # clocks between its structs that the document lacks

    def fits(self, vector: Mapping[int, int]) -> bool:
        """Whether everything that this builds on is in it, or in a document that reaches so far.

        It must have been examined for that document.
        """
        if self.holes:
            return False
        ends = self.ends
        return all(start <= vector.get(client, 0) for client, start in self.starts.items()) and all(
            clock <= max(vector.get(client, 0), ends.get(client, 0))
            for wanted in (self.needs, self.deleted)
            for client, clock in wanted.items()
        )


def examine(data: bytes, vector: Mapping[int, int]) -> Examined:
    """Read an update for a document that reaches this far. Raises UpdateError for what is none.

    What the document has already needs nothing.
    """
    reader = Reader(data, UpdateError)
    found = Examined()
    left = STRUCTS_MAX
    for _ in range(reader.varuint(STRUCTS_MAX)):
        count = reader.varuint(left)
        left -= count
        client, clock = reader.varuint(), reader.varuint(CLOCK_MAX)
        if client in found.ends:
            raise UpdateError("a client listed twice")
        known = vector.get(client, 0)
        found.starts[client] = clock
        for _ in range(count):
            clock = _read_struct(reader, client, clock, known, found)
        found.ends[client] = clock
    _read_deletes(reader, left, found)
    reader.finish()
    return found


def decode_vector(data: bytes) -> dict[int, int]:
    """client -> next clock, of a state vector. Raises UpdateError."""
    reader = Reader(data, UpdateError)
    vector: dict[int, int] = {}
    for _ in range(reader.varuint(VECTOR_CLIENTS_MAX)):
        client = reader.varuint()
        vector[client] = reader.varuint(CLOCK_MAX)
    reader.finish()
    return vector


def _read_struct(reader: Reader, client: int, clock: int, known: int, found: Examined) -> int:
    """Read one struct; the clock after it."""
    info = reader.byte()
    if info == _SKIP:
        end = _end(clock, reader.varuint(CLOCK_MAX))
        if end > known:  # in what is new
            found.holes = True
        return end
    if info & 0x1F == _GC:
        return _end(clock, reader.varuint(CLOCK_MAX))
    needed: list[tuple[int, int]] = []
    if info & _HAS_ORIGIN:
        needed.append((reader.varuint(), reader.varuint(CLOCK_MAX)))
    if info & _HAS_RIGHT_ORIGIN:
        needed.append((reader.varuint(), reader.varuint(CLOCK_MAX)))
    if not needed:
        if reader.varuint() == 1:
            reader.text(_TEXT_BYTES)
        else:
            needed.append((reader.varuint(), reader.varuint(CLOCK_MAX)))
        if info & _HAS_PARENT_KEY:
            reader.text(_TEXT_BYTES)
    read = _CONTENTS.get(info & 0x1F)
    if read is None:
        raise UpdateError(f"a struct of kind {info:#04x}, which Yjs 13 does not have")
    end = _end(clock, read(reader))
    if end > known:
        for author, at in needed:
            if author == client and at >= clock:
                raise UpdateError(f"client {client} builds on its own future at clock {clock}")
            _need(found, author, at + 1)
    return end


def _need(found: Examined, client: int, clock: int) -> None:
    if clock > found.needs.get(client, 0):
        found.needs[client] = clock


def _end(clock: int, length: int) -> int:
    end = clock + length
    if length == 0 or end > CLOCK_MAX:
        raise UpdateError(f"a run of {length} at clock {clock}")
    return end


def _read_deletes(reader: Reader, left: int, found: Examined) -> None:
    for _ in range(reader.varuint(STRUCTS_MAX)):
        client, count = reader.varuint(), reader.varuint(left)
        left -= count
        if client in found.deleted:
            raise UpdateError("a client listed twice among the deletes")
        last = 0
        for _ in range(count):
            clock = reader.varuint(CLOCK_MAX)
            last = max(last, _end(clock, reader.varuint(CLOCK_MAX)))
        found.deleted[client] = last


def _read_deleted(reader: Reader) -> int:
    return reader.varuint(CLOCK_MAX)


def _read_json(reader: Reader) -> int:
    count = reader.varuint(len(reader.data))
    for _ in range(count):
        reader.text(_TEXT_BYTES)
    return count


def _read_binary(reader: Reader) -> int:
    reader.varbytes(_TEXT_BYTES)
    return 1


def _read_string(reader: Reader) -> int:
    text = reader.text(_TEXT_BYTES)
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2


def _read_embed(reader: Reader) -> int:
    reader.text(_TEXT_BYTES)
    return 1


def _read_format(reader: Reader) -> int:
    reader.text(_TEXT_BYTES)
    reader.text(_TEXT_BYTES)
    return 1


def _read_type(reader: Reader) -> int:
    kind = reader.varuint(_TYPES)
    if kind in _NAMED_TYPES:
        reader.text(_TEXT_BYTES)
    return 1


def _read_values(reader: Reader) -> int:
    count = reader.varuint(len(reader.data))
    for _ in range(count):
        _read_value(reader, DEPTH_MAX)
    return count


def _read_document(reader: Reader) -> int:
    reader.text(_TEXT_BYTES)
    _read_value(reader, DEPTH_MAX)
    return 1


def _read_value(reader: Reader, depth: int) -> None:
    """One value of lib0's `writeAny`."""
    kind = reader.byte()
    if kind in (127, 126, 121, 120):  # undefined, null, false, true
        return
    if kind == 125:
        _skip_integer(reader)
    elif kind == 124:
        reader.take(4)
    elif kind in (123, 122):
        reader.take(8)
    elif kind == 119:
        reader.text(_TEXT_BYTES)
    elif kind == 116:
        reader.varbytes(_TEXT_BYTES)
    elif kind in (118, 117):
        if depth == 0:
            raise UpdateError(f"values more than {DEPTH_MAX} deep")
        for _ in range(reader.varuint(len(reader.data))):
            if kind == 118:
                reader.text(_TEXT_BYTES)
            _read_value(reader, depth - 1)
    else:
        raise UpdateError(f"a value of kind {kind}")


def _skip_integer(reader: Reader) -> None:
    for _ in range(10):
        if reader.byte() < 0x80:
            return
    raise UpdateError("a number of more than 64 bits")


_CONTENTS: Final[dict[int, Callable[[Reader], int]]] = {
    1: _read_deleted,
    2: _read_json,
    3: _read_binary,
    4: _read_string,
    5: _read_embed,
    6: _read_format,
    7: _read_type,
    8: _read_values,
    9: _read_document,
}
