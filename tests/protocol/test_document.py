"""What the strict check exists for: the CRDT library itself, given what it cannot take in."""

import pytest

from localmem_protocol.document import Document
from localmem_protocol.errors import MergeError, UpdateError
from localmem_protocol.updates import Item, Update, covers, decode_update, encode_update

DEVICE = "00112233445566aa"


def append(*contents: bytes, clock: int = 0) -> Update:
    root = None if clock else DEVICE
    origin = (1, clock - 1) if clock else None
    return Update({1: [Item(clock, len(contents), contents, origin, root=root)]})


def merge(document: Document, update: Update, data: bytes | None = None) -> None:
    """Merge what was never checked."""
    owners = {client: DEVICE for client in update.items if client not in document.ledger}
    document.merge(data or encode_update(update), update, owners)


@pytest.fixture
def document() -> Document:
    document = Document()
    merge(document, append(b"a", b"b", b"c"))
    return document


@pytest.mark.parametrize(
    "unplaceable",
    [
        Update({1: [Item(3, 1, (b"x",), origin=(1, 3))]}),
        Update({1: [Item(3, 1, (b"x",), origin=(1, 2), right=(1, 3))]}),
        Update({1: [Item(3, 1, (b"x",), (1, 4)), Item(4, 1, (b"x",), (1, 3))]}),
        Update({1: [Item(3, 1, (b"x",), (5, 0))], 5: [Item(0, 1, (b"x",), (1, 3))]}),
        Update({1: [Item(4, 1, (b"x",), (1, 3))]}),
        Update({1: [Item(4, 1, None, (1, 3))]}),
        Update({1: [Item(3, 2**32, None, (1, 2))]}),
    ],
    ids=["itself", "right", "future", "circle", "gap", "deleted-gap", "panic"],
)
def test_what_the_library_holds_back_drops_or_panics_on_is_no_merge(
    document: Document, unplaceable: Update
) -> None:
    with pytest.raises(MergeError):
        merge(document, unplaceable)


def test_a_batch_that_goes_where_a_collected_one_was_is_no_merge(document: Document) -> None:
    collected = b"\x01\x01\x01\x03\x00\x05\x00"  # five clocks of client 1, from clock 3
    with pytest.raises(UpdateError, match="kind 0x00"):
        decode_update(collected)
    document._doc.apply_update(collected)
    with pytest.raises(MergeError):
        merge(document, Update({1: [Item(8, 1, (b"x",), origin=(1, 4))]}))


def test_what_is_there_or_deleted_is_a_merge(document: Document) -> None:
    merge(document, append(b"d", b"e", clock=3))
    merge(document, Update({1: [Item(5, 2, None, (1, 4))]}, {1: [(0, 2)]}))
    merge(document, Update({1: [Item(7, 2, (b"f", b"g"), (1, 6))]}, {1: [(7, 1)]}))
    assert [bytes(sealed) for sealed in document.array(DEVICE)] == [b"c", b"d", b"e", b"g"]
    assert document.deletes() == {1: [(0, 2), (5, 3)]}
    again = Document()
    again.load(document.export())
    again.verify()
    assert again.export() == document.export()


def test_a_delete_that_does_not_happen_is_no_merge(document: Document) -> None:
    with pytest.raises(MergeError):
        merge(document, Update({}, {1: [(0, 2)]}), data=encode_update(Update({}, {1: [(0, 1)]})))


def test_other_bytes_than_were_sent_are_no_merge(document: Document) -> None:
    sent, merged = append(b"d", clock=3), append(b"D", clock=3)
    sent.deletes[1] = merged.deletes[1] = [(0, 1)]
    with pytest.raises(MergeError):
        merge(document, sent, data=encode_update(merged))


def test_what_is_held_back_among_stored_updates_is_noticed(document: Document) -> None:
    document._doc.apply_update(encode_update(append(b"e", clock=4)))
    document.verify()
    document.ledger.note(append(b"d", b"e", clock=3), {})
    with pytest.raises(MergeError):
        document.verify()


@pytest.mark.parametrize(
    ("first", "length", "covered"),
    [(2, 3, True), (3, 1, True), (1, 2, False), (4, 2, False), (9, 1, True), (0, 1, False)],
)
def test_ranges_cover_what_lies_in_one_of_them(first: int, length: int, covered: bool) -> None:
    assert covers([(2, 3), (9, 1)], first, length) is covered
