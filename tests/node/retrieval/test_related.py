from __future__ import annotations

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.retrieval.related import (
    FORMAT,
    PATH,
    Related,
    RelatedTerms,
    Table,
    encoded,
    shipped,
)

_TERMS = st.lists(st.text(max_size=8), max_size=8, unique=True)


def _decoded(data: bytes) -> Table:
    return msgspec.msgpack.decode(zstandard.decompress(data), type=Table)


@st.composite
def _tables(draw: st.DrawFn) -> dict[str, list[Related]]:
    terms = draw(_TERMS)
    if not terms:
        return {}
    others = st.builds(Related, st.sampled_from(terms), st.floats(0, 1, exclude_max=True))
    return {term: draw(st.lists(others, max_size=5)) for term in terms}


@given(_tables(), st.text(max_size=3))
def test_a_table_that_was_encoded_says_the_same(
    related: dict[str, list[Related]], unknown: str
) -> None:
    table = _decoded(encoded(related))
    assert table.format == FORMAT
    read = RelatedTerms(table)
    for term, others in related.items():
        found = read.of(term)
        assert [one.term for one in found] == [one.term for one in others]
        assert [one.share for one in found] == pytest.approx(
            [one.share for one in others], abs=0.5 / 255 + 1e-9
        )
    if unknown not in related:
        assert read.of(unknown) == []


def test_an_other_that_is_no_key_is_refused() -> None:
    with pytest.raises(KeyError):
        encoded({"a": [Related("b", 0.5)]})


def test_the_shipped_table_is_whole() -> None:
    table = _decoded(PATH.read_bytes())
    assert table.format == FORMAT
    assert len(table.counts) == len(set(table.terms)) == len(table.terms) > 1000
    assert len(table.others) == 2 * sum(table.counts) == 2 * len(table.shares)
    # Found by numbers only: the order of the file is that of sorted terms.
    assert table.terms == sorted(table.terms)


def test_no_shipped_term_is_related_to_itself_and_shares_are_above_0_and_below_1() -> None:
    table = _decoded(PATH.read_bytes())
    for term in table.terms:
        others = shipped().of(term)
        names = [one.term for one in others]
        assert term not in names
        assert len(set(names)) == len(names)
        shares = [one.share for one in others]
        assert all(0 < share < 1 for share in shares)
        assert shares == sorted(shares, reverse=True)


def test_the_shipped_table_knows_words_of_like_meaning() -> None:
    names = {one.term for one in shipped().of("doctor")}
    assert names & {"physician", "medic", "surgeon", "doctors", "clinic", "nurs", "hospit"}
    assert shipped().of("") == shipped().of("no such term") == []
