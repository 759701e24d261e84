"""Many writers, several processes, random failures: what the log of a room on blobs promises.

What was acknowledged is there, once, for every reader; and all readers see the same rows.
"""

from __future__ import annotations

import gc
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import pytest

from bench.azurite_server import AzuriteServer
from localmem_hub import blobs
from localmem_hub.blobs.address import Address
from localmem_hub.blobs.store import BlobStore
from localmem_hub.compaction import build_room, make_snapshot
from localmem_hub.errors import StoreError
from localmem_hub.seams import Batch, Missed, Stored
from localmem_protocol.room import Row
from localmem_protocol.simulation import SeededRandom
from localmem_protocol.updates import decode_update
from support.azurite import new_container
from support.blob_faults import ALL_KINDS, Faults, FaultyTransport, Killed
from support.sync_client import append

POOL = "p"
Key = tuple[int, int, bytes]
"""A batch: client id, clock and content."""


class Processes:
    """Some processes on one container. One that was killed is replaced by a new one."""

    def __init__(self, address: Address, seed: int, rate: float, count: int) -> None:
        self.address = address
        self.rate = rate
        self.happened: Counter[str] = Counter()
        self._chance = SeededRandom(seed)
        self._lock = threading.Lock()
        self._started: list[BlobStore] = []
        self._stores = [self._start() for _ in range(count)]

    def _start(self) -> BlobStore:
        faults = Faults(chance=SeededRandom(self._chance.below(1 << 30)), kinds=ALL_KINDS)
        store = blobs.open_store(self.address, migrate=True, transport=FaultyTransport(faults))
        faults.rate = self.rate
        self._started.append(store)
        return store

    def close(self) -> None:
        """Give back what the dead and the living have."""
        for store in self._started:
            store.close()

    def use(self, number: int) -> BlobStore:
        """One of them."""
        return self._stores[number % len(self._stores)]

    def replace(self, dead: BlobStore) -> None:
        """Somebody found one dead."""
        with self._lock:
            if dead in self._stores:
                self.happened["killed"] += 1
                self._stores[self._stores.index(dead)] = self._start()


class Writer:
    """A room in a process that writes one batch after the other, as one client id."""

    def __init__(self, processes: Processes, number: int, client: int, seed: int) -> None:
        self.processes = processes
        self.number = number
        self.client = client
        self.device = f"{client:016x}"
        self.chance = SeededRandom(seed)
        self.acknowledged: list[Key] = []
        self.head = 0
        self.clock = 0
        self.registered = False

    def run(self, batches: int) -> None:
        for _ in range(batches):
            content = self.chance.token_bytes(1 + self.chance.below(60))
            while not self._say(content):
                pass

    def _say(self, content: bytes) -> bool:
        """Whether a batch is stored, or another one of this client id has its place."""
        store = self.processes.use(self.number + self.chance.below(2))
        try:
            clients = {} if self.registered else {self.client: self.device}
            row = Row(self.device, append(self.device, self.client, self.clock, content))
            refused = store.commit([Batch(POOL, self.head, [row], clients)], 1, self._catch_up)
            if not refused:
                self.head += 1
                self.acknowledged.append((self.client, self.clock, content))
                self.clock += 1
                self.registered = True
                return True
            return self._reload(store, content)
        except StoreError:  # nobody knows
            with suppress(StoreError):
                return self._reload(store, content)
        except Killed:
            self.processes.replace(store)
        return False

    def _catch_up(self, missed: Sequence[Missed]) -> set[str]:
        (one,) = missed
        if one.rows is None or one.after != self.head:
            return set()
        if any(self.client in decode_update(row.update, stored=True).items for row in one.rows):
            return set()
        if one.clients.get(self.client, self.device) != self.device:
            return set()
        self.head += len(one.rows)
        return {POOL}

    def _reload(self, store: BlobStore, content: bytes) -> bool:
        """What a room does that was refused: look what is stored, and go on from there."""
        stored = store.load(POOL)
        self.head = stored.head
        self.registered = self.client in stored.clients
        room = build_room(POOL, stored)
        mine = batches(stored, self.client)
        self.clock = room._ledger.clock(self.client)
        if mine and (self.client, self.clock - 1, content) == mine[-1]:
            self.acknowledged.append(mine[-1])  # as a room does when it hears it again
            return True
        return False


def batches(stored: Stored, client: int | None = None) -> list[Key]:
    """Every batch that is in the rows and in the snapshot, in order."""
    found: list[Key] = []
    for data in stored.updates:
        for one, run in decode_update(data, stored=True).items.items():
            for item in run:
                for clock, content in enumerate(item.contents or (), start=item.clock):
                    if client in (None, one):
                        found.append((one, clock, content))
    return found


class Compactor:
    """Compacts the room over and over, and sweeps."""

    def __init__(self, processes: Processes, number: int) -> None:
        self.processes = processes
        self.number = number
        self.over = threading.Event()
        self.done = 0

    def run(self) -> None:
        while not self.over.is_set():
            store = self.processes.use(self.number)
            try:
                made = make_snapshot(store, POOL)
                if made is not None and store.compact(POOL, *made):
                    self.done += 1
                store.erase(POOL)
            except StoreError:
                pass
            except Killed:
                self.processes.replace(store)


@pytest.fixture
def address(azurite: AzuriteServer) -> Address:
    address = new_container(azurite)
    store = blobs.open_store(address, migrate=True)
    store.tokens.create(POOL, None, "writer", SeededRandom(1), 1)
    store.close()
    return address


def at_once(runs: Sequence[threading.Thread]) -> None:
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()


# Where a request is broken off, its connection is closed when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(("seed", "rate"), [(1, 0.0), (2, 0.1), (3, 0.2)])
def test_whatever_fails_acknowledged_rows_are_there_once_for_all(
    address: Address, seed: int, rate: float
) -> None:
    processes = Processes(address, seed, rate, 2)
    # Of the last two, one is a clone of the other: they write under one client id.
    writers = [Writer(processes, n, min(n, 4) + 1, seed * 100 + n) for n in range(6)]
    compactors = [Compactor(processes, number) for number in range(2)]
    working = [threading.Thread(target=one.run) for one in compactors]
    for thread in working:
        thread.start()
    at_once([threading.Thread(target=one.run, args=(12,)) for one in writers])
    for compactor in compactors:
        compactor.over.set()
    for thread in working:
        thread.join()
    processes.close()
    readers = [blobs.open_store(address) for _ in range(2)]
    stored = [reader.load(POOL) for reader in readers]
    assert stored[0] == stored[1]
    build_room(POOL, stored[0])  # every row fits in its place
    found = Counter(batches(stored[0]))
    assert set(found.values()) == {1}
    acknowledged = {key for writer in writers for key in writer.acknowledged}
    assert acknowledged <= found.keys()
    assert len(acknowledged) == 12 * len(writers)
    assert sum(one.done for one in compactors) > 0
    assert rate < 0.15 or processes.happened["killed"] > 0
    for reader in readers:
        reader.close()
    gc.collect()
