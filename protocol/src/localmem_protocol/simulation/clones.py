"""Clones of one repository: where devices of a drawn world find the text of references, or do not.

Whatever somebody edits stands in files of one repository, in a commit already or not yet. Each device
has a clone, which goes its own way: it commits, pushes and pulls when it likes, throws away what is not
committed, goes back to an older commit, or is deleted. And history is written anew: a commit goes from
what all others pull, and with it a text from everybody's clones, one after the other. A device sends
references only to what is in its own HEAD; what a clone has of the others' is chance.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from localmem_protocol.events import Event
from localmem_protocol.references import Reference
from localmem_protocol.simulation.clock import HOUR, MINUTE
from localmem_protocol.simulation.streams import Distribution, SeededRandom

Place = tuple[str, tuple[int, int]]
"""A path, and lines."""

PACE: Final = Distribution(1 * MINUTE, 8 * MINUTE, 25 * MINUTE, 1 * HOUR, 4 * HOUR)
"""Between two moves of a clone."""

STANDING: Final = 650
"""Per mille of what is edited that was in a commit before."""

PULLED: Final = 600
"""Per mille of that which another clone has had for as long."""

SENDING: Final = 800
"""Per mille of the devices that send references; all others only read them."""

VERSIONS_MAX: Final = 32
"""Texts of one place that are looked at, the newest: as many as production does."""

_MOVES: Final = (
    *3 * ("commit",),
    *3 * ("push",),
    *5 * ("pull",),
    "throw away",
    "go back",
    "rewrite",
    "delete",
)


@dataclass(frozen=True)
class Commit:
    """What it put where."""

    number: int
    texts: dict[Place, str]


@dataclass
class Remote:
    """What was pushed and is still there, oldest first, and who pulls it."""

    commits: list[Commit] = field(default_factory=list)
    clones: list[Clone] = field(default_factory=list)
    _numbers: int = 0
    _pushed: set[int] = field(default_factory=set)

    def commit(self, texts: dict[Place, str]) -> Commit:
        """A commit that nobody has yet."""
        self._numbers += 1
        return Commit(self._numbers, dict(texts))

    def push(self, commits: Sequence[Commit]) -> None:
        """Take those that were never pushed: what was taken out of the history stays out."""
        fresh = [one for one in commits if one.number not in self._pushed]
        self.commits += fresh
        self._pushed.update(one.number for one in fresh)

    def drop(self, place: int) -> None:
        """Write history anew without one of its commits."""
        del self.commits[place]


class Clone:
    """One device's; implements `references.Texts`.

    `offered` is what it gave a session of texts, right or wrong: (place, text).
    """

    def __init__(self, remote: Remote, stream: SeededRandom) -> None:
        self.offered: set[tuple[Place, str]] = set()
        self._remote, self._stream = remote, stream
        self._sends = stream.strikes(SENDING)
        self._commits: list[Commit] = []
        self._head = 0  # of these are in HEAD
        self._work: dict[Place, str] = {}
        self._there = True
        remote.clones.append(self)

    def copy(self, other: Clone) -> None:
        """Become what another one is."""
        self._sends, self._there = other._sends, other._there
        self._commits, self._head = list(other._commits), other._head
        self._work = dict(other._work)

    def edit(self, event: Event) -> None:
        """Something is recorded here: at a place of the repository, or at none."""
        if event.file_path is None or event.selection_range is None or not self._there:
            return
        texts = {(event.file_path, event.selection_range): event.snippet}
        self._work |= texts
        if self._stream.strikes(STANDING):
            commit = self._remote.commit(texts)
            self._remote.push([commit])
            for clone in self._remote.clones:
                if clone is self or clone._stream.strikes(PULLED):
                    clone._had(commit)

    def move(self) -> str:
        """Something happens to it; what."""
        what = self._stream.pick(_MOVES)
        match what:
            case "commit" | "push":
                self._commit()
                if what == "push":
                    self._push()
            case "pull":
                self._pull()
            case "throw away":
                self._work.clear()
            case "go back":
                self._head = self._stream.below(len(self._commits) + 1)
                self._work.clear()
            case "rewrite":
                self._rewrite()
            case _:
                self._commits, self._head, self._work, self._there = [], 0, {}, False
        return what

    def texts(self, reference: Reference) -> Iterator[str]:
        """As `Resolver` says: what stands there, and stood there, and something else first."""
        place = (reference.file_path, reference.selection_range)
        yield f"another {reference.sequence}"
        here = [self._work[place]] if place in self._work else []
        stood = [one.texts[place] for one in reversed(self._commits) if place in one.texts]
        for text in [*here, *stood[:VERSIONS_MAX]]:
            self.offered.add((place, text))
            yield text

    def shared(self, events: Sequence[Event]) -> Collection[str]:
        """As `Texts` says: what HEAD has there."""
        head: dict[Place, str] = {}
        for commit in self._commits[: self._head] if self._sends else ():
            head |= commit.texts
        return {
            event.id
            for event in events
            if event.file_path is not None
            and event.selection_range is not None
            and head.get((event.file_path, event.selection_range)) == event.snippet
        }

    def _had(self, commit: Commit) -> None:
        if self._there:
            self._commits.append(commit)
            self._head = len(self._commits)

    def _commit(self) -> None:
        if self._there and self._work:
            self._had(self._remote.commit(self._work))
            self._work.clear()

    def _push(self) -> None:
        self._remote.push(self._commits)

    def _pull(self) -> None:
        """Have what everybody has, with what is only here; nothing else is kept."""
        self._push()
        self._commits = list(self._remote.commits)
        self._head, self._there = len(self._commits), True

    def _rewrite(self) -> None:
        """A commit goes from the history, for all who pull from now on."""
        if self._remote.commits:
            self._remote.drop(self._stream.below(len(self._remote.commits)))
            self._pull()
