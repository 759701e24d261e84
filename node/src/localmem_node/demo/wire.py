"""A cable between a device and the hub: counts every byte that crosses it, and can be pulled.

A plain TCP forwarder on loopback; what it counts is what a network would carry above TCP: the
WebSocket handshake, headers and pings included.
"""

from __future__ import annotations

import contextlib
import select
import socket
from threading import Lock, Thread
from typing import Final

CHUNK_BYTES: Final = 64 * 1024


class Wire:
    """Forwards connections to (host, port) while it is plugged in. Close it at the end."""

    def __init__(self, host: str, port: int) -> None:
        self.bytes = 0
        self._target = (host, port)
        self._plugged = True
        self._lock = Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        Thread(target=self._accept, name="wire", daemon=True).start()

    def pull(self) -> None:
        """Break every connection, and let none through."""
        with self._lock:
            self._plugged = False
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for end in pair:
                # A forwarding thread waits in select: shutdown wakes it, close alone would not.
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def plug(self) -> None:
        """Let connections through again."""
        with self._lock:
            self._plugged = True

    def close(self) -> None:
        """End everything."""
        self.pull()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            Thread(target=self._connect, args=(near,), name="wire", daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        with near:
            with self._lock:
                if not self._plugged:
                    return
            try:
                far = socket.create_connection(self._target)
            except OSError:
                return
            with far:
                pair = (near, far)
                with self._lock:
                    if not self._plugged:
                        return
                    self._pairs.add(pair)
                with contextlib.suppress(OSError):
                    self._forward(near, far)
                with self._lock:
                    self._pairs.discard(pair)

    def _forward(self, near: socket.socket, far: socket.socket) -> None:
        other = {near: far, far: near}
        while True:
            for end in select.select([near, far], [], [])[0]:
                data = end.recv(CHUNK_BYTES)
                if not data:
                    return
                with self._lock:
                    self.bytes += len(data)
                other[end].sendall(data)
