"""Does a search find what a commit did? Commit subjects as queries, the hunks of commits as events.

The newest hunks of a repository are the events (`localmem_node.git_history`), and the cleaned
subject of a commit is the question whose answers are its own hunks. With a ring smaller than that,
`now` is drawn at random among the moments when all of these are still in the ring; the ring then
slides over the history by the index's own add and remove.

hit@10: the share of questions with an answer among the first ten; recall@10: the share of answers
that are there; MRR: the mean of 1 / rank of the first (0 beyond ten). Questions count alike.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.report import print_json, print_progress, print_table
from localmem_node.errors import HistoryError
from localmem_node.git_history import Hunk, cleaned_subject, recent_hunks
from localmem_node.retrieval.encoder import OnnxEncoder
from localmem_node.retrieval.exact import ExactIndex
from localmem_node.retrieval.index import SearchIndex, text_for_encoding
from localmem_node.seams import Encoder
from localmem_protocol.events import Event, stamp

K: Final = 10
SEED: Final = 20_261_123
ANSWERS_MAX: Final = 10
WORDS_MIN: Final = 3
RANKS_FUSED: Final = 200
RANK_OFFSET: Final = 60
NO_QUESTION: Final = re.compile(r"\b(?:bump|version|release|typos?|merge|revert)", re.IGNORECASE)
"""Subjects that ask for nothing."""

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Question:
    """A commit subject, its vector, and the positions of its hunks in the history."""

    text: str
    vector: Vectors
    answers: range


@dataclass(frozen=True, slots=True)
class History:
    """The events of a repository, oldest first, with their vectors, and the questions about them."""

    name: str
    events: list[Event]
    vectors: Vectors
    snippet_vectors: Vectors | None
    questions: list[Question]


class Window:
    """The events that are in the ring now. Slots are positions modulo the ring, as in the node."""

    def __init__(self, history: History, ring: int) -> None:
        self.history, self.ring = history, ring
        self.first = self.end = 0
        self.index = SearchIndex(history.vectors.shape[1])
        self.plain = ExactIndex(history.vectors.shape[1])

    def move_to(self, end: int) -> None:
        """Record every event before `end`; the oldest leave."""
        for position in range(self.end, end):
            slot = position % self.ring
            self.index.remove(slot)
            self.index.add(slot, self.history.events[position])
            self.index.put_vector(slot, self.history.vectors[position])
            if self.history.snippet_vectors is not None:
                self.plain.put(slot, self.history.snippet_vectors[position])
        self.end, self.first = end, max(end - self.ring, 0)

    def positions(self, slots: Sequence[int]) -> list[int]:
        """History positions of these slots."""
        return [self.first + (slot - self.first) % self.ring for slot in slots]


Method = Callable[[Window, Question, np.random.Generator], list[int]]


def _random(window: Window, _question: Question, chance: np.random.Generator) -> list[int]:
    places = chance.permutation(window.end - window.first)[:K]
    return [window.first + int(place) for place in places]


def _recency(window: Window, _question: Question, _chance: np.random.Generator) -> list[int]:
    return list(range(window.end - 1, window.first - 1, -1))[:K]


def _lexical(window: Window, question: Question, _chance: np.random.Generator) -> list[int]:
    hits = window.index.search(question.text, None, K)
    return window.positions([hit.slot for hit in hits])


def _snippet_vectors(window: Window, question: Question, _chance: np.random.Generator) -> list[int]:
    return window.positions(window.plain.search(question.vector, K)[0].tolist())


def _vectors(window: Window, question: Question, _chance: np.random.Generator) -> list[int]:
    # A query without words leaves the vectors alone to decide.
    hits = window.index.search("", question.vector, K)
    return window.positions([hit.slot for hit in hits])


def _hybrid(window: Window, question: Question, _chance: np.random.Generator) -> list[int]:
    hits = window.index.search(question.text, question.vector, K)
    return window.positions([hit.slot for hit in hits])


def _reciprocal(window: Window, question: Question, _chance: np.random.Generator) -> list[int]:
    """Reciprocal rank fusion (Cormack, Clarke, Buettcher 2009) of the same two sides."""
    scores: defaultdict[int, float] = defaultdict(float)
    for text, vector in ((question.text, None), ("", question.vector)):
        hits = window.index.search(text, vector, RANKS_FUSED)
        for rank, position in enumerate(window.positions([hit.slot for hit in hits]), start=1):
            scores[position] += 1 / (RANK_OFFSET + rank)
    return sorted(scores, key=lambda position: (-scores[position], -position))[:K]


SNIPPET_METHOD: Final = "MiniLM, snippet"
METHODS: Final[dict[str, Method]] = {
    "random": _random,
    "recency": _recency,
    "BM25": _lexical,
    SNIPPET_METHOD: _snippet_vectors,
    "MiniLM": _vectors,
    "RRF": _reciprocal,
    "hybrid": _hybrid,
}


def questions_of(hunks: Sequence[Hunk]) -> list[tuple[str, range]]:
    """The subjects that ask for something, with the positions of their hunks (adjacent)."""
    starts = [at for at, hunk in enumerate(hunks) if at == 0 or hunk.commit != hunks[at - 1].commit]
    found: list[tuple[str, range]] = []
    for start, end in zip(starts, [*starts[1:], len(hunks)], strict=False):
        text = cleaned_subject(hunks[start].subject)
        asks = len(text.split()) >= WORDS_MIN and not NO_QUESTION.search(text)
        if asks and end - start <= ANSWERS_MAX:
            found.append((text, range(start, end)))
    return found


def moments(
    questions: Sequence[Question], events: int, ring: int, draws: int, chance: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """(now, question number), by time: `draws` per question, one if the ring holds everything."""
    drawn: list[tuple[int, int]] = []
    for number, question in enumerate(questions):
        earliest = max(question.answers.stop, min(ring, events))
        latest = min(question.answers.start + ring, events)
        count = draws if latest > earliest else 1
        drawn += [(int(chance.integers(earliest, latest + 1)), number) for _ in range(count)]
    return iter(sorted(drawn))


def measure(history: History, ring: int, draws: int) -> dict[str, npt.NDArray[np.float64]]:
    """Per method (questions, 3): hit@10, recall@10, reciprocal rank."""
    chance = np.random.default_rng(SEED)
    window = Window(history, ring)
    methods = dict(METHODS)
    if history.snippet_vectors is None:
        del methods[SNIPPET_METHOD]
    sums = {name: np.zeros((len(history.questions), 3)) for name in methods}
    asked = np.zeros((len(history.questions), 1))
    for now, number in moments(history.questions, len(history.events), ring, draws, chance):
        window.move_to(now)
        asked[number] += 1
        question = history.questions[number]
        for name, method in methods.items():
            sums[name][number] += graded(method(window, question, chance), question.answers)
    return {name: total / asked for name, total in sums.items()}


def graded(found: Sequence[int], answers: Collection[int]) -> tuple[float, float, float]:
    """Hit, recall and reciprocal rank of the positions found, best first."""
    ranks = [rank for rank, position in enumerate(found, start=1) if position in answers]
    return (float(bool(ranks)), len(ranks) / len(answers), 1 / ranks[0] if ranks else 0.0)


def read(repository: Path, count: int, encoder: Encoder, *, snippets: bool) -> History:
    """The history of a repository, encoded. Raises HistoryError."""
    hunks = recent_hunks(repository, count)
    name = name_of(repository)
    events = [
        stamp(hunk.draft, device="0" * 16, clock=at + 1, sequence=at + 1)
        for at, hunk in enumerate(hunks)
    ]
    asked = questions_of(hunks)
    if not asked:
        raise HistoryError(f"{name}: no commit of it asks a question; name others with --repo")
    print_progress(f"{name}: {len(events)} hunks, {len(asked)} questions; encoding …")
    subjects = encoder.encode([text for text, _ in asked])
    return History(
        name=name,
        events=events,
        vectors=encoder.encode([text_for_encoding(event) for event in events]),
        snippet_vectors=encoder.encode([event.snippet for event in events]) if snippets else None,
        questions=[
            Question(text, vector, answers)
            for (text, answers), vector in zip(asked, subjects, strict=True)
        ],
    )


def name_of(repository: Path) -> str:
    """A repository's folder; of a bare one inside a folder of its own, that folder."""
    path = repository.resolve()
    return path.parent.name if path.name in {".git", "repo", "repo.git"} else path.name


def summary(scores: npt.NDArray[np.float64]) -> dict[str, float]:
    """Percentages; `low` and `high` bound hit@10 at 95 % (bootstrap over questions)."""
    low, high = interval(scores[:, 0])
    hit, recall, rank = scores.mean(axis=0)
    shares = {"hit_at_10": hit, "low": low, "high": high, "recall_at_10": recall, "mrr": rank}
    return {name: round(100 * float(share), 1) for name, share in shares.items()}


def interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The bounds at 95 % of the mean of `values`, one per question (bootstrap)."""
    chance = np.random.default_rng(SEED)
    picks = chance.integers(0, len(values), size=(1000, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def compared(histories: Sequence[History], ring: int, draws: int) -> dict[str, dict[str, object]]:
    """Per method, the summary over all repositories and hit@10 of each."""
    measured = [measure(history, ring, draws) for history in histories]
    return {
        method: {
            **summary(np.concatenate([scores[method] for scores in measured])),
            "hit_at_10_by_repository": {
                history.name: summary(scores[method])["hit_at_10"]
                for history, scores in zip(histories, measured, strict=True)
            },
        }
        for method in measured[0]
    }


def main(arguments: Sequence[str]) -> None:
    """Run the benchmark. Raises HistoryError for a repository that cannot be read."""
    options = _options(arguments)
    encoder = OnnxEncoder()
    histories = [
        read(path, options.events, encoder, snippets=options.snippet_vectors)
        for path in options.repo
    ]
    rings: dict[str, dict[str, dict[str, object]]] = {}
    for ring in options.ring:
        print_progress(f"ring of {ring} …")
        rings[str(ring)] = compared(histories, ring, options.draws)
    if options.json:
        counts = {
            history.name: {"events": len(history.events), "questions": len(history.questions)}
            for history in histories
        }
        print_json({"encoder": encoder.fingerprint, "repositories": counts, "rings": rings})
        return
    print_table(
        ["ring", "method", "hit@10", "95 %", "recall@10", "MRR", "hit@10 by repository"],
        [
            [ring, method, *_cells(found)]
            for ring, methods in rings.items()
            for method, found in methods.items()
        ],
    )


def _cells(found: dict[str, object]) -> list[object]:
    each = found["hit_at_10_by_repository"]
    assert isinstance(each, dict)
    return [
        f"{found['hit_at_10']:.1f}",
        f"{found['low']:.1f}–{found['high']:.1f}",
        f"{found['recall_at_10']:.1f}",
        f"{found['mrr']:.1f}",
        ", ".join(f"{name} {hit}" for name, hit in each.items()),
    ]


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench git", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--repo", type=Path, action="append", help="a git repository; may be repeated (this one)"
    )
    parser.add_argument("--ring", type=sizes, default=[200, 2500], help="200,2500")
    parser.add_argument("--events", type=size, default=2500, help="newest hunks of each (2500)")
    parser.add_argument("--draws", type=size, default=3, help="moments per question (3)")
    parser.add_argument(
        "--snippet-vectors", action="store_true", help="also MiniLM on the bare snippet (slow)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    options.repo = options.repo or [Path()]
    return options


def size(text: str) -> int:
    """A positive number on the command line."""
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 1,000,000")
    return int(text)


def sizes(text: str) -> list[int]:
    """Such numbers, with commas."""
    return [size(part) for part in text.split(",")]
