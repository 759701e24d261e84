"""What does the ring file hold, how fast does it take an event, and how fast does it open?

Real edits (`bench.edits`) with random directions as vectors, which do not compress; the key is in a
key file. Four tables: events that a full file holds; bytes of an event against what general
compressors make of all events at once (`floor`, plus the 32 bytes that framing and sealing cost);
milliseconds of one event appended and committed, against a bare write and sync of one block; and
milliseconds until a store answers (`bench.opening`).
"""

from __future__ import annotations

import argparse
import lzma
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import zstandard

from bench.edits import SEED, edits
from bench.opening import opening
from bench.report import print_json, print_progress, print_table
from bench.search_time import DIMENSIONS, directions
from localmem_node.config import STORE_BYTES_DEFAULT, parse_size
from localmem_node.store.disk import FileDisk
from localmem_node.store.event_store import EventStore
from localmem_node.store.keys import KeyFileStore
from localmem_node.store.opening import open_event_store
from localmem_node.system import SystemRandom
from localmem_protocol.clock import COUNTER_BITS
from localmem_protocol.events import Event, parse_draft, stamp

BATCH: Final = 250
FRAME_BYTES: Final = 32
APPENDS: Final = 2000
SIZES: Final = {
    "10 KiB": 10 * 2**10,
    "1 MiB": 2**20,
    "default": STORE_BYTES_DEFAULT,
    "128 MiB": 128 * 2**20,
}
VECTORS: Final = {"none": 0, "one by one": 1, "in tens": 10}
"""How vectors are appended: with a record each, as when events come singly, or ten to a record."""

_DEVICE: Final = "00" * 8
_BLOCK_BYTES: Final = 4096


class UnsyncedDisk(FileDisk):
    """A file whose syncs do nothing."""

    def sync(self) -> None:
        """Nothing."""


def main(arguments: Sequence[str]) -> None:
    """Print four tables, or with `--json` {"held", "bytes", "append", "open"}."""
    parser = argparse.ArgumentParser(prog="python -m bench store", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--sizes", default=",".join(SIZES), help="of files to fill; with commas")
    parser.add_argument("--appends", type=int, default=APPENDS)
    parser.add_argument("--open-size", default="128 MiB", help="of the file that is opened")
    parser.add_argument("--folder", help="where files are made; a folder on the disk to measure")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    sizes = {name: SIZES.get(name) or parse_size(name) for name in options.sizes.split(",")}
    fields = list(edits(options.events))
    with tempfile.TemporaryDirectory(prefix="lm-", dir=options.folder) as folder:
        result: dict[str, Mapping[str, Mapping[str, float]]] = {
            "held": held(Path(folder), fields, sizes),
            "bytes": {"event": event_bytes(Path(folder), fields)},
            "append": append_times(Path(folder), fields, options.appends),
            "open": opening(Path(folder), options.events, parse_size(options.open_size)),
        }
    if options.json:
        print_json(result)
        return
    for name, rows in result.items():
        headings = [name, *next(iter(rows.values()))]
        print_table(headings, [[row, *columns.values()] for row, columns in rows.items()])
        print()


def held(
    folder: Path, fields: Sequence[Mapping[str, Any]], sizes: Mapping[str, int]
) -> dict[str, dict[str, float]]:
    """Events in a full file, by size and by how their vectors come."""
    found: dict[str, dict[str, float]] = {}
    for name, size in sizes.items():
        for way, together in VECTORS.items():
            print_progress(f"filling {name}, vectors: {way}")
            path = folder / f"{size} {way}"
            with _store(path, size) as store:
                if together and not store.geometry.keeps_vectors:
                    continue
                events = _filled(store, _events(fields), together)
            path.unlink()
            found[f"{name}, vectors: {way}"] = {
                "events": events,
                "per_mib": round(events / (size / 2**20)),
                "bytes_per_event": round(size / events),
            }
    return found


def event_bytes(folder: Path, fields: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Bytes of the events that were given, on average: as text, in the ring, and at least."""
    stamped = [event for event, _ in zip(_events(fields), fields, strict=False)]
    rows = [_row(event) for event in stamped]
    print_progress(f"compressing {len(rows)} events at once")
    plain = b"".join(rows)
    parameters = zstandard.ZstdCompressionParameters.from_level(19, window_log=27, enable_ldm=True)
    zstd = len(zstandard.ZstdCompressor(compression_params=parameters).compress(plain))
    xz = len(lzma.compress(plain, preset=9 | lzma.PRESET_EXTREME))
    floor = min(zstd, xz) / len(rows)
    used = {way: _used(folder, stamped, together) for way, together in VECTORS.items()}
    return {
        "snippet": float(np.mean([len(event.snippet.encode()) for event in stamped])),
        "row": len(plain) / len(rows),
        "in_ring": used["none"] / len(rows),
        "vector": (used["in tens"] - used["none"]) / len(rows),
        "vector_alone": (used["one by one"] - used["none"]) / len(rows),
        "floor_zstd_19": zstd / len(rows),
        "floor_xz_9e": xz / len(rows),
        "floor_framed": floor + FRAME_BYTES,
        "ratio_to_floor": used["none"] / len(rows) / (floor + FRAME_BYTES),
    }


def append_times(
    folder: Path, fields: Sequence[Mapping[str, Any]], appends: int
) -> dict[str, dict[str, float]]:
    """Milliseconds of an append and its commit, and of the disk's own write and sync."""
    print_progress(f"{appends} appends, each with its commit")
    path = folder / "append"
    _store(path, STORE_BYTES_DEFAULT).close()
    times = {"bare write and sync of one block": _percentiles(_bare(path, appends))}
    path.unlink()
    _store(path, STORE_BYTES_DEFAULT).close()
    for name, disk in (("append, fsync", FileDisk(path)), ("append, no fsync", UnsyncedDisk(path))):
        keystore = KeyFileStore(folder / "key")
        store = open_event_store(path, keystore, SystemRandom(), create=False, disk=disk)
        source = _events(fields)
        with store:
            times[name] = _percentiles(_timed(lambda: _append(store, next(source)), appends))  # noqa: B023 - run at once
    path.unlink()
    return times


def _store(path: Path, size: int) -> EventStore:
    return open_event_store(path, KeyFileStore(path.with_name("key")), SystemRandom(), size=size)


def _events(fields: Sequence[Mapping[str, Any]]) -> Iterator[Event]:
    """Events without end: the edits again and again, always later."""
    span = fields[-1]["timestamp"] - fields[0]["timestamp"] + 1
    for number in count():
        lap, index = divmod(number, len(fields))
        moment = fields[index]["timestamp"] + lap * span
        draft = parse_draft({**fields[index], "timestamp": moment})
        yield stamp(draft, device=_DEVICE, clock=moment << COUNTER_BITS, sequence=number + 1)


def _filled(store: EventStore, events: Iterator[Event], together: int) -> int:
    """Append until the oldest have to make room; the events that are there then."""
    unit = np.zeros(DIMENSIONS, dtype=np.float32)
    unit[0] = 1
    full = False
    while not full:
        appended = [store.append([next(events)]) for _ in range(max(together, 1))]
        full = any(one.evicted for one in appended)
        if together:
            store.vectors.append([(one.ordinals[0], unit) for one in appended])
    return store.stats().events


def _used(folder: Path, events: Sequence[Event], together: int) -> int:
    """Bytes of the ring that these events take."""
    chance = np.random.default_rng(SEED)
    with _store(folder / "used", max(2**20, 2048 * len(events))) as store:
        for start in range(0, len(events), BATCH):
            ordinals = store.append(events[start : start + BATCH]).ordinals
            for first in range(0, len(ordinals) if together else 0, together or 1):
                some = ordinals[first : first + together]
                store.vectors.append(list(zip(some, directions(len(some), chance), strict=True)))
        used = store.stats().used_bytes
        assert store.stats().events == len(events)
    (folder / "used").unlink()
    return used


def _row(event: Event) -> bytes:
    """What has to be kept of an event, uncompressed: all that does not follow from the rest."""
    first, last = event.selection_range or (0, 0)
    where = (event.file_path, first, last - first)
    who = (event.kind, event.tool, event.session, event.project)
    return msgspec.msgpack.encode((event.timestamp, event.sequence, where, who, event.snippet))


def _append(store: EventStore, event: Event) -> None:
    store.append([event])
    store.commit()


def _bare(path: Path, times: int) -> list[float]:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    block = os.urandom(_BLOCK_BYTES)

    def write() -> None:
        os.pwrite(descriptor, block, 0)
        os.fdatasync(descriptor)

    try:
        return _timed(write, times)
    finally:
        os.close(descriptor)


def _timed(work: Callable[[], None], times: int) -> list[float]:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - began))
    return taken


def _percentiles(times_ms: Sequence[float]) -> dict[str, float]:
    return {
        "p50_ms": float(np.percentile(times_ms, 50)),
        "p99_ms": float(np.percentile(times_ms, 99)),
    }
