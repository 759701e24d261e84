"""What do rooms cost that nobody uses? A hub's start and memory, by how many rooms are stored.

Rooms are put into the database in bulk: a pool, a token and an update each. Then a real hub process
starts on it: the time until it says that it listens, and its memory then (`VmRSS`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from bench.report import print_json, print_progress, print_table
from localmem_hub.database import open_engine, prepare
from localmem_hub.tables import pools, tokens, updates

UPDATE_BYTES = 200


def fill(database: str, rooms: int) -> None:
    """Store rooms."""
    engine = open_engine(database)
    prepare(engine)
    names = [f"room-{number}" for number in range(rooms)]
    made = [{"pool": name, "head": 1, "epoch": 1, "created_ms": 1} for name in names]
    rows = [
        {"pool": name, "seq": 1, "device": "", "bytes": bytes(UPDATE_BYTES), "received_ms": 1}
        for name in names
    ]
    given = [
        {
            "id": f"{number:016x}",
            "pool": name,
            "secret_hash": bytes(32),
            "role": "writer",
            "created_ms": 1,
        }
        for number, name in enumerate(names)
    ]
    with engine.begin() as connection:
        for table, values in ((pools, made), (updates, rows), (tokens, given)):
            connection.execute(sa.insert(table), values)
    engine.dispose()


def start(database: str) -> dict[str, float]:
    """Start a hub, measure, end it."""
    command = [sys.executable, "-m", "localmem_hub", "serve", "--json", "--port", "0", "--plain"]
    since = time.perf_counter()
    with subprocess.Popen(
        [*command, "--database", database],
        env={**os.environ, "LOCALMEM_HUB_LOG_LEVEL": "error"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            seconds = time.perf_counter() - since
            if "url" not in json.loads(line or "{}"):
                raise SystemExit("bench: the hub did not start")
            status = Path(f"/proc/{process.pid}/status").read_text("utf-8")
            (kib,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
        finally:
            process.terminate()
    return {"start_ms": round(seconds * 1000), "rss_mib": round(int(kib) / 1024, 1)}


def main(arguments: Sequence[str]) -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench hub-rest", description=__doc__)
    parser.add_argument("--rooms", default="10,100000", help="numbers of rooms, with commas")
    parser.add_argument("--runs", type=int, default=5, help="starts, of which the fastest counts")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    result: dict[str, dict[str, float]] = {}
    for rooms in map(int, options.rooms.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            database = f"sqlite:///{folder}/hub.db"
            print_progress(f"{rooms} rooms")
            fill(database, rooms)
            result[str(rooms)] = min(
                (start(database) for _ in range(options.runs)), key=lambda one: one["start_ms"]
            )
    if options.json:
        print_json(result)
    else:
        heads = ["rooms", "start_ms", "rss_mib"]
        print_table(heads, [[name, *map(str, one.values())] for name, one in result.items()])
