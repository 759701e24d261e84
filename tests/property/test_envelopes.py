"""Batches and envelopes: what goes in comes out, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_protocol.envelope import (
    FIRST_OF_SEGMENT,
    NO_HASH,
    PADDED,
    VERSION,
    Opener,
    PoolKey,
    Sealer,
    batch_hash,
    opens_segment,
)
from localmem_protocol.errors import ProtocolError, SealError
from localmem_protocol.events import Event
from localmem_protocol.padding import Padding, bucket
from localmem_protocol.parcels import Context, Parcel, decode_parcel, encode_parcel
from support.events import DEVICE, event, events

POOL = PoolKey("team", 1, bytes(range(32)))

batches = st.lists(events(), min_size=1, max_size=8)
chains = st.lists(batches, min_size=1, max_size=6)
long_chains = st.integers(1, 40).map(lambda size: [[event(n)] for n in range(1, size + 1)])


@st.composite
def altered(draw: st.DrawFn, data: bytes) -> bytes:
    """These bytes with something cut out, put in, or put in its place."""
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, min(len(data), start + 4)))
    changed = data[:start] + draw(st.binary(max_size=4)) + data[end:]
    return changed if changed != data else data[:-1]


def seal(chain: list[list[Event]], head: bytes = NO_HASH) -> list[bytes]:
    sealer = Sealer(POOL, DEVICE, 1, head)
    return [sealer.seal(Parcel(tuple(batch)), clock) for clock, batch in enumerate(chain)]


@given(chains | long_chains, st.binary(min_size=16, max_size=16))
def test_a_chain_of_envelopes_opens_in_order(chain: list[list[Event]], head: bytes) -> None:
    sealed = seal(chain, head)
    opener = Opener(POOL, DEVICE, 1)
    assert [list(opener.open(one, clock).events) for clock, one in enumerate(sealed)] == chain


@given(long_chains, st.data())
def test_a_chain_opens_from_the_first_of_any_segment_and_nowhere_else(
    chain: list[list[Event]], data: st.DataObject
) -> None:
    sealed = seal(chain)
    start = data.draw(st.integers(0, len(sealed) - 1))
    opener = Opener(POOL, DEVICE, 1)
    if not opens_segment(sealed[start]):
        with pytest.raises(SealError):
            opener.open(sealed[start], start)
        return
    for clock in range(start, len(sealed)):
        assert list(opener.open(sealed[clock], clock).events) == chain[clock]


@given(chains, st.data())
def test_an_altered_envelope_is_refused_and_the_chain_goes_on(
    chain: list[list[Event]], data: st.DataObject
) -> None:
    sealed = seal(chain)
    opener = Opener(POOL, DEVICE, 1)
    at = data.draw(st.integers(0, len(sealed) - 1))
    for clock, one in enumerate(sealed):
        if clock == at:
            with pytest.raises(SealError):
                opener.open(data.draw(altered(one)), clock)
        assert list(opener.open(one, clock).events) == chain[clock]


@given(chains, st.data())
def test_an_envelope_opens_at_its_place_alone(
    chain: list[list[Event]], data: st.DataObject
) -> None:
    sealed = seal(chain)
    at = data.draw(st.integers(0, len(sealed) - 1))
    pool = data.draw(
        st.sampled_from([POOL, PoolKey("team", 2, POOL.key), PoolKey("t", 1, POOL.key)])
    )
    device, client = data.draw(st.sampled_from([DEVICE, "ff" * 8])), data.draw(st.integers(1, 2))
    clock = data.draw(st.integers(0, len(sealed)))
    elsewhere = (pool, device, client, clock) != (POOL, DEVICE, 1, at)
    opener = Opener(pool, device, client)
    opener._head = batch_hash(sealed[at - 1]) if at else NO_HASH
    for batch in chain[:at]:
        _, opener._running = encode_parcel(Parcel(tuple(batch)), opener._running)
    if elsewhere:
        with pytest.raises(SealError):
            opener.open(sealed[at], clock)
    else:
        assert list(opener.open(sealed[at], clock).events) == chain[at]


@given(st.binary(max_size=100), st.booleans())
def test_what_a_member_seals_without_keeping_to_the_format_is_refused(
    body: bytes, padded: bool
) -> None:
    opener = Opener(POOL, DEVICE, 1)
    flags = VERSION | FIRST_OF_SEGMENT | (PADDED if padded else 0)
    associated = opener._associated(flags, 0, NO_HASH)
    sealed = bytes([flags]) + opener._aead.encrypt(bytes(12), body, associated)
    try:
        opened = opener.open(sealed, 0)
    except ProtocolError:
        return
    plain, _ = encode_parcel(opened, Context.of(DEVICE))
    assert decode_parcel(plain, Context.of(DEVICE))[0] == opened


@given(chains, st.sampled_from(Padding))
def test_padding_shows_only_lengths_of_buckets(chain: list[list[Event]], padding: Padding) -> None:
    sealer, opener = Sealer(POOL, DEVICE, 1, padding=padding), Opener(POOL, DEVICE, 1)
    for clock, batch in enumerate(chain):
        sealed = sealer.seal(Parcel(tuple(batch)), clock)
        assert list(opener.open(sealed, clock).events) == batch
        inside = len(sealed) - 1 - 16
        assert bucket(inside, padding) == inside


@given(st.integers(1, 10**7))
def test_buckets_are_few_and_not_much_larger(size: int) -> None:
    padme, power = bucket(size, Padding.PADME), bucket(size, Padding.POWERS)
    assert size <= padme <= power < 2 * size
    assert padme <= 1.12 * size
    assert bucket(padme, Padding.PADME) == padme


@given(st.binary(max_size=120), st.integers(0, 2**40))
def test_noise_opens_nothing(noise: bytes, clock: int) -> None:
    with pytest.raises(SealError):
        Opener(POOL, DEVICE, 1).open(noise, clock)
