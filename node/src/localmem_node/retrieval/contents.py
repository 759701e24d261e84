"""What a search index holds of its events, by slot: words, vectors, sessions, traits, newness."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from localmem_node.retrieval.lexical import LexicalIndex
from localmem_node.retrieval.sessions import Sessions
from localmem_node.retrieval.slots import grown
from localmem_node.retrieval.traits import TraitTable
from localmem_node.seams import VectorIndex

Floats = npt.NDArray[np.float32]
Slots = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def _none() -> Mask:
    return np.zeros(0, np.bool_)


@dataclass(slots=True)
class Contents:
    """`live` and `encoded` say which slots have an event, and its vector; `newness` are clock, device
    and sequence of each slot's event, (3, slots), as in `Event.order`; `oldest` and `newest` are times
    of events that were ever here, in milliseconds, 0 before there were any.
    """

    vectors: VectorIndex
    lexical: LexicalIndex = field(default_factory=LexicalIndex)
    sessions: Sessions = field(default_factory=Sessions)
    traits: TraitTable = field(default_factory=TraitTable)
    live: Mask = field(default_factory=_none)
    encoded: Mask = field(default_factory=_none)
    newness: npt.NDArray[np.uint64] = field(default_factory=lambda: np.zeros((3, 0), np.uint64))
    oldest: int = 0
    newest: int = 0

    def reserve(self, slots: int) -> None:
        """Make room for the slots below this one, but for their words, vectors and sessions."""
        self.live = grown(self.live, slots)
        self.encoded = grown(self.encoded, slots)
        self.newness = grown(self.newness, slots)

    def allowed(self, among: Mask | None) -> Mask | None:
        """By slot, whether it has an event that is named by `among`; None if all are."""
        if among is None:
            return None
        allowed = np.zeros(self.lexical.width, dtype=np.bool_)
        shared = min(len(allowed), len(among))
        allowed[:shared] = among[:shared] & self.live[:shared]
        return allowed
