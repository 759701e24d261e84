"""Who is in a room, as its clients tell each other: cursors, names. In memory only.

The rule of `y-protocols`: of two states of one client the one with the higher clock counts, and an
end of the same clock. With the connection that holds it a state ends. Clients repeat what they hear of
others, over the network or from tab to tab, so the connection that told of a client first holds its
states for as long as it is there, whoever tells of the next: a tab that was closed would stay
otherwise, since it answers the echo of its own end with a state of a higher clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from localmem_hub.plain.limits import (
    AWARENESS_CLIENTS_MAX,
    AWARENESS_CLIENTS_PER_CONNECTION,
    AWARENESS_GONE_MAX,
    AWARENESS_ROOM_BYTES_MAX,
)
from localmem_hub.plain.messages import NO_STATE, Presence


@dataclass(slots=True)
class _Held:
    presence: Presence
    connection: int


class Awareness:
    """The states of one room."""

    __slots__ = ("_bytes", "_counts", "_gone", "_held")

    def __init__(self) -> None:
        self._held: dict[int, _Held] = {}
        # client -> clock of its last state, and the connection that held it while that is there
        self._gone: dict[int, tuple[int, int | None]] = {}  # the oldest first
        self._counts: dict[int, int] = {}  # connection -> states that it holds
        self._bytes = 0

    @property
    def states(self) -> list[Presence]:
        """Everybody who is there."""
        return [held.presence for held in self._held.values()]

    def apply(self, connection: int, states: tuple[Presence, ...]) -> list[Presence]:
        """Take what a connection tells; what of it is news. What is over a bound is left out."""
        return [one for one in states if self._take(connection, one)]

    def leave(self, connection: int) -> list[Presence]:
        """A connection ended: so do the states that it held, which are returned as ended."""
        ended = [
            Presence(client, held.presence.clock, NO_STATE)
            for client, held in self._held.items()
            if held.connection == connection
        ]
        for one in ended:
            self._end(one, None)
        for client, (clock, holder) in self._gone.items():
            if holder == connection:
                self._gone[client] = (clock, None)
        return ended

    def _take(self, connection: int, one: Presence) -> bool:
        held = self._held.get(one.client)
        if one.state == NO_STATE:
            if held is None or one.clock < held.presence.clock:
                return False
            self._end(one, held.connection)
            return True
        clock, holder = self._gone.get(one.client, (-1, None))
        if held is not None:
            clock, holder = held.presence.clock, held.connection
        holder = connection if holder is None else holder
        if one.clock <= clock or not self._has_room(holder, one, held):
            return False
        self._drop(one.client)
        self._gone.pop(one.client, None)
        self._held[one.client] = _Held(one, holder)
        self._counts[holder] = self._counts.get(holder, 0) + 1
        self._bytes += len(one.state)
        return True

    def _has_room(self, holder: int, one: Presence, held: _Held | None) -> bool:
        before = len(held.presence.state) if held else 0
        return (
            (held is not None or self._counts.get(holder, 0) < AWARENESS_CLIENTS_PER_CONNECTION)
            and (held is not None or len(self._held) < AWARENESS_CLIENTS_MAX)
            and self._bytes - before + len(one.state) <= AWARENESS_ROOM_BYTES_MAX
        )

    def _end(self, one: Presence, holder: int | None) -> None:
        self._drop(one.client)
        self._gone.pop(one.client, None)
        self._gone[one.client] = (one.clock, holder)
        if len(self._gone) > AWARENESS_GONE_MAX:
            del self._gone[next(iter(self._gone))]

    def _drop(self, client: int) -> None:
        held = self._held.pop(client, None)
        if held is not None:
            self._bytes -= len(held.presence.state)
            left = self._counts[held.connection] - 1
            if left:
                self._counts[held.connection] = left
            else:
                del self._counts[held.connection]
