"""What is a ring worth later, by who leaves it? The history of a repository, played into it.

Before each commit its cleaned subject is asked, and the ten events found are all that a policy gets
to see of it: which were right it never learns. Then its hunks are recorded. What was right is in
`bench.line_ancestry`, counted over the whole history, so that what has left counts against a policy.

Over the commits from the first eviction on, which build on an earlier hunk at all: hit@10, the share
with such a hunk among the ten; recall@10, the share of such hunks there; held, the share that had one
in the ring. `gain` is hit@10 less that of FIFO, in points, with its interval at 95 % (bootstrap over
commits, paired). `copied` is bytes copied forward per byte recorded, `rounds` rounds granted per
event. *Clairvoyant* knows what will be built on, by lines; *everything* is a ring without an end. A
ring of N has the bytes of N average events of the repository, vectors included.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bench.git_hunks import name_of, queries_of, size, sizes
from bench.grading import graded, interval
from bench.line_ancestry import Ancestry
from bench.report import print_json, print_progress, print_table
from bench.ring_replay import (
    Answered,
    Clairvoyant,
    LeastRecentlyUsed,
    Log,
    Policy,
    Random,
    Task,
    Timeline,
    replay,
)
from localmem_node.errors import HistoryError
from localmem_node.git_history import recent_hunks
from localmem_node.retention import COPIED_SHARE, Fifo, Relevance, Weights
from localmem_node.retrieval.encoder import OnnxEncoder
from localmem_node.retrieval.index import text_for_encoding
from localmem_node.seams import Encoder
from localmem_node.store.records import encode_event
from localmem_protocol.events import stamp

NO_TASK: Final = re.compile(r"\b(?:bump|version|release|typos?|merge|revert)", re.IGNORECASE)
"""Subjects that name no work."""

TRUTHS: Final = ("lines", "region")
DEVICE: Final = "0" * 16
RECORD_OVERHEAD_BYTES: Final = 32
"""Length, kind, nonce and tag of a record: docs/ring-file.md."""

VECTORS_PER_RECORD: Final = 10
FIFO: Final = "FIFO"
EVERYTHING: Final = "everything"
SHARES_TRIED: Final = (0.25, 1.0)
HITS_ALONE: Final = Weights(content=0, returned=1, followed=0, replaced=0, round=0)

Scores = npt.NDArray[np.float64]
"""(tasks, truths, 3): hit, recall and held; NaN where there is nothing to find."""


def policies(ring_bytes: int, timeline: Timeline, *, ablations: bool) -> dict[str, Policy]:
    """Who may decide in a ring of so many bytes."""

    def relevance(weights: Weights, share: float = COPIED_SHARE) -> Log:
        return Log(timeline, Relevance(ring_bytes, weights, share=share))

    made: dict[str, Policy] = {
        FIFO: Log(timeline, Fifo()),
        "random": Random(),
        "LRU": LeastRecentlyUsed(),
        "hits alone": relevance(HITS_ALONE),
        "relevance": relevance(Weights()),
    }
    if ablations:
        for weight in fields(Weights):
            without = replace(Weights(), **{weight.name: 0.0})
            made[f"without {weight.name}"] = relevance(without)
        for share in SHARES_TRIED:
            made[f"copying {share:g}"] = relevance(Weights(), share)
    made["clairvoyant"] = Clairvoyant(timeline, TRUTHS[0])
    made[EVERYTHING] = Log(timeline, Fifo())
    return made


def read(repository: Path, count: int, encoder: Encoder) -> Timeline:
    """The history of a repository, encoded. Raises HistoryError."""
    hunks = recent_hunks(repository, count)
    name = name_of(repository)
    events = [
        stamp(hunk.draft, device=DEVICE, clock=at + 1, sequence=at + 1)
        for at, hunk in enumerate(hunks)
    ]
    asked = queries_of(hunks, NO_TASK)
    if not asked:
        raise HistoryError(f"{name}: no commit of it asks a question; name others with --repo")
    print_progress(f"{name}: {len(events)} hunks, {len(asked)} commits that ask; blaming …")
    ancestry = Ancestry(repository, hunks)
    answers = [
        {"lines": ancestry.by_lines(work), "region": ancestry.by_region(work)} for _, work in asked
    ]
    print_progress(f"{name}: encoding …")
    subjects = encoder.encode([text for text, _ in asked])
    vector_bytes = encoder.dimensions + RECORD_OVERHEAD_BYTES // VECTORS_PER_RECORD
    record_bytes = [len(encode_event(event, DEVICE)) + RECORD_OVERHEAD_BYTES for event in events]
    return Timeline(
        name=name,
        events=events,
        vectors=encoder.encode([text_for_encoding(event) for event in events]),
        sizes=np.array(record_bytes, dtype=np.int64) + vector_bytes,
        tasks=[
            Task(text, vector, work.start, truth)
            for (text, work), vector, truth in zip(asked, subjects, answers, strict=True)
        ],
    )


def measure(
    timeline: Timeline, ring: int, *, ablations: bool = False
) -> dict[str, tuple[Scores, dict[str, float]]]:
    """Per policy the scores of every task from the first eviction on, and what copying took."""
    capacity = timeline.capacity(ring)
    full = int(np.searchsorted(np.cumsum(timeline.sizes), capacity, side="right"))
    made = policies(capacity, timeline, ablations=ablations)
    measured: dict[str, tuple[Scores, dict[str, float]]] = {}
    for name, policy in made.items():
        answered = replay(timeline, policy, None if name == EVERYTHING else capacity)
        later = [one for one in answered if one.task.at > full]
        scores = np.array([scored(one) for one in later]).reshape(-1, len(TRUTHS), 3)
        measured[name] = (scores, _copying(policy, len(timeline.events)))
    return measured


def scored(answered: Answered) -> list[tuple[float, float, float]]:
    """Hit, recall and held by each truth."""
    rows: list[tuple[float, float, float]] = []
    for truth in TRUTHS:
        answers = answered.task.answers[truth]
        if answers:
            hit, recall, _ = graded(answered.found, answers)
            rows.append((hit, recall, float(not answers.isdisjoint(answered.held))))
        else:
            rows.append((np.nan, np.nan, np.nan))
    return rows


def _copying(policy: Policy, events: int) -> dict[str, float]:
    if not isinstance(policy, Log):
        return {}
    copied = policy.copied_bytes / policy.written_bytes
    return {"copied": round(copied, 3), "rounds": round(policy.copied / events, 3)}


def summary(scores: Scores, fifo: Scores) -> dict[str, float]:
    """Of one truth, (tasks, 3) each: percentages; the gain over FIFO with its bounds."""
    asked = ~np.isnan(scores[:, 0])
    scores, fifo = scores[asked], fifo[asked]
    if not len(scores):
        return {"tasks": 0}
    low, high = interval(scores[:, 0])
    gains = scores[:, 0] - fifo[:, 0]
    least, most = interval(gains)
    hit, recall, held = scores.mean(axis=0)
    shares = {
        "hit_at_10": hit,
        "low": low,
        "high": high,
        "gain": gains.mean(),
        "gain_low": least,
        "gain_high": most,
        "recall_at_10": recall,
        "held": held,
    }
    return {"tasks": len(scores)} | {
        name: round(100 * float(share), 1) for name, share in shares.items()
    }


def compared(timelines: Sequence[Timeline], ring: int, *, ablations: bool) -> dict[str, Any]:
    """Per policy and truth the summary over all repositories and the gain in each; the copying."""
    measured = [measure(timeline, ring, ablations=ablations) for timeline in timelines]
    found: dict[str, Any] = {}
    for name in measured[0]:
        found[name] = {}
        for number, truth in enumerate(TRUTHS):
            pairs = [(one[name][0][:, number], one[FIFO][0][:, number]) for one in measured]
            together = [np.concatenate(side) for side in zip(*pairs, strict=True)]
            each = {
                timeline.name: {key: row.get(key) for key in ("tasks", "hit_at_10", "gain")}
                for timeline, pair in zip(timelines, pairs, strict=True)
                if (row := summary(*pair))
            }
            found[name][truth] = {**summary(together[0], together[1]), "by_repository": each}
        copying = [one[name][1] for one in measured]
        found[name] |= {key: max(one[key] for one in copying) for key in copying[0]}
    return found


def main(arguments: Sequence[str]) -> None:
    """Run the benchmark. Raises HistoryError for a repository that cannot be read."""
    options = _options(arguments)
    encoder = OnnxEncoder()
    timelines = [read(path, options.events, encoder) for path in options.repo]
    rings: dict[str, dict[str, Any]] = {}
    for ring in options.ring:
        print_progress(f"ring of {ring} …")
        rings[str(ring)] = compared(timelines, ring, ablations=options.ablations)
    if options.json:
        counts = {
            one.name: {"events": len(one.events), "tasks": len(one.tasks)} for one in timelines
        }
        print_json({"encoder": encoder.fingerprint, "repositories": counts, "rings": rings})
        return
    for truth in TRUTHS:
        headings = ["hit@10", "95 %", "gain", "95 %", "recall@10", "held", "gain by repository"]
        print(f"\nby {truth}:\n")
        print_table(
            ["ring", "policy", *headings, "copied", "rounds"],
            [
                [ring, name, *_cells(found, truth)]
                for ring, methods in rings.items()
                for name, found in methods.items()
                if found[truth]["tasks"]
            ],
        )


def _cells(found: Mapping[str, Any], truth: str) -> list[object]:
    row = found[truth]
    each = row["by_repository"].items()
    return [
        f"{row['hit_at_10']:.1f}",
        f"{row['low']:.1f}–{row['high']:.1f}",
        f"{row['gain']:+.1f}",
        f"{row['gain_low']:+.1f} to {row['gain_high']:+.1f}",
        f"{row['recall_at_10']:.1f}",
        f"{row['held']:.1f}",
        ", ".join(f"{name} {one['gain']:+.1f}" for name, one in each if one["tasks"]),
        *(f"{found[key]:.2f}" if key in found else "–" for key in ("copied", "rounds")),
    ]


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench eviction", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--repo", type=Path, action="append", help="a git repository; may be repeated (this one)"
    )
    parser.add_argument("--ring", type=sizes, default=[200, 500, 1000], help="200,500,1000")
    parser.add_argument("--events", type=size, default=10_000, help="newest hunks of each (10000)")
    parser.add_argument(
        "--ablations", action="store_true", help="also without each weight, and with other budgets"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    options.repo = options.repo or [Path()]
    return options
