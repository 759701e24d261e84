"""Does a daemon stay as small as it is, however much it records?

A real daemon process is given edits (`bench.edits`; the same again when they run out), and asked now
and then. At every sample: events recorded so far and those that are live, those that wait for their
vector, and the daemon's memory (MiB, Linux): `rss` all that is resident, `anonymous` what of it is
not pages of files, the store's map among them. With `--encode` every sample waits for the encoder, so
that every event gets its vector; without, the encoder does what it can meanwhile.

`slope` is the growth of anonymous memory in bytes per event recorded (least squares), over the samples
at which the ring had been filled twice: then nothing is left to grow with. `per_event` is the same
over the samples before it was full, when every event stays.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.daemons import daemon
from bench.edits import edits
from bench.report import print_json, print_progress, print_table
from localmem_node.client import DaemonClient
from localmem_node.config import STORE_BYTES_DEFAULT, parse_size

SMALL_BYTES: Final = 2 * 2**20
CALL_EVENTS: Final = 250
EDITS_MAX: Final = 100_000
QUERIES: Final = 2
MIB: Final = 2**20

Sample = dict[str, float]


def main(arguments: Sequence[str]) -> None:
    """Print the samples and their slopes, or with `--json` {"stores": {size: {"samples", …}}}."""
    parser = argparse.ArgumentParser(prog="python -m bench memory", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=5000, help="events between two samples")
    parser.add_argument("--sizes", default=f"{SMALL_BYTES},{STORE_BYTES_DEFAULT}", help="of stores")
    parser.add_argument("--encode", action="store_true", help="wait for every vector")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if not 0 < options.every <= options.events:
        parser.error("--every must be from 1 to --events")
    stores: dict[str, dict[str, Any]] = {}
    for size in map(parse_size, options.sizes.split(",")):
        name = f"{size / MIB:g} MiB"
        print_progress(f"{options.events} events into a store of {name}")
        samples = list(sampled(size, options.events, options.every, encode=options.encode))
        stores[name] = summary(samples) | {"samples": samples}
    if options.json:
        print_json({"encode": options.encode, "stores": stores})
        return
    for name, store in stores.items():
        samples = store.pop("samples")
        print_table([name, *samples[0]], [["", *sample.values()] for sample in samples])
        print_table(["over all", "value"], list(store.items()))


def sampled(size: int, events: int, every: int, *, encode: bool) -> Iterator[Sample]:
    """Samples of a daemon over a store of `size` bytes: before the first event, then every `every`."""
    source = cycle(edits(min(events, EDITS_MAX)))
    with (
        tempfile.TemporaryDirectory(prefix="lm-") as home,
        daemon(Path(home), LOCALMEM_SIZE=str(size)) as client,
    ):
        client.query("warm up", 1)
        yield _sample(client, 0)
        for recorded in range(0, events, every):
            last = min(recorded + every, events)
            for start in range(recorded, last, CALL_EVENTS):
                _use(client, list(islice(source, min(CALL_EVENTS, last - start))))
            while encode and client.status()["encoder"]["waiting"]:
                time.sleep(0.2)
            yield _sample(client, last)


def summary(samples: Sequence[Sample]) -> dict[str, Any]:
    """What the samples come to; None where there are too few of them."""
    full = next((at for at, one in enumerate(samples) if one["events"] < one["recorded"]), None)
    before = samples if full is None else samples[:full]
    twice = [one for one in samples if one["recorded"] >= 2 * one["events"] > 0]
    return {
        "full_after": None if full is None else samples[full]["recorded"],
        "laps": samples[-1]["recorded"] / max(samples[-1]["events"], 1),
        "start_mib": samples[0]["anonymous_mib"],
        "end_mib": samples[-1]["anonymous_mib"],
        "per_event": _slope(before[1:]),  # without the first, when caches were empty
        "slope": _slope(twice),
    }


def _use(client: DaemonClient, batch: Sequence[Mapping[str, Any]]) -> None:
    """Record events, and ask for some of them as somebody at work would."""
    answer = client.record(batch)
    assert len(answer["recorded"]) == len(batch), answer["failed"]
    for fields in batch[:QUERIES]:
        client.query(fields["snippet"][:80], 10)
    client.recent(100)


def _slope(samples: Sequence[Sample]) -> float | None:
    if len(samples) < 3:
        return None
    recorded = [sample["recorded"] for sample in samples]
    sizes = [sample["anonymous_mib"] * MIB for sample in samples]
    return round(float(np.polyfit(recorded, sizes, 1)[0]), 2)


def _sample(client: DaemonClient, recorded: int) -> Sample:
    status = client.status()
    memory = memory_of(client.ensure_running().pid)
    sample = {
        "recorded": recorded,
        "events": status["events"],
        "waiting": status["encoder"]["waiting"],
        "rss_mib": round(memory["VmRSS"] / MIB, 1),
        "anonymous_mib": round(memory["RssAnon"] / MIB, 1),
    }
    print_progress(" ".join(f"{name}={value}" for name, value in sample.items()))
    return sample


def memory_of(pid: int) -> Mapping[str, int]:
    """Bytes, by the kernel's names (proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    split = (line.split() for line in lines if line.startswith(("VmRSS", "RssAnon")))
    return {name.rstrip(":"): 1024 * int(number) for name, number, _ in split}
