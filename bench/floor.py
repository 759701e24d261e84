"""How often does a search answer a question about nothing, and what does the floor that prevents it cost?

The hunks of repositories and their commit subjects (`bench.git_hunks`), each repository a store, asked
as `query_recent` asks; then the questions of `bench.off_topic`, for which whatever is found is a false
answer. `hit_at_10` is with the floor, `lost` the points of it that the floor costs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from bench.git_hunks import EVENTS, RING, History, read
from bench.grading import SEED, K, graded
from bench.off_topic import COUNT, off_topic_queries
from bench.report import print_json, print_progress, print_table
from localmem_node.retrieval.encoder import OnnxEncoder
from localmem_node.retrieval.index import SearchIndex
from localmem_node.seams import Encoder

HEADINGS: Final = ("store", "events", "hit@10", "lost", "false answers")


def measure(history: History, newest: int, encoder: Encoder) -> dict[str, float]:
    """Percentages over the newest events of a history."""
    first = max(len(history.events) - newest, 0)
    index = SearchIndex(encoder.dimensions)
    for slot, event in enumerate(history.events[first:]):
        index.add(slot, event)
        index.put_vector(slot, history.vectors[first + slot])
    hits = np.zeros((2, 0))
    for query in history.queries:
        if query.answers.start >= first:
            wanted = {position - first for position in query.answers}
            found = [
                [hit.slot for hit in index.search(query.text, query.vector, K, floor=floor)]
                for floor in (False, True)
            ]
            hits = np.column_stack((hits, [graded(slots, wanted)[0] for slots in found]))
    nothing = off_topic_queries(np.random.default_rng(SEED), COUNT)
    answered = [
        bool(index.search(text, vector, K, floor=True))
        for text, vector in zip(nothing, encoder.encode(nothing), strict=True)
    ]
    without, floored = 100 * hits.mean(axis=1)
    return {
        "events": len(index),
        "hit_at_10": round(float(floored), 1),
        "lost": round(float(without - floored), 1),
        "false_answers": round(100 * float(np.mean(answered)), 1),
    }


def main(arguments: Sequence[str]) -> None:
    """Run the benchmark. Raises HistoryError for a repository that cannot be read."""
    parser = argparse.ArgumentParser("bench floor", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repo", type=Path, action="append", help="may be repeated (this one)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    encoder = OnnxEncoder()
    found: dict[str, dict[str, float]] = {}
    for path in options.repo or [Path()]:
        history = read(path, EVENTS, encoder)
        print_progress("asking …")
        for newest in (RING, len(history.events)):
            found[f"{history.name}, {newest}"] = measure(history, newest, encoder)
    if options.json:
        print_json({"encoder": encoder.fingerprint, "stores": found})
        return
    print_table(HEADINGS, [[name, *map(str, row.values())] for name, row in found.items()])
