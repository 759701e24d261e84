from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.errors import DamagedIndex
from localmem_node.retrieval.index import Hit, SearchIndex, text_for_encoding
from localmem_protocol.events import Event
from support.events import event, events
from support.hashing_encoder import HashingEncoder

_ENCODER = HashingEncoder()


def _index(*recorded: Event, encoded: bool = True) -> SearchIndex:
    index = SearchIndex(_ENCODER.dimensions)
    for slot, each in enumerate(recorded):
        index.add(slot, each)
        if encoded:
            index.put_vector(slot, _ENCODER.encode([text_for_encoding(each)])[0])
    return index


def _search(index: SearchIndex, query: str, k: int = 10, **options: Any) -> list[Hit]:
    return index.search(query, _ENCODER.encode([query])[0], k, **options)


def _slots(hits: list[Hit]) -> list[int]:
    return [hit.slot for hit in hits]


def test_the_event_with_the_words_of_the_query_comes_first() -> None:
    index = _index(
        event(1, snippet="def open_socket(): ..."),
        event(2, snippet="def parse_header(line): ..."),
        event(3, snippet="retries = 3"),
    )
    hits = _search(index, "parsing headers")
    assert hits[0].slot == 1
    assert hits[0].lexical > 0
    assert len(hits) == 3


def test_hits_come_best_first_and_explain_their_score() -> None:
    index = _index(*(event(number, snippet=f"alpha {'beta ' * number}") for number in range(1, 9)))
    hits = _search(index, "alpha beta")
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(0 <= hit.score <= 1 and -1.001 <= hit.dense <= 1.001 for hit in hits)


_KINDS = st.sampled_from(["prompt", "answer", "note", "edit", "read", "command", "error"])
_WORDS = st.lists(
    st.sampled_from(["alpha", "beta", "gamma", "delta", "socket"]), min_size=1, max_size=6
)


@given(st.lists(st.tuples(_KINDS, _WORDS, st.sampled_from([None, "a", "b"])), max_size=25))
def test_hits_of_bursts_come_best_first_too(made: list[tuple[str, list[str], str | None]]) -> None:
    recorded = [
        event(number, kind=kind, snippet=" ".join(words), session=session)
        for number, (kind, words, session) in enumerate(made, 1)
    ]
    for encoded in (True, False):
        hits = _search(_index(*recorded, encoded=encoded), "alpha beta", 20)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert all(0 <= hit.score <= 1 for hit in hits)
        assert len({hit.slot for hit in hits}) == len(hits)


def test_an_event_is_found_by_its_words_before_it_has_a_vector() -> None:
    index = _index(event(1, snippet="retry the upload"), event(2, snippet="close the file"))
    index.add(2, event(3, snippet="upload retries quickly"))
    assert _search(index, "upload retries quickly")[0].slot == 2
    assert index.encoded == 2


def test_an_event_is_found_by_its_meaning_without_a_word_in_common() -> None:
    index = _index(event(1, snippet="alpha"), event(2, snippet="beta"))
    target = _ENCODER.encode([text_for_encoding(event(2, snippet="beta"))])[0]
    assert index.search("unheard of", target, 1)[0].slot == 1


def test_without_a_vector_only_events_that_share_a_term_are_found() -> None:
    index = _index(event(1, snippet="socket"), event(2, snippet="poem"))
    assert _slots(index.search("socket", None, 10)) == [0]
    assert index.search("unheard of", None, 10) == []
    assert index.search("the of", None, 10) == []


def test_among_equals_the_newer_comes_first_whatever_its_slot() -> None:
    kinds = ("note", "prompt", "answer")  # of one kind they would be copies
    recorded = [
        event(
            number,
            snippet="same words",
            kind=kind,
            filePath=None,
            selectionRange=None,
            session=None,
        )
        for number, kind in zip((2, 9, 4), kinds, strict=True)
    ]
    for hits in (
        _search(_index(*recorded), "same words"),
        _index(*recorded, encoded=False).search("same words", None, 10),
    ):
        assert _slots(hits) == [1, 2, 0]


def test_near_copies_are_one_hit_and_the_newest_stands_for_them() -> None:
    recorded = [event(number, snippet="retry the upload twice") for number in (2, 9, 4)]
    (hit,) = _search(_index(*recorded), "upload")
    assert (hit.slot, hit.duplicates) == (1, 2)


def test_a_line_of_a_session_is_found_by_the_line_before_it() -> None:
    said = [
        event(1, snippet="what is the deadline of the parser?", kind="note", session="s"),
        event(2, snippet="friday at noon", kind="note", session="s"),
        event(3, snippet="friday is fish", kind="note", session="t"),
    ]
    hits = _search(_index(*said), "the deadline of the parser")
    assert set(_slots(hits)[:2]) == {0, 1}


def test_the_evidence_of_a_hit_is_told_when_asked_for() -> None:
    index = _index(event(1, snippet="open the socket"), event(2, snippet="close"))
    hit = _search(index, "socket", explain=True)[0]
    assert dict(hit.evidence)["words"] > 0
    assert [abs(part) for _, part in hit.evidence] == sorted(
        (abs(part) for _, part in hit.evidence), reverse=True
    )
    assert not _search(index, "socket")[0].evidence


def test_fewer_than_k_events_are_all_there_is() -> None:
    assert len(_search(_index(event(1), event(2)), "line", 1000)) == 2
    assert _search(SearchIndex(_ENCODER.dimensions), "line") == []


def test_only_slots_that_are_asked_for_are_found() -> None:
    index = _index(*(event(n, snippet="alpha", filePath=f"/{n}.py") for n in range(1, 6)))
    among = np.array([True, False, True])
    assert sorted(_slots(_search(index, "alpha", among=among))) == [0, 2]
    assert sorted(_slots(index.search("alpha", None, 10, among=among))) == [0, 2]
    wider = np.ones(5000, dtype=np.bool_)
    assert len(_search(index, "alpha", among=wider)) == 5
    assert _search(index, "alpha", among=np.zeros(0, dtype=np.bool_)) == []


def test_a_filter_finds_its_best_however_many_others_match_better() -> None:
    crowd = [event(number, snippet="alpha beta gamma") for number in range(1, 601)]
    index = _index(*crowd, event(700, snippet="alpha and much else besides"))
    among = np.zeros(601, dtype=np.bool_)
    among[600] = True
    assert _slots(_search(index, "alpha beta gamma", 1, among=among)) == [600]


def test_a_removed_event_is_not_found_and_its_slot_serves_again() -> None:
    index = _index(event(1, snippet="socket"), event(2, snippet="poem"))
    index.remove(0)
    index.remove(99)
    assert len(index) == index.encoded == 1
    assert _slots(_search(index, "socket")) == [1]
    index.add(0, event(3, snippet="upload"))
    assert 0 in index
    assert _search(index, "socket")[0].lexical == 0
    assert _search(index, "upload")[0].slot == 0


def test_a_vector_for_no_event_is_refused() -> None:
    with pytest.raises(ValueError, match="slot 3 has no event"):
        _index(event(1)).put_vector(3, np.zeros(_ENCODER.dimensions, dtype=np.float32))


def test_k_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="k must be at least 1"):
        _search(_index(event(1)), "line", 0)


@given(st.lists(events(), max_size=8), st.lists(st.integers(0, 7)), st.text(max_size=40))
def test_a_loaded_index_answers_as_the_one_that_was_dumped(
    recorded: list[Event], removed: list[int], query: str
) -> None:
    index = _index(*recorded, encoded=False)
    for slot in removed:
        index.remove(slot)
    loaded = SearchIndex.load(index.dump(), index.newness, _ENCODER.dimensions)
    assert loaded.slots() == index.slots()
    for slot in index.slots():
        vector = _ENCODER.encode([text_for_encoding(recorded[slot])])[0]
        index.put_vector(slot, vector)
        loaded.put_vector(slot, vector)
    assert _search(loaded, query) == _search(index, query)
    assert loaded.search(query, None, 5) == index.search(query, None, 5)
    loaded.add(20, event(1))
    assert len(loaded) == len(index) + 1


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xc1", msgspec.msgpack.encode([b"", b""])])
def test_bytes_that_are_no_dump_are_refused(data: bytes) -> None:
    with pytest.raises(DamagedIndex):
        SearchIndex.load(data, np.zeros((3, 9), np.uint64), _ENCODER.dimensions)


def test_a_dump_that_lacks_the_time_of_an_event_is_refused() -> None:
    index = _index(event(1))
    with pytest.raises(DamagedIndex, match="contradicts itself"):
        SearchIndex.load(index.dump(), index.newness[:, :0], _ENCODER.dimensions)
