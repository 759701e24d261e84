"""How long does a warm query take, from the client through the socket, and the encoder in it?

A real daemon process in a temporary home, over a store filled with pieces of the standard library's
sources of about 200 characters; queries are six words of one of the pieces each.
`encode_p50_ms` is what the daemon's encoder took for these very queries, `search_p50_ms` what a query
took in the daemon beyond that, `ratio` is p50_ms over encode_p50_ms. `alone_p50_ms` is what encoding
them takes in a process that does nothing else between two texts: BLOCK queries are asked, then the
same ones encoded, or the other way round. (One by one, two processes would evict each other's copy of
the model from the processor's cache before every call.)

Up to REAL_MAX events the daemon records and encodes them itself. A larger store is filled before the
daemon starts: REAL_VECTORS texts are really encoded, every other event gets the vector of one of these,
turned a little (`perturbed` says how many). Texts, words, socket and the encoding of the queries are
real at every size.
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
import numpy.typing as npt

from bench.daemons import PASSPHRASE, daemon, environment
from bench.edits import BEGAN_MS, CHECKOUT, SESSION_EDITS
from bench.report import print_json, print_progress, print_table
from bench.search_time import QUERY_WORDS, SEED, directions, pieces
from localmem_node.client import DaemonClient
from localmem_node.config import load_settings
from localmem_node.opening import open_engine
from localmem_node.retrieval.encoder import OnnxEncoder
from localmem_node.seams import Encoder
from localmem_protocol.events import Draft, Event

QUERIES: Final = 300
WARM_UP: Final = 30
K: Final = 10
BATCH: Final = 256
BLOCK: Final = 15

REAL_MAX: Final = 10_000
REAL_VECTORS: Final = 5_000
PAUSE_MS: Final = 30_000
"""Between two events; SESSION_EDITS of them share a session."""

TURNED: Final = 0.4
"""Length of what is added to a vector of length 1: its neighbour is then some 22 degrees away."""

EVENT_BYTES: Final = 2048
"""Room in the store for an event and its vector."""

STORE_BYTES_MIN: Final = 64 * 1024 * 1024


class PerturbingEncoder:
    """Implements `seams.Encoder`: the first texts by `encoder`, the others near to one of them."""

    def __init__(self, encoder: Encoder, real: int, chance: np.random.Generator) -> None:
        self._encoder, self._chance = encoder, chance
        self._known = np.zeros((real, encoder.dimensions), np.float32)
        self._encoded = 0
        self.perturbed = 0

    @property
    def fingerprint(self) -> str:
        """That of the encoder: the daemon takes the vectors for its own."""
        return self._encoder.fingerprint

    @property
    def dimensions(self) -> int:
        """Components of a vector."""
        return self._encoder.dimensions

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """One unit row per text: (len(texts), dimensions)."""
        real = min(len(texts), len(self._known) - self._encoded)
        self._known[self._encoded : self._encoded + real] = self._encoder.encode(texts[:real])
        rows = self._known[self._encoded : self._encoded + real]
        self._encoded += real
        others = len(texts) - real
        if not others:
            return rows
        self.perturbed += others
        near = self._known[self._chance.integers(len(self._known), size=others)]
        near = near + np.float32(TURNED) * directions(others, self._chance)
        near /= np.linalg.norm(near, axis=1, keepdims=True)
        return np.concatenate((rows, near))


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
    names = list(dict.fromkeys(name for values in result.values() for name in values))
    rows = [[size, *(values.get(name, "") for name in names)] for size, values in result.items()]
    print_table(["events", *names], rows)


def measure(size: int, queries: int, *, real_max: int = REAL_MAX) -> dict[str, float]:
    """Milliseconds at `size` events: of a query as a client sees it, and of its encoding alone."""
    events = list(pieces(size))
    room = {"LOCALMEM_SIZE": str(max(STORE_BYTES_MIN, size * EVENT_BYTES))}
    with tempfile.TemporaryDirectory(prefix="lm-") as folder:
        home = Path(folder)
        perturbed = 0 if size <= real_max else fill(home, events, **room)
        with daemon(home, **room) as client:
            record_ms = record(client, events) if size <= real_max else {}
            settle(client)
            chance = np.random.default_rng(SEED)
            asked = chance.integers(0, size, size=queries + WARM_UP)
            texts = [query(events[at], chance) for at in asked]
            return timings(client, texts) | record_ms | {"perturbed": perturbed}


def record(client: DaemonClient, events: Sequence[Event]) -> dict[str, float]:
    """Let the daemon record events, and wait for their vectors; the milliseconds per event."""
    began = time.perf_counter()
    for start in range(0, len(events), BATCH):
        answer = client.record([fields(event) for event in events[start : start + BATCH]])
        assert not answer["failed"], answer["failed"][0]
    recorded_s = time.perf_counter() - began
    print_progress(f"{len(events)} events recorded in {recorded_s:.1f} s; waiting for vectors")
    return {"record_ms": 1000 * recorded_s / len(events)}


def settle(client: DaemonClient) -> None:
    """Wait until every event has its vector, and a large store its graph."""
    while not client.status()["settled"]:
        time.sleep(0.2)


def fill(home: Path, events: Sequence[Event], **more: str) -> int:
    """A store with these events under the home of a daemon that does not run; vectors perturbed."""
    settings = load_settings(environment(home, **PASSPHRASE, **more))
    encoder = PerturbingEncoder(OnnxEncoder(), REAL_VECTORS, np.random.default_rng(SEED))
    began = time.perf_counter()
    engine = open_engine(settings, encoder=encoder)
    try:
        for start in range(0, len(events), BATCH):
            some = events[start : start + BATCH]
            engine.record([draft(event) for event in some])
        engine.drain()
    finally:
        engine.close()
    took_s = time.perf_counter() - began
    print_progress(
        f"{len(events)} events recorded in {took_s:.0f} s, {REAL_VECTORS} of them encoded; "
        f"{encoder.perturbed} vectors are those of others, perturbed"
    )
    return encoder.perturbed


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
    within = client.status()["timings"]
    encode_ms = within["encode"]["p50_ms"]
    asked, encoded, served = asked[WARM_UP:], encoded[WARM_UP:], served[WARM_UP:]
    return {
        "p50_ms": float(np.median(asked)),
        "p99_ms": float(np.percentile(asked, 99)),
        "served_p50_ms": float(np.median(served)),
        "encode_p50_ms": encode_ms,
        "search_p50_ms": within["search"]["p50_ms"],
        "alone_p50_ms": float(np.median(encoded)),
        "ratio": float(np.median(asked) / encode_ms),
    }


def query(event: Event, chance: np.random.Generator) -> str:
    """A few words of an event."""
    words = re.findall(r"\w{3,}", event.snippet) or ["nothing"]
    return " ".join(chance.choice(words, QUERY_WORDS))


def draft(event: Event) -> Draft:
    """What an editor would have sent, its file where an editor would have it: what git ignores at the
    real place is not recorded.
    """
    names = msgspec.structs.fields(Draft)
    values = {field.name: getattr(event, field.name) for field in names}
    values |= {
        "timestamp": BEGAN_MS + PAUSE_MS * event.sequence,
        "file_path": f"{CHECKOUT}/{Path(event.file_path or '').name}",
        "session": str(event.sequence // SESSION_EDITS),
    }
    return Draft(**values)


def fields(event: Event) -> dict[str, Any]:
    """The same as a JSON object."""
    return dict(msgspec.to_builtins(draft(event)))
