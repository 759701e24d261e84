"""What developers do: days of bursts, prompts, commands and breaks, and nights.

Nothing here is measured on people; it has the shape that matters for synchronisation: most events
come seconds apart, in bursts with minutes between them, most snippets are a few lines, a few are
long, many resemble each other, and machines stand still for hours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from localmem_protocol.events import Draft, parse_draft
from localmem_protocol.simulation.clock import HOUR, MINUTE, SECOND, Timeline
from localmem_protocol.simulation.oracle import CANARY
from localmem_protocol.simulation.streams import Distribution, SeededRandom

BURST: Final = Distribution(1, 3, 6, 10, 16, 30)
"""Events of a burst."""

PAUSE: Final = Distribution(1 * SECOND, 6 * SECOND, 15 * SECOND, 30 * SECOND, 90 * SECOND)
"""Between two events of a burst."""

BREAK: Final = Distribution(2 * MINUTE, 8 * MINUTE, 20 * MINUTE, 45 * MINUTE, 110 * MINUTE)
"""Between two bursts."""

LINES: Final = Distribution(1, 1, 2, 3, 5, 8, 30)
"""Lines of a snippet."""

FORGETTING: Final = 25
"""Per mille of the events after which somebody forgets one, or a few at once."""

DAY: Final = 24 * HOUR
WORK: Final = 9 * HOUR
"""A working day; it begins when true time does, give or take an hour and a half."""

_KINDS: Final = ("edit", "edit", "edit", "command", "error", "prompt", "answer")
_VERBS: Final = ("load", "merge", "parse", "check", "flush", "open", "seal", "count", "retry")
_NOUNS: Final = ("record", "frame", "batch", "index", "token", "cursor", "buffer", "ledger", "page")
_LINES: Final = (
    "def {verb}_{noun}({noun}: bytes, limit: int = {number}) -> int:",
    "    if len({noun}) > {number}:",
    '        raise ValueError(f"{noun} {number}: {{len({noun})}} bytes")',
    "    for index, {noun} in enumerate({verb}_all(source)):",
    "        total += {verb}({noun}, index % {number})",
    "    return self._{noun}s.{verb}(key, {number})",
    "    # {verb} the {noun} before anything that builds on it",
    "pytest -q tests/test_{noun}.py -k {verb}_{number}",
    "why does {verb}_{noun} fail when the {noun} has {number} entries?",
)


class Developer:
    """Somebody who works on one device: `record` gets what happens there, and `forget` is called when
    something of it shall be forgotten.
    """

    def __init__(
        self,
        timeline: Timeline,
        stream: SeededRandom,
        now_ms: Callable[[], int],
        record: Callable[[Draft], object],
        forget: Callable[[SeededRandom], object] = lambda stream: None,
    ) -> None:
        self._timeline, self._stream = timeline, stream
        self._now_ms, self._record, self._forget = now_ms, record, forget
        self._left = 0
        self._begins = stream.below(90 * MINUTE)
        self._path = "src/main.py"

    def start(self) -> None:
        """Go to work."""
        self._timeline.after(self._begins, self._burst)

    def _burst(self) -> None:
        into_day = (self._timeline.now_us - self._begins) % DAY
        if into_day > WORK:
            self._timeline.after(DAY - into_day + self._stream.below(HOUR), self._burst)
            return
        self._left = BURST.draw(self._stream)
        self._path = f"src/{self._stream.pick(_NOUNS)}_{self._stream.below(6)}.py"
        self._next()

    def _next(self) -> None:
        if self._left == 0:
            self._timeline.after(BREAK.draw(self._stream), self._burst)
            return
        self._left -= 1
        self._record(draft(self._stream, self._now_ms(), self._path))
        if self._stream.strikes(FORGETTING):
            self._forget(self._stream)
        self._timeline.after(PAUSE.draw(self._stream), self._next)


def draft(stream: SeededRandom, now_ms: int, path: str) -> Draft:
    """Something that a developer did, with the canary in it."""
    kind = stream.pick(_KINDS)
    first = 1 + stream.below(400)
    lines = snippet(stream)
    return parse_draft(
        {
            "timestamp": max(0, now_ms),
            "snippet": lines,
            "kind": kind,
            "filePath": path if kind == "edit" else None,
            "selectionRange": [first, first + lines.count("\n")] if kind == "edit" else None,
            "modelResponseHash": stream.token_bytes(8).hex() if stream.strikes(400) else None,
            "tool": stream.pick(("claude-code", "codex", "cursor")),
            "session": f"s{stream.below(4)}",
            "project": "orchard",
        }
    )


def snippet(stream: SeededRandom) -> str:
    """A few lines of code, none like another to the last character."""
    lines = [
        stream.pick(_LINES).format(
            verb=stream.pick(_VERBS), noun=stream.pick(_NOUNS), number=stream.below(1 << 14)
        )
        for _ in range(LINES.draw(stream))
    ]
    return "\n".join([*lines, f"# {CANARY} {stream.token_bytes(6).hex()}"])
