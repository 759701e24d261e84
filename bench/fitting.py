"""How the numbers of the ranking are found: maps of queries, weights of features, related terms.

Everything is deterministic: the same lessons give the same numbers.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

import localmem_minilm
from bench.lessons import Lesson
from localmem_node.retrieval.fields import fields
from localmem_node.retrieval.model import FEATURES
from localmem_node.retrieval.related import Related
from localmem_node.retrieval.tokens import STOP_WORDS, query_terms, stemmed, terms
from localmem_node.seams import Encoder

TEMPERATURE: Final = 18.0
MAP_STEPS: Final = 20
MAP_RATE: Final = 0.004
NEWTON_STEPS: Final = 30

NEIGHBOURS: Final = 8
NEIGHBOUR_COSINE: Final = 0.5
RELATED_MOST: Final = 10
SEEN_MIN: Final = 8
REPOSITORIES_MIN: Final = 5
LIFT_MIN: Final = 2.5
SURE_LIFT_MIN: Final = 1.8
SHARE_OF_COMMITS_MIN: Final = 0.05

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def fitted_map(lessons: Sequence[Lesson], shares: Mapping[str, float], ridge: float) -> Floats:
    """A map W of query vectors, (dimensions, dimensions): answers are near `vector @ W`.

    The softmax over the cosines of all events of a store, times TEMPERATURE, is to give the answers;
    W stays near the identity by `ridge`. Domains count by `shares`, their stores alike. Full-batch
    gradient steps with the step sizes of Adam (Kingma, Ba, 2015).
    """
    counts = Counter(lesson.domain for lesson in lessons if lesson.questions)
    blocks = [
        (
            np.stack([asked.vector for asked in lesson.questions]),
            lesson.vectors,
            [list(asked.answers) for asked in lesson.questions],
            shares[lesson.domain] / (counts[lesson.domain] * len(lesson.questions)),
        )
        for lesson in lessons
        if lesson.questions and shares.get(lesson.domain)
    ]
    size = blocks[0][1].shape[1]
    identity = np.eye(size, dtype=np.float32)
    change, mean, square = (np.zeros((size, size), np.float32) for _ in range(3))
    for step in range(1, MAP_STEPS + 1):
        slope = ridge * size * change
        for queries, vectors, answers, share in blocks:
            wrong = TEMPERATURE * ((queries @ (identity + change)) @ vectors.T)
            wrong -= wrong.max(axis=1, keepdims=True)
            np.exp(wrong, out=wrong)
            wrong /= wrong.sum(axis=1, keepdims=True)
            for row, right in zip(wrong, answers, strict=True):
                row[right] -= np.float32(1 / len(right))
            slope += np.float32(TEMPERATURE * share) * (queries.T @ (wrong @ vectors))
        mean = 0.9 * mean + 0.1 * slope
        square = 0.99 * square + 0.01 * slope * slope
        size_of_step = np.sqrt(square / (1 - 0.99**step)) + 1e-8
        change -= MAP_RATE * (mean / (1 - 0.9**step)) / size_of_step
        change = change.astype(np.float32)
    return identity + change


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a question has to choose from: features (n, FEATURES), which were `said`, which answer."""

    domain: str
    store: str
    slots: npt.NDArray[np.int64]
    features: Floats
    said: npt.NDArray[np.bool_]
    answers: tuple[int, ...]
    bursts: npt.NDArray[np.int64]

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Which candidates answer."""
        return np.isin(self.slots, self.answers)


def fitted_weights(
    asked: Sequence[Candidates],
    shares: Mapping[str, float],
    ridge: float,
    without: Sequence[str] = (),
    start: Doubles | None = None,
) -> Doubles:
    """Weights (2, FEATURES), for done and said, by Newton's method; those `without` stay 0.

    The softmax over the candidates of a question is to give its answers, all alike. Domains count by
    `shares`, their questions alike. Nearer weights to `start` from save steps.
    """
    width = len(FEATURES)
    used = np.array([name not in without for name in FEATURES] * 2)
    counts = Counter(each.domain for each in asked)
    of_done = int(used[:width].sum())
    blocks: list[_Block] = []
    for each in asked:
        right = each.right
        if right.any():
            wide = np.zeros((len(right), 2 * width))
            wide[~each.said, :width] = each.features[~each.said]
            wide[each.said, width:] = each.features[each.said]
            share = 1000 * shares[each.domain] / counts[each.domain]
            # Most stores have events of one sort, and half of the columns to them.
            first = of_done if each.said.all() else 0
            end = None if each.said.any() else of_done
            columns = slice(first, end)
            blocks.append((columns, wide[:, used][:, columns], right / right.sum(), share))
    weights = np.zeros(int(used.sum())) if start is None else start.ravel()[used]
    cost, slope, curve = _likelihood(blocks, weights, ridge)
    for _ in range(NEWTON_STEPS):
        step, part = np.linalg.solve(curve, slope), 1.0
        while True:
            found = _likelihood(blocks, weights - part * step, ridge)
            if found[0] <= cost or part < 1e-3:
                break
            part /= 2
        weights = weights - part * step
        gained = cost - found[0]
        cost, slope, curve = found
        if gained < 1e-6 * cost:
            break
    both = np.zeros(2 * width)
    both[used] = weights
    return both.reshape(2, width)


_Block = tuple[slice, Doubles, Doubles, float]


def _likelihood(
    blocks: Sequence[_Block], weights: Doubles, ridge: float
) -> tuple[float, Doubles, Doubles]:
    """The cost, its gradient and its second derivatives."""
    cost = ridge / 2 * float(weights @ weights)
    slope = ridge * weights
    curve = ridge * np.eye(len(weights))
    for columns, features, wanted, share in blocks:
        scores = features @ weights[columns]
        scores -= scores.max()
        given = np.exp(scores)
        total = given.sum()
        given /= total
        cost -= share * float(wanted @ (scores - math.log(total)))
        slope[columns] += share * (features.T @ (given - wanted))
        weighted = features * given[:, None]
        mean = weighted.sum(axis=0)
        curve[columns, columns] += share * (features.T @ weighted - np.outer(mean, mean))
    return cost, slope, curve


def fitted_floor(
    rows: Doubles, relevant: npt.NDArray[np.bool_], shares: Doubles, ridge: float = 0.3
) -> Doubles:
    """Weights of a logistic regression, (columns,); the last column is the constant."""
    weights = np.zeros(rows.shape[1])
    penalty = np.full(rows.shape[1], ridge)
    penalty[-1] = 0
    for _ in range(NEWTON_STEPS):
        given = 1 / (1 + np.exp(-rows @ weights))
        slope = rows.T @ (shares * (given - relevant)) + penalty * weights
        curve = (rows * (shares * given * (1 - given))[:, None]).T @ rows + np.diag(penalty + 1e-9)
        weights = weights - np.linalg.solve(curve, slope)
    return weights


def related_terms(lessons: Sequence[Lesson], encoder: Encoder) -> dict[str, list[Related]]:
    """Per term those that mean nearly the same, and those that code has where people say it."""
    shares: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for term, others in _neighbours(encoder).items():
        shares[term].update(others)
    for term, others in _associations(lessons).items():
        for other, share in others.items():
            shares[term][other] = max(share, shares[term].get(other, 0.0))
    for other in [other for others in shares.values() for other in others]:
        shares.setdefault(other, {})
    return {
        term: [
            Related(other, share)
            for other, share in sorted(others.items(), key=lambda one: (-one[1], one[0]))
        ][:RELATED_MOST]
        for term, others in shares.items()
    }


def _neighbours(encoder: Encoder) -> dict[str, dict[str, float]]:
    """The nearest of the whole words that the model's vocabulary has, by its vectors of them alone."""
    vocabulary = json.loads(localmem_minilm.TOKENIZER_PATH.read_bytes())["model"]["vocab"]
    words: dict[str, str] = {}  # by stem the most frequent form: the vocabulary begins with these
    for word in vocabulary:
        if re.fullmatch(r"[a-z]{3,}", word) and word not in STOP_WORDS:
            words.setdefault(stemmed(word), word)
    stems = list(words)
    vectors = encoder.encode([words[stem] for stem in stems])
    found: dict[str, dict[str, float]] = {}
    for row, stem in enumerate(stems):
        cosines = vectors @ vectors[row]
        cosines[row] = 0
        nearest = np.argsort(-cosines, kind="stable")[:NEIGHBOURS].tolist()
        found[stem] = {
            stems[at]: 0.1 + 0.8 * (float(cosines[at]) - NEIGHBOUR_COSINE) / (1 - NEIGHBOUR_COSINE)
            for at in nearest
            if cosines[at] >= NEIGHBOUR_COSINE
        }
    return found


def _associations(lessons: Sequence[Lesson]) -> dict[str, dict[str, float]]:
    """Terms that hunks have more often if the subject of their commit has another, over repositories."""
    together: Counter[tuple[str, str]] = Counter()
    places: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    counted: list[tuple[int, Counter[str], Counter[str]]] = []
    for lesson in lessons:
        if lesson.domain != "git":
            continue
        repository = lesson.name.partition("[")[0]
        asking: Counter[str] = Counter()
        having: Counter[str] = Counter()
        for asked in lesson.questions:
            subject = set(query_terms(asked.text))
            hunks = {
                term
                for at in asked.answers
                for field in fields(lesson.events[at])
                for term in terms(field)
            }
            asking.update(subject)
            having.update(hunks)
            for pair in ((term, other) for term in subject for other in hunks if other != term):
                together[pair] += 1
                places[pair].add(repository)
        counted.append((len(lesson.questions), asking, having))
    found: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for (term, other), times in together.items():
        if times < SEEN_MIN or len(places[term, other]) < REPOSITORIES_MIN:
            continue
        subjects = sum(asking[term] for _, asking, _ in counted)
        if len(other) < 2 or other.isdigit() or times < SHARE_OF_COMMITS_MIN * subjects:
            continue
        expected = sum(asking[term] * having[other] / count for count, asking, having in counted)
        sure = (times - 1.6 * math.sqrt(times)) / expected
        if times >= LIFT_MIN * expected and sure >= SURE_LIFT_MIN:
            found[term][other] = min(0.7, 0.14 * math.log2(sure))
    return found
