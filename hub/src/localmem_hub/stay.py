"""A device in a room by a WebSocket, from when it was let in to its end: what it says is counted and
handed to the room, and when it is gone everybody who has to know is told.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from localmem_hub.connection import Connection
from localmem_hub.counts import Tally
from localmem_hub.errors import RefusedError
from localmem_hub.live import LiveRoom
from localmem_hub.seams import Identity

if TYPE_CHECKING:
    from localmem_hub.endpoint import Endpoint

log: Final = logging.getLogger(__name__)


class Hearing(Protocol):
    """A room of either kind, as somebody in it sees it."""

    def hears(self, connection: int) -> bool:
        """Whether it takes what a connection says."""
        ...

    async def ready(self, connection: int) -> None:
        """Wait until it does."""
        ...


RoomKind = TypeVar("RoomKind", bound=Hearing)


_RoomKind = TypeVar("_RoomKind", bound=Hearing, contravariant=True)


class Occupied(Protocol[_RoomKind]):
    """The rooms of one kind."""

    def receive(self, live: _RoomKind, connection: int, frames: Sequence[bytes], /) -> None:
        """Take what a connection said at once."""
        ...

    def leave(self, live: _RoomKind, connection: int, /) -> None:
        """A connection is gone."""
        ...


class Stay(Generic[RoomKind]):
    """Somebody in a room of either kind; a `connection.Listener`. The `endpoint` knows of it until it is
    over."""

    __slots__ = (
        "_address",
        "_connection",
        "_endpoint",
        "_identity",
        "_room",
        "_rooms",
        "_since_s",
        "_tally",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        connection: Connection,
        identity: Identity,
        address: str,
        tally: Tally,
        rooms: Occupied[RoomKind],
        room: RoomKind,
    ) -> None:
        self._rooms = rooms
        self._room = room
        self._endpoint = endpoint
        self._connection = connection
        self._identity = identity
        self._address = address
        self._tally = tally
        self._since_s = endpoint.clock.monotonic_s()
        tally.begin(connection)

    def hear(self, messages: list[bytes]) -> Coroutine[None, None, None] | None:
        """As `Listener` says."""
        if not self._room.hears(self._connection.number):
            return self._hear_later(messages)
        self._take_all(messages)
        return None

    async def _hear_later(self, messages: list[bytes]) -> None:
        await self._room.ready(self._connection.number)
        if self._connection.closing is None:  # it may have lost its right while it waited
            self._take_all(messages)

    def _take_all(self, messages: list[bytes]) -> None:
        """Hand over what may be said; who may not go on is sent away after that."""
        taken = 0
        try:
            if self._count_freely(messages):  # nearly always
                taken = len(messages)
            for message in messages[taken:]:
                self._count(message)
                taken += 1
        except RefusedError as refused:
            self._hand_over(messages[:taken])
            self._connection.drop(refused.close_code, refused.reason)
        else:
            self._hand_over(messages)

    def over(self) -> None:
        """As `Listener` says."""
        connection, identity = self._connection, self._identity
        closing = connection.closing
        self._rooms.leave(self._room, connection.number)
        self._tally.end(connection)
        self._endpoint.release(connection)
        if closing is not None:
            self._endpoint.counts.refuse(closing[0])
            self._endpoint.note_end(self._address, identity, *closing)
        log.info(
            "closed %s token=%s role=%s code=%d seconds=%.1f "
            "frames_in=%d bytes_in=%d frames_out=%d bytes_out=%d",
            self._where,
            identity.token or "none",
            identity.role,
            closing[0] if closing is not None else connection.code,
            self._endpoint.clock.monotonic_s() - self._since_s,
            connection.frames,
            connection.bytes,
            connection.frames_sent,
            connection.bytes_sent,
        )

    @property
    def _where(self) -> str:
        """For the log."""
        raise NotImplementedError

    def _count(self, message: bytes) -> None:
        """Count what was said. Raises RefusedError."""
        raise NotImplementedError

    def _count_freely(self, messages: list[bytes]) -> bool:
        """Count all of this if it is far from every bound; whether it was."""
        raise NotImplementedError

    def _hand_over(self, messages: list[bytes]) -> None:
        self._rooms.receive(self._room, self._connection.number, messages)


class SealedStay(Stay[LiveRoom]):
    """Somebody in a sealed room."""

    __slots__ = ()

    @property
    def _where(self) -> str:
        return f"pool={self._identity.pool} device={self._identity.device}"

    def _count(self, message: bytes) -> None:
        self._endpoint.count_frames(self._identity, (message,), self._room.room)

    def _count_freely(self, messages: list[bytes]) -> bool:
        return self._endpoint.count_freely(self._identity, messages, self._room.room)
