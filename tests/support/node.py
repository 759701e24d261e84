"""Nodes for tests: engines over real stores, with a clock that stands and an encoder in no time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Event as Flag

import numpy as np
import numpy.typing as npt

from localmem_node.capture.admission import Admission
from localmem_node.config import EVICTION_DEFAULT
from localmem_node.engine import Engine
from localmem_node.seams import Disk, Encoder
from localmem_node.store.event_store import EventStore
from localmem_node.store.opening import open_event_store
from localmem_protocol.seams import Clock
from support.hashing_encoder import HashingEncoder
from support.seeded import SeededRandom
from support.store_keys import FixedKeyStore

NOW_MS = 1_760_000_000_000
MIB = 1024 * 1024


class StandingClock:
    """Implements `Clock`; moves when it is told to."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000


class GatedEncoder(HashingEncoder):
    """Encodes nothing before `gate` is set; `asked` is set when it is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Flag()
        self.asked = Flag()

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.asked.set()
        assert self.gate.wait(60)
        return super().encode(texts)


class BrokenEncoder(HashingEncoder):
    """Cannot load its model."""

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        raise OSError("model.onnx: no such file")


def open_store(
    path: Path, *, size: int = 2 * MIB, seed: int = 0, disk: Disk | None = None
) -> EventStore:
    """A real store under a key that costs nothing."""
    return open_event_store(path, FixedKeyStore(), SeededRandom(seed), size=size, disk=disk)


def open_node(
    path: Path,
    *,
    size: int = 2 * MIB,
    encoder: Encoder | None = None,
    clock: Clock | None = None,
    admission: Admission | None = None,
    disk: Disk | None = None,
    seed: int = 0,
    eviction: str = EVICTION_DEFAULT,
) -> Engine:
    """An engine over a real store."""
    store = open_store(path, size=size, seed=seed, disk=disk)
    encoder, clock = encoder or HashingEncoder(), clock or StandingClock()
    return Engine(store, encoder, clock, admission, eviction=eviction)
