"""What a hub and its workers say to each other: MessagePack behind a length of four bytes.

A document in a worker has a version, a number that the hub draws; whatever is asked names the version
that it is about. A worker that has another one, or none, says Missing: then the hub loads it from the
store. So a worker can end at any moment, and forget what it likes.
"""

from __future__ import annotations

from typing import Final

import msgspec

LENGTH_BYTES: Final = 4

FITS: Final = ""
Verdict = str
"""FITS, one of the two below, or why an update is refused."""
GAP: Final = "gap"
TOO_LARGE: Final = "too large"


class Load(msgspec.Struct, frozen=True, array_like=True, tag="load"):
    """Build a document from what is stored of it, in order."""

    room: str
    version: int
    updates: list[bytes]


class Turn(msgspec.Struct, frozen=True, array_like=True, tag="turn"):
    """Apply updates to version `base`, which makes it `version`, then answer state vectors.

    `state` asks for the document's own state vector.
    """

    room: str
    base: int
    version: int
    updates: list[bytes]
    vectors: list[bytes]
    state: bool


class Compact(msgspec.Struct, frozen=True, array_like=True, tag="compact"):
    """One update that stands for all of these."""

    updates: list[bytes]


class Forget(msgspec.Struct, frozen=True, array_like=True, tag="forget"):
    """Nobody needs this document for now."""

    room: str


class Turned(msgspec.Struct, frozen=True, array_like=True, tag="turned"):
    """`verdicts` of the updates in order; what all that fit came to, as one update, empty if it is
    nothing new; an answer per state vector, None for one that is none."""

    verdicts: list[Verdict]
    merged: bytes
    answers: list[bytes | None]
    state: bytes


class Done(msgspec.Struct, frozen=True, array_like=True, tag="done"):
    """It is; with a snapshot, if one was asked for."""

    snapshot: bytes = b""


class Missing(msgspec.Struct, frozen=True, array_like=True, tag="missing"):
    """No such version here."""


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """The library failed on it, or the worker ended; the document is gone.

    `sure` is whether the call itself is to blame: somebody else may have killed the worker.
    """

    reason: str
    sure: bool = True


Call = Load | Turn | Compact | Forget
Answer = Turned | Done | Missing | Failed

_CALLS: Final[msgspec.msgpack.Decoder[Call]] = msgspec.msgpack.Decoder(Call)
_ANSWERS: Final[msgspec.msgpack.Decoder[Answer]] = msgspec.msgpack.Decoder(Answer)


def pack(message: Call | Answer) -> bytes:
    """A message with its length before it."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def read_call(body: bytes) -> Call:
    """The call in a body."""
    return _CALLS.decode(body)


def read_answer(body: bytes) -> Answer:
    """The answer in a body."""
    return _ANSWERS.decode(body)
