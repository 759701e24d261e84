"""A device's copy of a pool's document: what is sealed into it and opened out of it.

The document holds one array of sealed batches per device. Only the owner appends to an array and
evicts from it, whole segments from the front, under one persistent client id: so the document
stays as large as what is in it. Updates from the hub are checked strictly before they
reach the CRDT library, and every batch is opened in the order of its chain.

A replica does no I/O. Its owner keeps every update that it returns or takes, or `export()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from localmem_protocol.document import Document
from localmem_protocol.envelope import (
    NO_HASH,
    Opener,
    PoolKey,
    Sealer,
    batch_hash,
    opens_segment,
)
from localmem_protocol.errors import BatchError, SealError, UpdateError
from localmem_protocol.events import Event
from localmem_protocol.ledger import Ledger
from localmem_protocol.limits import STEP_BYTES
from localmem_protocol.updates import Item, decode_update, encode_update, split


@dataclass(frozen=True)
class Problem:
    """A batch that did not open: reported, counted, and in nobody's way."""

    device: str
    client: int
    clock: int
    reason: str


@dataclass
class Integrated:
    """What an update brought: the events it holds for us, and what did not open."""

    events: list[Event] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class Replica:
    """One device's replica of one pool's document. `client` is 0 until the hub has given one.

    `updates` are those that an earlier replica returned or took; `loaded` says what they brought.
    Raises UpdateError and MergeError for updates that no replica kept.
    """

    def __init__(
        self, pool: PoolKey, device: str, client: int = 0, updates: Iterable[bytes] = ()
    ) -> None:
        self.pool = pool
        self.device = device
        self.client = client
        self._document = Document(client or 1)
        self._openers: dict[int, Opener] = {}
        self._own_bytes = 0  # sealed bytes in the own array, evicted ones counted until `evict`
        self.loaded = Integrated()
        for update in updates:
            self._open(self._document.load(update), self.loaded)
        self._document.verify()
        mine = self.ledger.account(client)
        self._sealer = Sealer(pool, device, client, mine.head if mine else NO_HASH)

    @property
    def ledger(self) -> Ledger:
        """What is known of every client id."""
        return self._document.ledger

    @property
    def clock(self) -> int:
        """The clock that the next own batch gets."""
        return self.ledger.clock(self.client)

    def head_before(self, clock: int) -> bytes | None:
        """The hash of the own batch just before `clock`; None if it is not here any more."""
        if clock == 0:
            return NO_HASH
        if clock == self.clock:
            account = self.ledger.account(self.client)
            return account.head or None if account else None
        for item in self._document.run(self.client, clock - 1):
            if item.contents is not None and item.clock < clock <= item.end:
                return batch_hash(item.contents[clock - 1 - item.clock])
        return None

    def state_vector(self) -> bytes:
        """The document's state vector."""
        return self._document.state_vector()

    def export(self) -> bytes:
        """The whole document as one update."""
        return self._document.export()

    def own_part(self, state_vector: bytes) -> list[bytes]:
        """What a hub with this state vector lacks of the own array, under every own client id.

        In pieces to be sent in this order; none if it lacks nothing. Deletes are always sent, since
        state vectors do not tell them.
        """
        update = decode_update(self._document.since(state_vector), stored=True)
        part = update.only(self.ledger.clients_of(self.device))
        if not part.items and not part.deletes:
            return []
        return [encode_update(piece) for piece in split(part, STEP_BYTES)]

    def append(self, events: Sequence[Event]) -> bytes:
        """Seal a batch and append it to the own array; the update to keep and then to send."""
        if not self.client:
            raise ValueError("no client id yet: the hub gives one")
        sealed = self._sealer.seal(events, self.clock)
        self._own_bytes += len(sealed)
        array = self._document.array(self.device)
        return self._document.change(lambda: array.append(sealed))

    def evict(self, bytes_max: int) -> bytes | None:
        """Drop whole segments from the front of the own array until it fits; None if it does.

        The running segment stays. Returns the update to keep and to send.
        """
        if self._own_bytes <= bytes_max:
            return None
        array = self._document.array(self.device)
        sizes = [(len(sealed), opens_segment(sealed)) for sealed in array]
        left = sum(size for size, _ in sizes)
        count = 0
        for index, (_, first) in enumerate(sizes):
            if first and index:
                left -= sum(size for size, _ in sizes[count:index])
                count = index
            if left <= bytes_max:
                break
        self._own_bytes = left
        if count == 0:
            return None

        def remove() -> None:
            del array[0:count]

        return self._document.change(remove)

    def integrate(self, data: bytes) -> Integrated:
        """Check an update from the hub, merge it and open what is new.

        Raises UpdateError for one that no honest hub sends and GapError (transient) for one that
        came before what it builds on; nothing has changed then. Raises MergeError for one that is
        not in the document after it was merged: make another replica from what was kept.
        """
        update = decode_update(data)
        owners = self.ledger.check(update)
        for item in update.items.get(self.client, ()):
            if item.end > self.clock:
                raise UpdateError("the hub has batches under our client id that we did not write")
        result = Integrated()
        self._open(self._document.merge(data, update, owners), result)
        return result

    def _open(self, fresh: dict[int, list[Item]], result: Integrated) -> None:
        for client, run in fresh.items():
            for item in run:
                self._open_item(client, item, result)

    def _open_item(self, client: int, item: Item, result: Integrated) -> None:
        device = self.ledger.owner(client) or ""
        if client not in self._openers:
            self._openers[client] = Opener(self.pool, device, client)
        opener = self._openers[client]
        if device == self.device:
            self._own_bytes += sum(map(len, item.contents or ()))
        for clock, sealed in enumerate(item.contents or (), start=item.clock):
            try:
                events = opener.open(sealed, clock)
            except (SealError, BatchError) as error:
                result.problems.append(Problem(device, client, clock, str(error)))
            else:
                result.events += events
