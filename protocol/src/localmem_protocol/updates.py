"""A strict codec for the Yjs updates of a sealed room (update format V1).

A sealed document holds one root array per device, named by the device id, of opaque binary items.
That needs a small part of Yjs: items of binary values (as yrs writes them: content "any", every
value a buffer, neighbours merged into one run), deleted runs, and a delete set. Everything else is
refused here, before any byte reaches the CRDT library, because applying to a scratch document
proves nothing: an update with a missing dependency applies without error and is lost at the next
compaction, and a mutated one can panic. Garbage-collected structs too: only nested types leave
them, and an item that builds on one is collected with it. Layout as in Yjs' `UpdateEncoder.js` and
`StructStore.js`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final, NamedTuple

from localmem_protocol.errors import UpdateError
from localmem_protocol.limits import (
    BATCH_SEALED_BYTES_MAX,
    CLIENTS_MAX,
    CLOCK_MAX,
    NAME_BYTES_MAX,
    STEP_BYTES,
    UPDATE_BYTES_MAX,
    UPDATE_STRUCTS_MAX,
)
from localmem_protocol.wire import Reader, varbytes, varuint

_DELETED: Final = 1
_ANY: Final = 8
_BUFFER: Final = 116
_HAS_ORIGIN: Final = 0x80
_HAS_RIGHT_ORIGIN: Final = 0x40
_HAS_PARENT_KEY: Final = 0x20

NOTHING: Final = b"\x00\x00"
"""The update that changes nothing."""

Id = tuple[int, int]
"""(client, clock)."""

Ranges = dict[int, list[tuple[int, int]]]
"""client -> (first clock, length), as in a delete set."""


class Item(NamedTuple):
    """A run of clocks of one client.

    `contents` are sealed batches, one per clock, or None for a deleted run. `root` is set when the
    item names its array itself; otherwise it stands in the array of its origin.
    """

    clock: int
    length: int
    contents: tuple[bytes, ...] | None
    origin: Id | None = None
    right: Id | None = None
    root: str | None = None

    @property
    def end(self) -> int:
        """The first clock after the run."""
        return self.clock + self.length


@dataclass(frozen=True, slots=True)
class Update:
    """A decoded update: per client its items at contiguous clocks, and what is deleted."""

    items: dict[int, list[Item]] = field(default_factory=dict)
    deletes: Ranges = field(default_factory=dict)

    @property
    def appended(self) -> tuple[int, Item] | None:
        """A client and its live item if that is all, and follows what the client wrote before: what most
        updates are. Such a one has one encoding only."""
        if self.deletes or len(self.items) != 1:
            return None
        ((client, run),) = self.items.items()
        item = run[0]
        follows = item.origin == (client, item.clock - 1) and item.right is None
        return (client, item) if follows and len(run) == 1 and item.contents is not None else None

    def only(self, clients: Iterable[int]) -> Update:
        """The part that these clients wrote, and what is deleted of theirs."""
        chosen = set(clients)
        return Update(
            {client: items for client, items in self.items.items() if client in chosen},
            {client: ranges for client, ranges in self.deletes.items() if client in chosen},
        )


def decode_update(data: bytes, *, stored: bool = False) -> Update:
    """Parse an update of a sealed document. Raises UpdateError naming what it refuses.

    What this process or its store made (`stored`) may be a whole document, of any size.
    """
    if len(data) > UPDATE_BYTES_MAX and not stored:
        raise UpdateError(f"{len(data)} bytes, over the limit of {UPDATE_BYTES_MAX}")
    reader = Reader(data, UpdateError)
    items: dict[int, list[Item]] = {}
    structs_max = left = CLOCK_MAX if stored else UPDATE_STRUCTS_MAX
    for _ in range(reader.varuint(CLIENTS_MAX)):
        count = reader.varuint(left)
        left -= count
        client, clock = reader.varuint(), reader.varuint(CLOCK_MAX)
        if client in items or count == 0:
            raise UpdateError("a client listed twice, or with nothing")
        run = items[client] = []
        for _ in range(count):
            item = _read_item(reader, clock, structs_max)
            clock = item.end
            if clock > CLOCK_MAX:
                raise UpdateError(f"a clock over the limit of {CLOCK_MAX}")
            run.append(item)
    deletes = _read_ranges(reader, structs_max)
    reader.finish()
    return Update(items, deletes)


def encode_update(update: Update) -> bytes:
    """The bytes of an update, clients in descending order as Yjs writes them."""
    out = [varuint(len(update.items))]
    for client in sorted(update.items, reverse=True):
        run = update.items[client]
        out += (varuint(len(run)), varuint(client), varuint(run[0].clock))
        out += map(_item_bytes, run)
    out.append(varuint(len(update.deletes)))
    for client in sorted(update.deletes, reverse=True):
        ranges = update.deletes[client]
        out += (varuint(client), varuint(len(ranges)))
        out += (varuint(clock) + varuint(length) for clock, length in ranges)
    return b"".join(out)


def after(run: list[Item], client: int, clock: int) -> list[Item]:
    """The part of a client's run from `clock` on, a run that straddles it cut."""
    kept: list[Item] = []
    for item in run:
        if item.end <= clock:
            continue
        if item.clock < clock:
            item = item._replace(
                clock=clock,
                length=item.end - clock,
                contents=item.contents and item.contents[clock - item.clock :],
                # The second half of a run follows its first.
                origin=(client, clock - 1),
                root=None,
            )
        kept.append(item)
    return kept


def split(update: Update, bytes_max: int) -> Iterator[Update]:
    """An update in pieces of about `bytes_max` sealed bytes, and no more batches than an update may
    hold, each to be merged after those before.

    One item at least is in each; what is deleted follows with the piece that reaches it, or comes
    with the first if it was there before. Gives one empty update for an empty one.
    """
    deletes = {client: list(ranges) for client, ranges in update.deletes.items()}
    piece, size, batches = _Joined(), 0, 0
    singles = {client: _singles(client, run) for client, run in update.items.items()}
    for client, item in in_order(singles):
        if size and (size + _weight(item) > bytes_max or batches == UPDATE_STRUCTS_MAX):
            items = piece.items()
            yield Update(items, _reached_deletes(deletes, items, update))
            piece, size, batches = _Joined(), 0, 0
        piece.add(client, item)
        size, batches = size + _weight(item), batches + 1
    yield Update(piece.items(), deletes)


def join(updates: Iterable[Update]) -> Iterator[Update]:
    """Updates that follow each other, as few as hold them all within the bounds of one.

    Each must be mergeable after those before it; so are the results.
    """
    joined, deletes, size, structs = _Joined(), Ranges(), 0, 0
    for update in updates:
        weight = sum(_weight(item) for run in update.items.values() for item in run)
        count = batches_in(update) + sum(map(len, update.deletes.values()))
        if structs and (size + weight > STEP_BYTES or structs + count > UPDATE_STRUCTS_MAX):
            yield Update(joined.items(), deletes)
            joined, deletes, size, structs = _Joined(), Ranges(), 0, 0
        for client, run in update.items.items():
            for item in run:
                joined.add(client, item)
        for client, ranges in update.deletes.items():
            deletes.setdefault(client, []).extend(ranges)
        size, structs = size + weight, structs + count
    if structs:
        yield Update(joined.items(), deletes)


def batches_in(update: Update) -> int:
    """How many batches it has, a deleted run counted as one; an update may hold UPDATE_STRUCTS_MAX."""
    runs = update.items.values()
    return sum(1 if item.contents is None else item.length for run in runs for item in run)


def in_order(items: Mapping[int, Iterable[Item]]) -> Iterator[tuple[int, Item]]:
    """Every client's items, each after those here that it builds on, in n log n steps at most.

    Raises UpdateError for items that wait for each other, or for themselves.
    """
    if len(items) == 1:  # nearly always
        for client, run in items.items():
            for item in run:
                _blocker(client, item, {})
                yield client, item
        return
    runs = {client: deque(run) for client, run in items.items()}
    waiting: dict[int, list[Id]] = {}  # client -> (for which clock of it, who): heaps
    ready = list(runs)
    while ready:
        client = ready.pop()
        run = runs[client]
        while run:
            blocker = _blocker(client, run[0], runs)
            if blocker is not None:
                heappush(waiting.setdefault(blocker[0], []), (blocker[1], client))
                break
            yield client, run.popleft()
        held = waiting.get(client, [])
        while held and (not run or held[0][0] < run[0].clock):
            ready.append(heappop(held)[1])
    if any(runs.values()):
        raise UpdateError("items that wait for each other")


def normal(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in ascending order, those that touch or overlap as one."""
    found: list[tuple[int, int]] = []
    for first, length in sorted(ranges):
        if found and first <= sum(found[-1]):
            before = found[-1][0]
            found[-1] = (before, max(sum(found[-1]), first + length) - before)
        else:
            found.append((first, length))
    return found


def covers(ranges: list[tuple[int, int]], first: int, length: int) -> bool:
    """Whether ranges (ascending, apart) hold all of these clocks."""
    place = bisect_right(ranges, first, key=lambda one: one[0]) - 1
    return place >= 0 and first + length <= sum(ranges[place])


def without(ranges: Ranges, others: Ranges) -> Ranges:
    """The parts of ranges that are in none of the others."""
    left: Ranges = {}
    for client, listed in ranges.items():
        known = normal(others.get(client, ()))
        for first, length in normal(listed):
            end = first + length
            at = max(0, bisect_right(known, first, key=lambda one: one[0]) - 1)
            for start, size in known[at:]:
                if start >= end:
                    break
                if start > first:
                    left.setdefault(client, []).append((first, start - first))
                first = max(first, start + size)
            if first < end:
                left.setdefault(client, []).append((first, end - first))
    return left


def clipped(ranges: Ranges, clocks: Mapping[int, int]) -> Ranges:
    """The parts of ranges before each client's clock."""
    parts = {
        client: [
            (first, min(length, clocks.get(client, 0) - first))
            for first, length in listed
            if first < clocks.get(client, 0)
        ]
        for client, listed in ranges.items()
    }
    return {client: listed for client, listed in parts.items() if listed}


def decode_state_vector(data: bytes) -> dict[int, int]:
    """client -> next clock. Raises UpdateError."""
    reader = Reader(data, UpdateError)
    clients = reader.varuint(CLIENTS_MAX)
    vector = {reader.varuint(): reader.varuint(CLOCK_MAX) for _ in range(clients)}
    reader.finish()
    return vector


def encode_state_vector(vector: dict[int, int]) -> bytes:
    """The inverse of `decode_state_vector`."""
    return varuint(len(vector)) + b"".join(
        varuint(client) + varuint(clock) for client, clock in sorted(vector.items(), reverse=True)
    )


def _weight(item: Item) -> int:
    return sum(map(len, item.contents or ())) + 16


def _blocker(client: int, item: Item, runs: Mapping[int, deque[Item]]) -> Id | None:
    """What an item builds on that has not had its turn yet."""
    for neighbour in (item.origin, item.right):
        if neighbour is None:
            continue
        if neighbour[0] == client and neighbour[1] >= item.clock:
            raise UpdateError(f"client {client} builds on its own future at clock {item.clock}")
        if neighbour[0] != client:
            ahead = runs.get(neighbour[0])
            if ahead and ahead[0].clock <= neighbour[1]:
                return neighbour
    return None


def _singles(client: int, run: list[Item]) -> Iterator[Item]:
    for item in run:
        if item.contents is None or item.length == 1:
            yield item
            continue
        yield item._replace(length=1, contents=item.contents[:1])
        for clock in range(item.clock + 1, item.end):
            content = item.contents[clock - item.clock]
            yield Item(clock, 1, (content,), (client, clock - 1), item.right)


class _Joined:
    """Items that follow each other, those that continue each other as one. Takes time linear in them."""

    def __init__(self) -> None:
        self._runs: dict[int, list[tuple[Item, list[bytes]]]] = {}

    def add(self, client: int, item: Item) -> None:
        """One more."""
        run = self._runs.setdefault(client, [])
        last = run[-1][0] if run else None
        if (
            last is not None
            and last.contents is not None
            and item.contents is not None
            and (item.origin, item.right) == ((client, item.clock - 1), last.right)
        ):
            run[-1][1].extend(item.contents)
        else:
            run.append((item, list(item.contents or ())))

    def items(self) -> dict[int, list[Item]]:
        """All of them, by client."""
        return {
            client: [
                first
                if first.contents is None
                else first._replace(length=len(contents), contents=tuple(contents))
                for first, contents in run
            ]
            for client, run in self._runs.items()
        }


def _reached_deletes(deletes: Ranges, piece: dict[int, list[Item]], whole: Update) -> Ranges:
    """Take out of `deletes` what this piece reaches."""
    reached: Ranges = {}
    for client in list(deletes):
        end = CLOCK_MAX
        if client in whole.items:
            run = piece.get(client)
            end = run[-1].end if run else 0
        due = [one for one in deletes[client] if one[0] + one[1] <= end]
        if due:
            reached[client] = due
            deletes[client] = [one for one in deletes[client] if one not in due]
            if not deletes[client]:
                del deletes[client]
    return reached


def _read_item(reader: Reader, clock: int, structs_max: int) -> Item:
    info = reader.byte()
    kind = info & 0x1F
    if kind not in (_DELETED, _ANY) or info & _HAS_PARENT_KEY:
        raise UpdateError(f"a struct of kind {info:#04x}, which a sealed room does not hold")
    origin = _read_id(reader) if info & _HAS_ORIGIN else None
    right = _read_id(reader) if info & _HAS_RIGHT_ORIGIN else None
    root = None
    if origin is None and right is None:
        if reader.varuint() != 1:
            raise UpdateError("a nested item")
        root = reader.text(NAME_BYTES_MAX)
    if kind == _DELETED:
        return Item(clock, _length(reader), None, origin, right, root)
    contents = tuple(_read_buffer(reader) for _ in range(_length(reader, structs_max)))
    return Item(clock, len(contents), contents, origin, right, root)


def _read_buffer(reader: Reader) -> bytes:
    if reader.byte() != _BUFFER:
        raise UpdateError("a value that is not binary")
    return reader.varbytes(BATCH_SEALED_BYTES_MAX)


def _length(reader: Reader, most: int = CLOCK_MAX) -> int:
    length = reader.varuint(most)
    if length == 0:
        raise UpdateError("an empty run")
    return length


def _read_id(reader: Reader) -> Id:
    return (reader.varuint(), reader.varuint(CLOCK_MAX))


def _read_ranges(reader: Reader, left: int) -> Ranges:
    found: Ranges = {}
    for _ in range(reader.varuint(CLIENTS_MAX)):
        client, count = reader.varuint(), reader.varuint(left)
        left -= count
        if client in found:
            raise UpdateError("a client listed twice among the deletes")
        found[client] = [(reader.varuint(CLOCK_MAX), _length(reader)) for _ in range(count)]
    return found


def _item_bytes(item: Item) -> bytes:
    info = _DELETED if item.contents is None else _ANY
    place = b""
    for flag, neighbour in ((_HAS_ORIGIN, item.origin), (_HAS_RIGHT_ORIGIN, item.right)):
        if neighbour is not None:
            info |= flag
            place += varuint(neighbour[0]) + varuint(neighbour[1])
    if item.root is not None:
        place = varuint(1) + varbytes(item.root.encode())
    values = b"".join(bytes([_BUFFER]) + varbytes(content) for content in item.contents or ())
    return bytes([info]) + place + varuint(item.length) + values
