"""What does a hub survive? Mutated updates and random frames, at a live hub process.

Half of the attempts go to rooms of sealed batches, half to plain Yjs rooms; each comes from somebody
with a good token. Attackers work side by side, in rooms that change now and then. In every attacked
room an honest member writes at the end and somebody new must be sent it; in two other rooms honest
members write all the time and must have the same in the end. `refused_by_code` counts the codes that
attempts were closed with, `accepted` those that were not; a code that fits no offence, a room that
does not go on, or a process that ends makes the run fail. `--seed` plays the same attempts again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from pycrdt import Doc, Text

from bench.hub_attacks import (
    Attacker,
    PlainAttacker,
    PlainMember,
    SealedAttacker,
    SealedMember,
    hang_up,
)
from bench.mutations import KINDS, draw_kind
from bench.report import print_json, print_progress, print_table
from localmem_hub.database import open_engine, prepare
from localmem_hub.seams import Kind
from localmem_hub.store import SqlStore
from localmem_hub.system import SystemRandom
from localmem_protocol.frames import Close
from localmem_protocol.simulation import SeededRandom

ATTACKERS: Final = 8
"""At a time, of each kind of room."""

ROOM_ATTEMPTS: Final = 2000
"""Attempts at one room; then the next, since every accepted client stays in a document."""

FITTING: Final = {
    Close.BAD_FRAME,
    Close.READ_ONLY,
    Close.TOO_LARGE,
    Close.REFUSED_UPDATE,
    Close.GAP,
}
"""Close codes that say what an attempt did wrong."""

HONEST: Final = f"{0x600D:016x}"

MEMBER: Final = 0x6C6F63616C00
"""Client ids of honest Yjs clients begin here, where no mutation gets by chance: whoever writes under
another's client id takes its clocks away, in Yjs as such."""


class Hub:
    """A hub process, and its database."""

    def __init__(self, folder: Path) -> None:
        self._database = f"sqlite:///{folder / 'hub.db'}"
        command = [sys.executable, "-m", "localmem_hub", "serve", "--json", "--port", "0"]
        self._process = subprocess.Popen(
            [*command, "--plain", "--database", self._database],
            env={**os.environ, "LOCALMEM_HUB_LOG_LEVEL": "error"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a line for each worker that ended
            text=True,
        )
        line = self._process.stdout.readline() if self._process.stdout else ""
        answer = json.loads(line or "{}")
        if "url" not in answer:
            raise SystemExit(f"bench: the hub did not start {answer.get('error', '')}")
        self.url: str = answer["url"]
        engine = open_engine(self._database)
        prepare(engine)
        self._store = SqlStore(engine)

    @property
    def alive(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def token(self, pool: str, device: str | None, kind: Kind) -> str:
        """A token for a pool or plain room."""
        made = self._store.tokens.create(pool, device, "writer", SystemRandom(), 1, kind=kind)
        return made.text

    def stop(self) -> None:
        """End it."""
        self._store.close()
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        hub = Hub(Path(folder))
        try:
            yield hub
        finally:
            hub.stop()


class Tally:
    """What came of the attempts."""

    def __init__(self) -> None:
        self.tried: Counter[str] = Counter()
        self.verdicts: Counter[int] = Counter()
        self.slowest_s = 0.0
        self.rooms = 0
        self.survived = 0
        self.problems: list[str] = []

    def result(
        self, seed: int, *, alive: bool, converged: bool, seconds: float
    ) -> dict[str, object]:
        """What is printed."""
        refused = {code: self.verdicts[code] for code in sorted(self.verdicts) if code}
        return {
            "seed": seed,
            "tried": sum(self.tried.values()),
            "tried_by_kind": dict(self.tried),
            "accepted": self.verdicts[0],
            "refused_by_code": {str(code): count for code, count in refused.items()},
            "codes_that_fit_nothing": sorted(set(refused) - FITTING),
            "attacked_rooms": self.rooms,
            "survived_rooms": self.survived,
            "problems": self.problems,
            "process_alive": alive,
            "other_rooms_converged": converged,
            "slowest_attempt_s": round(self.slowest_s, 2),
            "seconds": round(seconds, 1),
        }


async def attack(hub: Hub, attempts: int, seed: int) -> dict[str, object]:
    """All of it."""
    tally = Tally()
    since = time.monotonic()
    watching = asyncio.create_task(write_elsewhere(hub))
    try:
        await asyncio.gather(
            attack_kind(hub, "sealed", attempts - attempts // 2, seed, tally),
            attack_kind(hub, "plain", attempts // 2, seed, tally),
        )
    finally:
        watching.cancel()
    (others,) = await asyncio.gather(watching, return_exceptions=True)
    failed = isinstance(others, Exception)
    if failed:
        tally.problems.append(f"rooms that nobody attacks: {type(others).__name__}: {others}")
    converged = not failed and await same_elsewhere(hub)
    await hang_up()
    return tally.result(
        seed, alive=hub.alive, converged=converged, seconds=time.monotonic() - since
    )


async def attack_kind(hub: Hub, kind: Kind, attempts: int, seed: int, tally: Tally) -> None:
    """The attempts at rooms of one kind, one room after the other."""
    number = 0
    while attempts:
        here = min(attempts, ROOM_ATTEMPTS)
        room = f"attacked-{kind}-{number}"
        shares = [here // ATTACKERS + (one < here % ATTACKERS) for one in range(ATTACKERS)]
        await asyncio.gather(
            *(
                attack_room(hub, kind, room, one, share, seed, tally)
                for one, share in enumerate(shares)
            )
        )
        tally.rooms += 1
        if await goes_on(hub, kind, room):
            tally.survived += 1
        else:
            tally.problems.append(f"{room} does not go on")
        attempts -= here
        number += 1
        print_progress(f"{room}: {sum(tally.tried.values())} tried")


async def attack_room(
    hub: Hub, kind: Kind, room: str, number: int, attempts: int, seed: int, tally: Tally
) -> None:
    """What one attacker does in one room."""
    draw = SeededRandom(seed, f"{room} {number}")
    attacker: Attacker
    if kind == "sealed":
        device = f"{0xBAD0 + number:016x}"
        attacker = SealedAttacker(hub.url, room, device, hub.token(room, device, kind))
    else:
        attacker = PlainAttacker(hub.url, room, hub.token(room, None, kind))
    for _ in range(attempts):
        what = draw_kind(draw)
        since = time.monotonic()
        tally.verdicts[await attacker.attempt(what, draw)] += 1
        tally.slowest_s = max(tally.slowest_s, time.monotonic() - since)
        tally.tried[what] += 1
    await attacker.leave()


async def goes_on(hub: Hub, kind: Kind, room: str) -> bool:
    """Whether an honest member may write in a room, and somebody new is sent it."""
    if kind == "sealed":
        member = SealedMember(hub.url, room, HONEST, hub.token(room, HONEST, kind))
        return await member.write(b"still here") and b"still here" in await member.read()
    token = hub.token(room, None, kind)
    one, two = (PlainMember(hub.url, room, token, MEMBER + number) for number in (1, 2))
    await one.write("still here")
    await one.settle()
    await two.settle()
    for member_ in (one, two):
        await member_.leave()
    return str(two.text) == "still here"


async def write_elsewhere(hub: Hub) -> None:
    """Honest members of rooms that nobody attacks write until they are told to stop."""
    token = hub.token("quiet-plain", None, "plain")
    members = [PlainMember(hub.url, "quiet-plain", token, MEMBER + number) for number in (1, 2)]
    device = hub.token("quiet-sealed", HONEST, "sealed")
    sealed = SealedMember(hub.url, "quiet-sealed", HONEST, device)
    written = 0
    while True:
        for member in members:
            await member.write(f"{written} ")
            await member.settle()
        if not await sealed.write(b"%d" % written):
            raise RuntimeError("a room that nobody attacks refuses")
        written += 1
        await asyncio.sleep(0.25)


async def same_elsewhere(hub: Hub) -> bool:
    """Whether somebody new in the quiet rooms is sent all that was written, twice the same."""
    token = hub.token("quiet-plain", None, "plain")
    documents: list[Doc[Text]] = []
    for client in (3, 4):
        member = PlainMember(hub.url, "quiet-plain", token, client)
        await member.settle()
        await member.leave()
        documents.append(member.doc)
    texts = [str(doc.get("members", type=Text)) for doc in documents]
    device = hub.token("quiet-sealed", HONEST, "sealed")
    read = SealedMember(hub.url, "quiet-sealed", HONEST, device)
    return texts[0] == texts[1] != "" and await read.read() == await read.read() != b"\x00\x00"


def main(arguments: Sequence[str]) -> None:
    """Attack, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench hub-fuzz", description=__doc__)
    parser.add_argument("--attempts", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.attempts < len(KINDS):
        parser.error(f"--attempts must be at least {len(KINDS)}")
    print_progress(f"seed {options.seed}, {options.attempts} attempts")
    with running_hub() as hub:
        result = asyncio.run(attack(hub, options.attempts, options.seed))
    if options.json:
        print_json(result)
    else:
        print_table(["figure", "value"], [[name, str(value)] for name, value in result.items()])
    if (
        not (result["process_alive"] and result["other_rooms_converged"])
        or result["survived_rooms"] != result["attacked_rooms"]
        or result["codes_that_fit_nothing"]
    ):
        raise SystemExit("bench: the hub did not survive it")
