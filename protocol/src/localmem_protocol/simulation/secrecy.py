"""The oracle's books of what nobody is to read any more: what was forgotten, and what came after a removal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from localmem_protocol.chain import Roster
from localmem_protocol.envelope import PoolKey
from localmem_protocol.room import Commit
from localmem_protocol.simulation.device import SimulatedDevice
from localmem_protocol.simulation.participants import Implementation, Sealed
from localmem_protocol.simulation.people import People


class Forgotten:
    """What somebody forgot, by whom. `promised` has to be nowhere; `doubtful` may be there or not.

    A promise is given when the device has said so. It is void for those that a rollback made untold
    (`untold`), and for a device that is no member in the end: nobody was told.
    """

    def __init__(self) -> None:
        self.begun: set[str] = set()
        self.by: dict[str, set[str]] = {}  # event id -> devices that may still have to tell

    @property
    def promised(self) -> set[str]:
        """What everybody has to forget."""
        return {event_id for event_id, devices in self.by.items() if devices}

    @property
    def doubtful(self) -> set[str]:
        """What may be forgotten, or not."""
        return self.begun - self.promised

    def forgotten(self, device: SimulatedDevice, ids: Iterable[str]) -> None:
        """A device said that it forgot these."""
        for event_id in ids:
            self.by.setdefault(event_id, set()).add(device.name)

    def untold(
        self, device: SimulatedDevice, tombstones: set[bytes], of: Callable[[str], bytes]
    ) -> None:
        """A device became an older one, which does not know that it has to tell these."""
        for event_id, devices in self.by.items():
            if of(event_id) in tombstones:
                devices.discard(device.name)

    def unknown(self, known: Callable[[str], bool]) -> None:
        """A hub was restored, or is, and a device with it: what nobody knows of is not promised."""
        for event_id, devices in self.by.items():
            if devices and not known(event_id):
                devices.clear()

    def settle(
        self, members: Iterable[SimulatedDevice], told: set[bytes], of: Callable[[str], bytes]
    ) -> None:
        """In the end: a promise counts if a member gave it, or its tombstone reached the hub."""
        names = {device.name for device in members}
        for event_id, devices in self.by.items():
            if of(event_id) not in told:
                devices &= names


class Removed:
    """What writers sealed when they knew of a removal: no key of the removed device opens it."""

    def __init__(self, implementation: Implementation) -> None:
        self._sealed = implementation.sealed
        self._opens = implementation.opens
        self._after: dict[str, set[tuple[int, int, int]]] = {}  # removed -> epoch, client, clock
        self._batches: dict[int, list[tuple[str, Sealed]]] = {}  # by epoch

    def sent(self, device: SimulatedDevice, frame: bytes) -> str | None:
        """A device sends this; what is wrong with that, if it is."""
        if self._sealed is None:
            return None
        batches = self._sealed(frame)
        if not batches:
            return None
        for former in device.view.roster.former:
            known = self._after.setdefault(former, set())
            known.update((device.epoch, client, clock) for client, clock, _ in batches)
        if device.view.epoch > device.epoch:
            return f"writes into epoch {device.epoch}, and knows of epoch {device.view.epoch}"
        return None

    def committed(self, epoch: int, commit: Commit) -> None:
        """The hub's store has this."""
        if self._sealed is not None:
            batches = self._batches.setdefault(epoch, [])
            for row in commit.rows:
                batches += [(row.device, one) for one in self._sealed(row.update)]

    def check(self, people: People, roster: Roster) -> str | None:
        """Try every key of every removed device on every batch that was sealed after that."""
        for former in sorted(roster.former):
            after = self._after.get(former, set())
            for key in people.held(roster, former).values():
                for epoch, batches in sorted(self._batches.items()):
                    opened = self._opened(PoolKey(roster.pool_id, epoch, key), batches)
                    read = {(epoch, *place) for place in opened} & after
                    if read:
                        return (
                            f"{former} reads {len(read)} batches that were sealed after its removal"
                        )
        return None

    def _opened(self, key: PoolKey, batches: Sequence[tuple[str, Sealed]]) -> set[tuple[int, int]]:
        return set() if self._opens is None else self._opens(key, batches)
