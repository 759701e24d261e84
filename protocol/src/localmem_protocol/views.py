"""What devices say of each other's chains, so that a hub cannot tell two of them different stories.

A signed head says how far its own chain goes; whether everybody is shown it, its owner cannot know.
So a device that signs when it rests says besides what it has of the others:

    of `client` the newest batch here is the one before `clock`, and `check` is a short hash of it

Who receives that compares it with what the hub has shown here: fewer batches (withheld), or another
batch at that place (fork). Only what changed since the last time is said. With it this is what Li,
Krohn, Mazières and Shasha call fork consistency ("Secure Untrusted Data Repository", OSDI 2004): a
hub that told two devices different stories has to keep them apart for ever, or is found out.

    part    varuint how many | each: varuint 2·gap + named | [device (8), if named] | varuint clock
            | check (4)
    gap     client - client of the view before - 1, the first time client - 1
    check   BLAKE2b-4 (key: the signed `head` that the views go with; person "localmem view 1")
            over client u32 | clock u32 | hash of the batch (16)
    digest  first 16 bytes of SHA-256("localmem views 1" 00 | part), in what the head signs

The key is a hash that nobody can know before the viewer made its batch: two histories that somebody
made so that a short hash of both is the same would have to be made after that. The device is named
the first time that a client id is in a view, for those whom the hub never showed it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from localmem_protocol.errors import BatchError
from localmem_protocol.limits import BATCH_VIEWS_MAX, CLIENT_ID_MAX, CLOCK_MAX, VIEWS_WAITING_MAX
from localmem_protocol.wire import Reader, varuint

CHECK_BYTES: Final = 4
DIGEST_BYTES: Final = 16
NO_VIEWS: Final = bytes(DIGEST_BYTES)
"""The digest of none."""

_DEVICE_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class View:
    """What one device has of another's chain. `device` is its owner, 16 hex digits, or "" if the
    viewer has named it before.
    """

    client: int
    clock: int
    check: bytes
    device: str = ""


def check_of(salt: bytes, client: int, clock: int, batch_hash: bytes) -> bytes:
    """The short hash of the batch before `clock`; `salt` is the 16 bytes of the signed head."""
    data = client.to_bytes(4, "little") + clock.to_bytes(4, "little") + batch_hash
    return hashlib.blake2b(
        data, digest_size=CHECK_BYTES, key=salt, person=b"localmem view 1"
    ).digest()


def encode_views(views: Sequence[View]) -> bytes:
    """The part of a parcel. Raises ValueError for what may not stand there."""
    if len(views) > BATCH_VIEWS_MAX:
        raise ValueError(f"a parcel holds at most {BATCH_VIEWS_MAX} views")
    parts, before = [varuint(len(views))], 0
    for view in views:
        if not before < view.client <= CLIENT_ID_MAX or not 1 <= view.clock <= CLOCK_MAX:
            raise ValueError("views that do not ascend, or out of bounds")
        if len(view.check) != CHECK_BYTES or len(view.device) not in (0, 2 * _DEVICE_BYTES):
            raise ValueError(f"a check is {CHECK_BYTES} bytes, a device {_DEVICE_BYTES}")
        gap = view.client - before - 1
        parts += [varuint(2 * gap + bool(view.device)), bytes.fromhex(view.device)]
        parts += [varuint(view.clock), view.check]
        before = view.client
    return b"".join(parts)


def decode_views(reader: Reader) -> tuple[View, ...]:
    """The inverse. Raises BatchError."""
    views: list[View] = []
    client = 0
    for _ in range(reader.varuint(BATCH_VIEWS_MAX)):
        first = reader.varuint(2 * CLIENT_ID_MAX + 1)
        client += (first >> 1) + 1
        device = reader.take(_DEVICE_BYTES).hex() if first & 1 else ""
        clock = reader.varuint(CLOCK_MAX)
        if client > CLIENT_ID_MAX or not clock:
            raise BatchError("a view out of bounds")
        views.append(View(client, clock, reader.take(CHECK_BYTES), device))
    return tuple(views)


def digest_of(views: Sequence[View]) -> bytes:
    """What a head signs of the views that it goes with."""
    if not views:
        return NO_VIEWS
    data = b"localmem views 1\x00" + encode_views(views)
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


@dataclass(frozen=True, slots=True)
class Claim:
    """A view that a device signed, under a client id of its own, and that waits to be compared.

    `salt` is its key.
    """

    viewer: str
    viewing: int
    salt: bytes
    view: View

    def fits(self, batch_hash: bytes) -> bool:
        """Whether the batch before `view.clock` with this hash is the one that was seen."""
        view = self.view
        return check_of(self.salt, view.client, view.clock, batch_hash) == view.check


class Views:
    """What one device has said and heard in views of one document."""

    def __init__(self) -> None:
        self._said: dict[int, int] = {}  # client -> clock of the newest own view
        self._waiting: dict[tuple[int, int], Claim] = {}  # by viewer's client id and client id
        self._named: dict[int, str] = {}

    @property
    def waiting(self) -> list[Claim]:
        """Those that are not compared yet, or that the hub has not shown enough for."""
        return list(self._waiting.values())

    def named(self, client: int) -> str:
        """The device that a client id belongs to, as somebody's view says; "" if none does."""
        return self._named.get(client, "")

    def said(self, views: Iterable[View]) -> None:
        """Own ones."""
        self._said |= {view.client: view.clock for view in views}

    def hear(self, device: str, client: int, salt: bytes, views: Iterable[View]) -> None:
        """Another device's, whose signature held; they take the place of what it said before.

        There are at most VIEWS_WAITING_MAX of them: the oldest go.
        """
        for view in views:
            if view.device:
                self._named.setdefault(view.client, view.device)
            place = (client, view.client)
            self._waiting.pop(place, None)
            self._waiting[place] = Claim(device, client, salt, view)
        while len(self._waiting) > VIEWS_WAITING_MAX:
            del self._waiting[next(iter(self._waiting))]
        while len(self._named) > VIEWS_WAITING_MAX:
            del self._named[next(iter(self._named))]

    def done(self, claim: Claim) -> None:
        """It was compared."""
        self._waiting.pop((claim.viewing, claim.view.client), None)

    def make(
        self, salt: bytes, newest: Mapping[int, tuple[int, bytes]], owners: Mapping[int, str]
    ) -> tuple[View, ...]:
        """What is new since the last own views: `newest` is client -> (clock, hash before it).

        Those that were never said come first, if there are more than fit.
        """
        news = [c for c, (clock, _) in newest.items() if self._said.get(c, 0) < clock]
        news.sort(key=lambda client: (self._said.get(client, 0) > 0, client))
        return tuple(
            View(
                client,
                newest[client][0],
                check_of(salt, client, *newest[client]),
                "" if client in self._said else owners[client],
            )
            for client in sorted(news[:BATCH_VIEWS_MAX])
        )
