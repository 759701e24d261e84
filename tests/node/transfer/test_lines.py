"""The lines of an export: whatever was done to them shows, and where."""

from __future__ import annotations

import io
import json
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from localmem_node.errors import DamagedExport, ForeignExport, TransferError, WrongExportVersion
from localmem_node.lines import LINE_BYTES_MAX
from localmem_node.results import event_json
from localmem_node.transfer.lines import LinesWriter, read_export
from localmem_protocol.events import Event
from localmem_protocol.limits import SNIPPET_BYTES_MAX
from support.events import event, events
from support.exports import plain

FIVE = [event(number, snippet=f"größe_{number} = '大小' 🙂\u2028\n") for number in range(1, 6)]
TEXT = plain(FIVE)


def read(data: bytes) -> list[Event]:
    return [one for _, one in read_export(io.BytesIO(data))]


def lines(data: bytes = TEXT) -> list[bytes]:
    return data.splitlines(keepends=True)


@given(st.lists(events(), unique_by=lambda one: one.id, max_size=8))
@example([])
@example([event(1, snippet="\x00\x1f\u2028\u2029\r\n\t\\\"'\U0010ffff")])
@example([event(1, snippet="\x01" * SNIPPET_BYTES_MAX)])
def test_what_was_written_is_read_back_in_the_order_of_events(some: list[Event]) -> None:
    assert read(plain(some)) == sorted(some, key=lambda one: one.order)


def test_every_line_is_a_json_object_with_the_names_of_every_other_face() -> None:
    header, *middle, trailer = map(json.loads, lines())
    assert header == {
        "format": "localmem-export",
        "version": 1,
        "device": "00112233445566aa",
        "created": 1_760_000_000_000,
    }
    assert [list(one) for one in middle] == [list(event_json(FIVE[0]))] * 5
    assert (trailer["count"], len(trailer["sha256"])) == (5, 64)


def test_lines_are_counted_from_the_header() -> None:
    assert [number for number, _ in read_export(io.BytesIO(TEXT))] == [2, 3, 4, 5, 6]


@given(st.integers(0, len(TEXT) - 1))
def test_no_cut_goes_unnoticed(size: int) -> None:
    with pytest.raises(TransferError):
        read(TEXT[:size])


@given(st.integers(0, len(TEXT) - 1), st.integers(0, 7))
def test_no_flipped_bit_goes_unnoticed(at: int, bit: int) -> None:
    data = bytearray(TEXT)
    data[at] ^= 1 << bit
    with pytest.raises(TransferError):
        read(bytes(data))


def test_no_flipped_bit_of_header_or_trailer_goes_unnoticed() -> None:
    trailer = len(TEXT) - len(lines()[-1])
    for at in (*range(len(lines()[0])), *range(trailer, len(TEXT))):
        for bit in range(8):
            data = bytearray(TEXT)
            data[at] ^= 1 << bit
            with pytest.raises(TransferError):
                read(bytes(data))


@given(st.data())
def test_no_line_can_be_dropped_doubled_moved_or_added(data: st.DataObject) -> None:
    parts = lines()
    first = data.draw(st.integers(0, len(parts) - 1))
    what = data.draw(st.sampled_from(["drop", "double", "swap", "blank", "add"]))
    if what == "drop":
        del parts[first]
    elif what == "double":
        parts.insert(first, parts[first])
    elif what == "swap":
        second = data.draw(st.integers(0, len(parts) - 1).filter(lambda other: other != first))
        parts[first], parts[second] = parts[second], parts[first]
    elif what == "blank":
        parts.insert(first, b"\n")
    else:
        parts.insert(first, lines(plain([data.draw(events())]))[1])
    with pytest.raises(TransferError):
        read(b"".join(parts))


def altered(number: int, line: bytes) -> bytes:
    """The text with another line in the place of one."""
    parts = lines()
    parts[number - 1] = line
    return b"".join(parts)


DAMAGE = [
    (b"", "line 1: the file is empty"),
    (TEXT[: len(TEXT) // 2], "cut off"),
    (b"".join(lines()[:4]), "line 5: the file ends before its last line"),
    (TEXT[:-1], "line 7: the file ends within this line"),
    (TEXT + b"\n", "line 8: there is something after the last line"),
    (altered(3, b"\n"), "line 3: is not JSON"),
    (altered(3, b"[" * 100_000 + b"\n"), "line 3: is not JSON"),
    (altered(3, b'{"snippet":"\xff"}\n'), "line 3: is not UTF-8 at byte 12"),
    (altered(3, b'{"snippet":"\xed\xa0\x80"}\n'), "line 3: is not UTF-8"),
    (altered(3, b"[]\n"), "line 3: is not a JSON object"),
    (altered(3, b"{}\n"), "line 3: id: missing"),
    (altered(3, b'{"x":"' + b"x" * 10_000_000 + b'"}\n'), "line 3: is longer than 1048576 bytes"),
    (altered(3, lines()[2].replace(b"_2 =", b"_3 =")), "line 3: id: does not follow"),
    (altered(3, lines()[2].replace(b"false", b"true")), "line 7: its checksum does not fit"),
    (altered(3, lines()[2].replace(b'"kind":"edit"', b'"kind":"x"')), "line 3: kind: must be"),
    (altered(3, lines()[2].replace(b"{", b'{"colour":1,')), "line 3: colour: unknown"),
    (altered(3, lines()[4]), "line 4: its event does not come after"),
    (b"".join(lines()[:2] + lines()[3:]), "line 6: counts 5 events, and there are 4"),
    (altered(7, b'{"count":5,"sha256":"' + b"0" * 64 + b'"}\n'), "line 7: its checksum"),
    (altered(7, lines()[6].upper().replace(b"COUNT", b"count").replace(b"SHA", b"sha")), "line 7"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), DAMAGE, ids=[message for _, message in DAMAGE])
def test_damage_is_named_by_line_and_kind(data: bytes, message: str) -> None:
    with pytest.raises(DamagedExport) as caught:
        read(data)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b'{"timestamp":1,"snippet":"x","kind":"note"}\n',
        b"plain text\n",
        b"[" * 100_000 + b"\n",
        b"\x00\xff" * 100,
        b"[1]\n",
        b"7\n",
        b"x" * (LINE_BYTES_MAX + 10),
        b"\n" + TEXT,
        b"\xef\xbb\xbf" + TEXT,
        b'{"format":"another","version":1}\n',
    ],
)
def test_what_is_no_export_is_told_where_it_may_belong(data: bytes) -> None:
    with pytest.raises(ForeignExport, match="localmem record"):
        read(data)


@pytest.mark.parametrize("version", [0, 2, "1", None, True])
def test_another_version_is_named(version: object) -> None:
    header = {"format": "localmem-export", "version": version}
    with pytest.raises(WrongExportVersion, match="version"):
        read(json.dumps(header).encode() + b"\n")


def test_memory_does_not_grow_with_the_number_of_lines() -> None:
    text = "x" * 50_000

    def written() -> io.BytesIO:
        stream = io.BytesIO()
        out = LinesWriter(stream.write)
        out.header("00112233445566aa", 0)
        for number in range(1, 400):
            out.event(event_json(event(number, snippet=f"{number} {text}")))
        out.finish()
        stream.seek(0)
        return stream

    stream = written()
    assert stream.getbuffer().nbytes > 15_000_000
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_export(stream)) == 399
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
