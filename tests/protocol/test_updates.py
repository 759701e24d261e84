import itertools

import pytest
from pycrdt import Array, Doc, Map, Text

from localmem_protocol.errors import UpdateError
from localmem_protocol.limits import CLOCK_MAX, STEP_BYTES
from localmem_protocol.updates import (
    Item,
    Update,
    decode_state_vector,
    decode_update,
    encode_state_vector,
    encode_update,
    in_order,
    split,
)
from support.documents import ROOT, document


def foreign_updates() -> list[bytes]:
    texts: Doc = Doc()  # type: ignore[type-arg]
    texts["text"] = Text("hello")
    maps: Doc = Doc()  # type: ignore[type-arg]
    maps["map"] = Map({"key": b"value"})
    numbers: Doc = Doc()  # type: ignore[type-arg]
    numbers["array"] = Array([1, 2])
    nested: Doc = Doc()  # type: ignore[type-arg]
    nested["array"] = Array([Map({"a": b"b"})])
    return [doc.get_update() for doc in (texts, maps, numbers, nested)]


@pytest.mark.parametrize("data", foreign_updates(), ids=["text", "map", "numbers", "nested"])
def test_anything_but_arrays_of_bytes_is_refused(data: bytes) -> None:
    with pytest.raises(UpdateError):
        decode_update(data)


COLLECTED = b"\x01\x01\x07\x00\x00\x05\x00"


@pytest.mark.parametrize(
    "data",
    [
        COLLECTED,
        encode_update(Update({7: [Item(0, CLOCK_MAX + 1, None, root=ROOT)]})),
        encode_update(Update({7: [Item(CLOCK_MAX, 1, (b"x",), origin=(7, 0))]})),
        encode_update(Update({7: [Item(CLOCK_MAX + 1, 1, (b"x",), origin=(7, 0))]})),
        encode_update(Update({7: [Item(3, 1, (b"x",), origin=(7, CLOCK_MAX + 1))]})),
        encode_update(Update({}, {7: [(0, CLOCK_MAX + 1)]})),
        encode_update(Update({}, {7: [(CLOCK_MAX + 1, 1)]})),
    ],
    ids=["collected", "run", "end", "clock", "origin", "delete", "deleted-clock"],
)
@pytest.mark.parametrize("stored", [False, True])
def test_what_the_library_cannot_count_is_refused(data: bytes, stored: bool) -> None:
    with pytest.raises(UpdateError):
        decode_update(data, stored=stored)


def test_the_highest_clock_is_one_that_the_library_counts() -> None:
    update = Update({7: [Item(0, CLOCK_MAX, None, root=ROOT)]}, {7: [(0, CLOCK_MAX)]})
    doc: Doc = Doc()  # type: ignore[type-arg]
    doc.apply_update(encode_update(update))
    assert decode_update(doc.get_update()) == update
    assert decode_state_vector(doc.get_state()) == {7: CLOCK_MAX}
    with pytest.raises(UpdateError):
        decode_state_vector(encode_state_vector({7: CLOCK_MAX + 1}))


@pytest.mark.parametrize("step", [1, -1], ids=["ascending", "descending"])
def test_items_come_after_what_they_build_on_whatever_their_clients_are(step: int) -> None:
    clients = list(range(1, 3001))[::step]
    items = {clients[0]: [Item(0, 1, (b"x",), root=ROOT)]}
    for before, client in itertools.pairwise(clients):
        items[client] = [Item(0, 2, (b"x", b"y"), origin=(before, 0))]
        items[before].append(Item(items[before][-1].end, 1, (b"z",), right=(client, 1)))
    seen: dict[int, int] = {}
    for client, item in in_order(items):
        for neighbour in (item.origin, item.right):
            assert neighbour is None or seen[neighbour[0]] > neighbour[1]
        seen[client] = item.end
    assert seen == {client: run[-1].end for client, run in items.items()}


def test_items_that_wait_for_each_other_are_refused() -> None:
    circle = {1: [Item(0, 1, (b"x",), origin=(2, 1))], 2: [Item(0, 2, None, right=(1, 0))]}
    with pytest.raises(UpdateError, match="wait for each other"):
        list(in_order(circle))
    with pytest.raises(UpdateError, match="its own future"):
        list(in_order({1: [Item(0, 1, (b"x",), origin=(1, 0))]}))


def test_a_truncated_update_is_refused_at_every_length() -> None:
    data = document(5, 2).get_update()
    for size in range(len(data)):
        with pytest.raises(UpdateError):
            decode_update(data[:size])
    with pytest.raises(UpdateError):
        decode_update(data + b"\x00")


def test_a_state_vector_is_the_one_of_yrs() -> None:
    assert decode_state_vector(document(4).get_state()) == {7: 4}


def test_a_piece_holds_one_item_at_least_and_not_much_more_than_asked() -> None:
    update = decode_update(document(20).get_update())
    assert len(list(split(update, 1))) == 20
    assert len(list(split(update, 10_000))) == 1
    assert list(split(Update(), 10)) == [Update()]


def test_a_stored_document_may_be_larger_than_a_sent_one() -> None:
    doc = document(1)
    for _ in range(9):
        doc.get(ROOT, type=Array).append(bytes(1_000_000))
    data = doc.get_update()
    with pytest.raises(UpdateError, match="limit"):
        decode_update(data)
    update = decode_update(data, stored=True)
    for piece in split(update, STEP_BYTES):
        decode_update(encode_update(piece))
