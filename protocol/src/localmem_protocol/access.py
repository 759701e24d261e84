"""What a device says to be let in by its key: names, and the bytes that it signs.

A hub gives a challenge, and the device signs it together with the hub's origin *as the device
dialled it*, the pool and its own id (`keys.SIGN_ACCESS`). The origin keeps a hub that a device was
lured to from passing the challenge of another on: what it would get signed names itself.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

ORIGIN_CHARS_MAX: Final = 300
"""A host name has at most 253 characters; a scheme and a port beside it."""

_POOL_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_ROOM: Final = re.compile(r"([0-9a-f]{32})\.([1-9][0-9]{0,8})", re.ASCII)
_URL: Final = re.compile(
    r"(?P<scheme>https?|wss?)://(?P<host>\[[0-9a-f:.]{2,45}\]|[a-z0-9_.-]{1,253})"
    r"(?::(?P<port>[0-9]{1,5}))?(?:/[^?#]*)?",
    re.ASCII | re.IGNORECASE,
)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def is_pool_id(text: str) -> bool:
    """Whether this is the id of a pool with a roster: 32 lower-case hex digits."""
    return _POOL_ID.fullmatch(text) is not None


def room_name(pool: str, epoch: int) -> str:
    """The name of a pool's room at a hub; each epoch has a document of its own."""
    return f"{pool}.{epoch}"


def parse_room(name: str) -> tuple[str, int] | None:
    """The pool id and epoch of a room's name; None for a name of another kind."""
    match = _ROOM.fullmatch(name)
    return None if match is None else (match[1], int(match[2]))


def origin_of(url: str) -> str | None:
    """`scheme://host[:port]` of a hub's URL, in one spelling; None for what is no such URL.

    ws is http and wss is https; both in lower case, and without a default port.
    """
    match = _URL.fullmatch(url)
    if match is None or len(url) > ORIGIN_CHARS_MAX:
        return None
    scheme = {"ws": "http", "wss": "https"}.get(found := match["scheme"].lower(), found)
    port = int(match["port"]) if match["port"] else _DEFAULT_PORTS[scheme]
    if not 0 < port < 65536:
        return None
    origin = f"{scheme}://{match['host'].lower()}"
    return origin if port == _DEFAULT_PORTS[scheme] else f"{origin}:{port}"


def proof_data(challenge: str, origin: str, pool: str, device: str) -> bytes:
    """What is signed to prove a key: a msgpack array of the four, as they are."""
    return msgspec.msgpack.encode((challenge, origin, pool, device))
