"""The features of candidates once more, one candidate and one term at a time, as slow as they are plain."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from localmem_node.retrieval.evidence import BURST_MS, OTHER, Floats
from localmem_node.retrieval.lexical import Matches
from localmem_node.retrieval.question import Question
from localmem_node.retrieval.words import K1, WORDS, Surroundings


def lexical(question: Question, matches: Matches, near: Surroundings) -> Floats:
    """What `words.lexical_features` gives, a row per candidate."""
    held: dict[tuple[int, int], int] = {
        (slot, term): place
        for place, (slot, term) in enumerate(
            zip(matches.slots.tolist(), matches.terms.tolist(), strict=True)
        )
    }
    starts: list[int] = question.starts.tolist()
    groups = list(zip(starts, [*starts[1:], len(question.columns)], strict=True))
    rarity: list[float] = matches.rarity.tolist()
    shares: list[float] = question.shares.tolist()
    total = max(sum(rarity[start] for start in starts), 1e-6)

    def often(slot: int, term: int) -> float:
        place = held.get((slot, term))
        return 0.0 if place is None else float(matches.frequencies[place])

    def best(value: Callable[[int], float]) -> float:
        """Over the terms, the most that it or a related one is worth."""
        worth = [value(term) * rarity[term] * shares[term] for term in range(len(rarity))]
        return sum(max(worth[first:end]) for first, end in groups)

    def covered(slot: int) -> float:
        return sum(rarity[term] for term in starts if often(slot, term)) / total

    def within(slots: Sequence[int]) -> float:
        return best(lambda term: float(any(often(slot, term) for slot in slots))) / total

    def marked(slot: int, where: npt.NDArray[np.bool_]) -> float:
        terms = [term for term in starts if (slot, term) in held and where[held[slot, term]]]
        return sum(rarity[term] for term in terms) / total

    def context(links: Sequence[int], term: int) -> float:
        own, before, after = (often(slot, term) for slot in links[:3])
        return _saturated(3 * own + before + 0.5 * after)

    def wide(links: Sequence[int], term: int) -> float:
        shared = zip(links, (1, 0.4, 0.4, 0.2, 0.2), strict=False)
        return _saturated(sum(share * often(slot, term) for slot, share in shared))

    quoted = [term for term, said in zip(starts, question.quoted, strict=True) if said]
    rows = [
        [
            sum(rarity[term] * _saturated(often(links[0], term)) for term in starts),
            best(partial(wide, links[:1])),
            sum(rarity[term] * context(links, term) for term in starts),
            best(partial(wide, links)),
            covered(links[0]),
            within(links[:1]),
            within(links[:3]),
            within(links[:5]),
            covered(links[1]),
            covered(links[2]),
            covered(links[5]),
            marked(links[0], matches.in_header),
            float(marked(links[0], matches.in_header) > 0),
            marked(links[0], matches.in_path),
            sum(often(links[0], term) > 0 for term in quoted) / max(len(quoted), 1),
        ]
        for links in near.links.T.tolist()
    ]
    return np.array(rows, np.float32).reshape(-1, len(WORDS))


def others(
    first: Sequence[float],
    sessions: Sequence[int],
    files: Sequence[int],
    timestamps: Sequence[int],
) -> Floats:
    """The first six columns of `evidence.other_features`: sessions, bursts and files."""
    found = np.zeros((len(first), 6), np.float32)
    assert OTHER[:6] == (
        "session", "burst_best", "burst_mean", "burst_size", "burst_rank", "file",
    )  # fmt: skip
    for column, groups, nobody in ((0, sessions, -1), (5, files, 0)):
        for at, group in enumerate(groups):
            alike = sorted((first[o] for o, g in enumerate(groups) if g == group), reverse=True)
            found[at, column] = 0 if group == nobody else sum(alike[:3]) / 3
        found[:, column] /= max(found[:, column].max(initial=0), 1e-30)
    for burst in _bursts(sessions, timestamps):
        ranked = sorted(burst, key=lambda at: (-first[at], at))
        for rank, at in enumerate(ranked):
            rest = [first[one] for one in ranked if one != at]
            found[at, 1] = max(rest, default=0)
            found[at, 2] = sum(rest) / max(len(rest), 1)
            found[at, 3] = math.log1p(len(ranked)) / 3
            found[at, 4] = min(rank, 5) / 5
    return found


def _bursts(sessions: Sequence[int], timestamps: Sequence[int]) -> list[list[int]]:
    bursts: list[list[int]] = []
    ordered = sorted(range(len(sessions)), key=lambda at: (sessions[at], timestamps[at]))
    for at in ordered:
        last = bursts[-1][-1] if bursts else None
        goes_on = (
            last is not None
            and sessions[last] == sessions[at]
            and timestamps[at] - timestamps[last] <= BURST_MS
        )
        if goes_on:
            bursts[-1].append(at)
        else:
            bursts.append([at])
    return bursts


def _saturated(frequency: float) -> float:
    return frequency * (K1 + 1) / (frequency + K1)
