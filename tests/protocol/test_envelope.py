import pytest

from localmem_protocol.envelope import Opener, PoolKey, Sealer, batch_hash, opens_segment
from localmem_protocol.errors import ProtocolError, SealError
from localmem_protocol.limits import SEGMENT_BATCHES_MAX
from localmem_protocol.parcels import Parcel
from support.events import DEVICE, event

POOL = PoolKey("team", 1, bytes(32))


def sealed_run(count: int, sealer: Sealer | None = None) -> tuple[list[Parcel], list[bytes]]:
    sealer = sealer or Sealer(POOL, DEVICE, 1)
    batches = [Parcel(tuple(event(10 * n + i + 1) for i in range(3))) for n in range(count)]
    return batches, [sealer.seal(batch, clock) for clock, batch in enumerate(batches)]


def test_a_run_of_batches_opens_in_order() -> None:
    batches, sealed = sealed_run(2 * SEGMENT_BATCHES_MAX + 3)
    opener = Opener(POOL, DEVICE, 1)
    assert [opener.open(one, clock) for clock, one in enumerate(sealed)] == batches


def test_a_joiner_can_begin_at_any_segment_and_only_there() -> None:
    batches, sealed = sealed_run(2 * SEGMENT_BATCHES_MAX)
    starts = [clock for clock, one in enumerate(sealed) if opens_segment(one)]
    assert starts == [0, SEGMENT_BATCHES_MAX]
    opener = Opener(POOL, DEVICE, 1)
    with pytest.raises(SealError, match="first batch is missing"):
        opener.open(sealed[1], 1)
    for clock in range(SEGMENT_BATCHES_MAX, len(sealed)):
        assert opener.open(sealed[clock], clock) == batches[clock]


@pytest.mark.parametrize(
    "opener",
    [
        Opener(PoolKey("team", 1, b"\x01" * 32), DEVICE, 1),
        Opener(PoolKey("team", 2, bytes(32)), DEVICE, 1),
        Opener(PoolKey("other", 1, bytes(32)), DEVICE, 1),
        Opener(POOL, "ff" * 8, 1),
        Opener(POOL, DEVICE, 2),
    ],
    ids=["key", "epoch", "pool", "device", "client"],
)
def test_a_batch_opens_only_with_its_key_epoch_pool_device_and_incarnation(opener: Opener) -> None:
    _, sealed = sealed_run(1)
    with pytest.raises(SealError):
        opener.open(sealed[0], 0)


def test_a_batch_does_not_open_at_another_place_or_after_another_batch() -> None:
    _, sealed = sealed_run(3)
    with pytest.raises(SealError):
        Opener(POOL, DEVICE, 1).open(sealed[0], 1)
    opener = Opener(POOL, DEVICE, 1)
    opener.open(sealed[0], 0)
    with pytest.raises(SealError):
        opener.open(sealed[2], 2)
    with pytest.raises(SealError):
        opener.open(sealed[2], 1)


def test_every_flipped_byte_and_every_truncation_is_refused() -> None:
    _, sealed = sealed_run(1)
    for place in range(len(sealed[0])):
        altered = bytearray(sealed[0])
        altered[place] ^= 0x55
        with pytest.raises(ProtocolError):
            Opener(POOL, DEVICE, 1).open(bytes(altered), 0)
        with pytest.raises(ProtocolError):
            Opener(POOL, DEVICE, 1).open(sealed[0][:place], 0)


def test_a_new_sealer_goes_on_with_the_chain_in_a_new_segment() -> None:
    batches, sealed = sealed_run(2)
    later = Sealer(POOL, DEVICE, 1, batch_hash(sealed[-1])).seal(batches[0], 2)
    assert opens_segment(later)
    opener = Opener(POOL, DEVICE, 1)
    for clock, one in enumerate([*sealed, later]):
        opener.open(one, clock)


def test_nothing_of_the_text_shows() -> None:
    secret = event(1, snippet="the quick brown fox jumps over the lazy dog")
    sealed = Sealer(POOL, DEVICE, 1).seal(Parcel((secret,)), 0)
    assert b"quick" not in sealed
    assert b"main.py" not in sealed


def test_a_key_of_another_length_is_no_key_and_none_is_shown() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        PoolKey("team", 1, b"short")
    assert "key" not in repr(POOL)


def test_a_segment_without_end_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as endless:
        endless.setattr("localmem_protocol.envelope.SEGMENT_BATCHES_MAX", 10**6)
        sealer = Sealer(POOL, DEVICE, 1)
        batches = [
            sealer.seal(Parcel((event(clock + 1),)), clock)
            for clock in range(SEGMENT_BATCHES_MAX + 1)
        ]
    opener = Opener(POOL, DEVICE, 1)
    for clock, sealed in enumerate(batches[:-1]):
        opener.open(sealed, clock)
    with pytest.raises(SealError, match="beyond"):
        opener.open(batches[-1], SEGMENT_BATCHES_MAX)
