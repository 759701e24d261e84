"""Signed chain heads: whose word they are, for what, and when two of them cannot both be true."""

from __future__ import annotations

from dataclasses import replace

import pytest

from localmem_protocol.errors import HeadError, SignatureError
from localmem_protocol.heads import (
    ENCODED_BYTES,
    Position,
    SignedHead,
    contradiction,
    decode_compact,
    decode_head,
    sign_head,
)
from support.pools import device_id, person

OWNER = person(1)
AT = Position("ab" * 16, 3, 7, 16, b"h" * 16, 120, 280, 11)
HEAD = sign_head(AT, OWNER.device, OWNER.keys)

ELSEWHERE = [
    replace(AT, pool="cd" * 16),
    replace(AT, epoch=4),
    replace(AT, client=8),
    replace(AT, clock=17),
    replace(AT, head=b"H" * 16),
    replace(AT, floor=121),
    replace(AT, sequence=281),
    replace(AT, holes=10),
    replace(AT, views=b"V" * 16),
]


def compact(data: bytes, at: Position = AT) -> SignedHead:
    return decode_compact(data, at.pool, at.epoch, at.client, at.clock, at.head, at.views)


def test_a_head_comes_back_from_its_bytes_in_both_forms() -> None:
    assert decode_head(HEAD.encode()) == HEAD == compact(HEAD.compact())
    assert len(HEAD.encode()) == ENCODED_BYTES == 148
    assert len(HEAD.compact()) == 68
    HEAD.verify(OWNER.device, OWNER.keys.public)


@pytest.mark.parametrize("at", ELSEWHERE)
def test_a_signature_holds_for_its_position_alone(at: Position) -> None:
    with pytest.raises(SignatureError):
        SignedHead(at, HEAD.signature).verify(OWNER.device, OWNER.keys.public)


def test_a_head_is_one_device_s_word() -> None:
    with pytest.raises(SignatureError):
        HEAD.verify(device_id(2), OWNER.keys.public)
    with pytest.raises(SignatureError):
        HEAD.verify(OWNER.device, person(2).keys.public)


def test_a_compact_head_at_another_place_is_nobody_s_word() -> None:
    moved = compact(HEAD.compact(), replace(AT, clock=15))
    with pytest.raises(SignatureError):
        moved.verify(OWNER.device, OWNER.keys.public)


@pytest.mark.parametrize(
    "at",
    [
        replace(AT, epoch=0),
        replace(AT, epoch=4097),
        replace(AT, client=0),
        replace(AT, client=2**31),
        replace(AT, clock=0),
        replace(AT, clock=2**31),
        replace(AT, head=b"short"),
        replace(AT, floor=0),
        replace(AT, floor=282),
        replace(AT, sequence=2**63 - 1),
        replace(AT, holes=162),
    ],
)
def test_an_impossible_position_is_neither_signed_nor_read(at: Position) -> None:
    with pytest.raises(HeadError):
        sign_head(at, OWNER.device, OWNER.keys)
    if len(at.head) == 16:
        with pytest.raises(HeadError):
            decode_head(SignedHead(at, HEAD.signature).encode())


def test_nothing_kept_is_a_floor_above_the_sequence() -> None:
    empty = sign_head(replace(AT, floor=281, holes=0), OWNER.device, OWNER.keys)
    assert compact(empty.compact()) == empty


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 67, 69, 200])
def test_bytes_of_another_length_are_no_head(cut: int) -> None:
    data = (HEAD.compact() + bytes(200))[:cut]
    with pytest.raises(HeadError):
        compact(data)
    with pytest.raises(HeadError):
        decode_head((HEAD.encode() + bytes(200))[:cut])


def test_a_number_in_a_longer_form_is_refused() -> None:
    longer = b"\xf8\x00" + HEAD.compact()[1:]
    with pytest.raises(HeadError, match="more bytes than it needs"):
        compact(longer)


def test_heads_that_go_on_from_one_another_do_not_contradict() -> None:
    later = sign_head(
        replace(AT, clock=32, head=b"n" * 16, floor=200, sequence=400), OWNER.device, OWNER.keys
    )
    evicted = sign_head(replace(AT, floor=150), OWNER.device, OWNER.keys)
    incarnation = sign_head(replace(AT, client=9, head=b"x" * 16), OWNER.device, OWNER.keys)
    for one, other in ((HEAD, later), (HEAD, HEAD), (HEAD, evicted), (HEAD, incarnation)):
        assert contradiction(one, other) is contradiction(other, one) is None


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (replace(AT, head=b"H" * 16), "two batches at clock 16"),
        (replace(AT, sequence=281), "two ends"),
        (replace(AT, clock=32, sequence=279), "went back from 280 to 279"),
        (replace(AT, clock=32, floor=119), "what it keeps went back from 120 to 119"),
    ],
)
def test_heads_of_two_copies_of_a_device_contradict(at: Position, said: str) -> None:
    other = sign_head(at, OWNER.device, OWNER.keys)
    for pair in ((HEAD, other), (other, HEAD)):
        assert said in (contradiction(*pair) or "")
