"""When to try again: the pure half of a device's connection loop.

At once after success, ever later after failures, when the hub said if it did, and hardly ever after an
answer that was called permanent. The waiting, and whoever may cut it short, are the caller's.
"""

from __future__ import annotations

from typing import Final

from localmem_protocol.errors import ProtocolError, RefusedError
from localmem_protocol.frames import Close, wait_s
from localmem_protocol.seams import Random

RETRY_FIRST_S: Final = 1.0
"""The longest wait after a connection that had settled."""

RETRY_MAX_S: Final = 60.0
"""The longest wait while the hub cannot be reached."""

RETRY_REFUSED_S: Final = 600.0
"""The wait after what trying again cannot help: somebody has to do something first."""


class Backoff:
    """The delays of one device: exponential, with a random half, so that a hub's devices do not
    return all at once.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self.failures = 0

    def delay_s(self, error: Exception | None, *, settled: bool) -> float:
        """Seconds to wait after a connection that ended with `error` (None: it was just lost).

        `settled` is whether everything had been exchanged on it.
        """
        self.failures = 0 if settled else self.failures + 1
        if isinstance(error, ProtocolError) and error.permanent:
            return RETRY_REFUSED_S
        chance = int.from_bytes(self._random.token_bytes(2)) / 65536
        if isinstance(error, RefusedError) and error.close_code == Close.LIMITED:
            asked_s = min(max(wait_s(error.reason), RETRY_FIRST_S), RETRY_REFUSED_S)
            return asked_s * (1 + chance / 4)
        most = min(RETRY_FIRST_S * 2.0 ** min(self.failures, 10), RETRY_MAX_S)
        return most / 2 * (1 + chance)


def outlives(error: Exception | None) -> bool:
    """Whether a session may go on after an error that ended its connection.

    What the hub said, or the network, changed nothing in it. After anything else it may be ahead of
    its journal, and has to be loaded again from that.
    """
    return error is None or isinstance(error, RefusedError)
