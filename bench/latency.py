"""How long does a warm query take, from the client through the socket, and the encoder in it?

A real daemon process in a temporary home, filled with pieces of the standard library's sources of
about 200 characters; queries are six words of other pieces, none asked twice. `encode_p50_ms` is what
the daemon's encoder took for these very queries. `alone_p50_ms` is what encoding them takes in a
process that does nothing else between two texts: BLOCK queries are asked, then the same ones encoded,
or the other way round. (One by one, two processes would evict each other's copy of the model from
the processor's cache before every call.)
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from bench.daemons import daemon
from bench.edits import CHECKOUT
from bench.report import print_json, print_progress, print_table
from bench.search_time import QUERY_WORDS, SEED, pieces
from localmem_node.client import DaemonClient
from localmem_node.retrieval.encoder import OnnxEncoder
from localmem_protocol.events import Draft, Event

QUERIES: Final = 300
WARM_UP: Final = 30
K: Final = 10
BATCH: Final = 256
BLOCK: Final = 15


def main(arguments: Sequence[str]) -> None:
    """Print a table, or with `--json` {"sizes": {"200": {"p50_ms", "p99_ms", …}}}."""
    parser = argparse.ArgumentParser(prog="python -m bench latency", description=__doc__)
    parser.add_argument("--events", default="200,10000", help="sizes, with commas")
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    sizes = [int(size) for size in options.events.split(",")]
    result = {str(size): measure(size, options.queries) for size in sizes}
    if options.json:
        print_json({"sizes": result})
        return
    headings = ["events", *next(iter(result.values()))]
    print_table(headings, [[size, *values.values()] for size, values in result.items()])


def measure(size: int, queries: int) -> dict[str, float]:
    """Milliseconds at `size` events: of a query as a client sees it, and of its encoding alone."""
    events = list(pieces(size + queries + WARM_UP))
    with tempfile.TemporaryDirectory(prefix="lm-") as home, daemon(Path(home)) as client:
        began = time.perf_counter()
        for start in range(0, size, BATCH):
            batch = events[start : min(start + BATCH, size)]
            answer = client.record([fields(event) for event in batch])
            assert not answer["failed"], answer["failed"][0]
        recorded_s = time.perf_counter() - began
        print_progress(f"{size} events recorded in {recorded_s:.1f} s; waiting for their vectors")
        while client.status()["encoder"]["waiting"]:
            time.sleep(0.2)
        chance = np.random.default_rng(SEED)
        texts = [query(event, chance) for event in events[size:]]
        return timings(client, texts) | {"record_ms": 1000 * recorded_s / size}


def timings(client: DaemonClient, texts: Sequence[str]) -> dict[str, float]:
    """Percentiles over the texts after the first WARM_UP."""
    encoder = OnnxEncoder()
    asked: list[float] = []
    encoded: list[float] = []
    served: list[float] = []

    def ask(text: str) -> None:
        began = time.perf_counter()
        answer = client.query(text, K)
        asked.append(1000 * (time.perf_counter() - began))
        served.append(answer["took_ms"])
        assert answer["events"], text

    def encode(text: str) -> None:
        began = time.perf_counter()
        encoder.encode([text])
        encoded.append(1000 * (time.perf_counter() - began))

    for number, start in enumerate(range(0, len(texts), BLOCK)):
        for step in (ask, encode) if number % 2 else (encode, ask):
            for text in texts[start : start + BLOCK]:
                step(text)
    within = client.status()["timings"]["encode"]["p50_ms"]
    asked, encoded, served = asked[WARM_UP:], encoded[WARM_UP:], served[WARM_UP:]
    return {
        "p50_ms": float(np.median(asked)),
        "p99_ms": float(np.percentile(asked, 99)),
        "served_p50_ms": float(np.median(served)),
        "encode_p50_ms": within,
        "alone_p50_ms": float(np.median(encoded)),
        "ratio": float(np.median(asked) / within),
    }


def query(event: Event, chance: np.random.Generator) -> str:
    """A few words of an event."""
    words = re.findall(r"\w{3,}", event.snippet) or ["nothing"]
    return " ".join(chance.choice(words, QUERY_WORDS))


def fields(event: Event) -> dict[str, Any]:
    """The JSON object that an editor would have sent."""
    names = msgspec.structs.fields(Draft)
    draft = Draft(**{field.name: getattr(event, field.name) for field in names})
    # Where an editor would have it: what git ignores at the real place is not recorded.
    path = f"{CHECKOUT}/{Path(event.file_path or '').name}"
    return dict(msgspec.to_builtins(draft)) | {"filePath": path}
