"""Which events the references of a simulated world stand for, and who can give their texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from localmem_protocol.envelope import PoolKey
from localmem_protocol.events import Event
from localmem_protocol.simulation.device import SimulatedDevice
from localmem_protocol.simulation.participants import Implementation


def may_ask(device: SimulatedDevice) -> bool:
    """Whether a device's side may write, by its own account; one that does not say so may."""
    return bool(getattr(device.side, "writer", True))


class Naming:
    """An event by each name that a reference to it has: one for each key that the pool had."""

    def __init__(self, implementation: Implementation, *, references: bool) -> None:
        """Without `references` nothing has a name."""
        self._named, self._waiting = implementation.named, implementation.waiting
        self._references = references
        self._ids: dict[str, str] = {}
        self._events: dict[str, Event] = {}
        self._keys: list[PoolKey] = []

    def begin_epoch(self, key: PoolKey) -> None:
        """References may be made under this key from now on."""
        self._keys.append(key)
        for event in self._events.values():
            self._name(key, event)

    def recorded(self, event: Event) -> None:
        """Something that may be referred to."""
        self._events[event.id] = event
        for key in self._keys:
            self._name(key, event)

    def ids(self, found: Iterable[str]) -> set[str]:
        """The ids of events that are given by id or by name."""
        return {self._ids.get(one, one) for one in found}

    def referred(self, found: Iterable[str]) -> set[str]:
        """The ids of those that are given by name, and by nothing else."""
        found = set(found)
        return {self._ids[one] for one in found if one in self._ids} - found

    def due(self, devices: Sequence[SimulatedDevice]) -> int:
        """How many texts devices wait for that another of them has: (event, device) pairs.

        A reader asks nobody, and waits for what others ask for.
        """
        return sum(
            any(event_id in other.disk.log.events for other in devices)
            for device in devices
            if device.side is not None and may_ask(device)
            for event_id in self.ids(self._waiting(device.side)) - device.disk.log.events.keys()
        )

    def was_offered(self, event_id: str, device: SimulatedDevice) -> bool:
        """Whether a device's own clone gave it the text of an event."""
        event = self._events[event_id]
        if device.clone is None or event.file_path is None or event.selection_range is None:
            return False
        return ((event.file_path, event.selection_range), event.snippet) in device.clone.offered

    def _name(self, key: PoolKey, event: Event) -> None:
        name = self._named(key, event) if self._references else None
        if name is not None:
            self._ids[name] = event.id
