"""Write vectors/keys.json, roster.json and heads.json: `cd tests && python -m support.identity_vectors`.

For implementations in other languages. All values are hex unless their name says otherwise; texts
are UTF-8. The same run gives the same files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from localmem_protocol import hpke, keys
from localmem_protocol.entries import RECOVERY, Entry, Remove, Rotate, decode_entry, sign_entry
from localmem_protocol.epoch_keys import commitment_to
from localmem_protocol.heads import Position, sign_head
from localmem_protocol.keys import DeviceKeys
from localmem_protocol.recovery import new_phrase, recovery_keys
from localmem_protocol.roster import (
    Author,
    Roster,
    encode_entry,
    leave,
    recover,
    remove,
    rename,
    rotate,
    set_role,
)
from localmem_protocol.seams import Random
from localmem_protocol.views import View, check_of, digest_of, encode_views
from support.pools import NOW, RESCUER, device_id, person, pool, refused_keys
from support.seeded import SeededRandom

FOLDER = Path(__file__).parents[1] / "vectors"
Json = dict[str, Any]


def pair(device_keys: DeviceKeys) -> Json:
    """Both halves of a device's keys."""
    return {
        "private": device_keys.to_bytes().hex(),
        "public": device_keys.public.to_bytes().hex(),
        "fingerprint_text": device_keys.public.fingerprint(),
    }


def key_vectors() -> Json:
    """Signatures, sealed boxes, phrases and commitments."""
    random = SeededRandom(11)
    signatures, boxes = [], []
    for number, size in enumerate((0, 1, 32, 300), start=1):
        mine, data = person(number).keys, random.token_bytes(size)
        for purpose in (keys.SIGN_ENTRY, keys.SIGN_HEAD, keys.SIGN_PAIRING):
            signature = mine.sign(purpose, data).hex()
            entry = {"purpose_text": purpose, "data": data.hex(), "signature": signature}
            signatures.append(pair(mine) | entry)
        for purpose in (keys.SEAL_EPOCH_KEY, keys.SEAL_INVITATION):
            ephemeral, associated = random.token_bytes(32), random.token_bytes(size)
            info = b"localmem " + purpose.encode() + b"\x00" + associated
            box = {
                "purpose_text": purpose,
                "associated": associated.hex(),
                "info": info.hex(),
                "ephemeral": ephemeral.hex(),
                "plain": data.hex(),
                "sealed": hpke.seal(data, mine.public.sealing, info, ephemeral).hex(),
            }
            boxes.append(pair(mine) | box)
    phrases = [new_phrase(random), "abandon " * 23 + "art"]
    return {
        "signatures": signatures,
        "sealed": boxes,
        "refused": [key.hex() for key in refused_keys()],
        "phrases": [pair(recovery_keys(one)) | {"phrase_text": one} for one in phrases],
        "commitments": [
            {
                "epoch": n,
                "key": bytes([n]).hex() * 32,
                "commitment": commitment_to(bytes([n] * 32), n).hex(),
            }
            for n in (1, 2, 200)
        ],
    }


def roster_vectors() -> Json:
    """A pool with everything that happens in one, and entries that it does not take."""
    made = pool("owner", "member", "reader")
    random, owner = made.random, person(0)
    at = made.roster
    made.apply(set_role(at, owner, random, NOW, device_id(3), "member"))
    made.apply(remove(at, owner, random, NOW, device_id(2)))
    made.apply(rename(at, owner, random, NOW, device_id(3), "laptop"))
    made.apply(leave(at, person(3), NOW))
    made.admit(4, "reader", by=1)
    made.admit(2, by=1)
    made.apply(set_role(at, owner, random, NOW, device_id(2), "reader"))
    new = person(5)
    lost = [device_id(0), device_id(4)]
    public = new.keys.public
    entry = recover(
        at, RESCUER.keys, random, NOW, device=new.device, keys=public, label="new", lost=lost
    )
    made.apply(entry)
    people = [person(number) for number in range(6)]
    return {
        "devices": [pair(one.keys) | {"device": one.device} for one in people],
        "recovery": pair(RESCUER.keys),
        "log": [data.hex() for data in made.log],
        "pool": at.pool_id,
        "head": at.head.hex(),
        "epoch": at.epoch,
        "members_text": {one.device: one.role for one in at.members.values()},
        "former": sorted(at.former),
        "epoch_keys": {
            one.device: {str(epoch): key.hex() for epoch, key in opened.items()}
            for one in [*people, RESCUER]
            for opened in [at.epoch_keys(one.keys, one.device)]
        },
        "roles_text": {
            one.device: [at.role_at(one.device, epoch) for epoch in range(1, at.epoch + 1)]
            for one in people
        },
        "labels_text": {
            device: at.label(device, at.epoch_keys(person(1).keys, device_id(1)))
            for device in ["", *at.members]
        },
        "refused": refused(at, made.log, random),
    }


def refused(at: Roster, log: list[bytes], random: Random) -> list[Json]:
    """Next entries that are refused, and why."""
    owner = person(1)
    good = rotate(at, owner, random, NOW)
    turn = good.actions[0]
    assert isinstance(turn, Rotate)

    def say(why: str, entry: Entry, author: Author = owner) -> Json:
        signed = sign_entry(msgspec.structs.replace(entry, author=author.device), author.keys)
        return {"why_text": why, "entry": encode_entry(signed).hex()}

    def with_(**changes: Any) -> Entry:
        return msgspec.structs.replace(good, **changes)

    short = msgspec.structs.replace(turn, sealed=turn.sealed[1:])
    fields = msgspec.msgpack.decode(encode_entry(good))
    unknown = [*fields[:4], [[6, "new"]], fields[5]]
    return [
        say("a removed owner", good, person(0)),
        say("a reader", good, person(2)),
        say("signed by another", good, Author(owner.device, person(5).keys)),
        say("an index that is taken", with_(index=at.length - 1)),
        say("an index to come", with_(index=at.length + 1)),
        say("upon another last entry", with_(previous=bytes(32))),
        say("a rotation that leaves a member out", with_(actions=(short,))),
        say("a removal without a rotation", with_(actions=(Remove(device_id(2)),))),
        say("the last entry again", decode_entry(log[-1]), Author(RECOVERY, RESCUER.keys)),
        {"why_text": "an unknown action", "entry": msgspec.msgpack.encode(unknown).hex()},
        {"why_text": "a longer form", "entry": (b"\xdc\x00\x06" + encode_entry(good)[1:]).hex()},
        {"why_text": "a byte too many", "entry": (encode_entry(good) + b"\x00").hex()},
    ]


def head_vectors() -> Json:
    """Signed heads in both forms, and bytes that are none."""
    heads = []
    for number, (epoch, client, clock, floor, sequence, holes) in enumerate(
        [
            (1, 1, 1, 1, 1, 0),
            (3, 7, 16, 120, 280, 11),
            (4096, 2**31 - 1, 2**31 - 1, 1, 2**63 - 2, 2**62),
            (2, 9, 5, 81, 80, 0),
            (1, 2, 7, 1, 6, 0),
        ]
    ):
        owner = person(number)
        head = bytes([number]) * 16
        seen = [View(3, 9, check_of(head, 3, 9, bytes(16)), owner.device)] if number == 4 else []
        numbers = (epoch, client, clock, head, floor, sequence, holes)
        at = Position("ab" * 16, *numbers, digest_of(seen))
        signed = sign_head(at, owner.device, owner.keys)
        position = msgspec.to_builtins(at) | {"head": head.hex(), "views": at.views.hex()}
        heads.append(
            pair(owner.keys)
            | {"device": owner.device, "position": position}
            | {"encoded": signed.encode().hex(), "compact": signed.compact().hex()}
            | {"views": encode_views(seen).hex() if seen else ""}
        )
    good = bytes.fromhex(heads[1]["encoded"])
    wrong = [b"", good[:-1], good + b"\x00", good[:16] + bytes(4) + good[20:], bytes(148)]
    return {"heads": heads, "refused": [data.hex() for data in wrong]}


VECTORS = {"keys": key_vectors, "roster": roster_vectors, "heads": head_vectors}


def rendered(name: str) -> str:
    """The text of one file."""
    return json.dumps(VECTORS[name](), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name in VECTORS:
        (FOLDER / f"{name}.json").write_text(rendered(name))
