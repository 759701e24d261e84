"""Was on disk, by the time it was acknowledged, what a hub acknowledged?

SIGKILL leaves the kernel's page cache alone, so `hub-crash` says nothing of power cuts. Here a hub on SQLite
runs under strace while devices write. From what it wrote, synced and sent, in order, the files are built
anew as a power cut would have left them at each moment at which it said something: without all that was
not synced, and with a drawn part of that, sector by sector. Each such image is opened as a hub opens it, and
must hold every batch that was acknowledged or passed on, and every client id that was given, byte for byte.
The hub is killed once and started again, so that recovery is in it; its log is checkpointed all the time.

With `--synchronous` OFF or NORMAL the hub leaves out syncs that it needs: then this must find losses.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from sqlalchemy import event

from bench.hub_writers import Told, Writer, batch
from bench.postgres_server import ends_with_its_parent
from bench.report import print_json, print_table
from bench.traced_disk import COMMAND, Call, Disk, read_trace
from localmem_hub import database
from localmem_hub.errors import StoreError
from localmem_hub.store import SqlStore
from localmem_hub.system import SystemRandom
from localmem_protocol.frames import Ack, Frame, Step2, Update, Welcome, decode_frame
from localmem_protocol.updates import decode_update

MISSING: Final = "needs strace: apt-get install strace"
POOL: Final = "room"
WRITERS: Final = 2
CHECKPOINT_PAGES: Final = 40
"""Instead of a thousand: the log is written back, and begun anew, after every few commits."""

ENDS: Final = (signal.SIGKILL, signal.SIGTERM)
"""What ends each life of the hub."""

LEVELS: Final = ("FULL", "NORMAL", "OFF")
_HEAD_END: Final = b"\r\n\r\n"


@dataclass
class Said:
    """What a hub has said by a moment: of each client id, how far its batches are durable or shown."""

    clocks: dict[int, int] = field(default_factory=dict)

    def hear(self, frame: Frame) -> bool:
        """Take a frame in; whether it said anything new."""
        if isinstance(frame, Ack | Welcome):
            ends = {frame.client: frame.clock}
        elif isinstance(frame, Update | Step2):
            items = decode_update(frame.update).items
            ends = {client: run[-1].end for client, run in items.items()}
        else:
            return False
        new = {
            client: clock for client, clock in ends.items() if clock > self.clocks.get(client, -1)
        }
        self.clocks |= new
        return bool(new)


class Sent:
    """The WebSocket frames that a server sends on its sockets."""

    def __init__(self) -> None:
        self._buffers: dict[str, bytearray] = {}

    def take(self, call: Call) -> Iterator[Frame]:
        """The frames that this call begins to complete. Raises ValueError for a call cut short."""
        if call.kind not in ("sendto", "sendmsg", "write", "writev"):
            return
        if not call.name.startswith("socket:"):
            return
        if call.result is not None:
            if 0 <= call.result < len(call.data):
                raise ValueError("sent in parts: not understood")
            return
        buffer = self._buffers.setdefault(call.name, bytearray())
        buffer += call.data
        if buffer.startswith(b"HTTP/"):
            _, end, rest = bytes(buffer).partition(_HEAD_END)
            if not end:
                return
            buffer[:] = rest
        while (payload := _payload(buffer)) is not None:
            if payload:
                yield decode_frame(payload)


def _payload(buffer: bytearray) -> bytes | None:
    """Take a whole WebSocket frame off; what is in it if it is binary, else nothing."""
    if len(buffer) < 10 and (
        len(buffer) < 2 or len(buffer) < 2 + {126: 2, 127: 8}.get(buffer[1], 0)
    ):
        return None
    size, start = buffer[1], 2
    if size > 125:
        start = 4 if size == 126 else 10
        size = int.from_bytes(buffer[2:start])
    if len(buffer) < start + size:
        return None
    binary, payload = buffer[0] == 0x82, bytes(buffer[start : start + size])
    del buffer[: start + size]
    return payload if binary else b""


@dataclass
class Result:
    """`moments` at which something was said; `images` that were opened. The rest should be 0.

    `lost` counts batches that were said to be there and were not, in the worst image.
    """

    acknowledged: int = 0
    moments: int = 0
    images: int = 0
    syncs: int = 0
    lost: int = 0
    altered: int = 0
    unreadable: int = 0

    @property
    def sound(self) -> bool:
        """Whether all was there."""
        return not (self.lost or self.altered or self.unreadable)


class Check:
    """Follows a hub's traces, and opens what a power cut would leave."""

    def __init__(self, folder: Path, scratch: Path, writers: Sequence[Writer], seed: int) -> None:
        self.result = Result()
        self._disk, self._said, self._scratch = Disk(folder), Said(), scratch
        self._names = {writer.client: writer.name for writer in writers}
        self._seed, self._chance = seed, np.random.default_rng(seed)
        self._seen: tuple[int, dict[int, list[bytes]]] = (-1, {})

    def follow(self, trace: Path) -> None:
        """Go through one life of the hub."""
        sent = Sent()
        for call in read_trace(trace):
            new = [self._said.hear(frame) for frame in sent.take(call)]
            self._disk.take(call)
            self.result.syncs += "sync" in call.kind and call.result == 0
            if any(new):
                self.result.moments += 1
                self._cut()
        self._cut()  # after its end

    def _cut(self) -> None:
        version, found = self._seen
        if version != self._disk.version:
            found = self._open(self._disk.images())
            self._hold(self._open(self._disk.images(self._chance)))
            self._seen = (self._disk.version, found)
        self._hold(found)

    def _hold(self, found: Mapping[int, Sequence[bytes]]) -> None:
        """Hold an image against what was said."""
        lost = 0
        for client, clock in self._said.clocks.items():
            held, name = found.get(client), self._names.get(client)
            lost += max(0, clock - len(held)) if held is not None else 1 + clock
            if name is not None:
                sent = [batch(self._seed, name, number) for number in range(len(held or ()))]
                self.result.altered += sent != list(held or ())
        self.result.lost = max(self.result.lost, lost)

    def _open(self, images: Mapping[str, bytes]) -> dict[int, list[bytes]]:
        """What a hub finds in these files: the batches of every client id that it knows."""
        self.result.images += 1
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir()
        for name, data in images.items():
            (self._scratch / name).write_bytes(data)
        store = SqlStore(database.open_engine(f"sqlite:///{self._scratch / 'hub.db'}"))
        try:
            stored = store.load(POOL)
        except StoreError:
            self.result.unreadable += bool(self._said.clocks)
            return {}
        finally:
            store.close()
        found: dict[int, list[bytes]] = {client: [] for client in stored.clients}
        for update in [stored.snapshot, *stored.rows]:
            for client, run in decode_update(update).items.items() if update else ():
                for item in run:
                    held = found.setdefault(client, [])
                    held.extend((item.contents or ())[len(held) - item.clock :])
        return found


async def write(writers: Sequence[Writer], batches: int, url: str) -> None:
    """Have them write until each has so many more acknowledged."""
    wanted = {writer.name: writer.confirmed + batches for writer in writers}
    for writer in writers:
        writer.progress = asyncio.Event()  # of this event loop
    tasks = [asyncio.create_task(writer.write(url)) for writer in writers]
    try:
        async with asyncio.timeout(120):
            for writer in writers:
                while writer.confirmed < wanted[writer.name]:
                    writer.progress.clear()
                    await writer.progress.wait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def measure(
    folder: Path, batches: int, seed: int, synchronous: str = "FULL", ends: Sequence[int] = ENDS
) -> Result:
    """Trace the lives of a hub, and look at them; each device writes so many batches in each."""
    home, told = folder / "home", Told()
    writers: list[Writer] = []
    traces = [folder / f"trace{life}" for life in range(len(ends))]
    for trace, number in zip(traces, ends, strict=True):
        command = [*COMMAND, "-o", str(trace), sys.executable, "-m", "bench.power_cut"]
        with subprocess.Popen(
            [*command, str(home / "hub.db"), synchronous],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=ends_with_its_parent(),
        ) as hub:
            assert hub.stdout is not None
            given = json.loads(hub.stdout.readline())
            url = json.loads(hub.stdout.readline())["url"]
            writers = writers or [
                Writer(seed, POOL, name, token, told) for name, token in given["tokens"].items()
            ]
            try:
                asyncio.run(write(writers, batches, url))
            except BaseException:
                number = signal.SIGKILL
                raise
            finally:
                os.kill(given["pid"], number)
    check = Check(home, folder / "scratch", writers, seed)
    for trace in traces:
        check.follow(trace)
    check.result.acknowledged = sum(writer.confirmed for writer in writers)
    check.result.lost += told.lost_acknowledged
    return check.result


def main(arguments: Sequence[str]) -> None:
    """Print a table, or with `--json` {"acknowledged", "moments", "images", "lost", …}.

    Raises SystemExit if anything was lost.
    """
    parser = argparse.ArgumentParser(prog="python -m bench hub-power-cut", description=__doc__)
    parser.add_argument("--batches", type=int, default=300, help="of each device, in each life")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--synchronous", choices=LEVELS, default="FULL", help="of SQLite")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if shutil.which("strace") is None:
        raise SystemExit(f"bench: {MISSING}")
    with tempfile.TemporaryDirectory() as name:
        result = measure(Path(name), options.batches, options.seed, options.synchronous)
    if options.json:
        print_json(vars(result))
    else:
        print_table(["figure", "value"], list(vars(result).items()))
    if not result.sound:
        raise SystemExit("bench: a power cut would have taken what was acknowledged")


def _hub(file: str, synchronous: str) -> None:
    """Be a hub whose syncs are those of `synchronous`; a new one says which tokens it has."""
    from localmem_hub.cli import main as command_line

    def prepare(connection: Any, _: object) -> None:
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")

    made = database.open_engine

    def opened(url: str) -> sa.Engine:
        engine = made(url)
        event.listen(engine, "connect", prepare)
        return engine

    database.open_engine = opened
    url = f"sqlite:///{file}"
    store = SqlStore(database.open_engine(url))
    database.prepare(store._engine)
    tokens = {}
    if store.head(POOL) == 0:
        for name in (f"{number:016x}" for number in range(1, WRITERS + 1)):
            tokens[name] = store.tokens.create(POOL, name, "writer", SystemRandom(), 1).text
    store.close()
    print(json.dumps({"pid": os.getpid(), "tokens": tokens}), flush=True)
    os.environ["LOCALMEM_HUB_LOG_LEVEL"] = "error"
    sys.argv = ["localmem-hub", "serve", "--json", "--port", "0", "--database", url]
    command_line()


if __name__ == "__main__":
    _hub(*sys.argv[1:])
