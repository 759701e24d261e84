"""What a change of the encoder leaves to do, how far it is, and what it does to the ring.

Vectors of another encoder are of no use to this one, but of use to whoever goes back to the other:
they stay in the ring while there is room for both. A full ring has none: appended there, the new
vectors would push out the oldest events (of events and vectors of equal size a third), and in the
end lie apart from their events, to be dragged along after those have left. So such a ring is
rewritten, which leaves the old vectors behind and puts each new one beside its event: once this
encoder has shown that it works, and again when every event has its vector.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import localmem_minilm
from localmem_node.store.records import encoder_id
from localmem_protocol.seams import Clock

logger = logging.getLogger(__name__)

WORTH_SHARE: Final = 16
"""A rewriting has to free or to bring together at least this part of the ring."""


class Reencoding:
    """Not thread-safe where it says so; the rest is read by anybody."""

    def __init__(
        self,
        fingerprint: str,
        clock: Clock,
        *,
        known: Sequence[str],
        replaced: Sequence[bytes],
        stale_bytes: int,
        missing: int,
        vector_bytes: int,
        ring_bytes: int,
    ) -> None:
        """`known` are the encoders that a checkpoint names, `replaced` those whose vectors are all
        that some events have, `stale_bytes` what the ring holds of any but this one. `missing`
        events have no vector of this one, each of which will take `vector_bytes`.
        """
        before = [name for name in known if name != fingerprint]
        names = {encoder_id(localmem_minilm.FINGERPRINT): localmem_minilm.FINGERPRINT}
        found = before or [names.get(one, f"encoder {one.hex()}") for one in replaced]
        self.replaces: list[str] = found if missing else []
        self._fingerprint, self._clock = fingerprint, clock
        self._vector_bytes, self._ring_bytes = vector_bytes, ring_bytes
        self._stale_bytes = stale_bytes
        self._missing = missing
        self._made = 0
        self._first: tuple[int, float] | None = None
        self._last_s = 0.0
        self._tried = False
        if self.replaces:
            logger.info(
                "encoding %d events anew with %s, in place of %s",
                missing, fingerprint, ", ".join(self.replaces),
            )  # fmt: skip

    @property
    def encoders(self) -> list[str]:
        """For a checkpoint: the encoder in use, and those that it is taking the place of."""
        works = self._made or not self._missing
        return [*([self._fingerprint] if works else []), *self.replaces]

    @property
    def proved(self) -> bool:
        """Whether vectors of other encoders may be left behind: this one works, or there are none."""
        return bool(self._made) or not self._stale_bytes

    def made(self, count: int) -> None:
        """Vectors were made. In the encoder's thread."""
        self._made += count
        self._last_s = self._clock.monotonic_s()
        if self._first is None and self._made:
            self._first = self._made, self._last_s

    def finish(self, events: int) -> bool:
        """Every event has its vector; whether that ends a change. In the encoder's thread."""
        if not self.replaces:
            return False
        logger.info("all %d events are encoded with %s", events, self._fingerprint)
        self.replaces = []
        return True

    def wants_rewriting(self, *, waiting: int, free_bytes: int) -> bool:
        """Whether the ring had better be rewritten now. True once, whatever comes of it, before all
        events have their vector, and once after. In the encoder's thread.
        """
        if waiting:
            if self._tried or waiting * self._vector_bytes <= free_bytes:
                return False
            self._tried = True
            return self._stale_bytes * WORTH_SHARE > self._ring_bytes
        scattered = min(self._made, self._missing) * self._vector_bytes
        worth = (self._stale_bytes + scattered) * WORTH_SHARE > self._ring_bytes
        if not worth or free_bytes * 2 > self._ring_bytes:
            return False
        self._stale_bytes = self._missing = 0
        return True

    def rewritten(self) -> None:
        """The ring holds vectors of this encoder only."""
        self._stale_bytes = 0

    def status(self, *, encoded: int, waiting: int) -> Mapping[str, Any]:
        """How far it is, for people and for JSON; rate and rest are None until they are known."""
        per_second: float | None = None
        if self._first is not None and self._last_s > self._first[1]:
            per_second = (self._made - self._first[0]) / (self._last_s - self._first[1])
        return {
            "encoded": encoded,
            "waiting": waiting,
            "replaces": list(self.replaces),
            "per_second": round(per_second, 1) if per_second else None,
            "remaining_s": round(waiting / per_second) if per_second else None,
        }
