"""Time and chance, passed in so that a simulator can run everything above them.

Above: every state machine of protocol, node and hub. Below: the operating system, or a seeded
world. Nothing in this repository reads a clock or draws a random number any other way.
"""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """A source of time."""

    def now_ms(self) -> int:
        """Wall time in integer milliseconds since 1970 (UTC); may jump either way."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never go back; only differences mean anything."""
        ...


class Random(Protocol):
    """A source of unpredictable bytes (cryptographically so in production)."""

    def token_bytes(self, size: int) -> bytes:
        """`size` fresh random bytes."""
        ...
