"""The operating system's time and randomness, behind the protocol's seams."""

from __future__ import annotations

import secrets
import time


class SystemClock:
    """The machine's clocks: a `localmem_protocol.seams.Clock`."""

    def now_ms(self) -> int:
        """Wall time in milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()


class SystemRandom:
    """The operating system's random bytes: a `localmem_protocol.seams.Random`."""

    def token_bytes(self, size: int) -> bytes:
        """`size` fresh random bytes."""
        return secrets.token_bytes(size)
