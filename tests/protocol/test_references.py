from collections.abc import Iterable

from hypothesis import given

from localmem_protocol.envelope import PoolKey
from localmem_protocol.events import Event
from localmem_protocol.references import (
    TEXT_HASH_BYTES,
    Reference,
    matches,
    refer,
    refer_where,
    resolve,
    restore,
    texts_at,
)
from support.events import event, events, reference

KEY = PoolKey("ab" * 16, 1, bytes(32)).reference_key()
LINES = ["one", "two", "three"]


class Checkout:
    """One file's lines, whatever the path."""

    def texts(self, reference: Reference) -> Iterable[str]:
        return texts_at(LINES, reference.selection_range)


@given(events())
def test_an_event_at_a_place_comes_back_by_its_text_and_by_no_other(one: Event) -> None:
    made = refer(one, KEY)
    if one.file_path is None:
        assert made is None
        return
    assert made is not None
    assert len(made.text_hash) == TEXT_HASH_BYTES
    assert restore(made, one.snippet, KEY) == one
    assert restore(made, one.snippet + " ", KEY) is None


def test_the_hash_needs_the_key_of_the_pool_and_epoch() -> None:
    one = event(1)
    made = reference(one, KEY)
    assert matches(made, one.snippet, KEY)
    for pool, epoch, key in (("ab" * 16, 1, b"\x01"), ("cd" * 16, 1, b"\x00")):
        other = PoolKey(pool, epoch, key * 32).reference_key()
        assert not matches(made, one.snippet, other)


def test_what_is_not_resolvable_travels_whole() -> None:
    batch = [event(1), event(2), event(3, kind="prompt", filePath=None, selectionRange=None)]
    whole, references = refer_where(batch, KEY, lambda one: one.sequence != 2)
    assert whole == batch[1:]
    assert references == [reference(batch[0], KEY)]


def test_texts_are_found_with_and_without_the_last_line_end_and_the_rest_is_left() -> None:
    found = [
        event(1, selectionRange=[1, 2], snippet="one\ntwo"),
        event(2, selectionRange=[3, 3], snippet="three\n"),
    ]
    lost = [
        event(3, selectionRange=[1, 1], snippet="two"),
        event(4, selectionRange=[3, 4], snippet="three\nfour"),
    ]
    references = [reference(one, KEY) for one in [*found, *lost]]
    resolution = resolve(references, Checkout(), KEY)
    assert list(resolution.events) == found
    assert list(resolution.unresolved) == references[2:]


def test_a_text_that_no_event_can_have_is_not_taken_whatever_it_hashes_to() -> None:
    blank = reference(event(1), KEY)
    forged = Reference(
        **{name: getattr(blank, name) for name in Reference.__struct_fields__} | {"text_hash": b""}
    )
    assert restore(forged, "", KEY) is None
