"""Fits the numbers that the ranking ships: maps of queries, weights, the floor, related terms.

    python -m bench train --repo PATH … --packages FOLDER [--out FOLDER] [--ablate]
        [--measure-repo PATH …] [--locomo FILE]

Lessons (`bench.lessons`): histories of the repositories, functions of the packages below FOLDER and
sessions over them, generated conversations. None of what is measured is among them: name other
repositories and packages. Maps are fitted on one half of the lessons and used on the other while
weights are fitted, so that the weights know how good a map is on what it has not seen.

With `--out` the files are written; without it the figures are printed only. `--ablate` fits the
weights again without each group of features. `--measure-repo` and `--locomo` are measured and never
fitted on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.fitting import (
    Candidates,
    fitted_floor,
    fitted_map,
    fitted_weights,
    related_terms,
)
from bench.lessons import (
    RING,
    SMALL_RING,
    Asked,
    Lesson,
    all_lessons,
    conversation_lesson,
    of_history,
)
from bench.locomo import CATEGORIES, conversations
from bench.off_topic import off_topic_queries
from bench.report import print_json, print_progress, print_table
from localmem_node.retrieval import related
from localmem_node.retrieval.encoder import OnnxEncoder
from localmem_node.retrieval.evidence import burst_numbers
from localmem_node.retrieval.index import SearchIndex
from localmem_node.retrieval.model import FEATURES, FOLDER, Model
from localmem_node.retrieval.ranking import prices, spread_out
from localmem_node.retrieval.related import RelatedTerms
from localmem_node.seams import Encoder

SEED: Final = 7
K: Final = 10
DEPTH: Final = 70
MOST_CANDIDATES: Final = 200
QUESTIONS: Final = {"git": 90, "docstrings": 400, "sessions": 400, "conversations": 70}
"""Questions of each store that the weights are fitted on, at most."""

SLICES: Final = {"git": 3, "sessions": 10}
"""Small stores cut from each, since a ring of SMALL_RING ranks otherwise than one of RING."""

SLICE_QUESTIONS: Final = 30
DONE_SHARES: Final = {"git": 1.0, "docstrings": 0.1, "sessions": 0.1}
SAID_SHARES: Final = {"git": 1.0, "docstrings": 0.25, "sessions": 0.25, "conversations": 0.5}
DONE_RIDGE: Final = 2e-5
SAID_RIDGE: Final = 5e-5
WEIGHT_RIDGE: Final = 2.0
SHARES: Final = {
    "git": 1.5,
    "git, 200": 1.0,
    "conversations": 1.0,
    "docstrings": 0.5,
    "sessions": 0.5,
    "sessions, 200": 0.5,
}
BURST_PENALTY: Final = 0.35
"""Chosen on the training repositories: each step to here gives about as much hit@10 as it takes recall@10."""

FLOOR_FEATURES: Final = (
    "cosine", "learned_cosine", "cover", "cover_related", "cover_near", "cover_far", "header",
    "path", "date", "quoted", "bias",
)  # fmt: skip
"""Features that say something on their own, and not only beside other candidates."""

FLOOR_QUESTIONS: Final = 15
FLOOR_NEGATIVES: Final = 5
FLOOR_SHIFT: Final = 0.5
"""Added to the constant: a question too many costs less than an answer that stays away."""

GROUPS: Final = {
    "related terms": ("related", "cover_related", "around", "cover_near", "cover_far"),
    "neighbours": (
        "context", "around", "cover_near", "cover_far", "cover_before", "cover_after",
        "meaning_before", "meaning_after", "meaning_before2", "meaning_after2", "after_question",
        "after_question_cover", "after_question_meaning",
    ),
    "prompt": ("cover_prompt",),
    "header (symbol, speaker)": ("header", "header_any"),
    "path": ("path",),
    "meaning": ("meaning", "cosine", "learned", "learned_cosine", "meaning_before",
                "meaning_after", "meaning_before2", "meaning_after2", "after_question_meaning"),
    "learned maps": ("learned", "learned_cosine"),
    "session": ("session",),
    "burst": ("burst_best", "burst_mean", "burst_size", "burst_rank"),
    "file": ("file",),
    "dates and times": ("date", "when", "how_many"),
    "questions and length": ("asks", "length"),
}  # fmt: skip


class Fit(NamedTuple):
    """What a search needs before there are weights."""

    maps: npt.NDArray[np.float32]
    terms: RelatedTerms

    @property
    def model(self) -> Model:
        """A model that has its maps only."""
        width = len(FEATURES)
        return Model(np.zeros((2, width), np.float32), np.zeros(width, np.float32), self.maps)


class CachedEncoder:
    """An encoder that keeps the vectors it made in a file, by text."""

    def __init__(self, encoder: Encoder, path: Path | None) -> None:
        self._encoder, self._path = encoder, path
        self.fingerprint, self.dimensions = encoder.fingerprint, encoder.dimensions
        self._rows: dict[bytes, npt.NDArray[np.float32]] = {}
        if path is not None and path.exists():
            with np.load(path) as kept:
                if str(kept["fingerprint"]) == self.fingerprint:
                    self._rows = dict(zip(map(bytes, kept["keys"]), kept["vectors"], strict=True))

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """As the encoder does."""
        keys = [
            hashlib.blake2b(text.encode(errors="replace"), digest_size=16).digest()
            for text in texts
        ]
        for key, text in zip(keys, texts, strict=True):
            if key not in self._rows:
                self._rows[key] = self._encoder.encode([text])[0]
        return np.array([self._rows[key] for key in keys], np.float32).reshape(-1, self.dimensions)

    def save(self) -> None:
        """Keep them."""
        if self._path is not None:
            keys = np.array([np.frombuffer(key, np.uint8) for key in self._rows])
            vectors = np.array(list(self._rows.values()), np.float32)
            np.savez(self._path, fingerprint=self.fingerprint, keys=keys, vectors=vectors)


def half_of(lesson: Lesson) -> int:
    """0 or 1: stores of one repository, one set of functions or one kind of topic stay together."""
    name = lesson.name.partition("[")[0]
    if lesson.domain == "conversations":
        return int(name) % 2
    return hashlib.blake2b(name.encode(), digest_size=1).digest()[0] % 2


def fitted_maps(lessons: Sequence[Lesson]) -> npt.NDArray[np.float32]:
    """The maps for done and said, (2, dimensions, dimensions)."""
    done = fitted_map(lessons, DONE_SHARES, DONE_RIDGE)
    said = fitted_map(lessons, SAID_SHARES, SAID_RIDGE)
    return np.stack((done, said)).astype(np.float16).astype(np.float32)


def indexed(lesson: Lesson, fit: Fit) -> SearchIndex:
    """The events of a lesson, slots as positions."""
    index = SearchIndex(lesson.vectors.shape[1], model=fit.model, terms=fit.terms)
    for slot, event in enumerate(lesson.events):
        index.add(slot, event)
    index.put_vectors(np.arange(len(lesson.events)), lesson.vectors)
    return index


def candidates(lesson: Lesson, fit: Fit, domain: str) -> Iterator[Candidates]:
    """What each question of a lesson has to choose from."""
    index = indexed(lesson, fit)
    for asked in lesson.questions:
        slots, features = index.features(index.prepare(asked.text, K), asked.vector, K)
        sessions, times = index.sessions_of(slots), index.traits(slots)["timestamp"]
        yield Candidates(
            domain,
            lesson.name,
            slots,
            features,
            index.traits(slots)["said"],
            asked.answers,
            burst_numbers(times, sessions),
        )


def sampled(lesson: Lesson, chance: np.random.Generator) -> Lesson:
    """Some of its questions."""
    most = QUESTIONS[lesson.domain]
    picked = sorted(chance.permutation(len(lesson.questions))[:most].tolist())
    return replace(lesson, questions=[lesson.questions[at] for at in picked])


def sliced(lesson: Lesson, chance: np.random.Generator) -> Iterator[Lesson]:
    """Small stores out of a large one."""
    for _ in range(SLICES.get(lesson.domain, 0)):
        first = int(chance.integers(0, max(1, len(lesson.events) - SMALL_RING)))
        part = lesson.part(first, min(first + SMALL_RING, len(lesson.events)))
        picked = chance.permutation(len(part.questions))[:SLICE_QUESTIONS].tolist()
        if picked:
            yield replace(part, questions=[part.questions[at] for at in picked])


def without_most(one: Candidates) -> Candidates:
    """The answers and the best of the others by a first look: what is far off teaches nothing."""
    if len(one.slots) <= MOST_CANDIDATES:
        return one
    names = ("words", "related", "around", "meaning", "learned", "session")
    look = one.features[:, [FEATURES.index(name) for name in names]].sum(axis=1)
    kept = one.right
    kept[np.argsort(-look, kind="stable")[:MOST_CANDIDATES]] = True
    return replace(
        one,
        slots=one.slots[kept],
        features=one.features[kept],
        said=one.said[kept],
        bursts=one.bursts[kept],
    )


def all_candidates(lessons: Sequence[Lesson], fits: Sequence[Fit]) -> list[Candidates]:
    """For fitting: every store is searched with the maps of the other half."""
    chance = np.random.default_rng(SEED)
    found: list[Candidates] = []
    for lesson in lessons:
        fit = fits[1 - half_of(lesson)]
        found += map(without_most, candidates(sampled(lesson, chance), fit, lesson.domain))
        for part in sliced(lesson, chance):
            name = f"{lesson.domain}, {SMALL_RING}"
            found += map(without_most, candidates(part, fit, name))
    return found


def graded(one: Candidates, weights: npt.NDArray[np.float64]) -> tuple[float, float]:
    """hit@10 and recall@10 of a question, as the index would rank."""
    scores = np.where(one.said, one.features @ weights[1], one.features @ weights[0])
    ranked = np.argsort(-scores, kind="stable")[:DEPTH]
    penalty = prices(one.bursts, one.said, BURST_PENALTY)
    chosen = spread_out(ranked, scores.astype(np.float32), one.bursts, penalty)[:K]
    right = sum(int(one.slots[at]) in one.answers for at, _ in chosen)
    return float(right > 0), right / len(one.answers)


def scored(
    asked: Sequence[Candidates], weights: npt.NDArray[np.float64]
) -> dict[str, dict[str, float]]:
    """Per domain hit@10 and recall@10, in percent."""
    found: dict[str, dict[str, float]] = {}
    for domain in dict.fromkeys(one.domain for one in asked):
        rows = np.array([graded(one, weights) for one in asked if one.domain == domain])
        hit, recall = (round(100 * float(mean), 1) for mean in rows.mean(axis=0))
        found[domain] = {"questions": len(rows), "hit_at_10": hit, "recall_at_10": recall}
    return found


def floor_rows(
    lessons: Sequence[Lesson],
    fits: Sequence[Fit],
    weights: npt.NDArray[np.float64],
    encoder: Encoder,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Features of answers that were found, and of what was found for questions about nothing."""
    chance = np.random.default_rng(SEED)
    columns = [FEATURES.index(name) for name in FLOOR_FEATURES]
    nothing = off_topic_queries(chance, 400)
    about_nothing = [
        Asked(text, vector, ())
        for text, vector in zip(nothing, encoder.encode(nothing), strict=True)
    ]
    rows: list[npt.NDArray[np.float32]] = []
    relevant: list[bool] = []
    shares: list[float] = []
    for lesson in lessons:
        for part in (lesson, next(sliced(lesson, chance), None)):
            if part is None:
                continue
            asked = chance.permutation(len(part.questions))[:FLOOR_QUESTIONS].tolist()
            off = chance.permutation(len(about_nothing))[:FLOOR_QUESTIONS].tolist()
            questions = [part.questions[at] for at in asked] + [about_nothing[at] for at in off]
            fit = fits[1 - half_of(lesson)]
            for one in candidates(replace(part, questions=questions), fit, lesson.domain):
                scores = np.where(one.said, one.features @ weights[1], one.features @ weights[0])
                first = np.argsort(-scores, kind="stable")[:K]
                chosen = first[one.right[first]] if one.answers else first[:FLOOR_NEGATIVES]
                if not len(chosen):
                    continue
                rows += list(one.features[chosen][:, columns])
                relevant += [bool(one.answers)] * len(chosen)
                shares += [1 / len(chosen)] * len(chosen)
    return np.array(rows, np.float64), np.array(relevant), np.array(shares)


def main(arguments: Sequence[str]) -> None:
    """Fit, measure, write. Raises HistoryError and NotLocomo."""
    options = _options(arguments)
    encoder = CachedEncoder(OnnxEncoder(), options.cache)
    roots = sorted(path for path in options.packages.iterdir() if (path / "__init__.py").is_file())
    lessons = [each for each in all_lessons(options.repo, roots, SEED, encoder) if each.questions]
    words = related_terms(lessons, encoder)
    encoder.save()
    table = related.encoded(words)
    terms = related.decoded(table)
    print_progress("fitting the maps …")
    halves = [[each for each in lessons if half_of(each) == half] for half in (0, 1)]
    fits = [Fit(fitted_maps(some), terms) for some in (*halves, lessons)]
    print_progress("candidates …")
    asked = all_candidates(lessons, fits)
    print_progress(f"fitting the weights on {len(asked)} questions …")
    weights = fitted_weights(asked, SHARES, WEIGHT_RIDGE)
    measured = list(_measured(options, encoder, fits[2]))
    result: dict[str, Any] = {
        "lessons": scored(asked, weights),
        "measured": scored(measured, weights),
        "related": len(words),
    }
    floor = fitted_floor(*floor_rows(lessons, fits, weights, encoder))
    floor[-1] += FLOOR_SHIFT
    if options.ablate:
        result["without"] = {}
        for name, group in GROUPS.items():
            print_progress(f"without {name} …")
            fitted = fitted_weights(asked, SHARES, WEIGHT_RIDGE, without=group, start=weights)
            result["without"][name] = scored(measured, fitted) | scored(
                [one for one in asked if one.domain in ("docstrings", "sessions, 200")], fitted
            )
    if options.out:
        _write(options.out, table, fits[2].maps, weights, floor)
    if options.json:
        print_json(result)
    else:
        _print(result)


def _measured(options: argparse.Namespace, encoder: Encoder, fit: Fit) -> Iterator[Candidates]:
    chance = np.random.default_rng(SEED)
    for repository in options.measure_repo:
        newest = next(of_history(repository, encoder))
        yield from candidates(newest, fit, f"measured: git, {RING}")
        for _ in range(4):
            for part in sliced(newest, chance):
                yield from candidates(part, fit, f"measured: git, {SMALL_RING}")
    for held in conversations(options.locomo) if options.locomo else ():
        answered = [
            (each.text, each.answers) for each in held.questions if each.category in CATEGORIES
        ]
        lesson = conversation_lesson(held.name, held.events, answered, encoder)
        yield from candidates(lesson, fit, "measured: LoCoMo, 1 to 4")


def _write(
    folder: Path,
    table: bytes,
    maps: npt.NDArray[np.float32],
    weights: npt.NDArray[np.float64],
    floor: npt.NDArray[np.float64],
) -> None:
    def named(values: npt.NDArray[np.float64]) -> dict[str, float]:
        return {name: round(float(value), 4) for name, value in zip(FEATURES, values, strict=True)}

    numbers = {
        "done": named(weights[0]),
        "said": named(weights[1]),
        "floor": {
            name: round(float(value), 4) for name, value in zip(FLOOR_FEATURES, floor, strict=True)
        },
        "burst_penalty": BURST_PENALTY,
    }
    (folder / "related.zst").write_bytes(table)
    (folder / "ranking.json").write_text(json.dumps(numbers, indent=1) + "\n")
    np.save(folder / "query_maps.npy", maps.astype(np.float16))


def _print(result: dict[str, Any]) -> None:
    every = result["lessons"] | result["measured"]
    print_table(
        ["store", "questions", "hit@10", "recall@10"],
        [[name, *map(str, row.values())] for name, row in every.items()],
    )
    if "without" in result:
        columns = list(next(iter(result["without"].values())))
        rows = [["everything", *(_cell(every[column]) for column in columns)]]
        rows += [
            [name, *(_cell(row[column]) for column in columns)]
            for name, row in result["without"].items()
        ]
        print()
        print_table(["without (hit@10 / recall@10)", *columns], rows)


def _cell(row: dict[str, float]) -> str:
    return f"{row['hit_at_10']:.1f} / {row['recall_at_10']:.1f}"


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench train", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repo", type=Path, action="append", required=True)
    parser.add_argument("--packages", type=Path, required=True, help="a folder of packages")
    parser.add_argument(
        "--out", type=Path, nargs="?", const=FOLDER, help="write, by default in place"
    )
    parser.add_argument("--cache", type=Path, help="a .npz file of vectors made before")
    parser.add_argument("--ablate", action="store_true")
    parser.add_argument("--measure-repo", type=Path, action="append", default=[])
    parser.add_argument("--locomo", type=Path)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)
