"""Reading lines: bounded, numbered, whatever the chunks."""

from __future__ import annotations

import io
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from localmem_node.lines import LINE_BYTES_MAX, read_lines


def chunks(data: bytes, sizes: list[int]) -> Callable[[int], bytes]:
    stream = io.BytesIO(data)
    left = iter(sizes)
    return lambda most: stream.read(min(most, next(left, most)))


@given(st.lists(st.binary(max_size=20)), st.lists(st.integers(1, 7)))
def test_lines_come_out_with_their_numbers_however_they_arrive(
    lines: list[bytes], sizes: list[int]
) -> None:
    data = b"\n".join(lines)
    expected = [(number, line) for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]
    assert [one for group in read_lines(chunks(data, sizes)) for one in group] == expected


def test_a_line_that_is_too_long_is_dropped_as_it_comes_and_the_next_ones_are_read() -> None:
    long = b"x" * (3 * LINE_BYTES_MAX)
    data = b"a\n" + long + b"\nb\n" + long
    found = [one for group in read_lines(chunks(data, [])) for one in group]
    assert found == [(1, b"a"), (2, None), (3, b"b"), (4, None)]


def test_a_line_is_handed_on_before_the_stream_ends() -> None:
    parts = iter([b"a\nb", b"c\n", b""])
    groups = read_lines(lambda most: next(parts))
    assert next(groups) == [(1, b"a")]
    assert next(groups) == [(2, b"bc")]
