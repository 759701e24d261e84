import pytest

from localmem_protocol.batches import decode_batch, encode_batch
from localmem_protocol.errors import BatchError
from localmem_protocol.limits import BATCH_EVENTS_MAX, BATCH_PLAIN_BYTES_MAX
from support.events import event


def test_columns_cost_little_beside_the_text() -> None:
    batch = [event(n) for n in range(1, 101)]
    text = sum(len(one.snippet) for one in batch)
    assert len(encode_batch(batch)) - text < 25 * len(batch)


@pytest.mark.parametrize("count", [0, BATCH_EVENTS_MAX + 1])
def test_a_batch_of_no_or_too_many_events_is_not_made(count: int) -> None:
    with pytest.raises(ValueError, match="a batch holds"):
        encode_batch([event(n + 1) for n in range(count)])


def test_a_truncated_batch_is_refused_at_every_length() -> None:
    plain = encode_batch([event(1), event(2, modelResponseHash="00" * 8, tool="codex")])
    for size in range(len(plain)):
        with pytest.raises(BatchError):
            decode_batch(plain[:size])
    with pytest.raises(BatchError):
        decode_batch(plain + b"\x00")


def test_a_batch_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(BatchError, match="limit"):
        decode_batch(bytes(BATCH_PLAIN_BYTES_MAX + 1))
