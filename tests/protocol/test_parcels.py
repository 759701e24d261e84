import pytest

from localmem_protocol.errors import BatchError
from localmem_protocol.limits import (
    BATCH_EVENTS_MAX,
    BATCH_HEADS_MAX,
    BATCH_PLAIN_BYTES_MAX,
    BATCH_TOMBSTONES_MAX,
    BATCH_VIEWS_MAX,
    BATCH_WANTS_MAX,
    HEAD_BYTES_MAX,
)
from localmem_protocol.parcels import Context, Parcel, decode_parcel, encode_parcel
from localmem_protocol.views import View
from localmem_protocol.wants import Want
from support.events import DEVICE, event, reference

WANTS = (
    Want("0" * 16, 2**63 - 1, bytes(5)),
    Want(DEVICE, 7, bytes(5)),
    Want(DEVICE, 7, b"other"),
    Want(DEVICE, 300, bytes(5)),
)
TOMBSTONE = bytes(range(16))
VIEWS = (View(3, 200, b"seen"),)
REFERENCE = reference(event(3), bytes(32))


def encode(parcel: Parcel) -> bytes:
    return encode_parcel(parcel, Context.of(DEVICE))[0]


def decode(plain: bytes) -> Parcel:
    return decode_parcel(plain, Context.of(DEVICE))[0]


@pytest.mark.parametrize(
    "parcel",
    [
        Parcel(events=(event(1), event(2))),
        Parcel(tombstones=(TOMBSTONE, TOMBSTONE)),
        Parcel(heads=(b"\x00", b"h" * HEAD_BYTES_MAX)),
        Parcel(references=(REFERENCE,)),
        Parcel(
            heads=(b"h",),
            views=(View(1, 1, b"seen"), View(2**31 - 1, 2**31 - 1, b"seen", "0f" * 8)),
        ),
        Parcel(wants=WANTS),
        Parcel((event(1), event(4)), (TOMBSTONE,), (b"head",), (REFERENCE,), WANTS, VIEWS),
        Parcel(events=(event(1, snippet="x" * 60_000 + "\n"),) * 3),
        Parcel(events=(event(1, snippet=bytes(range(128)).decode()),)),
    ],
    ids=["events", "tombstones", "heads", "references", "views", "wants", "all", "long", "odd"],
)
def test_a_parcel_round_trips(parcel: Parcel) -> None:
    plain = encode(parcel)
    assert decode(plain) == parcel
    step = max(1, len(plain) // 200)
    for altered in [*(plain[:size] for size in range(0, len(plain), step)), plain + b"\x00"]:
        try:
            assert decode(altered) != parcel
        except BatchError:
            continue


@pytest.mark.parametrize(
    "parcel",
    [
        Parcel(),
        Parcel(tombstones=(bytes(15),)),
        Parcel(tombstones=(TOMBSTONE,) * (BATCH_TOMBSTONES_MAX + 1)),
        Parcel(heads=(b"",)),
        Parcel(heads=(b"h" * (HEAD_BYTES_MAX + 1),)),
        Parcel(heads=(b"h",) * (BATCH_HEADS_MAX + 1)),
        Parcel((event(1),) * BATCH_EVENTS_MAX, references=(REFERENCE,)),
        Parcel(views=VIEWS),
        Parcel(heads=(b"h",), views=VIEWS * 2),
        Parcel(heads=(b"h",), views=(View(0, 1, b"seen"),)),
        Parcel(heads=(b"h",), views=(View(1, 0, b"seen"),)),
        Parcel(heads=(b"h",), views=(View(2**31, 1, b"seen"),)),
        Parcel(heads=(b"h",), views=(View(1, 1, b"see"),)),
        Parcel(heads=(b"h",), views=(View(1, 1, b"seen", "0f"),)),
        Parcel(
            heads=(b"h",), views=tuple(View(n, 1, b"seen") for n in range(1, BATCH_VIEWS_MAX + 2))
        ),
        Parcel(wants=WANTS[::-1]),
        Parcel(wants=WANTS[:1] * 2),
        Parcel(wants=(Want(DEVICE, 1, bytes(4)),)),
        Parcel(wants=tuple(Want(DEVICE, n, bytes(5)) for n in range(BATCH_WANTS_MAX + 1))),
    ],
)
def test_a_parcel_of_nothing_or_over_the_limits_is_not_made(parcel: Parcel) -> None:
    with pytest.raises(ValueError, match=r"parcel|tombstone|head|views|check|want|hash"):
        encode(parcel)


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"\x00",
        b"\x80\x01",
        b"\x01\x00",
        b"\x02\x00",
        b"\x02\x01\x00",
        b"\x02\x81\x00\x01h",
        b"\x0a\x01\x01h",
        b"\x12\x01\x01h\x00",
        b"\x12\x01\x01h\x01\x00\x00seen",
        b"\x12\x01\x01h\x01\x80\x00\x01seen",
        b"\x12\x01\x01h\x01\x00\x81\x00seen",
        b"\x12\x01\x01h\x01\xfe\xff\xff\xff\x0f\x01seen",
        b"\x12\x01\x01h\x02\x00\x01seen\xfe\xff\xff\xff\x0f\x01seen",
        b"\x12\x01\x01h\x41" + bytes(500),
        b"\x10\x01\x00\x01seen",
        b"\x08\x00",
        b"\x08\x01" + bytes(8) + b"\x00",
        b"\x08\x02" + 2 * (bytes(8) + b"\x01\x07" + bytes(5)),
        b"\x08\x01" + bytes(8) + b"\x02" + b"\x07" + bytes(5) + b"\x00" + bytes(5),
        b"\x08\x01" + bytes(8) + b"\x81\x00\x07" + bytes(5),
        b"\x08\x01" + bytes(8) + b"\x81\x02" + (b"\x01" + bytes(5)) * 257,
        b"\x08\x01" + bytes(8) + b"\x01" + b"\xff" * 9 + b"\x01" + bytes(5),
        b"\x04" + bytes(40),
        b"\x04" + b"\xff" * 40,
    ],
)
def test_what_no_encoder_writes_is_refused(plain: bytes) -> None:
    with pytest.raises(BatchError):
        decode(plain)


def test_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(BatchError, match="limit"):
        decode(bytes(BATCH_PLAIN_BYTES_MAX + 1))


def test_a_signed_head_alone_costs_its_bytes_and_three() -> None:
    assert len(encode(Parcel(heads=(bytes(66),)))) == 66 + 3


def test_a_want_costs_its_hash_and_the_way_to_its_sequence() -> None:
    sequences = (1000, 1001, 1200)
    wants = tuple(Want(DEVICE, sequence, bytes(5)) for sequence in sequences)
    assert len(encode(Parcel(wants=wants))) == 1 + 1 + (8 + 1) + (2 + 1 + 2) + 3 * 5


def test_events_and_references_are_merged_by_clock() -> None:
    parcel = Parcel((event(1), event(4)), references=(REFERENCE,))
    apart = Parcel((event(1), event(4))), Parcel(references=(REFERENCE,))
    assert decode(encode(parcel)) == parcel
    assert len(encode(parcel)) < sum(len(encode(one)) for one in apart)


def test_a_segment_is_not_changed_by_what_follows_it() -> None:
    first = Context.of(DEVICE)
    plain, second = encode_parcel(Parcel((event(1),)), first)
    assert encode_parcel(Parcel((event(1),)), first)[0] == plain
    again, _ = encode_parcel(Parcel((event(1),)), second)
    assert len(again) < len(plain)
