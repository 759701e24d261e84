"""The array that a device writes: its batches in order, sealed one to the next, and the oldest of them.

Only its owner appends to it, and evicts from it, whole segments from the front. Copies of a machine
write to one array under several client ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from localmem_protocol.document import Document, contents
from localmem_protocol.envelope import NO_HASH, PoolKey, Sealer, opens_segment
from localmem_protocol.padding import Padding
from localmem_protocol.parcels import Parcel
from localmem_protocol.segments import Segments
from localmem_protocol.updates import Ranges, decode_update

GATHERED_BYTES_MAX: Final = 32 * 1024
"""Sealed bytes that a segment gathers of what is moved; the next to be forgotten moves them again."""


class Appended(NamedTuple):
    """A batch that was appended, and the hash of the one before it."""

    sealed: bytes
    previous: bytes


class OwnArray:
    """`client` is the client id to write under; `size` counts the sealed bytes of what is live."""

    def __init__(
        self, document: Document, pool: PoolKey, device: str, client: int, padding: Padding
    ) -> None:
        self.client = client
        self.size = 0
        self._document, self._pool, self._device = document, pool, device
        self._padding = padding
        self._sealer = self._new_sealer()

    @property
    def starts(self) -> bool:
        """Whether the next batch starts a segment."""
        return self._sealer.starts

    @property
    def head(self) -> bytes:
        """The hash of the newest batch."""
        return self._sealer.head

    def start_segment(self) -> None:
        """The next batch starts one, after the newest that is known."""
        self._sealer = self._new_sealer()

    def make_room(self, moved: int, segments: Segments, clock: int) -> None:
        """Start a segment for `moved` sealed bytes, unless they fit into the running one."""
        running = segments.segment_of(self.client, clock - 1)
        if running is not None and running.size + moved > GATHERED_BYTES_MAX:
            self.start_segment()

    def append(self, sealing: Sequence[Parcel], first: int) -> tuple[bytes, list[Appended]]:
        """Seal batches from clock `first` on, and append them: the update that does it, and the batches."""
        appended: list[Appended] = []
        for clock, parcel in enumerate(sealing, start=first):
            previous = self._sealer.head
            appended.append(Appended(self._sealer.seal(parcel, clock), previous))
        array = self._document.array(self._device)
        data = self._document.change(lambda: array.extend([one.sealed for one in appended]))
        return data, appended

    def batches(self) -> list[tuple[int, bytes]]:
        """(client id, sealed batch) of all that is in it, in its order."""
        array = self._document.array(self._device)
        clients = self._document.ledger.clients_of(self._device)
        if len(clients) == 1:
            return [(clients[0], bytes(sealed)) for sealed in array]
        writers = {
            sealed: client
            for client in clients
            for sealed in contents(self._document.run(client, 0)).values()
        }
        return [(writers[bytes(sealed)], bytes(sealed)) for sealed in array]

    def evict(self, bytes_max: int) -> tuple[bytes, Ranges]:
        """Drop whole segments from the front until it fits: the update that does it, and what went.

        The running segment of this client id stays. That of another one, under which a copy of this
        machine may be writing on, goes when its newest batch is older than all that stays: nobody
        wrote there for as long as the array reaches back, and whoever goes on there all the same
        begins another.
        """
        if self.size <= bytes_max:
            return b"", {}
        batches = self.batches()
        left = sum(len(sealed) for _, sealed in batches)
        places: list[int] = []
        for segment in _evictable(batches, self.client):
            if left <= bytes_max:
                break
            places += segment
            left -= sum(len(batches[place][1]) for place in segment)
        if not places:
            return b"", {}
        array = self._document.array(self._device)

        def remove() -> None:
            for place in sorted(places, reverse=True):
                del array[place]

        data = self._document.change(remove)
        return data, decode_update(data, stored=True).deletes

    def _new_sealer(self) -> Sealer:
        mine = self._document.ledger.account(self.client)
        head = (mine and mine.head) or NO_HASH
        return Sealer(self._pool, self._device, self.client, head, self._padding)


def _evictable(batches: Sequence[tuple[int, bytes]], client: int) -> list[list[int]]:
    """The places of each segment but the running one of this client id, in the order to evict them.

    Segments of several client ids lie interleaved when two copies of a machine write at once. One
    that may be written on is as old as its newest batch, any other as its first.
    """
    found: list[list[int]] = []
    running: dict[int, int] = {}  # client -> its newest segment in `found`
    for place, (client, sealed) in enumerate(batches):
        if client not in running or opens_segment(sealed):
            running[client] = len(found)
            found.append([])
        found[running[client]].append(place)
    own = running.get(client)
    newest = set(running.values())
    ages = {n: places[-1] if n in newest else places[0] for n, places in enumerate(found)}
    return [found[number] for number in sorted(ages, key=ages.__getitem__) if number != own]
