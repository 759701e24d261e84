"""All WebSocket connections of a process: what is written to them, and how long they may be silent."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Final

from localmem_hub.connection import Connection
from localmem_hub.websocket_frames import head
from localmem_hub.wire import Wire

LOOK_SECONDS: Final = 1.0
"""How often it is looked whose time has come; their times are longer."""

FRAMED_BYTES_MAX: Final = 64 * 1024
"""A message of more is not kept for the next who is told the same."""


class Connections:
    """They belong to one event loop."""

    def __init__(self, look_seconds: float = LOOK_SECONDS) -> None:
        self._look_seconds = look_seconds
        self._numbers = count(1)
        self._here: set[Connection] = set()
        self._told: list[Connection] = []
        self._framed = (b"", head(0))  # the newest message, and how it is written
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._here)

    def number(self) -> int:
        """A number for a connection, or a request; unique within the process."""
        return next(self._numbers)

    def accepted(self, wire: Wire, bytes_max: int) -> Connection:
        """Take over a connection whose handshake is done. It is not read from yet."""

        def take(transport: asyncio.Transport) -> Connection:
            made = Connection(self.number(), transport, self, bytes_max)
            self._here.add(made)  # before it may be told that it is gone
            return made

        connection = wire.hand_over(take)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._look_seconds, self._look)
        return connection

    @property
    def ending(self) -> bool:
        """Whether somebody was told to go, and has not said goodbye."""
        return any(connection.ending for connection in self._here)

    def shutdown(self) -> None:
        """End all that are left."""
        for connection in list(self._here):
            connection.shutdown()

    def now_s(self) -> float:
        """As `Keeper` says."""
        return asyncio.get_running_loop().time()

    def framed(self, data: bytes) -> bytes:
        """As `Keeper` says. What a room tells everybody is one object."""
        known, framed = self._framed
        if known is not data:
            framed = head(len(data)) + data
            if len(data) <= FRAMED_BYTES_MAX:
                self._framed = (data, framed)
        return framed

    def told(self, connection: Connection) -> None:
        """As `Keeper` says."""
        if not self._told:
            asyncio.get_running_loop().call_soon(self._write)
        self._told.append(connection)

    def gone(self, connection: Connection) -> None:
        """As `Keeper` says."""
        self._here.discard(connection)

    def _write(self) -> None:
        told, self._told = self._told, []
        for connection in told:
            connection.write_now()

    def _look(self) -> None:
        again, loop = bool(self._here), asyncio.get_running_loop()
        self._timer = loop.call_later(self._look_seconds, self._look) if again else None
        now_s = self.now_s()
        for connection in [one for one in self._here if one.due_s <= now_s]:
            connection.look(now_s)
