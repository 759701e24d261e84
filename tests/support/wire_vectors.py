"""Write vectors/wire.json: `cd tests && python -m support.wire_vectors`.

Frames, updates, bodies of single requests, a proof of a key and one whole pairing, for
implementations in other languages. All values are hex unless their name says otherwise; texts are
UTF-8. The same run gives the same file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import msgspec

from localmem_protocol.access import proof_data
from localmem_protocol.errors import ProtocolError
from localmem_protocol.exchange import Body, encode_body
from localmem_protocol.frames import (
    CAPABILITIES,
    PROTOCOL,
    Ack,
    Close,
    Frame,
    Held,
    Hello,
    Notice,
    Refusal,
    Resume,
    Step1,
    Step2,
    Welcome,
    encode_frame,
)
from localmem_protocol.frames import Update as UpdateFrame
from localmem_protocol.keys import SIGN_ACCESS
from localmem_protocol.pairing import Code, Host, Invitation, Joiner
from localmem_protocol.updates import (
    Item,
    Update,
    decode_update,
    encode_state_vector,
    encode_update,
)
from support.pools import device_id, person
from support.seeded import SeededRandom

FOLDER: Final = Path(__file__).parents[1] / "vectors"
Json = dict[str, Any]
DEVICE: Final = device_id(1)
HEAD: Final = bytes(range(16))


class _Recording:
    """A seeded source that remembers what it gave."""

    def __init__(self, seed: int) -> None:
        self._random = SeededRandom(seed)
        self.drawn: list[bytes] = []

    def token_bytes(self, size: int) -> bytes:
        self.drawn.append(self._random.token_bytes(size))
        return self.drawn[-1]


def updates() -> dict[str, Update]:
    """Updates that a sealed room takes, each after those before."""
    return {
        "nothing": Update(),
        "first batch": Update({1: [Item(0, 1, (b"AAAA",), root=DEVICE)]}),
        "two more": Update({1: [Item(1, 2, (b"BBBB", b"CC"), origin=(1, 0))]}),
        "delete clock 0": Update({}, {1: [(0, 1)]}),
        "all of it": Update(
            {1: [Item(0, 1, None, root=DEVICE), Item(1, 2, (b"BBBB", b"CC"), origin=(1, 0))]},
            {1: [(0, 1)]},
        ),
    }


def frames() -> list[Frame]:
    """One of each, and of Welcome both."""
    update = encode_update(updates()["first batch"])
    return [
        Hello(PROTOCOL, CAPABILITIES, DEVICE, 0),
        Welcome(CAPABILITIES, 1, 3, HEAD),
        Welcome((), 1, 0, bytes(16), writer=False),
        Step1(encode_state_vector({1: 3})),
        Step2(encode_update(Update())),
        UpdateFrame(update),
        Ack(1, 3),
        Refusal(Close.GAP, permanent=False, reason="ask again"),
        Notice("roster", 7),
        Resume(1, 3, HEAD),
        Resume(1, 3, HEAD, True),
        Held(((129, 3, 2**32 - 1), (300, 0, 7))),
    ]


def wire_vectors() -> Json:
    """All of it."""
    greeting, *_ = said = [encode_frame(frame) for frame in frames()]
    bodies = {
        "a greeting": Body((greeting,)),
        "going on": Body((said[-1], said[5]), "7.w"),
        "more is waiting": Body((said[5],), "8.w", more=True),
    }
    return {
        "frames": [
            {"kind_text": type(frame).__name__, "fields_text": _fields(frame), "frame": data.hex()}
            for frame, data in zip(frames(), said, strict=True)
        ],
        "updates": {name: encode_update(one).hex() for name, one in updates().items()},
        "refused_updates": refused_updates(),
        "bodies": {name: encode_body(body).hex() for name, body in bodies.items()},
        "proof": proof(),
        "pairing": pairing(),
    }


def refused_updates() -> Json:
    """Bytes that are Yjs updates, or nearly, and that no sealed room takes."""
    first = encode_update(updates()["first batch"])
    text = first.replace(b"t\x04AAAA", b"w\x04AAAA")
    key = bytes([*first[:4], first[4] | 0x20, *first[5:]])
    nested = first.replace(b"\x01\x10" + DEVICE.encode(), b"\x00\x01\x00")
    found = {
        "a byte too many": first + b"\x00",
        "a text": text,
        "an entry of a map": key,
        "a nested item": nested,
        "a garbage-collected struct": b"\x01\x01\x01\x00\x00\x01\x00",
        "a skipped struct": b"\x01\x01\x01\x00\x0a\x01\x00",
    }
    for name, data in found.items():
        try:
            decode_update(data)
        except ProtocolError:
            continue
        raise AssertionError(f"{name} is taken")
    return {name: data.hex() for name, data in found.items()}


def proof() -> Json:
    """What a device signs to be let in."""
    device, pool, origin = person(1), "ab" * 16, "https://hub.example.com"
    data = proof_data("lmc_challenge", origin, pool, device.device)
    return {
        "challenge_text": "lmc_challenge",
        "origin_text": origin,
        "pool": pool,
        "device": device.device,
        "data": data.hex(),
        "public": device.keys.public.to_bytes().hex(),
        "signature": device.keys.sign(SIGN_ACCESS, data).hex(),
    }


def pairing() -> Json:
    """Every message of a pairing. The first 64 bytes that a side draws make its SPAKE2 scalar; the
    last 32 of the host's are the ephemeral key of the sealed invitation."""
    code = Code.parse("27-4821-9036")
    one, two = _Recording(1), _Recording(2)
    host = Host(code, person(1).keys, device_id(1), "desk", one)
    joiner = Joiner(code, person(2).keys, device_id(2), "laptop", two)
    invitation = Invitation("wss://hub.example.com", "ab" * 16, 3, bytes(range(32)))
    messages: list[bytes] = []

    def pass_on(sender: Host | Joiner, receiver: Host | Joiner) -> None:
        data = sender.send()
        assert data is not None
        messages.append(data)
        receiver.receive(data)

    pass_on(joiner, host)
    pass_on(host, joiner)
    pass_on(joiner, host)
    host.invite(invitation)
    pass_on(host, joiner)
    assert joiner.invitation == invitation
    return {
        "code_text": str(code),
        "host": _party(person(1).keys.to_bytes(), device_id(1), "desk", one),
        "joiner": _party(person(2).keys.to_bytes(), device_id(2), "laptop", two),
        "invitation": msgspec.msgpack.encode(invitation).hex(),
        "messages": [data.hex() for data in messages],
    }


def _party(private: bytes, device: str, label: str, random: _Recording) -> Json:
    return {
        "private": private.hex(),
        "device": device,
        "label_text": label,
        "drawn": [data.hex() for data in random.drawn],
    }


def _fields(frame: Frame) -> Json:
    fields = msgspec.structs.asdict(frame)
    return {
        name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()
    }


VECTORS: Final = {"wire": wire_vectors}


def rendered(name: str) -> str:
    """The text of the file."""
    return json.dumps(VECTORS[name](), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name in VECTORS:
        (FOLDER / f"{name}.json").write_text(rendered(name), encoding="utf-8")
