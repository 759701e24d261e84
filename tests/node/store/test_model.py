"""The store against a plain list: whatever is done to it, both hold the same."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from localmem_node.errors import StoreError
from localmem_node.store.event_store import EventStore
from localmem_protocol.events import Event
from support.events import event
from support.fault_disk import FaultDisk
from support.seeded import SeededRandom
from support.store_keys import FixedKeyStore

UNIT = np.full(16, 0.25, np.float32)


class StoreMachine(RuleBasedStateMachine):
    """Appends, commits, reopens and crashes at rest; the model is a list of (ordinal, event)."""

    @initialize(size=st.sampled_from([8192, 10240, 40_000, 1024 * 1024]), seed=st.integers(0, 99))
    def create(self, size: int, seed: int) -> None:
        self.random = SeededRandom(seed)
        self.disk = FaultDisk(self.random)
        self.number = 0
        self.model: list[tuple[int, Event]] = []
        self.vectors: set[int] = set()
        self.last = 0
        self.size = size
        self.open()

    def open(self) -> None:
        self.store = EventStore.open(
            Path("ring"), FixedKeyStore(), self.random, size=self.size, disk=self.disk
        )

    def drop(self, evicted: list[int]) -> None:
        """What left are the oldest, and only they."""
        assert [ordinal for ordinal, _ in self.model[: len(evicted)]] == evicted
        del self.model[: len(evicted)]

    @rule(lengths=st.lists(st.sampled_from([1, 30, 200, 900, 2500, 30_000]), max_size=6))
    def append(self, lengths: list[int]) -> None:
        events = []
        for length in lengths:
            self.number += 1
            events.append(event(self.number, snippet=self.random.token_bytes(length).hex()))
        try:
            ordinals, evicted = self.store.append(events)
        except StoreError as error:
            assert "make the store larger" in str(error)  # noqa: PT017 - the model says when
            assert max(lengths) * 2 > self.size // 2
            return
        self.model.extend(zip(ordinals, events, strict=True))
        self.drop(evicted)
        assert ordinals == sorted(ordinals)
        assert all(ordinal > self.last for ordinal in ordinals)
        self.last = max([self.last, *ordinals])

    @rule(data=st.data())
    def append_vectors(self, data: st.DataObject) -> None:
        ordinals = data.draw(st.lists(st.integers(1, self.last + 2), max_size=25, unique=True))
        live = {ordinal for ordinal, _ in self.model}
        self.drop(self.store.append_vectors([(ordinal, UNIT) for ordinal in ordinals]))
        if self.store.keeps_vectors:
            self.vectors |= live & set(ordinals)

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

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert list(self.store.scan()) == self.model
        live = {ordinal for ordinal, _ in self.model}
        assert {ordinal for ordinal, _ in self.store.vectors()} == self.vectors & live
        stats = self.store.stats()
        assert stats.events == len(self.model)
        assert stats.damaged == 0
        assert stats.oldest_ordinal == (self.model[0][0] if self.model else None)
        assert stats.newest_ordinal == (self.model[-1][0] if self.model else None)
        assert stats.used_bytes <= stats.size_bytes == self.size


TestStore = StoreMachine.TestCase
TestStore.settings = settings(deadline=None, stateful_step_count=30)
