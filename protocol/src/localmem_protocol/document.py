"""A pool's document and the ledger of it, which change together or not at all.

The document is Yjs', by pycrdt. A CRDT library takes an update without an error and keeps aside what
it cannot place, drops what it cannot use, or panics. The strict check lets nothing through that
leads there; but an acknowledgement must not rest on that alone, so every merge is followed by a look
at the document: are all the batches in their arrays? Where nothing is deleted their number tells,
whatever the document holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pycrdt import Array, Doc, TransactionEvent

from localmem_protocol.errors import MergeError
from localmem_protocol.ledger import Ledger
from localmem_protocol.updates import (
    Item,
    Ranges,
    Update,
    after,
    covers,
    decode_state_vector,
    decode_update,
    encode_state_vector,
)

Result = TypeVar("Result")

Runs = dict[int, list[Item]]
"""client -> items at contiguous clocks."""


class Document:
    """One pool's document. `client` is whose client id `change` writes under.

    After a MergeError neither it nor its ledger can be trusted: load another.
    """

    def __init__(self, client: int = 1) -> None:
        self.ledger = Ledger()
        self._doc: Doc[Array[bytes]] = Doc(client_id=client)
        self._arrays: dict[str, Array[bytes]] = {}
        self._lengths: dict[str, int] = {}  # of arrays, while nothing but `merge` lengthens them

    def array(self, device: str) -> Array[bytes]:
        """A device's batches."""
        if device not in self._arrays:
            self._arrays[device] = self._doc.get(device, type=Array)
        return self._arrays[device]

    def state_vector(self) -> bytes:
        """How far it reaches."""
        return self._doc.get_state()

    def export(self) -> bytes:
        """All of it as one update, deleted batches without their content."""
        return self._doc.get_update()

    def since(self, state_vector: bytes) -> bytes:
        """The update for somebody who has that much. Deletes are always in it."""
        return self._doc.get_update(state_vector)

    def run(self, client: int, clock: int) -> list[Item]:
        """What is here of a client from a clock on."""
        vector = decode_state_vector(self._doc.get_state())
        vector[client] = clock
        return decode_update(self.since(encode_state_vector(vector)), stored=True).items.get(
            client, []
        )

    def deletes(self) -> Ranges:
        """What is deleted."""
        return decode_update(self.since(self._doc.get_state()), stored=True).deletes

    def load(self, data: bytes, update: Update | None = None) -> Runs:
        """Merge an update that was merged before; what it brings. Call `verify` after the last.

        `update` is the decoded form, if that is known. Raises UpdateError for one that is damaged,
        and MergeError.
        """
        update = update or decode_update(data, stored=True)
        owners = self.ledger.check(update)
        fresh = self._fresh(update)
        self.ledger.note(update, owners)
        self._lengths.clear()
        _guard(lambda: self._doc.apply_update(data))
        return fresh

    def verify(self) -> None:
        """Whether it reaches every clock that the ledger has. Raises MergeError."""
        vector = _guard(lambda: decode_state_vector(self._doc.get_state()))
        if any(vector.get(client, 0) != self.ledger.clock(client) for client in self.ledger):
            raise MergeError("the CRDT library holds back a part of what is stored")

    def merge(self, data: bytes, update: Update, owners: dict[int, str]) -> Runs:
        """Merge an update with what `Ledger.check` said of it; what it brings.

        Raises MergeError unless all of it is there then.
        """
        fresh = self._fresh(update)
        self.ledger.note(update, owners)
        if not _guard(lambda: self._takes(data, fresh, update.deletes)):
            raise MergeError("the CRDT library does not take in all of an update")
        return fresh

    def change(self, action: Callable[[], None]) -> bytes:
        """Change arrays under the own client id; the update that does the same elsewhere."""
        self._lengths.clear()
        updates: list[bytes] = []

        def keep(event: TransactionEvent) -> None:
            updates.append(event.update)

        subscription = self._doc.observe(keep)
        try:
            with self._doc.transaction():
                action()
        finally:
            self._doc.unobserve(subscription)
        (data,) = updates
        update = decode_update(data, stored=True)
        self.ledger.note(update, self.ledger.check(update))
        return data

    def _takes(self, data: bytes, fresh: Runs, deletes: Ranges) -> bool:
        """Merge an update; whether what it brings, and deletes, is here then, and is deleted."""
        if deletes or any(item.contents is None for run in fresh.values() for item in run):
            before = self._doc.get_state()
            self._doc.apply_update(data)
            self._lengths.clear()
            return self._holds(fresh, deletes, before)
        lengths = self._lengths_with(fresh)
        with self._doc.transaction():  # one for all that follows
            self._doc.apply_update(data)
            self._lengths |= lengths
            return all(len(self.array(device)) == length for device, length in lengths.items())

    def _fresh(self, update: Update) -> Runs:
        if (appended := update.appended) is not None:
            client, item = appended
            if item.clock == self.ledger.clock(client):
                return update.items
        runs = {c: after(run, c, self.ledger.clock(c)) for c, run in update.items.items()}
        return {client: run for client, run in runs.items() if run}

    def _lengths_with(self, fresh: Runs) -> dict[str, int]:
        """device -> how long its array will be with these batches."""
        lengths: dict[str, int] = {}
        for client, run in fresh.items():
            device = self.ledger.owner(client) or ""
            before = lengths.get(device, self._lengths.get(device))
            before = len(self.array(device)) if before is None else before
            lengths[device] = before + run[-1].end - run[0].clock
        return lengths

    def _holds(self, fresh: Runs, deletes: Ranges, before: bytes) -> bool:
        """Whether these batches came to what was there before, and these are deleted."""
        found = decode_update(self.since(before), stored=True)
        for client, run in fresh.items():
            came, gone = found.items.get(client), found.deletes.get(client, [])
            if not came or (came[0].clock, came[-1].end) != (run[0].clock, run[-1].end):
                return False
            here = contents(came)
            for clock, sealed in contents(run).items():
                if here.get(clock) != sealed and not covers(gone, clock, 1):
                    return False
        return all(
            covers(found.deletes.get(client, []), first, length)
            for client, ranges in deletes.items()
            for first, length in ranges
        )


def _guard(step: Callable[[], Result]) -> Result:
    """What the CRDT library answers. Raises MergeError for whatever it raises."""
    try:
        return step()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # pyo3's PanicException is no Exception
        raise MergeError(f"the CRDT library failed on an update: {type(error).__name__}") from None


def contents(run: list[Item]) -> dict[int, bytes]:
    """clock -> sealed batch, of those that are not deleted."""
    return {
        item.clock + offset: sealed
        for item in run
        for offset, sealed in enumerate(item.contents or ())
    }
