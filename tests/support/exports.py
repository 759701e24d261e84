"""Exports for tests: as text, sealed cheaply, and damaged."""

from __future__ import annotations

from collections.abc import Sequence

from localmem_node.results import event_json
from localmem_node.store.layout import Cost
from localmem_node.transfer.lines import LinesWriter
from localmem_node.transfer.seal import CHUNK_BYTES, HEADER_BYTES, TAG_BYTES, seal_under
from localmem_protocol.events import Event
from support.events import DEVICE, MOMENT
from support.seeded import SeededRandom

CHEAP = Cost(memory_kib=32, iterations=1, lanes=1)
PASSPHRASE = "correct horse"


def plain(events: Sequence[Event]) -> bytes:
    """An export of events, in their order."""
    written: list[bytes] = []
    lines = LinesWriter(written.append)
    lines.header(DEVICE, MOMENT)
    for event in sorted(events, key=lambda one: one.order):
        lines.event(event_json(event))
    lines.finish()
    return b"".join(written)


def sealed(text: bytes, passphrase: str = PASSPHRASE, seed: int = 0) -> bytes:
    """Any bytes under a passphrase."""
    written: list[bytes] = []
    sealer = seal_under(passphrase, written.append, SeededRandom(seed), CHEAP)
    sealer.write(text)
    sealer.finish()
    return b"".join(written)


def chunks(data: bytes) -> list[bytes]:
    """The header of a sealed export, and its chunks."""
    size = CHUNK_BYTES + TAG_BYTES
    starts = range(HEADER_BYTES, len(data), size)
    return [data[:HEADER_BYTES], *(data[start : start + size] for start in starts)]
