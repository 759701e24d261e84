"""Bytes that are nearly right: what `hub-fuzz` sends. Everything is drawn from a seeded stream."""

from __future__ import annotations

from typing import Any, Final

from pycrdt import Array, Doc, Map, Text, TransactionEvent

from localmem_protocol.simulation import SeededRandom
from localmem_protocol.wire import varuint

KINDS: Final = ("mutated update", "mutated frame", "frame of noise", "noise")
_WEIGHTS: Final = (6, 2, 1, 1)
_CHANGES_MAX: Final = 4
_NOISE_BYTES: Final = 64
_FRAME_KINDS: Final = (0, 1, 2, 3, 100, 101, 102, 103, 104, 105)
_TELLING: Final = (0, 1, 0x7F, 0x80, 0xFF, 0x84, 0x27, 0x0A)
"""Bytes that mean something in an update: counts, ends of numbers, kinds of structs."""


def draw_kind(draw: SeededRandom) -> str:
    """What the next attempt is."""
    at = draw.below(sum(_WEIGHTS))
    for kind, weight in zip(KINDS, _WEIGHTS, strict=True):
        if at < weight:
            return kind
        at -= weight
    raise AssertionError(at)


def mutated(data: bytes, draw: SeededRandom) -> bytes:
    """`data` with a few bits turned, bytes put in, taken out, doubled, or numbers made large."""
    out = bytearray(data)
    for _ in range(draw.between(1, _CHANGES_MAX)):
        at = draw.below(len(out) + 1)
        match draw.below(7):
            case 0 if at < len(out):
                out[at] ^= 1 << draw.below(8)
            case 1 if at < len(out):
                out[at] = draw.below(256)
            case 2 if at < len(out):
                out[at] = _TELLING[draw.below(len(_TELLING))]
            case 3:
                out[at:at] = draw.token_bytes(draw.between(1, 4))
            case 4:
                del out[at : at + draw.between(1, 4)]
            case 5:
                out[at:at] = out[at : at + draw.between(1, 16)]
            case _:
                out[at : at + 1] = varuint(1 << draw.below(53))
    return bytes(out)


def noise_frame(draw: SeededRandom) -> bytes:
    """Noise that begins as a frame does."""
    kind = varuint(_FRAME_KINDS[draw.below(len(_FRAME_KINDS))])
    return kind + varuint(draw.below(3)) + noise(draw)


def noise(draw: SeededRandom) -> bytes:
    """A few random bytes."""
    return draw.token_bytes(draw.below(_NOISE_BYTES))


def yjs_update(draw: SeededRandom) -> bytes:
    """A valid update of a new client, with some of what a Yjs document can hold."""
    changes: list[bytes] = []

    def changed(event: TransactionEvent) -> None:
        changes.append(event.update)

    doc: Doc[Any] = Doc(client_id=draw.between(1, 2**31))
    doc.observe(changed)
    with doc.transaction():
        text: Text = doc.get("text", type=Text)
        text += draw.token_bytes(4).hex()
        for _ in range(draw.below(4)):
            match draw.below(5):
                case 0:
                    text.insert(0, "üß")  # two bytes each: the deletion below cuts none
                case 1:
                    del text[0:2]
                case 2:
                    # One key a map: the library writes more in any order.
                    value = [{"number": draw.below(1000)}, None, True, 1.5]
                    doc.get("array", type=Array).append(value)
                case 3:
                    doc.get("map", type=Map)["key"] = Map({"nested": Array([b"bytes", "text"])})
                case _:
                    doc.get("map", type=Map)["key"] = draw.below(10)
    return changes[0]
