"""Does a search find what a session was about, asked for later in other words?

Seeded coding sessions (`bench.coding_sessions`: what happens in them, how questions are put, and
which events are relevant) are recorded one after the other into a ring of events; the oldest leave.
Each session's question is asked once, at a moment drawn from those after the session at which all of
its events are still in the ring. So a question has to tell its session from the hundreds around it;
the ring never holds two sessions of the same task.

At most TEXTS_MAX different texts occur, questions included: so many are encoded, and the sessions
are built from them. A function comes up in several sessions, so questions are not independent, and
all intervals are by the bootstrap over functions, with all questions of each (clusters).

Scores and baselines: `bench.grading`. `words_shared`: the share of a question's terms, as BM25 sees
them, that any relevant event has.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bench.coding_sessions import Session, Workshop
from bench.docstrings import chosen
from bench.functions import functions, name_of, packages
from bench.git_hunks import size
from bench.grading import (
    HEADINGS,
    METRICS,
    PRODUCT,
    RESAMPLES,
    SEED,
    Contest,
    Scores,
    graded,
    result,
    rows,
)
from bench.report import print_json, print_progress, print_table
from localmem_node.errors import NodeError
from localmem_node.retrieval.encoder import OnnxEncoder
from localmem_node.retrieval.index import text_for_encoding
from localmem_node.retrieval.tokens import query_terms
from localmem_node.seams import Encoder
from localmem_protocol.events import Event, stamp

SESSIONS: Final = 10_000
FUNCTIONS: Final = 1_500
RING: Final = 2_500
TEXTS_MAX: Final = 10_000
PROMPTED: Final = {True: "prompted", False: "only edited"}
"""Whether the session's prompt was about the function asked for, or it was changed on the way."""

DEVICE: Final = "0" * 16
_PROGRESS_EVERY: Final = 2_000

Vectors = npt.NDArray[np.float32]


class Unsuitable(NodeError):
    """The sessions asked for cannot be measured so."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, what it is about, and the positions of its session's events and answers.

    `prompted`: whether the prompt of the session was about the same function.
    """

    text: str
    form: str
    prompted: bool
    function: int
    session: range
    answers: frozenset[int]


class Encoded:
    """Every different text once, with its vector."""

    def __init__(self, texts: Sequence[str], encoder: Encoder) -> None:
        self._numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        if len(self._numbers) > TEXTS_MAX:
            raise Unsuitable(f"{len(self._numbers)} texts to encode; ask for fewer functions")
        different = list(self._numbers)
        made: list[Vectors] = []
        for start in range(0, len(different), _PROGRESS_EVERY):
            print_progress(f"encoding {len(different)} texts, {start} done …")
            made.append(encoder.encode(different[start : start + _PROGRESS_EVERY]))
        self._vectors = np.concatenate(made)

    @property
    def dimensions(self) -> int:
        """Of a vector."""
        return int(self._vectors.shape[1])

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, text: str) -> Vectors:
        vector: Vectors = self._vectors[self._numbers[text]]
        return vector


def recorded(sessions: Sequence[Session]) -> tuple[list[Event], list[Asked]]:
    """All events in order, and the question of each session."""
    events: list[Event] = []
    asked: list[Asked] = []
    for session in sessions:
        start = len(events)
        for happening in session.happenings:
            at = len(events) + 1
            events.append(stamp(happening.draft, device=DEVICE, clock=at, sequence=at))
        question = session.question
        asked.append(
            Asked(
                question.text,
                question.form,
                question.function in session.happenings[0].functions,
                question.function,
                range(start, len(events)),
                frozenset(start + at for at in session.relevant),
            )
        )
    return events, asked


def moments(
    asked: Sequence[Asked], events: int, ring: int, chance: np.random.Generator
) -> list[tuple[int, int]]:
    """(events recorded by then, number of the question), by time."""
    drawn: list[tuple[int, int]] = []
    for number, question in enumerate(asked):
        latest = min(question.session.start + ring, events)
        if latest < question.session.stop:
            raise Unsuitable(f"a ring of {ring} does not hold a session")
        drawn.append((int(chance.integers(question.session.stop, latest + 1)), number))
    return sorted(drawn)


def measure(sessions: Sequence[Session], ring: int, encoder: Encoder, seed: int) -> dict[str, Any]:
    """The counts and the result, also by form and by what was prompted. Raises Unsuitable."""
    events, asked = recorded(sessions)
    texts = [text_for_encoding(event) for event in events]
    encoded = Encoded([*texts, *(question.text for question in asked)], encoder)
    scores = scored(events, asked, texts, encoded, ring, seed)
    functions_asked = np.array([question.function for question in asked])
    counts = {
        "sessions": len(sessions),
        "events": len(events),
        "ring": ring,
        "texts": len(encoded),
        "functions": len(set(functions_asked.tolist())),
        "answers": round(float(np.mean([len(question.answers) for question in asked])), 1),
        "words_shared": _words_shared(asked, events),
    }

    def parts(labels: Sequence[str]) -> dict[str, Any]:
        """The results of the questions of each label."""
        found: dict[str, Any] = {}
        for label, count in sorted(Counter(labels).items()):
            those = np.array([each == label for each in labels])
            part = {name: every[those] for name, every in scores.items()}
            found[label] = {"questions": count, **clustered(part, functions_asked[those])}
        return found

    return {
        **counts,
        **clustered(scores, functions_asked),
        "by_form": parts([question.form for question in asked]),
        "by_prompt": parts([PROMPTED[question.prompted] for question in asked]),
    }


def scored(
    events: Sequence[Event],
    asked: Sequence[Asked],
    texts: Sequence[str],
    encoded: Encoded,
    ring: int,
    seed: int,
) -> dict[str, Scores]:
    """Per method the scores of every question; `texts` are what is encoded of the events."""
    chance = np.random.default_rng(seed)
    contest = Contest(encoded.dimensions)
    scores: dict[str, Scores] = {}
    end = 0
    for done, (now, number) in enumerate(moments(asked, len(events), ring, chance)):
        for position in range(end, now):
            contest.remove(position % ring)
            contest.add(position % ring, events[position], encoded[texts[position]])
        end = now
        question = asked[number]
        first = max(end - ring, 0)
        found = contest.rankings(question.text, encoded[question.text], chance)
        for method, slots in found.items():
            positions = [first + (slot - first) % ring for slot in slots]
            kept = scores.setdefault(method, np.zeros((len(asked), len(METRICS))))
            kept[number] = graded(positions, question.answers)
        if done % _PROGRESS_EVERY == 0:
            print_progress(f"{done} of {len(asked)} questions asked …")
    return scores


def clustered(scores: Mapping[str, Scores], clusters: npt.NDArray[np.int64]) -> dict[str, Any]:
    """`grading.result` with all intervals by the bootstrap over clusters of questions."""
    found = result(scores)
    _, numbers = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(numbers)
    chance = np.random.default_rng(SEED)
    drawn = chance.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=RESAMPLES)

    def interval(values: npt.NDArray[np.float64]) -> list[float]:
        sums = np.bincount(numbers, weights=values)
        low, high = np.percentile(100 * (drawn @ sums) / (drawn @ sizes), [2.5, 97.5])
        return [round(float(low), 1), round(float(high), 1)]

    for name, each in scores.items():
        row = found if name == PRODUCT else found["baselines"][name]
        for column, metric in enumerate(METRICS):
            if metric in row["intervals"]:
                row["intervals"][metric] = interval(each[:, column])
        if name != PRODUCT:
            row["intervals"]["behind"] = interval(scores[PRODUCT][:, 0] - each[:, 0])
    return found


def main(arguments: Sequence[str]) -> None:
    """Run the benchmark. Raises Unsuitable."""
    options = _options(arguments)
    roots = chosen(packages(), options.packages) if options.packages else [standard_library()]
    found = functions(roots, options.functions, options.seed)
    workshop = Workshop(found, np.random.default_rng(options.seed))
    sessions = list(workshop.sessions(options.sessions))
    check_apart(sessions, options.ring, workshop.gap)
    encoder = OnnxEncoder()
    measured = measure(sessions, options.ring, encoder, options.seed)
    measured = {"packages": [name_of(root) for root in roots], **measured}
    if options.json:
        print_json({"encoder": encoder.fingerprint} | measured)
        return
    print(
        "{sessions} sessions, {events} events in a ring of {ring}, {texts} texts, {functions} "
        "functions asked about; {answers} answers to a question, {words_shared:.2f} of its words in "
        "them\n".format(**measured)
    )
    print_table(HEADINGS, rows(measured))
    print()
    print_table(
        ["questions", *HEADINGS],
        [
            [label, *row]
            for parts in (measured["by_form"], measured["by_prompt"])
            for label, each in parts.items()
            for row in rows(each)
        ],
    )


def standard_library() -> Path:
    """The root that is measured by default; what is trained should use the others."""
    return next(root for root in packages() if (root / "os.py").is_file())


def check_apart(sessions: Sequence[Session], ring: int, gap: int) -> None:
    """Raise Unsuitable if the ring could hold two sessions of the same task."""
    sizes = np.array([len(session.happenings) for session in sessions])
    ends = np.concatenate([[0], np.cumsum(sizes)])
    if len(sessions) > gap and int((ends[gap:] - ends[:-gap]).min()) < ring:
        raise Unsuitable(f"{gap} sessions do not fill a ring of {ring}; ask for more functions")


def _words_shared(asked: Sequence[Asked], events: Sequence[Event]) -> float:
    shares: list[float] = []
    for question in asked:
        terms = set(query_terms(question.text))
        texts = (f"{events[at].file_path or ''} {events[at].snippet}" for at in question.answers)
        told = {term for text in texts for term in query_terms(text)}
        shares.append(len(terms & told) / len(terms))
    return round(float(np.mean(shares)), 2)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench sessions", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--packages", type=_names, default=(), help="not the standard library")
    parser.add_argument("--sessions", type=size, default=SESSIONS, help="(10000)")
    parser.add_argument("--functions", type=size, default=FUNCTIONS, help="(1500)")
    parser.add_argument("--ring", type=size, default=RING, help="events (2500)")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]
