"""What is true of a segment, for everybody who reads it: which entries count, in which order.

Nobody has a lock while it appends. An entry says how far its process had read (`base`), and whose arrays
it touches. What came between there and its own place was not known to it. If none of that touched the
same client ids, then their order does not matter and the entry counts, after them; else it is void, for
every reader and for its own process, which looks again. (A client id is registered by touching it.) This
is decided by what is in the segment alone, so that everybody decides alike:

    … [A base=10] [B base=10] …     B counts unless A touches what B touches

An entry that was appended twice, since an answer got lost, conflicts with itself. What follows a close
is void: it is in the next segment, or nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from localmem_hub.blobs.frames import Base, Close, Entry, Found, Place, scan
from localmem_hub.errors import DamageError
from localmem_protocol.errors import ProtocolError
from localmem_protocol.exchange import NumberedRow, follow
from localmem_protocol.limits import CLIENTS_MAX
from localmem_protocol.room import Row
from localmem_protocol.updates import decode_update


@dataclass(frozen=True)
class TaggedRow(NumberedRow):
    """A row with its tag, and the offset at which its entry ends."""

    tag: str
    end: int


@dataclass
class Segment:
    """What has been read of a segment from its base on. `length` is where reading goes on, `end` where
    the newest frame ends, and `fresh` whether that was read just now.

    `first` is the number of the newest row in the snapshot, and `number` that of the newest row, `size` bytes of rows; `counted` has the ids of the entries that count, each with
    the numbers of the rows before and after it.
    """

    place: Place
    length: int
    end: int = 0
    first: int = 0
    tag: str = ""
    number: int = 0
    clients: dict[int, str] = field(default_factory=dict)
    rows: list[TaggedRow] = field(default_factory=list)
    size: int = 0
    counted: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    closed: Place | None = None
    fresh: bool = False
    _base_tag: str = ""
    _begun: bool = False
    _undecided: bytes = b""
    _touched: dict[int, int] = field(default_factory=dict)  # client id -> the entry's offset
    _any: int = -1
    _all: int = -1

    @classmethod
    def read(cls, place: Place, data: bytes) -> Segment:
        """A segment from what is in its blob from its base on. Raises DamageError."""
        segment = cls(place, place.base_at, place.base_at)
        segment.take(data)
        if not segment._begun:
            raise DamageError(f"the log {place.segment} in the hub's storage has no beginning")
        return segment

    def take(self, data: bytes) -> None:
        """Go on with what was read from `length` on."""
        start = self.length - len(self._undecided)
        text = self._undecided + data
        found, done = scan(text, self.place.salt)
        for one in found:
            self._enter(one, start)
            self.end = start + one.end
        self.length += len(data)
        self._undecided = text[done:]

    def tag_of(self, number: int) -> str | None:
        """The tag of a row that is here, or of the snapshot before them."""
        if number == self.first:
            return self._base_tag
        row = self.row(number)
        return None if row is None else row.tag

    def row(self, number: int) -> TaggedRow | None:
        """The row of this number, if it is here."""
        at = number - self.first - 1
        return self.rows[at] if 0 <= at < len(self.rows) else None

    def after(self, number: int, last: int | None = None) -> list[TaggedRow]:
        """The rows after this number, which must not be below the first."""
        return self.rows[number - self.first : None if last is None else last - self.first]

    def _enter(self, one: Found, start: int) -> None:
        record = one.record
        if self.closed is not None:
            return
        if isinstance(record, Base):
            self._begin(record)
        elif isinstance(record, Close):
            self.closed = record.next
        elif isinstance(record, Entry) and self._counts(record, start + one.start):
            self._count(record, start + one.start, start + one.end)

    def _begin(self, base: Base) -> None:
        if self._begun:
            return
        self._begun = True
        self.first = self.number = base.number
        self.tag = self._base_tag = base.tag
        self.clients = dict(base.clients)

    def _counts(self, entry: Entry, at: int) -> bool:
        if not self._begun or entry.id in self.counted:
            return False
        if not self.place.base_at <= entry.base <= at:
            return False
        if any(self.clients.get(c, device) != device for c, device in entry.clients.items()):
            return False
        if len(self.clients.keys() | entry.clients.keys()) > CLIENTS_MAX:
            return False
        if entry.touched is None:
            return self._any < entry.base
        newest = max((self._touched.get(client, -1) for client in entry.touched), default=-1)
        return max(newest, self._all) < entry.base

    def _count(self, entry: Entry, at: int, end: int) -> None:
        before = self.number
        for device, update in entry.rows:
            self.number += 1
            self.tag = follow(self.tag, update)
            self.size += len(update)
            self.rows.append(TaggedRow(self.number, device, update, self.tag, end))
        self.clients |= entry.clients
        self.counted[entry.id] = (before, self.number)
        self._any = at
        if entry.touched is None:
            self._all = at
        else:
            self._touched |= dict.fromkeys(entry.touched, at)


def touched(rows: Iterable[Row], clients: Iterable[int]) -> list[int] | None:
    """The client ids that an entry touches; None for all, since an update says nothing of them."""
    found = set(clients)
    try:
        for row in rows:
            update = decode_update(row.update, stored=True)
            found.update(update.items, update.deletes)
    except ProtocolError:
        return None
    return sorted(found)
