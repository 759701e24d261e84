"""What replicas of a hub tell each other: where to look, and nothing else.

    <origin, 16 hex digits or empty>
    u <pool> <number>     rows up to this one are stored
    g <pool> <client>     a device connected under this client id
    r <pool>              its roster changed
    x <pool>              it was removed
    e <pool>              all that it held was dropped, since its epoch is over
    t                     a token was revoked
    m <number>            something happened to a mailbox

One line each, at most PAYLOAD_BYTES_MAX together, which is what a NOTIFY of PostgreSQL holds. No signal
carries data: what is stored, and who has which right, is read from the database alone. So one that is
lost, repeated or late costs a look, and what cannot be read is ignored. `g`, `x` and `e` are acted on
before anybody looks: they send devices away, which come back to what the database says. Whoever can
make up signals can have devices connect again and replicas look in vain, and do no more than that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

PAYLOAD_BYTES_MAX: Final = 7900

_POOL: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_NUMBER: Final = r"0|[1-9][0-9]{0,17}"
_ORIGIN: Final = re.compile(r"(?:[0-9a-f]{16})?", re.ASCII)
_LINE: Final = re.compile(
    rf"(?P<two>[ug]) (?P<of>{_POOL}) (?P<at>{_NUMBER})|(?P<one>[rxe]) (?P<pool>{_POOL})"
    rf"|(?P<token>t)|m (?P<mailbox>{_NUMBER})",
    re.ASCII,
)


@dataclass(frozen=True)
class Moved:
    """Rows of a pool are stored up to this number."""

    pool: str
    head: int


@dataclass(frozen=True)
class Greeted:
    """A device connected to a pool under a client id."""

    pool: str
    client: int


@dataclass(frozen=True)
class RosterGrew:
    """A pool's roster has another entry."""

    pool: str


@dataclass(frozen=True)
class PoolRemoved:
    """A pool, or a room of one, is gone."""

    pool: str


@dataclass(frozen=True)
class PoolEmptied:
    """What the room of an epoch that is over held was dropped."""

    pool: str


@dataclass(frozen=True)
class TokenRevoked:
    """Some token was revoked."""


@dataclass(frozen=True)
class MailboxChanged:
    """A message was left in a mailbox, or it ended."""

    number: int


Signal = Moved | Greeted | RosterGrew | PoolRemoved | PoolEmptied | TokenRevoked | MailboxChanged


_OF_POOLS: Final[dict[str, type[RosterGrew | PoolRemoved | PoolEmptied]]] = {
    "r": RosterGrew,
    "x": PoolRemoved,
    "e": PoolEmptied,
}


def encode(signals: Iterable[Signal], origin: str = "") -> list[str]:
    """As few payloads as hold them; each says from whom it is."""
    payloads: list[str] = []
    lines, size = [origin], len(origin)
    for line in map(_line, signals):
        if size + 1 + len(line) > PAYLOAD_BYTES_MAX:
            payloads.append("\n".join(lines))
            lines, size = [origin], len(origin)
        lines.append(line)
        size += 1 + len(line)
    return [*payloads, "\n".join(lines)] if len(lines) > 1 else payloads


def decode(payload: str) -> tuple[str, list[Signal]]:
    """From whom, and what. Raises ValueError for what no replica says."""
    origin, *lines = payload.split("\n")
    if len(payload) > PAYLOAD_BYTES_MAX or not _ORIGIN.fullmatch(origin):
        raise ValueError("not a payload of a replica")
    return origin, [_signal(line) for line in lines]


def _line(signal: Signal) -> str:
    match signal:
        case Moved(pool, head):
            return f"u {pool} {head}"
        case Greeted(pool, client):
            return f"g {pool} {client}"
        case RosterGrew(pool):
            return f"r {pool}"
        case PoolRemoved(pool):
            return f"x {pool}"
        case PoolEmptied(pool):
            return f"e {pool}"
        case TokenRevoked():
            return "t"
        case MailboxChanged(number):
            return f"m {number}"


def _signal(line: str) -> Signal:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("not a signal")
    if match["two"]:
        kind = Moved if match["two"] == "u" else Greeted
        return kind(match["of"], int(match["at"]))
    if match["one"]:
        return _OF_POOLS[match["one"]](match["pool"])
    return TokenRevoked() if match["token"] else MailboxChanged(int(match["mailbox"]))
