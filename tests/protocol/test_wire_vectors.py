"""The vectors of the wire for other languages: what this release makes, and what it reads."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from localmem_protocol.errors import UpdateError
from localmem_protocol.exchange import decode_body, encode_body
from localmem_protocol.frames import decode_frame, encode_frame
from localmem_protocol.keys import DeviceKeys
from localmem_protocol.ledger import Ledger
from localmem_protocol.pairing import Code, Host, Invitation, Joiner
from localmem_protocol.updates import decode_update, encode_update
from support.wire_vectors import FOLDER, rendered

Json = dict[str, Any]


class _Given:
    """A source of the bytes that a side drew."""

    def __init__(self, drawn: list[str]) -> None:
        self._drawn = [bytes.fromhex(data) for data in drawn]

    def token_bytes(self, size: int) -> bytes:
        data = self._drawn.pop(0)
        assert len(data) == size
        return data


@cache
def stored() -> Json:
    vectors: Json = json.loads((FOLDER / "wire.json").read_text(encoding="utf-8"))
    return vectors


def test_the_file_is_what_the_script_writes() -> None:
    assert (FOLDER / "wire.json").read_text(encoding="utf-8") == rendered("wire")


def test_frames_and_bodies_are_read_as_they_were_written() -> None:
    for one in stored()["frames"]:
        frame = decode_frame(bytes.fromhex(one["frame"]))
        assert type(frame).__name__ == one["kind_text"]
        assert encode_frame(frame).hex() == one["frame"]
    for data in stored()["bodies"].values():
        assert encode_body(decode_body(bytes.fromhex(data))).hex() == data


def test_updates_follow_each_other_and_the_others_are_refused() -> None:
    ledger = Ledger()
    for data in stored()["updates"].values():
        update = decode_update(bytes.fromhex(data))
        assert encode_update(update).hex() == data
        ledger.note(update, ledger.check(update))
    assert ledger.clock(1) == 3
    for data in stored()["refused_updates"].values():
        with pytest.raises(UpdateError):
            decode_update(bytes.fromhex(data))


def test_the_proof_is_signed_as_any_ed25519_signs() -> None:
    proof = stored()["proof"]
    data = bytes.fromhex(proof["data"])
    fields = [proof[name] for name in ("challenge_text", "origin_text", "pool", "device")]
    assert msgspec.msgpack.decode(data) == fields
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(proof["public"])[:32])
    key.verify(bytes.fromhex(proof["signature"]), b"localmem hub access 1\x00" + data)


def test_the_pairing_can_be_played_again() -> None:
    vectors = stored()["pairing"]
    code = Code.parse(vectors["code_text"])
    sides: list[Any] = []
    for kind, one in ((Host, vectors["host"]), (Joiner, vectors["joiner"])):
        keys = DeviceKeys.from_bytes(bytes.fromhex(one["private"]))
        sides.append(kind(code, keys, one["device"], one["label_text"], _Given(one["drawn"])))
    host, joiner = sides
    offer, answer, introduction, invite = map(bytes.fromhex, vectors["messages"])
    assert joiner.send() == offer
    host.receive(offer)
    assert host.send() == answer
    joiner.receive(answer)
    assert joiner.send() == introduction
    host.receive(introduction)
    given = msgspec.msgpack.decode(bytes.fromhex(vectors["invitation"]), type=Invitation)
    host.invite(given)
    assert host.send() == invite
    joiner.receive(invite)
    assert joiner.invitation == given
