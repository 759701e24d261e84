"""What is known of every client id of a sealed document: whose it is, and how far it has got.

Hub and devices keep the same ledger and put every update to the same check before it is merged, so
that nothing reaches the CRDT library that it would hold back as pending, and nobody writes in
another's array. The check costs time linear in the update, whatever the document holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count
from typing import Final

from localmem_protocol.envelope import NO_HASH, batch_hash, opens_segment
from localmem_protocol.errors import GapError, UpdateError
from localmem_protocol.events import is_device_id
from localmem_protocol.limits import CLIENT_ID_BITS, CLIENT_ID_MAX, CLIENTS_MAX
from localmem_protocol.seams import Random
from localmem_protocol.updates import Update, covers, in_order, normal

DRAWS: Final = 64
"""Draws of a client id before a longer one is drawn; a pool that is full of them takes two on average."""


def mark_of(clock: int, sealed: bytes) -> int:
    """What is remembered of a live batch: 32 bits of it and of its place."""
    return int.from_bytes(blake2b(clock.to_bytes(8) + sealed, digest_size=4).digest())


@dataclass(slots=True)
class Account:
    """One client id: its device, the clock after its newest batch, that batch's hash.

    `head` is NO_HASH while there is none, and b"" when the newest batch was deleted before it came
    here; `ended` is whether it is deleted, so that nothing can continue its segment. `firsts` are
    the clocks of the live batches that open a segment; `marks` are the marks of all live ones.
    """

    device: str
    clock: int = 0
    head: bytes = NO_HASH
    ended: bool = False
    firsts: Set[int] = frozenset()  # a set of its own once there is one
    marks: dict[int, int] = field(default_factory=dict)

    def begin_segment(self, clock: int) -> None:
        """The live batch at this clock opens a segment."""
        if isinstance(self.firsts, set):
            self.firsts.add(clock)
        else:
            self.firsts = {clock}

    def digest(self, marks: Iterable[int]) -> int:
        """32 bits that stand for its owner and for batches with these marks."""
        found = int.from_bytes(blake2b(self.device.encode(), digest_size=4).digest())
        for mark in marks:
            found ^= mark
        return found


class Ledger:
    """The accounts of one document."""

    def __init__(self) -> None:
        self._accounts: dict[int, Account] = {}

    def __contains__(self, client: int) -> bool:
        return client in self._accounts

    def __iter__(self) -> Iterator[int]:
        return iter(self._accounts)

    def account(self, client: int) -> Account | None:
        """The account of a client id."""
        return self._accounts.get(client)

    def clock(self, client: int) -> int:
        """The clock after a client's newest batch; 0 for one that is unknown."""
        account = self._accounts.get(client)
        return account.clock if account else 0

    def owner(self, client: int) -> str | None:
        """The device that a client id belongs to."""
        account = self._accounts.get(client)
        return account.device if account else None

    def clients_of(self, device: str) -> list[int]:
        """Every client id of a device."""
        return [client for client, account in self._accounts.items() if account.device == device]

    def free(self, random: Random | None = None) -> int:
        """A client id that nobody had. Raises UpdateError when the pool is full.

        A drawn one: a hub that was restored from a backup does not know all that it gave away. Without
        chance, the smallest.
        """
        if len(self._accounts) >= CLIENTS_MAX:
            raise UpdateError(f"the pool has all {CLIENTS_MAX} client ids it may have")
        if random is None:
            return next(client for client in count(1) if client not in self._accounts)
        for bits in count(CLIENT_ID_BITS, 7):
            least, beyond = 1 << (CLIENT_ID_BITS - 7), 1 << min(bits, CLIENT_ID_MAX.bit_length())
            for _ in range(DRAWS):
                drawn = int.from_bytes(random.token_bytes(8)) % (beyond - least) + least
                if drawn not in self._accounts:
                    return drawn
        raise AssertionError("unreachable")

    def register(self, client: int, device: str) -> None:
        """Bind a client id to a device, for good. Raises UpdateError if it is another's, or one too many."""
        if client not in self._accounts and len(self._accounts) >= CLIENTS_MAX:
            raise UpdateError(f"the pool has all {CLIENTS_MAX} client ids it may have")
        if self._accounts.setdefault(client, Account(device)).device != device:
            raise UpdateError(f"client {client} belongs to another device")

    def check(self, update: Update) -> dict[int, str]:
        """Whether an update can be merged as it stands; whose the client ids are that it brings.

        Changes nothing. Raises GapError (transient) when something that it builds on is missing,
        and UpdateError when it contradicts itself or what is known.
        """
        if (appended := update.appended) is not None:
            client, item = appended
            if client in self._accounts and item.clock <= self._accounts[client].clock:
                return {}  # it builds on nothing but itself
        for client, run in update.items.items():
            if run[0].clock > self.clock(client):
                raise GapError(
                    f"client {client} starts at {run[0].clock}, not {self.clock(client)}"
                )
        ends = {client: run[-1].end for client, run in update.items.items()}
        found: dict[int, str] = {}

        def reached(client: int) -> int:
            return max(self.clock(client), ends.get(client, 0))

        def owner(client: int) -> str | None:
            return found.get(client) or self.owner(client)

        for client, item in in_order(update.items):
            arrays = [] if item.root is None else [item.root]
            for neighbour in (item.origin, item.right):
                if neighbour is None or neighbour[0] == client:
                    continue  # in order: what the client itself wrote came before
                if neighbour[1] >= reached(neighbour[0]):
                    raise GapError(f"client {client} builds on {neighbour}, which is missing")
                arrays.append(owner(neighbour[0]) or "")
            if arrays and owner(client) is None:
                found[client] = self._admit(client, arrays[0], found)
            if any(array != owner(client) for array in arrays):
                raise UpdateError(f"client {client} writes into another device's array")
        for client, ranges in update.deletes.items():
            if any(first + length > reached(client) for first, length in ranges):
                raise GapError(f"deletes clocks of client {client} that are missing")
        return found

    def note(self, update: Update, owners: Mapping[int, str]) -> None:
        """Enter an update that was merged, with what `check` said of it."""
        for client, device in owners.items():
            self._accounts[client] = Account(device)
        for client, run in update.items.items():
            account = self._accounts[client]
            for item in run:
                if item.end > account.clock:
                    for clock, sealed in enumerate(item.contents or (), start=item.clock):
                        if clock >= account.clock:
                            account.marks[clock] = mark_of(clock, sealed)
                            if opens_segment(sealed):
                                account.begin_segment(clock)
                    account.clock = item.end
                    account.head = batch_hash(item.contents[-1]) if item.contents else b""
                    account.ended = item.contents is None
        for client, ranges in update.deletes.items():
            _delete(self._accounts[client], ranges)

    def _admit(self, client: int, device: str, found: Mapping[int, str]) -> str:
        """The device that a new client id belongs to. Raises UpdateError if it cannot be one."""
        if not 0 < client <= CLIENT_ID_MAX:
            raise UpdateError(f"a client id outside 1 to {CLIENT_ID_MAX}")
        if not is_device_id(device):
            raise UpdateError(f"client {client} writes into an array that is no device's")
        if len(self._accounts) + len(found) >= CLIENTS_MAX:
            raise UpdateError(f"more than {CLIENTS_MAX} client ids in one pool")
        return device


def _delete(account: Account, ranges: Iterable[tuple[int, int]]) -> None:
    gone = normal(ranges)
    account.ended |= covers(gone, account.clock - 1, 1)
    account.firsts = account.firsts - {clock for clock in account.firsts if covers(gone, clock, 1)}
    marks = account.marks
    for first, length in gone:
        # A range may be far longer than what is live, or the other way round.
        clocks = range(first, first + length)
        for clock in clocks if length < len(marks) else [c for c in marks if c in clocks]:
            marks.pop(clock, None)
