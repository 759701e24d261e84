"""The vectors for other languages: what this release makes, and checked without its own code."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from localmem_protocol.errors import HeadError, KeysError, RosterError
from localmem_protocol.heads import decode_compact, decode_head
from localmem_protocol.keys import DeviceKeys, PublicKeys
from localmem_protocol.recovery import recovery_keys
from localmem_protocol.roster import RECOVERY, Roster
from support.identity_vectors import FOLDER, VECTORS, rendered

Json = dict[str, Any]
SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


@cache
def stored(name: str) -> Json:
    vectors: Json = json.loads((FOLDER / f"{name}.json").read_text())
    return vectors


@pytest.mark.parametrize("name", VECTORS)
def test_the_files_are_what_the_script_writes(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text() == rendered(name)


def test_signatures_are_those_of_any_ed25519() -> None:
    for one in stored("keys")["signatures"]:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(one["public"])[:32])
        covered = b"localmem " + one["purpose_text"].encode() + b"\x00" + bytes.fromhex(one["data"])
        key.verify(bytes.fromhex(one["signature"]), covered)
        digest = hashlib.sha256(b"localmem fingerprint 1\x00" + bytes.fromhex(one["public"]))
        assert one["fingerprint_text"].replace(" ", "") == digest.hexdigest()[:32]


def test_keys_that_nobody_takes_are_refused() -> None:
    refused = stored("keys")["refused"]
    assert len(refused) > 40
    for key in refused:
        with pytest.raises(KeysError):
            PublicKeys.from_bytes(bytes.fromhex(key))


def test_boxes_open_with_any_hpke() -> None:
    for one in stored("keys")["sealed"]:
        key = X25519PrivateKey.from_private_bytes(bytes.fromhex(one["private"])[32:])
        info = bytes.fromhex(one["info"])
        assert SUITE.decrypt(bytes.fromhex(one["sealed"]), key, info).hex() == one["plain"]
        assert info.endswith(bytes.fromhex(one["associated"]))


def test_phrases_and_commitments() -> None:
    for one in stored("keys")["phrases"]:
        assert recovery_keys(one["phrase_text"]).to_bytes().hex() == one["private"]
    for one in stored("keys")["commitments"]:
        covered = one["epoch"].to_bytes(4, "little") + bytes.fromhex(one["key"])
        prefix = b"localmem epoch commitment 1\x00"
        assert hashlib.sha256(prefix + covered).hexdigest() == one["commitment"]


def test_the_roster_is_read_as_it_was_written() -> None:
    vectors = stored("roster")
    log = [bytes.fromhex(data) for data in vectors["log"]]
    assert hashlib.sha256(log[0]).hexdigest()[:32] == vectors["pool"]
    assert hashlib.sha256(log[-1]).hexdigest() == vectors["head"]
    roster = Roster.load(log, pool_id=vectors["pool"])
    assert roster.epoch == vectors["epoch"]
    assert {d: one.role for d, one in roster.members.items()} == vectors["members_text"]
    assert sorted(roster.former) == vectors["former"]
    privates = {one["device"]: one["private"] for one in vectors["devices"]}
    privates[RECOVERY] = vectors["recovery"]["private"]
    for device, expected in vectors["epoch_keys"].items():
        keys = DeviceKeys.from_bytes(bytes.fromhex(privates[device]))
        opened = roster.epoch_keys(keys, device)
        assert {str(epoch): key.hex() for epoch, key in opened.items()} == expected
    for device, roles in vectors["roles_text"].items():
        assert [roster.role_at(device, n + 1) for n in range(roster.epoch)] == roles


def test_the_roster_refuses_what_it_is_said_to_refuse() -> None:
    vectors = stored("roster")
    roster = Roster.load([bytes.fromhex(data) for data in vectors["log"]])
    assert len(vectors["refused"]) >= 10
    for one in vectors["refused"]:
        with pytest.raises(RosterError):
            roster.apply(bytes.fromhex(one["entry"]))
    assert roster.head.hex() == vectors["head"]


def test_heads_are_read_and_verified() -> None:
    vectors = stored("heads")
    for one in vectors["heads"]:
        signed = decode_head(bytes.fromhex(one["encoded"]))
        signed.verify(one["device"], PublicKeys.from_bytes(bytes.fromhex(one["public"])))
        at = one["position"]
        compact = decode_compact(
            bytes.fromhex(one["compact"]),
            at["pool"],
            at["epoch"],
            at["client"],
            at["clock"],
            bytes.fromhex(at["head"]),
            bytes.fromhex(at["views"]),
        )
        covered = b"localmem views 1\x00" + bytes.fromhex(one["views"])
        digest = hashlib.sha256(covered).hexdigest()[:32] if one["views"] else "00" * 16
        assert at["views"] == digest
        assert compact == signed
        said = (at["floor"], at["sequence"], at["holes"])
        assert (signed.at.floor, signed.at.sequence, signed.at.holes) == said
    for data in vectors["refused"]:
        with pytest.raises(HeadError):
            decode_head(bytes.fromhex(data))
