"""What does a device pay that does nothing, and what does gathering events save?

An idle device in virtual time, with the session and room of production, connected by WebSocket for a
day: while two others work in bursts, while one comes and goes every few minutes and waits each time,
and while nobody is there. Counted is what it sends and gets, with what frames it; what others wrote
stands apart from the rest, which is what being idle costs. Keep-alives are not in it; beside it stands
what they come to, with a ping and its answer every 20 seconds as this release has them.

Then the trace of `bench payload` at its moments, sent by sessions: each event at once, ten at a time,
and as `batching` has it with a listener and with none; and the same edits in bursts of ten.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.edits import SEED
from bench.payload import EVENTS, Author, send
from bench.payload_trace import BEGAN_MS, DAY_MS, Trace, trace
from bench.report import print_json, print_table
from localmem_protocol.batching import DEFAULT, EAGER, Batching
from localmem_protocol.envelope import PoolKey
from localmem_protocol.events import Event
from localmem_protocol.frames import (
    CAPABILITIES,
    Ack,
    Notice,
    Step1,
    Step2,
    Update,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.presence import LISTENING
from localmem_protocol.session import Session
from localmem_protocol.signatures import QUIET_S
from localmem_protocol.simulation import MemoryJournal, MemoryLog, SeededRandom, Settings
from localmem_protocol.simulation.clock import MINUTE, SECOND
from localmem_protocol.simulation.simulator import Simulation
from localmem_protocol.simulation.workload import BREAK, BURST, PAUSE
from localmem_protocol.updates import NOTHING

HOURS: Final = 24
PING_S: Final = 20
"""What uvicorn and websockets do unless told otherwise; each end pings, the other answers."""

_MASK_BYTES: Final = 4
_POOL: Final = PoolKey("00" * 16, 1, bytes(range(32)))


@dataclass
class Counted:
    """Bytes of one device's frames, as WebSocket frames them: its own, and what others wrote."""

    name: str
    since_s: float = 60.0  # its greeting is over by then
    updates: int = 0
    rest: int = 0
    notices: int = 0

    def line(self, text: str) -> None:
        """Take a line of the trace."""
        at, who, *words = text.split(" ")
        if who != self.name or len(words) < 3 or words[0] not in ("up", "down"):
            return
        size = int(words[2])
        framed = size + (2 if size < 126 else 4) + (_MASK_BYTES if words[0] == "up" else 0)
        if float(at) < self.since_s:
            return
        self.notices += words[1] == "notice"
        if words[1] == "update":
            self.updates += framed
        else:
            self.rest += framed

    def figures(self) -> dict[str, int]:
        """For the report."""
        return {
            "idle_bytes": self.rest,
            "notices": self.notices,
            "bytes_of_others_events": self.updates,
        }


def main(arguments: Sequence[str]) -> None:
    """Print tables, or with `--json` one object."""
    parser = argparse.ArgumentParser(prog="python -m bench idle", description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--hours", type=int, default=HOURS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    result = measure(options.events, options.hours, options.seed)
    if options.json:
        print_json(result)
    else:
        _print(result)


def measure(events: int, hours: int, seed: int) -> dict[str, Any]:
    """Both parts."""
    pings = 2 * hours * 3600 // PING_S
    return {
        "hours": hours,
        "idle": {
            "two others work": others_work(hours, seed).figures(),
            "one comes and goes": one_comes_and_goes(hours, seed).figures(),
            "nobody is there": nobody_is_there(hours, seed).figures(),
        },
        "keep_alive_bytes": pings * (2 * (2 + 4) + _MASK_BYTES),
        "gathering": {
            "over the day": gathering(trace(events, seed=seed)),
            "in bursts": gathering(trace(events, seed=seed, bursts=True)),
        },
    }


def others_work(hours: int, seed: int) -> Counted:
    """The first device is idle, two others work."""
    world, counted = _world(3, hours, seed)
    world.start()
    for device in world.devices[1:]:
        stream = SeededRandom(seed, device.name)
        at_us = stream.below(60 * MINUTE)
        while at_us < world.end_us:
            for _ in range(BURST.draw(stream)):
                world.timeline.after(at_us, lambda device=device: world.record(device))  # type: ignore[misc]
                at_us += PAUSE.draw(stream)
            at_us += BREAK.draw(stream)
    world.timeline.run_until(world.end_us)
    return counted


def one_comes_and_goes(hours: int, seed: int) -> Counted:
    """The first device is idle; another connects every five to ten minutes, asks, and leaves."""
    world, counted = _world(2, hours, seed)
    world.devices[0].start()
    peer, stream = world.devices[1], SeededRandom(seed, "peer")

    def ask() -> None:
        if isinstance(peer.side, Session):
            peer.side.hurry(ask=True)
            peer.received(encode_frame(Notice("nothing", 0)))

    at_us = 2 * MINUTE
    while at_us < world.end_us:
        world.timeline.after(at_us, peer.start)
        world.timeline.after(at_us + 10 * SECOND, ask)
        world.timeline.after(at_us + 2 * MINUTE, peer.stop)
        at_us += stream.between(5, 10) * MINUTE
    world.timeline.run_until(world.end_us)
    return counted


def nobody_is_there(hours: int, seed: int) -> Counted:
    """The first device is alone."""
    world, counted = _world(1, hours, seed)
    world.start()
    world.timeline.run_until(world.end_us)
    return counted


def _world(devices: int, hours: int, seed: int) -> tuple[Simulation, Counted]:
    counted = Counted("d1")
    settings = Settings(seed, devices=devices, hours=hours, faults=(), transport="stream")
    return Simulation(settings, sink=counted.line), counted


def gathering(day: Trace) -> dict[str, dict[str, int]]:
    """Bytes of all updates of a trace, by when they are sent."""
    tens = send(day, 10, references=False)
    return {
        "each at once": _played(day, EAGER, 1),
        "ten at a time": {"bytes": tens.increment_bytes, "updates": len(tens.updates)},
        "adaptive, somebody listens": _played(day, DEFAULT, 1),
        "adaptive, nobody listens": _played(day, DEFAULT, 0),
    }


def _played(day: Trace, batching: Batching, listeners: int) -> dict[str, int]:
    players = [_Player(device, batching, listeners) for device in day.events]
    for player, events in zip(players, day.events.values(), strict=True):
        player.play(events)
    return {
        "bytes": sum(player.bytes for player in players),
        "updates": sum(player.updates for player in players),
        "longest_wait_s": round(max(player.longest_s for player in players)),
    }


@dataclass
class _Player:
    """A session at a hub that takes everything at once, in virtual time."""

    device: str
    batching: Batching
    listeners: int
    bytes: int = 0
    updates: int = 0
    longest_s: float = 0.0
    _waiting: list[float] = field(default_factory=list)

    def play(self, events: Sequence[Event]) -> None:
        """Let these happen at their moments, and a day pass."""
        log = MemoryLog(self.device)
        author = Author(self.device)
        session = Session(_POOL, log, MemoryJournal(), authorship=author, batching=self.batching)
        session.hello()
        welcome = Welcome(CAPABILITIES, 1, 0, bytes(16))
        for frame in (welcome, Notice(LISTENING, self.listeners), Step1(b"\x00"), Step2(NOTHING)):
            session.receive(encode_frame(frame))
        self._send(session, 0.0)
        left = list(events)
        stirred_s, quiet_s = 0.0, float("inf")
        while True:
            happens_s = (left[0].timestamp - BEGAN_MS) / 1000 if left else float("inf")
            due_s = session.due_s if session.due_s is not None else float("inf")
            now_s = min(happens_s, due_s, stirred_s + quiet_s, 2 * DAY_MS / 1000)
            if now_s >= 2 * DAY_MS / 1000:
                return
            if now_s == happens_s:
                log.insert([left.pop(0)])
                self._waiting.append(now_s)
            elif now_s == stirred_s + quiet_s:
                again_s = session.rest(quiet_s)
                quiet_s = float("inf") if again_s is None else again_s
            if self._send(session, now_s):
                stirred_s, quiet_s = now_s, QUIET_S

    def _send(self, session: Session, now_s: float) -> bool:
        sent = False
        while frames := session.upload(now_s):
            for data in frames:
                frame = decode_frame(data)
                assert isinstance(frame, Update)
                self.bytes += len(frame.update)
                self.updates += 1
            session.receive(encode_frame(Ack(1, session.replica.clock)))
            sent = True
        if not session.unsent():
            self.longest_s = max([self.longest_s, *(now_s - came_s for came_s in self._waiting)])
            self._waiting.clear()
        return sent


def _print(result: dict[str, Any]) -> None:
    print(f"an idle device, {result['hours']} hours, WebSocket; bytes with framing\n")
    print_table(
        ["while", "idle bytes", "of these notices", "bytes of others' events"],
        [[name, *figures.values()] for name, figures in result["idle"].items()],
    )
    print(f"\nkeep-alives, beside it: {result['keep_alive_bytes']} bytes\n")
    for name, rows in result["gathering"].items():
        print_table(
            [f"the trace, {name}", "bytes", "updates", "longest wait, s"],
            [
                [way, row["bytes"], row["updates"], row.get("longest_wait_s", "-")]
                for way, row in rows.items()
            ],
        )
        print()
