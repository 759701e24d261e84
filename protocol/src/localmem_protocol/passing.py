"""What a room passes on of one commit: what one connection wrote in it goes to the others as one update.

Updates of several senders may change places by that. So what could build on another sender's (deletes,
and a second connection of one device) must not be gathered beside what came before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from localmem_protocol.updates import Update, encode_update, join


@dataclass(slots=True)
class _Written:
    device: str
    encoded: bytes  # the first of them, as it is
    updates: list[Update] = field(default_factory=list)


class Passing:
    """What was gathered so far, by connection."""

    __slots__ = ("_written",)

    def __init__(self) -> None:
        self._written: dict[int, _Written] = {}

    def may_overtake(self, connection: int, device: str, update: Update) -> bool:
        """Whether an update could build on what another sender wrote, which has to go before it."""
        if update.deletes:
            return True
        others = (one for one in self._written.values() if one.device == device)
        return connection not in self._written and any(others)

    def add(self, connection: int, device: str, update: Update, encoded: bytes) -> None:
        """One more, in its place among those of its sender."""
        written = self._written.setdefault(connection, _Written(device, encoded))
        written.updates.append(update)

    def updates(self) -> Iterator[tuple[int, bytes]]:
        """Everything, as few updates as it fits into, each with its sender."""
        for connection, written in self._written.items():
            if len(written.updates) == 1:
                yield connection, written.encoded
            else:
                for joined in join(written.updates):
                    yield connection, encode_update(joined)
