"""How long does a search take, the encoding of the query apart?

Events are pieces of the standard library's sources, about 200 characters each; vectors are random
directions, since exact search takes the same time for any. Queries are six words of other pieces.
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

from bench.report import print_json, print_progress, print_table
from localmem_node.retrieval.index import SearchIndex
from localmem_protocol.events import Event, parse_draft, stamp

DIMENSIONS: Final = 384
SNIPPET_CHARACTERS: Final = 200
QUERY_WORDS: Final = 6
QUERIES: Final = 300
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


def measure(size: int) -> dict[str, float]:
    """Milliseconds (median, and 99th percentile of the whole search) at `size` events."""
    chance = np.random.default_rng(SEED)
    events = list(pieces(size + QUERIES))
    index = SearchIndex(DIMENSIONS)
    vectors = directions(size + QUERIES, chance)
    began = time.perf_counter()
    for slot, event in enumerate(events[:size]):
        index.add(slot, event)
    added_ms = (time.perf_counter() - began) * 1000 / size
    for slot in range(size):
        index.put_vector(slot, vectors[slot])
    queries = [_query(event, chance) for event in events[size:]]
    lexical = _times(lambda at: index.search(queries[at], None, K))
    both = _times(lambda at: index.search(queries[at], vectors[size + at], K))
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
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    found: dict[str, dict[str, float]] = {}
    for size in options.events:
        print_progress(f"{size} events …")
        found[str(size)] = measure(size)
    if options.json:
        print_json({"sizes": found})
        return
    names = next(iter(found.values()))
    print_table(["events", *names], [[size, *row.values()] for size, row in found.items()])


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
