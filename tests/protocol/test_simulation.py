"""The simulation: what it promises about itself, and the planted bugs that it must find."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from localmem_protocol.envelope import PoolKey
from localmem_protocol.events import Event
from localmem_protocol.frames import Step2, Update, Welcome, decode_frame, encode_frame
from localmem_protocol.room import Commit, Effect, Room, Send
from localmem_protocol.session import EventLog, Journal, Saved, Session
from localmem_protocol.simulation import (
    FAULTS,
    PRODUCTION,
    Implementation,
    Report,
    SeededRandom,
    Settings,
    Simulation,
    drawn,
    simulate,
)
from localmem_protocol.simulation.clock import Timeline
from localmem_protocol.simulation.disk import Crash, Writes
from localmem_protocol.tombstones import TombstoneKey
from localmem_protocol.updates import Update as Structs
from localmem_protocol.updates import decode_update, encode_update

HOURS = 4
EVICTING = 4_000
SEEDS_MAX = 6


def settings(seed: int, *faults: str, array_bytes_max: int = 2**24) -> Settings:
    return Settings(seed, 3, HOURS, faults, "stream", array_bytes_max, compact_rows=20)


def test_a_day_without_faults_brings_everything_everywhere() -> None:
    report = simulate(settings(1))
    assert report.passed, report.explanation()
    assert report.events > 50
    assert set(report.faults.values()) == {0}
    assert report.evicted_undelivered == 0
    up = sum(device["bytes_up"] for device in report.traffic.values())
    assert up < report.snippet_bytes


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_strikes_and_is_survived(fault: str) -> None:
    reports = [simulate(replace(settings(seed, fault), hours=2)) for seed in range(3)]
    for report in reports:
        assert report.passed, report.explanation()
    struck = {name for report in reports for name, count in report.faults.items() if count}
    assert struck == {fault}


@pytest.mark.parametrize("block", range(4))
def test_a_swarm_of_seeds_with_drawn_faults_and_limits_converges(block: int) -> None:
    for seed in range(block * 5, block * 5 + 5):
        report = simulate(drawn(seed, devices=2 + seed % 3, hours=HOURS))
        assert report.passed, report.explanation()


def test_one_seed_is_one_history_in_every_process() -> None:
    script = (
        "import json; from localmem_protocol.simulation import Settings, simulate; lines = [];"
        f"report = simulate(Settings(11, hours={HOURS}, array_bytes_max=20_000), sink=lines.append);"
        "print(json.dumps(report.as_dict()), *lines, sep='\\n')"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "4711")
    ]
    assert runs[0] == runs[1]
    report = json.loads(runs[0].splitlines()[0])
    assert report["steps"] == len(runs[0].splitlines()) - 1
    lines = b"".join(line + b"\n" for line in runs[0].splitlines()[1:])
    assert report["trace_hash"] == hashlib.blake2b(lines, digest_size=16).hexdigest()


def test_another_seed_is_another_history() -> None:
    assert len({simulate(settings(seed)).trace_hash for seed in range(3)}) == 3


def test_what_a_rogue_device_sends_is_refused_and_kept_aside_and_nobody_else_notices() -> None:
    refused = 0
    for seed in range(3):
        world = Simulation(settings(seed, "poison"))
        report = world.run()
        assert report.passed, report.explanation()
        refused += world.hub.disk.room(1).quarantined
    assert refused > 3


@pytest.mark.parametrize("kept", [True, False])
def test_a_crash_comes_before_or_after_a_write_and_never_in_it(kept: bool) -> None:
    writes, disk = Writes(), list[int]()
    writes.crash_at(2, kept=kept)
    writes.write(lambda: disk.append(1))
    with pytest.raises(Crash):
        writes.write(lambda: disk.append(2))
    writes.write(lambda: disk.append(3))
    assert disk == ([1, 2, 3] if kept else [1, 3])


def test_steps_of_one_moment_happen_as_planned_and_none_that_was_called_off() -> None:
    timeline, done = Timeline(), list[str]()
    timeline.after(5, lambda: done.append("second"))
    timeline.after(3, lambda: timeline.after(2, lambda: done.append("third")))
    timeline.after(4, lambda: done.append("never")).call_off()
    timeline.after(1, lambda: done.append("first"))
    timeline.run_until(10)
    assert (done, timeline.now_us) == (["first", "second", "third"], 10)


def test_a_seeded_stream_depends_on_seed_and_name_and_nothing_else() -> None:
    first = SeededRandom(1, "a")
    bytewise = b"".join(first.token_bytes(1) for _ in range(100))
    assert SeededRandom(1, "a").token_bytes(100) == bytewise
    assert SeededRandom(1, "b").token_bytes(100) != bytewise
    assert SeededRandom(2, "a").token_bytes(100) != bytewise


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_many_drawn_worlds_converge() -> None:
    first = 100_000
    for seed in range(first, first + int(os.environ.get("LOCALMEM_WORLDS", "300"))):
        report = simulate(drawn(seed, devices=2 + seed % 4, hours=6))
        assert report.passed, report.explanation()


# Planted bugs. Each must be found within a few seeds; found where it was not planted, the tests
# above fail.


class ForgetfulHub(Room):
    """Acknowledges every row, and stores all but every tenth."""

    rows = 0

    def take(self) -> Commit | None:
        commit = super().take()
        if commit is not None and commit.rows:
            ForgetfulHub.rows += 1
            if ForgetfulHub.rows % 10 == 0:
                return replace(commit, rows=[])
        return commit


class HastyHub(Room):
    """Says what it decided before the store has it."""

    waiting: Commit | None = None

    def receive(self, connection: int, data: bytes) -> list[Effect]:
        effects = super().receive(connection, data)
        commit = super().take()
        if commit is None:
            return effects
        if self.waiting is None:
            self.waiting = Commit()
        self.waiting.rows += commit.rows
        self.waiting.clients |= commit.clients
        self.waiting.quarantined += commit.quarantined
        return effects + super().committed()

    def take(self) -> Commit | None:
        waiting, self.waiting = self.waiting, None
        return waiting

    def committed(self) -> list[Effect]:
        return []


class BigHub(Room):
    """Says more than anybody has to take at once."""

    def receive(self, connection: int, data: bytes) -> list[Effect]:
        effects = super().receive(connection, data)
        return [
            replace(effect, data=effect.data + bytes(9_000_000))
            if isinstance(effect, Send)
            else effect
            for effect in effects
        ]


class DeafDevice(Session):
    """Hears what is new, and not what is deleted."""

    def receive(self, data: bytes) -> list[bytes]:
        frame = decode_frame(data)
        if isinstance(frame, Update | Step2):
            update = decode_update(frame.update)
            kept = {
                client: run
                for client, run in update.items.items()
                if all(item.contents is not None for item in run)
            }
            data = encode_frame(type(frame)(encode_update(Structs(kept))))
        return super().receive(data)


class StubbornDevice(Session):
    """Goes on where it was, whatever the hub knows of its client id."""

    def receive(self, data: bytes) -> list[bytes]:
        frame = decode_frame(data)
        clock = self.replica.clock
        if isinstance(frame, Welcome) and frame.client == self.replica.client:
            head = self.replica.head_before(clock) or b""
            data = encode_frame(Welcome((), frame.client, clock, head))
        return super().receive(data)


class Unsaved:
    """A journal that does not keep what is about to be sent."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.sending = False

    def load(self) -> Saved:
        return self._journal.load()

    def reset(self, client: int) -> None:
        self._journal.reset(client)

    def save(self, update: bytes | None, watermark: int, position: int) -> None:
        if not self.sending:
            self._journal.save(update, watermark, position)

    def compact(self, document: bytes) -> None:
        self._journal.compact(document)

    def queue(self, tombstones: Sequence[bytes]) -> None:
        self._journal.queue(tombstones)

    def delivered(self, tombstones: Sequence[bytes]) -> None:
        self._journal.delivered(tombstones)

    def acknowledge(self, clock: int, head: bytes) -> None:
        self._journal.acknowledge(clock, head)


class UnsavedDevice(Session):
    """Sends first, and saves later or never."""

    def __init__(self, pool: PoolKey, log: EventLog, journal: Journal, most: int) -> None:
        self.unsaved = Unsaved(journal)
        super().__init__(pool, log, self.unsaved, most)

    def upload(self) -> list[bytes]:
        self.unsaved.sending = True
        try:
            return super().upload()
        finally:
            self.unsaved.sending = False


class LateLog:
    """An event log that takes in what came only when the next thing comes."""

    def __init__(self, log: EventLog) -> None:
        self._log, self._late = log, list[Event]()
        self.device = log.device

    @property
    def position(self) -> int:
        return self._log.position

    def insert(self, events: Sequence[Event]) -> None:
        late, self._late = self._late, list(events)
        self._log.insert(late)

    def own_events(self, after: int, limit: int) -> list[Event]:
        return self._log.own_events(after, limit)

    def honour(self, key: TombstoneKey) -> None:
        self._log.honour(key)

    def forget(self, tombstones: Sequence[bytes], key: TombstoneKey) -> object:
        return self._log.forget(tombstones, key)

    def forgets(self, event_id: str) -> bool:
        return self._log.forgets(event_id)


class ChattyDevice(Session):
    """Says everything often."""

    def upload(self) -> list[bytes]:
        return 8 * super().upload()


def plain_device(pool: PoolKey, log: EventLog, journal: Journal, most: int) -> Session:
    """Has everybody see what it knows."""

    class PlainDevice(Session):
        def upload(self) -> list[bytes]:
            frames = super().upload()
            newest = log.own_events(0, 1)
            return [*frames, newest[0].snippet.encode()] if frames else frames

    return PlainDevice(pool, log, journal, most)


def hub(kind: type[Room]) -> Implementation:
    def open_hub(rows: Sequence[bytes], clients: dict[int, str], step_bytes: int) -> Room:
        return kind(rows, clients, step_bytes=step_bytes)

    return replace(PRODUCTION, open_hub=open_hub)


def device(open_device: Callable[[PoolKey, EventLog, Journal, int], Session]) -> Implementation:
    return replace(PRODUCTION, open_device=open_device)


BUGS: dict[str, tuple[Implementation, tuple[str, ...], int, str]] = {
    "the hub drops a row that it acknowledged": (
        hub(ForgetfulHub), (), 2**24, "acknowledges what it has not stored"
    ),
    "the hub speaks before the store has it": (
        hub(HastyHub), ("crash",), 2**24, "acknowledges what it has not stored"
    ),
    "the hub's frames are too large": (hub(BigHub), (), 2**24, "a frame of"),
    "a device skips what is deleted": (
        device(DeafDevice), (), EVICTING, "different documents"
    ),
    "a device goes on at its old clock after a rollback": (
        device(StubbornDevice), ("rollback",), 2**24, "not in sync after healing"
    ),
    "a device does not save what it sends": (
        device(UnsavedDevice), (), 2**24, "not journalled"
    ),
    "a device's event log comes after its journal": (
        device(lambda pool, log, journal, most: Session(pool, LateLog(log), journal, most)),
        ("crash",),
        2**24,
        "did not reach everybody",
    ),
    "a device sends everything again and again": (device(ChattyDevice), (), 2**24, "bytes went up"),
    "a device sends plaintext": (device(plain_device), (), 2**24, "plaintext on the wire"),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found_within_a_few_seeds(bug: str) -> None:
    implementation, faults, array_bytes_max, symptom = BUGS[bug]
    found: list[Report] = []
    for seed in range(SEEDS_MAX):
        report = simulate(settings(seed, *faults, array_bytes_max=array_bytes_max), implementation)
        if any(symptom in violation for violation in report.violations):
            found.append(report)
            break
    assert found, f"{SEEDS_MAX} seeds did not find it"
    assert not found[0].passed
    explanation = found[0].explanation()
    assert f"seed {found[0].seed}: 3 devices, {HOURS} h" in explanation
    assert found[0].last_steps[-1] in explanation
