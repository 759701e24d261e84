"""The people of a simulated pool: devices with keys, a founder, and the first entries of their roster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from localmem_protocol.chain import Roster
from localmem_protocol.entries import Entry, Role, encode_entry
from localmem_protocol.envelope import PoolKey
from localmem_protocol.keys import DeviceKeys
from localmem_protocol.roster import RECOVERY, Author, admit, found
from localmem_protocol.seams import Random
from localmem_protocol.simulation.clock import START_MS
from localmem_protocol.simulation.streams import Streams

OWNERS: Final = 2
"""The first devices are owners, so that two can change the roster at once."""


class People:
    """Everybody who is, was or will be in the pool; the same for the same seed."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._keys: dict[str, DeviceKeys] = {}
        self.rescuer = self.keys(RECOVERY)

    def keys(self, device: str) -> DeviceKeys:
        """A device's keys; copies of it have the same."""
        if device not in self._keys:
            stream = self._streams.stream(f"keys {device}")
            self._keys[device] = DeviceKeys.generate(stream)
        return self._keys[device]

    def author(self, device: str) -> Author:
        """A device as it signs."""
        return Author(device, self.keys(device))

    def found(self, devices: Sequence[str]) -> list[bytes]:
        """The roster of a new pool with these devices, the first of which makes it."""
        random = self._streams.stream("founding")
        founder = self.author(devices[0])
        log = [encode_entry(found(founder, random, START_MS, self.rescuer.public))]
        roster = Roster.load(log)
        for number, device in enumerate(devices[1:], start=1):
            role: Role = "owner" if number < OWNERS else "member"
            entry = self.admit(roster, founder, random, device, role)
            roster.apply(entry)
            log.append(encode_entry(entry))
        return log

    def admit(
        self, roster: Roster, author: Author, random: Random, device: str, role: Role = "member"
    ) -> Entry:
        """What lets a device in, with the keys of all epochs."""
        keys = self.keys(device).public
        return admit(roster, author, random, START_MS, device=device, keys=keys, role=role)

    def key(self, roster: Roster, epoch: int) -> PoolKey:
        """The key of an epoch, by the recovery phrase."""
        first, key = (roster.epoch_key(one, self.rescuer, RECOVERY) for one in (1, epoch))
        return PoolKey(roster.pool_id, epoch, key, first)

    def held(self, roster: Roster, device: str) -> dict[int, bytes]:
        """Every epoch key that a device can have, by epoch."""
        return roster.epoch_keys(self.keys(device), device)
