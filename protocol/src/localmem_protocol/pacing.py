"""How often a device asks a hub that cannot speak by itself: soon while there is work, ever later
when there is none. Reads no clock of its own."""

from __future__ import annotations

from typing import Final

from localmem_protocol.seams import Clock, Random

REST_FIRST_S: Final = 1.0
"""Between two questions while something happens elsewhere."""

REST_MAX_S: Final = 300.0
"""Between two questions in the long run: 288 a day."""

QUIET_SHARE: Final = 0.25
"""A pause is this share of how long it has been quiet: what took an hour to happen may take another
few minutes to be seen, and the number of questions grows with the logarithm of the time."""

WAITING_S: Final = 900.0
"""For so long after the last work a device asks without a pause, where the hub lets questions wait;
then even those cost more than they bring."""


class Pacing:
    """When to ask next. `said` whenever something was sent, `heard` whenever news came.

    What a device says itself brings along what it lacks, and makes it no likelier that others have
    something: where each question costs, only news make it ask sooner.
    """

    def __init__(self, clock: Clock, random: Random) -> None:
        self._clock = clock
        self._random = random
        self._worked_s = self._heard_s = clock.monotonic_s()

    def said(self) -> None:
        """Something was sent, here: somebody works."""
        self._worked_s = self._clock.monotonic_s()

    def heard(self) -> None:
        """Something came from elsewhere: more may follow."""
        self._worked_s = self._heard_s = self._clock.monotonic_s()

    def rest_s(self, *, waits: bool = False) -> float:
        """Seconds until the next question; with `waits` the hub holds a question until it has news.

        A quarter at random is left out, so that a hub's devices do not ask all at once.
        """
        since_s = self._worked_s if waits else self._heard_s
        quiet = max(0.0, self._clock.monotonic_s() - since_s)
        if waits and quiet < WAITING_S:
            return 0.0
        most = min(max(quiet * QUIET_SHARE, REST_FIRST_S), REST_MAX_S)
        return most * (1 - int.from_bytes(self._random.token_bytes(2)) / 65536 / 4)
