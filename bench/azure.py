"""What does the hub do as an Azure Function, beside the obvious way to keep a document in a blob?

The function app as it is published, in two processes below Azure's own Python worker library, on a real
Azurite; devices in this process, each request of theirs on a connection of its own and at whichever
process takes it. All share this machine's processors. `writers`: devices in one room append one batch
after the other, each when the last was acknowledged. `killed`: the same while one of the processes is
killed in the middle; what was acknowledged is then looked for by a device that knows nothing. `alone`:
one device, and what its requests cost at the storage. `baseline`: as many writers, without any hub
between them and the storage, that read one snapshot blob, merge their update and replace it if it is
still the same (`If-Match`), and try again if not. Storage requests are counted in Azurite's own log.
`day`: requests of one device among three at a day's work, and when nothing happens, in virtual time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pycrdt import Array, Doc, merge_updates

from bench.azure_app import MISSING, FunctionApp, cold_start, newer_python, running
from bench.azure_day import requests_in_a_day
from bench.azure_devices import NOT_MODIFIED, Device, Told
from bench.azurite_server import MISSING as NO_AZURITE
from bench.azurite_server import AzuriteServer, running_azurite
from bench.report import print_json, print_progress, print_table
from localmem_hub.blobs.address import Address
from localmem_hub.blobs.connecting import open_container
from localmem_hub.cli_options import open_store
from localmem_hub.limits import REACH_SECONDS
from localmem_hub.settings import load_settings
from localmem_hub.system import SystemRandom

BATCH_BYTES: Final = 100
CONFLICTS: Final = (409, 412)
COLD_STARTS: Final = 3
ALONE: Final = 5
"""Writes and polls of the one device."""

APART_S: Final = REACH_SECONDS + 0.1
"""Between them: what a process looked up is true for it that long."""

Figures = dict[str, Any]


@dataclass
class Storage:
    """A container of its own in Azurite, and what is asked of it."""

    server: AzuriteServer
    container: str

    @property
    def settings(self) -> dict[str, str]:
        """What a hub there is told."""
        return {
            "LOCALMEM_HUB_DATABASE": f"azure-blob://{self.container}",
            "LOCALMEM_HUB_STORAGE_CONNECTION": self.server.connection(),
            "LOCALMEM_HUB_LOG_LEVEL": "warning",
        }

    def tokens(self, pool: str, names: Sequence[str]) -> list[str]:
        """One for each device."""
        store: Any = open_store(load_settings(self.settings, Path("/")), migrate=True)
        try:
            made = [store.tokens.create(pool, name, "writer", SystemRandom(), 1) for name in names]
        finally:
            store.close()
        return [token.text for token in made]

    def requests(self) -> list[tuple[str, str, int]]:
        """All so far."""
        return self.server.noted()


def names(count: int) -> list[str]:
    """Device ids."""
    return [f"{number:016x}" for number in range(1, count + 1)]


async def enter(app: FunctionApp, storage: Storage, pool: str, count: int) -> list[Device]:
    """So many devices in a new pool, all in step; one more at the end, which writes nothing."""
    known = names(count + 1)
    tokens = storage.tokens(pool, known)
    told = Told()
    devices = [
        Device(app.url, pool, name, token, told) for name, token in zip(known, tokens, strict=True)
    ]
    for device in devices:
        await device.greet()
        await device.catch_up()
    return devices


async def write(
    app: FunctionApp, storage: Storage, pool: str, options: argparse.Namespace
) -> Figures:
    """All writers at once."""
    *writers, reader = await enter(app, storage, pool, options.writers)
    before, since = len(storage.requests()), time.perf_counter()
    await asyncio.gather(*(device.write_all(options.updates) for device in writers))
    elapsed = time.perf_counter() - since
    asked = storage.requests()[before:]
    return await found(writers, reader, elapsed, asked)


async def write_killed(
    app: FunctionApp, storage: Storage, pool: str, options: argparse.Namespace
) -> Figures:
    """The same while a process is killed, and another one comes in its place."""
    *writers, reader = await enter(app, storage, pool, options.writers)
    told, half = reader.told, options.writers * options.updates // 2

    async def kill() -> None:
        while len(told.times_s) < half:  # noqa: ASYNC110  nothing here would set an event
            await asyncio.sleep(0.005)
        app.kill()
        started = app.launch()
        await asyncio.to_thread(app.ready, started)

    before, since = len(storage.requests()), time.perf_counter()
    killing = asyncio.create_task(kill())
    await asyncio.gather(*(device.write_all(options.updates) for device in writers))
    elapsed = time.perf_counter() - since
    await killing
    return await found(writers, reader, elapsed, storage.requests()[before:])


async def found(
    writers: Sequence[Device],
    reader: Device,
    elapsed: float,
    asked: Sequence[tuple[str, str, int]],
) -> Figures:
    """What a device that knows nothing is given, against what the others were told."""
    told = reader.told
    await reader.greet()
    held = await reader.catch_up()
    for device in writers:
        device.check(held)
    appends = [status for method, path, status in asked if "comp=appendblock" in path]
    conflicts = sum(status in CONFLICTS for method, _, status in asked if method == "PUT")
    return {
        "devices": len(writers),
        **timed(told.times_s, elapsed),
        "lost_acknowledged": told.lost_acknowledged,
        "write_retries": conflicts + sum(told.refused.values()),
        "unanswered": told.unanswered,
        "appends_per_update": round(len(appends) / len(told.times_s), 2),
        "transactions_per_update": round(len(asked) / len(told.times_s), 2),
    }


def timed(times_s: Sequence[float], elapsed: float) -> Figures:
    """Rate and latencies."""
    ordered = sorted(times_s)
    return {
        "operations_per_s": round(len(ordered) / elapsed, 1),
        "p50_ms": round(1000 * statistics.median(ordered), 1),
        "p99_ms": round(1000 * ordered[int(0.99 * len(ordered))], 1),
    }


async def alone(app: FunctionApp, storage: Storage) -> Figures:
    """One device of a room that is in memory: storage requests of each kind of its own."""
    device, _ = await enter(app, storage, "alone", 1)
    for _ in range(2 * len(app.processes)):  # the room is at every process then
        await device.write()
    figures: Figures = {}
    before = len(storage.requests())
    for _ in range(ALONE):
        await asyncio.sleep(APART_S)
        await device.write()
    figures["transactions_per_sync"] = (len(storage.requests()) - before) / ALONE
    before = len(storage.requests())
    for _ in range(ALONE):
        await asyncio.sleep(APART_S)
        answer = await device.poll()
        assert answer.status == NOT_MODIFIED, answer
    figures["transactions_per_idle_poll"] = (len(storage.requests()) - before) / ALONE
    return figures


def baseline(storage: Storage, writers: int, updates: int) -> Figures:
    """Compare-and-swap on one snapshot blob, each writer with connections of its own."""
    address = Address.parse(
        f"azure-blob://{storage.container}", connection=storage.server.connection()
    )
    times: list[float] = []
    tries: list[int] = []
    lock = threading.Lock()
    start = threading.Barrier(writers + 1)
    made = open_container(address)
    made.make()
    made.create("snapshot", Doc().get_update())
    made.close()

    def one(number: int) -> None:
        container = open_container(address)
        doc: Doc[Any] = Doc(client_id=number + 1)
        array = doc.get(f"{number}", type=Array)
        start.wait()
        for _ in range(updates):
            state, since, tried = doc.get_state(), time.perf_counter(), 0
            array.append(os.urandom(BATCH_BYTES))
            update = doc.get_update(state)
            while True:
                tried += 1
                blob = container.read("snapshot")
                assert blob is not None
                merged = merge_updates(blob.data, update)
                if container.replace("snapshot", merged, blob.etag):
                    break
            with lock:
                times.append(time.perf_counter() - since)
                tries.append(tried)
        container.close()

    before = len(storage.requests())
    with ThreadPoolExecutor(writers) as threads:
        running = [threads.submit(one, number) for number in range(writers)]
        start.wait()
        since = time.perf_counter()
        for future in running:
            future.result()
        elapsed = time.perf_counter() - since
    return {
        "devices": writers,
        **timed(times, elapsed),
        "write_retries": sum(tries) - len(tries),
        "most_tries": max(tries),
        "transactions_per_update": round((len(storage.requests()) - before) / len(times), 2),
    }


def cold(app: FunctionApp, python: Path, storage: Storage) -> Figures:
    """Seconds of a new process: until it serves, and then until its first answer."""
    runs = [cold_start(app.folder, python, storage.settings) for _ in range(COLD_STARTS)]
    return {name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}


def measure(options: argparse.Namespace, python: Path) -> Figures:
    """Everything."""
    result: Figures = {}
    with tempfile.TemporaryDirectory() as folder, running_azurite(noting=True) as server:
        storage = Storage(server, server.container())
        with running(Path(folder), python, storage.settings, processes=options.processes) as app:
            steps: list[tuple[str, Callable[[], Any]]] = [
                ("alone", lambda: asyncio.run(alone(app, storage))),
                ("writers", lambda: asyncio.run(write(app, storage, "writers", options))),
                ("killed", lambda: asyncio.run(write_killed(app, storage, "killed", options))),
                ("cold_start", lambda: cold(app, python, storage)),
            ]
            for name, step in steps:
                print_progress(name)
                result[name] = step()
        result["day"] = requests_in_a_day()
        result["idle_day"] = requests_in_a_day(0)
        print_progress("baseline")
        old = Storage(server, server.container())
        result["baseline"] = baseline(old, options.writers, max(1, options.updates // 10))
    return result


def summary(result: Figures) -> Figures:
    """The figures that stand for all, with everything behind them."""
    first = ("operations_per_s", "p50_ms", "p99_ms")
    return {
        **{name: result["writers"][name] for name in first},
        "lost_acknowledged": sum(
            result[name]["lost_acknowledged"] for name in ("writers", "killed")
        ),
        "write_retries": result["writers"]["write_retries"],
        **result["alone"],
        **result,
    }


def main(arguments: Sequence[str]) -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench azure", description=__doc__)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--updates", type=int, default=100, help="of each")
    parser.add_argument("--processes", type=int, default=2, help="of the function app")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    python = newer_python()
    if python is None:
        raise SystemExit(f"bench: {MISSING}")
    try:
        result = measure(options, python)
    except FileNotFoundError:
        raise SystemExit(f"bench: {NO_AZURITE}") from None
    if options.json:
        print_json(summary(result))
        return
    rows = [[part, name, str(value)] for part in result for name, value in result[part].items()]
    print_table(["part", "figure", "value"], rows)
