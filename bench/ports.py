"""Ports for servers that have to be told theirs."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from typing import Final

PORTS: Final = range(20_000, 32_000)
"""Below those that kernels give to clients: until the server is there, and while it is down, no
connection of somebody else's takes its port."""

ATTEMPTS: Final = 100


def free_port(address: str = "127.0.0.1") -> int:
    """A port that nobody has, and that nobody is likely to draw as well. Raises SystemExit."""
    for _ in range(ATTEMPTS):
        port = secrets.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
            return port
    raise SystemExit("bench: no port is free")
