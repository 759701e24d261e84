"""When a batch is sent: at once while somebody waits for it, later and larger while nobody does.

Every batch costs some 30 bytes whatever is in it, and compresses the better the more is in it. But
an event that another device could use now is worth more than those bytes. So: what others can see
arrive goes out after a short pause, or at once for one who asked; what nobody would see yet waits
until there is enough of it, or until it is old.

With a listener a minute is the longest: whoever changes machines hardly sits down sooner, and who
cannot wait asks (`localmem sync`). A pause of 20 seconds gathers much of what an assistant does in one go.

Without one it is not long either: a laptop is closed without a word, and what it has not sent by then
is missing on its owner's other machine. A minute after the last event everything is on its way, and while events
come without a pause nothing is held for more than five. Longer waits would save little: batches that
are half an hour apart are what people's work is like, and no wait that one could answer for joins them
(`python -m bench idle` prints both).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Audience(Enum):
    """Who would see a batch arrive now."""

    NOBODY = "nobody"
    LISTENING = "listening"
    WAITING = "waiting"


@dataclass(frozen=True)
class Unsent:
    """What is in no batch yet: how many events, bytes of text, and when the first and last came.

    Moments are in seconds of one clock that never goes back (`Clock.monotonic_s`).
    """

    events: int
    text_bytes: int
    oldest_s: float
    newest_s: float


@dataclass(frozen=True)
class Batching:
    """The pauses after the newest event, and the longest waits of the oldest, in seconds.

    Enough is `events` or `text_bytes`, whichever comes first: then nothing is gained by waiting.
    """

    pause_s: float = 20.0
    wait_s: float = 60.0
    idle_pause_s: float = 60.0
    idle_wait_s: float = 300.0
    events: int = 32
    text_bytes: int = 32 * 1024

    def due_s(self, unsent: Unsent, audience: Audience) -> float | None:
        """The moment from which on it is to be sent; None if there is nothing."""
        if unsent.events == 0:
            return None
        enough = unsent.events >= self.events or unsent.text_bytes >= self.text_bytes
        if audience is Audience.WAITING or enough:
            return unsent.oldest_s
        if audience is Audience.LISTENING:
            return min(unsent.newest_s + self.pause_s, unsent.oldest_s + self.wait_s)
        return min(unsent.newest_s + self.idle_pause_s, unsent.oldest_s + self.idle_wait_s)


DEFAULT: Final = Batching()
EAGER: Final = Batching(pause_s=0.0, wait_s=0.0, idle_pause_s=0.0, idle_wait_s=0.0)
"""Every event at once, whoever listens."""
