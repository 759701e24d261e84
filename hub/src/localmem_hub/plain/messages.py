"""The messages of y-websocket, as its clients send them: sync, awareness, auth, query awareness.

One message is one binary WebSocket message (`y-protocols`' `sync.js`, `awareness.js`, `auth.js`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from localmem_hub.plain.limits import AWARENESS_BYTES_MAX, CLOCK_MAX, UPDATE_BYTES_MAX
from localmem_protocol.errors import FrameError
from localmem_protocol.wire import Reader, varbytes, varuint

_SYNC: Final = 0
_AWARENESS: Final = 1
_AUTH: Final = 2
_QUERY: Final = 3
_STEP_1: Final = 0
_STEP_2: Final = 1
_UPDATE: Final = 2
_DENIED: Final = 0

NO_STATE: Final = "null"
"""The awareness state of a client that is gone."""


@dataclass(frozen=True)
class Step1:
    """What somebody has; asks for what they lack."""

    vector: bytes


@dataclass(frozen=True)
class Changes:
    """An update; `step2` if it answers a Step1."""

    update: bytes
    step2: bool = False


@dataclass(frozen=True, slots=True)
class Presence:
    """The awareness state of one client, as JSON, and its clock."""

    client: int
    clock: int
    state: str


@dataclass(frozen=True)
class Presences:
    """Awareness states that changed."""

    states: tuple[Presence, ...]


@dataclass(frozen=True)
class Query:
    """Asks for all awareness states."""


Message = Step1 | Changes | Presences | Query


def decode(data: bytes) -> Message:
    """What a client said. Raises FrameError."""
    reader = Reader(data, FrameError)
    kind = reader.varuint()
    message: Message
    if kind == _SYNC:
        step = reader.varuint()
        if step > _UPDATE:
            raise FrameError(f"sync message of unknown type {step}")
        content = reader.varbytes(UPDATE_BYTES_MAX)
        message = Step1(content) if step == _STEP_1 else Changes(content, step == _STEP_2)
    elif kind == _AWARENESS:
        message = Presences(_decode_states(reader.varbytes(AWARENESS_BYTES_MAX)))
    elif kind == _QUERY:
        message = Query()
    else:
        raise FrameError(f"a message of unknown type {kind}")
    reader.finish()
    return message


def step1(vector: bytes) -> bytes:
    """The message that asks for what this document lacks."""
    return bytes((_SYNC, _STEP_1)) + varbytes(vector)


def step2(update: bytes) -> bytes:
    """The message that answers a Step1."""
    return bytes((_SYNC, _STEP_2)) + varbytes(update)


def changes(update: bytes) -> bytes:
    """The message that passes an update on."""
    return bytes((_SYNC, _UPDATE)) + varbytes(update)


def presences(states: list[Presence]) -> bytes:
    """The message that passes awareness states on."""
    body = [varuint(len(states))]
    for one in states:
        body += (varuint(one.client), varuint(one.clock), varbytes(one.state.encode()))
    return varuint(_AWARENESS) + varbytes(b"".join(body))


def denied(reason: str) -> bytes:
    """The message that says that something is not allowed."""
    return bytes((_AUTH, _DENIED)) + varbytes(reason.encode())


def _decode_states(data: bytes) -> tuple[Presence, ...]:
    reader = Reader(data, FrameError)
    states = tuple(
        Presence(reader.varuint(), reader.varuint(CLOCK_MAX), reader.text(AWARENESS_BYTES_MAX))
        for _ in range(reader.varuint(len(data)))
    )
    reader.finish()
    return states
