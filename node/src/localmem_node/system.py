"""The operating system's clock and randomness, behind the seams of the protocol."""

from __future__ import annotations

import os
import time


class SystemClock:
    """Implements `localmem_protocol.seams.Clock`."""

    def now_ms(self) -> int:
        """Wall time in milliseconds since 1970 (UTC)."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds that never go back, to the resolution of the performance counter."""
        return time.perf_counter()


class SystemRandom:
    """Implements `localmem_protocol.seams.Random` with the kernel's generator (getrandom(2))."""

    def token_bytes(self, size: int) -> bytes:
        """`size` fresh random bytes."""
        return os.urandom(size)
