"""What the hub's blobs are called. A room's name may end with a dot, which no part of a blob's may.

hub                              which release's layout this is
rooms/ROOM/manifest              which segment the log is in; when the room was made, or dropped
rooms/ROOM/log-NUMBER-CHANCE     a segment
rooms/ROOM/lease                 who compacts has its lease
snapshots/ROOM/latest            the newest snapshot, for whoever looks into the storage
snapshots/ROOM/NUMBER            earlier ones, for a while
rosters/POOL                     the entries of a pool's roster
recovery/FINGERPRINT/POOL        which rosters name a recovery key
read/POOL/EPOCH/DEVICE           who has read an epoch that is over
tokens/ID, invitations/HASH, secrets/NAME, spent/TIME-NONCE
mailboxes/NUMBER/box, mailboxes/NUMBER/CHANCE/SLOT
quarantine/ROOM/ID
"""

from __future__ import annotations

from typing import Final

HUB: Final = "hub"
ROOMS: Final = "rooms/"
ROSTERS: Final = "rosters/"
TOKENS: Final = "tokens/"
INVITATIONS: Final = "invitations/"
SPENT: Final = "spent/"
MAILBOXES: Final = "mailboxes/"
QUARANTINE: Final = "quarantine/"
PROBE: Final = "probe"
_MARK: Final = "~"  # in no name of a room


def part(room: str) -> str:
    """A room's name as a part of a blob's."""
    return room + _MARK if room.endswith(".") else room


def room_of(text: str) -> str:
    """The room whose name is this part."""
    return text.removesuffix(_MARK)


def manifest(room: str) -> str:
    """The blob that says where a room's log is."""
    return f"{ROOMS}{part(room)}/manifest"


def segments(room: str) -> str:
    """What the names of a room's segments begin with."""
    return f"{ROOMS}{part(room)}/log-"


def lease(room: str) -> str:
    """The blob whose lease has whoever compacts a room."""
    return f"{ROOMS}{part(room)}/lease"


def snapshots(room: str) -> str:
    """What the names of a room's snapshots begin with."""
    return f"snapshots/{part(room)}/"


def latest(room: str) -> str:
    """The newest snapshot of a room."""
    return f"{snapshots(room)}latest"


def roster(pool: str) -> str:
    """A pool's roster."""
    return f"{ROSTERS}{pool}"


def recovery(fingerprint: str) -> str:
    """What the names of the marks for a recovery key begin with."""
    return f"recovery/{fingerprint}/"


def read_by(pool: str, epoch: int | None = None) -> str:
    """What the names of the marks begin with that say who has read an epoch, or any."""
    return f"read/{pool}/" if epoch is None else f"read/{pool}/{epoch}/"


def quarantine(room: str) -> str:
    """What the names begin with of what was refused in a room."""
    return f"{QUARANTINE}{part(room)}/"
