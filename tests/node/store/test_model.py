"""The store against a plain list: whatever is done to it, both hold the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import numpy as np
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from localmem_node.errors import PinsFull, StoreError
from localmem_node.store.opening import open_event_store
from localmem_node.store.reports import Appended
from localmem_protocol.events import Event
from support.events import event
from support.fault_disk import FaultDisk
from support.seeded import SeededRandom
from support.store_keys import FixedKeyStore

UNITS = np.eye(16, dtype=np.float32)
"""Which one an event has follows from its number."""


class StoreMachine(RuleBasedStateMachine):
    """Appends, pins, forgets, commits, reopens and crashes at rest.

    The model is a dictionary of ordinals and events, in the order of the ordinals.
    """

    @initialize(
        size=st.sampled_from([8192, 10240, 40_000, 1024 * 1024]),
        seed=st.integers(0, 99),
        generosity=st.sampled_from([0.0, 0.3]),
    )
    def create(self, size: int, seed: int, generosity: float) -> None:
        self.random = SeededRandom(seed)
        self.disk = FaultDisk(self.random)
        self.number = 0
        self.model: dict[int, Event] = {}
        self.vectors: set[int] = set()
        self.forgotten: set[str] = set()
        self.last = 0
        self.size = size
        self.generosity = generosity
        self.open()

    def open(self) -> None:
        self.store = open_event_store(
            Path("ring"), FixedKeyStore(), self.random, size=self.size, disk=self.disk
        )
        self.store.set_keep(lambda ordinal, size: self.random.chance(self.generosity))

    def follow(self, appended: Appended, events: Sequence[Event] = ()) -> None:
        """Take in what an append did."""
        self.model |= dict(zip(appended.ordinals, events, strict=True))
        for old, new in appended.moved:
            self.model[new] = self.model.pop(old)
        gone = [self.model.pop(ordinal) for ordinal in appended.evicted]
        assert not any(one.pinned for one in gone)
        if not appended.moved and not self.generosity:
            assert all(ordinal < min(self.model) for ordinal in appended.evicted if self.model)
        assert appended.ordinals == sorted(appended.ordinals)
        assert all(ordinal > self.last for ordinal in appended.ordinals)
        self.last = max([self.last, *self.model])

    @rule(lengths=st.lists(st.sampled_from([1, 30, 200, 900, 2500, 30_000]), max_size=6))
    def append(self, lengths: list[int]) -> None:
        events = []
        for length in lengths:
            self.number += 1
            events.append(event(self.number, snippet=self.random.token_bytes(length).hex()))
        try:
            appended = self.store.append(events)
        except StoreError as error:
            assert "make the store larger" in str(error)  # noqa: PT017 - the model says when
            assert max(lengths) * 2 > self.size // 4
            return
        self.follow(appended, events)

    @rule(data=st.data(), pinned=st.booleans())
    def pin(self, data: st.DataObject, pinned: bool) -> None:
        if not self.model:
            return
        ordinal = data.draw(st.sampled_from(sorted(self.model)))
        other = msgspec.structs.replace(self.model[ordinal], pinned=pinned)
        try:
            appended = self.store.replace(ordinal, other)
        except PinsFull:
            assert pinned
            return
        self.follow(appended)
        self.model[appended.moved[-1][1]] = other

    @rule(data=st.data(), stranger=st.booleans())
    def forget(self, data: st.DataObject, stranger: bool) -> None:
        ordinals = data.draw(
            st.lists(st.sampled_from(sorted(self.model)), max_size=3) if self.model else st.just([])
        )
        ids = [self.model[ordinal].id for ordinal in ordinals]
        if stranger:
            self.number += 1
            ids.append(event(self.number).id)
        self.forgotten |= set(ids)
        self.follow(self.store.forgotten.forget(ids))
        self.model = {o: one for o, one in self.model.items() if one.id not in ids}

    @rule(data=st.data())
    def append_vectors(self, data: st.DataObject) -> None:
        ordinals = data.draw(st.lists(st.integers(1, self.last + 2), max_size=25, unique=True))
        live = set(self.model)
        offered = [
            (ordinal, UNITS[self.model[ordinal].sequence % 16 if ordinal in live else 0])
            for ordinal in ordinals
        ]
        appended = self.store.vectors.append(offered)
        self.follow(appended)
        if self.store.geometry.keeps_vectors:
            gone = {old for old, _ in appended.moved} | set(appended.evicted)
            self.vectors |= live & set(ordinals) - gone

    @rule()
    def commit(self) -> None:
        self.store.commit()

    @rule(payload=st.binary(max_size=200))
    def checkpoint(self, payload: bytes) -> None:
        kept = self.store.write_checkpoint(payload)
        assert kept == (self.size >= 1024 * 1024)
        if kept:
            found = self.store.read_checkpoint()
            assert found is not None
            assert found[0] >= self.last
            assert found[1] == payload

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.open()

    @rule()
    def power_cut_after_commit(self) -> None:
        self.store.commit()
        self.disk = FaultDisk(self.random, self.disk.after_power_cut())
        self.open()

    @rule()
    def verify(self) -> None:
        assert self.store.verify() == 0

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert dict(self.store.scan()) == self.model
        found = dict(self.store.vectors.by_event())
        assert set(found) <= self.vectors & set(self.model)
        assert all(float(v @ UNITS[self.model[o].sequence % 16]) > 0.9 for o, v in found.items())
        if not self.generosity and not any(one.pinned for one in self.model.values()):
            assert set(found) == self.vectors & set(self.model)
        assert self.store.ids(list(self.model)) == [one.id for one in self.model.values()]
        assert len(self.store.forgotten) <= len(self.forgotten)
        assert not any(one.id in self.store.forgotten for one in self.model.values())
        stats = self.store.stats()
        assert stats.events == len(self.model)
        assert stats.damaged == 0
        assert stats.oldest_ordinal == min(self.model, default=None)
        assert stats.newest_ordinal == max(self.model, default=None)
        assert stats.used_bytes <= stats.size_bytes == self.size
        pinned = [o for o, one in self.model.items() if one.pinned]
        geometry = self.store.geometry
        pins = sum(geometry.kept_cost(0x41, self.store.size_of(ordinal)) for ordinal in pinned)
        assert pins <= geometry.record_space < self.size / 2
        assert pins == self.store.kept_bytes or (self.forgotten and pins < self.store.kept_bytes)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(deadline=None, stateful_step_count=30)
