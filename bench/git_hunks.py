"""Does a search find what a commit did? Commit subjects as queries, the hunks of commits as events.

The newest hunks of a repository are the events (`localmem_node.git_history`: commits of up to 30
hunks), and the cleaned subject of a commit is the query whose answers are its own hunks, if it has
at most ten and all of them are among the events. In `all`, every event is live. With a ring smaller
than that, `now` is drawn at random among the moments when all answers are still in the ring; the
ring then slides over the history by the index's own add and remove.

Scores, intervals and baselines: `bench.grading`. Several repositories count together, query by
query, and again each alone under `by_repository`.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bench.grading import HEADINGS, SEED, Contest, K, Scores, graded, result, rows
from bench.report import print_json, print_progress, print_table
from localmem_node.errors import HistoryError
from localmem_node.git_history import Hunk, cleaned_subject, recent_hunks
from localmem_node.retrieval.encoder import OnnxEncoder
from localmem_node.retrieval.exact import ExactIndex
from localmem_node.retrieval.index import text_for_encoding
from localmem_node.seams import Encoder
from localmem_protocol.events import Event, stamp

ANSWERS_MAX: Final = 10
WORDS_MIN: Final = 3
EVENTS: Final = 2500
RING: Final = 200
DRAWS: Final = 3
RANKS_FUSED: Final = 200
RANK_OFFSET: Final = 60
NO_QUERY: Final = re.compile(r"\b(?:bump|typo|merge|release)", re.IGNORECASE)
"""Subjects that ask for nothing, by a word that begins so."""

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Query:
    """A commit subject, its vector, and the positions of its hunks in the history."""

    text: str
    vector: Vectors
    answers: range


@dataclass(frozen=True, slots=True)
class History:
    """The events of a repository, oldest first, with their vectors, and the queries about them.

    `snippet_vectors` are those of the bare snippets, for the ablations.
    """

    name: str
    events: list[Event]
    vectors: Vectors
    snippet_vectors: Vectors | None
    queries: list[Query]


class Window:
    """The events that are in the ring now. Slots are positions modulo the ring, as in the node."""

    def __init__(self, history: History, ring: int) -> None:
        self.history, self.ring = history, ring
        self.first = self.end = 0
        self.contest = Contest(history.vectors.shape[1])
        self.snippets = ExactIndex(history.vectors.shape[1])

    def move_to(self, end: int) -> None:
        """Record every event before `end`; the oldest leave."""
        for position in range(self.end, end):
            slot = position % self.ring
            self.contest.remove(slot)
            vector = self.history.vectors[position]
            self.contest.add(slot, self.history.events[position], vector)
            if self.history.snippet_vectors is not None:
                self.snippets.put(slot, self.history.snippet_vectors[position])
        self.end, self.first = end, max(end - self.ring, 0)

    def rankings(self, query: Query, chance: np.random.Generator) -> dict[str, list[int]]:
        """Per method the positions that it found, best first."""
        found = self.contest.rankings(query.text, query.vector, chance)
        if self.history.snippet_vectors is not None:
            found |= self._ablations(query)
        return {name: self._positions(slots) for name, slots in found.items()}

    def _ablations(self, query: Query) -> dict[str, list[int]]:
        """Reciprocal rank fusion (Cormack, Clarke, Buettcher 2009), and vectors of bare snippets."""
        scores: defaultdict[int, float] = defaultdict(float)
        by_words = self.contest.by_words(query.text, RANKS_FUSED)
        for slots in (by_words, self.contest.by_meaning(query.vector, RANKS_FUSED)):
            for rank, slot in enumerate(slots, start=1):
                scores[slot] += 1 / (RANK_OFFSET + rank)
        fused = sorted(scores, key=lambda slot: (-scores[slot], slot))[:K]
        return {"rrf": fused, "minilm_snippet": self.snippets.search(query.vector, K)[0].tolist()}

    def _positions(self, slots: Sequence[int]) -> list[int]:
        return [self.first + (slot - self.first) % self.ring for slot in slots]


def queries_of(hunks: Sequence[Hunk], none: re.Pattern[str] = NO_QUERY) -> list[tuple[str, range]]:
    """The subjects that ask for something, with the positions of their hunks (adjacent).

    Subjects in which `none` is found ask for nothing.
    """
    starts = [at for at, hunk in enumerate(hunks) if at == 0 or hunk.commit != hunks[at - 1].commit]
    found: list[tuple[str, range]] = []
    for start, end in zip(starts, [*starts[1:], len(hunks)], strict=False):
        text = cleaned_subject(hunks[start].subject)
        asks = len(text.split()) >= WORDS_MIN and not none.search(text)
        if asks and end - start <= ANSWERS_MAX:
            found.append((text, range(start, end)))
    return found


def newest(repository: Path, count: int) -> tuple[list[Hunk], list[tuple[str, range]]]:
    """The newest hunks, oldest first, and the queries with all their hunks among these."""
    hunks = recent_hunks(repository, count + 1)
    before, hunks = hunks[:-count], hunks[-count:]
    asked = queries_of(hunks)
    if before and asked and asked[0][1].start == 0 and before[-1].commit == hunks[0].commit:
        asked = asked[1:]  # the oldest commit is cut
    return hunks, asked


def moments(
    queries: Sequence[Query], events: int, ring: int, draws: int, chance: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """(now, query number), by time: `draws` per query, one if the ring holds everything."""
    drawn: list[tuple[int, int]] = []
    for number, query in enumerate(queries):
        earliest = max(query.answers.stop, min(ring, events))
        latest = min(query.answers.start + ring, events)
        count = draws if latest > earliest else 1
        drawn += [(int(chance.integers(earliest, latest + 1)), number) for _ in range(count)]
    return iter(sorted(drawn))


def measure(history: History, ring: int, draws: int) -> dict[str, Scores]:
    """Per method the scores of every query, means over its moments."""
    chance = np.random.default_rng(SEED)
    window = Window(history, ring)
    sums: defaultdict[str, Scores] = defaultdict(lambda: np.zeros((len(history.queries), 3)))
    asked = np.zeros((len(history.queries), 1))
    for now, number in moments(history.queries, len(history.events), ring, draws, chance):
        window.move_to(now)
        asked[number] += 1
        query = history.queries[number]
        for name, found in window.rankings(query, chance).items():
            sums[name][number] += graded(found, query.answers)
    return {name: total / asked for name, total in sums.items()}


def read(repository: Path, count: int, encoder: Encoder, *, ablations: bool = False) -> History:
    """The history of a repository, encoded. Raises HistoryError."""
    hunks, asked = newest(repository, count)
    name = name_of(repository)
    events = [
        stamp(hunk.draft, device="0" * 16, clock=at + 1, sequence=at + 1)
        for at, hunk in enumerate(hunks)
    ]
    if not asked:
        raise HistoryError(f"{name}: no commit of it asks a question; name others with --repo")
    print_progress(f"{name}: {len(events)} hunks, {len(asked)} queries; encoding …")
    subjects = encoder.encode([text for text, _ in asked])
    return History(
        name=name,
        events=events,
        vectors=encoder.encode([text_for_encoding(event) for event in events]),
        snippet_vectors=encoder.encode([event.snippet for event in events]) if ablations else None,
        queries=[
            Query(text, vector, answers)
            for (text, answers), vector in zip(asked, subjects, strict=True)
        ],
    )


def name_of(repository: Path) -> str:
    """A repository's folder; of a bare one inside a folder of its own, that folder."""
    path = repository.resolve()
    return path.parent.name if path.name in {".git", "repo", "repo.git"} else path.name


def compared(histories: Sequence[History], rings: Sequence[int], draws: int) -> dict[str, Any]:
    """{queries, ring200, …, all, by_repository: {name: {events, queries, ring200, …, all}}}."""
    largest = max(len(history.events) for history in histories)
    together: dict[str, Any] = {"queries": sum(len(history.queries) for history in histories)}
    each: dict[str, dict[str, Any]] = {
        history.name: {"events": len(history.events), "queries": len(history.queries)}
        for history in histories
    }
    for name, ring in {**{f"ring{ring}": ring for ring in rings}, "all": largest}.items():
        print_progress(f"{name} …")
        measured = [measure(history, ring, draws) for history in histories]
        together[name] = result(_joined(measured))
        for history, scores in zip(histories, measured, strict=True):
            each[history.name][name] = result(scores)
    return together | {"by_repository": each}


def _joined(measured: Sequence[Mapping[str, Scores]]) -> dict[str, Scores]:
    return {name: np.concatenate([scores[name] for scores in measured]) for name in measured[0]}


def main(arguments: Sequence[str]) -> None:
    """Run the benchmark. Raises HistoryError for a repository that cannot be read."""
    options = _options(arguments)
    encoder = OnnxEncoder()
    histories = [
        read(path, options.events, encoder, ablations=options.ablations) for path in options.repo
    ]
    found = compared(histories, options.ring, options.draws)
    if options.json:
        print_json({"encoder": encoder.fingerprint} | found)
        return
    print(f"{found['queries']} queries\n")
    print_table(["events", *HEADINGS, "hit@10 by repository"], _rows(found))


def _rows(found: Mapping[str, Any]) -> list[list[object]]:
    repositories = found["by_repository"]
    return [
        [name, *row, ", ".join(_hit(one[name], str(row[0])) for one in repositories.values())]
        for name in found
        if name == "all" or name.startswith("ring")
        for row in rows(found[name])
    ]


def _hit(found: Mapping[str, Any], method: str) -> str:
    return f"{found['baselines'].get(method, found)['hit_at_10']:.1f}"


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench git", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--repo", type=Path, action="append", help="a git repository, bare or not; may be repeated"
    )
    parser.add_argument("--ring", type=sizes, default=[RING], help="sizes of rings, with commas")
    parser.add_argument("--events", type=size, default=EVENTS, help="newest hunks of each (2500)")
    parser.add_argument("--draws", type=size, default=DRAWS, help="moments per query (3)")
    parser.add_argument(
        "--ablations", action="store_true", help="also rank fusion and vectors of bare snippets"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    options.repo = options.repo or [Path()]
    names = [name_of(path) for path in options.repo]
    if len(set(names)) < len(names):
        parser.error("two repositories have the same name")
    return options


def size(text: str) -> int:
    """A positive number on the command line."""
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 1,000,000")
    return int(text)


def sizes(text: str) -> list[int]:
    """Such numbers, with commas."""
    return [size(part) for part in text.split(",")]
