"""Another encoder: every event is encoded anew, newest first, and nothing is lost on the way."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event as Flag
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import localmem_minilm
from localmem_node.client import DaemonClient
from localmem_node.commit_pipeline import UNSYNCED_MAX
from localmem_node.config import EVICTION_DEFAULT
from localmem_node.encoders import NoEncoder
from localmem_node.engine import Engine
from localmem_node.errors import NodeError
from localmem_node.seams import Disk, Encoder
from localmem_node.store.opening import open_event_store
from localmem_node.store.records import encoder_id
from localmem_node.system import SystemRandom
from localmem_protocol.errors import EventError
from localmem_protocol.events import Event
from support.daemon import daemons_of, environment, localmem
from support.events import draft
from support.fault_disk import FaultDisk
from support.hashing_encoder import HashingEncoder
from support.node import MIB, StandingClock
from support.seeded import SeededRandom
from support.store_keys import FixedKeyStore

EVENTS = 600


class StoppingEncoder(HashingEncoder):
    """Encodes so many texts, then waits until `go_on` is set; `stopped` says that it does."""

    def __init__(self, dimensions: int, texts: int) -> None:
        super().__init__(dimensions)
        self._texts = texts
        self.stopped, self.go_on = Flag(), Flag()

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        if len(self.encoded) >= self._texts and "of many" in texts[0]:
            self.stopped.set()
            assert self.go_on.wait(60)
        return super().encode(texts)


def open_node(
    path: Path,
    encoder: Encoder,
    *,
    size: int = 2 * MIB,
    disk: Disk | None = None,
    eviction: str = EVICTION_DEFAULT,
) -> Engine:
    keystore = FixedKeyStore()
    store = open_event_store(path, keystore, SystemRandom(), size=size, disk=disk)
    clock, random = StandingClock(), SystemRandom()
    return Engine(store, encoder, clock, keystore=keystore, random=random, eviction=eviction)


def record(engine: Engine, first: int, count: int) -> None:
    for start in range(first, first + count, 50):
        numbers = range(start, min(start + 50, first + count))
        engine.record([draft(snippet=f"number{number} of many", kind="note") for number in numbers])


def filled(path: Path, count: int, *, dimensions: int = 64, disk: Disk | None = None) -> None:
    engine = open_node(path, HashingEncoder(dimensions), disk=disk)
    record(engine, 0, count)
    engine.drain()
    engine.close()


def encoded_with(path: Path, encoder: HashingEncoder, *, size: int = 2 * MIB) -> Engine:
    engine = open_node(path, encoder, size=size)
    engine.drain()
    return engine


def ids(engine: Engine) -> set[str]:
    return {event.id for event in everything(engine)}


def everything(engine: Engine) -> list[Event]:
    events: list[Event] = []
    after = None
    while True:
        page, after = engine.page(after, 1000)
        events += page
        if after is None:
            return events


def made_by(path: Path) -> dict[bytes, int]:
    """Vectors of live events in a closed store, by encoder."""
    found: dict[bytes, int] = {}
    with open_event_store(path, FixedKeyStore(), SystemRandom()) as store:
        for encoder, ordinals, _ in store.vectors.records():
            found[encoder] = found.get(encoder, 0) + len(ordinals)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.localmem"


def test_meanwhile_events_are_found_by_words_and_by_the_vectors_that_there_are(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    filled(path, EVENTS)
    encoder = StoppingEncoder(32, 100)
    engine = open_node(path, encoder)
    assert encoder.stopped.wait(60)
    status = engine.status()["encoder"]
    assert status["model"] == "hashing-32"
    assert status["replaces"] == ["hashing-64"]
    assert (status["encoded"], status["waiting"]) == (100, EVENTS - 100)
    assert f"number{EVENTS - 4} of many" in encoder.encoded[0]  # the newest first
    assert engine.query_recent(1, "find number3 please")[0].event.snippet == "number3 of many"
    assert engine.query_recent(1, "of number599")[0].event.snippet == "number599 of many"
    encoder.go_on.set()
    engine.drain()
    status = engine.status()["encoder"]
    assert (status["encoded"], status["waiting"], status["replaces"]) == (EVENTS, 0, [])
    engine.close()
    assert "in place of hashing-64" in caplog.text
    assert f"all {EVENTS} events are encoded with hashing-32" in caplog.text


def test_it_goes_on_where_a_power_cut_left_it_and_knows_what_it_replaces(path: Path) -> None:
    disk = FaultDisk(SeededRandom(1))
    filled(path, EVENTS, disk=disk)
    stopping = StoppingEncoder(32, UNSYNCED_MAX + 40)
    engine = open_node(path, stopping, disk=disk)
    assert stopping.stopped.wait(60)
    image = disk.after_power_cut()
    stopping.go_on.set()
    engine.close()
    other = StoppingEncoder(32, 0)
    engine = open_node(path, other, disk=FaultDisk(SeededRandom(2), image))
    status = engine.status()["encoder"]
    assert status["replaces"] == ["hashing-64"]
    assert UNSYNCED_MAX <= status["encoded"] <= UNSYNCED_MAX + 40
    other.go_on.set()
    engine.drain()
    assert len(other.encoded) == EVENTS - status["encoded"]
    engine.close()


def test_going_back_half_way_uses_the_vectors_that_are_there(path: Path) -> None:
    filled(path, EVENTS)
    stopping = StoppingEncoder(32, 300)
    engine = open_node(path, stopping)
    assert stopping.stopped.wait(60)
    engine.record([draft(snippet="while the other was in use", kind="note")])
    stopping.go_on.set()
    engine.close()
    back = HashingEncoder(64)
    engine = encoded_with(path, back)
    [text] = back.encoded
    assert "while the other was in use" in text
    engine.close()
    again = HashingEncoder(32)
    engine = encoded_with(path, again)
    assert len(again.encoded) <= EVENTS + 1 - 300
    engine.close()


@pytest.mark.parametrize("dimensions", [60, 64, 16])
def test_a_full_ring_keeps_its_events_and_is_rid_of_the_old_vectors(
    path: Path, dimensions: int
) -> None:
    first = HashingEncoder(65)
    engine = open_node(path, first, size=MIB)
    number = 0
    while not engine.evicted:
        record(engine, number, 500)
        engine.drain()
        number += 500
    before = everything(engine)
    engine.close()
    other = HashingEncoder(dimensions)
    engine = encoded_with(path, other)
    kept = everything(engine)
    assert len(kept) >= 0.98 * len(before)
    assert kept == before[-len(kept) :]
    assert engine.status()["encoder"]["encoded"] == len(kept)
    engine.close()
    assert made_by(path) == {encoder_id(other.fingerprint): len(kept)}
    # The vectors lie beside their events: a turn of the ring keeps as many events as before.
    engine = encoded_with(path, HashingEncoder(dimensions))
    least = len(engine)
    for start in range(number, number + len(before), 500):
        record(engine, start, 500)
        engine.drain()
        least = min(least, len(engine))
    assert least > 0.9 * len(before)
    engine.close()


def test_vectors_too_large_for_all_events_push_out_the_oldest(path: Path) -> None:
    engine = open_node(path, HashingEncoder(16), size=MIB, eviction="fifo")
    number = 0
    while not engine.evicted:
        record(engine, number, 500)
        engine.drain()
        number += 500
    before = everything(engine)
    engine.close()
    engine = open_node(path, HashingEncoder(384), eviction="fifo")
    engine.drain()
    kept = everything(engine)
    assert 100 < len(kept) < len(before)
    assert kept == before[-len(kept) :]
    assert engine.status()["encoder"]["encoded"] == len(kept)
    engine.close()


def test_long_vectors_of_many_pinned_events_do_not_crowd_the_ring(path: Path) -> None:
    engine = open_node(path, HashingEncoder(64), size=MIB)
    pinned: list[Event] = []
    with contextlib.suppress(EventError):  # until no more can be pinned
        while True:
            text = f"number{len(pinned)} of many"
            pinned += engine.record([draft(snippet=text, kind="note", pinned=True)])
    engine.drain()
    engine.close()
    engine = open_node(path, HashingEncoder(2048), size=MIB)
    engine.drain()
    for start in range(0, 3000, 500):
        record(engine, 20_000 + start, 500)
        engine.drain()
    assert engine.evicted
    assert {one.id for one in pinned} <= ids(engine)
    status = engine.status()["encoder"]
    assert (status["waiting"], status["encoded"]) == (0, len(engine))
    engine.close()
    back = HashingEncoder(2048)
    encoded_with(path, back, size=MIB).close()
    assert 0 < len(back.encoded) <= len(pinned)  # only of these no vector was kept


def test_an_encoder_that_cannot_be_used_costs_no_vector(path: Path) -> None:
    filled(path, 50)
    engine = open_node(path, NoEncoder("org/model", "no such package"))
    with pytest.raises(NodeError, match="no such package"):
        engine.drain()
    assert engine.query_recent(1, "number7")[0].event.snippet == "number7 of many"
    assert engine.maintenance.forget([engine.recent(1)[0].event.id]) == 1
    engine.close()
    back = HashingEncoder(64)
    engine = encoded_with(path, back)
    assert len(engine) == 49
    assert back.encoded == []
    engine.close()


def test_forgetting_half_way_leaves_the_old_vectors_behind_and_keeps_the_new(path: Path) -> None:
    filled(path, EVENTS)
    stopping = StoppingEncoder(32, 300)
    engine = open_node(path, stopping)
    assert stopping.stopped.wait(60)
    engine.maintenance.forget([engine.recent(1)[0].event.id])
    stopping.go_on.set()
    engine.drain()
    assert engine.status()["encoder"]["encoded"] == EVENTS - 1
    engine.close()
    assert made_by(path) == {encoder_id("hashing-32"): EVENTS - 1}
    again = HashingEncoder(32)
    encoded_with(path, again).close()
    assert again.encoded == []


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose daemons do not outlive the test."""
    home = tmp_path / "home"
    yield home
    for pid in daemons_of(home):
        os.kill(pid, signal.SIGKILL)


def test_a_daemon_killed_half_way_goes_on_and_answers_all_the_while(home: Path) -> None:
    model = home.parent / "mine"
    model.mkdir()
    shutil.copy(localmem_minilm.MODEL_PATH, model / "model.onnx")
    shutil.copy(localmem_minilm.TOKENIZER_PATH, model / "tokenizer.json")
    chosen: dict[str, Any] = {"LOCALMEM_ENCODER": "onnx", "LOCALMEM_ENCODER_MODEL": str(model)}
    events = [
        {"timestamp": number, "kind": "note", "snippet": f"retries of job {number}"}
        for number in range(1, EVENTS + 1)
    ]
    with DaemonClient(environment(home)) as client:
        client.ensure_running()
        for start in range(0, EVENTS, 100):
            client.record(events[start : start + 100])
        while client.status()["encoder"]["waiting"]:
            pass
        client.stop()
    with DaemonClient(environment(home, **chosen)) as client:
        state = client.ensure_running()
        while (encoder := client.status()["encoder"])["encoded"] < UNSYNCED_MAX + 8:
            found = client.query("how often is job 7 tried", 1)["events"][0]
            assert found["snippet"].startswith("retries of job")
        assert encoder["model"].startswith("mine/")
        assert encoder["replaces"] == [localmem_minilm.FINGERPRINT]
        shown = localmem(home, "status", **chosen).stdout.decode()
        assert f"in place of {localmem_minilm.FINGERPRINT}" in shown
        assert f"of {EVENTS} events for their vector; " in shown
        os.kill(state.pid, signal.SIGKILL)
        client.ensure_running()
        encoder = client.status()["encoder"]
        assert encoder["encoded"] >= UNSYNCED_MAX
        assert encoder["replaces"] == [localmem_minilm.FINGERPRINT]
        while (encoder := client.status()["encoder"])["waiting"]:
            assert client.query("how often is job 7 tried", 1)["events"]
        assert (encoder["encoded"], encoder["replaces"]) == (EVENTS, [])
        client.stop()
