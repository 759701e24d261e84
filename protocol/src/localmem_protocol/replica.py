"""A device's copy of a pool's document: what is sealed into it and opened out of it.

The document (Yjs, by pycrdt) holds one array of sealed batches per device. Only the owner appends
to an array and evicts from it, whole segments from the front, under one persistent client id: so
the document stays as large as what is in it. Updates from the hub are checked strictly before they
reach the CRDT library, and every batch is opened in the order of its chain.

A replica does no I/O. Its owner keeps every update that it returns or takes, or `export()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from pycrdt import Array, Doc, TransactionEvent

from localmem_protocol.envelope import (
    NO_HASH,
    Opener,
    PoolKey,
    Sealer,
    batch_hash,
    opens_segment,
)
from localmem_protocol.errors import BatchError, MergeError, SealError, UpdateError
from localmem_protocol.events import Event
from localmem_protocol.ledger import Ledger
from localmem_protocol.limits import STEP_BYTES
from localmem_protocol.updates import (
    Item,
    Update,
    after,
    decode_state_vector,
    decode_update,
    encode_state_vector,
    encode_update,
    split,
)


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


def merge(doc: Doc[Array[bytes]], update: bytes) -> None:
    """Apply a checked update. Raises MergeError if the CRDT library will not have it."""
    try:
        doc.apply_update(update)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # pyo3's PanicException is no Exception
        raise MergeError(f"the CRDT library refused an update: {type(error).__name__}") from None


class Replica:
    """One device's replica of one pool's document. `client` is 0 until the hub has given one.

    `updates` are those that an earlier replica returned or took; `loaded` says what they brought.
    """

    def __init__(
        self, pool: PoolKey, device: str, client: int = 0, updates: Iterable[bytes] = ()
    ) -> None:
        self.pool = pool
        self.device = device
        self.client = client
        self.ledger = Ledger()
        self._openers: dict[int, Opener] = {}
        self._doc: Doc[Array[bytes]] = Doc(client_id=client or 1)
        self._array: Array[bytes] = self._doc.get(device, type=Array)
        self._own_bytes = 0  # sealed bytes in the own array, evicted ones counted until `evict`
        self.loaded = Integrated()
        for update in updates:
            self._take(update, decode_update(update, stored=True), self.loaded)
        mine = self.ledger.account(client)
        self._sealer = Sealer(pool, device, client, mine.head if mine else NO_HASH)

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
        vector = decode_state_vector(self._doc.get_state())
        vector[self.client] = clock - 1
        newer = decode_update(self._doc.get_update(encode_state_vector(vector)), stored=True)
        for item in newer.items.get(self.client, ()):
            if item.contents is not None and item.clock < clock <= item.end:
                return batch_hash(item.contents[clock - 1 - item.clock])
        return None

    def state_vector(self) -> bytes:
        """The document's state vector."""
        return self._doc.get_state()

    def export(self) -> bytes:
        """The whole document as one update."""
        return self._doc.get_update()

    def own_part(self, state_vector: bytes) -> list[bytes]:
        """What a hub with this state vector lacks of the own array, under every own client id.

        In pieces to be sent in this order; none if it lacks nothing. Deletes are always sent, since
        state vectors do not tell them.
        """
        update = decode_update(self._doc.get_update(state_vector), stored=True)
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
        return self._change(lambda: self._array.append(sealed))

    def evict(self, bytes_max: int) -> bytes | None:
        """Drop whole segments from the front of the own array until it fits; None if it does.

        The running segment stays. Returns the update to keep and to send.
        """
        if self._own_bytes <= bytes_max:
            return None
        sizes = [(len(sealed), opens_segment(sealed)) for sealed in self._array]
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
            del self._array[0:count]

        return self._change(remove)

    def integrate(self, data: bytes) -> Integrated:
        """Check an update from the hub, merge it and open what is new.

        Raises UpdateError for one that no honest hub sends and GapError (transient) for one that
        came before what it builds on. Nothing has changed then.
        """
        update = decode_update(data)
        self.ledger.check(update)
        for item in update.items.get(self.client, ()):
            if item.end > self.clock:
                raise UpdateError("the hub has batches under our client id that we did not write")
        result = Integrated()
        self._take(data, update, result)
        return result

    def _take(self, data: bytes, update: Update, result: Integrated) -> None:
        merge(self._doc, data)
        known = {client: self.ledger.clock(client) for client in update.items}
        self.ledger.note(update)
        for client, run in update.items.items():
            for item in after(run, client, known[client]):
                self._open(client, item, result)

    def _open(self, client: int, item: Item, result: Integrated) -> None:
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

    def _change(self, action: Callable[[], None]) -> bytes:
        updates: list[bytes] = []

        def keep(event: TransactionEvent) -> None:
            updates.append(event.update)

        subscription = self._doc.observe(keep)
        try:
            with self._doc.transaction():
                action()
        finally:
            self._doc.unobserve(subscription)
        (update,) = updates
        self.ledger.note(decode_update(update, stored=True))
        return update
