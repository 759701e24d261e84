"""What the hub has, as far as it has said on this connection: what has to be told it follows from that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from localmem_protocol.replica import Replica
from localmem_protocol.updates import Ranges, Update, clipped

NO_CLOCKS: Final = b"\x00"
"""The state vector of somebody who has nothing."""


@dataclass
class HubView:
    """`vector` is how far the hub was when it greeted, `clocks` that and what it has told since, and
    `deletes` what it had deleted, as far as it has told. `held` is what it says it has in all (clock
    and digest of each client id), if it does; `fresh` is whether the document here came from it alone.
    """

    vector: bytes = NO_CLOCKS
    clocks: dict[int, int] = field(default_factory=dict)
    deletes: Ranges = field(default_factory=dict)
    held: dict[int, tuple[int, int]] | None = None
    fresh: bool = False

    def note(self, told: Update) -> None:
        """The hub told this."""
        for client, run in told.items.items():
            self.clocks[client] = max(self.clocks.get(client, 0), run[-1].end)
        for client, ranges in told.deletes.items():
            self.deletes.setdefault(client, []).extend(ranges)

    def untold_deletes(self, replica: Replica) -> Ranges:
        """What is deleted here and not at the hub; of others, what the hub has at all."""
        mine = replica.ledger.clients_of(replica.device)
        reached = {client: replica.ledger.clock(client) for client in mine}
        return clipped(replica.deletes_beyond(self.deletes), self.clocks | reached)
