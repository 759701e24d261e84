"""What crosses the wire and stays in the document, across simulated devices."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_protocol.events import Event
from localmem_protocol.parcels import Context, Parcel, decode_parcel, encode_parcel
from localmem_protocol.simulation import World
from support.events import DEVICE, events

SOURCES = sorted(Path(__file__).resolve().parent.parent.rglob("*.py"))


def snippets(count: int) -> list[str]:
    """Pieces of about 200 characters of this repository's tests."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    return [text[i * 200 : i * 200 + 200] + f"#{i}" for i in range(count)]


def world_with(count: int, per_batch: int) -> World:
    world = World(3)
    world.settle()
    for number, snippet in enumerate(snippets(count)):
        log = world.devices[number // per_batch % 3].log
        world.now_ms += 60_000
        recorded = log.record(snippet, world.now_ms)
        world.recorded[recorded.id] = recorded
        if number % per_batch == per_batch - 1:
            world.settle()
    world.settle()
    return world


@pytest.mark.parametrize(("per_batch", "share"), [(1, 0.85), (10, 0.55), (40, 0.45)])
def test_the_document_is_a_fraction_of_the_json(per_batch: int, share: float) -> None:
    world = world_with(120, per_batch)
    plain = sum(len(msgspec.json.encode(event)) for event in world.recorded.values())
    document = world.devices[0].session.replica.export()
    assert len(world.devices[0].log.events) == 120
    assert len(document) < share * plain


def test_an_evicting_world_stays_flat_for_good() -> None:
    world = World(3, array_bytes_max=1500)
    world.settle()
    sizes = []
    for number in range(600):
        world.record(number % 3, f"event {number} " * 6)
        world.settle()
        sizes.append(len(world.devices[0].session.replica.export()))
    assert max(sizes[300:]) <= 1.05 * max(sizes[:300])


@given(st.lists(events(), min_size=1, max_size=40))
def test_batches_are_never_larger_than_their_events_as_json(batch: list[Event]) -> None:
    plain, _ = encode_parcel(Parcel(tuple(batch)), Context.of(DEVICE))
    assert len(plain) < len(msgspec.json.encode(batch))
    assert list(decode_parcel(plain, Context.of(DEVICE))[0].events) == batch
