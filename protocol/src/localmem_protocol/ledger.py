"""What is known of every client id of a sealed document: whose it is, and how far it has got.

Hub and devices keep the same ledger and put every update to the same check before it is merged, so
that nothing reaches the CRDT library that it would hold back as pending, and nobody writes in
another's array. The check costs time linear in the update, whatever the document holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from localmem_protocol.envelope import NO_HASH, batch_hash
from localmem_protocol.errors import GapError, UpdateError
from localmem_protocol.limits import CLIENT_ID_MAX, CLIENTS_MAX
from localmem_protocol.updates import Item, Update


@dataclass(slots=True)
class Account:
    """One client id: its device, the clock after its newest batch, that batch's hash.

    `head` is NO_HASH while there is none, and b"" when the newest batch is not here any more.
    """

    device: str
    clock: int = 0
    head: bytes = NO_HASH


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

    def free(self) -> int:
        """The smallest client id that nobody had. Raises UpdateError when the pool is full."""
        if len(self._accounts) >= CLIENTS_MAX:
            raise UpdateError(f"the pool has all {CLIENTS_MAX} client ids it may have")
        return next(client for client in count(1) if client not in self._accounts)

    def register(self, client: int, device: str) -> None:
        """Bind a client id to a device, for good. Raises UpdateError if it is another's."""
        if self._accounts.setdefault(client, Account(device)).device != device:
            raise UpdateError(f"client {client} belongs to another device")

    def check(self, update: Update) -> None:
        """Whether an update can be merged as it stands; changes nothing.

        Raises GapError (transient) when something that it builds on is missing, and UpdateError
        when it contradicts itself or what is known.
        """
        for client, run in update.items.items():
            if run[0].clock > self.clock(client):
                raise GapError(
                    f"client {client} starts at {run[0].clock}, not {self.clock(client)}"
                )
        found = self._new_owners(update)
        ends = {client: run[-1].end for client, run in update.items.items()}

        def reached(client: int) -> int:
            return max(self.clock(client), ends.get(client, 0))

        for client, run in update.items.items():
            owner = found.get(client) or self.owner(client)
            for item in run:
                if item.root not in (None, owner):
                    raise UpdateError(f"client {client} writes into two arrays")
                for neighbour in (item.origin, item.right):
                    if neighbour is None:
                        continue
                    if neighbour[1] >= reached(neighbour[0]):
                        raise GapError(f"client {client} builds on {neighbour}, which is missing")
                    if (found.get(neighbour[0]) or self.owner(neighbour[0])) != owner:
                        raise UpdateError(f"client {client} builds on another device's array")
        for client, ranges in update.deletes.items():
            if any(first + length > reached(client) for first, length in ranges):
                raise GapError(f"deletes clocks of client {client} that are missing")

    def note(self, update: Update) -> None:
        """Enter a checked update that was merged."""
        for client, device in self._new_owners(update).items():
            self._accounts[client] = Account(device)
        for client, run in update.items.items():
            account = self._accounts[client]
            for item in run:
                if item.end > account.clock:
                    account.clock = item.end
                    account.head = batch_hash(item.contents[-1]) if item.contents else b""

    def _new_owners(self, update: Update) -> dict[int, str]:
        """client -> device for the clients that this update brings. Raises UpdateError, GapError."""
        found: dict[int, str] = {}
        waiting = {client: run for client, run in update.items.items() if client not in self}
        while waiting:
            before = len(waiting)
            for client, run in list(waiting.items()):
                device = self._device_of(run, found)
                if device is not None:
                    found[client] = device
                    del waiting[client]
            if len(waiting) == before:
                client, run = next(iter(waiting.items()))
                if all(item.collected for item in run):
                    raise UpdateError(f"client {client} says nowhere whose it is")
                raise GapError(f"client {client} stands in no array that is known")
        if found and len(self._accounts) + len(found) > CLIENTS_MAX:
            raise UpdateError(f"more than {CLIENTS_MAX} client ids in one pool")
        if any(not 0 < client <= CLIENT_ID_MAX for client in found):
            raise UpdateError(f"a client id outside 1 to {CLIENT_ID_MAX}")
        return found

    def _device_of(self, run: list[Item], found: dict[int, str]) -> str | None:
        """Whose array a client's run stands in: it says so, or what it builds on does."""
        for item in run:
            if item.root is not None:
                return item.root
            for neighbour in (item.origin, item.right):
                if neighbour is not None:
                    owner = found.get(neighbour[0]) or self.owner(neighbour[0])
                    if owner is not None:
                        return owner
        return None
