import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_protocol.batches import Row, decode_rows, encode_rows
from localmem_protocol.bits import BitReader, BitWriter, Column
from localmem_protocol.errors import BatchError
from localmem_protocol.events import Event, stamp
from localmem_protocol.limits import BATCH_EVENTS_MAX
from localmem_protocol.names import SYMBOLS
from localmem_protocol.recall import Recall
from support.events import DEVICE, draft, event, events, reference


def decode(data: bytes, text: bytes, recall: Recall | None = None) -> list[Row]:
    return decode_rows(data + text, recall or Recall(DEVICE), lambda piece: piece)


def test_columns_cost_little_beside_the_text() -> None:
    columns, text = encode_rows([event(n) for n in range(1, 101)], Recall(DEVICE))
    assert text == "\n".join(f"line {n}\n" for n in range(1, 101)).encode()
    assert len(columns) < 3 * 100


def test_a_later_batch_of_a_segment_does_not_repeat_names() -> None:
    recall = Recall(DEVICE)
    names = {"filePath": "src/a/long/path/to/a.py", "session": "c0ffee" * 4, "tool": "codex"}
    first, _ = encode_rows([event(1, **names)], recall)
    later, _ = encode_rows([event(2, **names)], recall)
    assert len(later) <= 6 < len(first) / 4


@given(
    st.lists(
        events() | st.integers(1, 9).map(lambda n: reference(event(n))), min_size=1, max_size=12
    )
)
def test_rows_round_trip(rows: list[Row]) -> None:
    sender, receiver = Recall(DEVICE), Recall(DEVICE)
    for part in (rows, rows[::-1]):
        assert decode(*encode_rows(part, sender), receiver) == part


@given(st.lists(events(), min_size=1, max_size=5), st.data())
def test_altered_columns_are_refused_or_written_just_so(
    rows: list[Event], data: st.DataObject
) -> None:
    columns, text = encode_rows(rows, Recall(DEVICE))
    altered = bytearray(columns + text)
    for _ in range(data.draw(st.integers(1, 3))):
        altered[data.draw(st.integers(0, len(altered) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decoded = decode(bytes(altered), b"")
    except BatchError:
        return
    assert b"".join(encode_rows(decoded, Recall(DEVICE))) == altered


@given(st.binary(max_size=200))
def test_noise_is_refused_or_written_just_so(noise: bytes) -> None:
    try:
        decoded = decode(noise, b"")
    except BatchError:
        return
    assert b"".join(encode_rows(decoded, Recall(DEVICE))) == noise


@pytest.mark.parametrize("count", [0, BATCH_EVENTS_MAX + 1])
def test_a_batch_of_no_or_too_many_events_is_not_made(count: int) -> None:
    with pytest.raises(ValueError, match="a batch holds"):
        encode_rows([event(n + 1) for n in range(count)], Recall(DEVICE))


def test_a_truncated_batch_is_refused_at_every_length() -> None:
    rows: list[Row] = [
        event(1),
        reference(event(2)),
        event(3, modelResponseHash="00" * 8, tool="codex"),
    ]
    columns, text = encode_rows(rows, Recall(DEVICE))
    plain = columns + text
    for size in range(len(plain)):
        with pytest.raises(BatchError):
            decode(plain[:size], b"")
    with pytest.raises(BatchError):
        decode(plain + b"\n", b"")


def test_an_import_whose_clocks_follow_each_other_costs_little() -> None:
    moment = event(1).timestamp
    rows = [
        stamp(
            draft(timestamp=moment - 10**9 * n, snippet=f"import {n}"),
            device=DEVICE,
            clock=(moment << 16) + n,
            sequence=n,
        )
        for n in range(1, 101)
    ]
    columns, text = encode_rows(rows, Recall(DEVICE))
    assert decode(columns, text) == rows
    assert len(columns) < 8 * 100


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "//a//b",
        "a/b/c.py",
        "a/b/d.py",
        "a/x/d.py",
        "ä/ü/\N{SNOWMAN}/\U0001f600",
        "".join(SYMBOLS),
        "0" * 4096,
        "deadbeef",
        "0b1f5a5e-33c8-4d1a-9a43-1f9c51a5d0aa",
        "0B1F5A5E-33C8-4D1A-9A43-1F9C51A5D0AA",
    ],
)
def test_every_kind_of_path_comes_back_after_every_other(path: str) -> None:
    rows: list[Row] = [event(1, filePath="a/b/c.py"), event(2, filePath=path)]
    rows += [event(3, filePath="a/b"), event(4, filePath=path + "x" if len(path) < 99 else "y")]
    columns, text = encode_rows(rows, Recall(DEVICE))
    assert decode(columns, text) == rows


@given(st.lists(st.integers(0, 2**66 - 1) | st.integers(0, 40), max_size=40))
def test_numbers_round_trip_and_their_code_adapts(numbers: list[int]) -> None:
    bits, column = BitWriter(), Column(3)
    for number in numbers:
        bits.number(column, number)
    reader, again = BitReader(bits.to_bytes()), Column(3)
    assert [reader.number(again) for _ in numbers] == numbers


def test_a_number_far_out_of_line_costs_bits_not_bytes() -> None:
    bits, column = BitWriter(), Column()
    for _ in range(20):
        bits.number(column, 1)
    before = len(bits.to_bytes())
    bits.number(column, 2**40)
    assert len(bits.to_bytes()) - before <= 12
