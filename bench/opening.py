"""How long until a store answers: the file opened, the engine ready, the first query answered?

The store is filled by engines that end in two ways. `closed`: in order. `killed`: by SIGKILL, with
the last fifth of the events recorded since the engine before it had closed; the engine may have kept
a checkpoint of its own in between. Each opening works on a copy of the file, in a process that has
imported everything and nothing else to do: milliseconds from the beginning, medians of RUNS. The
query is encoded by the real model, which is loaded for it. `daemon_ms` is what a user waits who asks
while no daemon runs. The file is in the page cache.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.daemons import daemon
from bench.edits import SEED, edits
from bench.report import print_progress
from bench.search_time import directions
from localmem_node.engine import Engine
from localmem_node.retrieval.encoder import OnnxEncoder
from localmem_node.store.keys import KeyFileStore
from localmem_node.store.opening import open_event_store
from localmem_node.system import SystemClock, SystemRandom
from localmem_protocol.events import parse_draft

RUNS: Final = 3
BATCH: Final = 250
SINCE_SHARE: Final = 5
QUERY: Final = "where is the socket timeout set"

_SPAWN: Final = multiprocessing.get_context("spawn")


class DirectionsEncoder(OnnxEncoder):
    """Gives random directions as the vectors of the shipped model, in no time."""

    def __init__(self) -> None:
        super().__init__()
        self._chance = np.random.default_rng(SEED)

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """One random unit vector per text."""
        return directions(len(texts), self._chance)


def opening(folder: Path, events: int, size: int) -> dict[str, dict[str, float]]:
    """Milliseconds until a store of `size` bytes answers, after each way to end."""
    first = folder / "filled"
    before = events - events // SINCE_SHARE
    print_progress(f"recording {before} events")
    _run(_fill, first, size, 0, before, False)
    result: dict[str, dict[str, float]] = {}
    for end, kill in (("closed", False), ("killed", True)):
        path = folder / end
        shutil.copy(first, path)
        print_progress(f"recording {events - before} more; then the process is {end}")
        _run(_fill, path, size, before, events, kill)
        runs = [_opened(folder, path) | _asked(folder, path) for _ in range(RUNS)]
        result[end] = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        path.unlink()
    return result


def _run(work: Callable[..., None], *arguments: object) -> None:
    process = _SPAWN.Process(target=work, args=arguments)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), f"exit code {process.exitcode}"


def _fill(path: Path, size: int, start: int, stop: int, kill: bool) -> None:
    """Record the edits from `start` to `stop` as a program would, give them vectors, and end."""
    store = open_event_store(path, _key(path), SystemRandom(), size=size)
    engine = Engine(store, DirectionsEncoder(), SystemClock())
    drafts = [parse_draft(fields) for fields in islice(edits(stop), start, None)]
    for at in range(0, len(drafts), BATCH):
        engine.record_admitted(drafts[at : at + BATCH])
        engine.drain()
    if kill:
        os.kill(os.getpid(), signal.SIGKILL)
    engine.close()


def _opened(folder: Path, path: Path) -> dict[str, float]:
    copied = folder / "copy"
    shutil.copy(path, copied)
    reading, writing = _SPAWN.Pipe(duplex=False)
    _run(_open, copied, writing)
    answer: dict[str, float] = reading.recv()
    copied.unlink()
    return answer


def _open(path: Path, answer: Connection) -> None:
    """Open the store as a daemon does; send what it took."""
    keystore, random, clock = _key(path), SystemRandom(), SystemClock()
    began = time.perf_counter()
    store = open_event_store(path, keystore, random, create=False)
    opened = time.perf_counter()
    engine = Engine(store, OnnxEncoder(), clock)
    ready = time.perf_counter()
    engine.query_recent(10, QUERY)
    answered = time.perf_counter()
    answer.send(
        {
            "events": len(engine),
            "open_ms": 1000 * (opened - began),
            "ready_ms": 1000 * (ready - began),
            "answer_ms": 1000 * (answered - began),
        }
    )
    os._exit(0)  # a copy: closing it in order would only take time


def _asked(folder: Path, path: Path) -> dict[str, float]:
    """The same through a daemon that is not running yet."""
    home = folder / "home"
    (home / "data").mkdir(mode=0o700, parents=True)
    home.chmod(0o700)
    shutil.copy(path, home / "data" / "memory.localmem")
    with daemon(home, LOCALMEM_KEY_FILE=str(folder / "key")) as client:
        began = time.perf_counter()
        answer = client.query(QUERY, 10)
        taken = 1000 * (time.perf_counter() - began)
    assert "events" in answer
    shutil.rmtree(home)
    return {"daemon_ms": taken}


def _key(path: Path) -> KeyFileStore:
    return KeyFileStore(path.with_name("key"))
