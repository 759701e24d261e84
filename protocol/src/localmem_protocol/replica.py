"""A device's copy of a pool's document: what is sealed into it and opened out of it.

The document (Yjs, by pycrdt) holds one array of sealed batches per device. Only the owner appends
to an array and evicts from it, whole segments from the front, under one persistent client id: so
the document stays as large as what is in it. Updates from the hub are decoded strictly before they
reach the CRDT library, and every batch is opened in the order of its chain.

A replica does no I/O. Its owner stores each update it returns or takes, and `export()`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from pycrdt import Array, Doc

from localmem_protocol.envelope import (
    NO_HASH,
    Opener,
    PoolKey,
    Sealer,
    batch_hash,
    opens_segment,
)
from localmem_protocol.errors import BatchError, GapError, SealError, UpdateError
from localmem_protocol.events import Event
from localmem_protocol.updates import (
    Item,
    Update,
    after,
    decode_state_vector,
    decode_update,
    encode_update,
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

    update: bytes
    events: list[Event] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass
class _Author:
    """What is known of one client id: whose it is, its next clock, its running segment."""

    device: str
    opener: Opener
    clock: int = 0
    head: bytes = NO_HASH


@dataclass
class _OwnBatch:
    client: int
    clock: int
    size: int
    first: bool


class Replica:
    """One device's replica of one pool's document. `client` is 0 until the hub has given one."""

    def __init__(self, pool: PoolKey, device: str, client: int = 0, state: bytes = b"") -> None:
        self.pool = pool
        self.device = device
        self.client = client
        self._authors: dict[int, _Author] = {}
        self._own: deque[_OwnBatch] = deque()
        self._doc: Doc[Array[bytes]] = Doc(client_id=client or 1)
        self._array: Array[bytes] = self._doc.get(device, type=Array)
        if state:
            self._take(decode_update(state), Integrated(state))
        mine = self._authors.get(client)
        self._sealer = Sealer(pool, device, client, mine.head if mine else NO_HASH)

    @property
    def clock(self) -> int:
        """The clock that the next own batch gets."""
        mine = self._authors.get(self.client)
        return mine.clock if mine else 0

    @property
    def own_bytes(self) -> int:
        """Sealed bytes in the own array."""
        return sum(batch.size for batch in self._own)

    def head_before(self, clock: int) -> bytes | None:
        """The hash of the own batch just before `clock`; None if it is not here any more."""
        mine = self._authors.get(self.client)
        if clock == 0:
            return NO_HASH
        if mine is not None and mine.clock == clock:
            return mine.head
        for item in decode_update(self._doc.get_update()).items.get(self.client, ()):
            if item.clock < clock <= item.end and item.contents is not None:
                return batch_hash(item.contents[clock - 1 - item.clock])
        return None

    def state_vector(self) -> bytes:
        """The document's state vector."""
        return self._doc.get_state()

    def export(self) -> bytes:
        """The whole document as one update: what to store, and what `state` takes."""
        return self._doc.get_update()

    def own_part(self, state_vector: bytes) -> bytes:
        """What a hub with this state vector lacks of the own array, under every own client id."""
        decode_state_vector(state_vector)
        missing = decode_update(self._doc.get_update(state_vector))
        mine = [client for client, a in self._authors.items() if a.device == self.device]
        return encode_update(missing.only(mine))

    def append(self, events: Sequence[Event]) -> bytes:
        """Seal a batch, append it to the own array; the update to store and then to send."""
        if not self.client:
            raise ValueError("no client id yet: the hub gives one")
        clock = self.clock
        sealed = self._sealer.seal(events, clock)
        update = self._change(lambda: self._array.append(sealed))
        author = self._authors.setdefault(self.client, self._author(self.client, self.device))
        author.clock, author.head = clock + 1, batch_hash(sealed)
        self._own.append(_OwnBatch(self.client, clock, len(sealed), opens_segment(sealed)))
        return update

    def evict(self, bytes_max: int) -> bytes | None:
        """Drop whole segments from the front of the own array until it fits; None if it does.

        The running segment stays. Returns the update to store and to send.
        """
        count = excess = 0
        size = self.own_bytes
        for index, batch in enumerate(self._own):
            if batch.first and size - excess <= bytes_max:
                break
            if batch.first:
                count = index
            excess += batch.size
        else:
            batch = None
        if count == 0:
            return None
        for _ in range(count):
            self._own.popleft()

        def remove() -> None:
            del self._array[0:count]

        return self._change(remove)

    def integrate(self, data: bytes) -> Integrated:
        """Check an update from the hub, merge it and open what is new.

        Raises UpdateError for one that no honest hub sends and GapError (transient) for one that
        came before what it builds on. Nothing has changed then.
        """
        update = decode_update(data)
        self._check(update)
        result = Integrated(data)
        self._take(update, result)
        return result

    def _check(self, update: Update) -> None:
        owners = {client: author.device for client, author in self._authors.items()}
        for client, run in _by_dependency(update):
            known = self._authors[client].clock if client in self._authors else 0
            if run[0].clock > known:
                raise GapError(f"client {client} starts at {run[0].clock}, known up to {known}")
            for item in run:
                device = _device_of(item, owners)
                if device is None:
                    if client not in owners:
                        raise UpdateError(f"an item of client {client} that stands in no array")
                elif owners.setdefault(client, device) != device:
                    raise UpdateError(f"client {client} writes into two arrays")
                if client == self.client and item.end > known:
                    raise UpdateError("the hub knows batches of this client id that we do not")

    def _take(self, update: Update, result: Integrated) -> None:
        try:
            self._doc.apply_update(result.update)
        except BaseException as error:  # pyo3's PanicException is no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise UpdateError(f"the CRDT library refused it: {error}") from None
        owners = {client: author.device for client, author in self._authors.items()}
        for client, run in _by_dependency(update):
            for item in run:
                device = owners.get(client) or _device_of(item, owners)
                if device is not None:
                    owners[client] = device
            author = self._authors.setdefault(client, self._author(client, owners[client]))
            for item in after(run, client, author.clock):
                self._open(client, author, item, result)
        self._forget_deleted(update)

    def _open(self, client: int, author: _Author, item: Item, result: Integrated) -> None:
        author.clock = item.end
        for clock, sealed in enumerate(item.contents or (), start=item.clock):
            author.head = batch_hash(sealed)
            if author.device == self.device:
                self._own.append(_OwnBatch(client, clock, len(sealed), opens_segment(sealed)))
            try:
                result.events += author.opener.open(sealed, clock)
            except (SealError, BatchError) as error:
                result.problems.append(Problem(author.device, client, clock, str(error)))

    def _forget_deleted(self, update: Update) -> None:
        gone = {
            (client, clock)
            for client, ranges in update.deletes.items()
            if client in self._authors and self._authors[client].device == self.device
            for first, length in ranges
            for clock in range(first, min(first + length, self._authors[client].clock))
        }
        if gone:
            self._own = deque(b for b in self._own if (b.client, b.clock) not in gone)

    def _author(self, client: int, device: str) -> _Author:
        return _Author(device, Opener(self.pool, device, client))

    def _change(self, action: object) -> bytes:
        updates: list[bytes] = []
        subscription = self._doc.observe(lambda event: updates.append(event.update))
        try:
            with self._doc.transaction():
                action()  # type: ignore[operator]
        finally:
            self._doc.unobserve(subscription)
        (update,) = updates
        return update


def _by_dependency(update: Update) -> list[tuple[int, list[Item]]]:
    """Clients in an order in which each origin precedes: a device's incarnations in turn."""
    waiting = dict(update.items)
    ordered: list[tuple[int, list[Item]]] = []
    while waiting:
        ready = [
            client
            for client, run in waiting.items()
            if not any(
                origin is not None and origin[0] != client and origin[0] in waiting
                for item in run
                for origin in (item.origin, item.right)
            )
        ] or [min(waiting)]  # two incarnations that refer to each other: any order will do
        for client in sorted(ready):
            ordered.append((client, waiting.pop(client)))
    return ordered


def _device_of(item: Item, owners: dict[int, str]) -> str | None:
    """Whose array an item stands in: it says so, or its origin does."""
    if item.root is not None:
        return item.root
    for neighbour in (item.origin, item.right):
        if neighbour is not None and neighbour[0] in owners:
            return owners[neighbour[0]]
    return None
