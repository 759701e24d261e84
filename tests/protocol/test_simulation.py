"""The simulation: what it promises about itself, and the planted bugs that it must find."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from localmem_protocol.chain import Roster, Tip
from localmem_protocol.entries import entry_hash
from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import UpdateError
from localmem_protocol.events import Event
from localmem_protocol.frames import (
    CAPABILITIES,
    Step2,
    Update,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.lineage import Reach
from localmem_protocol.references import Reference
from localmem_protocol.room import Commit, Effect, Room, Send
from localmem_protocol.roster_log import Addition
from localmem_protocol.roster_view import Route, Stop, Stuck
from localmem_protocol.seams import Random
from localmem_protocol.session import EventLog, Journal, Saved, Session
from localmem_protocol.simulation import (
    FAULTS,
    PRODUCTION,
    Implementation,
    MemoryLog,
    Report,
    SeededRandom,
    Settings,
    Simulation,
    drawn,
    simulate,
)
from localmem_protocol.simulation.clock import Timeline
from localmem_protocol.simulation.disk import Crash, Writes
from localmem_protocol.simulation.participants import OpenDevice
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


def test_one_seed_is_one_history_also_with_references() -> None:
    without = replace(settings(5, "crash"), hours=1)
    first, second = (simulate(replace(without, references=True)) for _ in range(2))
    assert first == second
    assert first.passed, first.explanation()
    assert first.referred > 3
    assert simulate(without).referred == 0


def test_half_of_the_drawn_worlds_have_references_and_clones_that_go_their_ways() -> None:
    assert 5 < sum(drawn(seed).references for seed in range(20)) < 15
    lines: list[str] = []
    simulate(replace(settings(2), references=True, hours=2), sink=lines.append)
    moves = {line.partition("clone: ")[2] for line in lines if "clone: " in line}
    assert {"commit", "push", "pull"} < moves


@pytest.mark.parametrize("lost", [True, False])
def test_a_text_that_nobody_has_any_more_is_counted_and_not_demanded(lost: bool) -> None:
    world = Simulation(replace(settings(3), references=True))
    one, *others = world.devices
    for device in others:
        device.clone = None
    world.start()
    world.advance(60_000)
    image = one.disk.image()
    while not world.oracle.referred:
        world.record(one)
        world.advance(50)
    if lost:
        one.clone = None
        world.roll_back(one, image, log_only=False)
    report = world.finish()
    assert report.passed, report.explanation()
    assert (report.texts_missing > 0) == lost


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
            effect._replace(data=effect.data + bytes(9_000_000))
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
    """Goes on where it was, whatever the hub knows of its client id, and never begins anew."""

    def _begin_anew(self) -> None:
        raise UpdateError("not my history")

    def receive(self, data: bytes) -> list[bytes]:
        frame = decode_frame(data)
        clock = self.replica.clock
        if isinstance(frame, Welcome) and frame.client == self.replica.client:
            head = self.replica.head_before(clock) or b""
            data = encode_frame(Welcome(CAPABILITIES, frame.client, clock, head))
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

    def save(self, update: bytes | None, watermark: int, reach: Reach) -> None:
        if not self.sending:
            self._journal.save(update, watermark, reach)

    def compact(self, document: bytes) -> None:
        self._journal.compact(document)

    def queue(self, tombstones: Sequence[bytes]) -> None:
        self._journal.queue(tombstones)

    def delivered(self, tombstones: Sequence[bytes]) -> None:
        self._journal.delivered(tombstones)

    def remember(self, marks: Mapping[bytes, bytes], *, instead: bool = False) -> None:
        self._journal.remember(marks, instead=instead)

    def acknowledge(self, clock: int, head: bytes) -> None:
        self._journal.acknowledge(clock, head)

    def keep_heads(self, heads: Mapping[int, tuple[str, bytes]]) -> None:
        self._journal.keep_heads(heads)


class UnsavedDevice(Session):
    """Sends first, and saves later or never."""

    def __init__(
        self, pool: PoolKey, log: EventLog, journal: Journal, most: int, **more: Any
    ) -> None:
        self.unsaved = Unsaved(journal)
        super().__init__(pool, log, self.unsaved, most, **more)

    def upload(self, now_s: float = 0.0) -> list[bytes]:
        self.unsaved.sending = True
        try:
            return super().upload(now_s)
        finally:
            self.unsaved.sending = False


class LateLog:
    """An event log that takes in what came only when the next thing comes."""

    def __init__(self, log: EventLog) -> None:
        self._log, self._late = log, list[Event]()
        self.device = log.device

    @property
    def reach(self) -> Reach:
        return self._log.reach

    def has_reached(self, reach: Reach) -> bool:
        return self._log.has_reached(reach)

    def insert(self, events: Sequence[Event]) -> None:
        late, self._late = self._late, list(events)
        self._log.insert(late)

    def own_events(self, after: int, limit: int) -> list[Event]:
        return self._log.own_events(after, limit)

    def at(self, device: str, sequence: int, clock: int | None = None) -> list[Event]:
        return self._log.at(device, sequence, clock)

    def shares(self, event: Event) -> bool:
        return self._log.shares(event)

    def honour(self, key: TombstoneKey) -> None:
        self._log.honour(key)

    def forget(self, tombstones: Sequence[bytes], key: TombstoneKey) -> Sequence[Event]:
        return self._log.forget(tombstones, key)

    def forgets_mark(self, tombstone: bytes, key: TombstoneKey) -> bool:
        return self._log.forgets_mark(tombstone, key)

    def forgets(self, event_id: str) -> bool:
        return self._log.forgets(event_id)


class UnforgettingLog(LateLog):
    """An event log whose owner does not look at what was forgotten."""

    def insert(self, events: Sequence[Event]) -> None:
        assert isinstance(self._log, MemoryLog)
        for event in events:
            self._log.events.setdefault(event.id, event)

    def forget(self, tombstones: Sequence[bytes], key: TombstoneKey) -> Sequence[Event]:
        return ()


class ChattyDevice(Session):
    """Says everything often."""

    def upload(self, now_s: float = 0.0) -> list[bytes]:
        return 8 * super().upload(now_s)


def plain_device(pool: PoolKey, log: EventLog, journal: Journal, most: int, **more: Any) -> Session:
    """Has everybody see what it knows."""

    class PlainDevice(Session):
        def upload(self, now_s: float = 0.0) -> list[bytes]:
            frames = super().upload(now_s)
            newest = log.own_events(0, 1)
            return [*frames, newest[0].snippet.encode()] if frames else frames

    return PlainDevice(pool, log, journal, most, **more)


def hub(kind: type[Room]) -> Implementation:
    def open_hub(
        rows: Sequence[bytes], clients: dict[int, str], step_bytes: int, random: Random
    ) -> Room:
        return kind(rows, clients, step_bytes=step_bytes, random=random)

    return replace(PRODUCTION, open_hub=open_hub)


class SilentDevice(Session):
    """Gives its text to nobody who asks."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self._document.fetcher._answers = lambda replica, want: []  # type: ignore[method-assign]


class CarelessDevice(SilentDevice):
    """Looks for a text, and takes none; and nobody gives it any."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        find = self._document.fetcher._in_checkout

        def lose(reference: Reference, key: bytes) -> None:
            find(reference, key)

        self._document.fetcher._in_checkout = lose  # type: ignore[method-assign]


def device(open_device: OpenDevice) -> Implementation:
    return replace(PRODUCTION, open_device=open_device)


def late_device(pool: PoolKey, log: EventLog, journal: Journal, most: int, **more: Any) -> Session:
    return Session(pool, LateLog(log), journal, most, **more)


class StayingRoute(Route):
    """Goes on where it began, under the key that a removed device has."""

    begun: Stop | None = None

    def next(self, read: Collection[int], now_s: float) -> Stop | Stuck:
        stop = super().next(read, now_s)
        if self.begun is None and isinstance(stop, Stop):
            self.begun = stop
        return replace(self.begun, past=False) if self.begun else stop

    def past_due_s(self, now_s: float) -> float | None:
        return None

    def moved(self, roster_length: int) -> bool:
        return False


class ForwardRoute(Route):
    """Never looks back at epochs that are over."""

    def next(self, read: Collection[int], now_s: float) -> Stop | Stuck:
        return super().next(range(1000), now_s)


class OldKeyDevice(Session):
    """Seals under the first key that it was ever given."""

    first: ClassVar[dict[str, bytes]] = {}

    def __init__(
        self, pool: PoolKey, log: EventLog, journal: Journal, most: int, **more: Any
    ) -> None:
        key = self.first.setdefault(pool.pool, pool.key)
        super().__init__(replace(pool, key=key), log, journal, most, **more)


def any_length(roster: Roster, expected: int, entry: bytes) -> Addition:
    """A hub that puts every entry at the end of its list, whatever the list was when it was made."""
    return Addition(entry, Tip(roster.length + 1, entry_hash(entry)), roster.epoch)


def forgetful_past(
    pool: PoolKey, log: EventLog, journal: Journal, most: int, *, reader: bool, **more: Any
) -> Session:
    """Takes in whatever an epoch that is over has, also what was forgotten since."""
    source = UnforgettingLog(log) if reader else log
    return Session(pool, source, journal, most, reader=reader, **more)


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
        device(late_device),
        ("crash",),
        2**24,
        "did not reach everybody",
    ),
    "a device sends everything again and again": (device(ChattyDevice), (), 2**24, "bytes went up"),
    "a device sends plaintext": (device(plain_device), (), 2**24, "plaintext on the wire"),
    "a device seals under the key that a removed one has": (
        device(OldKeyDevice), ("revoke",), 2**24, "sealed after its removal"
    ),
    "a device stays where an epoch is over": (
        replace(PRODUCTION, route=StayingRoute), ("revoke",), 2**24, "not in sync after healing"
    ),
    "a hub appends to its roster without comparing": (
        replace(PRODUCTION, addition=any_length), ("rotate",), 2**24, "hub breaks: ConflictError"
    ),
    "a device does not read epochs that are over": (
        replace(PRODUCTION, route=ForwardRoute), ("rotate", "revoke", "partition"), 2**24,
        "did not reach everybody",
    ),
    "what was forgotten comes back through an old epoch": (
        device(forgetful_past), ("rotate",), 2**24, "that were forgotten"
    ),
}  # fmt: skip


@pytest.mark.parametrize("route", [Route, StayingRoute])
def test_whoever_knows_of_a_new_epoch_writes_nothing_into_the_one_before(
    route: type[Route],
) -> None:
    world = Simulation(settings(1), replace(PRODUCTION, route=route))
    world.start()
    world.advance(60_000)
    device = world.devices[2]
    device.line.delay_us = 90_000_000  # the hub's word that it is over takes so long
    world.rotate()
    world.advance(5_000)
    assert (world.hub.epoch, device.epoch, device.view.epoch) == (2, 1, 1)
    device.view.learn(world.hub.disk.roster[device.view.length :])
    world.record(device)
    world.advance(62_000)  # what is new goes by now
    device.line.delay_us = 0
    wrong = [one for one in world.finish().violations if "and knows of epoch 2" in one]
    assert bool(wrong) == (route is StayingRoute)


@pytest.mark.parametrize("kind", [SilentDevice, CarelessDevice])
def test_a_text_that_is_not_found_where_it_could_be_is_noticed(kind: type[Session]) -> None:
    report = simulate(replace(settings(1), references=True, hours=2), device(kind))
    assert any("texts of references were not found" in one for one in report.violations)


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


def test_a_restored_hub_is_given_back_the_roster_that_it_lost() -> None:
    world = Simulation(settings(1))
    world.start()
    world.advance(60_000)
    image = world.hub.back_up()
    world.rotate()
    world.advance(60_000)
    world.record(world.devices[2])
    world.advance(120_000)
    assert world.hub.epoch == 2
    world.hub.restore(image)
    assert world.hub.epoch == 1
    report = world.finish()
    assert report.passed, report.explanation()
    assert report.epochs == 2


def test_who_is_about_to_be_made_a_reader_when_all_heals_is_a_member_in_the_end() -> None:
    world = Simulation(settings(1))
    world.start()
    world.advance(60_000)
    world.devices[0].line.cut()
    world.set_role(world.devices[2], "reader")
    world.record(world.devices[2])
    report = world.finish()
    assert report.passed, report.explanation()
    assert world.devices[2].role == "member"


def test_an_epoch_that_is_over_and_cannot_be_read_is_read_later() -> None:
    world = Simulation(settings(1))
    world.start()
    world.advance(60_000)
    device = world.devices[2]
    device.line.delay_us = 2_000_000
    world.rotate()
    while not device.past:
        world.advance(100)
    device.line.cut()
    device.line.up = True
    while device.epoch != 2:
        world.advance(100)
    assert list(device.route.unread()) == [1]
    assert not device.settled
    report = world.finish()
    assert report.passed, report.explanation()
    assert device.disk.read.epochs == {1}
