"""How long does a search take, the encoding of the query apart, and what does each vector index find?

Events are pieces of the standard library's sources, about 200 characters each. Queries are six words of
other pieces. ENCODED of the first ENCODED_OF pieces, drawn by a seed, and all queries are really encoded;
the other vectors are mixed from those and seeded noise (`bench.vector_backends`), which the output says.
"""

from __future__ import annotations

import argparse
import re
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from bench import vector_backends
from bench.report import print_json, print_progress, print_table
from localmem_node.retrieval.encoder import OnnxEncoder
from localmem_node.retrieval.index import SearchIndex, text_for_encoding
from localmem_protocol.events import Event, parse_draft, stamp

DIMENSIONS: Final = 384
SNIPPET_CHARACTERS: Final = 200
QUERY_WORDS: Final = 6
QUERIES: Final = 300
ENCODED: Final = 2_000
ENCODED_OF: Final = 20_000
K: Final = 10
SEED: Final = 20_261_123


def pieces(count: int) -> Iterator[Event]:
    """`count` events of source text, files in order of their names; a file may come again."""
    made = 0
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    while made < count:
        for file in files:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            for first in range(0, len(lines), 5):
                snippet = "\n".join(lines[first : first + 5])[:SNIPPET_CHARACTERS]
                if not snippet.strip():
                    continue
                made += 1
                yield _event(made, str(file), first + 1, snippet)
                if made == count:
                    return


class Material:
    """What is recorded and asked at each size: texts, and vectors for them."""

    def __init__(self, encoder: OnnxEncoder) -> None:
        self._encoder = encoder
        drawn = np.random.default_rng(SEED).choice(ENCODED_OF, ENCODED, replace=False)
        texts = [text_for_encoding(event) for event in pieces(ENCODED_OF)]
        self._texts = [texts[at] for at in drawn.tolist()]
        self._encoded = np.zeros((0, DIMENSIONS), dtype=np.float32)
        self.vectors = self._encoded

    def prepare(self, size: int) -> tuple[list[Event], list[str], npt.NDArray[np.float32]]:
        """`size` events, QUERIES queries and their vectors; `vectors` become those of the events."""
        chance = np.random.default_rng(SEED)
        events = list(pieces(size + QUERIES))
        wanted = self._texts[:size]
        new = self._encoder.encode(wanted[len(self._encoded) :])
        if len(new):
            self._encoded = np.concatenate((self._encoded, new))
        queries = [_query(event, chance) for event in events[size:]]
        encoded = self._encoded[: len(wanted)]
        self.vectors = vector_backends.mixture(encoded, size, chance)
        return events[:size], queries, self._encoder.encode(queries)

    def others(self, size: int) -> npt.NDArray[np.float32]:
        """Vectors to replace those with."""
        chance = np.random.default_rng(SEED + 1)
        return vector_backends.replacements(self._encoded, size, chance)


def measure(
    events: list[Event],
    queries: list[str],
    asked: npt.NDArray[np.float32],
    vectors: npt.NDArray[np.float32],
) -> dict[str, float]:
    """Milliseconds (median, and 99th percentile of the whole search), as a node would search."""
    size = len(events)
    index = SearchIndex(DIMENSIONS)
    began = time.perf_counter()
    for slot, event in enumerate(events):
        index.add(slot, event)
    added_ms = (time.perf_counter() - began) * 1000 / size
    index.put_vectors(np.arange(size), vectors)
    while index.catch_up(100):
        pass
    lexical = _times(lambda at: index.search(queries[at], None, K))
    both = _times(lambda at: index.search(queries[at], asked[at], K))
    began = time.perf_counter()
    saved = index.dump()
    dumped_ms = (time.perf_counter() - began) * 1000
    began = time.perf_counter()
    SearchIndex.load(saved, index.newness, DIMENSIONS)
    loaded_ms = (time.perf_counter() - began) * 1000
    return {
        "search_p50_ms": float(np.median(both)),
        "search_p99_ms": float(np.percentile(both, 99)),
        "lexical_p50_ms": float(np.median(lexical)),
        "add_ms": added_ms,
        "dump_ms": dumped_ms,
        "load_ms": loaded_ms,
        "dump_bytes_per_event": len(saved) / size,
    }


def main(arguments: Sequence[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser("bench search", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--events", type=_sizes, default=[200, 10_000], help="200,10000")
    parser.add_argument(
        "--backends", type=_backends, help="of vectors, such as 'usearch i8,hnswlib'"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    encoder = OnnxEncoder()
    material = Material(encoder)
    whole: dict[str, dict[str, float]] = {}
    apart: dict[str, dict[str, dict[str, float]]] = {}
    for size in options.events:
        print_progress(f"{size} events …")
        events, queries, asked = material.prepare(size)
        whole[str(size)] = measure(events, queries, asked, material.vectors)
        apart[str(size)] = {}
        others = material.others(size)
        for name in vector_backends.chosen(size, options.backends):
            print_progress(f"{size} vectors: {name} …")
            apart[str(size)][name] = vector_backends.measure(name, material.vectors, others, asked)
    made_of = (
        f"{ENCODED} texts encoded by {encoder.fingerprint}; beyond, those with seeded noise of"
        f" {vector_backends.NOISE} times their length"
    )
    if options.json:
        print_json({"vectors": made_of, "sizes": whole, "backends": apart})
        return
    print(f"Vectors: {made_of}.\n")
    names = next(iter(whole.values()))
    print_table(["events", *names], [[size, *row.values()] for size, row in whole.items()])
    print()
    _print_backends(apart)


def _print_backends(apart: dict[str, dict[str, dict[str, float]]]) -> None:
    rows = [(size, name, row) for size, kinds in apart.items() for name, row in kinds.items()]
    columns = list(dict.fromkeys(column for _, _, row in rows for column in row))
    print_table(
        ["vectors", "index", *columns],
        [[size, name, *(row.get(column, "") for column in columns)] for size, name, row in rows],
    )


def _event(number: int, path: str, line: int, snippet: str) -> Event:
    fields = {
        "timestamp": number,
        "filePath": path,
        "selectionRange": (line, line + 4),
        "snippet": snippet,
    }
    return stamp(parse_draft(fields), device="0" * 16, clock=number, sequence=number)


def _query(event: Event, chance: np.random.Generator) -> str:
    words = re.findall(r"\w{3,}", event.snippet) or ["nothing"]
    return " ".join(chance.choice(words, size=QUERY_WORDS))


def directions(count: int, chance: np.random.Generator) -> npt.NDArray[np.float32]:
    """`count` random unit vectors."""
    vectors = chance.standard_normal((count, DIMENSIONS), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _times(search: Callable[[int], object]) -> npt.NDArray[np.float64]:
    """Milliseconds per query; the first pass warms caches and is not counted."""
    taken = np.zeros(QUERIES)
    for _ in range(2):
        for at in range(QUERIES):
            began = time.perf_counter()
            search(at)
            taken[at] = (time.perf_counter() - began) * 1000
    return taken


def _sizes(text: str) -> list[int]:
    sizes = [int(part) for part in text.split(",") if part.isdecimal() and int(part) > 0]
    if len(sizes) != text.count(",") + 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 200,10000")
    return sizes


def _backends(text: str) -> list[str]:
    names = text.split(",")
    if not set(names) <= vector_backends.BACKENDS.keys():
        known = ", ".join(vector_backends.BACKENDS)
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of some of: {known}")
    return names
