"""What is read of a segment does not depend on how it was read, nor on what else is in it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from localmem_hub.blobs import frames
from localmem_hub.blobs.frames import Base, Close, Entry, Place, Touch
from localmem_hub.blobs.judging import Segment

SALT, OTHER = bytes(16), bytes(15) + b"\1"
PLACE = Place("rooms/a/log-00000001-00", SALT, 0)
DEVICES = ["0000000000000001", "0000000000000002"]


@st.composite
def segments(draw: st.DrawFn) -> list[bytes]:
    """Blocks as many processes append them, some late, some twice, and what is foreign."""
    blocks = [frames.encode(Base(0, "", {}), SALT)]
    ends = [len(blocks[0])]
    for number in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(["entry"] * 6 + ["again", "foreign", "touch", "close"]))
        if kind == "entry":
            client = draw(st.integers(1, 3))
            device = draw(st.sampled_from(DEVICES))
            touched = draw(st.sampled_from([[client], [client, 4], None, []]))
            new = {client: device} if draw(st.booleans()) else {}
            base = draw(st.sampled_from(ends))
            update = draw(st.binary(max_size=20))
            entry = Entry(bytes([number]), base, touched, [(device, update)], new)
            block = frames.encode(entry, SALT)
        elif kind == "again":
            block = draw(st.sampled_from(blocks))
        elif kind == "foreign":
            stolen = frames.encode(Close(PLACE), OTHER)  # of another segment
            block = draw(st.binary(max_size=30) | st.just(stolen) | st.just(blocks[0][:9]))
        elif kind == "touch":
            block = frames.encode(Touch(), SALT)
        else:
            block = frames.encode(Close(Place("rooms/a/log-00000002-00", SALT, 0)), SALT)
        blocks.append(block)
        ends.append(ends[-1] + len(block))
    return blocks


def seen(segment: Segment) -> object:
    return (
        segment.rows,
        segment.number,
        segment.tag,
        segment.clients,
        segment.closed,
        segment.counted,
        segment.end,
        segment.length,
    )


@given(segments(), st.sets(st.integers(1, 12)))
def test_readers_that_read_at_other_times_see_the_same(blocks: list[bytes], cuts: set[int]) -> None:
    whole = Segment.read(PLACE, b"".join(blocks))
    parts: list[list[bytes]] = [[]]
    for number, block in enumerate(blocks):
        if number in cuts:
            parts.append([])
        parts[-1].append(block)
    pieces = Segment.read(PLACE, b"".join(parts[0]))
    for part in parts[1:]:
        pieces.take(b"".join(part))
    assert seen(pieces) == seen(whole)
    assert [row.number for row in whole.rows] == list(range(1, whole.number + 1))


@given(segments())
def test_entries_that_count_touch_nothing_that_they_did_not_know(blocks: list[bytes]) -> None:
    segment = Segment.read(PLACE, b"".join(blocks))
    found, _ = frames.scan(b"".join(blocks), SALT)
    counted: list[tuple[int, Entry]] = []
    for one in found:
        entry = one.record
        if (
            isinstance(entry, Entry)
            and entry.id in segment.counted
            and entry.id not in {earlier.id for _, earlier in counted}
        ):
            for at, earlier in counted:
                if at >= entry.base:
                    assert entry.touched is not None
                    assert earlier.touched is not None
                    assert not set(entry.touched) & set(earlier.touched)
            counted.append((one.start, entry))
    assert len(counted) == len(segment.counted)


@given(st.binary(max_size=200), st.integers(1, 60))
def test_a_snapshot_is_read_as_it_was_written(snapshot: bytes, size: int) -> None:
    text = b"".join(frames.encode_snapshot(snapshot, SALT))
    assert frames.decode_snapshot(text, SALT) == snapshot
