"""A dump that was damaged is refused, or gives an index that works; nothing else is ever raised."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.errors import DamagedIndex
from localmem_node.retrieval import lexical
from localmem_node.retrieval.index import SearchIndex
from localmem_node.retrieval.saved import Dump
from localmem_node.retrieval.traits import Traits
from support.events import event

_DIMENSIONS = 8
_EVENTS = [
    event(1, snippet="open the socket", session="one"),
    event(2, snippet="did it time out?", session="one", kind="prompt"),
    event(3, snippet="it did, twice, yesterday", session="two", kind="note"),
    event(4, snippet="retry the upload", session=None),
    event(5, snippet="close the socket", session="two"),
]


def _index() -> SearchIndex:
    index = SearchIndex(_DIMENSIONS)
    for slot, each in enumerate(_EVENTS):
        index.add(slot, each)
    index.remove(3)
    return index


_INDEX = _index()
_DUMP = _INDEX.dump()


def _loaded(data: bytes) -> SearchIndex:
    return SearchIndex.load(data, _INDEX.newness, _DIMENSIONS)


def _changed(**columns: Any) -> bytes:
    dump = msgspec.msgpack.decode(_DUMP, type=Dump)
    return msgspec.msgpack.encode(msgspec.structs.replace(dump, **columns))


def _whole() -> Dump:
    return msgspec.msgpack.decode(_DUMP, type=Dump)


def _words(**columns: Any) -> bytes:
    words = msgspec.msgpack.decode(_whole().words, type=lexical.Dump)
    return msgspec.msgpack.encode(msgspec.structs.replace(words, **columns))


def _places(*places: int) -> bytes:
    return np.array(places, "<i4").tobytes()


def _traits(row: int, name: str, value: bytes) -> bytes:
    """The traits with other bytes for one of them."""
    assert Traits.fields is not None
    raw = bytearray(_whole().traits)
    first = row * Traits.itemsize + Traits.fields[name][1]
    raw[first : first + Traits[name].itemsize] = value[: Traits[name].itemsize]
    return bytes(raw)


def _used(index: SearchIndex) -> None:
    """Everything that is done with an index."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for vector in (None, np.eye(_DIMENSIONS, dtype=np.float32)[0]):
        index.search("socket twice yesterday, in june", vector, 3, now=now, explain=True)
        for slot in index.slots():
            index.put_vector(slot, np.eye(_DIMENSIONS, dtype=np.float32)[slot % _DIMENSIONS])
    index.add(3, _EVENTS[3])
    index.dump()
    for slot in index.slots():
        index.remove(slot)
    assert index.search("socket", None, 3) == []


def test_the_dump_itself_is_sound() -> None:
    index = _loaded(_DUMP)
    assert index.slots() == [0, 1, 2, 4]
    _used(index)


@pytest.mark.parametrize(
    "make",
    [
        lambda: _changed(version=1),
        lambda: _changed(session_of=_places(0, 0, 1, 2)),
        lambda: _changed(session_of=_places(0, 0, 1, -2)),
        lambda: _changed(session_of=_places(0, 0, 0, 0)),  # nobody is in the second session
        lambda: _changed(session_of=_places(0, 0, 1)),
        lambda: _changed(session_of=_places(0, 0, 1, 1) + b"\0"),
        lambda: _changed(session_of=_places(0, 0, 1, 2**31 - 1)),
        lambda: _changed(sessions=["one", "one"]),
        lambda: _changed(sessions=["one"]),
        lambda: _changed(sessions=["one", "two", "three"]),
        lambda: _changed(slots=np.array([0, 1, 2], "<u4").tobytes()),
        lambda: _changed(slots=np.array([0, 1, 2, 3], "<u4").tobytes()),
        lambda: _changed(slots=np.array([0, 1, 4, 2], "<u4").tobytes()),
        lambda: _changed(slots=np.array([0, 1, 2, 2**32 - 1], "<u4").tobytes()),
        lambda: _changed(slots=_whole().slots[:-1]),
        lambda: _changed(traits=_whole().traits[:-1]),
        lambda: _changed(traits=_whole().traits + b"\0" * Traits.itemsize),
        lambda: _changed(traits=_traits(1, "timestamp", b"\xff" * 8)),
        lambda: _changed(traits=_traits(0, "timestamp", (2**47).to_bytes(8, "little"))),
        lambda: _changed(traits=_traits(0, "said", b"\2")),
        lambda: _changed(words=b""),
        lambda: _changed(words=_words(terms=[])),
        lambda: _changed(
            words=_words(
                terms=[], counts=np.array([1, 1, 0, 0], "<u4").tobytes(), postings=bytes(16)
            )
        ),
    ],
)
def test_columns_that_contradict_each_other_are_refused(make: Callable[[], bytes]) -> None:
    with pytest.raises(DamagedIndex):
        _loaded(make())


@given(
    st.lists(st.tuples(st.integers(0, len(_DUMP) - 1), st.integers(0, 255)), min_size=1, max_size=3)
)
def test_changed_bytes_are_refused_or_do_no_harm(changes: list[tuple[int, int]]) -> None:
    data = bytearray(_DUMP)
    for place, value in changes:
        data[place] = value
    try:
        index = _loaded(bytes(data))
    except DamagedIndex:
        return
    _used(index)


@given(st.integers(0, len(_DUMP) - 1), st.binary(max_size=8), st.integers(0, 8))
def test_bytes_put_in_or_left_out_are_refused_or_do_no_harm(
    place: int, added: bytes, left_out: int
) -> None:
    try:
        index = _loaded(_DUMP[:place] + added + _DUMP[place + left_out :])
    except DamagedIndex:
        return
    _used(index)


_COLUMNS = st.one_of(
    st.fixed_dictionaries({"session_of": st.lists(st.integers(-3, 3), min_size=3, max_size=5)}),
    st.fixed_dictionaries({"sessions": st.lists(st.sampled_from(["one", "two", ""]), max_size=3)}),
    st.fixed_dictionaries({"slots": st.lists(st.integers(0, 5), max_size=5)}),
)


@given(_COLUMNS)
def test_any_column_is_refused_or_does_no_harm(columns: dict[str, Any]) -> None:
    for name, kind in (("session_of", "<i4"), ("slots", "<u4")):
        if name in columns:
            columns[name] = np.array(columns[name], kind).tobytes()
    try:
        index = _loaded(_changed(**columns))
    except DamagedIndex:
        return
    _used(index)


@given(st.sampled_from(Traits.names or ()), st.integers(0, 3), st.binary(min_size=8, max_size=8))
def test_traits_are_refused_or_do_no_harm(name: str, row: int, value: bytes) -> None:
    try:
        index = _loaded(_changed(traits=_traits(row, name, value)))
    except DamagedIndex:
        return
    _used(index)
