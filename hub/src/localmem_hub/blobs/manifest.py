"""A room's manifest: the one small blob by which its log is found.

It changes when the log goes on in another segment, never when something is appended. What a list of
blobs should tell without reading them is in its metadata as well.
"""

from __future__ import annotations

from typing import Final

import msgspec

from localmem_hub.blobs import names
from localmem_hub.blobs.container import Blob, Container, Listed
from localmem_hub.blobs.frames import Place
from localmem_hub.errors import DamageError
from localmem_hub.seams import Kind

FORMAT: Final = 1


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a room beside its log; times in milliseconds since 1970."""

    place: Place
    epoch: int
    created_ms: int
    kind: Kind = "sealed"
    dropped_ms: int | None = None
    format: int = FORMAT

    @classmethod
    def new(cls, epoch: int, now_ms: int, kind: Kind = "sealed") -> Manifest:
        """Of a room that has no log yet."""
        return cls(place=Place("", b"", 0), epoch=epoch, created_ms=now_ms, kind=kind)

    @property
    def metadata(self) -> dict[str, str]:
        """What a list tells."""
        told = {"epoch": str(self.epoch), "created_ms": str(self.created_ms), "kind": self.kind}
        told |= {"segment": self.place.segment, "base_at": str(self.place.base_at)}
        if self.dropped_ms is not None:
            told["dropped_ms"] = str(self.dropped_ms)
        return told

    def at(self, place: Place, dropped_ms: int | None) -> Manifest:
        """The same room with another segment."""
        return msgspec.structs.replace(self, place=place, dropped_ms=dropped_ms)


class Known(msgspec.Struct, frozen=True):
    """A manifest, and its version."""

    manifest: Manifest
    etag: str


class RoomListed(msgspec.Struct, frozen=True):
    """A room as a list tells of it."""

    room: str
    epoch: int
    created_ms: int
    kind: Kind
    dropped_ms: int | None
    segment: str
    base_at: int


def read(container: Container, room: str) -> Known | None:
    """A room's manifest; None if there is no such room. Raises DamageError."""
    blob = container.read(names.manifest(room))
    return None if blob is None else Known(_decode(room, blob), blob.etag)


def create(container: Container, room: str, manifest: Manifest) -> bool:
    """A new room's; False if there is one."""
    data = msgspec.json.encode(manifest)
    return container.create(names.manifest(room), data, manifest.metadata)


def replace(container: Container, room: str, known: Known, manifest: Manifest) -> bool:
    """Another manifest in the place of this one; False if it is another by now."""
    data = msgspec.json.encode(manifest)
    return container.replace(names.manifest(room), data, known.etag, manifest.metadata)


def listed(one: Listed) -> RoomListed | None:
    """What a list tells of a room; None for a blob that is no manifest."""
    room, _, rest = one.name.removeprefix(names.ROOMS).partition("/")
    told = one.metadata
    if rest != "manifest" or not {"epoch", "created_ms", "segment", "base_at"} <= told.keys():
        return None
    dropped = told.get("dropped_ms")
    return RoomListed(
        names.room_of(room),
        int(told["epoch"]),
        int(told["created_ms"]),
        "plain" if told.get("kind") == "plain" else "sealed",
        None if dropped is None else int(dropped),
        told["segment"],
        int(told["base_at"]),
    )


def _decode(room: str, blob: Blob) -> Manifest:
    try:
        found = msgspec.json.decode(blob.data, type=Manifest)
    except msgspec.DecodeError:
        raise DamageError(f"what the hub's storage says of room {room} is damaged") from None
    if found.format != FORMAT:
        raise DamageError(f"room {room} is of a newer release of the hub; upgrade")
    return found


def rooms(container: Container, prefix: str = "") -> list[RoomListed]:
    """The rooms whose names begin so, by name; sizes are asked of `sizes`."""
    found = (listed(one) for one in container.names(names.ROOMS + prefix, metadata=True))
    return [one for one in found if one is not None]
